// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestNewSocketArguments(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.Socketpair(t)
	defer syscall.Close(a)
	defer syscall.Close(b)
	const (
		safe, deferred, unlock = libevent.OptThreadSafe, libevent.OptDeferCallbacks, libevent.OptUnlockCallbacks
		loopOnly               = libevent.OptLoopOnly
	)
	for _, opts := range []libevent.Options{0, safe, deferred, unlock, safe | deferred | unlock,
		safe | unlock, loopOnly, loopOnly | deferred} {
		t.Run("accepted "+opts.String(), func(t *testing.T) {
			bev, err := base.NewSocket(a, opts)
			require.NoError(t, err)
			assert.Equal(t, a, bev.FD())
			assert.Same(t, base, bev.Base())
			bev.Free()
			c, d, err := base.NewPair(opts)
			require.NoError(t, err)
			assert.Equal(t, -1, c.FD())
			c.Free()
			d.Free()
		})
	}
	for _, opts := range []libevent.Options{loopOnly | safe, loopOnly | unlock,
		loopOnly | deferred | unlock, 1 << 20, 0x10} {
		t.Run("refused "+opts.String(), func(t *testing.T) {
			_, err := base.NewSocket(a, opts)
			assert.ErrorIs(t, err, syscall.EINVAL)
			assert.ErrorContains(t, err, "opts")
			_, _, err = base.NewPair(opts)
			assert.ErrorIs(t, err, syscall.EINVAL)
		})
	}
	_, err := base.NewSocket(-2, 0)
	assert.ErrorIs(t, err, syscall.EINVAL)
	closed, other := testutil.Socketpair(t)
	require.NoError(t, syscall.Close(closed))
	require.NoError(t, syscall.Close(other))
	_, err = base.NewSocket(closed, libevent.OptCloseOnFree)
	assert.ErrorIs(t, err, syscall.EBADF)
	var e *libevent.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "bufferevent_socket_new", e.Op)
}

func TestZeroValuesAreClosed(t *testing.T) {
	var bev libevent.BufferEvent
	_, err := bev.Write([]byte("x"))
	assert.ErrorIs(t, err, libevent.ErrClosed)
	bev.Free()
	assert.ErrorIs(t, bev.Enable(rd), libevent.ErrClosed)
	assert.Nil(t, bev.RemoteAddr())
	var buf libevent.Buffer
	assert.ErrorIs(t, buf.Add([]byte("x")), libevent.ErrClosed)
	buf.Free()
	var base libevent.Base
	assert.ErrorIs(t, base.Dispatch(), libevent.ErrClosed)
	assert.ErrorIs(t, base.Post(func() {}), libevent.ErrClosed)
	assert.NoError(t, base.Free())
	var ev libevent.Event
	assert.ErrorIs(t, ev.Add(0), libevent.ErrClosed)
	ev.Free()
	var l libevent.Listener
	assert.ErrorIs(t, l.Enable(), libevent.ErrClosed)
	l.Free()
}

func TestCallbacksGetTheirBufferEvent(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	var order []string
	require.NoError(t, bev.SetCallbacks(
		func(b *libevent.BufferEvent) {
			assert.Same(t, bev, b)
			p := make([]byte, 16)
			n, err := b.Read(p)
			assert.NoError(t, err)
			order = append(order, "read "+string(p[:n]))
			_, err = b.WriteString("pong")
			assert.NoError(t, err)
		},
		func(b *libevent.BufferEvent) {
			assert.Same(t, bev, b)
			order = append(order, "write")
			assert.NoError(t, peer.CloseWrite())
		},
		func(b *libevent.BufferEvent, what libevent.Events) {
			assert.Same(t, bev, b)
			order = append(order, what.String())
			b.Free()
		}))
	require.NoError(t, bev.Enable(rd))
	_, err := peer.Write([]byte("ping"))
	require.NoError(t, err)
	testutil.Dispatch(t, base)
	assert.Equal(t, []string{"read ping", "write", "BEV_EVENT_READING|BEV_EVENT_EOF"}, order)
	got, err := io.ReadAll(peer)
	assert.NoError(t, err)
	assert.Equal(t, "pong", string(got))
}

// Closures may be replaced at any time, also by nil. A callback that was queued for the
// old closures does not reach the new ones.
func TestSetCallbacksAgain(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	var first, second int
	require.NoError(t, b.SetCallbacks(func(*libevent.BufferEvent) { first++ }, nil, nil))
	require.NoError(t, b.Enable(rd))
	_, err := a.WriteString("1") // queues a read callback
	require.NoError(t, err)
	require.NoError(t, b.SetCallbacks(nil, nil, nil))
	testutil.Dispatch(t, base)
	assert.Zero(t, first)
	require.NoError(t, b.SetCallbacks(func(*libevent.BufferEvent) { second++ }, nil,
		func(_ *libevent.BufferEvent, what libevent.Events) {
			assert.Equal(t, libevent.EventReading|libevent.EventEOF, what)
			assert.Zero(t, second, "the read that was queued for nobody must be gone")
		}))
	require.NoError(t, b.SetWatermark(rd, 100, 0)) // with this mark the flush reads nothing
	require.NoError(t, a.CloseWrite())
	testutil.Dispatch(t, base)
	assert.ErrorIs(t, b.Err(), io.EOF)
}

// Of two goroutines that set closures at the same moment, one is the last, and all its closures are
// called.
func TestSetCallbacksAtOnce(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewPair(t, base)
	require.NoError(t, bev.Enable(rd|wr))
	testutil.Dispatch(t, base)
	for range 50_000 {
		var read, readOnly, written int
		var start, set sync.WaitGroup
		start.Add(2)
		set.Go(func() {
			start.Done()
			start.Wait()
			assert.NoError(t, bev.SetCallbacks(func(*libevent.BufferEvent) { read++ }, func(*libevent.BufferEvent) { written++ }, nil))
		})
		set.Go(func() {
			start.Done()
			start.Wait()
			assert.NoError(t, bev.SetCallbacks(func(*libevent.BufferEvent) { readOnly++ }, nil, nil))
		})
		set.Wait()
		require.NoError(t, bev.Trigger(rd|wr, libevent.TriggerIgnoreWatermarks))
		testutil.Dispatch(t, base)
		require.Equal(t, 1, read+readOnly)
		require.Equal(t, read, written, "calls of the write closure that goes with the read closure")
	}
}

func TestOptLoopOnlyFromElsewhere(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, libevent.OptLoopOnly)
	// Before the loop runs, any goroutine may set the bufferevent up.
	require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		assert.NoError(t, b.WriteBuffer(b.Input()))
	}, nil, nil))
	require.NoError(t, bev.Enable(rd))
	stop := testutil.Background(t, base)
	_, err := peer.Write([]byte("hello"))
	require.NoError(t, err)
	p := make([]byte, 5)
	_, err = io.ReadFull(peer, p)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(p))

	_, err = bev.Write([]byte("x"))
	assert.ErrorIs(t, err, libevent.ErrWrongLoop)
	_, err = bev.Read(p)
	assert.ErrorIs(t, err, libevent.ErrWrongLoop)
	assert.ErrorIs(t, bev.Enable(rd), libevent.ErrWrongLoop)
	assert.ErrorIs(t, bev.Disable(rd), libevent.ErrWrongLoop)
	assert.ErrorIs(t, bev.SetTimeouts(0, 0), libevent.ErrWrongLoop)
	assert.ErrorIs(t, bev.SetWatermark(rd, 0, 0), libevent.ErrWrongLoop)
	assert.ErrorIs(t, bev.SetCallbacks(nil, nil, nil), libevent.ErrWrongLoop)
	assert.ErrorIs(t, bev.Output().Add(p), libevent.ErrWrongLoop)
	assert.ErrorIs(t, bev.Connect("tcp", "127.0.0.1:1"), libevent.ErrWrongLoop)
	assert.ErrorIs(t, bev.SetFD(-1), libevent.ErrWrongLoop)
	assert.ErrorIs(t, bev.CloseWrite(), libevent.ErrWrongLoop)
	assert.ErrorIs(t, bev.FreeAfterFlush(time.Second), libevent.ErrWrongLoop)
	assert.ErrorIs(t, testutil.NewBuffer(t, "y").AddBuffer(bev.Input()), libevent.ErrWrongLoop)
	assert.Equal(t, -1, bev.FD())
	assert.Zero(t, bev.Input().Len())

	// The refusals have changed nothing.
	_, err = peer.Write([]byte("again"))
	require.NoError(t, err)
	_, err = io.ReadFull(peer, p)
	require.NoError(t, err)
	assert.Equal(t, "again", string(p))

	bev.Free() // posted
	_, err = peer.Read(p)
	assert.ErrorIs(t, err, io.EOF)
	stop()
}

// Without OptDeferCallbacks a loop-only bufferevent calls its closures from inside
// libevent's I/O. What a closure may do elsewhere it may do there, too.
func TestOptLoopOnlyClosureFreesItself(t *testing.T) {
	for _, opts := range []libevent.Options{libevent.OptLoopOnly, libevent.OptLoopOnly | libevent.OptDeferCallbacks} {
		base := testutil.NewBase(t)
		for range 20 {
			bev, peer := testutil.NewSocket(t, base, opts)
			require.NoError(t, bev.SetWatermark(rd, 0, 3))
			require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
				assert.Equal(t, 3, b.Input().Len())
				b.Free()
				assert.Zero(t, b.Input().Len())
			}, nil, nil))
			require.NoError(t, bev.Enable(rd))
			_, err := peer.Write([]byte("hello"))
			require.NoError(t, err)
		}
		testutil.Dispatch(t, base)
		assert.Zero(t, base.Stats().BufferEvents)
	}
}

func TestEnabled(t *testing.T) {
	base := testutil.NewBase(t)
	pair, _ := testutil.NewPair(t, base)
	socket, _ := testutil.NewSocket(t, base, 0)
	for _, bev := range []*libevent.BufferEvent{pair, socket} {
		assert.Equal(t, wr, bev.Enabled(), "a new bufferevent writes")
		require.NoError(t, bev.Enable(rd))
		assert.Equal(t, rd|wr, bev.Enabled())
		require.NoError(t, bev.Disable(wr))
		assert.Equal(t, rd, bev.Enabled())
		require.NoError(t, bev.Disable(rd|wr))
		assert.Zero(t, bev.Enabled())
		require.NoError(t, bev.Enable(rd|wr))
		assert.Equal(t, rd|wr, bev.Enabled())
		require.NoError(t, bev.Enable(0))
		for _, bad := range []libevent.What{libevent.EvTimeout, rd | libevent.EvPersist, -1} {
			assert.ErrorIs(t, bev.Enable(bad), syscall.EINVAL)
			assert.ErrorIs(t, bev.Disable(bad), syscall.EINVAL)
		}
	}
}

// Nothing is read while reading is off, and nothing is written while writing is off.
func TestDisable(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		assert.NoError(t, b.Disable(rd))
	}, nil, nil))
	require.NoError(t, bev.Disable(wr))
	_, err := bev.WriteString("later")
	require.NoError(t, err)
	_, err = peer.Write([]byte("unread"))
	require.NoError(t, err)
	require.NoError(t, base.Loop(libevent.LoopNonblock))
	assert.Zero(t, bev.Input().Len())
	assert.Equal(t, 5, bev.Output().Len())

	require.NoError(t, bev.Enable(rd))
	testutil.Dispatch(t, base)
	assert.Equal(t, "unread", testutil.Content(t, bev.Input()))
	assert.Equal(t, 5, bev.Output().Len())

	require.NoError(t, bev.Enable(wr))
	testutil.Dispatch(t, base)
	assert.Zero(t, bev.Output().Len())
	bev.Free()
	got, err := io.ReadAll(peer)
	require.NoError(t, err)
	assert.Equal(t, "later", string(got))
}

// A descriptor that the loop cannot wait for is refused. Otherwise it would never be read
// or written, without an error.
func TestNewSocketOnFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer f.Close()
	base := testutil.NewBase(t)
	_, err = base.NewSocket(int(f.Fd()), 0)
	assert.ErrorIs(t, err, syscall.EPERM)
	bev, err := base.NewSocket(-1, 0)
	require.NoError(t, err)
	assert.ErrorIs(t, bev.SetFD(int(f.Fd())), syscall.EPERM)
}

func TestFlush(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	_, err := a.WriteString("bytes")
	require.NoError(t, err)
	assert.Zero(t, b.Input().Len(), "the other end does not read")
	_, err = a.Flush(wr, libevent.FlushNormal)
	require.NoError(t, err)
	assert.Zero(t, b.Input().Len())
	_, err = a.Flush(wr, libevent.FlushSync)
	require.NoError(t, err)
	assert.Equal(t, "bytes", testutil.Content(t, b.Input()))
	_, err = a.Flush(wr, 3)
	assert.ErrorIs(t, err, syscall.EINVAL)
	_, err = a.Flush(libevent.EvTimeout, libevent.FlushSync)
	assert.ErrorIs(t, err, syscall.EINVAL)

	bev, _ := testutil.NewSocket(t, base, 0)
	produced, err := bev.Flush(rd|wr, libevent.FlushFinished)
	require.NoError(t, err)
	assert.False(t, produced)

	b.Free()
	testutil.Dispatch(t, base) // until the record of b is freed
	_, err = a.Flush(wr, libevent.FlushSync)
	assert.Error(t, err, "no other end")
}

func TestReadAndWrite(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	require.NoError(t, b.Enable(rd))
	p := make([]byte, 8)
	_, err := b.Read(p)
	assert.ErrorIs(t, err, libevent.ErrWouldBlock)
	n, err := b.Read(nil)
	assert.NoError(t, err)
	assert.Zero(t, n)

	n, err = a.Write([]byte("one "))
	require.NoError(t, err)
	assert.Equal(t, 4, n)
	n, err = a.Write(nil)
	require.NoError(t, err)
	assert.Zero(t, n)
	n, err = a.WriteString("two ")
	require.NoError(t, err)
	assert.Equal(t, 4, n)
	src := testutil.NewBuffer(t, "three")
	require.NoError(t, a.WriteBuffer(src))
	assert.Zero(t, src.Len())
	assert.ErrorIs(t, a.WriteBuffer(nil), syscall.EINVAL)

	n, err = b.Read(p)
	require.NoError(t, err)
	assert.Equal(t, "one two ", string(p[:n]))
	dst := testutil.NewBuffer(t, "<")
	require.NoError(t, b.ReadBuffer(dst))
	assert.Equal(t, "<three", testutil.Content(t, dst))
	assert.ErrorIs(t, b.ReadBuffer(nil), syscall.EINVAL)
	require.NoError(t, b.ReadBuffer(dst), "nothing to move is no error")

	// The slice is copied before Write returns.
	_, err = a.Write(p[:2])
	require.NoError(t, err)
	p[0] = '!'
	n, err = b.Read(p)
	require.NoError(t, err)
	assert.Equal(t, "on", string(p[:n]))
}

func TestBuffersAreTheBufferEvents(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	assert.Same(t, bev.Input(), bev.Input())
	assert.Same(t, bev.Output(), bev.Output())
	bev.Input().Free()
	bev.Output().Free()
	require.NoError(t, bev.Output().Add([]byte("still here")))
	assert.Equal(t, 10, bev.Output().Len())
	bev.Free()
	require.NotNil(t, bev.Input())
	assert.Zero(t, bev.Output().Len())
	assert.ErrorIs(t, bev.Output().Add([]byte("x")), libevent.ErrClosed)
	assert.Equal(t, -1, bev.Output().Search([]byte("s"), 0))
}

// Only libevent appends to an input and drains an output.
func TestInnerEndsAreFrozen(t *testing.T) {
	base := testutil.NewBase(t)
	socket, _ := testutil.NewSocket(t, base, 0)
	pair, _ := testutil.NewPair(t, base)
	fdless, err := base.NewSocket(-1, 0)
	require.NoError(t, err)
	require.NoError(t, fdless.SetFD(-1)) // libevent leaves the ends open here
	for _, bev := range []*libevent.BufferEvent{socket, pair, fdless} {
		_, err := bev.WriteString("out")
		require.NoError(t, err)
		out, in := bev.Output(), bev.Input()
		assert.ErrorIs(t, in.Add([]byte("x")), libevent.ErrFrozen)
		assert.ErrorIs(t, in.AddBuffer(testutil.NewBuffer(t, "x")), libevent.ErrFrozen)
		assert.ErrorIs(t, out.Drain(1), libevent.ErrFrozen)
		_, err = out.Remove(make([]byte, 1))
		assert.ErrorIs(t, err, libevent.ErrFrozen)
		assert.ErrorIs(t, out.Prepend([]byte("x")), libevent.ErrFrozen)
		assert.ErrorIs(t, testutil.NewBuffer(t, "").AddBuffer(out), libevent.ErrFrozen)
		_, err = out.RemoveBuffer(testutil.NewBuffer(t, ""), 1)
		assert.ErrorIs(t, err, libevent.ErrFrozen)
		_, ok := out.ReadLine(libevent.EOLLF)
		assert.False(t, ok)
		assert.Equal(t, "out", testutil.Content(t, out), "looking is allowed")
		require.NoError(t, in.Prepend([]byte("y")), "putting back is allowed")
		assert.Equal(t, "y", testutil.Content(t, in))
	}
}

func TestLargeTransfers(t *testing.T) {
	for _, size := range []int{1, 4096, 4097, 100_000, 5 << 20} {
		base := testutil.NewBase(t)
		bev, peer := testutil.NewSocket(t, base, 0)
		data := testutil.Noise(size)
		require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			assert.NoError(t, b.Output().AddBuffer(b.Input()))
		}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			assert.Equal(t, libevent.EventReading|libevent.EventEOF, what)
			assert.NoError(t, b.FreeAfterFlush(testutil.Patience))
		}))
		require.NoError(t, bev.Enable(rd))
		got := testutil.ReadAll(peer)
		go func() {
			_, _ = io.Copy(peer, bytes.NewReader(data))
			_ = peer.CloseWrite()
		}()
		testutil.Dispatch(t, base)
		testutil.Same(t, data, testutil.Receive(t, got))
	}
}

func TestPartner(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	assert.Same(t, b, a.Partner())
	assert.Same(t, a, b.Partner())
	b.Free()
	assert.Nil(t, a.Partner())
	assert.Nil(t, b.Partner())
	socket, _ := testutil.NewSocket(t, base, 0)
	assert.Nil(t, socket.Partner())
}

// What is due runs in the order of the priorities. Priorities that cannot be set are
// refused.
func TestPriorities(t *testing.T) {
	base, err := libevent.NewBaseConfig(libevent.Config{Priorities: 3})
	require.NoError(t, err)
	defer func() { assert.NoError(t, base.Free()) }()
	assert.Equal(t, 3, base.Priorities())
	var order []int
	for _, p := range []int{2, 0, 1} {
		e, err := base.NewEvent(-1, 0, func(int, libevent.What) { order = append(order, p) })
		require.NoError(t, err)
		assert.Equal(t, 1, e.Priority())
		require.NoError(t, e.SetPriority(p))
		assert.Equal(t, p, e.Priority())
		require.NoError(t, e.Active(rd))
		assert.ErrorIs(t, e.SetPriority(0), syscall.EBUSY, "it is due")
		assert.ErrorIs(t, e.SetPriority(3), syscall.EINVAL)
		assert.ErrorIs(t, e.SetPriority(-1), syscall.EINVAL)
	}
	bev, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.SetPriority(0))
	assert.Equal(t, 0, bev.Priority())
	require.NoError(t, bev.SetFD(bev.FD()))
	assert.Equal(t, 0, bev.Priority(), "libevent itself would forget it")
	assert.ErrorIs(t, bev.SetPriority(3), syscall.EINVAL)
	pair, _ := testutil.NewPair(t, base)
	assert.ErrorIs(t, pair.SetPriority(0), syscall.EINVAL)
	assert.Equal(t, 1, pair.Priority())
	_ = peer.Close()
	testutil.Dispatch(t, base)
	assert.Equal(t, []int{0, 1, 2}, order)
}

// While the loop runs, only its goroutine may set a priority: the loop may be about to put
// the event into a queue.
func TestPriorityWhileTheLoopRuns(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	timer, err := base.NewTimer(func() {})
	require.NoError(t, err)
	defer timer.Free()
	testutil.Background(t, base)
	require.NoError(t, timer.SetPriority(0))
	require.NoError(t, timer.Add(time.Hour))
	require.NoError(t, bev.Enable(rd))
	testutil.OnLoop(t, base, func() {})
	assert.ErrorIs(t, timer.SetPriority(0), libevent.ErrWrongLoop)
	assert.ErrorIs(t, bev.SetPriority(0), libevent.ErrWrongLoop)
	testutil.OnLoop(t, base, func() {
		assert.NoError(t, timer.SetPriority(0))
		_ = bev.SetPriority(0) // EBUSY if something is due
	})
	_ = peer.Close()
	bev.Free()
}

// TestSocketsWithoutAStream gives away sockets that a bufferevent cannot read. They stay the
// caller's.
func TestSocketsWithoutAStream(t *testing.T) {
	base := testutil.NewBase(t)
	none, err := base.NewSocket(-1, 0)
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	datagrams, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	for fd, want := range map[int]string{
		testutil.ConnFD(t, ln):        "fd is a listening socket: ListenFD takes it",
		testutil.ConnFD(t, datagrams): "fd is a socket of datagrams or packets",
	} {
		_, err := base.NewSocket(fd, libevent.OptCloseOnFree)
		for _, err := range []error{err, none.SetFD(fd), none.ReplaceFD(fd)} {
			assert.ErrorIs(t, err, syscall.EINVAL)
			assert.ErrorContains(t, err, want)
		}
		assert.NoError(t, syscall.Close(fd))
	}
	assert.Equal(t, 1, base.Stats().BufferEvents)
}
