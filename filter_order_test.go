// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// inSteps is a filter function that passes bytes on, and appends them in two steps.
func inSteps(src, dst *libevent.Buffer, limit int, _ libevent.FlushMode) (libevent.FilterResult, error) {
	n := src.Len()
	if limit >= 0 {
		n = min(n, limit)
	}
	if n == 0 {
		return libevent.FilterNeedMore, nil
	}
	p := make([]byte, n)
	if _, err := src.Remove(p); err != nil {
		return libevent.FilterError, err
	}
	if err := dst.Add(p[:n/2]); err != nil {
		return libevent.FilterError, err
	}
	if err := dst.Add(p[n/2:]); err != nil {
		return libevent.FilterError, err
	}
	return libevent.FilterOK, nil
}

// inOneThread calls test with two filters, without functions and with them, on a socket whose kernel buffers are small.
// All have OptLoopOnly, with which libevent calls back in the middle of its own work. Below the top each has a mark for each
// direction.
func inOneThread(t *testing.T, test func(t *testing.T, random *rand.Rand, top *libevent.BufferEvent, peer *os.File)) {
	for name, fn := range map[string]libevent.FilterFunc{"no functions": nil, "functions": inSteps} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(10) {
				random := rand.New(rand.NewPCG(seed, 0))
				base := testutil.NewBase(t)
				fd, peer := testutil.Socketpair(t)
				require.NoError(t, syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 8<<10))
				const opts = libevent.OptCloseOnFree | libevent.OptLoopOnly
				top, err := base.NewSocket(fd, opts)
				require.NoError(t, err)
				for range 2 {
					require.NoError(t, top.SetWatermark(wr, 0, 1+random.IntN(100_000)))
					require.NoError(t, top.SetWatermark(rd, 0, 1+random.IntN([]int{10, 1000, 70_000}[random.IntN(3)])))
					top = testutil.NewFilter(t, top, fn, fn, opts)
				}
				file := os.NewFile(uintptr(peer), "peer")
				test(t, random, top, file)
				require.NoError(t, file.Close())
			}
		})
	}
}

// All bytes are passed on in order, also if the bufferevents below are full in between.
func TestFiltersWriteInOneThread(t *testing.T) {
	inOneThread(t, func(t *testing.T, random *rand.Rand, top *libevent.BufferEvent, peer *os.File) {
		want := testutil.Noise(400_000)
		rest := want
		var step func()
		step = func() {
			n := 1 + random.IntN(300)
			if random.IntN(4) == 0 {
				n = 1 + random.IntN(200_000)
			}
			n = min(n, len(rest))
			_, err := top.Write(rest[:n])
			assert.NoError(t, err)
			if rest = rest[n:]; len(rest) > 0 {
				err = top.Base().Post(step)
			} else {
				err = top.FreeAfterFlush(testutil.Patience)
			}
			assert.NoError(t, err)
		}
		require.NoError(t, top.Base().Post(step))
		got := make(chan []byte, 1)
		go func() {
			all, _ := io.ReadAll(peer)
			got <- all
		}()
		testutil.Dispatch(t, top.Base())
		testutil.Same(t, want, testutil.Receive(t, got))
	})
}

// What the program reads is in order, and the end comes last.
func TestFiltersReadInOneThread(t *testing.T) {
	inOneThread(t, func(t *testing.T, random *rand.Rand, top *libevent.BufferEvent, peer *os.File) {
		want := testutil.Noise(100_000)
		var got []byte
		take := func(n int) {
			p := make([]byte, n)
			n, _ = top.Input().Remove(p)
			got = append(got, p[:n]...)
		}
		require.NoError(t, top.SetCallbacks(func(b *libevent.BufferEvent) {
			take(1 + random.IntN(1+b.Input().Len()))
			if random.IntN(2) == 0 {
				assert.NoError(t, b.Disable(rd))
				assert.NoError(t, b.Base().Post(func() { assert.NoError(t, b.Enable(rd)) }))
			}
		}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			assert.Equal(t, libevent.EventReading|libevent.EventEOF, what)
			take(b.Input().Len())
			b.Free()
		}))
		require.NoError(t, top.Enable(rd))
		written := make(chan struct{})
		go func() {
			defer close(written)
			for rest := want; len(rest) > 0; {
				n := min(1+len(rest)/3, len(rest))
				_, err := peer.Write(rest[:n])
				assert.NoError(t, err)
				rest = rest[n:]
			}
			assert.NoError(t, syscall.Shutdown(int(peer.Fd()), syscall.SHUT_WR))
		}()
		testutil.Dispatch(t, top.Base())
		testutil.Receive(t, written)
		testutil.Same(t, want, got)
	})
}

// The other end of a pair brings everything at once, and a filter passes on no more than its high mark in one call. The end
// comes after all bytes.
func TestFiltersTellTheEndOfAPairInOneThread(t *testing.T) {
	const opts = libevent.OptCloseOnFree | libevent.OptLoopOnly
	base := testutil.NewBase(t)
	other, top, err := base.NewPair(opts)
	require.NoError(t, err)
	for range 2 {
		top = testutil.NewFilter(t, top, nil, nil, opts)
		require.NoError(t, top.SetWatermark(rd, 0, 20_000))
	}
	const n = 700_000
	got, ended := 0, 0
	require.NoError(t, top.SetCallbacks(func(b *libevent.BufferEvent) {
		got += b.Input().Len()
		assert.NoError(t, b.Input().Drain(b.Input().Len()))
	}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
		assert.Equal(t, libevent.EventReading|libevent.EventEOF, what)
		assert.Equal(t, n, got)
		ended++
		b.Free()
	}))
	require.NoError(t, top.Enable(rd))
	_, err = other.Write(make([]byte, n))
	require.NoError(t, err)
	require.NoError(t, other.FreeAfterFlush(testutil.Patience))
	testutil.Dispatch(t, base)
	assert.Equal(t, 1, ended)
}

// An end of a buffer is frozen, and a filter has more to pass on than the mark allows. The loop goes on, and the bytes follow
// when the end is not frozen any more.
func TestFilterMeetsAFrozenEnd(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewUnixSocket(t, base)
	top := testutil.NewFilter(t, bev, nil, nil, libevent.OptCloseOnFree)
	defer func() { top.Free(); _ = syscall.Close(peer) }()
	require.NoError(t, top.SetWatermark(rd, 0, 1000))
	require.NoError(t, bev.SetWatermark(wr, 0, 1000))
	require.NoError(t, top.Enable(rd))
	require.NoError(t, bev.Input().Freeze(true))
	require.NoError(t, top.Output().Freeze(true))
	testutil.Background(t, base)
	_, err := top.Write(make([]byte, 5000))
	require.NoError(t, err)
	_, err = syscall.Write(peer, make([]byte, 5000))
	require.NoError(t, err)
	testutil.Eventually(t, func() bool { return bev.Input().Len() > 0 }, "it has come")
	testutil.OnLoop(t, base, func() {})
	assert.Equal(t, 0, top.Input().Len())
	assert.Equal(t, 5000, top.Output().Len())
	require.NoError(t, bev.Input().Unfreeze(true))
	require.NoError(t, top.Output().Unfreeze(true))
	require.NoError(t, top.Enable(rd|wr))
	testutil.Eventually(t, func() bool { return top.Input().Len() == 1000 }, "the filter is full")
	got := 0
	for got < 5000 {
		n, err := syscall.Read(peer, make([]byte, 5000))
		require.NoError(t, err)
		got += n
	}
	assert.Equal(t, 5000, got)
}

// A filter function below fails while bytes wait for a filter that does not read. The error is told after them.
func TestFilterTellsAnErrorAfterWhatWaitsBelow(t *testing.T) {
	failed := errors.New("not valid")
	base := testutil.NewBase(t)
	bev, peer := testutil.NewUnixSocket(t, base)
	lower := testutil.NewFilter(t, bev, func(src, dst *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
		assert.NoError(t, dst.AddBuffer(src))
		return libevent.FilterError, failed
	}, nil, libevent.OptCloseOnFree)
	top := testutil.NewFilter(t, lower, nil, nil, libevent.OptCloseOnFree)
	defer func() { top.Free(); _ = syscall.Close(peer) }()
	events := make(chan error, 10)
	require.NoError(t, top.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
		assert.Equal(t, libevent.EventReading|libevent.EventError, what)
		assert.Equal(t, 6, b.Input().Len())
		events <- b.Err()
	}))
	require.NoError(t, bev.Input().Prepend([]byte("before"))) // as if it had been read before
	testutil.Background(t, base)
	_, err := lower.Flush(rd, libevent.FlushSync)
	require.NoError(t, err)
	for range 5 {
		testutil.OnLoop(t, base, func() {})
	}
	assert.Empty(t, events)
	require.NoError(t, top.Enable(rd))
	assert.ErrorIs(t, testutil.Receive(t, events), failed)
}
