// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"reflect"
	"runtime"
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

// newGroup makes a group that is freed at the end of the test.
func newGroup(t testing.TB, loops int) *libevent.Group {
	t.Helper()
	g, err := libevent.NewGroup(loops, libevent.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, g.Free()) })
	return g
}

// runGroup runs the loops. The function that it returns ends them, and returns the result
// of Run.
func runGroup(t testing.TB, g *libevent.Group) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return testutil.Receive(t, done)
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

// finish runs the loops until nothing is left to wait for. If that takes too long the test
// fails.
func finish(t testing.TB, g *libevent.Group) {
	t.Helper()
	require.NoError(t, g.Finish())
	done := make(chan error, 1)
	go func() { done <- g.Run(context.Background()) }()
	require.NoError(t, testutil.Receive(t, done))
}

// onItsLoop says whether the caller is the loop's goroutine of base, whose loop must run.
func onItsLoop(t testing.TB, base *libevent.Base) bool {
	bev, err := base.NewSocket(-1, libevent.OptLoopOnly)
	if !assert.NoError(t, err) {
		return false
	}
	defer bev.Free()
	err = bev.SetTimeouts(time.Hour, 0)
	return !errors.Is(err, libevent.ErrWrongLoop) && assert.NoError(t, err)
}

func TestGroupLoops(t *testing.T) {
	assert.Equal(t, runtime.GOMAXPROCS(0), newGroup(t, 0).Len())
	_, err := libevent.NewGroup(-1, libevent.Config{})
	assert.ErrorIs(t, err, syscall.EINVAL)
	_, err = libevent.NewGroup(2, libevent.Config{Priorities: -1})
	assert.ErrorIs(t, err, syscall.EINVAL)

	g := newGroup(t, 3)
	assert.Equal(t, 3, g.Len())
	bases := g.Bases()
	require.Len(t, bases, 3)
	g.Bases()[0] = nil
	assert.Equal(t, bases, g.Bases(), "the slice is the caller's")
	for i := range 7 {
		assert.Same(t, bases[i%3], g.Next())
	}
	assert.Same(t, bases[0], bases[0].Next())
	require.NoError(t, bases[1].Free())
	assert.Same(t, bases[2], g.Next(), "one that was freed is left out")
	assert.Same(t, bases[0], g.Next())
	assert.Same(t, bases[2], g.Next())
	assert.ErrorIs(t, g.Run(context.Background()), libevent.ErrClosed)
	assert.NoError(t, bases[0].Loop(libevent.LoopNonblock), "which was given back")
}

// A Group without loops was not made by NewGroup, or is freed.
func TestGroupClosed(t *testing.T) {
	freed, err := libevent.NewGroup(2, libevent.Config{})
	require.NoError(t, err)
	l := groupListen(t, freed, testutil.Drop)
	require.NoError(t, freed.Free())
	for _, g := range []*libevent.Group{freed, {}} {
		assert.ErrorIs(t, g.Run(context.Background()), libevent.ErrClosed)
		assert.ErrorIs(t, g.PostAll(func(*libevent.Base) {}), libevent.ErrClosed)
		assert.ErrorIs(t, g.Finish(), libevent.ErrClosed)
		assert.ErrorIs(t, g.LoopExit(0), libevent.ErrClosed)
		assert.ErrorIs(t, g.LoopBreak(), libevent.ErrClosed)
		_, err = g.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{}, testutil.Drop)
		assert.ErrorIs(t, err, libevent.ErrClosed)
		_, err = g.ListenFD(0, libevent.ListenOptions{}, testutil.Drop)
		assert.ErrorIs(t, err, libevent.ErrClosed)
		assert.Zero(t, g.Stats())
		assert.NoError(t, g.Free(), "twice")
	}
	assert.Same(t, freed.Bases()[0], freed.Next())
	assert.Nil(t, (&libevent.Group{}).Next())
	assert.ErrorIs(t, l.Enable(), libevent.ErrClosed)
}

func TestStatsAdd(t *testing.T) {
	var a, b libevent.Stats
	for i := range reflect.TypeFor[libevent.Stats]().NumField() {
		for n, s := range []*libevent.Stats{&a, &b} {
			if f := reflect.ValueOf(s).Elem().Field(i); f.CanUint() {
				f.SetUint(uint64(i + 100*n))
			} else {
				f.SetInt(int64(i + 100*n))
			}
		}
	}
	sum := reflect.ValueOf(a.Add(b))
	for i := range sum.NumField() {
		assert.EqualValues(t, 2*i+100, sum.Field(i).Interface(), sum.Type().Field(i).Name)
	}
}

func TestGroupStats(t *testing.T) {
	g := newGroup(t, 2)
	for i, base := range g.Bases() {
		for range i + 1 {
			testutil.NewSocket(t, base, 0)
		}
	}
	require.NoError(t, g.PostAll(func(*libevent.Base) {}))
	finish(t, g)
	assert.Equal(t, libevent.Stats{Callbacks: 2, BufferEvents: 3}, g.Stats())
}

// Functions of all loops run at the same time, each on its own goroutine.
func TestGroupPostAll(t *testing.T) {
	g := newGroup(t, 3)
	assert.ErrorIs(t, g.PostAll(nil), syscall.EINVAL)
	var mu sync.Mutex
	seen := map[*libevent.Base]int{}
	var meeting sync.WaitGroup
	meeting.Add(3)
	met := make(chan struct{})
	go func() { meeting.Wait(); close(met) }()
	require.NoError(t, g.PostAll(func(b *libevent.Base) {
		assert.True(t, onItsLoop(t, b))
		for _, other := range g.Bases() {
			assert.Equal(t, b == other, onItsLoop(t, other))
		}
		mu.Lock()
		seen[b]++
		mu.Unlock()
		meeting.Done()
		select {
		case <-met:
		case <-time.After(testutil.Patience):
			assert.Fail(t, "not at the same time")
		}
	}))
	finish(t, g)
	assert.Len(t, seen, 3)
	for _, n := range seen {
		assert.Equal(t, 1, n)
	}
}

// Code that is written for a Loop works on a Base and on a Group.
func TestLoop(t *testing.T) {
	base, group := testutil.NewBase(t), newGroup(t, 2)
	testutil.Background(t, base)
	runGroup(t, group)
	for _, loop := range []libevent.Loop{base, group} {
		accepted := make(chan *libevent.BufferEvent, 1)
		l, err := loop.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{}, func(l *libevent.Listener, fd int, _ net.Addr) {
			bev, err := l.Base().NewSocket(fd, libevent.OptCloseOnFree)
			assert.NoError(t, err)
			accepted <- bev
		})
		require.NoError(t, err)
		client, err := loop.Next().NewSocket(-1, libevent.OptCloseOnFree)
		require.NoError(t, err)
		connected := make(chan libevent.Events, 1)
		require.NoError(t, client.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, what libevent.Events) { connected <- what }))
		require.NoError(t, client.Connect("tcp", l.Addr().String()))
		assert.Equal(t, libevent.EventConnected, testutil.Receive(t, connected))
		assert.NotNil(t, testutil.Receive(t, accepted))
	}
}

// Closures of two loops send bytes to each other's connection at the same time.
func TestGroupConnectionsOfTwoLoops(t *testing.T) {
	g := newGroup(t, 2)
	runGroup(t, g)
	const pairs, size = 4, 1 << 20
	var wg sync.WaitGroup
	for range pairs {
		var bevs [2]*libevent.BufferEvent
		var peers [2]*net.TCPConn
		for i, base := range g.Bases() {
			bevs[i], peers[i] = testutil.NewSocket(t, base, 0)
		}
		for i, bev := range bevs {
			other := bevs[1-i]
			require.NoError(t, bev.SetCallbacks(
				func(bev *libevent.BufferEvent) { assert.NoError(t, other.WriteBuffer(bev.Input())) }, nil,
				func(*libevent.BufferEvent, libevent.Events) { assert.NoError(t, other.CloseWrite()) }))
			require.NoError(t, bev.Enable(rd))
		}
		for i, peer := range peers {
			wg.Go(func() {
				_, err := peer.Write(testutil.Noise(size + i))
				assert.NoError(t, err)
				assert.NoError(t, peer.CloseWrite())
			})
			wg.Go(func() {
				got, err := io.ReadAll(peer)
				assert.NoError(t, err)
				testutil.Same(t, testutil.Noise(size+1-i), got)
			})
		}
	}
	wg.Wait()
}

func TestGroupRunEnds(t *testing.T) {
	cause := errors.New("enough")
	for name, end := range map[string]func(g *libevent.Group, cancel context.CancelCauseFunc) error{
		"context":             func(_ *libevent.Group, cancel context.CancelCauseFunc) error { cancel(cause); return nil },
		"LoopExit":            func(g *libevent.Group, _ context.CancelCauseFunc) error { return g.LoopExit(time.Millisecond) },
		"LoopBreak":           func(g *libevent.Group, _ context.CancelCauseFunc) error { return g.LoopBreak() },
		"LoopBreak of a base": func(g *libevent.Group, _ context.CancelCauseFunc) error { return g.Bases()[1].LoopBreak() },
		"LoopExit of a base":  func(g *libevent.Group, _ context.CancelCauseFunc) error { return g.Bases()[1].LoopExit(0) },
		"Finish":              func(g *libevent.Group, _ context.CancelCauseFunc) error { return g.Finish() },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t, 3)
			for _, inClosure := range []bool{true, false, true} { // each Run starts all loops again
				ctx, cancel := context.WithCancelCause(context.Background())
				done := make(chan error, 1)
				started := make(chan struct{}, 3)
				require.NoError(t, g.PostAll(func(*libevent.Base) { started <- struct{}{} }))
				go func() { done <- g.Run(ctx) }()
				for range 3 {
					testutil.Receive(t, started)
				}
				if inClosure {
					require.NoError(t, g.Next().Post(func() { assert.NoError(t, end(g, cancel)) }))
				} else {
					require.NoError(t, end(g, cancel))
				}
				err := testutil.Receive(t, done)
				if name == "context" {
					assert.Same(t, cause, err)
				} else {
					assert.NoError(t, err)
				}
				cancel(nil)
			}
			finish(t, g)
			for _, base := range g.Bases() {
				// A wake-up may have come after the loop had ended.
				require.NoError(t, base.Loop(libevent.LoopNonblock))
				assert.Zero(t, base.NumEvents(libevent.CountAdded), "nothing keeps it")
			}
		})
	}
}

func TestGroupRunArguments(t *testing.T) {
	g := newGroup(t, 2)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	ran := false
	require.NoError(t, g.Next().Post(func() { ran = true }))
	assert.ErrorIs(t, g.Run(ctx), context.Canceled)
	assert.False(t, ran, "not after the context has ended")
	assert.ErrorIs(t, g.LoopExit(-1), syscall.EINVAL)
	require.NoError(t, g.LoopExit(0), "before Run it ends the next one")
	var none context.Context
	assert.ErrorIs(t, g.Run(none), syscall.EINVAL)
	assert.NoError(t, g.Run(context.Background()))
	require.NoError(t, g.LoopBreak(), "before Run it does nothing")
	finish(t, g)
	assert.True(t, ran)
}

// Until Finish is called, each loop waits for the work of the others.
func TestGroupFinish(t *testing.T) {
	g := newGroup(t, 3)
	var order []string
	var mu sync.Mutex
	note := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, s)
	}
	timer, err := g.Bases()[2].NewTimer(func() {
		note("timer")
		assert.NoError(t, g.Bases()[1].Post(func() {
			note("given to another loop, that waits")
			assert.NoError(t, g.Finish())
			assert.NoError(t, g.Finish(), "twice")
			later, err := g.Bases()[1].NewTimer(func() { note("after Finish") })
			assert.NoError(t, err)
			assert.NoError(t, later.Add(20*time.Millisecond))
		}))
	})
	require.NoError(t, err)
	require.NoError(t, timer.Add(10*time.Millisecond))
	done := make(chan error, 1)
	go func() { done <- g.Run(context.Background()) }()
	require.NoError(t, testutil.Receive(t, done))
	assert.Equal(t, []string{"timer", "given to another loop, that waits", "after Finish"}, order)

	// Finish holds for one Run. LoopExit ends a Run in which another base still has
	// something to wait for.
	bev, _ := testutil.NewSocket(t, g.Bases()[2], 0)
	require.NoError(t, bev.Enable(rd))
	require.NoError(t, g.Finish())
	require.NoError(t, g.LoopExit(10*time.Millisecond))
	require.NoError(t, g.Run(context.Background()))
	stop := runGroup(t, g)
	require.NoError(t, g.PostAll(func(*libevent.Base) {}))
	testutil.Eventually(t, func() bool { return g.Stats().Callbacks >= 6 }, "all ran")
	assert.ErrorIs(t, stop(), context.Canceled)
}

func TestGroupIsRunning(t *testing.T) {
	g := newGroup(t, 2)
	require.NoError(t, g.PostAll(func(b *libevent.Base) {
		assert.ErrorIs(t, g.Run(context.Background()), libevent.ErrRunning)
		assert.ErrorIs(t, b.Dispatch(), libevent.ErrRunning)
		assert.ErrorIs(t, g.Free(), libevent.ErrRunning)
		for _, each := range g.Bases() {
			assert.ErrorIs(t, each.Free(), libevent.ErrRunning)
		}
	}))
	stop := runGroup(t, g)
	testutil.Eventually(t, func() bool { return g.Stats().Callbacks == 2 }, "both ran")
	assert.ErrorIs(t, g.Run(context.Background()), libevent.ErrRunning)
	assert.ErrorIs(t, g.Free(), libevent.ErrRunning)
	assert.ErrorIs(t, stop(), context.Canceled)

	// The group cannot run while the loop of one of its bases runs.
	for i, base := range g.Bases() {
		stop := testutil.Background(t, base)
		testutil.OnLoop(t, base, func() {})
		assert.ErrorIs(t, g.Run(context.Background()), libevent.ErrRunning)
		stop()
		assert.NoError(t, g.Bases()[1-i].Loop(libevent.LoopNonblock), "given back")
	}
}

func TestGroupPanic(t *testing.T) {
	g := newGroup(t, 3)
	cause := errors.New("in a closure")
	for _, base := range g.Bases() {
		var posted atomic.Bool
		require.NoError(t, base.Post(func() { panic(cause) }))
		require.NoError(t, base.Post(func() { posted.Store(true) }))
		var p *libevent.PanicError
		err, _ := testutil.Raises(func() { _ = g.Run(context.Background()) }).(error)
		require.ErrorAs(t, err, &p)
		assert.ErrorIs(t, p, cause)
		assert.Contains(t, string(p.Stack), "TestGroupPanic.func")
		assert.False(t, posted.Load())
		finish(t, g)
		assert.True(t, posted.Load(), "delivered by the next Run")
	}
}

// When two loops panic at the same time, one panic is raised and the other one is logged.
func TestGroupTwoPanics(t *testing.T) {
	var logged countingHandler
	require.NoError(t, libevent.SetLogger(slog.New(&logged)))
	defer func() { require.NoError(t, libevent.SetLogger(nil)) }()
	g := newGroup(t, 2)
	var meeting sync.WaitGroup
	meeting.Add(2)
	require.NoError(t, g.PostAll(func(*libevent.Base) {
		meeting.Done()
		meeting.Wait()
		panic("both")
	}))
	v := testutil.Raises(func() { _ = g.Run(context.Background()) })
	require.IsType(t, &libevent.PanicError{}, v)
	assert.Equal(t, "both", v.(*libevent.PanicError).Value)
	assert.EqualValues(t, 1, logged.n.Load())
	finish(t, g)
}

func TestGroupGoexit(t *testing.T) {
	if testutil.ASan {
		t.Skip("the C frames that a Goexit abandons leave their red zones in the thread's stack")
	}
	for i := range 2 {
		g, err := libevent.NewGroup(2, libevent.Config{})
		require.NoError(t, err)
		l := groupListen(t, g, testutil.Drop)
		bases := g.Bases()
		require.NoError(t, bases[i].Post(runtime.Goexit))
		done := make(chan error, 1)
		go func() { done <- g.Run(context.Background()) }()
		assert.ErrorIs(t, testutil.Receive(t, done), libevent.ErrLoopAborted)
		assert.ErrorIs(t, g.Run(context.Background()), libevent.ErrLoopAborted)
		assert.ErrorIs(t, g.Finish(), libevent.ErrLoopAborted)
		assert.Same(t, bases[1-i], g.Next(), "the one that is left")
		assert.Same(t, bases[1-i], g.Next())
		ran := false
		assert.ErrorIs(t, g.PostAll(func(*libevent.Base) { ran = true }), libevent.ErrLoopAborted)
		assert.NoError(t, bases[1-i].Loop(libevent.LoopNonblock))
		assert.True(t, ran)
		l.Free()
		assert.ErrorIs(t, g.Free(), libevent.ErrLoopAborted)
		assert.NoError(t, g.Free())
	}
}

// Free frees what lives on each base. TestMain checks after all tests that nothing is
// left.
func TestGroupFree(t *testing.T) {
	before := libevent.Live()
	fds := testutil.OpenFDs(t)
	g, err := libevent.NewGroup(3, libevent.Config{})
	require.NoError(t, err)
	var peers []*net.TCPConn
	for _, base := range g.Bases() {
		bev, peer := testutil.NewSocket(t, base, 0)
		peers = append(peers, peer)
		require.NoError(t, bev.Enable(rd))
		timer, err := base.NewTimer(func() {})
		require.NoError(t, err)
		require.NoError(t, timer.Add(time.Hour))
		groupListen(t, g, testutil.Drop)
		_, _, err = base.NewPair(0)
		require.NoError(t, err)
	}
	require.NoError(t, g.LoopExit(0))
	require.NoError(t, g.Run(context.Background()))
	require.NoError(t, g.Free())
	assert.Equal(t, before, libevent.Live())
	for _, peer := range peers {
		_, err := peer.Read(make([]byte, 1))
		assert.ErrorIs(t, err, io.EOF)
		require.NoError(t, peer.Close())
	}
	assert.LessOrEqual(t, testutil.OpenFDs(t), fds, "of earlier tests some may be closed by now")
}

// Many goroutines call methods while the group runs, ends and runs again.
func TestGroupFromManyGoroutines(t *testing.T) {
	g, err := libevent.NewGroup(2, libevent.Config{})
	require.NoError(t, err)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, call := range []func(){
		func() { _ = g.Finish() },
		func() { _ = g.LoopBreak() },
		func() { _ = g.LoopExit(0) },
		func() { _ = g.PostAll(func(*libevent.Base) {}) },
		func() { _ = g.Next().Post(func() {}) },
		func() { g.Stats() },
		func() {
			if err := g.Run(context.Background()); err != nil {
				assert.ErrorIs(t, err, libevent.ErrRunning)
			}
		},
		func() {
			if l, err := g.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{}, testutil.Drop); assert.NoError(t, err) {
				l.Free()
			}
		},
	} {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					call()
				}
			}
		})
	}
	testutil.Eventually(t, func() bool { return g.Stats().Callbacks > 2000 }, "much has run")
	close(stop)
	_ = g.LoopBreak()
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	testutil.Eventually(t, func() bool {
		_ = g.LoopBreak()
		select {
		case <-done:
			return true
		default:
			return false
		}
	}, "all have ended")
	require.NoError(t, g.Free())
}
