// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"io"
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

func TestFreeInsideOwnCallback(t *testing.T) {
	forSocketAndPair(t, func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent, send func([]byte)) {
		calls := 0
		require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			calls++
			b.Free()
			_, err := b.Read(make([]byte, 1))
			assert.ErrorIs(t, err, libevent.ErrClosed)
			b.Free()
		}, func(*libevent.BufferEvent) {
			assert.Fail(t, "no closure after Free")
		}, func(*libevent.BufferEvent, libevent.Events) {
			assert.Fail(t, "no closure after Free")
		}))
		require.NoError(t, bev.Enable(rd))
		send(testutil.Noise(100_000))
		require.NoError(t, base.Loop(libevent.LoopOnce))
		testutil.Idle(t, base, 10*time.Millisecond)
		assert.Equal(t, 1, calls)
	})
}

func TestFreeInsideAnothersCallback(t *testing.T) {
	base := testutil.NewBase(t)
	var victims []*libevent.BufferEvent
	var event *libevent.Event
	var l *libevent.Listener
	for range 10 {
		bev, peer := testutil.NewSocket(t, base, 0)
		require.NoError(t, bev.SetCallbacks(func(*libevent.BufferEvent) {
			// The closure that is called first frees all objects, also those whose
			// closures are due.
			for _, v := range victims {
				v.Free()
			}
			event.Free()
			l.Free()
		}, nil, nil))
		require.NoError(t, bev.Enable(rd))
		_, err := peer.Write([]byte("x"))
		require.NoError(t, err)
		victims = append(victims, bev)
	}
	event, err := base.NewTimer(func() {})
	require.NoError(t, err)
	require.NoError(t, event.Add(time.Hour))
	l = testutil.Listen(t, base, testutil.Drop)
	testutil.Dispatch(t, base)
	assert.EqualValues(t, 1, base.Stats().Callbacks)
	stats := base.Stats()
	assert.Zero(t, stats.BufferEvents+stats.Events+stats.Listeners)
}

// One goroutine frees while callbacks run and another one writes.
func TestFreeWhileOthersUse(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	for range 300 {
		var freed, started atomic.Bool
		a, b := testutil.NewPair(t, base)
		socket, peer := testutil.NewSocket(t, base, 0)
		go func() { _, _ = io.Copy(io.Discard, peer) }()
		for _, bev := range []*libevent.BufferEvent{a, b, socket} {
			read := func(bev *libevent.BufferEvent) {
				started.Store(true)
				_ = bev.Input().Drain(bev.Input().Len())
			}
			require.NoError(t, bev.SetCallbacks(read, func(*libevent.BufferEvent) { started.Store(true) }, nil))
			require.NoError(t, bev.Enable(rd))
		}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for !freed.Load() {
					for _, bev := range []*libevent.BufferEvent{a, b, socket} {
						_, _ = bev.WriteString("some bytes")
						_ = bev.Enable(rd | wr)
						_ = bev.Output().Len()
					}
					runtime.Gosched() // with one CPU the goroutine would keep it for long
				}
			})
		}
		testutil.Eventually(t, started.Load, "callbacks run")
		wg.Go(b.Free)
		a.Free()
		socket.Free()
		freed.Store(true)
		wg.Wait()
		testutil.OnLoop(t, base, func() {})
	}
	testutil.OnLoop(t, base, func() {})
	testutil.Eventually(t, func() bool { return base.Stats().BufferEvents == 0 }, "all are gone")
}

// The caller closes the descriptor right after Free, and the kernel uses its number again.
// The old bufferevent must not touch that descriptor, and it must work in a new
// bufferevent.
func TestDescriptorReuse(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	for i := range 2000 {
		fd, peer := testutil.Socketpair(t)
		bev, err := base.NewSocket(fd, 0)
		require.NoError(t, err)
		require.NoError(t, bev.Enable(rd))
		_, err = syscall.Write(peer, []byte("for the old one"))
		require.NoError(t, err)
		_, err = bev.WriteString("never written, or to the old peer")
		require.NoError(t, err)
		if i%2 == 0 {
			runtime.Gosched()
		}
		bev.Free()
		require.NoError(t, syscall.Close(fd))
		require.NoError(t, syscall.Close(peer))

		again, other := testutil.Socketpair(t) // the kernel gives the lowest numbers, which are the same ones
		_, err = syscall.Write(other, []byte("new"))
		require.NoError(t, err)
		if i%10 == 0 {
			testutil.OnLoop(t, base, func() {})
		}
		fresh, err := base.NewSocket(again, libevent.OptCloseOnFree)
		require.NoError(t, err)
		got := make(chan string, 10)
		require.NoError(t, fresh.SetCallbacks(func(b *libevent.BufferEvent) {
			got <- testutil.Content(t, b.Input())
		}, nil, nil))
		require.NoError(t, fresh.Enable(rd))
		require.Equal(t, "new", testutil.Receive(t, got))
		fresh.Free()
		p := make([]byte, 100)
		n, err := syscall.Read(other, p)
		require.NoError(t, err)
		require.Empty(t, string(p[:n]), "nothing of the old one's output")
		require.NoError(t, syscall.Close(other))
	}
}

func TestWritesFromManyGoroutines(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	got := testutil.ReadAll(peer)
	testutil.Background(t, base)
	const goroutines, each = 8, 5000
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range each {
				n, err := bev.WriteString("0123456789abcde\n")
				assert.NoError(t, err)
				assert.Equal(t, 16, n)
			}
		})
	}
	wg.Wait()
	require.NoError(t, bev.FreeAfterFlush(testutil.Patience))
	p := testutil.Receive(t, got)
	require.Len(t, p, goroutines*each*16)
	for i := 0; i < len(p); i += 16 {
		require.Equal(t, "0123456789abcde\n", string(p[i:i+16]), "no write is torn")
	}
}

// The connections of two loops write to each other. If closures were called with
// libevent's locks held, the locks would be taken in two orders, and both loops would
// stop.
func TestTwoLoopsWriteToEachOther(t *testing.T) {
	one, two := testutil.NewBase(t), testutil.NewBase(t)
	a, aPeer := testutil.NewSocket(t, one, 0)
	b, bPeer := testutil.NewSocket(t, two, 0)
	forward := func(to *libevent.BufferEvent) func(*libevent.BufferEvent) {
		return func(from *libevent.BufferEvent) { assert.NoError(t, to.WriteBuffer(from.Input())) }
	}
	require.NoError(t, a.SetCallbacks(forward(b), nil, nil))
	require.NoError(t, b.SetCallbacks(forward(a), nil, nil))
	require.NoError(t, a.Enable(rd))
	require.NoError(t, b.Enable(rd))
	testutil.Background(t, one)
	testutil.Background(t, two)
	data := testutil.Noise(4 << 20)
	var wg sync.WaitGroup
	for _, c := range [][2]*net.TCPConn{{aPeer, bPeer}, {bPeer, aPeer}} {
		wg.Go(func() { _, _ = c[0].Write(data) })
		wg.Go(func() {
			got := make([]byte, len(data))
			_, err := io.ReadFull(c[1], got)
			assert.NoError(t, err)
			testutil.Same(t, data, got)
		})
	}
	wg.Wait()
}

// A closure may wait for a goroutine that uses the same bufferevent.
func TestClosureWaitsForUserOfItsBufferEvent(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := b.WriteString("from another goroutine")
			assert.NoError(t, err)
			assert.NoError(t, b.Disable(rd))
			assert.NoError(t, b.SetTimeouts(time.Second, time.Second))
			assert.NotZero(t, b.Input().Len())
			assert.NoError(t, b.FreeAfterFlush(testutil.Patience))
		}()
		<-done
	}, nil, nil))
	require.NoError(t, bev.Enable(rd))
	_, err := peer.Write([]byte("x"))
	require.NoError(t, err)
	testutil.Dispatch(t, base)
	got, _ := io.ReadAll(peer) // a reset is possible, since the peer's byte may be unread
	assert.Equal(t, "from another goroutine", string(got))
}

// Base.Free frees everything that lives on the base.
func TestFreeBaseWithEverythingAlive(t *testing.T) {
	before, fds := libevent.Live(), testutil.OpenFDs(t)
	much := make([]byte, 32<<20) // more than the kernel takes
	for range 20 {
		base, err := libevent.NewBase()
		require.NoError(t, err)
		var bevs []*libevent.BufferEvent
		a, b, err := base.NewPair(0)
		require.NoError(t, err)
		loopOnly, _ := testutil.NewSocket(t, base, libevent.OptLoopOnly)
		flushing, _ := testutil.NewSocket(t, base, 0)
		_, err = flushing.Write(much)
		require.NoError(t, err)
		idle, _ := testutil.NewSocket(t, base, 0)
		bevs = append(bevs, a, b, loopOnly, idle)
		for _, bev := range bevs {
			require.NoError(t, bev.SetCallbacks(func(*libevent.BufferEvent) {}, func(*libevent.BufferEvent) {}, nil))
			require.NoError(t, bev.Enable(rd))
			_, err = bev.WriteString("queues something")
			require.NoError(t, err)
		}
		l := testutil.Listen(t, base, testutil.Drop)
		testutil.Dial(t, l)
		sig, err := base.NewSignal(syscall.SIGUSR1, nop)
		require.NoError(t, err)
		require.NoError(t, sig.Add(-1))
		timer, err := base.NewTimer(func() { assert.Fail(t, "fires") })
		require.NoError(t, err)
		require.NoError(t, timer.Add(time.Hour))
		require.NoError(t, base.Loop(libevent.LoopNonblock))
		require.NoError(t, flushing.FreeAfterFlush(time.Hour))
		require.NoError(t, base.Free())
		_, err = idle.WriteString("x")
		assert.ErrorIs(t, err, libevent.ErrClosed)
		assert.ErrorIs(t, timer.Add(0), libevent.ErrClosed)
		assert.ErrorIs(t, l.Disable(), libevent.ErrClosed)
		assert.Zero(t, base.Stats().BufferEvents)
	}
	assert.Equal(t, before, libevent.Live())
	t.Cleanup(func() { // the peers are closed by then
		testutil.Eventually(t, func() bool { return testutil.OpenFDs(t) <= fds+100 }, "descriptors are closed")
	})
}

// Base.Free is called while other goroutines use what lives on the base.
func TestFreeBaseWhileOthersUse(t *testing.T) {
	for range 200 {
		base, err := libevent.NewBase()
		require.NoError(t, err)
		bev, _, err := base.NewPair(0)
		require.NoError(t, err)
		timer, err := base.NewTimer(func() {})
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for {
					_, err := bev.WriteString("x")
					_ = timer.Add(time.Hour)
					_ = base.Post(func() {})
					if other, err := base.NewSocket(-1, 0); err == nil {
						_, _ = other.WriteString("y")
						if other.Input().Len() == 0 {
							other.Free()
						}
					}
					_ = base.Stats()
					runtime.Gosched() // with one CPU the goroutine would keep it for long
					if err != nil {
						assert.ErrorIs(t, err, libevent.ErrClosed)
						return
					}
				}
			})
		}
		runtime.Gosched()
		require.NoError(t, base.Free())
		wg.Wait()
	}
}

// Many connections leave nothing behind.
func TestNothingIsLeftOfManyConnections(t *testing.T) {
	connections := 10_000
	if testutil.Race {
		connections = 2000
	}
	base := testutil.NewBase(t)
	l := testutil.Listen(t, base, func(_ *libevent.Listener, fd int, _ net.Addr) {
		bev, err := base.NewSocket(fd, libevent.OptCloseOnFree)
		if !assert.NoError(t, err) {
			return
		}
		assert.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			assert.NoError(t, b.Output().AddBuffer(b.Input()))
		}, nil, func(b *libevent.BufferEvent, _ libevent.Events) { b.Free() }))
		assert.NoError(t, bev.Enable(rd))
	})
	stop := testutil.Background(t, base)
	testutil.OnLoop(t, base, func() {})
	live, fds, goroutines := libevent.Live(), testutil.OpenFDs(t), runtime.NumGoroutine()
	const workers = 10
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			p := make([]byte, 1)
			for i := range connections / workers {
				conn, err := net.Dial("tcp", l.Addr().String())
				if !assert.NoError(t, err) {
					return
				}
				_ = conn.SetDeadline(time.Now().Add(testutil.Patience))
				_, err = conn.Write([]byte("x"))
				assert.NoError(t, err)
				_, err = conn.Read(p)
				assert.NoError(t, err)
				if i%2 == 0 { // a reset does not leave the port in TIME_WAIT
					_ = conn.(*net.TCPConn).SetLinger(0)
				}
				_ = conn.Close()
			}
		})
	}
	wg.Wait()
	testutil.Eventually(t, func() bool {
		return libevent.Live() == live && testutil.OpenFDs(t) <= fds && runtime.NumGoroutine() <= goroutines
	}, "all is as before")
	stop()
}

func nop(os.Signal) {}
