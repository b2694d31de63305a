// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"io"
	"math"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// The cases of libevent's own regression tests for bufferevents and listeners, under
// libevent's names. docs/coverage.md has the list.

// ends makes two bufferevents that are connected to each other.
type ends func(t *testing.T, base *libevent.Base) (a, b *libevent.BufferEvent)

func socketEnds(t *testing.T, base *libevent.Base) (a, b *libevent.BufferEvent) {
	t.Helper()
	x, y := testutil.Socketpair(t)
	a, err := base.NewSocket(x, libevent.OptCloseOnFree)
	require.NoError(t, err)
	b, err = base.NewSocket(y, libevent.OptCloseOnFree)
	require.NoError(t, err)
	return a, b
}

func pairEnds(t *testing.T, base *libevent.Base) (a, b *libevent.BufferEvent) {
	t.Helper()
	return testutil.NewPair(t, base)
}

// on runs a test on sockets and on a pair, under the names that libevent has for them.
func on(t *testing.T, name string, test func(t *testing.T, base *libevent.Base, a, b *libevent.BufferEvent)) {
	t.Helper()
	both(t, strings.TrimSuffix("bufferevent_"+name, "_"), strings.TrimSuffix("bufferevent_pair_"+name, "_"), test)
}

func both(t *testing.T, socket, pair string, test func(t *testing.T, base *libevent.Base, a, b *libevent.BufferEvent)) {
	for name, make := range map[string]ends{socket: socketEnds, pair: pairEnds} {
		t.Run(name, func(t *testing.T) {
			base := testutil.NewBase(t)
			a, b := make(t, base)
			test(t, base, a, b)
		})
	}
}

func TestConformanceBufferEvent(t *testing.T) {
	on(t, "", conformTransfer)
	for name, mode := range map[string]libevent.FlushMode{
		"flush_normal": libevent.FlushNormal, "flush_flush": libevent.FlushSync, "flush_finished": libevent.FlushFinished,
	} {
		on(t, name, func(t *testing.T, base *libevent.Base, a, b *libevent.BufferEvent) {
			conformFlush(t, base, a, b, mode)
		})
	}
	on(t, "watermarks", conformWatermarks)
	for _, filtered := range []bool{false, true} {
		name := "bufferevent_timeout"
		if filtered {
			name = "bufferevent_timeout_filter"
		}
		both(t, name, name+"_pair", func(t *testing.T, base *libevent.Base, a, b *libevent.BufferEvent) {
			conformTimeouts(t, base, a, b, filtered)
		})
	}
	t.Run("bufferevent_pair_release_lock", conformPairReleaseLock)
	t.Run("bufferevent_pair_flush", conformPairFlush)
	t.Run("bufferevent_read_failed", conformReadFailed)
}

func TestConformanceBufferEventConnect(t *testing.T) {
	for name, opts := range map[string]libevent.Options{
		"bufferevent_connect": 0, "bufferevent_connect_defer": libevent.OptDeferCallbacks,
		"bufferevent_connect_lock":          libevent.OptThreadSafe,
		"bufferevent_connect_lock_defer":    libevent.OptThreadSafe | libevent.OptDeferCallbacks,
		"bufferevent_connect_unlocked_cbs":  libevent.OptUnlockCallbacks | libevent.OptDeferCallbacks,
		"bufferevent_connect_loop_only":     libevent.OptLoopOnly,
		"bufferevent_connect_loop_deferred": libevent.OptLoopOnly | libevent.OptDeferCallbacks,
	} {
		t.Run(name, func(t *testing.T) { conformConnect(t, opts) })
	}
	for name, opts := range map[string]libevent.Options{
		"bufferevent_connect_fail": 0, "bufferevent_connect_fail_eventcb": libevent.OptLoopOnly,
		"bufferevent_connect_fail_eventcb_defer": libevent.OptLoopOnly | libevent.OptDeferCallbacks,
	} {
		t.Run(name, func(t *testing.T) { conformConnectFail(t, opts) })
	}
}

func TestConformanceBufferEventFilter(t *testing.T) {
	on(t, "filters", conformFilters)
	on(t, "filters_disable", conformFiltersDisable)
	t.Run("bufferevent_socket_filter_inactive", conformFilterInactive)
	t.Run("bufferevent_filter_data_stuck", conformFilterDataStuck)
}

func TestConformanceBufferEventRateLimit(t *testing.T) {
	for name, tick := range map[string]time.Duration{
		"bufferevent_ratelimit_div_by_zero": time.Microsecond,
		"bufferevent_ratelimit_overflow":    (math.MaxInt32 + 1) * time.Millisecond,
	} {
		t.Run(name, func(t *testing.T) {
			bev, _ := testutil.NewSocket(t, testutil.NewBase(t), 0)
			err := bev.SetRateLimit(&libevent.RateLimit{ReadRate: 1, Tick: tick})
			assert.ErrorIs(t, err, syscall.EINVAL)
		})
	}
}

// With LIBEVENT_LOCK_DEBUGGING in the environment libevent would abort when the base is
// freed.
func conformPairReleaseLock(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	a.Free()
	b.Free()
}

func conformPairFlush(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	_, err := a.Flush(wr, libevent.FlushFinished)
	require.NoError(t, err)
	assert.Equal(t, libevent.EventReading|libevent.EventEOF, testutil.Happening(t, b))
}

func conformReadFailed(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	require.NoError(t, b.Enable(rd))
	_, err := a.WriteString("data")
	require.NoError(t, err)
	require.NoError(t, b.Input().Freeze(true))
	n, err := b.Read(make([]byte, 4))
	assert.ErrorIs(t, err, libevent.ErrFrozen)
	assert.Zero(t, n)
	require.NoError(t, b.Input().Unfreeze(true))
	n, err = b.Read(make([]byte, 4))
	require.NoError(t, err)
	assert.Equal(t, 4, n)
}

func conformFilterInactive(t *testing.T) {
	base := testutil.NewBase(t)
	bev, err := base.NewSocket(-1, 0)
	require.NoError(t, err)
	testutil.NewFilter(t, bev, nil, nil, 0).Free()
	bev.Free()
	testutil.Dispatch(t, base)
	assert.Zero(t, base.Stats().BufferEvents)
}

// 8333 bytes arrive whole, and the loop ends by itself.
func conformTransfer(t *testing.T, base *libevent.Base, a, b *libevent.BufferEvent) {
	isPair := a.FD() == -1
	assert.Equal(t, isPair, a.Partner() == b)
	assert.Nil(t, a.Underlying())
	require.NoError(t, a.Disable(rd))
	assert.Equal(t, wr, a.Enabled())
	require.NoError(t, a.Enable(rd))
	assert.Equal(t, rd|wr, a.Enabled())
	data := testutil.Noise(8333)
	written := false
	require.NoError(t, a.SetCallbacks(nil, func(a *libevent.BufferEvent) {
		written = a.Output().Len() == 0
	}, nil))
	got := testutil.NewBuffer(t, "")
	require.NoError(t, b.SetCallbacks(func(b *libevent.BufferEvent) {
		assert.NoError(t, b.ReadBuffer(got))
		if got.Len() == len(data) {
			assert.NoError(t, b.Disable(rd))
			assert.NoError(t, a.Disable(rd))
		}
	}, nil, nil))
	require.NoError(t, b.Enable(rd))
	_, err := a.Write(data)
	require.NoError(t, err)
	testutil.Dispatch(t, base)
	assert.True(t, written)
	testutil.Same(t, data, []byte(testutil.Content(t, got)))
	a.Free()
	assert.Nil(t, b.Partner())
}

// Flushing loses nothing, and only FlushFinished on a pair is an event.
func conformFlush(t *testing.T, base *libevent.Base, a, b *libevent.BufferEvent, mode libevent.FlushMode) {
	data := testutil.Noise(8333)
	var got []byte
	var events libevent.Events
	require.NoError(t, b.SetCallbacks(func(b *libevent.BufferEvent) {
		p, err := io.ReadAll(b.Input())
		assert.NoError(t, err)
		got = append(got, p...)
		if len(got) == len(data) {
			assert.NoError(t, b.Disable(rd))
		}
	}, nil, func(_ *libevent.BufferEvent, what libevent.Events) { events |= what }))
	require.NoError(t, b.Enable(rd))
	_, err := a.Write(data)
	require.NoError(t, err)
	_, err = a.Flush(wr, mode)
	require.NoError(t, err)
	testutil.Dispatch(t, base)
	testutil.Same(t, data, got)
	if mode == libevent.FlushFinished && a.Partner() != nil {
		assert.Equal(t, libevent.EventReading|libevent.EventEOF, events)
	} else {
		assert.Zero(t, events)
	}
}

// The receiver sees 10 to 20 bytes each time. The sender is called when 100 bytes or fewer
// are left.
func conformWatermarks(t *testing.T, base *libevent.Base, a, b *libevent.BufferEvent) {
	const total = 65000
	require.NoError(t, b.SetWatermark(rd, 10, 20))
	require.NoError(t, a.SetWatermark(wr, 100, 2000))
	_, err := a.Write(testutil.Noise(total))
	require.NoError(t, err)
	require.NoError(t, a.SetCallbacks(nil, func(a *libevent.BufferEvent) {
		assert.LessOrEqual(t, a.Output().Len(), 100)
	}, nil))
	got := 0
	require.NoError(t, b.SetCallbacks(func(b *libevent.BufferEvent) {
		n := b.Input().Len()
		assert.GreaterOrEqual(t, n, 10)
		assert.LessOrEqual(t, n, 20)
		assert.NoError(t, b.Input().Drain(n))
		if got += n; got == total {
			assert.NoError(t, b.Disable(rd))
		}
	}, nil, nil))
	require.NoError(t, b.Enable(rd))
	testutil.Dispatch(t, base)
	assert.Equal(t, total, got)
	assert.Zero(t, a.Output().Len())
}

// One filter doubles the bytes on the way out, and the other one halves them on the way
// in.
func conformFilters(t *testing.T, base *libevent.Base, a, b *libevent.BufferEvent) {
	fd := a.FD()
	fa := testutil.NewFilter(t, a, nil, testutil.Double, libevent.OptCloseOnFree)
	fb := testutil.NewFilter(t, b, testutil.Halve, nil, libevent.OptCloseOnFree)
	assert.Same(t, a, fa.Underlying())
	assert.Equal(t, fd, fa.FD())
	data := testutil.Noise(8333)
	var got []byte
	require.NoError(t, fb.SetCallbacks(func(b *libevent.BufferEvent) {
		p, err := io.ReadAll(b.Input())
		assert.NoError(t, err)
		got = append(got, p...)
		if len(got) == len(data) {
			fa.Free()
			fb.Free()
		}
	}, nil, nil))
	require.NoError(t, fb.Enable(rd))
	_, err := fa.Write(data)
	require.NoError(t, err)
	testutil.Dispatch(t, base)
	testutil.Same(t, data, got)
	assert.Zero(t, base.Stats().BufferEvents, "OptCloseOnFree frees what is below")
}

// When the output function of a filter writes to the filter, libevent does not call the
// function from inside itself.
func conformFiltersDisable(t *testing.T, base *libevent.Base, a, b *libevent.BufferEvent) {
	depth, calls := 0, 0
	var f *libevent.BufferEvent
	f = testutil.NewFilter(t, a, nil, func(src, dst *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
		depth++
		assert.Equal(t, 1, depth)
		assert.NoError(t, dst.AddBuffer(src))
		if calls++; calls < 3 {
			_, err := f.WriteString("more")
			assert.NoError(t, err)
		}
		depth--
		return libevent.FilterOK, nil
	}, 0)
	require.NoError(t, b.Enable(rd))
	_, err := f.WriteString("data")
	require.NoError(t, err)
	testutil.Idle(t, base, 20*time.Millisecond)
	assert.Equal(t, "datamoremore", testutil.Content(t, b.Input()))
	assert.Zero(t, f.Output().Len())
}

// Two clients connect to a server that sends a greeting and frees its bufferevent when all
// is written.
func conformConnect(t *testing.T, opts libevent.Options) {
	const greeting = "Now is the time for all good events to signal for the good of their protocol"
	base := testutil.NewBase(t)
	clients := 2
	l := testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
		bev, err := base.NewSocket(fd, opts|libevent.OptCloseOnFree)
		if !assert.NoError(t, err) {
			return
		}
		assert.NoError(t, bev.SetCallbacks(nil, func(b *libevent.BufferEvent) {
			if b.Output().Len() == 0 {
				b.Free()
			}
		}, nil))
		_, err = bev.WriteString(greeting)
		assert.NoError(t, err)
		if clients--; clients == 0 {
			l.Free()
		}
	})
	got := map[string]int{}
	for range 2 {
		bev, err := base.NewSocket(-1, opts|libevent.OptCloseOnFree)
		require.NoError(t, err)
		require.NoError(t, bev.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			if what == libevent.EventConnected {
				got["connected"]++
				assert.NoError(t, b.Enable(rd))
				return
			}
			assert.Equal(t, libevent.EventReading|libevent.EventEOF, what)
			p, err := io.ReadAll(b.Input())
			assert.NoError(t, err)
			assert.Equal(t, greeting, string(p))
			got["ended"]++
			b.Free()
		}))
		require.NoError(t, bev.Connect("tcp", l.Addr().String()))
	}
	testutil.Dispatch(t, base)
	assert.Equal(t, map[string]int{"connected": 2, "ended": 2}, got)
}

// No socket listens on the address. The loop calls the event closure once, and nothing
// else happens.
func conformConnectFail(t *testing.T, opts libevent.Options) {
	base := testutil.NewBase(t)
	bev, err := base.NewSocket(-1, opts|libevent.OptCloseOnFree)
	require.NoError(t, err)
	var events []libevent.Events
	nothing := func(*libevent.BufferEvent) { assert.Fail(t, "no bytes") }
	require.NoError(t, bev.SetCallbacks(nothing, nothing, func(_ *libevent.BufferEvent, what libevent.Events) {
		events = append(events, what)
	}))
	require.NoError(t, bev.Enable(rd|wr))
	require.NoError(t, bev.Connect("tcp", testutil.Refusing(t).String()))
	assert.Empty(t, events, "not before the loop runs")
	testutil.Dispatch(t, base)
	assert.Equal(t, []libevent.Events{libevent.EventError}, events)
}

// Reading times out once, when its time is over. Reading that is off does not time out.
func conformTimeouts(t *testing.T, base *libevent.Base, a, b *libevent.BufferEvent, filtered bool) {
	if filtered {
		a = testutil.NewFilter(t, a, nil, nil, libevent.OptCloseOnFree)
		b = testutil.NewFilter(t, b, nil, nil, libevent.OptCloseOnFree)
	}
	start := time.Now()
	var took time.Duration
	require.NoError(t, a.SetCallbacks(func(*libevent.BufferEvent) { assert.Fail(t, "no bytes") }, nil,
		func(_ *libevent.BufferEvent, what libevent.Events) {
			assert.Equal(t, libevent.EventReading|libevent.EventTimeout, what)
			assert.Zero(t, took, "once")
			took = time.Since(start)
		}))
	require.NoError(t, b.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, what libevent.Events) {
		assert.Fail(t, "no read timeout without reading", "%v", what)
	}))
	require.NoError(t, a.SetTimeouts(50*time.Millisecond, 0))
	require.NoError(t, b.SetTimeouts(50*time.Millisecond, 0))
	require.NoError(t, a.Enable(rd))
	require.NoError(t, b.Disable(rd))
	testutil.Idle(t, base, 150*time.Millisecond)
	assert.GreaterOrEqual(t, took, 50*time.Millisecond)
	assert.Zero(t, a.Enabled()&rd)
}

// The closure takes a header off an input that is full. The bytes that wait below the
// filter come after that.
func conformFilterDataStuck(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	const head, body = 20, 4096
	data := testutil.Noise(head + body)
	fb := testutil.NewFilter(t, b, nil, nil, libevent.OptCloseOnFree)
	var got []byte
	require.NoError(t, fb.SetWatermark(rd, head, head))
	require.NoError(t, fb.SetCallbacks(func(f *libevent.BufferEvent) {
		p := make([]byte, f.Input().Len())
		if len(got) == 0 {
			assert.Equal(t, head, len(p))
			assert.NoError(t, f.SetWatermark(rd, 0, body))
		}
		_, err := f.Read(p)
		assert.NoError(t, err)
		got = append(got, p...)
	}, nil, nil))
	require.NoError(t, fb.Enable(rd))
	_, err := a.Write(data)
	require.NoError(t, err)
	testutil.Dispatch(t, base)
	testutil.Same(t, data, got)
}
