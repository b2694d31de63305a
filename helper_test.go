package libevent_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
)

const (
	rd = libevent.EvRead
	wr = libevent.EvWrite
)

// plainIO runs the tests that do not choose without the fast path.
var plainIO = os.Getenv("LIBEVENT_PLAIN_IO") != ""

// newBase makes a base that is freed at the end of the test.
func newBase(t testing.TB) *libevent.Base {
	t.Helper()
	base, err := libevent.NewBaseConfig(libevent.Config{PlainIO: plainIO})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, base.Free()) })
	return base
}

// dispatch runs the loop until it ends by itself, or fails the test.
func dispatch(t testing.TB, base *libevent.Base) {
	t.Helper()
	watchdog := time.AfterFunc(patience, func() {
		t.Error("the loop does not end")
		_ = base.LoopBreak()
	})
	defer watchdog.Stop()
	require.NoError(t, base.Dispatch())
}

// background runs the loop on a goroutine until the returned function is called,
// which happens at the end of the test at the latest.
func background(t testing.TB, base *libevent.Base) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- base.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			assert.ErrorIs(t, receive(t, done), context.Canceled)
		}
	}
	t.Cleanup(stop)
	return stop
}

// receive waits for a value from a channel.
func receive[T any](t testing.TB, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		buf := make([]byte, 1<<20)
		t.Logf("%s", buf[:runtime.Stack(buf, true)])
		require.Fail(t, "waited too long")
	}
	return v
}

func eventually(t testing.TB, cond func() bool, what string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); runtime.Gosched() {
		if time.Now().After(deadline) {
			require.Fail(t, "never happened: "+what)
		}
	}
}

// onLoop runs fn on the goroutine of a loop in the background and waits for it.
func onLoop(t testing.TB, base *libevent.Base, fn func()) {
	t.Helper()
	done := make(chan struct{})
	require.NoError(t, base.Post(func() { defer close(done); fn() }))
	receive(t, done)
}

// socketpair makes two connected descriptors.
func socketpair(t testing.TB) (a, b int) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	return fds[0], fds[1]
}

// connFD gives the descriptor of a connection or listener of package net, which is
// closed.
func connFD(t testing.TB, conn io.Closer) int {
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

// tcpPair makes a TCP connection on loopback: a descriptor, and the other end in
// the hands of package net.
func tcpPair(t testing.TB) (fd int, peer *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	server, err := ln.Accept()
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { _ = conn.Close() })
	return connFD(t, server), conn.(*net.TCPConn)
}

// newSocket makes a bufferevent on one end of a TCP connection.
func newSocket(t testing.TB, base *libevent.Base, opts libevent.Options) (*libevent.BufferEvent, *net.TCPConn) {
	t.Helper()
	fd, peer := tcpPair(t)
	bev, err := base.NewSocket(fd, opts|libevent.OptCloseOnFree)
	require.NoError(t, err)
	return bev, peer
}

func newPair(t testing.TB, base *libevent.Base) (a, b *libevent.BufferEvent) {
	t.Helper()
	a, b, err := base.NewPair(0)
	require.NoError(t, err)
	return a, b
}

func newBuffer(t testing.TB, content string) *libevent.Buffer {
	t.Helper()
	b, err := libevent.NewBuffer()
	require.NoError(t, err)
	t.Cleanup(b.Free)
	if content != "" { // which libevent would make a chunk for
		require.NoError(t, b.Add([]byte(content)))
	}
	return b
}

// content copies what is in a buffer.
func content(t testing.TB, b *libevent.Buffer) string {
	t.Helper()
	p := make([]byte, b.Len())
	n, err := b.CopyOut(p)
	assert.NoError(t, err)
	return string(p[:n])
}

// noise makes n bytes that do not repeat.
func noise(n int) []byte {
	p := make([]byte, n)
	rand.New(rand.NewSource(int64(n))).Read(p)
	return p
}

// readAll reads from the peer until the end, on a goroutine.
func readAll(conn net.Conn) <-chan []byte {
	got := make(chan []byte, 1)
	go func() {
		p, _ := io.ReadAll(conn)
		got <- p
	}()
	return got
}

// same compares long contents without printing them.
func same(t testing.TB, want, got []byte) {
	t.Helper()
	if !bytes.Equal(want, got) {
		assert.Fail(t, "bytes differ", "want %d bytes, got %d", len(want), len(got))
	}
}

// openFDs counts the open descriptors of the process.
func openFDs(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/dev/fd")
	require.NoError(t, err)
	return len(entries)
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// raises returns what fn panics with.
func raises(fn func()) (v any) {
	defer func() { v = recover() }()
	fn()
	return nil
}

// quiet keeps libevent's warnings out of the test's output.
func quiet(t testing.TB) {
	t.Helper()
	require.NoError(t, libevent.SetLogger(slog.New(slog.DiscardHandler)))
	t.Cleanup(func() { assert.NoError(t, libevent.SetLogger(nil)) })
}
