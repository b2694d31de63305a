// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestVersions(t *testing.T) {
	assert.Regexp(t, `^2\.\d+\.\d+`, libevent.Version())
	assert.Regexp(t, `^2\.\d+\.\d+`, libevent.HeaderVersion())
	assert.NotEmpty(t, testutil.NewBase(t).Method())
}

func TestNewBaseConfig(t *testing.T) {
	def := testutil.NewBase(t).Method()
	other, err := libevent.NewBaseConfig(libevent.Config{AvoidMethods: []string{def, "no such method"}, Priorities: 3, CoarseTimer: true})
	require.NoError(t, err)
	assert.NotEqual(t, def, other.Method())
	ran := false
	require.NoError(t, other.Post(func() { ran = true }))
	testutil.Dispatch(t, other)
	assert.True(t, ran)
	require.NoError(t, other.Free())

	_, err = libevent.NewBaseConfig(libevent.Config{RequireFeatures: libevent.FeatureO1 | libevent.FeatureFDs | libevent.FeatureET,
		AvoidMethods: []string{"kqueue"}})
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	for _, bad := range []libevent.Config{{Priorities: -1}, {Priorities: 256}, {AvoidMethods: []string{"a\x00b"}}} {
		_, err = libevent.NewBaseConfig(bad)
		assert.ErrorIs(t, err, syscall.EINVAL, "%+v", bad)
	}
	one, err := libevent.NewBaseConfig(libevent.Config{RequireFeatures: libevent.FeatureET, Priorities: 255})
	require.NoError(t, err)
	require.NoError(t, one.Free())
}

// Timers are precise unless CoarseTimer was asked for.
func TestPreciseTimer(t *testing.T) {
	base := testutil.NewBase(t)
	var fired int
	timer, err := base.NewEvent(-1, libevent.EvPersist, func(int, libevent.What) {
		if fired++; fired%50 == 0 {
			assert.NoError(t, base.LoopBreak())
		}
	})
	require.NoError(t, err)
	testutil.Eventually(t, func() bool {
		require.NoError(t, timer.Add(time.Millisecond))
		start := time.Now()
		testutil.Dispatch(t, base)
		took := time.Since(start)
		assert.GreaterOrEqual(t, took, 49*time.Millisecond)
		// With a coarse clock every tick takes 4 ms, 200 ms in all. On a busy machine one
		// try may take as long.
		return took < 180*time.Millisecond
	}, "fifty ticks in time")
}

func TestDispatchEndsByItself(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Dispatch(t, base) // nothing to do
	require.NoError(t, base.Loop(libevent.LoopOnce))
	require.NoError(t, base.Loop(libevent.LoopNonblock|libevent.LoopNoExitOnEmpty))
	assert.ErrorIs(t, base.Loop(1<<10), syscall.EINVAL)
}

func TestLoopExitAndBreak(t *testing.T) {
	base := testutil.NewBase(t)
	require.NoError(t, base.LoopExit(0), "ends the next loop, too")
	require.NoError(t, base.Loop(libevent.LoopNoExitOnEmpty))
	start := time.Now()
	require.NoError(t, base.LoopExit(20*time.Millisecond))
	require.NoError(t, base.Loop(libevent.LoopNoExitOnEmpty))
	assert.GreaterOrEqual(t, time.Since(start), 20*time.Millisecond)
	assert.ErrorIs(t, base.LoopExit(-1), syscall.EINVAL)

	// After a break the closure that runs ends as usual, and the rest runs later.
	var order []int
	for i := range 3 {
		require.NoError(t, base.Post(func() {
			order = append(order, i)
			if i == 0 {
				assert.NoError(t, base.LoopBreak())
			}
		}))
	}
	require.NoError(t, base.Dispatch())
	assert.Equal(t, []int{0}, order)
	testutil.Dispatch(t, base)
	assert.Equal(t, []int{0, 1, 2}, order)

	// LoopBreak on another goroutine wakes a sleeping loop.
	running := make(chan struct{})
	require.NoError(t, base.Post(func() { close(running) }))
	go func() {
		<-running
		assert.NoError(t, base.LoopBreak())
	}()
	require.NoError(t, base.Loop(libevent.LoopNoExitOnEmpty))
}

func TestRun(t *testing.T) {
	base := testutil.NewBase(t)
	cause := errors.New("enough")

	ended, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	assert.ErrorIs(t, base.Run(ended), cause)

	// Run does not return before the context has ended, though nothing is added.
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
	assert.ErrorIs(t, base.Run(ctx), cause)

	ctx, stop := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer stop()
	assert.ErrorIs(t, base.Run(ctx), context.DeadlineExceeded)

	// A closure ends the context. What is posted waits for the next run.
	ctx, cancel = context.WithCancelCause(context.Background())
	var second bool
	require.NoError(t, base.Post(func() { cancel(cause) }))
	require.NoError(t, base.Post(func() {
		assert.NoError(t, base.Post(func() {
			assert.NoError(t, base.Post(func() { second = true }))
		}))
	}))
	assert.ErrorIs(t, base.Run(ctx), cause)
	testutil.Dispatch(t, base)
	assert.True(t, second)

	ctx, cancel = context.WithCancelCause(context.Background())
	defer cancel(nil)
	require.NoError(t, base.LoopExit(0))
	assert.NoError(t, base.Run(ctx))
	require.NoError(t, base.Post(func() { assert.NoError(t, base.LoopBreak()) }))
	assert.NoError(t, base.Run(ctx))
}

// TestRunStays runs an empty loop with a context that cannot end. LoopBreak ends it.
func TestRunStays(t *testing.T) {
	base := testutil.NewBase(t)
	group, err := libevent.NewGroup(2, libevent.Config{})
	require.NoError(t, err)
	defer func() { assert.NoError(t, group.Free()) }()
	for _, loop := range []interface {
		testutil.Runner
		Next() *libevent.Base
		LoopBreak() error
	}{base, group} {
		assert.ErrorIs(t, loop.Run(nil), syscall.EINVAL) //lint:ignore SA1012 nil is what is tested
		done := make(chan error, 1)
		go func() { done <- loop.Run(context.Background()) }()
		for range 3 {
			testutil.OnLoop(t, loop.Next(), func() {})
		}
		assert.Empty(t, done, "Run has returned")
		require.NoError(t, loop.LoopBreak())
		assert.NoError(t, testutil.Receive(t, done))
	}
}

// The context may end at any moment, also just before the loop begins. It ends Run.
func TestRunCancelledAtAnyMoment(t *testing.T) {
	base := testutil.NewBase(t)
	for i := range 500 {
		ctx, cancel := context.WithCancel(context.Background())
		if i%2 == 0 {
			go cancel()
		} else {
			time.AfterFunc(time.Duration(i)*time.Microsecond/4, cancel)
		}
		done := make(chan error, 1)
		go func() { done <- base.Run(ctx) }()
		require.ErrorIs(t, testutil.Receive(t, done), context.Canceled)
		cancel()
	}
}

func TestErrRunning(t *testing.T) {
	base := testutil.NewBase(t)
	other := testutil.NewBase(t)
	require.NoError(t, base.Post(func() {
		assert.ErrorIs(t, base.Dispatch(), libevent.ErrRunning)
		assert.ErrorIs(t, base.Run(context.Background()), libevent.ErrRunning)
		assert.ErrorIs(t, base.Free(), libevent.ErrRunning)
		assert.NoError(t, other.Post(func() {
			assert.ErrorIs(t, base.Dispatch(), libevent.ErrRunning)
			assert.ErrorIs(t, other.Dispatch(), libevent.ErrRunning)
		}))
		assert.NoError(t, other.Dispatch(), "another base may run inside")
		fromElsewhere := make(chan error, 2)
		go func() {
			fromElsewhere <- base.Dispatch()
			fromElsewhere <- base.Free()
		}()
		assert.ErrorIs(t, <-fromElsewhere, libevent.ErrRunning)
		assert.ErrorIs(t, <-fromElsewhere, libevent.ErrRunning)
	}))
	testutil.Dispatch(t, base)
}

func TestPost(t *testing.T) {
	base := testutil.NewBase(t)
	assert.ErrorIs(t, base.Post(nil), syscall.EINVAL)
	var order []int
	for i := range 100 {
		require.NoError(t, base.Post(func() { order = append(order, i) }))
	}
	testutil.Dispatch(t, base)
	for i, got := range order {
		assert.Equal(t, i, got)
	}
	assert.Len(t, order, 100)
	assert.EqualValues(t, 100, base.Stats().Callbacks)
}

func TestPostFromManyGoroutines(t *testing.T) {
	base := testutil.NewBase(t)
	stop := testutil.Background(t, base)
	const goroutines, each = 8, 2000
	var ran atomic.Int64
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range each {
				assert.NoError(t, base.Post(func() { ran.Add(1) }))
			}
		})
	}
	wg.Wait()
	testutil.OnLoop(t, base, func() {})
	assert.EqualValues(t, goroutines*each, ran.Load())
	stop()
}

// A function that posts itself without end does not keep sockets from being served.
func TestPostItselfWhileSocketsAreBusy(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		assert.NoError(t, b.Output().AddBuffer(b.Input()))
	}, nil, nil))
	require.NoError(t, bev.Enable(rd))
	var turns atomic.Int64
	var again func()
	again = func() {
		turns.Add(1)
		assert.NoError(t, base.Post(again))
	}
	require.NoError(t, base.Post(again))
	stop := testutil.Background(t, base)
	p := make([]byte, 4)
	for range 200 {
		_, err := peer.Write([]byte("ping"))
		require.NoError(t, err)
		_, err = io.ReadFull(peer, p)
		require.NoError(t, err)
	}
	testutil.Eventually(t, func() bool { return turns.Load() > 200 }, "the posted function goes on")
	stop()
}

func TestFreeBaseDropsPosted(t *testing.T) {
	base, err := libevent.NewBase()
	require.NoError(t, err)
	require.NoError(t, base.Post(func() { assert.Fail(t, "runs") }))
	require.NoError(t, base.Free())
	require.NoError(t, base.Free())
	assert.ErrorIs(t, base.Post(func() {}), libevent.ErrClosed)
	assert.ErrorIs(t, base.Dispatch(), libevent.ErrClosed)
	assert.ErrorIs(t, base.LoopBreak(), libevent.ErrClosed)
	assert.ErrorIs(t, base.LoopExit(0), libevent.ErrClosed)
	_, err = base.NewSocket(-1, 0)
	assert.ErrorIs(t, err, libevent.ErrClosed)
	_, _, err = base.NewPair(0)
	assert.ErrorIs(t, err, libevent.ErrClosed)
	_, err = base.NewTimer(func() {})
	assert.ErrorIs(t, err, libevent.ErrClosed)
	_, err = base.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{}, testutil.Drop)
	assert.ErrorIs(t, err, libevent.ErrClosed)
	assert.NotEmpty(t, base.Method())
}

func TestWhatABaseTells(t *testing.T) {
	base := testutil.NewBase(t)
	assert.Contains(t, libevent.SupportedMethods(), base.Method())
	if base.Method() == "epoll" {
		assert.NotZero(t, base.Features()&libevent.FeatureO1)
	}
	assert.Equal(t, 1, base.Priorities())
	before := base.NumEvents(libevent.CountAdded)
	timer, err := base.NewTimer(func() {})
	require.NoError(t, err)
	require.NoError(t, timer.Add(time.Hour))
	assert.Equal(t, before+1, base.NumEvents(libevent.CountAdded))
	assert.Equal(t, libevent.EvTimeout, timer.Pending(libevent.EvTimeout|rd))
	assert.Equal(t, -1, timer.FD())
	assert.Same(t, base, timer.Base())
	require.NoError(t, timer.Del())
	assert.Zero(t, timer.Pending(libevent.EvTimeout))
	assert.GreaterOrEqual(t, base.MaxEvents(libevent.CountAdded, true), before+1)
	assert.WithinDuration(t, time.Now(), base.CachedTime(), 10*time.Second)

	require.NoError(t, base.Post(func() {
		start := base.CachedTime()
		for time.Since(start) < 2*time.Millisecond {
			assert.Equal(t, start, base.CachedTime(), "one time a turn")
		}
		assert.NoError(t, base.UpdateCachedTime())
		assert.True(t, base.CachedTime().After(start))
		assert.NoError(t, base.LoopBreak())
	}))
	require.NoError(t, base.Dispatch())
	assert.True(t, base.GotBreak())
	assert.False(t, base.GotExit())
	require.NoError(t, base.LoopExit(0))
	require.NoError(t, base.Loop(libevent.LoopNoExitOnEmpty))
	assert.True(t, base.GotExit())
	require.NoError(t, base.LoopContinue())
}

func TestCommonTimeouts(t *testing.T) {
	base, other := testutil.NewBase(t), testutil.NewBase(t)
	common, err := base.NewCommonTimeout(10 * time.Millisecond)
	require.NoError(t, err)
	fired := 0
	var timers []*libevent.Event
	start := time.Now()
	for range 1000 {
		e, err := base.NewTimer(func() { fired++ })
		require.NoError(t, err)
		require.NoError(t, e.AddCommon(common))
		timers = append(timers, e)
	}
	require.NoError(t, timers[0].Del())
	testutil.Dispatch(t, base)
	assert.Equal(t, 999, fired)
	assert.GreaterOrEqual(t, time.Since(start), 10*time.Millisecond)
	foreign, err := other.NewTimer(func() {})
	require.NoError(t, err)
	assert.ErrorIs(t, foreign.AddCommon(common), syscall.EINVAL)
	assert.ErrorIs(t, timers[0].AddCommon(nil), syscall.EINVAL)
	_, err = base.NewCommonTimeout(-1)
	assert.ErrorIs(t, err, syscall.EINVAL)
	for i := 0; err == nil || errors.Is(err, syscall.EINVAL); i++ {
		require.Less(t, i, 300)
		_, err = base.NewCommonTimeout(time.Duration(i+20) * time.Millisecond)
	}
	assert.ErrorIs(t, err, syscall.ENOSPC)
}

func TestDispatchBounds(t *testing.T) {
	for _, bad := range []libevent.Config{{MaxDispatchInterval: -1}, {MaxDispatchCallbacks: -1}, {MinDispatchPriority: -1}} {
		_, err := libevent.NewBaseConfig(bad)
		assert.ErrorIs(t, err, syscall.EINVAL)
	}
	base, err := libevent.NewBaseConfig(libevent.Config{Priorities: 2, MaxDispatchCallbacks: 1, MinDispatchPriority: 1,
		NoCacheTime: true, IgnoreEnv: true, EpollChangelist: true})
	require.NoError(t, err)
	defer func() { assert.NoError(t, base.Free()) }()
	// After each of the many events that are due, the loop looks for events of a higher
	// priority.
	var order []string
	urgent, err := base.NewEvent(-1, 0, func(int, libevent.What) { order = append(order, "urgent") })
	require.NoError(t, err)
	require.NoError(t, urgent.SetPriority(0))
	for range 3 {
		e, err := base.NewEvent(-1, 0, func(int, libevent.What) {
			order = append(order, "one of many")
			if len(order) == 1 {
				assert.NoError(t, urgent.Active(rd))
			}
		})
		require.NoError(t, err)
		require.NoError(t, e.Active(rd))
	}
	testutil.Dispatch(t, base)
	assert.Equal(t, []string{"one of many", "urgent", "one of many", "one of many"}, order)
}
