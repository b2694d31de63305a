// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"errors"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestEventOnDescriptor(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.Socketpair(t)
	defer syscall.Close(a)
	defer syscall.Close(b)
	var fired []libevent.What
	once, err := base.NewEvent(a, rd|wr, func(fd int, what libevent.What) {
		assert.Equal(t, a, fd)
		fired = append(fired, what)
	})
	require.NoError(t, err)
	testutil.Dispatch(t, base)
	assert.Empty(t, fired, "not added yet")
	require.NoError(t, once.Add(-1))
	testutil.Dispatch(t, base)
	assert.Equal(t, []libevent.What{wr}, fired)

	_, err = syscall.Write(b, []byte("x"))
	require.NoError(t, err)
	require.NoError(t, once.Add(-1))
	testutil.Dispatch(t, base)
	assert.Equal(t, []libevent.What{wr, rd | wr}, fired)

	require.NoError(t, once.Add(-1))
	require.NoError(t, once.Del())
	testutil.Dispatch(t, base)
	assert.Len(t, fired, 2)
}

func TestEventPersistAndTimeout(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.Socketpair(t)
	defer syscall.Close(a)
	defer syscall.Close(b)
	var fired []libevent.What
	var e *libevent.Event
	e, err := base.NewEvent(a, rd|libevent.EvPersist, func(_ int, what libevent.What) {
		fired = append(fired, what)
		if len(fired) == 3 {
			e.Free()
		} else if len(fired) == 2 {
			assert.NoError(t, e.Add(time.Hour)) // with a short timeout it could be due again before the byte is seen
			_, _ = syscall.Write(b, []byte("x"))
		}
	})
	require.NoError(t, err)
	require.NoError(t, e.Add(10*time.Millisecond))
	testutil.Dispatch(t, base)
	assert.Equal(t, []libevent.What{libevent.EvTimeout, libevent.EvTimeout, rd}, fired)
}

// The timeout of an event has passed, and the event is added again before that is told. Then it still
// waits for its descriptor.
func TestEventAddedAgainBeforeItsTimeoutIsTold(t *testing.T) {
	for i, kind := range []libevent.What{rd, rd | libevent.EvPersist, rd} {
		base := testutil.NewBase(t)
		common, err := base.NewCommonTimeout(time.Hour)
		require.NoError(t, err)
		a, b := testutil.Socketpair(t)
		readable := make(chan struct{}, 1)
		e, err := base.NewEvent(a, kind, func(fd int, what libevent.What) {
			if what&rd != 0 {
				_, err := syscall.Read(fd, make([]byte, 1))
				assert.NoError(t, err)
				readable <- struct{}{}
			}
		})
		require.NoError(t, err)
		pass(t, base, func() { assert.NoError(t, e.Add(10*time.Millisecond)) },
			func() {
				if i == 2 {
					assert.NoError(t, e.AddCommon(common))
				} else {
					assert.NoError(t, e.Add(time.Hour))
				}
			})
		_, err = syscall.Write(b, []byte("x"))
		require.NoError(t, err)
		testutil.Receive(t, readable)
		testutil.OnLoop(t, base, e.Free)
		require.NoError(t, errors.Join(syscall.Close(a), syscall.Close(b)))
	}
}

func TestEdgeTriggered(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.Socketpair(t)
	defer syscall.Close(a)
	defer syscall.Close(b)
	fired := 0
	e, err := base.NewEvent(a, rd|libevent.EvPersist|libevent.EvET, func(int, libevent.What) { fired++ })
	require.NoError(t, err)
	if err := e.Add(-1); err != nil {
		t.Skip("no edge-triggered events with", base.Method())
	}
	_, err = syscall.Write(b, []byte("x"))
	require.NoError(t, err)
	for range 5 {
		require.NoError(t, base.Loop(libevent.LoopNonblock))
	}
	assert.Equal(t, 1, fired, "the byte is not read, and still it fires once")
}

func TestTimer(t *testing.T) {
	base := testutil.NewBase(t)
	var fired int
	timer, err := base.NewTimer(func() { fired++ })
	require.NoError(t, err)
	for i := range 3 {
		start := time.Now()
		require.NoError(t, timer.Add(10*time.Millisecond))
		testutil.Dispatch(t, base)
		assert.Equal(t, i+1, fired)
		assert.GreaterOrEqual(t, time.Since(start), 10*time.Millisecond)
	}
	require.NoError(t, timer.Add(0))
	testutil.Dispatch(t, base)
	assert.Equal(t, 4, fired)
	require.NoError(t, timer.Add(time.Nanosecond), "rounded up, not to none")
	testutil.Dispatch(t, base)
	assert.Equal(t, 5, fired)
}

func TestActive(t *testing.T) {
	base := testutil.NewBase(t)
	var fired []libevent.What
	user, err := base.NewEvent(-1, libevent.EvPersist, func(fd int, what libevent.What) {
		assert.Equal(t, -1, fd)
		fired = append(fired, what)
	})
	require.NoError(t, err)
	require.NoError(t, user.Active(wr))
	require.NoError(t, user.Active(wr))
	testutil.Dispatch(t, base)
	assert.Equal(t, []libevent.What{wr}, fired, "twice before it runs is once")
	for _, bad := range []libevent.What{0, libevent.EvPersist, rd | libevent.EvET} {
		assert.ErrorIs(t, user.Active(bad), syscall.EINVAL)
	}
	// Active wakes a sleeping loop.
	stop := testutil.Background(t, base)
	testutil.OnLoop(t, base, func() {})
	require.NoError(t, user.Active(rd))
	testutil.Eventually(t, func() bool {
		n := 0
		testutil.OnLoop(t, base, func() { n = len(fired) })
		return n == 2
	}, "the event fires")
	stop()
}

func TestSignal(t *testing.T) {
	base := testutil.NewBase(t)
	goroutines := runtime.NumGoroutine()
	var got []os.Signal
	var e *libevent.Event
	e, err := base.NewSignal(syscall.SIGUSR1, func(sig os.Signal) {
		got = append(got, sig)
		if len(got) == 2 {
			assert.NoError(t, e.Del())
			return
		}
		assert.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGUSR1))
	})
	require.NoError(t, err)
	require.NoError(t, e.Add(-1))
	require.NoError(t, e.Add(-1), "again")
	assert.ErrorIs(t, e.Add(0), syscall.EINVAL, "takes no timeout")
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGUSR1))
	testutil.Dispatch(t, base) // returns when the signal is not added any more
	assert.Equal(t, []os.Signal{syscall.SIGUSR1, syscall.SIGUSR1}, got)
	assert.False(t, signal.Ignored(syscall.SIGUSR1))
	e.Free()
	// Package os/signal keeps one goroutine for ever.
	testutil.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+1 }, "the watcher ends")
}

// Package os/signal still gets the signal as well.
func TestSignalBesideOsSignal(t *testing.T) {
	base := testutil.NewBase(t)
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGUSR2)
	defer signal.Stop(ch)
	e, err := base.NewSignal(syscall.SIGUSR2, func(os.Signal) { assert.NoError(t, base.LoopBreak()) })
	require.NoError(t, err)
	require.NoError(t, e.Add(-1))
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGUSR2))
	testutil.Dispatch(t, base)
	testutil.Receive(t, ch)
}

func TestEventArguments(t *testing.T) {
	base := testutil.NewBase(t)
	fn := func(int, libevent.What) {}
	for _, c := range []struct {
		fd   int
		what libevent.What
	}{{-1, rd}, {-2, 0}, {0, libevent.EvSignal}, {0, 0x100}, {-1, wr | libevent.EvPersist}} {
		_, err := base.NewEvent(c.fd, c.what, fn)
		assert.ErrorIs(t, err, syscall.EINVAL, "%d %v", c.fd, c.what)
	}
	_, err := base.NewEvent(-1, 0, nil)
	assert.ErrorIs(t, err, syscall.EINVAL)
	_, err = base.NewTimer(nil)
	assert.ErrorIs(t, err, syscall.EINVAL)
	_, err = base.NewSignal(syscall.SIGUSR1, nil)
	assert.ErrorIs(t, err, syscall.EINVAL)
	_, err = base.NewSignal(nil, func(os.Signal) {})
	assert.ErrorIs(t, err, syscall.EINVAL)

	testutil.Quiet(t)
	a, b := testutil.Socketpair(t)
	require.NoError(t, syscall.Close(a))
	require.NoError(t, syscall.Close(b))
	e, err := base.NewEvent(a, rd, fn)
	require.NoError(t, err)
	assert.ErrorIs(t, e.Add(-1), syscall.EBADF)

	e.Free()
	e.Free()
	assert.ErrorIs(t, e.Add(0), libevent.ErrClosed)
	assert.ErrorIs(t, e.Del(), libevent.ErrClosed)
	assert.ErrorIs(t, e.Active(rd), libevent.ErrClosed)
}
