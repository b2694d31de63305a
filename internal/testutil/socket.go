package testutil

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Socketpair makes two connected descriptors.
func Socketpair(t testing.TB) (a, b int) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	return fds[0], fds[1]
}

// ConnFD gives the descriptor of a connection or listener of package net, which is
// closed.
func ConnFD(t testing.TB, conn io.Closer) int {
	t.Helper()
	f, err := conn.(interface{ File() (*os.File, error) }).File()
	require.NoError(t, err)
	fd, err := syscall.Dup(int(f.Fd()))
	require.NoError(t, err)
	syscall.CloseOnExec(fd)
	require.NoError(t, f.Close())
	require.NoError(t, conn.Close())
	return fd
}

// TCPPair makes a TCP connection on loopback: a descriptor, and the other end in
// the hands of package net.
func TCPPair(t testing.TB) (fd int, peer *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	server, err := ln.Accept()
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(Patience)))
	t.Cleanup(func() { _ = conn.Close() })
	return ConnFD(t, server), conn.(*net.TCPConn)
}
