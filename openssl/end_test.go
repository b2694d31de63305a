package openssl_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

var (
	connected  = told{libevent.EventConnected, nil}
	endOfFile  = told{libevent.EventReading | libevent.EventEOF, io.EOF}
	cutOff     = told{libevent.EventReading | libevent.EventError, io.ErrUnexpectedEOF}
	cutAllowed = told{libevent.EventReading | libevent.EventEOF, io.ErrUnexpectedEOF}
)

// open makes a connection: a server here, and a client of crypto/tls on a TCP connection.
func open(t testing.TB, version uint16) (*openssl.Conn, <-chan string, <-chan told, *tls.Conn) {
	t.Helper()
	ca := newAuthority(t)
	base := newLoop(t)
	fd, peer := testutil.TCPPair(t)
	conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version}), base, fd)
	read, events := watch(t, conn)
	client := tls.Client(peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	require.NoError(t, client.Handshake())
	require.Equal(t, connected, testutil.Receive(t, events))
	return conn, read, events, client
}

// cut ends a connection without close_notify. Closing it would reset it: there are tickets
// that were not read.
func cut(t testing.TB, conn *tls.Conn) {
	t.Helper()
	require.NoError(t, conn.NetConn().(*net.TCPConn).CloseWrite())
}

// both makes a connection with both ends here, on loops of their own: crypto/tls takes a
// cut between two records for an end.
func both(t testing.TB, version uint16) (accepted, connecting *openssl.Conn, events <-chan told) {
	t.Helper()
	ca := newAuthority(t)
	a, b := testutil.Socketpair(t)
	accepted = newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version}), newLoop(t), a)
	connecting = newSocket(t, client(t, &openssl.Config{ServerName: "example.test", RootCAs: ca.pool()}), newLoop(t), b)
	_, shaken := watch(t, accepted)
	_, events = watch(t, connecting)
	require.Equal(t, connected, testutil.Receive(t, shaken))
	require.Equal(t, connected, testutil.Receive(t, events))
	return accepted, connecting, events
}

// What ends a connection, as the other end sees it.
func TestEnds(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		for name, c := range map[string]struct {
			end  func(*openssl.Conn) error
			want told
		}{
			"CloseWrite":     {func(c *openssl.Conn) error { return c.CloseWrite() }, endOfFile},
			"FreeAfterFlush": {func(c *openssl.Conn) error { return c.FreeAfterFlush(testutil.Patience) }, endOfFile},
			"Free":           {func(c *openssl.Conn) error { c.Free(); return nil }, cutOff},
		} {
			t.Run(name, func(t *testing.T) {
				accepted, connecting, events := both(t, version)
				_, err := accepted.WriteString("last")
				require.NoError(t, err)
				testutil.Eventually(t, func() bool { return accepted.Output().Len() == 0 }, "it is written")
				require.NoError(t, c.end(accepted))
				assert.Equal(t, c.want, testutil.Receive(t, events))
				assert.Equal(t, c.want.err, connecting.Err())
			})
		}
	})
}

func TestCloseNotifyIsEOF(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		conn, read, events, peer := open(t, version)
		_, err := peer.Write([]byte("last"))
		require.NoError(t, err)
		require.NoError(t, peer.Close())
		assert.Equal(t, "last", take(t, read, 4))
		assert.Equal(t, endOfFile, testutil.Receive(t, events))
		assert.Zero(t, conn.Enabled()&rd)
		n, err := conn.Read(make([]byte, 1))
		assert.Zero(t, n)
		assert.Equal(t, io.EOF, err)
	})
}

func TestCutIsUnexpectedEOF(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		conn, read, events, peer := open(t, version)
		_, err := peer.Write([]byte("last"))
		require.NoError(t, err)
		cut(t, peer)
		assert.Equal(t, "last", take(t, read, 4))
		assert.Equal(t, cutOff, testutil.Receive(t, events))
		assert.Zero(t, conn.Enabled())
		_, err = conn.Read(make([]byte, 1))
		assert.Equal(t, io.ErrUnexpectedEOF, err)
	})
}

func TestDirtyShutdown(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		conn, _, events, peer := open(t, version)
		assert.False(t, conn.AllowDirtyShutdown())
		conn.SetAllowDirtyShutdown(true)
		assert.True(t, conn.AllowDirtyShutdown())
		cut(t, peer)
		assert.Equal(t, cutAllowed, testutil.Receive(t, events))
	})
}

func TestReset(t *testing.T) {
	for _, dirty := range []bool{false, true} {
		versions(t, func(t *testing.T, version uint16) {
			conn, _, events, peer := open(t, version)
			conn.SetAllowDirtyShutdown(dirty)
			require.NoError(t, peer.NetConn().(*net.TCPConn).SetLinger(0))
			require.NoError(t, peer.NetConn().Close())
			what := testutil.Receive(t, events)
			assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
			assert.ErrorIs(t, what.err, syscall.ECONNRESET)
			var e *libevent.Error
			require.ErrorAs(t, what.err, &e)
			assert.Equal(t, "read", e.Op)
		})
	}
}

// CloseWrite sends close_notify after the last byte, and reading goes on.
func TestCloseWrite(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		conn, read, events, peer := open(t, version)
		last := testutil.Noise(1 << 20)
		_, err := conn.Write(last)
		require.NoError(t, err)
		require.NoError(t, conn.CloseWrite())
		_, err = conn.WriteString("more")
		assert.ErrorIs(t, err, syscall.EPIPE)
		got, err := io.ReadAll(peer) // nil: not cut
		require.NoError(t, err)
		assert.Equal(t, last, got)
		_, err = peer.Write([]byte("and the other way"))
		require.NoError(t, err)
		assert.Equal(t, "and the other way", take(t, read, 17))
		require.NoError(t, peer.Close())
		assert.Equal(t, endOfFile, testutil.Receive(t, events))
	})
}

// FreeAfterFlush writes all, says that it is the end, and gives the descriptor back.
func TestFreeAfterFlush(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		conn, _, _, peer := open(t, version)
		last := testutil.Noise(4 << 20)
		_, err := conn.Write(last)
		require.NoError(t, err)
		require.NoError(t, conn.FreeAfterFlush(testutil.Patience))
		assert.ErrorIs(t, conn.FreeAfterFlush(0), libevent.ErrClosed)
		got, err := io.ReadAll(peer)
		require.NoError(t, err)
		assert.Equal(t, last, got)
		testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "the connection is freed")
	})
}

// A peer that sends all the time gets its close_notify, and what is written, nevertheless.
func TestFreeAfterFlushWhileReading(t *testing.T) {
	conn, read, _, peer := open(t, tls.VersionTLS13)
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for p := testutil.Noise(16384); ; {
			if _, err := peer.Write(p); err != nil {
				return
			}
		}
	}()
	testutil.Receive(t, read)
	_, err := conn.WriteString("last")
	require.NoError(t, err)
	require.NoError(t, conn.FreeAfterFlush(testutil.Patience))
	got, err := io.ReadAll(peer)
	require.NoError(t, err)
	assert.Equal(t, "last", string(got))
	require.NoError(t, peer.NetConn().Close())
	testutil.Receive(t, stop)
	testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "the connection is freed")
}

// One that does not read at all is left behind at the limit.
func TestFreeAfterFlushLimit(t *testing.T) {
	conn, _, _, _ := open(t, tls.VersionTLS13)
	_, err := conn.Write(make([]byte, 32<<20))
	require.NoError(t, err)
	require.NoError(t, conn.FreeAfterFlush(50*time.Millisecond))
	testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "the connection is freed")
}

// After the peer's end there is still an answer, also one that the socket does not take at
// once: libevent stops writing when reading ends.
func TestAnswerAfterEOF(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		conn, _, events, peer := open(t, version)
		answer := testutil.Noise(8 << 20)
		_, err := conn.Write(answer)
		require.NoError(t, err)
		testutil.Eventually(t, func() bool { n := conn.Output().Len(); return n > 0 && n < len(answer) }, "the socket is full")
		require.NoError(t, peer.CloseWrite())
		require.Equal(t, endOfFile, testutil.Receive(t, events))
		got := make([]byte, len(answer))
		_, err = io.ReadFull(peer, got)
		require.NoError(t, err)
		assert.Equal(t, answer, got)
	})
}

// The peer's end and a write that then fails may come to the loop together: the closure is
// told of both.
func TestEOFWithAFailedWrite(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		accepted, connecting, events := both(t, version)
		fd, other := testutil.Socketpair(t)
		defer syscall.Close(fd)
		defer syscall.Close(other)
		base := connecting.Base()
		behind, err := base.NewEvent(fd, libevent.EvRead, func(int, libevent.What) {
			_, err := connecting.WriteString("anybody?")
			assert.NoError(t, err)
		})
		require.NoError(t, err)
		defer behind.Free()
		require.NoError(t, behind.Add(-1))
		testutil.OnLoop(t, base, func() { // which finds both ready, in this order
			assert.NoError(t, accepted.FreeAfterFlush(testutil.Patience))
			testutil.Eventually(t, func() bool { return openssl.Live().Conns == 1 }, "the peer is gone")
			_, err := syscall.Write(other, []byte{1})
			assert.NoError(t, err)
		})
		var what libevent.Events
		for what&(libevent.EventEOF|libevent.EventError) != libevent.EventEOF|libevent.EventError {
			event := testutil.Receive(t, events)
			if what |= event.what; event.what&libevent.EventEOF != 0 {
				assert.Equal(t, io.EOF, event.err)
			}
		}
		assert.Equal(t, libevent.EventReading|libevent.EventWriting|libevent.EventEOF|libevent.EventError, what)
		assert.Zero(t, connecting.Enabled())
	})
}

// A receiver that reads on may find the end, which is told all the same.
func TestReceiverFindsTheEnd(t *testing.T) {
	if testutil.PlainIO {
		t.Skip("libevent reads")
	}
	conn, _, events, peer := open(t, tls.VersionTLS13)
	p := make([]byte, 10)
	require.NoError(t, conn.SetReceiver(func(b *libevent.BufferEvent) {
		if n, _ := b.Receive(p); n == 0 {
			return
		}
		assert.NoError(t, peer.CloseWrite())
		_, err := b.Receive(p)
		assert.Equal(t, libevent.ErrWouldBlock, err)
	}))
	_, err := peer.Write([]byte("hello"))
	require.NoError(t, err)
	assert.Equal(t, endOfFile, testutil.Receive(t, events))
}

func TestFreed(t *testing.T) {
	conn, _, _, _ := open(t, tls.VersionTLS13)
	assert.NotNil(t, conn.SSL())
	conn.Free()
	assert.Nil(t, conn.SSL())
	assert.ErrorIs(t, conn.Renegotiate(), libevent.ErrClosed)
	assert.ErrorIs(t, conn.CloseWrite(), libevent.ErrClosed)
}

// A write that fails says so, with its errno.
func TestWriteToReset(t *testing.T) {
	conn, _, events, peer := open(t, tls.VersionTLS13)
	require.NoError(t, conn.Disable(rd))
	require.NoError(t, peer.NetConn().(*net.TCPConn).SetLinger(0))
	require.NoError(t, peer.NetConn().Close())
	var what told
	for i := 0; what.what == 0; i++ {
		_, err := conn.Write(make([]byte, 1000))
		require.NoError(t, err)
		select {
		case what = <-events:
		case <-time.After(10 * time.Millisecond):
			require.Less(t, i, 1000)
		}
	}
	assert.Equal(t, libevent.EventWriting|libevent.EventError, what.what)
	assert.True(t, errors.Is(what.err, syscall.ECONNRESET) || errors.Is(what.err, syscall.EPIPE), "%v", what.err)
}

// The end of what is below comes after what is below, and is read later.
func TestEndBelowWaitsForTheReader(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	x, y, err := base.NewPair(0)
	require.NoError(t, err)
	accepted, err := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}).
		NewFilter(x, libevent.OptCloseOnFree)
	require.NoError(t, err)
	conn, err := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"}).NewFilter(y, libevent.OptCloseOnFree)
	require.NoError(t, err)
	_, shaken := watch(t, accepted)
	_, events := watch(t, conn)
	require.Equal(t, connected, testutil.Receive(t, shaken))
	require.Equal(t, connected, testutil.Receive(t, events))
	require.NoError(t, conn.Disable(rd))
	want := testutil.Noise(50_000)
	_, err = accepted.Write(want)
	require.NoError(t, err)
	require.NoError(t, accepted.CloseWrite())
	_, err = x.Flush(wr, libevent.FlushFinished) // moves it whether it is read or not
	require.NoError(t, err)
	testutil.Eventually(t, func() bool { return y.Input().Len() > len(want) }, "it is there")
	testutil.OnLoop(t, base, func() { assert.Empty(t, events) })
	read, events := watch(t, conn)
	assert.True(t, take(t, read, len(want)) == string(want))
	assert.Equal(t, endOfFile, testutil.Receive(t, events))
	accepted.Free()
	conn.Free()
}

// What is below ends, too, and what is then written fails there: both are told at once.
func TestWriteAfterTheEndBelow(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	fda, fdb := testutil.Socketpair(t)
	filter := func(ctx *openssl.Context, fd int) *openssl.Conn {
		under, err := base.NewSocket(fd, libevent.OptCloseOnFree)
		require.NoError(t, err)
		conn, err := ctx.NewFilter(under, libevent.OptCloseOnFree)
		require.NoError(t, err)
		return conn
	}
	accepted := filter(server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}), fda)
	conn := filter(client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"}), fdb)
	_, shaken := watch(t, accepted)
	_, events := watch(t, conn)
	require.Equal(t, connected, testutil.Receive(t, shaken))
	require.Equal(t, connected, testutil.Receive(t, events))
	require.NoError(t, accepted.FreeAfterFlush(testutil.Patience))
	require.Equal(t, endOfFile, testutil.Receive(t, events))
	_, err := conn.WriteString("nobody is there")
	require.NoError(t, err)
	failed := testutil.Receive(t, events)
	assert.Equal(t, libevent.EventWriting|libevent.EventError, failed.what)
	assert.ErrorIs(t, failed.err, syscall.EPIPE)
	conn.Free()
}

// TLS on TLS ends once with what is below, and the loop sleeps then.
func TestCutBelow(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	fd, peer := testutil.TCPPair(t)
	conn, err := ctx.NewFilter(newSocket(t, ctx, base, fd).BufferEvent, libevent.OptCloseOnFree)
	require.NoError(t, err)
	_, events := watch(t, conn)
	cfg := &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"}
	require.NoError(t, tls.Client(tls.Client(peer, cfg), cfg).Handshake())
	require.Equal(t, connected, testutil.Receive(t, events))
	require.NoError(t, peer.CloseWrite())
	assert.Equal(t, cutOff, testutil.Receive(t, events))
	before := testutil.CPUTime()
	time.Sleep(300 * time.Millisecond) // sleep: a loop that spins would do so meanwhile
	assert.Less(t, testutil.CPUTime()-before, 100*time.Millisecond, "the loop sleeps")
	assert.Empty(t, events)
	conn.Free()
}

// later passes the first write on, and keeps the others.
type later struct {
	net.Conn
	began bool
	kept  bytes.Buffer
}

func (l *later) Write(p []byte) (int, error) {
	if l.began {
		return l.kept.Write(p)
	}
	l.began = true
	return l.Conn.Write(p)
}

// A client that says all it wants with the end of its handshake and is gone before the
// server's tickets come is heard.
func TestClientThatIsGone(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	fd, other := testutil.Socketpair(t)
	file := os.NewFile(uintptr(other), "peer")
	peer, err := net.FileConn(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}), base, fd)
	read, events := watch(t, conn)
	held := &later{Conn: peer}
	go2 := tls.Client(held, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	require.NoError(t, go2.Handshake())
	_, err = go2.Write([]byte("hello"))
	require.NoError(t, err)
	require.NoError(t, go2.CloseWrite())
	require.NoError(t, peer.SetDeadline(time.Time{})) // which is over, after that
	testutil.OnLoop(t, base, func() {                 // which sees nothing before the end
		_, err := peer.Write(held.kept.Bytes())
		assert.NoError(t, err)
		assert.NoError(t, peer.Close())
	})
	assert.Equal(t, connected, testutil.Receive(t, events))
	assert.Equal(t, "hello", take(t, read, 5))
	assert.Equal(t, endOfFile, testutil.Receive(t, events))
}
