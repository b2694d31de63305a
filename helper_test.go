package libevent_test

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

const (
	rd = libevent.EvRead
	wr = libevent.EvWrite
)

// newSocket makes a bufferevent on one end of a TCP connection.
func newSocket(t testing.TB, base *libevent.Base, opts libevent.Options) (*libevent.BufferEvent, *net.TCPConn) {
	t.Helper()
	fd, peer := testutil.TCPPair(t)
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

// idle runs the loop for a while, and as many turns as it may lack then: on a busy machine
// the time can be over before what is due was done.
func idle(t testing.TB, base *libevent.Base, d time.Duration) {
	t.Helper()
	require.NoError(t, base.LoopExit(d))
	require.NoError(t, base.Loop(libevent.LoopNoExitOnEmpty))
	for range 20 {
		require.NoError(t, base.Loop(libevent.LoopNonblock))
	}
}

// openFDs counts the open descriptors of the process, those of Go's poller always among
// them: the first use of a pipe or a socket would add them.
func openFDs(t testing.TB) int {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoError(t, w.Close())
	entries, err := os.ReadDir("/dev/fd")
	require.NoError(t, err)
	return len(entries)
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
