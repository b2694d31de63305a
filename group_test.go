package libevent_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
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

func groupListen(t testing.TB, g *libevent.Group, accept func(*libevent.Listener, int, net.Addr)) *libevent.Listener {
	t.Helper()
	l, err := g.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{}, accept)
	require.NoError(t, err)
	return l
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

// Each loop gets its share of the connections, and accepts them on its own goroutine,
// whatever the number of loops.
func TestGroupSpread(t *testing.T) {
	for _, loops := range []int{1, 2, 3} {
		const connections = 300
		g := newGroup(t, loops)
		var total atomic.Int64
		var mu sync.Mutex
		share := map[*libevent.Base]int{}
		shares := map[*libevent.Listener]bool{}
		l := groupListen(t, g, func(l *libevent.Listener, fd int, remote net.Addr) {
			assert.True(t, onItsLoop(t, l.Base()))
			assert.Equal(t, "tcp", remote.Network())
			mu.Lock()
			share[l.Base()]++
			shares[l] = true
			mu.Unlock()
			testutil.Drop(l, fd, nil)
			total.Add(1)
		})
		stop := runGroup(t, g)
		for range connections {
			conn, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			require.NoError(t, conn.Close())
		}
		testutil.Eventually(t, func() bool { return total.Load() == connections }, "all are accepted")
		assert.ErrorIs(t, stop(), context.Canceled)
		assert.Len(t, share, loops)
		assert.Len(t, shares, loops)
		assert.True(t, shares[l], "the listener itself is one of the shares")
		for _, n := range share {
			assert.InDelta(t, connections/loops, n, 1)
		}
		for other := range shares {
			assert.Equal(t, l.Addr(), other.Addr())
			assert.Equal(t, l.FD(), other.FD())
		}
	}
}

func TestGroupListenNetworks(t *testing.T) {
	for _, c := range []struct{ network, address string }{
		{"tcp", "127.0.0.1:0"}, {"tcp4", ":0"}, {"tcp6", "[::1]:0"}, {"tcp", ":0"},
		{"unix", "path"}, {"unix", "@abstract"},
	} {
		t.Run(c.network+" "+c.address, func(t *testing.T) {
			if c.address == "path" {
				c.address = filepath.Join(t.TempDir(), "sock")
			} else if c.network == "unix" {
				c.address += t.Name()
			}
			g := newGroup(t, 2)
			var mu sync.Mutex
			bases := map[*libevent.Base]int{}
			l, err := g.Listen(c.network, c.address, libevent.ListenOptions{}, func(l *libevent.Listener, fd int, _ net.Addr) {
				mu.Lock()
				bases[l.Base()]++
				mu.Unlock()
				bev, err := l.Base().NewSocket(fd, libevent.OptCloseOnFree)
				if !assert.NoError(t, err) {
					return
				}
				_, err = bev.WriteString("hello")
				assert.NoError(t, err)
				assert.NoError(t, bev.FreeAfterFlush(testutil.Patience))
			})
			if errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) {
				t.Skip("this machine has no such address")
			}
			require.NoError(t, err)
			runGroup(t, g)
			for range 4 {
				got := testutil.Receive(t, testutil.ReadAll(testutil.Dial(t, l)))
				assert.Equal(t, "hello", string(got))
			}
			mu.Lock()
			defer mu.Unlock()
			assert.Equal(t, map[*libevent.Base]int{g.Bases()[0]: 2, g.Bases()[1]: 2}, bases)
		})
	}
}

func TestGroupListenArguments(t *testing.T) {
	g := newGroup(t, 2)
	_, err := g.Listen("udp", "127.0.0.1:0", libevent.ListenOptions{}, testutil.Drop)
	assert.ErrorIs(t, err, syscall.EINVAL)
	_, err = g.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{}, nil)
	assert.ErrorIs(t, err, syscall.EINVAL)
	l := groupListen(t, g, testutil.Drop)
	_, err = g.Listen("tcp", l.Addr().String(), libevent.ListenOptions{}, testutil.Drop)
	assert.ErrorIs(t, err, syscall.EADDRINUSE, "the port is nobody else's")
	assert.Equal(t, 1, g.Stats().Listeners)
}

func TestGroupListenFD(t *testing.T) {
	g := newGroup(t, 2)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	fd := testutil.ConnFD(t, ln.(*net.TCPListener))
	var n atomic.Int64
	l, err := g.ListenFD(fd, libevent.ListenOptions{}, func(l *libevent.Listener, fd int, _ net.Addr) {
		assert.True(t, onItsLoop(t, l.Base()))
		testutil.Drop(l, fd, nil)
		n.Add(1)
	})
	require.NoError(t, err)
	runGroup(t, g)
	for range 2 {
		testutil.Dial(t, l)
	}
	testutil.Eventually(t, func() bool { return n.Load() == 2 }, "both are accepted")
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

// stranded makes a group of two bases. The loop of the first base has accepted
// connections: one for itself, and one for the second base, whose loop does not run.
func stranded(t *testing.T, accept func(*libevent.Listener, int, net.Addr)) (*libevent.Group, *libevent.Listener, []net.Conn) {
	t.Helper()
	g := newGroup(t, 2)
	l := groupListen(t, g, accept)
	conns := []net.Conn{testutil.Dial(t, l), testutil.Dial(t, l)}
	require.NoError(t, g.Bases()[0].Loop(libevent.LoopNonblock))
	return g, l, conns
}

func TestGroupConnectionOnItsWay(t *testing.T) {
	eof := func(t *testing.T, conn net.Conn) {
		_, err := conn.Read(make([]byte, 1))
		assert.ErrorIs(t, err, io.EOF)
	}
	for name, c := range map[string]struct {
		then     func(t *testing.T, g *libevent.Group, l *libevent.Listener)
		accepted int64
	}{
		"is delivered": {func(t *testing.T, g *libevent.Group, l *libevent.Listener) {
			assert.NoError(t, g.Bases()[1].Loop(libevent.LoopNonblock))
		}, 2},
		"after Disable": {func(t *testing.T, g *libevent.Group, l *libevent.Listener) {
			assert.NoError(t, l.Disable())
			assert.NoError(t, g.Bases()[1].Loop(libevent.LoopNonblock))
		}, 1},
		"after Disable and Enable": {func(t *testing.T, g *libevent.Group, l *libevent.Listener) {
			assert.NoError(t, l.Disable())
			assert.NoError(t, l.Enable())
			assert.NoError(t, g.Bases()[1].Loop(libevent.LoopNonblock))
		}, 2},
		"after Free": {func(t *testing.T, g *libevent.Group, l *libevent.Listener) {
			l.Free()
			assert.Zero(t, g.Stats().Listeners, "which does not wait for it")
			assert.NoError(t, g.Bases()[1].Loop(libevent.LoopNonblock))
		}, 1},
		"after Free of its listener's base": {func(t *testing.T, g *libevent.Group, l *libevent.Listener) {
			assert.NoError(t, g.Bases()[0].Free())
			assert.NoError(t, g.Bases()[1].Loop(libevent.LoopNonblock))
		}, 1},
		"after Free of its own base": {func(t *testing.T, g *libevent.Group, l *libevent.Listener) {
			assert.NoError(t, g.Bases()[1].Free())
		}, 1},
		"after Free of the group": {func(t *testing.T, g *libevent.Group, l *libevent.Listener) {
			assert.NoError(t, g.Free())
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			before := testutil.OpenFDs(t)
			var accepted atomic.Int64
			g, l, conns := stranded(t, func(l *libevent.Listener, fd int, _ net.Addr) {
				accepted.Add(1)
				testutil.Drop(l, fd, nil)
			})
			assert.EqualValues(t, 1, accepted.Load())
			c.then(t, g, l)
			assert.Equal(t, c.accepted, accepted.Load())
			for _, conn := range conns {
				eof(t, conn)
				assert.NoError(t, conn.Close())
			}
			require.NoError(t, g.Free())
			assert.LessOrEqual(t, testutil.OpenFDs(t), before)
		})
	}
}

// When one base is freed, the others get its connections.
func TestGroupWithoutOneBase(t *testing.T) {
	g := newGroup(t, 3)
	bases := g.Bases()
	var got []*libevent.Base
	l := groupListen(t, g, func(l *libevent.Listener, fd int, _ net.Addr) {
		got = append(got, l.Base())
		testutil.Drop(l, fd, nil)
	})
	require.NoError(t, bases[1].Free())
	for range 4 {
		testutil.Dial(t, l)
	}
	for _, b := range []*libevent.Base{bases[0], bases[2]} {
		require.NoError(t, b.Loop(libevent.LoopNonblock))
	}
	assert.Equal(t, []*libevent.Base{bases[0], bases[0], bases[2], bases[2]}, got)
}

// Like TestListenerFromOtherGoroutines: after Disable or Free no closure starts on any
// loop, nothing deadlocks, and no connection is left hanging.
func TestGroupListenerFromOtherGoroutines(t *testing.T) {
	g := newGroup(t, 3)
	runGroup(t, g)
	turn := func(fn func()) { // on all loops, after the closures that run now
		var wg sync.WaitGroup
		wg.Add(g.Len())
		require.NoError(t, g.PostAll(func(*libevent.Base) { wg.Done() }))
		wg.Wait()
		fn()
	}
	for round := range 10 {
		var off atomic.Bool
		l := groupListen(t, g, func(l *libevent.Listener, fd int, _ net.Addr) {
			assert.False(t, off.Load())
			testutil.Drop(l, fd, nil)
			if round%2 == 1 {
				l.Free()
			}
		})
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					conn, err := net.DialTimeout("tcp", l.Addr().String(), testutil.Patience)
					if err != nil {
						continue
					}
					if round%2 == 1 {
						_ = conn.SetDeadline(time.Now().Add(testutil.Patience))
						_, err = conn.Read(make([]byte, 1))
						assert.False(t, errors.Is(err, syscall.ETIMEDOUT), "%v", err)
					}
					_ = conn.Close()
				}
			})
		}
		for range 10 {
			err := l.Disable()
			if round%2 == 0 {
				require.NoError(t, err)
				turn(func() { off.Store(true) })
				turn(func() { off.Store(false) })
				require.NoError(t, l.Enable())
			}
		}
		l.Free()
		turn(func() { off.Store(true) })
		close(stop)
		wg.Wait()
	}
	testutil.Eventually(t, func() bool { return g.Stats().Listeners == 0 }, "all are gone")
}

// As on a Base, an accept error is reported once, the loop does not spin, and accepting
// goes on later.
func TestGroupAcceptErrors(t *testing.T) {
	g := newGroup(t, 2)
	var reports []error
	var accepted atomic.Int64
	l := groupListen(t, g, func(l *libevent.Listener, fd int, _ net.Addr) {
		testutil.Drop(l, fd, nil)
		if accepted.Add(1) == 2 {
			assert.NoError(t, g.LoopBreak())
		}
	})
	l.SetErrorFunc(func(_ *libevent.Listener, err error) { reports = append(reports, err) })
	testutil.Dial(t, l)
	testutil.Dial(t, l)
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	low := limit
	low.Cur = 0
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	before := testutil.CPUTime()
	lerr := g.LoopExit(300 * time.Millisecond)
	rerr := g.Run(context.Background())
	cpu := testutil.CPUTime() - before
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	require.NoError(t, errors.Join(lerr, rerr))
	assert.Zero(t, accepted.Load())
	assert.Less(t, cpu, 150*time.Millisecond, "no spin")
	require.Len(t, reports, 1)
	assert.ErrorIs(t, reports[0], syscall.EMFILE)
	require.NoError(t, g.Run(context.Background()))
	assert.EqualValues(t, 2, accepted.Load())
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
	assert.NoError(t, g.Run(none))
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

// A panic in an accept closure stops the loop that the closure runs on, and not the loop
// that accepted the connection.
func TestGroupPanicInAccept(t *testing.T) {
	var accepted atomic.Int64
	g, _, _ := stranded(t, func(l *libevent.Listener, fd int, _ net.Addr) {
		testutil.Drop(l, fd, nil)
		if accepted.Add(1) == 2 {
			panic("second")
		}
	})
	var p *libevent.PanicError
	err, _ := testutil.Raises(func() { _ = g.Bases()[1].Loop(libevent.LoopNonblock) }).(error)
	require.ErrorAs(t, err, &p)
	assert.Equal(t, "second", p.Value)
	assert.NoError(t, g.Bases()[0].Loop(libevent.LoopNonblock))
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
