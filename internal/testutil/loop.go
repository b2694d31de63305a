package testutil

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
)

// Main runs the tests, and fails the run when one has left anything behind in C. Of the
// stale callbacks the tests have made *stale on purpose; nil is none.
func Main(m *testing.M, stale *uint64) (code int) {
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

// Runner is a base or a group.
type Runner interface{ Run(context.Context) error }

// Background runs the loop on a goroutine until the returned function is called, which
// happens at the end of the test at the latest. A base runs when Background returns.
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

// Dispatch runs the loop until it ends by itself, or fails the test.
func Dispatch(t testing.TB, base *libevent.Base) {
	t.Helper()
	watchdog := time.AfterFunc(Patience, func() {
		t.Error("the loop does not end")
		_ = base.LoopBreak()
	})
	defer watchdog.Stop()
	require.NoError(t, base.Dispatch())
}

// OnLoop runs fn on the goroutine of a loop in the background and waits for it.
func OnLoop(t testing.TB, base *libevent.Base, fn func()) {
	t.Helper()
	done := make(chan struct{})
	require.NoError(t, base.Post(func() { defer close(done); fn() }))
	Receive(t, done)
}
