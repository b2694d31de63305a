// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/evnet"
	"github.com/go-libevent/libevent/internal/testutil"
)

// pair makes two connections that are closed at the end of the test.
func (tr transport) pair(t testing.TB, loop libevent.Loop) (a, b *evnet.Conn) {
	t.Helper()
	x, y, err := tr.connect(t, loop)
	require.NoError(t, err)
	a, b = x.(*evnet.Conn), y.(*evnet.Conn)
	t.Cleanup(func() {
		_, _ = a.Close(), b.Close()
	})
	return a, b
}

// eachTransport runs a test over each transport, on a loop of its own.
func eachTransport(t *testing.T, test func(t *testing.T, a, b *evnet.Conn)) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			a, b := tr.pair(t, running(t))
			test(t, a, b)
		})
	}
}

func tcpPair(t testing.TB, loop libevent.Loop) (a, b *evnet.Conn) {
	t.Helper()
	return transports[0].pair(t, loop)
}

// same compares long contents without printing them.
func same(t testing.TB, want, got []byte) {
	t.Helper()
	if !bytes.Equal(want, got) {
		assert.Fail(t, "bytes differ", "want %d bytes, got %d", len(want), len(got))
	}
}

func readAll(r io.Reader) <-chan result[[]byte] {
	return async(func() ([]byte, error) { return io.ReadAll(r) })
}

func writeAll(w io.Writer, p []byte) <-chan result[int] {
	return async(func() (int, error) { return w.Write(p) })
}

// assertOp checks that an error is the *net.OpError of an operation and matches a cause.
func assertOp(t testing.TB, err error, op string, cause error) {
	t.Helper()
	var e *net.OpError
	if assert.ErrorAs(t, err, &e) {
		assert.Equal(t, op, e.Op)
		assert.NotEmpty(t, e.Net)
	}
	assert.ErrorIs(t, err, cause)
}

// fill writes until the connection takes no more for now, and returns how many bytes it took.
func fill(t testing.TB, c *evnet.Conn) (n int) {
	t.Helper()
	require.NoError(t, c.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
	n, err := c.Write(make([]byte, 64<<20))
	assert.True(t, timedOut(err), "%v", err)
	require.NoError(t, c.SetWriteDeadline(time.Time{}))
	return n
}

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }

// serve handles each connection of a listener on a goroutine of its own.
func serve(l net.Listener, fn func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			fn(c)
		}()
	}
}

// halfCloser is a connection that can end its writing side.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// exchange sends data both ways between two connections at once, up to the end of both.
func exchange(t *testing.T, data []byte, a, b halfCloser) {
	t.Helper()
	var reads []<-chan result[[]byte]
	for _, c := range []halfCloser{a, b} {
		reads = append(reads, readAll(c))
		go func() {
			n, err := c.Write(data)
			assert.Equal(t, len(data), n)
			assert.NoError(t, err)
			assert.NoError(t, c.CloseWrite())
		}()
	}
	for _, read := range reads {
		got := testutil.Receive(t, read)
		assert.NoError(t, got.err)
		same(t, data, got.v)
	}
}

// nothingLeft waits until a loop has no bufferevents and no listeners.
func nothingLeft(t testing.TB, loop interface{ Stats() libevent.Stats }) {
	t.Helper()
	testutil.Eventually(t, func() bool {
		stats := loop.Stats()
		return stats.BufferEvents == 0 && stats.Listeners == 0
	}, "nothing is left on the loop")
}
