// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// A filter with OptLoopOnly and without OptDeferCallbacks has its write closure called inside
// Write. While no loop runs, Write acts as the loop. The closure may do there what every
// closure may do: free objects, and wait for a goroutine that frees some.
func TestClosureInsideACallThatActsAsTheLoop(t *testing.T) {
	base := testutil.NewBase(t)
	under, _ := testutil.NewSocket(t, base, libevent.OptLoopOnly)
	f := testutil.NewFilter(t, under, nil, nil, libevent.OptLoopOnly|libevent.OptCloseOnFree)
	another, _ := testutil.NewSocket(t, base, 0)
	alone, _ := testutil.NewSocket(t, base, libevent.OptLoopOnly)
	elsewhere, _ := testutil.NewSocket(t, base, libevent.OptLoopOnly)
	calls := 0
	require.NoError(t, f.SetCallbacks(nil, func(f *libevent.BufferEvent) {
		if calls++; calls > 1 {
			return
		}
		assert.ErrorIs(t, base.Dispatch(), libevent.ErrRunning)
		assert.ErrorIs(t, base.Free(), libevent.ErrRunning)
		freed := make(chan struct{})
		go func() {
			defer close(freed)
			elsewhere.Free()
		}()
		<-freed
		another.Free()
		alone.Free()
		f.Free()
	}, nil))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := f.Write([]byte("hello"))
		assert.NoError(t, err)
	}()
	testutil.Receive(t, done)
	assert.Equal(t, 1, calls)
	testutil.Dispatch(t, base)
	assert.Zero(t, base.Stats().BufferEvents)
}
