// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// TestMain fails the run when a test has left anything behind in C.
func TestMain(m *testing.M) { os.Exit(testutil.Main(m, nil)) }

// runner is a loop that a test can run and free.
type runner interface {
	libevent.Loop
	Run(context.Context) error
	Free() error
	Stats() libevent.Stats
}

func newBase(t testing.TB) *libevent.Base {
	t.Helper()
	base, err := libevent.NewBaseConfig(libevent.Config{PlainIO: testutil.PlainIO})
	require.NoError(t, err)
	return base
}

func newGroup(t testing.TB) *libevent.Group {
	t.Helper()
	group, err := libevent.NewGroup(2, libevent.Config{PlainIO: testutil.PlainIO})
	require.NoError(t, err)
	return group
}

// background runs a loop until the returned function, which also frees the loop, is called.
// The end of the test calls it at the latest.
func background(t testing.TB, loop runner) (stop func()) {
	t.Helper()
	end := testutil.Background(t, loop)
	stop = sync.OnceFunc(func() {
		end()
		assert.NoError(t, loop.Free())
	})
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

// timedOut reports whether an error says in every way that a deadline has passed.
func timedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, os.ErrDeadlineExceeded) && errors.As(err, &t) && t.Timeout()
}
