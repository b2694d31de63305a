// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/evnet"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestReadGivesWhatIsBufferedBeforeTheEnd(t *testing.T) {
	eachTransport(t, func(t *testing.T, a, b *evnet.Conn) {
		want := testutil.Noise(100_000)
		_, err := a.Write(want)
		require.NoError(t, err)
		require.NoError(t, a.Close())
		got := testutil.Receive(t, readAll(b))
		assert.NoError(t, got.err)
		same(t, want, got.v)
		_, err = b.Read(make([]byte, 1))
		assert.Equal(t, io.EOF, err)
	})
}

func TestLargeTransfersBothWays(t *testing.T) {
	eachTransport(t, func(t *testing.T, a, b *evnet.Conn) {
		exchange(t, testutil.Noise(8<<20), a, b)
	})
}

// When the peer does not read, Write waits and memory does not grow on either side.
func TestSlowReader(t *testing.T) {
	eachTransport(t, func(t *testing.T, a, b *evnet.Conn) {
		const total = 32 << 20
		wrote := writeAll(a, testutil.Noise(total))
		// waiting returns how many bytes are held once that number has stopped changing.
		waiting := func() (before int) {
			for last := 0; before == 0 || before != last; {
				last = before
				time.Sleep(100 * time.Millisecond) // sleep: to see that nothing changes takes time
				before = evnet.Buffered(a, b)
			}
			return before
		}
		held := waiting()
		cpu := testutil.CPUTime()
		time.Sleep(300 * time.Millisecond) // sleep: a loop that spins would do so meanwhile
		assert.Less(t, testutil.CPUTime()-cpu, 150*time.Millisecond, "the loop spins")
		assert.LessOrEqual(t, held, 4*(256<<10)+2*(256<<10), "bytes held")
		assert.Empty(t, wrote, "Write does not wait")
		n, err := io.Copy(io.Discard, io.LimitReader(b, total))
		assert.NoError(t, err)
		assert.EqualValues(t, total, n)
		assert.NoError(t, testutil.Receive(t, wrote).err)
	})
}

func TestReadDeadline(t *testing.T) {
	eachTransport(t, func(t *testing.T, a, b *evnet.Conn) {
		p := make([]byte, 10)
		require.NoError(t, b.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
		_, err := b.Read(p)
		assert.True(t, timedOut(err), "%v", err)

		// A passed deadline fails Read even if there is input. A new deadline lets Read work again.
		_, err = a.Write([]byte("x"))
		require.NoError(t, err)
		_, err = b.Read(p)
		assert.True(t, timedOut(err), "%v", err)
		require.NoError(t, b.SetReadDeadline(time.Now().Add(testutil.Patience)))
		n, err := b.Read(p)
		assert.NoError(t, err)
		assert.Equal(t, "x", string(p[:n]))

		// A new deadline ends a Read that waits.
		read := async(func() (int, error) { return b.Read(p) })
		require.NoError(t, b.SetReadDeadline(time.Unix(1, 0)))
		assert.True(t, timedOut(testutil.Receive(t, read).err))
		require.NoError(t, b.SetReadDeadline(time.Time{}))
		read = async(func() (int, error) { return b.Read(p) })
		_, err = a.Write([]byte("y"))
		require.NoError(t, err)
		assert.Equal(t, 1, testutil.Receive(t, read).v)
	})
}

// The peer gets exactly the bytes that Write counted before its deadline.
func TestWriteDeadlineCounts(t *testing.T) {
	eachTransport(t, func(t *testing.T, a, b *evnet.Conn) {
		want := testutil.Noise(32 << 20)
		require.NoError(t, a.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
		n, err := a.Write(want)
		assert.True(t, timedOut(err), "%v", err)
		assertOp(t, err, "write", err)
		assert.Less(t, n, len(want))
		require.NoError(t, a.SetWriteDeadline(time.Now().Add(testutil.Patience)))
		got := readAll(b)
		m, err := a.Write(want[n : n+1000])
		assert.NoError(t, err)
		require.NoError(t, a.Close())
		same(t, want[:n+m], testutil.Receive(t, got).v)
	})
}

// A deadline that is moved away while it is about to pass does not pass.
func TestDeadlineMoves(t *testing.T) {
	a, b := tcpPair(t, running(t))
	read := async(func() (int, error) { return b.Read(make([]byte, 1)) })
	for range 100 {
		require.NoError(t, b.SetReadDeadline(time.Now().Add(time.Second)))
		time.Sleep(12 * time.Millisecond) // sleep: some of the time that a deadline has
	}
	require.NoError(t, b.SetReadDeadline(time.Time{}))
	_, err := a.Write([]byte("x"))
	require.NoError(t, err)
	assert.NoError(t, testutil.Receive(t, read).err)
}

func TestCloseUnblocks(t *testing.T) {
	eachTransport(t, func(t *testing.T, a, _ *evnet.Conn) {
		read := async(func() (int, error) { return a.Read(make([]byte, 1)) })
		write := writeAll(a, make([]byte, 64<<20))
		testutil.Eventually(t, func() bool { return evnet.Waiting(a) }, "Read and Write wait")
		require.NoError(t, a.SetLinger(0))
		require.NoError(t, a.Close())
		assertOp(t, testutil.Receive(t, read).err, "read", net.ErrClosed)
		assertOp(t, testutil.Receive(t, write).err, "write", net.ErrClosed)

		_, err := a.Read(nil)
		assert.True(t, isClosed(err), "%v", err)
		_, err = a.Write(nil)
		assert.True(t, isClosed(err), "%v", err)
		assertOp(t, a.Close(), "close", net.ErrClosed)
		assertOp(t, a.SetDeadline(time.Now()), "set", net.ErrClosed)
		assertOp(t, a.CloseWrite(), "close", net.ErrClosed)
		assertOp(t, a.SetNoDelay(true), "set", net.ErrClosed)
		assert.NotNil(t, a.LocalAddr())
		assert.NotNil(t, a.RemoteAddr())
	})
}

// Close does not wait, and everything that was written arrives.
func TestCloseFlushes(t *testing.T) {
	eachTransport(t, func(t *testing.T, a, b *evnet.Conn) {
		n := fill(t, a)
		require.NoError(t, a.Close())
		got := testutil.Receive(t, readAll(b))
		assert.NoError(t, got.err)
		assert.Len(t, got.v, n)
	})
}

// One event may report the peer's end together with a failed write. Read then returns io.EOF.
func TestEndTogetherWithAFailedWrite(t *testing.T) {
	base := running(t)
	fd, _ := testutil.TCPPair(t)
	bev, err := base.NewSocket(fd, libevent.OptCloseOnFree)
	require.NoError(t, err)
	c, err := evnet.NewConn(bev)
	require.NoError(t, err)
	defer c.Close()
	testutil.OnLoop(t, base, func() {
		assert.NoError(t, bev.Disable(libevent.EvRead)) // as the loop does before the event closure
		assert.NoError(t, bev.TriggerEvent(libevent.EventReading|libevent.EventEOF|libevent.EventWriting|libevent.EventError))
	})
	_, err = c.Read(make([]byte, 1))
	assert.Equal(t, io.EOF, err)
	_, err = c.Write([]byte("x"))
	assert.Error(t, err)
}

// After a failed write Close frees the bufferevent at once and does not wait for the limit.
func TestCloseAfterAFailedWrite(t *testing.T) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			base := running(t)
			a, b := tr.pair(t, base)
			fill(t, a)
			require.NoError(t, a.SetLinger(3600))
			require.NoError(t, b.SetLinger(0))
			require.NoError(t, b.Close())
			// On a slow machine fill's bytes may all have been sent. Then only another write fails.
			testutil.Eventually(t, func() bool { _, err := a.Write([]byte("x")); return err != nil }, "Write fails")
			require.NoError(t, a.Close())
			testutil.Eventually(t, func() bool { return base.Stats().BufferEvents == 0 }, "both bufferevents are freed")
		})
	}
}

// Close gives up after its limit when the peer never reads.
func TestCloseFlushesWithALimit(t *testing.T) {
	base := running(t)
	a, _ := tcpPair(t, base)
	fill(t, a)
	require.NoError(t, a.SetLinger(1))
	require.NoError(t, a.Close())
	testutil.Eventually(t, func() bool { return base.Stats().BufferEvents == 1 }, "Close gives up")
}

func TestHalfClose(t *testing.T) {
	eachTransport(t, func(t *testing.T, a, b *evnet.Conn) {
		_, err := a.Write([]byte("question"))
		require.NoError(t, err)
		require.NoError(t, a.CloseWrite())
		_, err = a.Write([]byte("more"))
		assertOp(t, err, "write", syscall.EPIPE)
		got := testutil.Receive(t, readAll(b))
		assert.NoError(t, got.err)
		assert.Equal(t, "question", string(got.v))
		_, err = b.Write([]byte("answer"))
		require.NoError(t, err)
		require.NoError(t, b.Close())
		got = testutil.Receive(t, readAll(a))
		assert.NoError(t, got.err)
		assert.Equal(t, "answer", string(got.v))
	})
}

func TestCloseWriteEndsAWriteThatWaits(t *testing.T) {
	eachTransport(t, func(t *testing.T, a, _ *evnet.Conn) {
		write := writeAll(a, make([]byte, 64<<20))
		testutil.Eventually(t, func() bool { return evnet.Buffered(a) > 0 }, "Write waits")
		require.NoError(t, a.CloseWrite())
		assertOp(t, testutil.Receive(t, write).err, "write", syscall.EPIPE)
	})
}

func TestCloseRead(t *testing.T) {
	eachTransport(t, func(t *testing.T, a, b *evnet.Conn) {
		read := async(func() (int, error) { return a.Read(make([]byte, 1)) })
		require.NoError(t, a.CloseRead())
		assert.Equal(t, io.EOF, testutil.Receive(t, read).err)
		_, err := b.Write(make([]byte, 4<<20)) // a drops it, so Write returns
		require.NoError(t, err)
		_, err = a.Read(make([]byte, 1))
		assert.Equal(t, io.EOF, err)
		_, err = a.Write([]byte("y"))
		require.NoError(t, err)
		n, err := b.Read(make([]byte, 2))
		assert.Equal(t, 1, n)
		assert.NoError(t, err)
	})
}

func TestReset(t *testing.T) {
	a, b := tcpPair(t, running(t))
	read := async(func() (int, error) { return b.Read(make([]byte, 1)) })
	require.NoError(t, a.SetLinger(0))
	require.NoError(t, a.Close())
	assertOp(t, testutil.Receive(t, read).err, "read", syscall.ECONNRESET)
	_, err := b.Write([]byte("x"))
	assertOp(t, err, "write", syscall.EPIPE)
}

// A peer that goes away with unread input ends both directions at once, and libevent may tell a
// filter of both in one event.
func TestResetWithOutput(t *testing.T) {
	for _, tr := range transports {
		if tr.name != "unix" && tr.name != "filter" {
			continue // the others do not fail in both directions
		}
		t.Run(tr.name, func(t *testing.T) {
			a, b := tr.pair(t, running(t))
			fill(t, b)
			read := async(func() (int, error) { return b.Read(make([]byte, 1)) })
			require.NoError(t, a.SetLinger(0))
			require.NoError(t, a.Close())
			// The system tells of the reset once, to the reader or to the writer.
			if err := testutil.Receive(t, read).err; err != io.EOF {
				assertOp(t, err, "read", syscall.ECONNRESET)
				assert.ErrorContains(t, err, ": read: ")
			}
			testutil.Eventually(t, func() bool {
				_, err := b.Write([]byte("x"))
				return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
			}, "Write fails")
		})
	}
}

func TestBrokenPipe(t *testing.T) {
	for _, tr := range transports {
		if tr.name == "tcp" {
			continue // the system answers data for a closed TCP socket with a reset
		}
		t.Run(tr.name, func(t *testing.T) {
			a, b := tr.pair(t, running(t))
			_, err := b.Write([]byte("x"))
			require.NoError(t, err)
			_, err = a.Read(make([]byte, 1)) // after which the handshake of TLS is done
			require.NoError(t, err)
			require.NoError(t, b.Close())
			_, err = a.Read(make([]byte, 1))
			assert.Equal(t, io.EOF, err)
			testutil.Eventually(t, func() bool { _, err = a.Write([]byte("x")); return err != nil }, "an error")
			if !tr.secure() { // TLS has errors of its own
				assertOp(t, err, "write", syscall.EPIPE)
			}
		})
	}
}

// When a TLS connection is cut, both directions fail, whichever of them notices it first.
func TestTLSCut(t *testing.T) {
	for name, begin := range map[string]func(*evnet.Conn) error{
		"reading": func(c *evnet.Conn) error { _, err := c.Read(make([]byte, 1)); return err },
		"writing": func(c *evnet.Conn) error {
			_, err := c.Write(make([]byte, 64<<20))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := transports[len(transports)-1].pair(t, running(t))
			_, err := b.Write([]byte("x"))
			require.NoError(t, err)
			_, err = a.Read(make([]byte, 1))
			require.NoError(t, err)
			first := async(func() (struct{}, error) { return struct{}{}, begin(a) })
			require.NoError(t, b.SetLinger(0))
			require.NoError(t, b.Close())
			assert.Error(t, testutil.Receive(t, first).err)
			require.NoError(t, a.SetDeadline(time.Now().Add(testutil.Patience)))
			_, err = a.Write(make([]byte, 64<<20))
			assertOp(t, err, "write", syscall.EPIPE)
			_, err = a.Read(make([]byte, 1))
			assert.Error(t, err)
			assert.False(t, timedOut(err))
		})
	}
}

// A Write over a pair waits until the other end takes bytes. It fails when the other end is freed.
func TestPairWhosePeerGoes(t *testing.T) {
	base := running(t)
	x, y, err := base.NewPair(0)
	require.NoError(t, err)
	a, err := evnet.NewConn(x)
	require.NoError(t, err)
	write := writeAll(a, make([]byte, 4<<20))
	testutil.Eventually(t, func() bool { return evnet.Buffered(a) > 0 }, "Write waits")
	y.Free()
	assertOp(t, testutil.Receive(t, write).err, "write", syscall.EPIPE)
	_, err = a.Read(make([]byte, 1))
	assert.Equal(t, io.EOF, err)
	assert.NoError(t, a.Close())
}

func TestBufferEventFreedBeneath(t *testing.T) {
	base := running(t)
	x, y, err := base.NewPair(0)
	require.NoError(t, err)
	a, err := evnet.NewConn(x)
	require.NoError(t, err)
	defer y.Free()
	read := async(func() (int, error) { return a.Read(make([]byte, 1)) })
	write := writeAll(a, make([]byte, 4<<20))
	testutil.Eventually(t, func() bool { return evnet.Waiting(a) }, "Read and Write wait")
	x.Free()
	assertOp(t, testutil.Receive(t, read).err, "read", net.ErrClosed)
	assertOp(t, testutil.Receive(t, write).err, "write", net.ErrClosed)
	assert.True(t, isClosed(a.Close()))
}

func TestBaseFreedBeneath(t *testing.T) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			base := newBase(t)
			stop := background(t, base)
			a, _ := tr.pair(t, base)
			l, err := evnet.Listen(base, "tcp", "127.0.0.1:0")
			require.NoError(t, err)
			read := async(func() (int, error) { return a.Read(make([]byte, 1)) })
			write := writeAll(a, make([]byte, 64<<20))
			accept := async(l.Accept)
			testutil.Eventually(t, func() bool { return evnet.Waiting(a) }, "Read and Write wait")
			stop()
			readErr, writeErr := testutil.Receive(t, read).err, testutil.Receive(t, write).err
			if strings.HasSuffix(tr.name, "pair") { // the base may free the other end first
				assert.Error(t, readErr)
				assert.Error(t, writeErr)
			} else {
				assertOp(t, readErr, "read", net.ErrClosed)
				assertOp(t, writeErr, "write", net.ErrClosed)
			}
			assertOp(t, testutil.Receive(t, accept).err, "accept", net.ErrClosed)
			_, err = a.Write([]byte("x"))
			if strings.HasSuffix(tr.name, "pair") {
				assert.Error(t, err)
			} else {
				assert.True(t, isClosed(err), "%v", err)
			}
			_, err = evnet.Listen(base, "tcp", "127.0.0.1:0")
			assert.True(t, isClosed(err), "%v", err)
			_, err = (&evnet.Dialer{Loop: base}).Dial("tcp", l.Addr().String())
			assert.True(t, isClosed(err), "%v", err)
			assert.True(t, isClosed(l.Close()))
		})
	}
}

// While the loop is stopped, deadlines still pass. When it runs again, reading goes on.
func TestLoopStopsAndGoesOn(t *testing.T) {
	base := newBase(t)
	defer func() { assert.NoError(t, base.Free()) }()
	run := func() (stop func()) {
		done := make(chan error, 1)
		go func() { done <- base.Loop(libevent.LoopNoExitOnEmpty) }()
		return func() {
			require.NoError(t, base.LoopExit(0))
			assert.NoError(t, testutil.Receive(t, done))
		}
	}
	stop := run()
	a, b := tcpPair(t, base)
	stop()
	_, err := a.Write([]byte("x"))
	require.NoError(t, err)
	require.NoError(t, b.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, err = b.Read(make([]byte, 1))
	assert.True(t, timedOut(err), "%v", err)
	require.NoError(t, b.SetReadDeadline(time.Time{}))
	defer run()()
	n, err := b.Read(make([]byte, 1))
	assert.Equal(t, 1, n)
	assert.NoError(t, err)
	_, _ = a.Close(), b.Close()
}

// On the loop's goroutine calls that would wait fail, and all others work.
func TestOnTheLoop(t *testing.T) {
	eachTransport(t, func(t *testing.T, a, b *evnet.Conn) {
		base := evnet.BaseOf(a)
		l, err := evnet.Listen(base, "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		testutil.OnLoop(t, base, func() {
			_, err := a.Read(make([]byte, 1))
			assertOp(t, err, "read", evnet.ErrOnLoop)
			n, err := a.Write([]byte("x"))
			assert.Equal(t, 1, n)
			assert.NoError(t, err)
			n, err = a.Write(make([]byte, 64<<20))
			assert.Less(t, n, 64<<20)
			assertOp(t, err, "write", evnet.ErrOnLoop)
			_, err = l.Accept()
			assertOp(t, err, "accept", evnet.ErrOnLoop)
			_, err = (&evnet.Dialer{Loop: base}).Dial("tcp", l.Addr().String())
			assertOp(t, err, "dial", evnet.ErrOnLoop)
			assert.NoError(t, l.Close())
		})
		n, err := b.Read(make([]byte, 1))
		assert.Equal(t, 1, n)
		assert.NoError(t, err)
		require.NoError(t, b.SetLinger(0))
		testutil.OnLoop(t, base, func() { assert.NoError(t, b.Close()) })
	})
}

func TestAddresses(t *testing.T) {
	base := running(t)
	for _, tr := range transports {
		a, b := tr.pair(t, base)
		assert.Equal(t, a.LocalAddr().String(), b.RemoteAddr().String(), tr.name)
		switch tr.name {
		case "tcp":
			assert.IsType(t, &net.TCPAddr{}, a.RemoteAddr())
			assert.Equal(t, b.LocalAddr().String(), a.RemoteAddr().String())
		case "unix", "filter", "tls on sockets", "tls":
			assert.IsType(t, &net.UnixAddr{}, a.RemoteAddr())
		default:
			assert.Equal(t, "pair", a.LocalAddr().Network())
		}
	}
}

func TestOptions(t *testing.T) {
	base := running(t)
	for _, tr := range transports {
		a, _ := tr.pair(t, base)
		errs := []error{
			a.SetNoDelay(false), a.SetKeepAlive(true), a.SetKeepAlivePeriod(time.Minute),
			a.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3}),
		}
		for i, err := range errs {
			if tr.name == "tcp" {
				assert.NoError(t, err, i)
			} else {
				assertOp(t, err, "set", errors.ErrUnsupported)
			}
		}
		assert.NoError(t, a.SetLinger(5))
	}
}

func TestNewConn(t *testing.T) {
	base := running(t)
	_, err := evnet.NewConn(nil)
	assert.Error(t, err)

	x, y, err := base.NewPair(0)
	require.NoError(t, err)
	_, err = y.WriteString("before")
	require.NoError(t, err)
	require.NoError(t, x.Enable(libevent.EvRead))
	testutil.Eventually(t, func() bool { return x.Input().Len() == 6 }, "the data came")
	require.NoError(t, y.CloseWrite())
	testutil.Eventually(t, func() bool { return x.Err() == io.EOF }, "the end came")
	require.NoError(t, x.Disable(libevent.EvWrite))
	c, err := evnet.NewConn(x)
	require.NoError(t, err)
	got := testutil.Receive(t, readAll(c))
	assert.NoError(t, got.err)
	assert.Equal(t, "before", string(got.v))
	require.NoError(t, y.Enable(libevent.EvRead))
	_, err = c.Write([]byte("after"))
	require.NoError(t, err)
	testutil.Eventually(t, func() bool { return y.Input().Len() == 5 }, "the data was sent")
	assert.NoError(t, c.Close())

	_, err = evnet.NewConn(x)
	assert.ErrorIs(t, err, net.ErrClosed)
	y.Free()
	_, y, err = base.NewPair(0)
	require.NoError(t, err)
	f, err := libevent.NewFilter(y, nil, nil, libevent.OptCloseOnFree)
	require.NoError(t, err)
	_, err = evnet.NewConn(y)
	assert.Error(t, err, "below a filter")
	f.Free()
}

// A Conn can be used before its socket is connected: written data is sent afterwards.
func TestNewConnWhileConnecting(t *testing.T) {
	base := running(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	c, err := evnet.NewConn(bev)
	require.NoError(t, err)
	assert.NotNil(t, c.RemoteAddr())
	_, err = c.Write([]byte("early"))
	require.NoError(t, err)
	require.NoError(t, bev.Connect("tcp", l.Addr().String()))
	peer, err := l.Accept()
	require.NoError(t, err)
	testutil.Eventually(t, func() bool { return c.RemoteAddr().String() == l.Addr().String() }, "the socket is connected")
	assert.NoError(t, c.CloseWrite())
	assert.Equal(t, "early", string(testutil.Receive(t, readAll(peer)).v))
	assert.NoError(t, peer.Close())
	assert.Empty(t, testutil.Receive(t, readAll(c)).v)
	assert.NoError(t, c.Close())
	assert.Equal(t, l.Addr().String(), c.RemoteAddr().String())
	assert.NoError(t, l.Close())

	bev, err = base.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	c, err = evnet.NewConn(bev)
	require.NoError(t, err)
	read := async(func() (int, error) { return c.Read(make([]byte, 1)) })
	require.NoError(t, bev.Connect("tcp", testutil.Refusing(t).String()))
	assertOp(t, testutil.Receive(t, read).err, "read", syscall.ECONNREFUSED)
	_, err = c.Write([]byte("x"))
	assertOp(t, err, "write", syscall.ECONNREFUSED)
	assert.NoError(t, c.Close())
}

// Close may run at the same time as any other call.
func TestCloseRaces(t *testing.T) {
	loop := newGroup(t)
	background(t, loop)
	for range 100 {
		a, b, err := transports[0].connect(t, loop)
		require.NoError(t, err)
		var wg sync.WaitGroup
		for _, c := range []net.Conn{a, b} {
			for _, fn := range []func(){
				func() { _, _ = io.Copy(io.Discard, c) },
				func() { _, _ = c.Write(make([]byte, 1<<20)) },
				func() { _ = c.SetDeadline(time.Now().Add(time.Millisecond)) },
				func() { _ = c.(*evnet.Conn).CloseWrite() },
				func() { _ = c.(*evnet.Conn).SetNoDelay(true); _ = c.LocalAddr() },
				func() { _ = c.Close() },
			} {
				wg.Go(fn)
			}
		}
		wg.Wait()
	}
	nothingLeft(t, loop)
}

func TestThousandConnections(t *testing.T) {
	const conns, each = 1000, 20
	loop := newGroup(t)
	background(t, loop)
	l, err := evnet.Listen(loop, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go serve(l, func(c net.Conn) { _, _ = io.Copy(c, c) })
	var done atomic.Int64
	var wg sync.WaitGroup
	d := evnet.Dialer{Loop: loop}
	for range conns {
		wg.Go(func() {
			c, err := d.Dial("tcp", l.Addr().String())
			if !assert.NoError(t, err) {
				return
			}
			defer c.Close()
			p, q := testutil.Noise(300), make([]byte, 300)
			for range each {
				if _, err := c.Write(p); !assert.NoError(t, err) {
					return
				}
				if _, err := io.ReadFull(c, q); !assert.NoError(t, err) {
					return
				}
				same(t, p, q)
			}
			done.Add(1)
		})
	}
	wg.Wait()
	assert.EqualValues(t, conns, done.Load())
	require.NoError(t, l.Close())
	nothingLeft(t, loop)
}
