// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func intOption(t *testing.T, fd, level, option int) int {
	t.Helper()
	v, err := syscall.GetsockoptInt(fd, level, option)
	assert.NoError(t, err)
	return v
}

func hasNoDelay(t *testing.T, fd int) bool {
	t.Helper()
	return intOption(t, fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY) != 0
}

// TestAcceptedNoDelay accepts one connection, on a socket that Listen makes and on one that
// the caller brings.
func TestAcceptedNoDelay(t *testing.T) {
	for _, c := range []struct {
		name string
		opts libevent.ListenOptions
		want bool
	}{{"as made", libevent.ListenOptions{}, true}, {"Nagle", libevent.ListenOptions{Nagle: true}, false}} {
		for _, from := range []string{"Listen", "ListenFD"} {
			t.Run(c.name+" "+from, func(t *testing.T) {
				base := testutil.NewBase(t)
				accept := func(l *libevent.Listener, fd int, _ net.Addr) {
					assert.Equal(t, c.want, hasNoDelay(t, fd))
					assert.NoError(t, syscall.Close(fd))
					l.Free()
				}
				listen := func() (*libevent.Listener, error) {
					if from == "Listen" {
						return base.Listen("tcp", "127.0.0.1:0", c.opts, accept)
					}
					ln, err := net.Listen("tcp", "127.0.0.1:0")
					require.NoError(t, err)
					return base.ListenFD(testutil.ConnFD(t, ln), c.opts, accept)
				}
				l, err := listen()
				require.NoError(t, err)
				assert.Equal(t, c.want, hasNoDelay(t, l.FD()), "accepted sockets inherit it")
				testutil.Dial(t, l)
				testutil.Dispatch(t, base)
			})
		}
	}
}

func TestConnectedNoDelay(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	for _, c := range []struct {
		name string
		opts libevent.Options
		want bool
	}{{"as made", 0, true}, {"Nagle", libevent.OptNagle, false}} {
		t.Run(c.name, func(t *testing.T) {
			base := testutil.NewBase(t)
			for _, connect := range []func(*libevent.BufferEvent) error{
				func(b *libevent.BufferEvent) error { return b.Connect("tcp", ln.Addr().String()) },
				func(b *libevent.BufferEvent) error { return b.ConnectHostname(nil, "tcp", "127.0.0.1", port) },
			} {
				bev, err := base.NewSocket(-1, libevent.OptCloseOnFree|c.opts)
				require.NoError(t, err)
				require.NoError(t, connect(bev))
				require.Equal(t, libevent.EventConnected, testutil.Happening(t, bev))
				assert.Equal(t, c.want, hasNoDelay(t, bev.FD()))
				bev.Free()
			}
		})
	}
}

// A descriptor of the caller's keeps its options, also if Connect connects it.
func TestCallersDescriptorIsLeftAlone(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	base := testutil.NewBase(t)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	bev, err := base.NewSocket(fd, libevent.OptCloseOnFree)
	require.NoError(t, err)
	assert.False(t, hasNoDelay(t, fd))
	require.NoError(t, bev.Connect("tcp", ln.Addr().String()))
	require.Equal(t, libevent.EventConnected, testutil.Happening(t, bev))
	assert.False(t, hasNoDelay(t, fd))
	require.NoError(t, bev.SetNoDelay(true))
	assert.True(t, hasNoDelay(t, fd))
	require.NoError(t, bev.SetNoDelay(false))
	assert.False(t, hasNoDelay(t, fd))
}

func TestSetKeepAlive(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	on := func() int { return intOption(t, bev.FD(), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE) }
	require.NoError(t, bev.SetKeepAlive(net.KeepAliveConfig{Enable: true, Idle: 1500 * time.Millisecond, Interval: time.Second, Count: 3}))
	assert.NotZero(t, on())
	wantKeepAlive(t, bev.FD(), 2, 1, 3)
	require.NoError(t, bev.SetKeepAlive(net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}))
	wantKeepAlive(t, bev.FD(), 2, 1, 3)
	require.NoError(t, bev.SetKeepAlive(net.KeepAliveConfig{Enable: true}))
	wantKeepAlive(t, bev.FD(), 15, 15, 9)
	require.NoError(t, bev.SetKeepAlive(net.KeepAliveConfig{}))
	assert.Zero(t, on())
}

// With a linger time of 0 the peer is reset.
func TestSetLinger(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.SetLinger(5))
	require.NoError(t, bev.SetLinger(-1))
	require.NoError(t, bev.SetLinger(0))
	bev.Free()
	_, err := peer.Read(make([]byte, 1))
	assert.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestSocketOptionsWithoutASocket(t *testing.T) {
	base := testutil.NewBase(t)
	none, err := base.NewSocket(-1, 0)
	require.NoError(t, err)
	a, b := testutil.NewPair(t, base)
	for _, bev := range []*libevent.BufferEvent{none, a, b} {
		assert.ErrorIs(t, bev.SetNoDelay(true), syscall.EBADF)
		assert.ErrorIs(t, bev.SetKeepAlive(net.KeepAliveConfig{Enable: true}), syscall.EBADF)
		assert.ErrorIs(t, bev.SetLinger(0), syscall.EBADF)
	}
	none.Free()
	assert.ErrorIs(t, none.SetNoDelay(true), libevent.ErrClosed)
}

// On a unix socket there is nothing that could wait, and a Listener sets nothing.
func TestNoDelayOnUnixSockets(t *testing.T) {
	base := testutil.NewBase(t)
	l, err := base.Listen("unix", filepath.Join(t.TempDir(), "sock"), libevent.ListenOptions{}, func(l *libevent.Listener, fd int, _ net.Addr) {
		bev, err := base.NewSocket(fd, libevent.OptCloseOnFree)
		assert.NoError(t, err)
		assert.ErrorIs(t, bev.SetNoDelay(true), syscall.EOPNOTSUPP)
		bev.Free()
		l.Free()
	})
	require.NoError(t, err)
	testutil.Dial(t, l)
	testutil.Dispatch(t, base)
}

func TestSocketOptionsOfAFilter(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	filter := testutil.NewFilter(t, bev, nil, nil, libevent.OptCloseOnFree)
	require.NoError(t, filter.SetNoDelay(true))
	assert.True(t, hasNoDelay(t, bev.FD()))
}
