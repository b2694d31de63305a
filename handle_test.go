// SPDX-License-Identifier: BSD-3-Clause

package libevent

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Package go-pointer uses an address again at once. A handle that C has kept for too long
// then leads to another object, and the trampoline must see that.
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
	stale, native := old.handle.p, old.native
	old.Free() // at once: no loop runs

	var reused *BufferEvent
	var all []*BufferEvent
	for range 1000 {
		bev := newCounted()
		all = append(all, bev)
		if bev.handle.p == stale {
			reused = bev
			break
		}
	}
	foreign := unsafe.Pointer(new(int)) // not the C pointer of whichever object has the handle now
	_, ok := called[*BufferEvent](stale, foreign)
	assert.False(t, ok)
	if reused != nil && reused.native != native {
		_, ok = called[*BufferEvent](stale, native)
		assert.False(t, ok)
	}
	_, ok = called[*Event](all[0].handle.p, all[0].native)
	assert.False(t, ok, "another type of object")
	_, ok = called[*BufferEvent](foreign, native)
	assert.False(t, ok, "no handle at all")
	assert.Zero(t, calls)
	assert.Greater(t, StaleCallbacks(), before)

	b, ok := called[*BufferEvent](all[0].handle.p, all[0].native)
	require.True(t, ok)
	assert.False(t, b.call(b.closures.Load().read))
	assert.Equal(t, 1, calls)

	// A freed object gets no calls either, though its memory is still there.
	require.True(t, b.enter())
	b.Free()
	_, ok = called[*BufferEvent](b.handle.p, b.native)
	assert.False(t, ok)
	b.leave()
	b.handle.release() // twice, which would make go-pointer abort the process
	require.NoError(t, base.Free())
	StaleOnPurpose += StaleCallbacks() - before
}

// StaleOnPurpose is the number of stale callbacks that the test above has made. TestMain
// needs it.
var StaleOnPurpose uint64
