// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/evnet"
	"github.com/go-libevent/libevent/internal/testutil"
)

func listen(t testing.TB, loop runner, network, address string) net.Listener {
	t.Helper()
	l, err := evnet.Listen(loop, network, address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestListenClose(t *testing.T) {
	base := running(t)
	l := listen(t, base, "tcp", "127.0.0.1:0")
	accept := async(l.Accept)
	require.NoError(t, l.Close())
	assertOp(t, testutil.Receive(t, accept).err, "accept", net.ErrClosed)
	assertOp(t, l.Close(), "close", net.ErrClosed)
	_, err := l.Accept()
	assertOp(t, err, "accept", net.ErrClosed)
	assert.NotNil(t, l.Addr())
	again := listen(t, base, "tcp", l.Addr().String())
	assert.Equal(t, l.Addr().String(), again.Addr().String(), "the address is free at once")
}

// Close closes the connections that wait for Accept, as the system closes those in its backlog.
func TestListenCloseEndsWhatWaits(t *testing.T) {
	base := running(t)
	l := listen(t, base, "tcp", "127.0.0.1:0")
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	testutil.Eventually(t, func() bool { return evnet.Arrived(l) == 1 }, "the connection arrived")
	require.NoError(t, l.Close())
	require.NoError(t, c.SetDeadline(time.Now().Add(testutil.Patience)))
	_, err = c.Read(make([]byte, 1))
	assert.False(t, err == nil || timedOut(err), "%v", err)
}

func TestListenDeadline(t *testing.T) {
	l := listen(t, running(t), "tcp", "127.0.0.1:0").(*evnet.Listener)
	require.NoError(t, l.SetDeadline(time.Now().Add(10*time.Millisecond)))
	_, err := l.Accept()
	assert.True(t, timedOut(err), "%v", err)
	require.NoError(t, l.SetDeadline(time.Time{}))
	accept := async(l.Accept)
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	got := testutil.Receive(t, accept)
	require.NoError(t, got.err)
	assert.Equal(t, c.LocalAddr().String(), got.v.RemoteAddr().String())
	assert.Equal(t, c.RemoteAddr().String(), got.v.LocalAddr().String())
	assert.NoError(t, got.v.Close())
	require.NoError(t, l.Close())
	assert.Equal(t, net.ErrClosed, l.SetDeadline(time.Time{}))
}

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l := listen(t, running(t), "unix", path)
	_, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = os.Stat(path)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// A listener that cannot start leaves nothing behind.
func TestListenCannotStart(t *testing.T) {
	base, err := libevent.NewBase()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "s")
	l := listen(t, base, "unix", path)
	require.NoError(t, base.Free())
	assert.ErrorIs(t, evnet.Start(l), net.ErrClosed)
	assert.NoFileExists(t, path)
	_, err = l.Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
}

func TestListenErrors(t *testing.T) {
	base := running(t)
	l := listen(t, base, "tcp", "127.0.0.1:0")
	for _, c := range []struct {
		network, address string
		want             error
	}{
		{"tcp", l.Addr().String(), syscall.EADDRINUSE},
		{"udp", "127.0.0.1:0", net.UnknownNetworkError("udp")},
		{"unix", "/nonexistent/s", syscall.ENOENT},
	} {
		_, err := evnet.Listen(base, c.network, c.address)
		assertOp(t, err, "listen", c.want)
	}
	for _, address := range []string{"127.0.0.1", "127.0.0.1:x", "[::1"} {
		_, err := evnet.Listen(base, "tcp", address)
		assert.Error(t, err, address)
	}
	_, err := evnet.Listen(nil, "tcp", "127.0.0.1:0")
	assert.Error(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = new(evnet.ListenConfig).Listen(ctx, base, "tcp", "a.name.that.is.looked.up.invalid:0")
	assert.Error(t, err)
	named := listen(t, base, "tcp", "localhost:0")
	assert.NotZero(t, named.Addr().(*net.TCPAddr).Port)
}

// While Accept is not called, the queue does not grow beyond its limit. The other connections
// wait in the system's backlog and are not lost.
func TestListenBacklog(t *testing.T) {
	const conns = 1000
	loop := newGroup(t)
	background(t, loop)
	l := listen(t, loop, "tcp", "127.0.0.1:0")
	var clients []net.Conn
	for range conns {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		clients = append(clients, c)
	}
	testutil.Eventually(t, func() bool { return evnet.Arrived(l) >= 256 }, "the queue is full")
	time.Sleep(50 * time.Millisecond) // sleep: more would arrive meanwhile
	assert.Equal(t, 256, evnet.Arrived(l))
	go serve(l, func(c net.Conn) { _, _ = c.Write([]byte("x")) })
	for _, c := range clients {
		require.NoError(t, c.SetDeadline(time.Now().Add(testutil.Patience)))
		n, err := c.Read(make([]byte, 1))
		require.NoError(t, err)
		assert.Equal(t, 1, n)
	}
}

// syncBuffer is a log to which several goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// When the process has no free descriptor, Accept waits and one message is logged. It goes on
// when there are descriptors again.
func TestListenWithoutDescriptors(t *testing.T) {
	base := running(t)
	var log syncBuffer
	lc := evnet.ListenConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	l, err := lc.Listen(context.Background(), base, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	accept := async(l.Accept)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer syscall.Close(fd)
	var old syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old))
	restore := func() { assert.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old)) }
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: old.Max}))
	err = syscall.Connect(fd, &syscall.SockaddrInet4{Port: l.Addr().(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}})
	if !assert.NoError(t, err) {
		restore()
		return
	}
	for deadline := time.Now().Add(testutil.Patience); !strings.Contains(log.String(), "too many open files") && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // sleep: waiting must not open a descriptor
	}
	restore()
	got := testutil.Receive(t, accept)
	require.NoError(t, got.err)
	assert.NoError(t, got.v.Close())
	assert.Equal(t, 1, strings.Count(log.String(), "too many open files"))
}

// Each base of a group gets an equal share of the connections.
func TestListenOnGroup(t *testing.T) {
	loop := newGroup(t)
	background(t, loop)
	l := listen(t, loop, "tcp", "127.0.0.1:0")
	shares := map[any]int{}
	for range 10 {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		s, err := l.Accept()
		require.NoError(t, err)
		defer s.Close()
		shares[evnet.BaseOf(s.(*evnet.Conn))]++
	}
	assert.Len(t, shares, 2)
	for _, n := range shares {
		assert.Equal(t, 5, n)
	}
}
