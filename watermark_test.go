// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestWatermarkArguments(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewPair(t, base)
	for _, what := range []libevent.What{rd, wr} {
		low, high, err := bev.Watermark(what)
		require.NoError(t, err)
		assert.Equal(t, []int{0, 0}, []int{low, high})
	}
	require.NoError(t, bev.SetWatermark(rd, 10, 20))
	require.NoError(t, bev.SetWatermark(wr, 30, 5)) // libevent does not compare the marks of writing
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
	for i := range 3 * low { // one byte at a time, and the loop sees each one
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

// A closure that does not drain at the high watermark is called once, and the loop sleeps.
// Draining below the mark, on any goroutine, lets reading go on.
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

		require.NoError(t, bev.Input().Drain(1)) // not in a closure
		testutil.Idle(t, base, time.Millisecond)
		assert.Equal(t, high, bev.Input().Len())
		assert.Equal(t, 1, calls)

		got, err := bev.Input().RemoveBuffer(testutil.NewBuffer(t, ""), high)
		require.NoError(t, err)
		assert.Equal(t, high, got)
		testutil.Idle(t, base, time.Millisecond)
		assert.Equal(t, high, bev.Input().Len())

		marked = false
		require.NoError(t, bev.SetWatermark(rd, 0, 0)) // without a mark the rest comes
		testutil.Idle(t, base, time.Millisecond)
		assert.Equal(t, 9*high-1, bev.Input().Len())
	})
}

// A closure that drains something, and leaves the input at the mark, is called again.
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
				// With a lower mark the input is above the mark. The closure must still be
				// called as long as it drains.
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
				// The input is below the mark and nothing new has come, so no closure is
				// called. The test takes the rest.
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

// Disable and Enable by the user count also while reading is paused.
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

// Only filters heed the high watermark of writing. Write takes more.
func TestWriteHighWatermark(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.SetWatermark(wr, 0, 10))
	n, err := bev.Write(testutil.Noise(1000))
	require.NoError(t, err)
	assert.Equal(t, 1000, n)
	assert.Equal(t, 1000, bev.Output().Len())
}

// A closure that takes bytes out and puts them back has drained nothing.
func TestReadHighWatermarkAndPuttingBack(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	calls := 0
	require.NoError(t, bev.SetWatermark(rd, 0, 100))
	require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		calls++
		_, err := b.Input().WriteTo(&testutil.ShortWriter{N: 10, Err: syscall.EAGAIN})
		assert.ErrorIs(t, err, syscall.EAGAIN)
		assert.NoError(t, b.Input().Prepend(make([]byte, 10)))
	}, nil, nil))
	require.NoError(t, bev.Enable(rd))
	_, err := peer.Write(testutil.Noise(1000))
	require.NoError(t, err)
	testutil.Idle(t, base, 50*time.Millisecond)
	assert.Equal(t, 100, bev.Input().Len())
	assert.LessOrEqual(t, calls, 2)
}

// What counts is how much a closure leaves. One that takes something and puts back more is not
// called again at the mark, where libevent alone would call it for ever.
func TestReadHighWatermarkAndPuttingBackMore(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		calls := 0
		require.NoError(t, bev.SetWatermark(rd, 0, 100))
		require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			if b.Input().Len() < 100 {
				return // not all has come
			}
			calls++
			assert.NoError(t, b.Input().Prepend(make([]byte, 60)))
			assert.NoError(t, b.Input().Drain(50))
		}, nil, nil))
		require.NoError(t, bev.Enable(rd))
		_, err := peer.Write(testutil.Noise(1000))
		require.NoError(t, err)
		testutil.Idle(t, base, 50*time.Millisecond)
		assert.Equal(t, 1, calls)
		assert.Equal(t, 110, bev.Input().Len())
		require.NoError(t, bev.Input().Drain(20))
		testutil.Idle(t, base, 50*time.Millisecond)
		assert.Equal(t, 2, calls)
		bev.Free()
	})
}
