// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestConnect(t *testing.T) {
	for _, network := range []string{"tcp", "tcp4", "tcp6", "unix"} {
		t.Run(network, func(t *testing.T) {
			address := "127.0.0.1:0"
			switch network {
			case "tcp6":
				address = "[::1]:0"
			case "unix":
				address = filepath.Join(t.TempDir(), "sock")
			}
			ln, err := net.Listen(network, address)
			if err != nil && network == "tcp6" {
				t.Skip("no IPv6 here")
			}
			require.NoError(t, err)
			defer ln.Close()
			accepted := make(chan net.Conn, 1)
			go func() {
				conn, _ := ln.Accept()
				accepted <- conn
			}()

			base := testutil.NewBase(t)
			bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
			require.NoError(t, err)
			assert.Equal(t, -1, bev.FD())
			assert.Nil(t, bev.RemoteAddr())
			_, err = bev.WriteString("written before the connection is there")
			require.NoError(t, err)
			require.NoError(t, bev.Connect(network, ln.Addr().String()))
			assert.Equal(t, libevent.EventConnected, testutil.Happening(t, bev), "CONNECTED comes alone")
			assert.NoError(t, bev.Err())
			assert.Equal(t, ln.Addr().String(), bev.RemoteAddr().String())
			conn := testutil.Receive(t, accepted)
			if network != "unix" {
				assert.Equal(t, conn.RemoteAddr().String(), bev.LocalAddr().String())
			}
			require.NoError(t, bev.FreeAfterFlush(testutil.Patience))
			testutil.Dispatch(t, base)
			got, err := io.ReadAll(conn)
			require.NoError(t, err)
			assert.Equal(t, "written before the connection is there", string(got))
			require.NoError(t, conn.Close())
		})
	}
}

func TestConnectIsCloseOnExec(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	base := testutil.NewBase(t)
	bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	require.NoError(t, bev.Connect("tcp", ln.Addr().String()))
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(bev.FD()), syscall.F_GETFD, 0)
	require.Zero(t, errno)
	assert.NotZero(t, flags&syscall.FD_CLOEXEC)
}

func TestConnectRefused(t *testing.T) {
	base := testutil.NewBase(t)
	bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	require.NoError(t, bev.Connect("tcp", testutil.Refusing(t).String()))
	assert.Equal(t, libevent.EventError, testutil.Happening(t, bev), "no direction, as in libevent")
	var e *libevent.Error
	require.ErrorAs(t, bev.Err(), &e)
	assert.Equal(t, "connect", e.Op)
	assert.ErrorIs(t, e, syscall.ECONNREFUSED)
	_, err = bev.Read(make([]byte, 1))
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
}

func TestConnectUnixRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	ln.SetUnlinkOnClose(false)
	require.NoError(t, ln.Close())
	base := testutil.NewBase(t)
	bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	require.NoError(t, bev.Connect("unix", path))
	assert.Equal(t, libevent.EventError, testutil.Happening(t, bev))
	assert.ErrorIs(t, bev.Err(), syscall.ECONNREFUSED)

	other, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	assert.ErrorIs(t, other.Connect("unix", path+"-not-there"), syscall.ENOENT)
	assert.Equal(t, -1, other.FD())
}

// The write timeout is the limit of a connect.
func TestConnectTimeout(t *testing.T) {
	// A listener whose backlog is full does not answer.
	fd := testutil.TCPSocket(t)
	defer syscall.Close(fd)
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, syscall.Listen(fd, 0))
	sa, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	addr := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: sa.(*syscall.SockaddrInet4).Port}).String()
	base := testutil.NewBase(t)
	for range 8 {
		bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
		require.NoError(t, err)
		require.NoError(t, bev.SetTimeouts(0, 50*time.Millisecond))
		require.NoError(t, bev.Connect("tcp", addr))
		if what := testutil.Happening(t, bev); what != libevent.EventConnected {
			assert.Equal(t, libevent.EventWriting|libevent.EventTimeout, what)
			assert.ErrorIs(t, bev.Err(), os.ErrDeadlineExceeded)
			return
		}
	}
	t.Skip("this system's backlog never fills")
}

func TestConnectArguments(t *testing.T) {
	base := testutil.NewBase(t)
	bev, err := base.NewSocket(-1, 0)
	require.NoError(t, err)
	for _, c := range [][2]string{
		{"udp", "127.0.0.1:1"}, {"", "127.0.0.1:1"}, {"tcp", ""}, {"tcp", "127.0.0.1"},
		{"tcp", "example.org:80"}, {"tcp", ":80"}, {"tcp", "127.0.0.1:65536"}, {"tcp", "127.0.0.1:-1"},
		{"tcp4", "[::1]:1"}, {"tcp6", "127.0.0.1:1"}, {"tcp", "[::1%nosuchzone]:1"}, {"unix", ""},
		{"unix", string(make([]byte, 200))},
	} {
		assert.ErrorIs(t, bev.Connect(c[0], c[1]), syscall.EINVAL, "%q %q", c[0], c[1])
	}
	pair, _ := testutil.NewPair(t, base)
	assert.ErrorIs(t, pair.Connect("tcp", "127.0.0.1:1"), syscall.EINVAL)
	assert.ErrorIs(t, pair.SetFD(0), syscall.EINVAL)
	assert.Nil(t, pair.LocalAddr())
}

// A socket that is connected stays with its peer. Linux's connect(2) would say once that it has gone to another.
func TestConnectConnected(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	events := make(chan libevent.Events, 10)
	require.NoError(t, bev.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, what libevent.Events) { events <- what }))
	var listeners [2]net.Listener
	for i := range listeners {
		listeners[i], err = net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer listeners[i].Close()
	}
	require.NoError(t, bev.Connect("tcp", listeners[0].Addr().String()))
	require.Equal(t, libevent.EventConnected, testutil.Receive(t, events))
	assert.ErrorIs(t, bev.Connect("tcp", listeners[1].Addr().String()), syscall.EISCONN)
	assert.Equal(t, listeners[0].Addr().String(), bev.RemoteAddr().String())
	testutil.OnLoop(t, base, func() { assert.NoError(t, bev.ReplaceFD(-1)) })
	require.NoError(t, bev.Connect("tcp", listeners[1].Addr().String()))
	require.Equal(t, libevent.EventConnected, testutil.Receive(t, events))
	assert.Equal(t, listeners[1].Addr().String(), bev.RemoteAddr().String())
	bev.Free()
	assert.Empty(t, events)
}

// A connection to a unix socket succeeds at once. The order of its callbacks is that of
// any other connection.
func TestConnectUnixOrder(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "sock"))
	require.NoError(t, err)
	defer ln.Close()
	for _, writing := range []bool{true, false} {
		base := testutil.NewBase(t)
		bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
		require.NoError(t, err)
		var order []string
		require.NoError(t, bev.SetCallbacks(nil,
			func(*libevent.BufferEvent) { order = append(order, "write") },
			func(_ *libevent.BufferEvent, what libevent.Events) { order = append(order, what.String()) }))
		if writing {
			_, err = bev.WriteString("x")
			require.NoError(t, err)
		} else {
			require.NoError(t, bev.Disable(wr))
		}
		require.NoError(t, bev.Connect("unix", ln.Addr().String()))
		testutil.Dispatch(t, base)
		if writing {
			assert.Equal(t, []string{"BEV_EVENT_CONNECTED", "write"}, order)
		} else {
			assert.Equal(t, []string{"BEV_EVENT_CONNECTED"}, order)
		}
	}
}

// When a connect succeeds at once, libevent makes a write callback though nothing was
// written. That one is not told. The first one after a write is, also without the fast
// path.
func TestConnectAtOnceThenWrite(t *testing.T) {
	for name, opts := range map[string]libevent.Options{"fast": 0, "plain": libevent.OptPlainIO} {
		t.Run(name, func(t *testing.T) {
			base := testutil.NewBase(t)
			path := filepath.Join(t.TempDir(), "s")
			l, err := net.Listen("unix", path)
			require.NoError(t, err)
			defer l.Close()
			bev, err := base.NewSocket(-1, libevent.OptCloseOnFree|opts)
			require.NoError(t, err)
			connected := make(chan struct{})
			event := func(*libevent.BufferEvent, libevent.Events) { close(connected) }
			require.NoError(t, bev.SetCallbacks(nil, nil, event))
			testutil.Background(t, base)
			require.NoError(t, bev.Connect("unix", path))
			testutil.Receive(t, connected)
			written := make(chan struct{}, 1)
			write := func(*libevent.BufferEvent) { written <- struct{}{} }
			require.NoError(t, bev.SetCallbacks(nil, write, nil))
			_, err = bev.WriteString("x")
			require.NoError(t, err)
			testutil.Receive(t, written)
		})
	}
}

func TestSetFD(t *testing.T) {
	base := testutil.NewBase(t)
	bev, first := testutil.NewSocket(t, base, 0)
	require.NoError(t, first.CloseWrite())
	require.NoError(t, bev.Enable(rd))
	assert.Equal(t, libevent.EventReading|libevent.EventEOF, testutil.Happening(t, bev))
	require.NoError(t, bev.CloseWrite())
	_, err := bev.WriteString("x")
	assert.ErrorIs(t, err, syscall.EPIPE)

	old := bev.FD()
	fd, second := testutil.TCPPair(t)
	require.NoError(t, bev.SetFD(fd))
	assert.Equal(t, fd, bev.FD())
	require.NoError(t, syscall.Close(old), "the old one is the caller's")
	require.NoError(t, bev.Enable(rd))
	_, err = bev.Read(make([]byte, 1))
	assert.ErrorIs(t, err, libevent.ErrWouldBlock, "a new descriptor has not ended")
	_, err = bev.WriteString("hello")
	require.NoError(t, err)
	require.NoError(t, bev.FreeAfterFlush(testutil.Patience))
	testutil.Dispatch(t, base)
	got, err := io.ReadAll(second)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(got))

	another, err := base.NewSocket(-1, 0)
	require.NoError(t, err)
	assert.ErrorIs(t, another.SetFD(-2), syscall.EINVAL)
	assert.ErrorIs(t, another.SetFD(1<<20), syscall.EBADF)
}

// What the user has frozen stays frozen with another descriptor. What CloseWrite has closed
// does not, and Unfreeze does not open it.
func TestSetFDAndFrozenBuffers(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	defer bev.Free()
	replace := func() {
		fd, _ := testutil.TCPPair(t)
		old := bev.FD()
		require.NoError(t, bev.SetFD(fd))
		require.NoError(t, syscall.Close(old))
	}
	write := func() error {
		_, err := bev.WriteString("x")
		return err
	}
	require.NoError(t, bev.Output().Freeze(false))
	require.NoError(t, bev.Input().Freeze(true))
	replace()
	assert.ErrorIs(t, write(), libevent.ErrFrozen)
	assert.ErrorIs(t, bev.Input().Prepend([]byte("x")), libevent.ErrFrozen)
	require.NoError(t, bev.Output().Unfreeze(false))
	require.NoError(t, write())

	require.NoError(t, bev.CloseWrite())
	assert.ErrorIs(t, write(), syscall.EPIPE)
	require.NoError(t, bev.Output().Unfreeze(false))
	assert.ErrorIs(t, write(), syscall.EPIPE)
	replace()
	assert.NoError(t, write())
	require.NoError(t, bev.Output().Freeze(false))
	require.NoError(t, bev.CloseWrite())
	replace()
	assert.ErrorIs(t, write(), libevent.ErrFrozen)
}

// Libevent alone would report that the old descriptor is connected as an event of the new
// one.
func TestSetFDWhileConnecting(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	base := testutil.NewBase(t)
	bev, err := base.NewSocket(-1, 0)
	require.NoError(t, err)
	require.NoError(t, bev.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, what libevent.Events) {
		assert.Fail(t, "no event", "%v", what)
	}))
	require.NoError(t, bev.Connect("tcp", ln.Addr().String()))
	old := bev.FD()
	fd, peer := testutil.TCPPair(t)
	defer syscall.Close(fd)
	require.NoError(t, bev.SetFD(fd))
	require.NoError(t, syscall.Close(old))
	_, err = bev.WriteString("x")
	require.NoError(t, err)
	testutil.Dispatch(t, base)
	p := make([]byte, 1)
	_, err = peer.Read(p)
	require.NoError(t, err)
	assert.Equal(t, "x", string(p))
}

func TestSetFDFromElsewhere(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.SetFD(bev.FD()), "no loop runs")
	testutil.Background(t, base)
	testutil.OnLoop(t, base, func() { assert.NoError(t, bev.SetFD(bev.FD())) })
	assert.ErrorIs(t, bev.SetFD(-1), libevent.ErrWrongLoop)
}

func TestReplaceFD(t *testing.T) {
	base := testutil.NewBase(t)
	bev, old := testutil.NewSocket(t, base, 0)
	closed := testutil.ReadAll(old)
	fd, peer := testutil.TCPPair(t)
	require.NoError(t, bev.ReplaceFD(fd))
	assert.Empty(t, testutil.Receive(t, closed))
	assert.Equal(t, fd, bev.FD())
	require.NoError(t, bev.ReplaceFD(fd), "the same stays open")
	_, err := bev.WriteString("on the new one")
	require.NoError(t, err)
	got := testutil.ReadAll(peer)
	require.NoError(t, bev.FreeAfterFlush(testutil.Patience))
	testutil.Dispatch(t, base)
	assert.Equal(t, "on the new one", string(testutil.Receive(t, got)))

	assert.ErrorIs(t, bev.ReplaceFD(-1), libevent.ErrClosed)
	none, err := base.NewSocket(-1, 0)
	require.NoError(t, err)
	assert.ErrorIs(t, none.ReplaceFD(-2), syscall.EINVAL)
	require.NoError(t, none.ReplaceFD(-1))
	assert.Equal(t, -1, none.FD())
	a, _ := testutil.NewPair(t, base)
	assert.ErrorIs(t, a.ReplaceFD(-1), syscall.EINVAL)
}

// echo has bev send back what it reads. bev is freed at its first event.
func echo(t testing.TB, bev *libevent.BufferEvent, onRead func()) {
	t.Helper()
	require.NoError(t, bev.SetCallbacks(func(bev *libevent.BufferEvent) {
		onRead()
		assert.NoError(t, bev.WriteBuffer(bev.Input()))
	}, nil, func(bev *libevent.BufferEvent, _ libevent.Events) { bev.Free() }))
	require.NoError(t, bev.Enable(rd))
}

// setBase moves bev to another base. It tries again until nothing of bev is due on the old
// loop.
func setBase(t testing.TB, bev *libevent.BufferEvent, to *libevent.Base) {
	t.Helper()
	for busy := true; busy; {
		testutil.OnLoop(t, bev.Base(), func() {
			err := bev.SetBase(to)
			busy = errors.Is(err, syscall.EBUSY)
			if !busy {
				assert.NoError(t, err)
			}
		})
	}
}

func TestSetBase(t *testing.T) {
	for name, opts := range map[string]libevent.Options{"fast": 0, "plain": libevent.OptPlainIO} {
		t.Run(name, func(t *testing.T) {
			from, to := testutil.NewBase(t), testutil.NewBase(t)
			bev, peer := testutil.NewSocket(t, from, opts)
			var on []*libevent.Base
			echo(t, bev, func() { on = append(on, bev.Base()) })
			ask := func(base *libevent.Base, text string) {
				_, err := io.WriteString(peer, text)
				require.NoError(t, err)
				got := make([]byte, len(text))
				done := make(chan error, 1)
				go func() {
					_, err := io.ReadFull(peer, got)
					done <- errors.Join(err, base.LoopBreak())
				}()
				require.NoError(t, base.Loop(libevent.LoopNoExitOnEmpty))
				require.NoError(t, testutil.Receive(t, done))
				assert.Equal(t, text, string(got))
			}
			ask(from, "on the first")
			require.NoError(t, from.Loop(libevent.LoopNonblock)) // runs what the break has left
			require.NoError(t, bev.SetBase(to))
			assert.Same(t, to, bev.Base())
			assert.Equal(t, rd|wr, bev.Enabled())
			assert.Zero(t, from.Stats().BufferEvents)
			assert.Equal(t, 1, to.Stats().BufferEvents)
			require.NoError(t, from.Free())
			ask(to, "on the second")
			assert.Same(t, to, on[len(on)-1])
			require.NoError(t, bev.SetBase(to), "it is there")
			require.NoError(t, peer.Close())
			testutil.Dispatch(t, to)
			assert.Zero(t, to.Stats().BufferEvents)
		})
	}
}

// What was written before SetBase is sent, and the write closure is called once.
func TestSetBaseKeepsBuffersAndTimeouts(t *testing.T) {
	for name, opts := range map[string]libevent.Options{"fast": 0, "plain": libevent.OptPlainIO} {
		t.Run(name, func(t *testing.T) {
			from, to := testutil.NewBase(t), testutil.NewBase(t)
			bev, peer := testutil.NewSocket(t, from, opts)
			written := 0
			var events []libevent.Events
			require.NoError(t, bev.SetCallbacks(nil, func(*libevent.BufferEvent) { written++ },
				func(bev *libevent.BufferEvent, what libevent.Events) {
					events = append(events, what)
					bev.Free()
				}))
			require.NoError(t, bev.Input().Prepend([]byte("unread")))
			require.NoError(t, bev.SetTimeouts(20*time.Millisecond, 0))
			require.NoError(t, bev.Enable(rd))
			got := testutil.ReadAll(peer)
			_, err := bev.WriteString("unsent")
			require.NoError(t, err)
			require.NoError(t, bev.CloseWrite())
			require.NoError(t, bev.SetBase(to))
			assert.Equal(t, "unread", testutil.Content(t, bev.Input()))
			testutil.Dispatch(t, from) // returns at once, since the base has nothing left to do
			testutil.Dispatch(t, to)
			assert.Equal(t, "unsent", string(testutil.Receive(t, got)))
			assert.Equal(t, 1, written)
			assert.Equal(t, []libevent.Events{libevent.EventReading | libevent.EventTimeout}, events)
		})
	}
}

func TestSetBasePriority(t *testing.T) {
	from, err := libevent.NewBaseConfig(libevent.Config{Priorities: 7})
	require.NoError(t, err)
	defer from.Free()
	to, err := libevent.NewBaseConfig(libevent.Config{Priorities: 3})
	require.NoError(t, err)
	defer to.Free()
	bev, peer := testutil.NewSocket(t, from, 0)
	require.NoError(t, bev.SetPriority(5))
	require.ErrorIs(t, bev.SetBase(to), syscall.ERANGE)
	assert.Same(t, from, bev.Base())
	require.NoError(t, bev.SetPriority(2))
	require.NoError(t, bev.SetBase(to))
	assert.Equal(t, 2, bev.Priority())

	other, _ := testutil.NewSocket(t, from, 0)
	require.NoError(t, other.SetBase(to))
	assert.Equal(t, 1, other.Priority())

	// The event that runs the callbacks must have a priority that the new base has, too.
	// Otherwise libevent aborts here.
	echo(t, bev, func() {})
	other.Free()
	require.NoError(t, bev.TriggerEvent(libevent.EventEOF))
	testutil.Dispatch(t, to)
	require.NoError(t, peer.Close())
}

func TestSetBaseRefuses(t *testing.T) {
	from, to := testutil.NewBase(t), testutil.NewBase(t)
	refused := func(t *testing.T, bev *libevent.BufferEvent, why string) {
		t.Helper()
		err := bev.SetBase(to)
		require.ErrorIs(t, err, syscall.EINVAL)
		assert.Contains(t, err.Error(), why)
		assert.Same(t, from, bev.Base())
	}
	bev, _ := testutil.NewSocket(t, from, 0)
	assert.ErrorIs(t, bev.SetBase(nil), syscall.EINVAL)
	a, _ := testutil.NewPair(t, from)
	refused(t, a, "not a socket")
	under, _ := testutil.NewSocket(t, from, 0)
	filter := testutil.NewFilter(t, under, nil, nil, 0)
	refused(t, filter, "not a socket")
	assert.ErrorIs(t, under.SetBase(to), syscall.EBUSY, "its filter uses it")
	alone, _ := testutil.NewSocket(t, from, libevent.OptLoopOnly)
	refused(t, alone, "OptLoopOnly")

	limit := libevent.RateLimit{ReadRate: 1000, ReadBurst: 1000}
	require.NoError(t, bev.SetRateLimit(&limit))
	refused(t, bev, "rate limit")
	require.NoError(t, bev.SetRateLimit(nil))
	refused(t, bev, "rate limit")
	member, _ := testutil.NewSocket(t, from, 0)
	group, err := from.NewRateLimitGroup(limit)
	require.NoError(t, err)
	require.NoError(t, group.Add(member))
	require.NoError(t, group.Remove(member))
	refused(t, member, "rate limit")

	dialing, err := from.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	require.NoError(t, dialing.ConnectHostname(nil, "tcp", "127.0.0.1", 1))
	assert.ErrorIs(t, dialing.SetBase(to), syscall.EINPROGRESS)

	gone := testutil.NewBase(t)
	require.NoError(t, gone.Free())
	fresh, _ := testutil.NewSocket(t, from, 0)
	assert.ErrorIs(t, fresh.SetBase(gone), libevent.ErrClosed)
	fresh.Free()
	assert.ErrorIs(t, fresh.SetBase(to), libevent.ErrClosed)
}

// SetBase is refused while a callback is due: the callback is in the queue of the old
// base.
func TestSetBaseWhenSomethingIsDue(t *testing.T) {
	from, to := testutil.NewBase(t), testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, from, 0)
	require.NoError(t, bev.TriggerEvent(libevent.EventTimeout))
	require.ErrorIs(t, bev.SetBase(to), syscall.EBUSY)

	var inClosure error
	require.NoError(t, bev.SetCallbacks(nil, nil, func(bev *libevent.BufferEvent, _ libevent.Events) {
		inClosure = bev.SetBase(to)
	}))
	testutil.Dispatch(t, from)
	assert.ErrorIs(t, inClosure, syscall.EBUSY)

	cb, err := bev.Input().AddCallback(func(b *libevent.Buffer, added, _ int) {
		assert.Equal(t, 1, added)
		inClosure = bev.SetBase(to)
	})
	require.NoError(t, err)
	require.NoError(t, bev.Input().Prepend([]byte("x")))
	inClosure = nil
	assert.ErrorIs(t, bev.SetBase(to), syscall.EBUSY, "a buffer callback is due")
	testutil.Dispatch(t, from)
	assert.ErrorIs(t, inClosure, syscall.EBUSY)
	require.NoError(t, bev.SetBase(to))
	cb.Remove()
}

// A connection moves to and fro between two running loops while another goroutine uses it.
func TestSetBaseWhileLoopsRun(t *testing.T) {
	const rounds, message = 50, "there and back again"
	bases := []*libevent.Base{testutil.NewBase(t), testutil.NewBase(t)}
	for _, base := range bases {
		testutil.Background(t, base)
		testutil.OnLoop(t, base, func() {}) // the loop runs now
	}
	nowhere := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, bases[0], 0)
	echo(t, bev, func() {})

	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // on another goroutine every call is refused, and changes nothing
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				assert.Error(t, bev.SetBase(nowhere))
				assert.NotNil(t, bev.Base())
				assert.Equal(t, rd|wr, bev.Enabled())
				runtime.Gosched()
			}
		}
	}()
	got := testutil.ReadAll(peer)
	for i := range rounds {
		_, err := io.WriteString(peer, message)
		require.NoError(t, err)
		setBase(t, bev, bases[(i+1)%2])
	}
	close(stop)
	testutil.Receive(t, stopped)
	require.NoError(t, peer.CloseWrite())
	assert.Equal(t, strings.Repeat(message, rounds), string(testutil.Receive(t, got)))
}

// When Free and SetBase are called at the same time, one of them is first.
func TestSetBaseAgainstFree(t *testing.T) {
	a, b := testutil.NewBase(t), testutil.NewBase(t)
	testutil.Background(t, a)
	testutil.Background(t, b)
	for range 100 {
		bev, _ := testutil.NewSocket(t, a, 0)
		echo(t, bev, func() {})
		freed := make(chan struct{})
		go func() { defer close(freed); bev.Free() }()
		testutil.OnLoop(t, a, func() {
			if err := bev.SetBase(b); !errors.Is(err, syscall.EBUSY) && !errors.Is(err, libevent.ErrClosed) {
				assert.NoError(t, err)
			}
		})
		testutil.Receive(t, freed)
	}
}
