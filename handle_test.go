// SPDX-License-Identifier: BSD-3-Clause

package libevent

import (
	"io"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A slot is used again at once. A handle that C has kept for too long leads to no object then, and
// neither does one that leads to another object than the native pointer of the call belongs to.
func TestStaleHandle(t *testing.T) {
	base, err := NewBase()
	require.NoError(t, err)
	before := StaleCallbacks()
	calls := 0
	newCounted := func() *BufferEvent {
		bev, err := base.NewSocket(-1, 0)
		require.NoError(t, err)
		require.NoError(t, bev.SetCallbacks(func(*BufferEvent) { calls++ }, nil, nil))
		return bev
	}
	old := newCounted()
	stale, native := uintptr(old.handle), old.native
	old.Free() // at once: no loop runs

	var reused *BufferEvent
	var all []*BufferEvent
	for range 1000 {
		bev := newCounted()
		all = append(all, bev)
		if slotOf(bev.handle) == slotOf(handle(stale)) {
			reused = bev
			break
		}
	}
	foreign := unsafe.Pointer(new(int)) // not the C pointer of whichever object has the handle now
	_, ok := called[*BufferEvent](stale, foreign)
	assert.False(t, ok)
	require.NotNil(t, reused)
	_, ok = called[*BufferEvent](stale, native)
	assert.False(t, ok)
	_, ok = called[*BufferEvent](stale, reused.native)
	assert.False(t, ok)
	_, ok = called[*BufferEvent](uintptr(reused.handle), foreign)
	assert.False(t, ok)
	_, ok = called[*Event](uintptr(all[0].handle), all[0].native)
	assert.False(t, ok, "another type of object")
	for _, none := range []uintptr{0, 1, uintptr(generation - 1), ^uintptr(0)} {
		_, ok = called[*BufferEvent](none, native)
		assert.False(t, ok, "no handle at all")
	}
	assert.Zero(t, calls)
	assert.Greater(t, StaleCallbacks(), before)

	b, ok := called[*BufferEvent](uintptr(all[0].handle), all[0].native)
	require.True(t, ok)
	assert.False(t, b.call(b.closures.Load().read))
	assert.Equal(t, 1, calls)

	// A freed object gets no calls either, though its memory is still there.
	require.True(t, b.enter())
	b.Free()
	_, ok = called[*BufferEvent](uintptr(b.handle), b.native)
	assert.False(t, ok)
	b.leave()
	b.handle.release() // twice
	require.NoError(t, base.Free())
	StaleOnPurpose += StaleCallbacks() - before
}

// An event may be due below a filter when NewFilter makes it on another goroutine. Here the lock
// of the base stops NewFilter when libevent knows the filter and Go does not. The event waits.
func TestAnEventBeforeTheConstructorReturns(t *testing.T) {
	base, err := NewBase()
	require.NoError(t, err)
	under, other, err := base.NewPair(0)
	require.NoError(t, err)
	second, err := base.NewTimer(func() { base.mu.Unlock() })
	require.NoError(t, err)
	first, err := base.NewTimer(func() { assert.NoError(t, second.Add(0)) }) // in the next turn
	require.NoError(t, err)
	require.NoError(t, first.Add(0))
	require.NoError(t, under.TriggerEvent(EventEOF|EventReading))

	base.mu.Lock()
	filter := make(chan *BufferEvent, 1)
	go func() {
		f, err := NewFilter(under, nil, nil, 0)
		assert.NoError(t, err)
		filter <- f
	}()
	for !strings.Contains(under.record(), "above=1") {
		runtime.Gosched()
	}
	under.Enabled() // waits for the lock that C holds while it makes the filter
	require.NoError(t, base.Dispatch())
	f := <-filter
	assert.Equal(t, io.EOF, f.Err())
	for _, o := range []interface{ Free() }{f, under, other, first, second} {
		o.Free()
	}
	require.NoError(t, base.Free())
}

// StaleOnPurpose is the number of stale callbacks that the test above has made. TestMain
// needs it.
var StaleOnPurpose uint64
