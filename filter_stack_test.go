package libevent_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// stackOfTwo makes two filters on a socket. The other end is the descriptor peer, which does not
// block.
func stackOfTwo(t *testing.T, base *libevent.Base) (upper, lower, bev *libevent.BufferEvent, peer int) {
	t.Helper()
	bev, peer = testutil.NewUnixSocket(t, base)
	require.NoError(t, syscall.SetNonblock(peer, true))
	lower = testutil.NewFilter(t, bev, nil, nil, 0)
	upper = testutil.NewFilter(t, lower, nil, nil, 0)
	t.Cleanup(func() {
		upper.Free()
		lower.Free()
		bev.Free()
		_ = syscall.Close(peer)
	})
	return upper, lower, bev, peer
}

// The socket has read, the filter has not yet taken the bytes, and the filter gets a high mark
// that its input has reached already. When the input is drained, the filter takes them.
func TestFilterHighMarkBetweenReadAndTake(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewUnixSocket(t, base)
	top := testutil.NewFilter(t, bev, nil, nil, 0)
	defer func() { top.Free(); bev.Free(); _ = syscall.Close(peer) }()
	require.NoError(t, top.Enable(rd|wr))
	testutil.Background(t, base)
	say := func(n int) {
		_, err := syscall.Write(peer, make([]byte, n))
		assert.NoError(t, err)
	}
	say(1000)
	testutil.Eventually(t, func() bool { return top.Input().Len() == 1000 }, "the first bytes are there")
	testutil.OnLoop(t, base, func() {
		say(100)
		// In the next turn the socket is read first, then this runs, and then the filter takes.
		assert.NoError(t, base.Post(func() { assert.NoError(t, top.SetWatermark(rd, 0, 600)) }))
	})
	testutil.Eventually(t, func() bool { return bev.Input().Len() == 100 }, "the others wait below")
	testutil.OnLoop(t, base, func() {})
	require.NoError(t, top.Input().Drain(1000))
	testutil.Eventually(t, func() bool { return top.Input().Len() == 100 }, "the others come up")
}

// A filter whose directions are off has bytes waiting for it. When another filter is put on it,
// libevent enables it, and the bytes move.
func TestFilterOnADisabledFilter(t *testing.T) {
	base := testutil.NewBase(t)
	upper, lower, bev, peer := stackOfTwo(t, base)
	require.NoError(t, upper.Enable(rd|wr))
	require.NoError(t, lower.Disable(rd|wr))
	testutil.Background(t, base)
	_, err := upper.WriteString("down")
	require.NoError(t, err)
	require.Equal(t, 4, lower.Output().Len())
	require.NoError(t, bev.Input().Prepend([]byte("up"))) // as if it had been read before
	upper.Free()
	testutil.OnLoop(t, base, func() {})
	another := testutil.NewFilter(t, lower, nil, nil, 0)
	defer another.Free()
	require.NoError(t, another.Enable(rd|wr))
	require.Equal(t, rd|wr, lower.Enabled())
	testutil.Eventually(t, func() bool { return another.Input().Len() == 2 }, "what was read comes up")
	testutil.Eventually(t, func() bool {
		n, _ := syscall.Read(peer, make([]byte, 4))
		return n == 4
	}, "what was written goes down")
}

// Flush moves bytes into the input of a filter whose READ is off. The filter above is told.
func TestFlushTellsTheFilterAbove(t *testing.T) {
	base := testutil.NewBase(t)
	upper, lower, bev, _ := stackOfTwo(t, base)
	read := make(chan string, 10)
	require.NoError(t, upper.SetCallbacks(func(b *libevent.BufferEvent) {
		p := make([]byte, 10)
		n, _ := b.Read(p)
		read <- string(p[:n])
	}, nil, nil))
	require.NoError(t, upper.Enable(rd))
	require.NoError(t, lower.Disable(rd))
	require.NoError(t, bev.Input().Prepend([]byte("x"))) // as if it had been read before
	testutil.Background(t, base)
	_, err := lower.Flush(rd, libevent.FlushSync)
	require.NoError(t, err)
	assert.Equal(t, "x", testutil.Receive(t, read))
}

// Flush moves bytes into the input of the filter itself. Its read closure is called.
func TestFlushTellsTheReadClosure(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewUnixSocket(t, base)
	top := testutil.NewFilter(t, bev, nil, nil, 0)
	defer func() { top.Free(); bev.Free(); _ = syscall.Close(peer) }()
	read := make(chan int, 10)
	require.NoError(t, top.SetCallbacks(func(b *libevent.BufferEvent) { read <- b.Input().Len() }, nil, nil))
	require.NoError(t, bev.Input().Prepend([]byte("x"))) // as if it had been read before
	testutil.Background(t, base)
	_, err := top.Flush(rd, libevent.FlushSync)
	require.NoError(t, err)
	assert.Equal(t, 1, testutil.Receive(t, read))
	_, err = top.Flush(rd, libevent.FlushSync) // nothing more has come
	require.NoError(t, err)
	testutil.OnLoop(t, base, func() {})
	testutil.OnLoop(t, base, func() {})
	assert.Empty(t, read)
}
