// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
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

// In these tests two goroutines, or a goroutine and the loop, use the same object at the
// same time.

func TestFreeAfterFlushAgainstFree(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	for range 3000 {
		a, b, err := base.NewPair(0)
		require.NoError(t, err)
		_, err = a.WriteString("x")
		require.NoError(t, err)
		var wg sync.WaitGroup
		wg.Go(func() { _ = a.FreeAfterFlush(time.Second) })
		wg.Go(a.Free)
		wg.Go(b.Free)
		wg.Wait()
	}
	testutil.Eventually(t, func() bool { return base.Stats().BufferEvents == 0 }, "all are gone")
}

// A write that has begun when the bufferevent is freed must not reach the descriptor: its
// number may belong to another socket by then.
func TestWriteAgainstFreeAndReuse(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	for range 1000 {
		fd, peer := testutil.Socketpair(t)
		bev, err := base.NewSocket(fd, 0)
		require.NoError(t, err)
		require.NoError(t, bev.Enable(rd))
		var stop atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			for !stop.Load() {
				_, _ = bev.WriteString("old")
				runtime.Gosched() // with one CPU the goroutine would keep it for long
			}
		})
		_, _ = syscall.Write(peer, []byte("x"))
		runtime.Gosched()
		bev.Free()
		require.NoError(t, syscall.Close(fd))
		require.NoError(t, syscall.Close(peer))
		again, other := testutil.Socketpair(t) // the same numbers
		_, err = syscall.Write(other, []byte("new"))
		require.NoError(t, err)
		stop.Store(true)
		wg.Wait()
		testutil.OnLoop(t, base, func() {})
		p := make([]byte, 16)
		require.NoError(t, syscall.SetNonblock(other, true))
		_, err = syscall.Read(other, p)
		require.ErrorIs(t, err, syscall.EAGAIN, "foreign bytes: %q", p)
		n, err := syscall.Read(again, p)
		require.NoError(t, err)
		require.Equal(t, "new", string(p[:n]))
		require.NoError(t, syscall.Close(again))
		require.NoError(t, syscall.Close(other))
	}
}

// A closure that reads while another goroutine frees the bufferevent gets bytes that were
// sent, or ErrClosed.
func TestReadAgainstFree(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	for range 1000 {
		bev, peer := testutil.NewSocket(t, base, 0)
		started := make(chan struct{})
		require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			close(started)
			p := make([]byte, 16)
			for {
				n, err := b.Read(p)
				assert.NotContains(t, string(p[:n]), "\x00")
				if errors.Is(err, libevent.ErrClosed) {
					return
				}
				assert.LessOrEqual(t, b.Input().Len(), 4)
				q := make([]byte, 8)
				n, _ = b.Input().CopyOut(q)
				assert.NotContains(t, string(q[:n]), "\x00")
				runtime.Gosched() // with one CPU the goroutine would keep it for long
			}
		}, nil, nil))
		require.NoError(t, bev.Enable(rd))
		_, err := peer.Write([]byte("data"))
		require.NoError(t, err)
		testutil.Receive(t, started)
		bev.Free()
		_ = peer.Close()
	}
}

// Bytes that are lent stay until the function returns, though the bufferevent is freed,
// and whatever the other end of the pair does.
func TestFreeWhileLent(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	want := bytes.Repeat([]byte("lent "), 10_000)
	_, err := a.Write(want)
	require.NoError(t, err)
	require.NoError(t, a.Output().Peek(func(spans [][]byte) {
		a.Free()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := b.Flush(rd, libevent.FlushFinished)
			assert.ErrorIs(t, err, libevent.ErrLent)
			_ = b.Enable(rd)
			_ = b.Input().Drain(1 << 20)
		}()
		<-done
		testutil.Same(t, want, bytes.Join(spans, nil))
	}))
	socket, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, socket.Enable(rd))
	_, err = peer.Write(want[:1000])
	require.NoError(t, err)
	for socket.Input().Len() < 1000 {
		require.NoError(t, base.Loop(libevent.LoopOnce))
	}
	require.NoError(t, socket.Input().Peek(func(spans [][]byte) {
		socket.Free()
		assert.ErrorIs(t, socket.Input().Drain(1), libevent.ErrClosed)
		testutil.Same(t, want[:1000], bytes.Join(spans, nil))
	}))
}

// An Add that has begun when the event is freed must not leave the descriptor registered.
// An event for the next descriptor with that number would wait for ever.
func TestEventAddAgainstFreeAndReuse(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	for range 2000 {
		fd, peer := testutil.Socketpair(t)
		e, err := base.NewEvent(fd, rd, func(int, libevent.What) {})
		require.NoError(t, err)
		var wg sync.WaitGroup
		wg.Go(func() {
			for e.Add(-1) == nil {
				runtime.Gosched()
			}
		})
		runtime.Gosched()
		e.Free()
		require.NoError(t, syscall.Close(fd))
		require.NoError(t, syscall.Close(peer))
		again, other := testutil.Socketpair(t)
		fired := make(chan struct{})
		next, err := base.NewEvent(again, rd, func(int, libevent.What) { close(fired) })
		require.NoError(t, err)
		require.NoError(t, next.Add(-1))
		_, err = syscall.Write(other, []byte("x"))
		require.NoError(t, err)
		testutil.Receive(t, fired)
		next.Free()
		wg.Wait()
		require.NoError(t, syscall.Close(again))
		require.NoError(t, syscall.Close(other))
	}
}

// breaking is a context that breaks the loop at the last moment before the loop begins.
type breaking struct {
	context.Context
	base *libevent.Base
}

func (c breaking) Err() error {
	_ = c.base.LoopBreak()
	return c.Context.Err()
}

func TestLoopBreakWhileTheLoopStarts(t *testing.T) {
	base := testutil.NewBase(t)
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience)
	defer cancel()
	ran := false
	require.NoError(t, base.Post(func() { ran = true }))
	before := testutil.CPUTime()
	require.NoError(t, base.Run(breaking{ctx, base}), "the break is not lost")
	assert.Less(t, testutil.CPUTime()-before, time.Second)
	testutil.Dispatch(t, base)
	assert.True(t, ran)
}

// Connections that were accepted while a panic was on its way wait for the next run. If
// the listener is freed before that, they are closed and not handed over.
func TestPostponedAcceptAfterFree(t *testing.T) {
	for _, freeBase := range []bool{false, true} {
		base, err := libevent.NewBase()
		require.NoError(t, err)
		accepted := 0
		l := testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
			accepted++
			testutil.Drop(l, fd, nil)
			testutil.Explode()
		})
		var conns []net.Conn
		for range 3 {
			conns = append(conns, testutil.Dial(t, l))
		}
		require.ErrorIs(t, testutil.AsError(testutil.Raises(func() { _ = base.Dispatch() })), testutil.ErrBoom)
		if !freeBase {
			l.Free()
			testutil.Dispatch(t, base)
		}
		require.NoError(t, base.Free())
		assert.Equal(t, 1, accepted)
		for _, conn := range conns {
			_, err := conn.Read(make([]byte, 1))
			assert.Error(t, err)
			assert.NotErrorIs(t, err, os.ErrDeadlineExceeded, "closed, not left hanging")
		}
	}
}

func TestLoopOnlyBuffersOfTwoIdleBases(t *testing.T) {
	one, two := testutil.NewBase(t), testutil.NewBase(t)
	x, err := one.NewSocket(-1, libevent.OptLoopOnly)
	require.NoError(t, err)
	y, err := two.NewSocket(-1, libevent.OptLoopOnly)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for _, c := range [][2]*libevent.BufferEvent{{x, y}, {y, x}} {
		wg.Go(func() {
			for range 200 {
				err := c[0].Output().AddBuffer(c[1].Input())
				assert.ErrorIs(t, err, libevent.ErrWrongLoop)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	testutil.Receive(t, done)
	alone := testutil.NewBuffer(t, "z")
	require.NoError(t, x.Output().AddBuffer(alone))
	require.NoError(t, alone.AddBuffer(y.Input()))
}

// When Connect makes its socket after Free has looked for one, the socket is closed.
func TestConnectAgainstFree(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	base := testutil.NewBase(t)
	fds := testutil.OpenFDs(t)
	for range 200 {
		bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
		require.NoError(t, err)
		syscall.ForkLock.Lock() // Connect waits for this lock when it makes its socket
		done := make(chan error, 1)
		go func() { done <- bev.Connect("tcp", ln.Addr().String()) }()
		runtime.Gosched()
		bev.Free()
		syscall.ForkLock.Unlock()
		if err := testutil.Receive(t, done); err != nil {
			require.ErrorIs(t, err, libevent.ErrClosed)
		}
	}
	testutil.Eventually(t, func() bool { return testutil.OpenFDs(t) <= fds+1 }, "no socket is left")
}

func TestSignalAddAgainstFree(t *testing.T) {
	base := testutil.NewBase(t)
	goroutines := runtime.NumGoroutine()
	for range 3000 {
		e, err := base.NewSignal(syscall.SIGUSR1, func(os.Signal) {})
		require.NoError(t, err)
		var wg sync.WaitGroup
		wg.Go(func() { _ = e.Add(-1) })
		wg.Go(e.Free)
		wg.Wait()
	}
	testutil.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+1 }, "no watcher is left")
	testutil.Dispatch(t, base) // nothing keeps the loop from returning
}

// After Del on the loop's goroutine the closure does not start.
func TestSignalDelOnLoop(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	for range 1000 {
		var deleted bool
		e, err := base.NewSignal(syscall.SIGUSR2, func(os.Signal) { assert.False(t, deleted) })
		require.NoError(t, err)
		require.NoError(t, e.Add(-1))
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGUSR2))
		testutil.OnLoop(t, base, func() {
			assert.NoError(t, e.Del())
			deleted = true
		})
		testutil.OnLoop(t, base, func() {})
		e.Free()
	}
}

// After Disable on another goroutine at most one connection of the backlog is accepted and
// closed.
func TestListenerDisableKeepsTheBacklog(t *testing.T) {
	base := testutil.NewBase(t)
	const clients = 100
	accepted := make(chan int, clients)
	var l *libevent.Listener
	disabled := make(chan struct{})
	l = testutil.Listen(t, base, func(_ *libevent.Listener, fd int, _ net.Addr) {
		if len(accepted) == 0 { // during the first call another goroutine disables the listener
			go func() {
				assert.NoError(t, l.Disable())
				close(disabled)
			}()
			<-disabled
		}
		accepted <- fd
	})
	for range clients {
		testutil.Dial(t, l)
	}
	stop := testutil.Background(t, base)
	testutil.Receive(t, disabled)
	testutil.OnLoop(t, base, func() {})
	assert.Len(t, accepted, 1)
	require.NoError(t, l.Enable())
	testutil.Eventually(t, func() bool { return len(accepted) >= clients-1 }, "the rest is accepted")
	stop()
	for len(accepted) > 0 {
		_ = syscall.Close(<-accepted)
	}
}

func TestAcceptErrorWhilePanicking(t *testing.T) {
	base := testutil.NewBase(t)
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	calls := 0
	l := testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
		testutil.Drop(l, fd, nil)
		low := limit
		low.Cur = 0
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low)
		testutil.Explode()
	})
	l.SetErrorFunc(func(l *libevent.Listener, err error) {
		calls++
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
		l.Free()
		panic("second")
	})
	testutil.Dial(t, l)
	testutil.Dial(t, l)
	require.ErrorIs(t, testutil.AsError(testutil.Raises(func() { _ = base.Dispatch() })), testutil.ErrBoom)
	assert.Zero(t, calls, "not before the panic is out")
	v := testutil.Raises(func() { _ = base.Dispatch() })
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	require.IsType(t, &libevent.PanicError{}, v)
	assert.Equal(t, "second", v.(*libevent.PanicError).Value)
	testutil.Dispatch(t, base)
	assert.Equal(t, 1, calls)
}

func TestTwoFreesOfABase(t *testing.T) {
	for range 500 {
		base, err := libevent.NewBase()
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { assert.NoError(t, base.Free()) })
		}
		wg.Wait()
	}
}

// A filter that is made while its bufferevent is freed must not enable the bufferevent
// again. Its events would be due again and again, and events of lower priority would never
// run.
func TestFilterAgainstFree(t *testing.T) {
	base, err := libevent.NewBaseConfig(libevent.Config{PlainIO: testutil.PlainIO, Priorities: 3})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, base.Free()) })
	testutil.Background(t, base)
	var tops []*libevent.BufferEvent
	defer func() {
		for _, top := range tops {
			top.Free()
		}
	}()
	for range 2000 {
		fd, peer := testutil.Socketpair(t)
		bev, err := base.NewSocket(fd, libevent.OptCloseOnFree)
		require.NoError(t, err)
		for busy := true; busy; { // without the fast path SetPriority fails as long as an event of the bufferevent is due
			testutil.OnLoop(t, base, func() {
				err := bev.SetPriority(0)
				if busy = errors.Is(err, syscall.EBUSY); !busy {
					assert.NoError(t, err)
				}
			})
		}
		require.NoError(t, bev.Enable(rd))
		var wg sync.WaitGroup
		wg.Go(bev.Free)
		if top, err := libevent.NewFilter(bev, nil, nil, 0); err == nil {
			_ = top.Enable(rd)
			tops = append(tops, top)
		}
		wg.Wait()
		require.NoError(t, syscall.Close(peer))
	}
	testutil.OnLoop(t, base, func() {})
}

// The locks of a stack are taken from the top down, also while they are given up.
func TestFilterAddressAgainstWrite(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	bev, peer := testutil.NewSocket(t, base, 0)
	f := testutil.NewFilter(t, bev, nil, nil, libevent.OptCloseOnFree)
	got := testutil.ReadAll(peer)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5000 {
				_, _ = f.WriteString("x")
				_ = f.RemoteAddr()
			}
		})
	}
	wg.Wait()
	require.NoError(t, f.FreeAfterFlush(testutil.Patience))
	assert.Len(t, testutil.Receive(t, got), 20000)
}

// One buffer goes between goroutines that use a filter and the bufferevent below it. libevent
// takes the locks of two buffers in the order of their addresses, so several are tried.
func TestOneBufferOnBothLevelsOfAStack(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	for range 20 {
		bev, peer := testutil.NewSocket(t, base, 0)
		f := testutil.NewFilter(t, bev, nil, nil, libevent.OptCloseOnFree)
		got := testutil.ReadAll(peer)
		shared := testutil.NewBuffer(t, "")
		var wg sync.WaitGroup
		for _, use := range []func(){
			func() { _ = shared.Add([]byte("x")); _ = f.WriteBuffer(shared) },
			func() { _ = shared.Add([]byte("y")); _ = bev.WriteBuffer(shared) },
		} {
			wg.Go(func() {
				for range 5000 {
					use()
				}
			})
		}
		wg.Wait()
		require.NoError(t, f.WriteBuffer(shared))
		require.NoError(t, f.FreeAfterFlush(testutil.Patience))
		assert.Len(t, testutil.Receive(t, got), 10000)
	}
}

func TestTakeReadLimitAgainstFree(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	for range 1000 {
		bev, _ := testutil.NewSocket(t, base, 0)
		require.NoError(t, bev.SetRateLimit(&libevent.RateLimit{ReadRate: 1000}))
		var wg sync.WaitGroup
		wg.Go(func() {
			for bev.TakeReadLimit(0) == nil {
			}
		})
		runtime.Gosched()
		bev.Free()
		wg.Wait()
	}
}
