package evnet_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
)

// TestMain fails the run when a test has left anything behind in C.
func TestMain(m *testing.M) {
	code := m.Run()
	if live := libevent.Live(); live != (libevent.LiveObjects{}) {
		fmt.Printf("FAIL: objects left behind: %+v\n", live)
		code = 1
	}
	if n := libevent.StaleCallbacks(); n != 0 {
		fmt.Printf("FAIL: %d stale callbacks\n", n)
		code = 1
	}
	os.Exit(code)
}

// patience bounds every wait of the tests; it is never what a passing test waits.
const patience = 30 * time.Second

// plainIO runs the tests without the fast path.
var plainIO = os.Getenv("LIBEVENT_PLAIN_IO") != ""

// runner is a loop that a test can run and free.
type runner interface {
	libevent.Loop
	Run(context.Context) error
	Free() error
	Stats() libevent.Stats
}

func newBase(t testing.TB) *libevent.Base {
	t.Helper()
	base, err := libevent.NewBaseConfig(libevent.Config{PlainIO: plainIO})
	require.NoError(t, err)
	return base
}

func newGroup(t testing.TB) *libevent.Group {
	t.Helper()
	group, err := libevent.NewGroup(2, libevent.Config{PlainIO: plainIO})
	require.NoError(t, err)
	return group
}

// background runs a loop until the returned function is called, which then frees it; that
// happens at the end of the test at the latest.
func background(t testing.TB, loop runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- loop.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			assert.ErrorIs(t, receive(t, done), context.Canceled)
			assert.NoError(t, loop.Free())
		}
	}
	t.Cleanup(stop)
	return stop
}

// running makes a base and runs it.
func running(t testing.TB) *libevent.Base {
	t.Helper()
	base := newBase(t)
	background(t, base)
	return base
}

// receive waits for a value from a channel.
func receive[T any](t testing.TB, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		buf := make([]byte, 1<<20)
		t.Logf("%s", buf[:runtime.Stack(buf, true)])
		require.Fail(t, "waited too long")
	}
	return v
}

func eventually(t testing.TB, cond func() bool, what string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); runtime.Gosched() {
		if time.Now().After(deadline) {
			require.Fail(t, "never happened: "+what)
		}
	}
}

// result is what a call on another goroutine returned.
type result[T any] struct {
	v   T
	err error
}

// async makes a call on another goroutine.
func async[T any](fn func() (T, error)) <-chan result[T] {
	ch := make(chan result[T], 1)
	go func() {
		v, err := fn()
		ch <- result[T]{v, err}
	}()
	return ch
}

func timedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, os.ErrDeadlineExceeded) && errors.As(err, &t) && t.Timeout()
}
