// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

// A filter is freed while a callback of it is due, and another filter is put on before libevent
// destroys the first one. The second one hears of what comes from below.
func TestFilterAfterAnotherOneWithACallbackDue(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewUnixSocket(t, base)
	first := testutil.NewFilter(t, bev, nil, nil, 0)
	require.NoError(t, first.Trigger(rd, 0))
	first.Free() // at once, because no loop runs
	second := testutil.NewFilter(t, bev, nil, nil, 0)
	defer func() { second.Free(); bev.Free(); _ = syscall.Close(peer) }()
	require.NoError(t, second.Enable(rd))
	testutil.OnceOnLoop(t, base, func() {}) // now libevent destroys the first one
	testutil.Background(t, base)
	_, err := syscall.Write(peer, []byte("x"))
	require.NoError(t, err)
	testutil.Eventually(t, func() bool { return second.Input().Len() == 1 }, "the byte comes up")
}

// The end of a pair comes while bytes wait below a filter whose READ is off. It is told after them.
func TestFilterTellsTheEndAfterWhatWaitsBelow(t *testing.T) {
	base := testutil.NewBase(t)
	bev, partner := testutil.NewPair(t, base)
	lower := testutil.NewFilter(t, bev, nil, nil, 0)
	upper := testutil.NewFilter(t, lower, nil, nil, 0)
	defer func() { upper.Free(); lower.Free(); bev.Free(); partner.Free() }()
	var read int
	ended := make(chan int, 10)
	require.NoError(t, upper.SetCallbacks(func(b *libevent.BufferEvent) {
		read += b.Input().Len()
		_ = b.Input().Drain(b.Input().Len())
	}, nil, func(_ *libevent.BufferEvent, what libevent.Events) {
		if what&libevent.EventEOF != 0 {
			ended <- read
		}
	}))
	require.NoError(t, partner.Enable(wr))
	require.NoError(t, upper.Enable(rd))
	require.NoError(t, lower.Disable(rd))
	testutil.Background(t, base)
	_, err := partner.Write(make([]byte, 50000))
	require.NoError(t, err)
	_, err = partner.Flush(wr, libevent.FlushFinished)
	require.NoError(t, err)
	for range 5 {
		testutil.OnLoop(t, base, func() {})
	}
	require.NoError(t, lower.Enable(rd))
	assert.Equal(t, 50000, testutil.Receive(t, ended))
}

// The end of a pair is on its way up through two filters when the upper one is freed, and the lower
// one some turns later. The lower one tells the end, or the bufferevent below it.
func TestEndOnItsWayIsNotLostWithItsFilters(t *testing.T) {
	for turns := range 8 {
		base := testutil.NewBase(t)
		bev, partner := testutil.NewPair(t, base)
		ended := make(chan struct{}, 10)
		tell := func(_ *libevent.BufferEvent, what libevent.Events) {
			if what&libevent.EventEOF != 0 {
				ended <- struct{}{}
			}
		}
		require.NoError(t, bev.SetCallbacks(nil, nil, tell))
		lower := testutil.NewFilter(t, bev, nil, nil, 0)
		require.NoError(t, lower.SetCallbacks(nil, nil, tell))
		upper := testutil.NewFilter(t, lower, nil, nil, 0)
		testutil.Background(t, base)
		var freeLower func(turns int)
		freeLower = func(turns int) {
			if turns == 0 {
				lower.Free()
				return
			}
			assert.NoError(t, base.Post(func() { freeLower(turns - 1) }))
		}
		testutil.OnLoop(t, base, func() {
			assert.NoError(t, partner.CloseWrite())
			upper.Free()
			freeLower(turns)
		})
		testutil.Receive(t, ended)
		bev.Free()
		partner.Free()
	}
}

// The connection is open, but the filter on it has not told that when it is freed. The bufferevent
// below tells it.
func TestConnectedIsNotLostWithAFilter(t *testing.T) {
	base := testutil.NewBase(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	defer bev.Free()
	connected := make(chan string, 10)
	say := func(name string) func(*libevent.BufferEvent, libevent.Events) {
		return func(_ *libevent.BufferEvent, what libevent.Events) {
			if what&libevent.EventConnected != 0 {
				connected <- name
			}
		}
	}
	require.NoError(t, bev.SetCallbacks(nil, nil, say("the socket")))
	top := testutil.NewFilter(t, bev, nil, nil, 0)
	require.NoError(t, top.SetCallbacks(nil, nil, say("the filter")))
	testutil.Background(t, base)
	testutil.OnLoop(t, base, func() {
		assert.NoError(t, bev.Connect("tcp", ln.Addr().String()))
		// In the next turn the socket finds that it is connected, and then this runs.
		assert.NoError(t, base.Post(top.Free))
	})
	peer, err := ln.Accept()
	require.NoError(t, err)
	defer peer.Close()
	assert.NotEmpty(t, testutil.Receive(t, connected))
	require.NoError(t, bev.CloseWrite())
	_, err = io.ReadAll(peer)
	require.NoError(t, err)
}

// CloseWrite of a filter on a pair whose other end is at its high mark: the other end is told of the
// end after the last bytes, and the filter function is told that the flush is the last one.
func TestCloseWriteOfAFilterOnAPairWithAHighMark(t *testing.T) {
	base := testutil.NewBase(t)
	one, two := testutil.NewPair(t, base)
	var modes []libevent.FlushMode
	top := testutil.NewFilter(t, one, nil, func(src, dst *libevent.Buffer, _ int, mode libevent.FlushMode) (libevent.FilterResult, error) {
		modes = append(modes, mode)
		return libevent.FilterOK, dst.AddBuffer(src)
	}, 0)
	defer func() { top.Free(); one.Free(); two.Free() }()
	var read int
	ended := make(chan int, 10)
	require.NoError(t, two.SetCallbacks(func(b *libevent.BufferEvent) {
		read += b.Input().Len()
		_ = b.Input().Drain(b.Input().Len())
	}, nil, func(_ *libevent.BufferEvent, what libevent.Events) {
		if what&libevent.EventEOF != 0 {
			ended <- read
		}
	}))
	require.NoError(t, two.SetWatermark(rd, 0, 600))
	require.NoError(t, top.Enable(wr))
	testutil.Background(t, base)
	testutil.OnLoop(t, base, func() {
		_, err := top.Write(make([]byte, 50000))
		assert.NoError(t, err)
		assert.NoError(t, top.CloseWrite())
		assert.Equal(t, libevent.FlushFinished, modes[len(modes)-1])
	})
	testutil.OnLoop(t, base, func() {})
	require.NoError(t, two.Enable(rd))
	assert.Equal(t, 50000, testutil.Receive(t, ended))
}

// The end of a pair is told again and again while a filter is being made. The filter tells of it
// when it is complete.
func TestFilterHearsOfAnEndWhileItIsMade(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	stale := libevent.StaleCallbacks()
	for range 1000 {
		bev, partner := testutil.NewPair(t, base)
		var made atomic.Bool
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for !made.Load() {
				_, _ = partner.Flush(wr, libevent.FlushFinished)
			}
			_, _ = partner.Flush(wr, libevent.FlushFinished)
		}()
		top := testutil.NewFilter(t, bev, nil, nil, 0)
		made.Store(true)
		testutil.Receive(t, ended)
		testutil.Eventually(t, func() bool { return top.Err() == io.EOF }, "the end is told")
		top.Free()
		bev.Free()
		partner.Free()
	}
	assert.Equal(t, stale, libevent.StaleCallbacks(), "callbacks that came before the filter was complete")
}

// A timeout below a filter turns reading off there, and the filter's event closure turns it on.
func TestTimeoutBelowAFilter(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewUnixSocket(t, base)
	require.NoError(t, bev.SetTimeouts(time.Millisecond, 0))
	top := testutil.NewFilter(t, bev, nil, nil, libevent.OptCloseOnFree)
	timeouts := 0
	require.NoError(t, top.SetCallbacks(func(top *libevent.BufferEvent) {
		assert.Equal(t, 5, top.Input().Len())
		assert.NoError(t, base.LoopBreak())
	}, nil, func(_ *libevent.BufferEvent, what libevent.Events) {
		if assert.Equal(t, libevent.EventTimeout|libevent.EventReading, what); timeouts == 0 {
			_, err := syscall.Write(peer, []byte("hello"))
			assert.NoError(t, err)
		}
		timeouts++
		assert.Zero(t, bev.Enabled()&rd)
		assert.NoError(t, bev.Enable(rd))
	}))
	require.NoError(t, top.Enable(rd))
	testutil.Dispatch(t, base)
	assert.NotZero(t, timeouts)
}

// The buffers below a filter are its own, and whoever wants to look into them is told so.
func TestBuffersBelowAFilter(t *testing.T) {
	base := testutil.NewBase(t)
	below, peer := testutil.NewSocket(t, base, 0)
	above := testutil.NewFilter(t, below, nil, nil, 0)
	defer above.Free()
	_, err := peer.Write([]byte("x"))
	require.NoError(t, err)
	for name, err := range map[string]error{
		"Peek":    below.Input().Peek(func([][]byte) {}),
		"Pullup":  below.Input().Pullup(1, func([]byte) {}),
		"Reserve": below.Output().Reserve(1, func([][]byte) int { return 0 }),
	} {
		assert.ErrorContains(t, err, "a filter is on top", name)
	}
}
