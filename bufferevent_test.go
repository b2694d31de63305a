package libevent_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// --- making ------------------------------------------------------------------

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

// The descriptor is closed by Free exactly when OptCloseOnFree was given.
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

// --- callbacks -----------------------------------------------------------------

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

// Closures may be replaced at any time, also by nil, and nothing queued for the old
// ones comes to the new ones out of turn.
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
	require.NoError(t, b.SetWatermark(rd, 100, 0)) // so that the flush reads nothing
	require.NoError(t, a.CloseWrite())
	testutil.Dispatch(t, base)
	assert.ErrorIs(t, b.Err(), io.EOF)
}

func TestOptLoopOnlyFromElsewhere(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, libevent.OptLoopOnly)
	// Before the loop runs, any goroutine may set it up.
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

// Without OptDeferCallbacks a loop-only bufferevent calls back from inside
// libevent's I/O; everything a closure may do must hold there as well.
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

// --- enabling --------------------------------------------------------------------

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

// Nothing is read while reading is off, nothing written while writing is off.
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

// What cannot be waited for is refused, not silently never read or written.
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

// --- watermarks ------------------------------------------------------------------

func TestWatermarkArguments(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewPair(t, base)
	for _, what := range []libevent.What{rd, wr} {
		low, high, err := bev.Watermark(what)
		require.NoError(t, err)
		assert.Equal(t, []int{0, 0}, []int{low, high})
	}
	require.NoError(t, bev.SetWatermark(rd, 10, 20))
	require.NoError(t, bev.SetWatermark(wr, 30, 5)) // libevent has no use for the order here
	low, high, err := bev.Watermark(rd)
	require.NoError(t, err)
	assert.Equal(t, []int{10, 20}, []int{low, high})
	low, high, err = bev.Watermark(wr)
	require.NoError(t, err)
	assert.Equal(t, []int{30, 5}, []int{low, high})
	require.NoError(t, bev.SetWatermark(rd|wr, 1, 0))
	low, high, err = bev.Watermark(wr)
	require.NoError(t, err)
	assert.Equal(t, []int{1, 0}, []int{low, high})

	_, _, err = bev.Watermark(rd | wr)
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorIs(t, bev.SetWatermark(rd, -1, 0), syscall.EINVAL)
	assert.ErrorIs(t, bev.SetWatermark(wr, 0, -1), syscall.EINVAL)
	assert.ErrorIs(t, bev.SetWatermark(rd, 21, 20), syscall.EINVAL)
	assert.ErrorIs(t, bev.SetWatermark(libevent.EvTimeout, 0, 0), syscall.EINVAL)
}

func TestReadLowWatermark(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	const low = 10
	var seen []int
	require.NoError(t, bev.SetWatermark(rd, low, 0))
	require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		seen = append(seen, b.Input().Len())
		assert.NoError(t, b.Input().Drain(low))
	}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
		assert.Equal(t, libevent.EventReading|libevent.EventEOF, what)
		assert.Equal(t, "rest", testutil.Content(t, b.Input()), "what is below the mark at the end is not lost")
		b.Free()
	}))
	require.NoError(t, bev.Enable(rd))
	for i := range 3 * low { // one byte at a time, each seen by the loop
		_, err := peer.Write([]byte("x"))
		require.NoError(t, err)
		for arrived := false; !arrived; {
			require.NoError(t, base.Loop(libevent.LoopOnce))
			arrived = bev.Input().Len()+low*len(seen) == i+1
		}
	}
	_, err := peer.Write([]byte("rest"))
	require.NoError(t, err)
	require.NoError(t, peer.CloseWrite())
	testutil.Dispatch(t, base)
	assert.Equal(t, []int{low, low, low}, seen)
}

// forSocketAndPair runs a test for each kind of bufferevent that has no other below.
// send gives bytes to the bufferevent under test.
func forSocketAndPair(t *testing.T, test func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent, send func([]byte))) {
	for _, opts := range []libevent.Options{0, libevent.OptLoopOnly} {
		t.Run("socket "+opts.String(), func(t *testing.T) {
			base := testutil.NewBase(t)
			bev, peer := testutil.NewSocket(t, base, opts)
			test(t, base, bev, func(p []byte) {
				_, err := peer.Write(p)
				assert.NoError(t, err)
			})
		})
		t.Run("pair "+opts.String(), func(t *testing.T) {
			base := testutil.NewBase(t)
			bev, other, err := base.NewPair(opts)
			require.NoError(t, err)
			test(t, base, bev, func(p []byte) {
				_, err := other.Write(p)
				assert.NoError(t, err)
			})
		})
	}
}

// A closure that does not drain at the high watermark is called once, and the loop
// sleeps; draining below the mark, from anywhere, lets reading go on.
func TestReadHighWatermarkCostsNothing(t *testing.T) {
	forSocketAndPair(t, func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent, send func([]byte)) {
		const high = 1000
		var calls int
		marked := true
		require.NoError(t, bev.SetWatermark(rd, 0, high))
		require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			calls++
			assert.True(t, !marked || b.Input().Len() <= high)
		}, nil, nil))
		require.NoError(t, bev.Enable(rd))
		send(testutil.Noise(10 * high))

		testutil.Idle(t, base, time.Millisecond)
		assert.Equal(t, high, bev.Input().Len())
		assert.Equal(t, rd|wr, bev.Enabled(), "the pause is not the user's")
		calls = 0
		before := testutil.CPUTime()
		testutil.Idle(t, base, 100*time.Millisecond)
		assert.Zero(t, calls)
		assert.Less(t, testutil.CPUTime()-before, 50*time.Millisecond, "the loop must sleep")

		require.NoError(t, bev.Input().Drain(1)) // outside of any closure
		testutil.Idle(t, base, time.Millisecond)
		assert.Equal(t, high, bev.Input().Len())
		assert.Equal(t, 1, calls)

		got, err := bev.Input().RemoveBuffer(testutil.NewBuffer(t, ""), high)
		require.NoError(t, err)
		assert.Equal(t, high, got)
		testutil.Idle(t, base, time.Millisecond)
		assert.Equal(t, high, bev.Input().Len())

		marked = false
		require.NoError(t, bev.SetWatermark(rd, 0, 0)) // no mark: the rest comes
		testutil.Idle(t, base, time.Millisecond)
		assert.Equal(t, 9*high-1, bev.Input().Len())
	})
}

// A closure that drained something, and left the input at the mark, is called again.
func TestReadHighWatermarkPartialDrain(t *testing.T) {
	forSocketAndPair(t, func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent, send func([]byte)) {
		const high, step = 1000, 10
		data := testutil.Noise(4 * high)
		var got []byte
		require.NoError(t, bev.SetWatermark(rd, 0, high))
		require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			assert.LessOrEqual(t, b.Input().Len(), high)
			p := make([]byte, step)
			n, err := b.Read(p)
			assert.NoError(t, err)
			got = append(got, p[:n]...)
			if b.Input().Len() >= high-step && len(got) == 2*step {
				// Raise the input above a lower mark: it must go on
				// being called while it drains.
				assert.NoError(t, b.SetWatermark(rd, 0, high/2))
			}
			if len(got) == high {
				assert.NoError(t, b.SetWatermark(rd, 0, step))
			}
		}, nil, nil))
		require.NoError(t, bev.Enable(rd))
		send(data)
		require.NoError(t, base.LoopExit(testutil.Patience))
		deadline := time.Now().Add(testutil.Patience)
		for len(got) < len(data) && time.Now().Before(deadline) {
			before := len(got)
			require.NoError(t, base.Loop(libevent.LoopNonblock))
			if len(got) == before {
				// Below the mark and nothing new: the rest is there
				// for the next to take.
				rest := make([]byte, step)
				n, err := bev.Read(rest)
				if errors.Is(err, libevent.ErrWouldBlock) {
					continue
				}
				require.NoError(t, err)
				got = append(got, rest[:n]...)
			}
		}
		testutil.Same(t, data, got)
	})
}

// The user's own Disable and Enable hold through a pause.
func TestReadHighWatermarkAndDisable(t *testing.T) {
	forSocketAndPair(t, func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent, send func([]byte)) {
		require.NoError(t, bev.SetWatermark(rd, 0, 10))
		require.NoError(t, bev.SetCallbacks(func(*libevent.BufferEvent) {}, nil, nil))
		require.NoError(t, bev.Enable(rd))
		send(testutil.Noise(100))
		for bev.Input().Len() < 10 {
			require.NoError(t, base.Loop(libevent.LoopNonblock))
		}
		require.NoError(t, base.Loop(libevent.LoopNonblock)) // paused now
		require.NoError(t, bev.Disable(rd))
		assert.Equal(t, wr, bev.Enabled())
		require.NoError(t, bev.Input().Drain(10))
		for range 10 {
			require.NoError(t, base.Loop(libevent.LoopNonblock))
		}
		assert.Zero(t, bev.Input().Len(), "reading was disabled by the user")
		require.NoError(t, bev.Enable(rd))
		for bev.Input().Len() < 10 {
			require.NoError(t, base.Loop(libevent.LoopNonblock))
		}
		assert.Equal(t, 10, bev.Input().Len())
	})
}

func TestWriteLowWatermark(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	const low, total = 64 << 10, 8 << 20
	var seen []int
	require.NoError(t, bev.SetWatermark(wr, low, 0))
	require.NoError(t, bev.SetCallbacks(nil, func(b *libevent.BufferEvent) {
		seen = append(seen, b.Output().Len())
		if b.Output().Len() == 0 {
			b.Free()
		}
	}, nil))
	data := testutil.Noise(total)
	n, err := bev.Write(data)
	require.NoError(t, err)
	assert.Equal(t, total, n)
	got := testutil.ReadAll(peer)
	testutil.Dispatch(t, base)
	testutil.Same(t, data, testutil.Receive(t, got))
	require.NotEmpty(t, seen)
	for _, n := range seen {
		assert.LessOrEqual(t, n, low)
	}
	assert.Greater(t, seen[0], 0, "called before the output is empty")
}

// libevent keeps the high watermark of writing for filters; Write is not stopped.
func TestWriteHighWatermark(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.SetWatermark(wr, 0, 10))
	n, err := bev.Write(testutil.Noise(1000))
	require.NoError(t, err)
	assert.Equal(t, 1000, n)
	assert.Equal(t, 1000, bev.Output().Len())
}

// --- timeouts and events -----------------------------------------------------------

func TestEventEOF(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.Enable(rd))
	_, err := peer.Write([]byte("last words"))
	require.NoError(t, err)
	require.NoError(t, peer.Close())
	assert.Equal(t, libevent.EventReading|libevent.EventEOF, testutil.Happening(t, bev))
	assert.Equal(t, wr, bev.Enabled(), "libevent turns reading off")
	assert.ErrorIs(t, bev.Err(), io.EOF)
	p := make([]byte, 4)
	n, err := bev.Read(p)
	require.NoError(t, err, "buffered bytes come first")
	assert.Equal(t, "last", string(p[:n]))
	rest, err := io.ReadAll(bev)
	require.NoError(t, err)
	assert.Equal(t, " words", string(rest))
	_, err = bev.Read(p)
	assert.ErrorIs(t, err, io.EOF)
	bev.Free()
	assert.ErrorIs(t, bev.Err(), io.EOF, "the cause stays after Free")
	_, err = bev.Read(p)
	assert.ErrorIs(t, err, libevent.ErrClosed)
}

func TestEventReset(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.Enable(rd))
	require.NoError(t, peer.SetLinger(0))
	require.NoError(t, peer.Close())
	assert.Equal(t, libevent.EventReading|libevent.EventError, testutil.Happening(t, bev))
	var e *libevent.Error
	require.ErrorAs(t, bev.Err(), &e)
	assert.Equal(t, "read", e.Op)
	assert.ErrorIs(t, e, syscall.ECONNRESET)
	_, err := bev.Read(make([]byte, 1))
	assert.ErrorIs(t, err, syscall.ECONNRESET)
	var ne net.Error
	require.ErrorAs(t, bev.Err(), &ne)
	assert.False(t, ne.Timeout())
}

func TestEventWriteError(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.Socketpair(t)
	bev, err := base.NewSocket(a, libevent.OptCloseOnFree)
	require.NoError(t, err)
	require.NoError(t, syscall.Close(b))
	_, err = bev.WriteString("nobody")
	require.NoError(t, err)
	assert.Equal(t, libevent.EventWriting|libevent.EventError, testutil.Happening(t, bev))
	assert.ErrorIs(t, bev.Err(), syscall.EPIPE)
	assert.Zero(t, bev.Enabled(), "libevent turns writing off")
	assert.Equal(t, 6, bev.Output().Len(), "unwritten bytes stay")
}

func TestEventTimeouts(t *testing.T) {
	t.Run("reading", func(t *testing.T) {
		base := testutil.NewBase(t)
		bev, _ := testutil.NewSocket(t, base, 0)
		require.NoError(t, bev.SetTimeouts(20*time.Millisecond, 0))
		require.NoError(t, bev.Enable(rd))
		start := time.Now()
		assert.Equal(t, libevent.EventReading|libevent.EventTimeout, testutil.Happening(t, bev))
		assert.GreaterOrEqual(t, time.Since(start), 20*time.Millisecond)
		assert.Equal(t, wr, bev.Enabled())
		assert.ErrorIs(t, bev.Err(), os.ErrDeadlineExceeded)
		_, err := bev.Read(make([]byte, 1))
		assert.ErrorIs(t, err, libevent.ErrWouldBlock, "a timeout is not the end")
		assert.ErrorIs(t, err, syscall.EAGAIN)
		require.NoError(t, bev.Enable(rd))
		assert.Equal(t, libevent.EventReading|libevent.EventTimeout, testutil.Happening(t, bev))
	})
	t.Run("writing", func(t *testing.T) {
		base := testutil.NewBase(t)
		bev, _ := testutil.NewSocket(t, base, 0)
		require.NoError(t, bev.SetTimeouts(0, 20*time.Millisecond))
		_, err := bev.Write(make([]byte, 32<<20)) // more than the kernel takes
		require.NoError(t, err)
		assert.Equal(t, libevent.EventWriting|libevent.EventTimeout, testutil.Happening(t, bev))
		assert.Zero(t, bev.Enabled())
		assert.NotZero(t, bev.Output().Len())
	})
	t.Run("both", func(t *testing.T) {
		base := testutil.NewBase(t)
		bev, err := base.NewSocket(-1, 0)
		require.NoError(t, err)
		require.NoError(t, bev.SetTimeouts(20*time.Millisecond, 20*time.Millisecond))
		require.NoError(t, bev.Enable(rd|wr))
		var all libevent.Events
		for range 2 {
			all |= testutil.Happening(t, bev)
			if all&libevent.EventWriting != 0 && all&libevent.EventReading != 0 {
				break
			}
		}
		assert.Equal(t, libevent.EventReading|libevent.EventWriting|libevent.EventTimeout, all)
	})
	t.Run("none", func(t *testing.T) {
		base := testutil.NewBase(t)
		bev, _ := testutil.NewSocket(t, base, 0)
		require.NoError(t, bev.SetTimeouts(time.Millisecond, time.Millisecond))
		require.NoError(t, bev.SetTimeouts(0, 0))
		require.NoError(t, bev.SetCallbacks(nil, nil, func(*libevent.BufferEvent, libevent.Events) {
			assert.Fail(t, "no event")
		}))
		require.NoError(t, bev.Enable(rd))
		require.NoError(t, base.LoopExit(30*time.Millisecond))
		testutil.Dispatch(t, base)
		assert.ErrorIs(t, bev.SetTimeouts(-1, 0), syscall.EINVAL)
		assert.ErrorIs(t, bev.SetTimeouts(0, -1), syscall.EINVAL)
	})
}

func TestEventsOfPair(t *testing.T) {
	for _, c := range []struct {
		what libevent.What
		want libevent.Events
	}{
		{wr, libevent.EventReading | libevent.EventEOF},
		{rd, libevent.EventWriting | libevent.EventEOF},
		{rd | wr, libevent.EventReading | libevent.EventWriting | libevent.EventEOF},
	} {
		base := testutil.NewBase(t)
		a, b := testutil.NewPair(t, base)
		_, err := a.Flush(c.what, libevent.FlushFinished)
		require.NoError(t, err)
		assert.Equal(t, c.want, testutil.Happening(t, b))
		assert.ErrorIs(t, b.Err(), io.EOF)
	}
}

// The end of a pair comes after what was sent before it, also when both come while the
// other end is in the middle of its callbacks.
func TestPairEndOvertakesNothing(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, bev *libevent.BufferEvent) *libevent.BufferEvent{
		"pair": func(_ *testing.T, bev *libevent.BufferEvent) *libevent.BufferEvent { return bev },
		"filter": func(t *testing.T, bev *libevent.BufferEvent) *libevent.BufferEvent {
			return testutil.NewFilter(t, bev, nil, nil, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := testutil.NewBase(t)
			a, under := testutil.NewPair(t, base)
			b := end(t, under)
			var got []string
			require.NoError(t, b.SetCallbacks(func(b *libevent.BufferEvent) {
				p, err := io.ReadAll(b.Input())
				assert.NoError(t, err)
				got = append(got, string(p))
			}, func(*libevent.BufferEvent) {
				_, err := a.WriteString("last")
				assert.NoError(t, err)
				_, err = a.Flush(wr, libevent.FlushFinished)
				assert.NoError(t, err)
			}, func(_ *libevent.BufferEvent, what libevent.Events) { got = append(got, what.String()) }))
			require.NoError(t, b.Enable(rd))
			require.NoError(t, b.Trigger(wr, 0))
			testutil.Dispatch(t, base)
			assert.Equal(t, []string{"last", (libevent.EventReading | libevent.EventEOF).String()}, got)
		})
	}
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
	testutil.Dispatch(t, base) // until it is really gone
	_, err = a.Flush(wr, libevent.FlushSync)
	assert.Error(t, err, "no other end")
}

// --- data ----------------------------------------------------------------------------

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

// --- connecting -----------------------------------------------------------------------

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
	require.NoError(t, bev.Connect("tcp", testutil.Refusing(t)))
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
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
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

// --- ending -----------------------------------------------------------------------------

// CloseWrite sends what is buffered, then the end; reading goes on.
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

func TestFreeAfterFlush(t *testing.T) {
	t.Run("written", func(t *testing.T) {
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
	})
	t.Run("limit", func(t *testing.T) {
		base := testutil.NewBase(t)
		bev, peer := testutil.NewSocket(t, base, 0)
		_, err := bev.Write(make([]byte, 32<<20))
		require.NoError(t, err)
		start := time.Now()
		require.NoError(t, bev.FreeAfterFlush(50*time.Millisecond))
		testutil.Dispatch(t, base)
		assert.GreaterOrEqual(t, time.Since(start), 50*time.Millisecond)
		assert.Zero(t, base.Stats().BufferEvents)
		_, err = io.Copy(io.Discard, peer) // a part, which does not look like all
		assert.ErrorIs(t, err, syscall.ECONNRESET)
	})
	t.Run("error", func(t *testing.T) {
		base := testutil.NewBase(t)
		bev, peer := testutil.NewSocket(t, base, 0)
		_, err := bev.Write(make([]byte, 32<<20))
		require.NoError(t, err)
		require.NoError(t, bev.FreeAfterFlush(time.Hour))
		require.NoError(t, peer.SetLinger(0))
		require.NoError(t, peer.Close())
		testutil.Dispatch(t, base)
		assert.Zero(t, base.Stats().BufferEvents)
	})
	t.Run("error below a filter, before", func(t *testing.T) {
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
	})
	t.Run("nothing to write", func(t *testing.T) {
		base := testutil.NewBase(t)
		bev, peer := testutil.NewSocket(t, base, 0)
		require.NoError(t, bev.FreeAfterFlush(time.Hour))
		_, err := peer.Read(make([]byte, 1))
		assert.ErrorIs(t, err, io.EOF)
		unconnected, err := base.NewSocket(-1, 0)
		require.NoError(t, err)
		_, err = unconnected.WriteString("nowhere to go")
		require.NoError(t, err)
		require.NoError(t, unconnected.FreeAfterFlush(time.Hour))
		testutil.Dispatch(t, base)
		assert.Zero(t, base.Stats().BufferEvents)
	})
	t.Run("cut short by Free", func(t *testing.T) {
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
	})
	t.Run("writing disabled", func(t *testing.T) {
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
	})
	t.Run("pair", func(t *testing.T) {
		base := testutil.NewBase(t)
		a, b := testutil.NewPair(t, base)
		_, err := a.WriteString("hello")
		require.NoError(t, err)
		require.NoError(t, a.FreeAfterFlush(time.Hour))
		require.NoError(t, base.Loop(libevent.LoopNonblock))
		require.NoError(t, b.Enable(rd))
		assert.Equal(t, libevent.EventReading|libevent.EventEOF, testutil.Happening(t, b))
		assert.Equal(t, "hello", testutil.Content(t, b.Input()))
	})
	t.Run("negative", func(t *testing.T) {
		base := testutil.NewBase(t)
		bev, _ := testutil.NewSocket(t, base, 0)
		assert.ErrorIs(t, bev.FreeAfterFlush(-1), syscall.EINVAL)
		assert.NoError(t, bev.Enable(rd), "not freed")
	})
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

func TestMethodsOfFreedBufferEvent(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	bev.Free()
	bev.Free()
	_, werr := bev.Write([]byte("x"))
	_, serr := bev.WriteString("x")
	_, rerr := bev.Read(make([]byte, 1))
	_, _, merr := bev.Watermark(rd)
	_, ferr := bev.Flush(rd, libevent.FlushNormal)
	for i, err := range []error{werr, serr, rerr, merr, ferr,
		bev.Enable(rd), bev.Disable(rd), bev.SetTimeouts(1, 1), bev.SetWatermark(rd, 1, 2),
		bev.SetCallbacks(nil, nil, nil), bev.WriteBuffer(testutil.NewBuffer(t, "x")), bev.ReadBuffer(testutil.NewBuffer(t, "")),
		bev.Connect("tcp", "127.0.0.1:1"), bev.SetFD(-1), bev.CloseWrite(), bev.FreeAfterFlush(0),
		bev.Input().Drain(1), bev.Input().Peek(func([][]byte) {}),
	} {
		assert.ErrorIs(t, err, libevent.ErrClosed, "%d", i)
		assert.ErrorIs(t, err, net.ErrClosed, "%d", i)
	}
	assert.Zero(t, bev.Enabled())
	assert.Equal(t, -1, bev.FD())
	assert.Nil(t, bev.LocalAddr())
	assert.Nil(t, bev.RemoteAddr())
	assert.NoError(t, bev.Err())
	assert.Same(t, base, bev.Base())
}
