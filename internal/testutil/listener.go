// SPDX-License-Identifier: BSD-3-Clause

package testutil

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
)

// Listen makes a listener on a free port of loopback.
func Listen(t testing.TB, base *libevent.Base, accept func(*libevent.Listener, int, net.Addr)) *libevent.Listener {
	t.Helper()
	l, err := base.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{}, accept)
	require.NoError(t, err)
	return l
}

// Drop is an accept closure that closes the connection at once.
func Drop(_ *libevent.Listener, fd int, _ net.Addr) { _ = syscall.Close(fd) }

// Dial connects to a listener. The connection is closed at the end of the test.
func Dial(t testing.TB, l *libevent.Listener) net.Conn {
	t.Helper()
	conn, err := net.Dial(l.Addr().Network(), l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(Patience)))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Refusing returns an address on which no socket listens until the end of the test: a socket that
// does not listen has its port, so that no listener of another test can get it.
func Refusing(t testing.TB) *net.TCPAddr {
	t.Helper()
	fd := TCPSocket(t)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	sa, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: sa.(*syscall.SockaddrInet4).Port}
}
