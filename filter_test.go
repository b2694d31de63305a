// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestNewFilterArguments(t *testing.T) {
	base := testutil.NewBase(t)
	_, err := libevent.NewFilter(nil, nil, nil, 0)
	assert.ErrorIs(t, err, syscall.EINVAL)
	bev, _ := testutil.NewSocket(t, base, 0)
	_, err = libevent.NewFilter(bev, nil, nil, 1<<20)
	assert.ErrorIs(t, err, syscall.EINVAL)
	loopOnly, _ := testutil.NewSocket(t, base, libevent.OptLoopOnly)
	_, err = libevent.NewFilter(loopOnly, nil, nil, 0)
	assert.ErrorIs(t, err, syscall.EINVAL)

	f := testutil.NewFilter(t, bev, nil, nil, 0)
	assert.Same(t, bev, f.Underlying())
	assert.Nil(t, bev.Underlying())
	assert.Equal(t, bev.FD(), f.FD())
	assert.Equal(t, bev.RemoteAddr(), f.RemoteAddr())
	_, err = libevent.NewFilter(bev, nil, nil, 0)
	assert.ErrorIs(t, err, syscall.EINVAL, "one filter at a time")
	assert.ErrorIs(t, bev.SetCallbacks(nil, nil, nil), syscall.EINVAL)
	assert.ErrorIs(t, bev.CloseWrite(), syscall.EINVAL)
	assert.ErrorIs(t, bev.Input().Peek(func([][]byte) {}), syscall.EINVAL)
	assert.ErrorIs(t, f.SetFD(-1), syscall.EINVAL)
	assert.ErrorIs(t, f.Connect("tcp", "127.0.0.1:1"), syscall.EINVAL)
	assert.ErrorIs(t, f.SetRateLimit(&libevent.RateLimit{ReadRate: 1}), syscall.EINVAL)
	f.Free()
	_, err = libevent.NewFilter(f, nil, nil, 0)
	assert.ErrorIs(t, err, libevent.ErrClosed)
	freed, _ := testutil.NewSocket(t, base, 0)
	freed.Free()
	_, err = libevent.NewFilter(freed, nil, nil, 0)
	assert.ErrorIs(t, err, libevent.ErrClosed)
}

// Two ends with filters that undo each other, over sockets and pairs, one filter or a
// stack of them.
func TestFilterRoundTrip(t *testing.T) {
	for _, c := range []struct {
		name    string
		in, out libevent.FilterFunc
		layers  int
	}{{"pass", nil, nil, 1}, {"double", testutil.Halve, testutil.Double, 1}, {"double twice", testutil.Halve, testutil.Double, 2}} {
		t.Run(c.name, func(t *testing.T) {
			base := testutil.NewBase(t)
			a, b := testutil.NewPair(t, base)
			socket, peer := testutil.NewSocket(t, base, 0)
			peerBev, err := base.NewSocket(testutil.ConnFD(t, peer), libevent.OptCloseOnFree)
			require.NoError(t, err)
			for _, ends := range [][2]*libevent.BufferEvent{{a, b}, {socket, peerBev}} {
				from, to := ends[0], ends[1]
				for range c.layers {
					from = testutil.NewFilter(t, from, c.in, c.out, libevent.OptCloseOnFree)
					to = testutil.NewFilter(t, to, c.in, c.out, libevent.OptCloseOnFree)
				}
				data := testutil.Noise(300_000)
				var got []byte
				require.NoError(t, to.SetCallbacks(func(b *libevent.BufferEvent) {
					p, err := io.ReadAll(b.Input())
					assert.NoError(t, err)
					got = append(got, p...)
				}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
					assert.Equal(t, libevent.EventReading|libevent.EventEOF, what)
					b.Free()
				}))
				require.NoError(t, to.Enable(rd))
				for p := data; len(p) > 0; {
					n, err := from.Write(p[:min(len(p), 12_345)])
					require.NoError(t, err)
					p = p[n:]
				}
				require.NoError(t, from.FreeAfterFlush(testutil.Patience))
				testutil.Dispatch(t, base)
				testutil.Same(t, data, got)
			}
			assert.Zero(t, base.Stats().BufferEvents)
		})
	}
}

// Without OptCloseOnFree the bufferevent below stays, and goes on without the filter.
func TestFilterComesOff(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	var got []string
	require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		got = append(got, "below: "+testutil.Content(t, b.Input()))
		_ = b.Input().Drain(b.Input().Len())
	}, nil, func(b *libevent.BufferEvent, _ libevent.Events) { b.Free() }))
	f := testutil.NewFilter(t, bev, testutil.Halve, nil, 0)
	require.NoError(t, f.SetCallbacks(func(f *libevent.BufferEvent) {
		got = append(got, "filter: "+testutil.Content(t, f.Input()))
		f.Free()
		_, err := peer.Write([]byte("plain"))
		assert.NoError(t, err)
		assert.NoError(t, peer.CloseWrite())
	}, nil, nil))
	require.NoError(t, f.Enable(rd))
	_, err := peer.Write([]byte("hheelllloo"))
	require.NoError(t, err)
	testutil.Dispatch(t, base)
	assert.Equal(t, []string{"filter: hello", "below: plain"}, got)
}

// Bytes that were buffered before the filter was made, or while it was disabled, get
// through.
func TestFilterFindsWhatWaits(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	require.NoError(t, b.Enable(rd))
	_, err := a.WriteString("aabb")
	require.NoError(t, err)
	f := testutil.NewFilter(t, b, testutil.Halve, testutil.Double, 0)
	testutil.Dispatch(t, base)
	assert.Zero(t, f.Input().Len(), "reading is off")
	require.NoError(t, f.Enable(rd))
	testutil.Dispatch(t, base)
	assert.Equal(t, "ab", testutil.Content(t, f.Input()))

	require.NoError(t, a.Enable(rd))
	require.NoError(t, f.Disable(wr))
	_, err = f.WriteString("xy")
	require.NoError(t, err)
	testutil.Dispatch(t, base)
	assert.Zero(t, a.Input().Len(), "writing is off")
	require.NoError(t, f.Enable(wr))
	testutil.Dispatch(t, base)
	assert.Equal(t, "xxyy", testutil.Content(t, a.Input()))
}

// At the high watermark of a filter the loop sleeps, and no bytes stay below the filter
// for ever.
func TestFilterHighWatermark(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	f := testutil.NewFilter(t, bev, testutil.Halve, nil, libevent.OptCloseOnFree)
	const high, total = 500, 5000
	calls := 0
	require.NoError(t, f.SetWatermark(rd, 0, high))
	require.NoError(t, f.SetCallbacks(func(f *libevent.BufferEvent) {
		calls++
		assert.LessOrEqual(t, f.Input().Len(), high)
	}, nil, nil))
	require.NoError(t, f.Enable(rd))
	data := bytes.Repeat([]byte("xx"), total)
	_, err := peer.Write(data)
	require.NoError(t, err)
	testutil.Idle(t, base, 20*time.Millisecond)
	for got := 0; got < total; got += high {
		require.Equal(t, high, f.Input().Len())
		calls = 0
		testutil.Idle(t, base, 20*time.Millisecond)
		require.Zero(t, calls)
		require.NoError(t, f.Input().Drain(high))
		testutil.Idle(t, base, 20*time.Millisecond)
	}
	assert.Zero(t, f.Input().Len())
}

func TestFilterErrors(t *testing.T) {
	t.Run("reading", func(t *testing.T) {
		base := testutil.NewBase(t)
		bev, peer := testutil.NewSocket(t, base, 0)
		f := testutil.NewFilter(t, bev, testutil.Halve, nil, libevent.OptCloseOnFree)
		require.NoError(t, f.Enable(rd))
		_, err := peer.Write([]byte("xy"))
		require.NoError(t, err)
		assert.Equal(t, libevent.EventReading|libevent.EventError, testutil.Happening(t, f))
		assert.ErrorContains(t, f.Err(), "not doubled")
	})
	t.Run("writing", func(t *testing.T) {
		base := testutil.NewBase(t)
		bev, _ := testutil.NewSocket(t, base, 0)
		f := testutil.NewFilter(t, bev, nil, func(_, _ *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
			return libevent.FilterError, nil
		}, libevent.OptCloseOnFree)
		_, err := f.WriteString("x")
		require.NoError(t, err)
		assert.Equal(t, libevent.EventWriting|libevent.EventError, testutil.Happening(t, f))
		assert.Error(t, f.Err())
	})
	t.Run("of the socket", func(t *testing.T) {
		base := testutil.NewBase(t)
		bev, peer := testutil.NewSocket(t, base, 0)
		f := testutil.NewFilter(t, bev, testutil.Halve, testutil.Double, libevent.OptCloseOnFree)
		require.NoError(t, f.Enable(rd))
		require.NoError(t, peer.SetLinger(0))
		require.NoError(t, peer.Close())
		assert.Equal(t, libevent.EventReading|libevent.EventError, testutil.Happening(t, f))
		assert.ErrorIs(t, f.Err(), syscall.ECONNRESET)
	})
	t.Run("a function that does nothing", func(t *testing.T) {
		base := testutil.NewBase(t)
		a, b := testutil.NewPair(t, base)
		f := testutil.NewFilter(t, b, func(_, _ *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
			return libevent.FilterOK, nil // libevent would call again for ever
		}, nil, 0)
		require.NoError(t, f.Enable(rd))
		_, err := a.WriteString("x")
		require.NoError(t, err)
		testutil.Dispatch(t, base)
	})
	t.Run("a result that is none", func(t *testing.T) {
		base := testutil.NewBase(t)
		a, b := testutil.NewPair(t, base)
		f := testutil.NewFilter(t, b, func(_, _ *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
			return 17, nil
		}, nil, 0)
		require.NoError(t, f.Enable(rd))
		_, err := a.WriteString("x")
		require.NoError(t, err)
		assert.Equal(t, libevent.EventReading|libevent.EventError, testutil.Happening(t, f))
	})
}

func TestPanicInFilter(t *testing.T) {
	boom := func(_, _ *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
		testutil.Explode()
		return libevent.FilterOK, nil
	}
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	f := testutil.NewFilter(t, b, boom, boom, 0)
	check := func(v any) {
		var p *libevent.PanicError
		require.ErrorAs(t, testutil.AsError(v), &p)
		assert.ErrorIs(t, p, testutil.ErrBoom)
		assert.Contains(t, string(p.Stack), "Explode")
	}
	// The panic comes out of the Go method that made libevent call the function...
	check(testutil.Raises(func() { _, _ = f.WriteString("x") }))
	check(testutil.Raises(func() { _ = f.Output().Add([]byte("x")) }))
	check(testutil.Raises(func() { _, _ = testutil.NewBuffer(t, "x").RemoveBuffer(f.Output(), 1) }))
	check(testutil.Raises(func() { _, _ = f.Flush(wr, libevent.FlushSync) }))
	// ...also through a closure...
	require.NoError(t, base.Post(func() { _, _ = f.WriteString("x") }))
	check(testutil.Raises(func() { _ = base.Dispatch() }))
	// ...or out of the loop.
	require.NoError(t, f.Enable(rd))
	_, err := a.WriteString("x")
	require.NoError(t, err)
	check(testutil.Raises(func() { _ = base.Dispatch() }))
	require.NoError(t, f.Disable(rd))
	testutil.Dispatch(t, base)
	f.Free()
}

// CloseWrite of a filter sends the last bytes of the filter function, and then the end.
func TestFilterCloseWrite(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	trailer := func(src, dst *libevent.Buffer, limit int, mode libevent.FlushMode) (libevent.FilterResult, error) {
		res, err := testutil.Double(src, dst, limit, mode)
		if mode == libevent.FlushFinished && src.Len() == 0 {
			return libevent.FilterNeedMore, dst.Add([]byte("the end"))
		}
		return res, err
	}
	f := testutil.NewFilter(t, bev, nil, trailer, libevent.OptCloseOnFree)
	_, err := f.WriteString("abc")
	require.NoError(t, err)
	require.NoError(t, f.CloseWrite())
	_, err = f.WriteString("too late")
	assert.ErrorIs(t, err, syscall.EPIPE)
	require.NoError(t, f.SetCallbacks(func(f *libevent.BufferEvent) {
		assert.Equal(t, "answer", testutil.Content(t, f.Input()))
		f.Free()
	}, nil, nil))
	require.NoError(t, f.Enable(rd))
	got := make(chan []byte, 1)
	go func() {
		p, _ := io.ReadAll(peer)
		_, _ = peer.Write([]byte("answer"))
		got <- p
	}()
	testutil.Dispatch(t, base)
	assert.Equal(t, "aabbccthe end", string(testutil.Receive(t, got)))
}

func TestFilterFromManyGoroutines(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	for range 30 {
		bev, peer := testutil.NewSocket(t, base, 0)
		f := testutil.NewFilter(t, bev, testutil.Halve, testutil.Double, libevent.OptCloseOnFree)
		require.NoError(t, f.SetCallbacks(func(f *libevent.BufferEvent) {
			_ = f.WriteBuffer(f.Input())
		}, nil, nil))
		require.NoError(t, f.Enable(rd))
		got := testutil.ReadAll(peer)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 100 {
					_, err := f.WriteString("0123456789")
					assert.NoError(t, err)
				}
			})
		}
		wg.Wait()
		wg.Go(func() { _, _ = f.WriteString("") })
		require.NoError(t, f.FreeAfterFlush(testutil.Patience))
		wg.Wait()
		p := testutil.Receive(t, got)
		require.Equal(t, bytes.Repeat([]byte("00112233445566778899"), 400), p)
	}
	testutil.Eventually(t, func() bool { return base.Stats().BufferEvents == 0 }, "all are gone")
}

// Compressed bytes are fewer on the wire, and complete when they are decompressed.
func TestFilterCompression(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	f := testutil.NewFilter(t, bev, nil, compress(), libevent.OptCloseOnFree)
	text := bytes.Repeat([]byte("the same words over and over again. "), 20_000)
	onWire := make(chan []byte, 1)
	plain := make(chan []byte, 1)
	go func() {
		var wire bytes.Buffer
		p, err := io.ReadAll(flate.NewReader(io.TeeReader(peer, &wire)))
		assert.NoError(t, err)
		plain <- p
		onWire <- wire.Bytes()
	}()
	for p := text; len(p) > 0; p = p[min(len(p), 10_000):] {
		_, err := f.Write(p[:min(len(p), 10_000)])
		require.NoError(t, err)
	}
	require.NoError(t, f.FreeAfterFlush(testutil.Patience))
	testutil.Dispatch(t, base)
	testutil.Same(t, text, testutil.Receive(t, plain))
	assert.Less(t, len(testutil.Receive(t, onWire)), len(text)/20)
}

// A socket below a filter has reached its high mark, and the filter takes nothing. The
// loop sleeps, and reading goes on when there is room.
func TestFilterOnSocketAtHighMark(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		testutil.UseEitherWay(t, base)
		bev, peer := testutil.NewUnixSocket(t, base)
		defer syscall.Close(peer)
		calls, want := 0, 200
		top, err := libevent.NewFilter(bev, func(src, dst *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
			if calls++; src.Len() < want {
				return libevent.FilterNeedMore, nil
			}
			return libevent.FilterOK, dst.AddBuffer(src)
		}, nil, 0)
		require.NoError(t, err)
		defer top.Free()
		require.NoError(t, bev.SetWatermark(rd, 0, 100))
		require.NoError(t, top.Enable(rd))
		_, err = syscall.Write(peer, make([]byte, want))
		require.NoError(t, err)
		for range 20 {
			require.NoError(t, base.Loop(libevent.LoopNonblock))
		}
		assert.Equal(t, 100, bev.Input().Len())
		assert.LessOrEqual(t, calls, 2)
		assert.Equal(t, rd|wr, bev.Enabled())

		require.NoError(t, bev.SetWatermark(rd, 0, 2*want))
		for top.Input().Len() < want {
			require.NoError(t, base.Loop(libevent.LoopOnce))
		}
		assert.Zero(t, bev.Input().Len())
		_, err = syscall.Write(peer, make([]byte, want))
		require.NoError(t, err)
		for top.Input().Len() < 2*want {
			require.NoError(t, base.Loop(libevent.LoopOnce))
		}
	})
}

// A filter on a pair is told once that the other end has ended, in whichever way it ends.
func TestFilterHearsOfThePartnersEnd(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *libevent.BufferEvent) error{
		"Free":           func(_ *testing.T, b *libevent.BufferEvent) error { b.Free(); return nil },
		"FreeAfterFlush": func(_ *testing.T, b *libevent.BufferEvent) error { return b.FreeAfterFlush(testutil.Patience) },
		"CloseWrite, Free": func(t *testing.T, b *libevent.BufferEvent) error {
			err := b.CloseWrite()
			testutil.Dispatch(t, b.Base())
			b.Free()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := testutil.NewBase(t)
			a, b := testutil.NewPair(t, base)
			f := testutil.NewFilter(t, a, nil, nil, libevent.OptCloseOnFree)
			var events []libevent.Events
			require.NoError(t, f.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, what libevent.Events) { events = append(events, what) }))
			require.NoError(t, f.Enable(rd))
			require.NoError(t, end(t, b))
			testutil.Dispatch(t, base)
			assert.Equal(t, []libevent.Events{libevent.EventReading | libevent.EventEOF}, events)
		})
	}
}

// A filter on one side compresses and a filter on the other side decompresses, as in
// libevent's own test bufferevent_zlib.
func TestFilterCompressesAndDecompresses(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	var wire bytes.Buffer
	text := bytes.Repeat([]byte("Lo, and behold. "), 5000)
	fa := testutil.NewFilter(t, a, nil, compress(), libevent.OptCloseOnFree)
	fb := testutil.NewFilter(t, b, func(src, dst *libevent.Buffer, _ int, mode libevent.FlushMode) (libevent.FilterResult, error) {
		// Package flate wants a whole stream, so the filter holds the bytes until the end
		// has come.
		if _, err := src.WriteTo(&wire); err != nil {
			return libevent.FilterError, err
		}
		if mode != libevent.FlushFinished {
			return libevent.FilterNeedMore, nil
		}
		plain, err := io.ReadAll(flate.NewReader(&wire))
		if err != nil {
			return libevent.FilterError, err
		}
		return libevent.FilterOK, dst.Add(plain)
	}, nil, libevent.OptCloseOnFree)
	got := testutil.NewBuffer(t, "")
	require.NoError(t, fb.SetCallbacks(func(f *libevent.BufferEvent) {
		assert.NoError(t, f.ReadBuffer(got))
	}, nil, func(f *libevent.BufferEvent, what libevent.Events) {
		assert.Equal(t, libevent.EventReading|libevent.EventEOF, what)
		f.Free()
	}))
	require.NoError(t, fb.Enable(rd))
	_, err := fa.Write(text)
	require.NoError(t, err)
	require.NoError(t, fa.FreeAfterFlush(testutil.Patience))
	testutil.Dispatch(t, base)
	testutil.Same(t, text, []byte(testutil.Content(t, got)))
}

// While evbuffer_remove_buffer adds bytes to the input of a filter, the callback of that input
// may have the function called again: it does so once after the input was at its high mark.
func TestFilterFunctionRemovesFromWhatIsBeingMoved(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	move := func(src, dst *libevent.Buffer, limit int, _ libevent.FlushMode) (libevent.FilterResult, error) {
		n := 300
		if limit >= 0 {
			n = min(n, limit)
		}
		if n, err := src.RemoveBuffer(dst, n); n == 0 {
			return libevent.FilterNeedMore, err
		}
		return libevent.FilterOK, nil
	}
	f := testutil.NewFilter(t, bev, move, nil, libevent.OptCloseOnFree)
	require.NoError(t, f.SetWatermark(rd, 0, 100))
	require.NoError(t, f.Enable(rd))
	testutil.Background(t, base)
	text := bytes.Repeat([]byte("0123456789"), 1000)
	_, err := peer.Write(text[:2000])
	require.NoError(t, err)
	testutil.Eventually(t, func() bool { return f.Input().Len() >= 100 && bev.Input().Len() > 0 }, "the input is full")
	require.NoError(t, f.SetWatermark(rd, 0, 0))
	_, err = peer.Write(text[2000:])
	require.NoError(t, err)
	testutil.Eventually(t, func() bool { return f.Input().Len() == len(text) }, "all has come")
	p := make([]byte, len(text))
	_, err = f.Read(p)
	require.NoError(t, err)
	require.Equal(t, text, p)
}

// The functions of a filter cannot use a buffer while a Peek shows it. What would have called
// them waits until the Peek is over.
func TestFilterWaitsForTheEndOfALoan(t *testing.T) {
	for name, end := range map[string]func(f *libevent.BufferEvent) error{
		"CloseWrite":     (*libevent.BufferEvent).CloseWrite,
		"FreeAfterFlush": func(f *libevent.BufferEvent) error { return f.FreeAfterFlush(testutil.Patience) },
	} {
		for _, elsewhere := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s elsewhere %v", name, elsewhere), func(t *testing.T) {
				base := testutil.NewBase(t)
				under, peer := testutil.NewSocket(t, base, 0)
				ended := false
				f := testutil.NewFilter(t, under, nil, func(src, dst *libevent.Buffer, limit int, mode libevent.FlushMode) (libevent.FilterResult, error) {
					result, err := testutil.Double(src, dst, limit, mode)
					if mode == libevent.FlushFinished && !ended && result == libevent.FilterNeedMore {
						ended = true
						err = dst.Add([]byte("end"))
					}
					return result, err
				}, libevent.OptCloseOnFree)
				require.NoError(t, f.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, what libevent.Events) {
					assert.Fail(t, "an event", "%v", what)
				}))
				got := testutil.ReadAll(peer)
				testutil.OnceOnLoop(t, base, func() {
					assert.NoError(t, f.Disable(wr))
					_, err := f.WriteString("held")
					assert.NoError(t, err)
					assert.NoError(t, f.Output().Peek(func([][]byte) {
						if elsewhere {
							done := make(chan error, 1)
							go func() { done <- end(f) }()
							assert.NoError(t, <-done)
						} else {
							assert.NoError(t, end(f))
						}
						assert.False(t, ended)
					}))
					if name == "CloseWrite" {
						assert.NoError(t, f.Enable(wr))
					}
				})
				require.NoError(t, base.LoopExit(testutil.Patience))
				go func() {
					assert.Equal(t, "hheellddend", string(testutil.Receive(t, got)))
					// All may have been sent before Dispatch runs the loop, which would forget a LoopBreak.
					assert.NoError(t, base.Post(func() { assert.NoError(t, base.LoopBreak()) }))
				}()
				testutil.Dispatch(t, base)
				f.Free()
			})
		}
	}
}

func TestNewFilterOnABufferThatIsLent(t *testing.T) {
	base := testutil.NewBase(t)
	under, _ := testutil.NewSocket(t, base, 0)
	for _, buf := range []*libevent.Buffer{under.Input(), under.Output()} {
		require.NoError(t, buf.Peek(func([][]byte) {
			_, err := libevent.NewFilter(under, nil, nil, 0)
			assert.ErrorIs(t, err, libevent.ErrLent)
		}))
	}
	testutil.NewFilter(t, under, nil, nil, libevent.OptCloseOnFree).Free()
}

// A filter leaves bytes below if its input has no room for what they become. The read closure
// that drains the filter gets them.
func TestFilterWithoutRoomGoesOn(t *testing.T) {
	for _, opts := range []libevent.Options{0, libevent.OptLoopOnly, libevent.OptLoopOnly | libevent.OptDeferCallbacks} {
		for _, filters := range []int{1, 2} {
			t.Run(fmt.Sprintf("%v, %d filters", opts, filters), func(t *testing.T) {
				base := testutil.NewBase(t)
				bottom, peer := testutil.NewSocket(t, base, opts)
				f := bottom
				for range filters {
					f = testutil.NewFilter(t, f, testutil.Double, nil, opts|libevent.OptCloseOnFree)
				}
				want, got := bytes.Repeat([]byte{'x'}, 500<<filters), []byte(nil)
				require.NoError(t, f.SetWatermark(rd, 0, 101)) // never reached by twos
				require.NoError(t, f.SetCallbacks(func(b *libevent.BufferEvent) {
					p := make([]byte, b.Input().Len())
					n, _ := b.Input().Remove(p)
					if got = append(got, p[:n]...); len(got) == len(want) {
						assert.NoError(t, base.LoopBreak())
					}
				}, nil, nil))
				require.NoError(t, f.Enable(rd))
				_, err := peer.Write(want[:500])
				require.NoError(t, err)
				testutil.Dispatch(t, base)
				testutil.Same(t, want, got)
				f.Free()
			})
		}
	}
}
