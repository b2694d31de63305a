// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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

func TestListen(t *testing.T) {
	for _, c := range []struct{ network, address string }{
		{"tcp", "127.0.0.1:0"}, {"tcp4", "127.0.0.1:0"}, {"tcp", "[::1]:0"}, {"tcp6", "[::1]:0"},
		{"tcp", "localhost:0"}, {"tcp", ":0"}, {"tcp4", ":0"},
		{"unix", "path"}, {"unix", "@abstract"},
	} {
		t.Run(c.network+" "+c.address, func(t *testing.T) {
			if c.network == "unix" {
				if c.address == "path" {
					c.address = filepath.Join(t.TempDir(), "sock")
				} else {
					c.address += t.Name()
				}
			}
			base := testutil.NewBase(t)
			var l *libevent.Listener
			var remote net.Addr
			l, err := base.Listen(c.network, c.address, libevent.ListenOptions{}, func(got *libevent.Listener, fd int, addr net.Addr) {
				assert.Same(t, l, got)
				remote = addr
				bev, err := base.NewSocket(fd, libevent.OptCloseOnFree)
				if !assert.NoError(t, err) {
					return
				}
				_, err = bev.WriteString("hello")
				assert.NoError(t, err)
				assert.NoError(t, bev.FreeAfterFlush(testutil.Patience))
				got.Free()
			})
			if errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) {
				t.Skip("this machine has no such address")
			}
			require.NoError(t, err)
			conn := testutil.Dial(t, l)
			testutil.Dispatch(t, base)
			got, err := io.ReadAll(conn)
			require.NoError(t, err)
			assert.Equal(t, "hello", string(got))
			require.NotNil(t, remote)
			if c.network != "unix" && c.address != ":0" {
				assert.Equal(t, conn.LocalAddr().String(), remote.String())
			}
			assert.NotNil(t, l.Addr(), "also after Free")
		})
	}
}

func TestListenArguments(t *testing.T) {
	base := testutil.NewBase(t)
	for _, c := range []struct{ network, address string }{
		{"udp", "127.0.0.1:0"}, {"tcp", "127.0.0.1"}, {"tcp4", "[::1]:0"}, {"tcp6", "127.0.0.1:0"},
		{"tcp", "127.0.0.1:99999"}, {"unix", ""}, {"", ""},
	} {
		_, err := base.Listen(c.network, c.address, libevent.ListenOptions{}, testutil.Drop)
		assert.ErrorIs(t, err, syscall.EINVAL, "%+v", c)
	}
	_, err := base.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{}, nil)
	assert.ErrorIs(t, err, syscall.EINVAL)
	_, err = base.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{Backlog: -1}, testutil.Drop)
	assert.ErrorIs(t, err, syscall.EINVAL)

	l := testutil.Listen(t, base, testutil.Drop)
	_, err = base.Listen("tcp", l.Addr().String(), libevent.ListenOptions{}, testutil.Drop)
	assert.ErrorIs(t, err, syscall.EADDRINUSE)
	assert.Equal(t, 1, base.Stats().Listeners)
	_, err = base.Listen("unix", "/no/such/directory/sock", libevent.ListenOptions{}, testutil.Drop)
	assert.ErrorIs(t, err, syscall.ENOENT)
}

func TestListenOptions(t *testing.T) {
	base := testutil.NewBase(t)
	first, err := base.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{ReusePort: true, Backlog: 5}, testutil.Drop)
	require.NoError(t, err)
	_, err = base.Listen("tcp", first.Addr().String(), libevent.ListenOptions{ReusePort: true}, testutil.Drop)
	require.NoError(t, err, "the port is shared")

	accepted := 0
	l, err := base.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{Disabled: true, DeferredAccept: true, NoReuseAddr: true},
		func(l *libevent.Listener, fd int, _ net.Addr) {
			accepted++
			testutil.Drop(l, fd, nil)
			first.Free()
			assert.NoError(t, base.LoopBreak())
		})
	require.NoError(t, err)
	conn := testutil.Dial(t, l)
	_, err = conn.Write([]byte("x")) // a deferred accept waits for a byte
	require.NoError(t, err)
	require.NoError(t, base.Loop(libevent.LoopNonblock))
	assert.Zero(t, accepted)
	require.NoError(t, l.Enable())
	testutil.Dispatch(t, base)
	assert.Equal(t, 1, accepted)
}

// Disable in the closure stops accepting at once, though more connections wait.
func TestListenerDisableInClosure(t *testing.T) {
	base := testutil.NewBase(t)
	accepted := 0
	l := testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
		accepted++
		testutil.Drop(l, fd, nil)
		assert.NoError(t, l.Disable())
	})
	for range 3 {
		testutil.Dial(t, l)
	}
	for i := range 3 {
		require.NoError(t, l.Enable())
		testutil.Dispatch(t, base)
		assert.Equal(t, i+1, accepted)
	}
}

func TestListenerFreeInClosure(t *testing.T) {
	base := testutil.NewBase(t)
	accepted := 0
	l := testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
		accepted++
		testutil.Drop(l, fd, nil)
		l.Free()
	})
	for range 3 {
		testutil.Dial(t, l)
	}
	testutil.Dispatch(t, base)
	assert.Equal(t, 1, accepted)
	assert.Zero(t, base.Stats().Listeners)
	assert.ErrorIs(t, l.Enable(), libevent.ErrClosed)
	assert.ErrorIs(t, l.Disable(), libevent.ErrClosed)
	_, err := net.Dial("tcp", l.Addr().String())
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
}

// Other goroutines disable and free the listener under a storm of connections. No closure
// starts after Disable or Free, nothing deadlocks, and no connection is left hanging.
func TestListenerFromOtherGoroutines(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	for range 20 {
		var off atomic.Bool
		l := testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
			assert.False(t, off.Load())
			testutil.Drop(l, fd, nil)
		})
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if conn, err := net.DialTimeout("tcp", l.Addr().String(), testutil.Patience); err == nil {
						_ = conn.Close()
					}
				}
			})
		}
		for i := range 10 {
			require.NoError(t, l.Disable())
			testutil.OnLoop(t, base, func() { off.Store(true) }) // every closure that ran has ended
			testutil.OnLoop(t, base, func() { off.Store(false) })
			require.NoError(t, l.Enable())
			if i%3 == 0 {
				testutil.OnLoop(t, base, func() {})
			}
		}
		l.Free()
		close(stop)
		wg.Wait()
	}
}

// Without free descriptors there is one report and no spin. Accepting goes on when there
// are descriptors again.
func TestAcceptErrors(t *testing.T) {
	for _, withFunc := range []bool{true, false} {
		var logged countingHandler
		require.NoError(t, libevent.SetLogger(slog.New(&logged)))
		base := testutil.NewBase(t)
		var reports []error
		accepted := 0
		l := testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
			accepted++
			testutil.Drop(l, fd, nil)
			assert.NoError(t, base.LoopBreak())
		})
		if withFunc {
			l.SetErrorFunc(func(got *libevent.Listener, err error) {
				assert.Same(t, l, got)
				reports = append(reports, err)
			})
		}
		conn := testutil.Dial(t, l)
		var limit syscall.Rlimit
		require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
		low := limit
		low.Cur = 0
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
		before := testutil.CPUTime()
		lerr := base.LoopExit(300 * time.Millisecond)
		derr := base.Dispatch()
		cpu := testutil.CPUTime() - before
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
		require.NoError(t, errors.Join(lerr, derr))
		assert.Zero(t, accepted)
		assert.Less(t, cpu, 150*time.Millisecond, "no spin")
		if withFunc {
			require.Len(t, reports, 1)
			assert.ErrorIs(t, reports[0], syscall.EMFILE)
		} else {
			assert.EqualValues(t, 1, logged.n.Load())
		}
		testutil.Dispatch(t, base)
		assert.Equal(t, 1, accepted)
		_, err := conn.Read(make([]byte, 1))
		assert.ErrorIs(t, err, io.EOF)
		require.NoError(t, libevent.SetLogger(nil))
	}
}

// ListenFD takes a socket of package net, and a socket that is only bound.
func TestListenFD(t *testing.T) {
	base := testutil.NewBase(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	listening := testutil.ConnFD(t, ln.(*net.TCPListener))
	bound := testutil.TCPSocket(t)
	require.NoError(t, syscall.Bind(bound, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	accepted := 0
	for _, fd := range []int{listening, bound} {
		l, err := base.ListenFD(fd, libevent.ListenOptions{}, func(l *libevent.Listener, conn int, _ net.Addr) {
			accepted++
			testutil.Drop(l, conn, nil)
			l.Free()
		})
		require.NoError(t, err)
		assert.Equal(t, fd, l.FD())
		assert.Same(t, base, l.Base())
		if fd == listening {
			assert.Equal(t, addr, l.Addr().String())
		}
		testutil.Dial(t, l)
		testutil.Dispatch(t, base)
		assert.Equal(t, -1, l.FD())
	}
	assert.Equal(t, 2, accepted)
	_, err = base.ListenFD(-1, libevent.ListenOptions{}, testutil.Drop)
	assert.ErrorIs(t, err, syscall.EINVAL)
	_, err = base.ListenFD(bound, libevent.ListenOptions{}, testutil.Drop)
	assert.ErrorIs(t, err, syscall.EBADF, "the listener has closed it")
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	_, err = base.ListenFD(int(r.Fd()), libevent.ListenOptions{}, testutil.Drop)
	assert.ErrorIs(t, err, syscall.ENOTSOCK)
}

// The loop accepts at once, perhaps before ListenFD has returned on another goroutine.
func TestAConnectionThatWaitsForTheListener(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	for range 300 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		conn, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		accepted := make(chan struct{})
		l, err := base.ListenFD(testutil.ConnFD(t, ln.(*net.TCPListener)), libevent.ListenOptions{},
			func(l *libevent.Listener, fd int, _ net.Addr) {
				testutil.Drop(l, fd, nil)
				close(accepted)
			})
		require.NoError(t, err)
		testutil.Receive(t, accepted)
		l.Free()
		require.NoError(t, conn.Close())
	}
}

func TestAcceptedDescriptors(t *testing.T) {
	for _, opts := range []libevent.ListenOptions{{}, {Blocking: true, NoCloseOnExec: true}} {
		base := testutil.NewBase(t)
		l, err := base.Listen("tcp", "127.0.0.1:0", opts, func(l *libevent.Listener, fd int, _ net.Addr) {
			status, _, _ := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFL, 0)
			flags, _, _ := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
			assert.Equal(t, !opts.Blocking, status&syscall.O_NONBLOCK != 0)
			assert.Equal(t, !opts.NoCloseOnExec, flags&syscall.FD_CLOEXEC != 0)
			testutil.Drop(l, fd, nil)
			l.Free()
		})
		require.NoError(t, err)
		testutil.Dial(t, l)
		testutil.Dispatch(t, base)
	}
}

func TestListenIPv4AndIPv6(t *testing.T) {
	base := testutil.NewBase(t)
	accepted := 0
	opts := libevent.ListenOptions{IPv4AndIPv6: true}
	l, err := base.Listen("tcp", "[::]:0", opts, func(l *libevent.Listener, fd int, _ net.Addr) {
		accepted++
		assert.NoError(t, syscall.Close(fd))
		l.Free()
	})
	if strings.HasPrefix(libevent.HeaderVersion(), "2.1.") {
		require.ErrorIs(t, err, errors.ErrUnsupported)
		assert.Contains(t, err.Error(), "2.2")
		return
	}
	if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Skip("no IPv6 here")
	}
	require.NoError(t, err)
	conn, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(l.Addr().(*net.TCPAddr).Port)))
	require.NoError(t, err)
	defer conn.Close()
	testutil.Dispatch(t, base)
	assert.Equal(t, 1, accepted)

	_, err = base.Listen("tcp6", "[::]:0", opts, testutil.Drop)
	assert.ErrorIs(t, err, syscall.EINVAL)
}
