// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/host"
	"github.com/go-libevent/libevent/internal/testutil"
)

// Free closes the descriptor exactly if OptCloseOnFree was given.
func TestCloseOnFree(t *testing.T) {
	for _, closes := range []bool{true, false} {
		base := testutil.NewBase(t)
		a, b := testutil.Socketpair(t)
		opts := libevent.Options(0)
		if closes {
			opts = libevent.OptCloseOnFree
		}
		bev, err := base.NewSocket(a, opts)
		require.NoError(t, err)
		bev.Free()
		// At once: no loop has run.
		_, err = syscall.Write(a, []byte("x"))
		if closes {
			assert.ErrorIs(t, err, syscall.EBADF)
		} else {
			assert.NoError(t, err)
			assert.NoError(t, syscall.Close(a))
		}
		assert.NoError(t, syscall.Close(b))
	}
}

// A freed bufferevent says that it is closed, and not what its kind cannot do.
func TestMethodsOfFreedBufferEvent(t *testing.T) {
	h, base := testutil.NewHost(t, libevent.WrapConfig{})
	other := testutil.NewBase(t)
	socket, _ := testutil.NewSocket(t, base, 0)
	loopOnly, _ := testutil.NewSocket(t, base, libevent.OptLoopOnly)
	end, _ := testutil.NewPair(t, base)
	under, _ := testutil.NewSocket(t, base, 0)
	filter := testutil.NewFilter(t, under, nil, nil, libevent.OptCloseOnFree)
	fd, _ := testutil.TCPPair(t)
	native := h.Echo(fd, host.CloseOnFree)
	defer host.FreeBufferEvent(native)
	wrapped, err := base.WrapBufferEvent(native)
	require.NoError(t, err)
	for kind, bev := range map[string]*libevent.BufferEvent{
		"socket": socket, "OptLoopOnly": loopOnly, "pair": end, "filter": filter, "wrapped": wrapped,
	} {
		t.Run(kind, func(t *testing.T) {
			bev.Free()
			bev.Free()
			_, werr := bev.Write([]byte("x"))
			_, serr := bev.WriteString("x")
			_, rerr := bev.Read(make([]byte, 1))
			_, _, merr := bev.Watermark(rd)
			_, ferr := bev.Flush(rd, libevent.FlushNormal)
			_, nerr := libevent.NewFilter(bev, nil, nil, 0)
			for i, err := range []error{werr, serr, rerr, merr, ferr, nerr,
				bev.Enable(rd), bev.Disable(rd), bev.SetTimeouts(1, 1), bev.SetWatermark(rd, 1, 2),
				bev.SetCallbacks(nil, nil, nil), bev.WriteBuffer(testutil.NewBuffer(t, "x")), bev.ReadBuffer(testutil.NewBuffer(t, "")),
				bev.Connect("tcp", "127.0.0.1:1"), bev.ConnectHostname(nil, "tcp", "127.0.0.1", 1), bev.SetFD(-1), bev.ReplaceFD(-1),
				bev.SetBase(other), bev.SetRateLimit(nil), bev.SetPriority(0), bev.CloseWrite(), bev.FreeAfterFlush(0),
				bev.Input().Drain(1), bev.Input().Peek(func([][]byte) {}),
			} {
				assert.ErrorIs(t, err, libevent.ErrClosed, "%d", i)
				assert.ErrorIs(t, err, net.ErrClosed, "%d", i)
			}
			assert.Zero(t, bev.Enabled())
			assert.Equal(t, -1, bev.FD())
			assert.NoError(t, bev.Err())
			assert.Same(t, base, bev.Base())
		})
	}
}

func TestFreeWithUnwrittenData(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	_, err := bev.Write(testutil.Noise(1 << 20))
	require.NoError(t, err)
	bev.Free()
	testutil.Dispatch(t, base)
	got, err := io.ReadAll(peer)
	require.NoError(t, err)
	assert.Empty(t, got, "Free drops what is unwritten")
}

func TestFreeWithQueuedCallbacks(t *testing.T) {
	base := testutil.NewBase(t)
	var calls atomic.Int32
	for range 100 {
		a, b := testutil.NewPair(t, base)
		for _, bev := range []*libevent.BufferEvent{a, b} {
			count := func(*libevent.BufferEvent) { calls.Add(1) }
			require.NoError(t, bev.SetCallbacks(count, count, func(*libevent.BufferEvent, libevent.Events) { calls.Add(1) }))
			require.NoError(t, bev.Enable(rd))
		}
		_, err := a.WriteString("queues a read for b and a write for a")
		require.NoError(t, err)
		_, err = b.Flush(wr, libevent.FlushFinished)
		require.NoError(t, err)
		a.Free()
		b.Free()
	}
	testutil.Dispatch(t, base)
	assert.Zero(t, calls.Load())
	assert.Zero(t, base.Stats().BufferEvents)
}

// CloseWrite sends what is buffered, and then the end. Reading goes on.
func TestCloseWrite(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	data := testutil.Noise(4 << 20)
	_, err := bev.Write(data)
	require.NoError(t, err)
	require.NoError(t, bev.CloseWrite())
	require.NoError(t, bev.CloseWrite(), "again")
	_, err = bev.WriteString("too late")
	assert.ErrorIs(t, err, syscall.EPIPE)
	assert.ErrorIs(t, bev.WriteBuffer(testutil.NewBuffer(t, "too late")), syscall.EPIPE)
	assert.ErrorIs(t, bev.Output().Add([]byte("too late")), libevent.ErrFrozen)
	require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		assert.Equal(t, "answer", testutil.Content(t, b.Input()))
		b.Free()
	}, nil, nil))
	require.NoError(t, bev.Enable(rd))
	sent := make(chan []byte, 1)
	go func() {
		p, _ := io.ReadAll(peer)
		_, _ = peer.Write([]byte("answer"))
		sent <- p
	}()
	testutil.Dispatch(t, base)
	testutil.Same(t, data, testutil.Receive(t, sent))

	fdless, err := base.NewSocket(-1, 0)
	require.NoError(t, err)
	assert.ErrorIs(t, fdless.CloseWrite(), syscall.ENOTCONN)
}

func TestCloseWriteOfPair(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	_, err := a.WriteString("all of it")
	require.NoError(t, err)
	require.NoError(t, a.CloseWrite())
	var got []byte
	require.NoError(t, b.SetCallbacks(func(b *libevent.BufferEvent) {
		p, _ := io.ReadAll(b.Input())
		got = append(got, p...)
	}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
		assert.Equal(t, libevent.EventReading|libevent.EventEOF, what)
		assert.Equal(t, "all of it", string(got))
	}))
	require.NoError(t, b.Enable(rd))
	testutil.Dispatch(t, base)
	assert.ErrorIs(t, b.Err(), io.EOF)
}

func TestCloseWriteWithoutPeer(t *testing.T) {
	fd := testutil.TCPSocket(t)
	base := testutil.NewBase(t)
	bev, err := base.NewSocket(fd, libevent.OptCloseOnFree)
	require.NoError(t, err)
	assert.ErrorIs(t, bev.CloseWrite(), syscall.ENOTCONN)
}

func TestFreeAfterFlushSendsEverything(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.SetCallbacks(nil,
		func(*libevent.BufferEvent) { assert.Fail(t, "no closure starts") }, nil))
	data := testutil.Noise(4 << 20)
	_, err := bev.Write(data)
	require.NoError(t, err)
	require.NoError(t, bev.FreeAfterFlush(testutil.Patience))
	_, err = bev.WriteString("x")
	assert.ErrorIs(t, err, libevent.ErrClosed)
	assert.ErrorIs(t, bev.FreeAfterFlush(0), libevent.ErrClosed)
	got := testutil.ReadAll(peer)
	testutil.Dispatch(t, base)
	testutil.Same(t, data, testutil.Receive(t, got))
	assert.Zero(t, base.Stats().BufferEvents)
}

// When the limit is over the peer gets a reset: a part of the output must not look like
// all of it.
// A Write at the same moment either fails, or its bytes are sent.
func TestFreeAfterFlushWhileAnotherGoroutineWrites(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	for range 500 {
		fds, err := testutil.Sockets()
		require.NoError(t, err)
		peer := os.NewFile(uintptr(fds[1]), "peer")
		bev, err := base.NewSocket(fds[0], libevent.OptCloseOnFree|libevent.OptPlainIO)
		require.NoError(t, err)
		start, written := make(chan struct{}), make(chan int)
		go func() {
			<-start
			n := 0
			for ; n < 300; n++ {
				if _, err := bev.WriteString("x"); err != nil {
					assert.ErrorIs(t, err, libevent.ErrClosed)
					break
				}
			}
			written <- n
		}()
		close(start)
		for range 3 { // the other goroutine begins to write
			runtime.Gosched()
		}
		require.NoError(t, bev.FreeAfterFlush(testutil.Patience))
		got, err := io.ReadAll(peer)
		require.NoError(t, err)
		require.NoError(t, peer.Close())
		if !assert.Equal(t, <-written, len(got)) {
			return
		}
	}
}

// The peer's end is about to be told when FreeAfterFlush is called.
func TestFreeAfterFlushGoesOnAfterAnEnd(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, libevent.OptCloseOnFree)
		testutil.Background(t, base)
		last := testutil.Noise(4 << 20)
		testutil.OnLoop(t, base, func() {
			_, err := bev.Write(last)
			assert.NoError(t, err)
			assert.NoError(t, bev.TriggerEvent(libevent.EventReading|libevent.EventEOF))
			assert.NoError(t, bev.FreeAfterFlush(testutil.Patience))
		})
		testutil.Same(t, last, testutil.Receive(t, testutil.ReadAll(peer)))
	})
}

func TestFreeAfterFlushEndsAtItsLimit(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	_, err := bev.Write(make([]byte, 32<<20))
	require.NoError(t, err)
	start := time.Now()
	require.NoError(t, bev.FreeAfterFlush(50*time.Millisecond))
	testutil.Dispatch(t, base)
	assert.GreaterOrEqual(t, time.Since(start), 50*time.Millisecond)
	assert.Zero(t, base.Stats().BufferEvents)
	_, err = io.Copy(io.Discard, peer)
	assert.ErrorIs(t, err, syscall.ECONNRESET)
}

// A filter is on top, or was freed and is not gone yet. The refusal changes nothing, so that no output
// is lost.
func TestFreeAfterFlushBelowAFilter(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, libevent.OptCloseOnFree)
	filter := testutil.NewFilter(t, bev, nil, nil, 0)
	_, err := filter.WriteString("all of it")
	require.NoError(t, err)
	assert.ErrorIs(t, bev.FreeAfterFlush(testutil.Patience), syscall.EINVAL)
	flushed := make(chan error, 1)
	filter.AfterFree(func() { flushed <- bev.FreeAfterFlush(testutil.Patience) })
	testutil.Background(t, base)
	testutil.OnLoop(t, base, func() {
		filter.Free()
		assert.ErrorIs(t, bev.FreeAfterFlush(testutil.Patience), syscall.EINVAL)
	})
	require.NoError(t, testutil.Receive(t, flushed))
	got, err := io.ReadAll(peer)
	require.NoError(t, err)
	assert.Equal(t, "all of it", string(got))
}

func TestFreeAfterFlushEndsWithAnError(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	_, err := bev.Write(make([]byte, 32<<20))
	require.NoError(t, err)
	require.NoError(t, bev.FreeAfterFlush(time.Hour))
	require.NoError(t, peer.SetLinger(0))
	require.NoError(t, peer.Close())
	testutil.Dispatch(t, base)
	assert.Zero(t, base.Stats().BufferEvents)
}

// The peer reads nothing, so only the timeout ends the flush: one that was set before, or one of the
// socket below a filter, which is set when the filter is flushing already.
func TestFreeAfterFlushEndsWithATimeout(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.SetTimeouts(0, 10*time.Millisecond))
	_, err := bev.Write(make([]byte, 32<<20))
	require.NoError(t, err)
	require.NoError(t, bev.FreeAfterFlush(time.Hour))
	testutil.Dispatch(t, base)
	assert.Zero(t, base.Stats().BufferEvents)

	under, _ := testutil.NewSocket(t, base, 0)
	top := testutil.NewFilter(t, under, nil, nil, libevent.OptCloseOnFree)
	_, err = top.Write(make([]byte, 32<<20))
	require.NoError(t, err)
	require.NoError(t, top.FreeAfterFlush(time.Hour))
	require.NoError(t, under.SetTimeouts(0, 10*time.Millisecond))
	testutil.Dispatch(t, base)
	assert.Zero(t, base.Stats().BufferEvents)
}

func TestFreeAfterFlushAfterAnErrorBelowAFilter(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	f := testutil.NewFilter(t, bev, nil, nil, libevent.OptCloseOnFree)
	var what libevent.Events
	require.NoError(t, f.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, w libevent.Events) { what |= w }))
	_, err := f.Write(testutil.Noise(32 << 20))
	require.NoError(t, err)
	require.NoError(t, peer.SetLinger(0))
	require.NoError(t, peer.Close())
	testutil.Dispatch(t, base)
	require.Equal(t, libevent.EventError|libevent.EventWriting, what)
	require.NoError(t, f.FreeAfterFlush(time.Hour))
	testutil.Dispatch(t, base)
	assert.Zero(t, base.Stats().BufferEvents)
}

func TestFreeAfterFlushWithNothingToWrite(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.FreeAfterFlush(time.Hour))
	_, err := peer.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF, "before the loop runs")
	testutil.Dispatch(t, base)
	assert.Zero(t, base.Stats().BufferEvents)
}

func TestFreeAfterFlushWithoutDescriptor(t *testing.T) {
	base := testutil.NewBase(t)
	unconnected, err := base.NewSocket(-1, 0)
	require.NoError(t, err)
	_, err = unconnected.WriteString("nowhere to go")
	require.NoError(t, err)
	require.NoError(t, unconnected.FreeAfterFlush(time.Hour))
	testutil.Dispatch(t, base)
	assert.Zero(t, base.Stats().BufferEvents)
}

func TestFreeAfterFlushCutShortByFree(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	_, err := bev.Write(make([]byte, 32<<20))
	require.NoError(t, err)
	require.NoError(t, bev.FreeAfterFlush(time.Hour))
	bev.Free()
	bev.Free()
	testutil.Dispatch(t, base)
	assert.Zero(t, base.Stats().BufferEvents)
	_, err = io.Copy(io.Discard, peer)
	assert.NoError(t, err)
}

func TestFreeAfterFlushWritesThoughWritingIsDisabled(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.Disable(wr))
	_, err := bev.WriteString("hello")
	require.NoError(t, err)
	require.NoError(t, bev.FreeAfterFlush(time.Hour))
	testutil.Dispatch(t, base)
	got, err := io.ReadAll(peer)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(got))
}

func TestFreeAfterFlushOfPair(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	_, err := a.WriteString("hello")
	require.NoError(t, err)
	require.NoError(t, a.FreeAfterFlush(time.Hour))
	require.NoError(t, base.Loop(libevent.LoopNonblock))
	require.NoError(t, b.Enable(rd))
	assert.Equal(t, libevent.EventReading|libevent.EventEOF, testutil.Happening(t, b))
	assert.Equal(t, "hello", testutil.Content(t, b.Input()))
}

func TestFreeAfterFlushRefusesANegativeLimit(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	assert.ErrorIs(t, bev.FreeAfterFlush(-1), syscall.EINVAL)
	assert.NoError(t, bev.Enable(rd), "not freed")
}

// A peer that is still sending gets everything that was written for it.
func TestFreeAfterFlushWithUnreadInput(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	data := testutil.Noise(4 << 20)
	_, err := peer.Write([]byte("a request that is never read"))
	require.NoError(t, err)
	_, err = bev.Write(data)
	require.NoError(t, err)
	require.NoError(t, bev.FreeAfterFlush(testutil.Patience))
	got := make(chan []byte, 1)
	go func() {
		first := make([]byte, 1000)
		_, _ = io.ReadFull(peer, first)
		_, _ = peer.Write(testutil.Noise(100_000)) // more input, while the output is still on its way
		rest, _ := io.ReadAll(peer)
		got <- append(first, rest...)
	}()
	testutil.Dispatch(t, base)
	testutil.Same(t, data, testutil.Receive(t, got))
}

func TestFreeAfterFlushWhenThePartnerGoes(t *testing.T) {
	for _, filters := range []int{0, 1, 2} {
		base := testutil.NewBase(t)
		a, b := testutil.NewPair(t, base)
		for range filters {
			a = testutil.NewFilter(t, a, nil, nil, libevent.OptCloseOnFree)
		}
		_, err := a.WriteString("nobody will read this")
		require.NoError(t, err)
		require.NoError(t, a.FreeAfterFlush(time.Hour))
		b.Free()
		testutil.Background(t, base)
		testutil.Eventually(t, func() bool { return base.Stats().BufferEvents == 0 }, "it is freed")
	}
}

// READ of the socket below a filter is off, and the peer has sent something. FreeAfterFlush of the
// filter reads and drops that, and ends when the peer has all bytes.
func TestFreeAfterFlushOfAFilterWithReadOffBelow(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewUnixSocket(t, base)
	top := testutil.NewFilter(t, bev, nil, nil, libevent.OptCloseOnFree)
	defer func() { bev.Free(); _ = syscall.Close(peer) }()
	require.NoError(t, bev.Disable(rd))
	require.NoError(t, bev.SetWatermark(rd, 0, 3))
	_, err := syscall.Write(peer, []byte("unread"))
	require.NoError(t, err)
	testutil.Background(t, base)
	freed := testutil.Freed(top)
	_, err = top.WriteString("x")
	require.NoError(t, err)
	require.NoError(t, top.FreeAfterFlush(2*testutil.Patience))
	_, err = syscall.Read(peer, make([]byte, 1)) // now the peer has all
	require.NoError(t, err)
	testutil.Receive(t, freed)
}

// What is below a filter that is flushed, and is not freed with it, gets what the peer sends after that.
func TestBelowAFlushedFilter(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, libevent.OptCloseOnFree)
	lower := testutil.NewFilter(t, bev, nil, nil, libevent.OptCloseOnFree)
	top := testutil.NewFilter(t, lower, nil, nil, 0)
	freed, events := testutil.Freed(top), make(chan libevent.Events, 10)
	require.NoError(t, lower.Enable(rd))
	testutil.Background(t, base)
	const n = 1 << 20 // the kernel takes it, but not the peer's
	_, err := top.Write(make([]byte, n))
	require.NoError(t, err)
	require.NoError(t, top.FreeAfterFlush(2*testutil.Patience))
	_, err = peer.Write([]byte("not lost"))
	require.NoError(t, err)
	testutil.Receive(t, freed)
	got, err := io.ReadFull(peer, make([]byte, n))
	assert.NoError(t, err)
	assert.Equal(t, n, got)
	testutil.Eventually(t, func() bool { return lower.Input().Len() == len("not lost") }, "it has come")
	require.NoError(t, lower.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, what libevent.Events) { events <- what }))
	_, err = lower.WriteString("goes on")
	require.NoError(t, err)
	_, err = io.ReadFull(peer, make([]byte, len("goes on")))
	require.NoError(t, err)
	require.NoError(t, peer.Close())
	assert.Equal(t, libevent.EventReading|libevent.EventEOF, testutil.Receive(t, events))
	lower.Free()
}

// What is below a filter is freed while the filter's flush waits for the peer. The number of its descriptor may belong to
// another connection then.
func TestFreeBelowAFlushedFilter(t *testing.T) {
	base := testutil.NewBase(t)
	fd, peer := testutil.TCPPair(t)
	bev, err := base.NewSocket(fd, libevent.OptCloseOnFree)
	require.NoError(t, err)
	top := testutil.NewFilter(t, bev, nil, nil, libevent.OptCloseOnFree)
	freed := testutil.Freed(top)
	testutil.Background(t, base)
	_, err = top.Write(make([]byte, 1<<20)) // the kernel takes it, but not the peer's
	require.NoError(t, err)
	require.NoError(t, top.FreeAfterFlush(2*testutil.Patience))
	for range 5 {
		testutil.OnLoop(t, base, func() {})
		_, err := peer.Write([]byte("still here"))
		require.NoError(t, err)
	}
	bev.Free()
	next, nextPeer := -1, -1
	for next != fd { // lower numbers may be free as well
		next, nextPeer = testutil.Socketpair(t)
		if nextPeer == fd {
			next, nextPeer = nextPeer, next
		}
	}
	defer func() { _ = syscall.Close(nextPeer) }()
	other, err := base.NewSocket(fd, libevent.OptCloseOnFree)
	require.NoError(t, err)
	read := make(chan struct{}, 10)
	require.NoError(t, other.SetCallbacks(func(*libevent.BufferEvent) { read <- struct{}{} }, nil, nil))
	require.NoError(t, other.Enable(rd))
	_, err = syscall.Write(nextPeer, []byte("read"))
	require.NoError(t, err)
	testutil.Receive(t, read)
	testutil.Receive(t, freed)
	testutil.OnLoop(t, base, func() { assert.Equal(t, 4, other.Input().Len()) })
	other.Free()
}

// The peer has not read everything yet, and says something after all bytes were handed to the
// kernel. It gets them all the same.
func TestFreeAfterFlushWhenThePeerSpeaksLater(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, libevent.OptCloseOnFree)
		testutil.Background(t, base)
		freed := testutil.Freed(bev)
		const n = 1 << 20 // the kernel takes it, but not the peer's
		_, err := bev.Write(make([]byte, n))
		require.NoError(t, err)
		require.NoError(t, bev.FreeAfterFlush(2*testutil.Patience))
		for range 5 {
			testutil.OnLoop(t, base, func() {})
			_, err := peer.Write([]byte("still here"))
			require.NoError(t, err)
		}
		got, err := io.ReadAll(peer)
		assert.NoError(t, err)
		assert.Equal(t, n, len(got))
		testutil.Receive(t, freed)
	})
}

// A closure in a later turn than CloseWrite writes nothing past the output either.
func TestCloseWriteAndALaterClosure(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		closed := false
		require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			_, err := b.Read(make([]byte, 10))
			assert.NoError(t, err)
			_, err = b.WriteString("answer")
			if !closed {
				assert.NoError(t, err)
				assert.NoError(t, b.CloseWrite())
				closed = true
				return
			}
			assert.ErrorIs(t, err, syscall.EPIPE)
			assert.NoError(t, base.LoopBreak())
		}, nil, func(_ *libevent.BufferEvent, what libevent.Events) { assert.Fail(t, "an event", "%v", what) }))
		require.NoError(t, bev.Enable(rd))
		_, err := peer.Write([]byte("first"))
		require.NoError(t, err)
		go func() {
			got, err := io.ReadAll(peer)
			assert.NoError(t, err)
			assert.Equal(t, "answer", string(got))
			_, err = peer.Write([]byte("second"))
			assert.NoError(t, err)
		}()
		testutil.Dispatch(t, base)
		bev.Free()
	})
}
