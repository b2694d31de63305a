// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
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

func groupListen(t testing.TB, g *libevent.Group, accept func(*libevent.Listener, int, net.Addr)) *libevent.Listener {
	t.Helper()
	l, err := g.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{}, accept)
	require.NoError(t, err)
	return l
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
