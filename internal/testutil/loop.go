// SPDX-License-Identifier: BSD-3-Clause

package testutil

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
)

// Main runs the tests, and fails the run if a test has left an object of C's behind. The
// tests have made *stale of the stale callbacks on purpose; nil means none. With
// LIBEVENT_LOCK_DEBUGGING in the environment libevent checks how its locks are used.
func Main(m *testing.M, stale *uint64) (code int) {
	if os.Getenv("LIBEVENT_LOCK_DEBUGGING") != "" {
		libevent.EnableLockDebugging()
	}
	code = m.Run()
	if live := libevent.Live(); live != (libevent.LiveObjects{}) {
		fmt.Printf("FAIL: objects left behind: %+v\n", live)
		code = 1
	}
	if stale == nil {
		stale = new(uint64)
	}
	if n := libevent.StaleCallbacks(); n != *stale {
		fmt.Printf("FAIL: %d stale callbacks, %d made by tests\n", n, *stale)
		code = 1
	}
	return code
}

// NewBase makes a base that is freed at the end of the test.
func NewBase(t testing.TB) *libevent.Base {
	t.Helper()
	base, err := libevent.NewBaseConfig(libevent.Config{PlainIO: PlainIO})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, base.Free()) })
	return base
}

// Runner is a Base or a Group.
type Runner interface{ Run(context.Context) error }

// Background runs the loop on a goroutine until the returned function is called, or until
// the end of the test. The loop of a base runs when Background returns.
func Background(t testing.TB, loop Runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- loop.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			assert.ErrorIs(t, Receive(t, done), context.Canceled)
		}
	}
	t.Cleanup(stop)
	if base, ok := loop.(*libevent.Base); ok {
		OnLoop(t, base, func() {})
	}
	return stop
}

// Dispatch runs the loop until the loop ends by itself. If that takes too long the test
// fails.
func Dispatch(t testing.TB, base *libevent.Base) {
	t.Helper()
	watchdog := time.AfterFunc(Patience, func() {
		t.Error("the loop does not end")
		_ = base.LoopBreak()
	})
	defer watchdog.Stop()
	require.NoError(t, base.Dispatch())
}

// Hold runs act on the loop of base, and keeps the loop there until a timer of another loop has passed. Then all timers
// of base that have passed meanwhile are met in one turn.
func Hold(t testing.TB, base *libevent.Base, d time.Duration, act func()) {
	t.Helper()
	clock := NewBase(t)
	Background(t, clock)
	acted, ends := make(chan struct{}), make(chan struct{})
	require.NoError(t, base.Post(func() {
		act()
		close(acted)
		<-ends
	}))
	Receive(t, acted)
	_, err := clock.After(d, func() { close(ends) })
	require.NoError(t, err)
	Receive(t, ends)
}

// OnLoop runs fn on the loop's goroutine, which runs in the background, and waits until fn
// has returned.
func OnLoop(t testing.TB, base *libevent.Base, fn func()) {
	t.Helper()
	done := make(chan struct{})
	require.NoError(t, base.Post(func() { defer close(done); fn() }))
	Receive(t, done)
}

// OnceOnLoop posts fn and runs a few turns of the loop on this goroutine.
func OnceOnLoop(t testing.TB, base *libevent.Base, fn func()) {
	t.Helper()
	require.NoError(t, base.Post(fn))
	for range 3 {
		require.NoError(t, base.Loop(libevent.LoopNonblock))
	}
}

// Idle runs the loop for a time, and then some turns more: on a busy machine the time can
// be over before the loop has done everything that was due.
func Idle(t testing.TB, base *libevent.Base, d time.Duration) {
	t.Helper()
	require.NoError(t, base.LoopExit(d))
	require.NoError(t, base.Loop(libevent.LoopNoExitOnEmpty))
	for range 20 {
		require.NoError(t, base.Loop(libevent.LoopNonblock))
	}
}

// Quiet keeps libevent's warnings out of the output of the test.
func Quiet(t testing.TB) {
	t.Helper()
	require.NoError(t, libevent.SetLogger(slog.New(slog.DiscardHandler)))
	t.Cleanup(func() { assert.NoError(t, libevent.SetLogger(nil)) })
}
