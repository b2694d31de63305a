// SPDX-License-Identifier: BSD-3-Clause

package testutil

import (
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Socketpair makes two connected descriptors.
func Socketpair(t testing.TB) (a, b int) {
	t.Helper()
	fds, err := Sockets()
	require.NoError(t, err)
	return fds[0], fds[1]
}

// Sockets makes two connected descriptors. Not every system has SOCK_CLOEXEC, so the lock keeps
// a program that another goroutine starts from inheriting them.
func Sockets() (fds [2]int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if fds, err = syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0); err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	return fds, err
}

// TCPSocket makes a TCP socket for IPv4 that is neither bound nor connected.
func TCPSocket(t testing.TB) (fd int) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	syscall.CloseOnExec(fd)
	return fd
}

// ConnFD returns a descriptor for the socket of a connection or listener of package net.
// The connection or listener itself is closed.
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

// TCPPair makes a TCP connection on loopback: a descriptor for one end, and a connection
// of package net for the other end.
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

// ReadAll reads from a connection until its end, on another goroutine.
func ReadAll(conn net.Conn) <-chan []byte {
	got := make(chan []byte, 1)
	go func() {
		p, _ := io.ReadAll(conn)
		got <- p
	}()
	return got
}

// Say sends text and receives an answer of the same length.
func Say(t testing.TB, conn net.Conn, text string) string {
	t.Helper()
	_, err := io.WriteString(conn, text)
	require.NoError(t, err)
	answer := make([]byte, len(text))
	_, err = io.ReadFull(conn, answer)
	require.NoError(t, err)
	return string(answer)
}

// OpenFDs counts the open descriptors of the process. It opens a pipe first: Go's poller
// makes its own descriptors when the first pipe or socket is used, and they must be in
// every count.
func OpenFDs(t testing.TB) int {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoError(t, w.Close())
	entries, err := os.ReadDir("/dev/fd")
	require.NoError(t, err)
	return len(entries)
}

// FullBacklog makes a listener that does not answer, because its backlog is full, and returns its
// port on the address. If port is 0, it is any.
func FullBacklog(t testing.TB, ip string, port int) int {
	t.Helper()
	fd := TCPSocket(t)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: netip.MustParseAddr(ip).As4(), Port: port}))
	require.NoError(t, syscall.Listen(fd, 0))
	sa, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	port = sa.(*syscall.SockaddrInet4).Port
	for range 8 { // not blocking: a busy machine would look like a full backlog
		client := TCPSocket(t)
		require.NoError(t, syscall.SetNonblock(client, true))
		t.Cleanup(func() { _ = syscall.Close(client) })
		if err := syscall.Connect(client, sa); err != nil {
			require.ErrorIs(t, err, syscall.EINPROGRESS)
		}
	}
	if conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip, strconv.Itoa(port)), 50*time.Millisecond); err == nil {
		_ = conn.Close()
		t.Skip("this system's backlog never fills")
	}
	return port
}
