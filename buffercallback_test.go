// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestBufferCallback(t *testing.T) {
	b, other := testutil.NewBuffer(t, "old"), testutil.NewBuffer(t, "other")
	cb, changes := testutil.Watch(t, b)
	_, others := testutil.Watch(t, other)
	require.NoError(t, b.Add([]byte("12345")))
	assert.Equal(t, []testutil.Change{{5, 0}}, *changes, "before Add returns")
	require.NoError(t, b.Drain(2))
	require.NoError(t, b.Add(nil))
	require.NoError(t, b.AddBuffer(other))
	require.NoError(t, other.PrependBuffer(b))
	assert.Equal(t, []testutil.Change{{5, 0}, {0, 2}, {5, 0}, {0, 11}}, *changes)
	assert.Equal(t, []testutil.Change{{0, 5}, {11, 0}}, *others)
	require.NoError(t, b.AddReference([]byte("xyz"), nil))
	require.NoError(t, b.Pullup(-1, func([]byte) {}))
	_, err := b.ReadByte()
	require.NoError(t, err)
	*changes = nil

	require.NoError(t, cb.Disable())
	require.NoError(t, b.Add([]byte("unseen")))
	require.NoError(t, cb.Enable())
	require.NoError(t, b.Add([]byte("seen")))
	assert.Equal(t, []testutil.Change{{4, 0}}, *changes)

	cb.Remove()
	cb.Remove()
	require.NoError(t, b.Add([]byte("unseen")))
	assert.Len(t, *changes, 1)
	assert.ErrorIs(t, cb.Enable(), libevent.ErrClosed)
	assert.ErrorIs(t, cb.Disable(), libevent.ErrClosed)
}

func TestBufferCallbackRefused(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	_, err := b.AddCallback(nil)
	assert.ErrorIs(t, err, syscall.EINVAL)
	b.Free()
	_, err = b.AddCallback(func(*libevent.Buffer, int, int) {})
	assert.ErrorIs(t, err, libevent.ErrClosed)
	assert.Zero(t, libevent.Live().Handles)
}

func TestBufferCallbackGoesWithItsBuffer(t *testing.T) {
	b := testutil.NewBuffer(t, "x")
	cb, changes := testutil.Watch(t, b)
	_, more := testutil.Watch(t, b)
	b.Free()
	assert.Zero(t, libevent.Live().Handles)
	cb.Remove()
	assert.ErrorIs(t, cb.Enable(), libevent.ErrClosed)
	assert.Empty(t, append(*changes, *more...))

	base, err := libevent.NewBase()
	require.NoError(t, err)
	bev := silent(t, base)
	cb, changes = testutil.Watch(t, bev.Input())
	_, more = testutil.Watch(t, bev.Output())
	_, err = bev.WriteString("x")
	require.NoError(t, err)
	bev.Free()
	cb.Remove()
	testutil.Dispatch(t, base)
	assert.Empty(t, append(*changes, *more...), "not after Free")
	require.NoError(t, base.Free())
	assert.Zero(t, libevent.Live().Handles)
}

// The callback may change the buffer, remove itself and free the buffer.
func TestBufferCallbackChangesItsBuffer(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	var seen []testutil.Change
	running := false
	_, err := b.AddCallback(func(b *libevent.Buffer, added, deleted int) {
		assert.False(t, running, "not while it runs")
		running = true
		seen = append(seen, testutil.Change{added, deleted})
		if len(seen) < 1000 {
			assert.NoError(t, b.Add([]byte("ab")))
			assert.NoError(t, b.Drain(1))
			assert.Len(t, seen, len(seen))
		}
		running = false
	})
	require.NoError(t, err)
	require.NoError(t, b.Add([]byte("x")))
	assert.Len(t, seen, 1000)
	assert.Equal(t, []testutil.Change{{1, 0}, {2, 1}}, seen[:2])

	b = testutil.NewBuffer(t, "")
	calls := 0
	var cb *libevent.BufferCallback
	cb, err = b.AddCallback(func(b *libevent.Buffer, _, _ int) {
		calls++
		assert.NoError(t, b.Add([]byte("y")))
		cb.Remove()
	})
	require.NoError(t, err)
	require.NoError(t, b.Add([]byte("x")))
	assert.Equal(t, 1, calls)
	assert.Equal(t, "xy", testutil.Content(t, b))

	_, err = b.AddCallback(func(b *libevent.Buffer, _, _ int) { b.Free() })
	require.NoError(t, err)
	require.NoError(t, b.Add([]byte("z")))
	assert.ErrorIs(t, b.Add(nil), libevent.ErrClosed)
}

func TestBufferCallbackPanics(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	cb, err := b.AddCallback(func(_ *libevent.Buffer, added, _ int) {
		if added == 1 {
			testutil.Explode()
		}
		assert.Equal(t, 2, added)
	})
	require.NoError(t, err)
	_, others := testutil.Watch(t, b)
	assert.Equal(t, testutil.ErrBoom, testutil.Raises(func() { _ = b.Add([]byte("x")) }), "from the method")
	assert.Equal(t, []testutil.Change{{1, 0}}, *others)
	require.NoError(t, b.Add([]byte("xx")), "and it goes on")
	assert.Len(t, *others, 2)
	cb.Remove()

	base := testutil.NewBase(t)
	bev := silent(t, base)
	_, err = bev.Output().AddCallback(func(*libevent.Buffer, int, int) { testutil.Explode() })
	require.NoError(t, err)
	_, err = bev.WriteString("x")
	require.NoError(t, err)
	v := testutil.Raises(func() { _ = base.Dispatch() })
	require.IsType(t, &libevent.PanicError{}, v, "from the loop")
	testutil.Dispatch(t, base)
}

// The loop calls the callback of a bufferevent's buffer, on whichever goroutine the change
// was made.
func TestBufferCallbackOfABufferEvent(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	got := testutil.ReadAll(peer)
	added, deleted := 0, 0
	_, err := bev.Output().AddCallback(func(b *libevent.Buffer, a, d int) {
		assert.Same(t, bev.Output(), b)
		assert.ErrorIs(t, base.Dispatch(), libevent.ErrRunning, "on the loop")
		added += a
		deleted += d
		if deleted == 400 {
			assert.NoError(t, base.LoopBreak())
		}
	})
	require.NoError(t, err)
	for range 4 {
		_, err = bev.Write(make([]byte, 100))
		require.NoError(t, err)
	}
	assert.Zero(t, added, "not here")
	testutil.Dispatch(t, base)
	assert.Equal(t, testutil.Change{400, 400}, testutil.Change{added, deleted})
	bev.Free()
	assert.Len(t, testutil.Receive(t, got), 400)
}

func TestBufferCallbackLoopOnly(t *testing.T) {
	base := testutil.NewBase(t)
	a, _, err := base.NewPair(libevent.OptLoopOnly)
	require.NoError(t, err)
	cb, changes := testutil.Watch(t, a.Output())
	stop := testutil.Background(t, base)
	testutil.OnLoop(t, base, func() {})
	_, err = a.Output().AddCallback(func(*libevent.Buffer, int, int) {})
	assert.ErrorIs(t, err, libevent.ErrWrongLoop)
	assert.ErrorIs(t, cb.Disable(), libevent.ErrWrongLoop)
	cb.Remove()
	testutil.OnLoop(t, base, func() { assert.NoError(t, a.Output().Add([]byte("x"))) })
	testutil.OnLoop(t, base, func() { assert.Empty(t, *changes, "removed all the same") })
	stop()
}

// The callback is told of every byte once, and two calls never run at the same time.
func TestBufferCallbackFromManyGoroutines(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	var added, deleted, inside atomic.Int64
	_, err := b.AddCallback(func(_ *libevent.Buffer, a, d int) {
		assert.EqualValues(t, 1, inside.Add(1))
		added.Add(int64(a))
		deleted.Add(int64(d))
		inside.Add(-1)
	})
	require.NoError(t, err)
	const goroutines, each = 8, 500
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range each {
				assert.NoError(t, b.Add([]byte("ab")))
				assert.NoError(t, b.Drain(1))
			}
		})
		wg.Go(func() {
			for range each / 10 {
				cb, err := b.AddCallback(func(*libevent.Buffer, int, int) {})
				assert.NoError(t, err)
				assert.NoError(t, cb.Disable())
				cb.Remove()
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, goroutines*each*2, added.Load())
	assert.EqualValues(t, goroutines*each, deleted.Load())
}

// Goroutines change a buffer, free it, and remove and disable its callback, all at the
// same time.
func TestBufferCallbackRaces(t *testing.T) {
	base := testutil.NewBase(t)
	stop := testutil.Background(t, base)
	for range 100 {
		a, _ := testutil.NewPair(t, base)
		b := testutil.NewBuffer(t, "")
		var wg sync.WaitGroup
		for _, b := range []*libevent.Buffer{a.Output(), b} {
			cb, err := b.AddCallback(func(*libevent.Buffer, int, int) {})
			require.NoError(t, err)
			wg.Go(func() { _ = b.Add([]byte("x")) })
			wg.Go(cb.Remove)
			wg.Go(func() { _ = cb.Disable(); _ = cb.Enable() })
		}
		wg.Go(a.Free)
		wg.Go(b.Free)
		wg.Wait()
	}
	stop()
}

// One goroutine looks at what is due while another removes the callback. The record lives
// until both have left it.
func TestBufferCallbackRemovedWhileItIsDue(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	for range 5000 {
		cb, err := b.AddCallback(func(*libevent.Buffer, int, int) {})
		require.NoError(t, err)
		var wg sync.WaitGroup
		wg.Go(func() { assert.NoError(t, b.Add([]byte("x"))) })
		wg.Go(cb.Remove)
		wg.Wait()
	}
}
