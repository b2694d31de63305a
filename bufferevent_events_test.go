// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestEventEOF(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.Enable(rd))
	_, err := peer.Write([]byte("last words"))
	require.NoError(t, err)
	require.NoError(t, peer.Close())
	assert.Equal(t, libevent.EventReading|libevent.EventEOF, testutil.Happening(t, bev))
	assert.Equal(t, wr, bev.Enabled(), "libevent turns reading off")
	assert.ErrorIs(t, bev.Err(), io.EOF)
	p := make([]byte, 4)
	n, err := bev.Read(p)
	require.NoError(t, err, "buffered bytes come first")
	assert.Equal(t, "last", string(p[:n]))
	rest, err := io.ReadAll(bev)
	require.NoError(t, err)
	assert.Equal(t, " words", string(rest))
	_, err = bev.Read(p)
	assert.ErrorIs(t, err, io.EOF)
	bev.Free()
	assert.ErrorIs(t, bev.Err(), io.EOF, "the cause stays after Free")
	_, err = bev.Read(p)
	assert.ErrorIs(t, err, libevent.ErrClosed)
}

func TestEventReset(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.Enable(rd))
	require.NoError(t, peer.SetLinger(0))
	require.NoError(t, peer.Close())
	assert.Equal(t, libevent.EventReading|libevent.EventError, testutil.Happening(t, bev))
	var e *libevent.Error
	require.ErrorAs(t, bev.Err(), &e)
	assert.Equal(t, "read", e.Op)
	assert.ErrorIs(t, e, syscall.ECONNRESET)
	_, err := bev.Read(make([]byte, 1))
	assert.ErrorIs(t, err, syscall.ECONNRESET)
	var ne net.Error
	require.ErrorAs(t, bev.Err(), &ne)
	assert.False(t, ne.Timeout())
}

func TestEventWriteError(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.Socketpair(t)
	bev, err := base.NewSocket(a, libevent.OptCloseOnFree)
	require.NoError(t, err)
	require.NoError(t, syscall.Close(b))
	_, err = bev.WriteString("nobody")
	require.NoError(t, err)
	assert.Equal(t, libevent.EventWriting|libevent.EventError, testutil.Happening(t, bev))
	assert.ErrorIs(t, bev.Err(), syscall.EPIPE)
	assert.Zero(t, bev.Enabled(), "libevent turns writing off")
	assert.Equal(t, 6, bev.Output().Len(), "unwritten bytes stay")
}

func TestEventTimeouts(t *testing.T) {
	t.Run("reading", func(t *testing.T) {
		base := testutil.NewBase(t)
		bev, _ := testutil.NewSocket(t, base, 0)
		require.NoError(t, bev.SetTimeouts(20*time.Millisecond, 0))
		require.NoError(t, bev.Enable(rd))
		start := time.Now()
		assert.Equal(t, libevent.EventReading|libevent.EventTimeout, testutil.Happening(t, bev))
		assert.GreaterOrEqual(t, time.Since(start), 20*time.Millisecond)
		assert.Equal(t, wr, bev.Enabled())
		assert.ErrorIs(t, bev.Err(), os.ErrDeadlineExceeded)
		_, err := bev.Read(make([]byte, 1))
		assert.ErrorIs(t, err, libevent.ErrWouldBlock, "a timeout is not the end")
		assert.ErrorIs(t, err, syscall.EAGAIN)
		require.NoError(t, bev.Enable(rd))
		assert.Equal(t, libevent.EventReading|libevent.EventTimeout, testutil.Happening(t, bev))
	})
	t.Run("writing", func(t *testing.T) {
		base := testutil.NewBase(t)
		bev, _ := testutil.NewSocket(t, base, 0)
		require.NoError(t, bev.SetTimeouts(0, 20*time.Millisecond))
		_, err := bev.Write(make([]byte, 32<<20)) // more than the kernel takes
		require.NoError(t, err)
		assert.Equal(t, libevent.EventWriting|libevent.EventTimeout, testutil.Happening(t, bev))
		assert.Zero(t, bev.Enabled())
		assert.NotZero(t, bev.Output().Len())
	})
	t.Run("both", func(t *testing.T) {
		base := testutil.NewBase(t)
		bev, err := base.NewSocket(-1, 0)
		require.NoError(t, err)
		require.NoError(t, bev.SetTimeouts(20*time.Millisecond, 20*time.Millisecond))
		require.NoError(t, bev.Enable(rd|wr))
		var all libevent.Events
		for range 2 {
			all |= testutil.Happening(t, bev)
			if all&libevent.EventWriting != 0 && all&libevent.EventReading != 0 {
				break
			}
		}
		assert.Equal(t, libevent.EventReading|libevent.EventWriting|libevent.EventTimeout, all)
	})
	t.Run("none", func(t *testing.T) {
		base := testutil.NewBase(t)
		bev, _ := testutil.NewSocket(t, base, 0)
		require.NoError(t, bev.SetTimeouts(time.Millisecond, time.Millisecond))
		require.NoError(t, bev.SetTimeouts(0, 0))
		require.NoError(t, bev.SetCallbacks(nil, nil, func(*libevent.BufferEvent, libevent.Events) {
			assert.Fail(t, "no event")
		}))
		require.NoError(t, bev.Enable(rd))
		require.NoError(t, base.LoopExit(30*time.Millisecond))
		testutil.Dispatch(t, base)
		assert.ErrorIs(t, bev.SetTimeouts(-1, 0), syscall.EINVAL)
		assert.ErrorIs(t, bev.SetTimeouts(0, -1), syscall.EINVAL)
	})
}

func TestTrigger(t *testing.T) {
	forSocketAndPair(t, func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent, _ func([]byte)) {
		var reads, writes int
		var events []libevent.Events
		require.NoError(t, bev.SetCallbacks(func(*libevent.BufferEvent) { reads++ },
			func(*libevent.BufferEvent) { writes++ },
			func(_ *libevent.BufferEvent, what libevent.Events) { events = append(events, what) }))
		require.NoError(t, bev.SetWatermark(rd, 10, 0))
		require.NoError(t, bev.Trigger(rd, 0))
		testutil.Dispatch(t, base)
		assert.Zero(t, reads, "below the low watermark")
		require.NoError(t, bev.Trigger(rd|wr, libevent.TriggerIgnoreWatermarks))
		assert.Zero(t, reads, "never from inside the call")
		testutil.Dispatch(t, base)
		assert.Equal(t, []int{1, 1}, []int{reads, writes})
		require.NoError(t, bev.TriggerEvent(libevent.EventReading|libevent.EventTimeout))
		testutil.Dispatch(t, base)
		require.NoError(t, bev.TriggerEvent(-1)) // as in libevent, CONNECTED comes in a call of its own
		testutil.Dispatch(t, base)
		assert.Equal(t, []libevent.Events{libevent.EventReading | libevent.EventTimeout,
			libevent.EventConnected, ^libevent.EventConnected}, events)
		assert.ErrorIs(t, bev.Trigger(libevent.EvTimeout, 0), syscall.EINVAL)
		assert.ErrorIs(t, bev.Trigger(rd, 1<<12), syscall.EINVAL)
		assert.ErrorIs(t, bev.TriggerEvent(0), syscall.EINVAL)
	})
}

// Each event flag reaches the closure unchanged, also alone.
func TestEventFlagsAlone(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	for _, what := range []libevent.Events{libevent.EventReading, libevent.EventWriting, libevent.EventEOF,
		libevent.EventError, libevent.EventTimeout, libevent.EventConnected} {
		require.NoError(t, bev.TriggerEvent(what))
		assert.Equal(t, what, testutil.Happening(t, bev))
	}
}

func TestEventsOfPair(t *testing.T) {
	for _, c := range []struct {
		what libevent.What
		want libevent.Events
	}{
		{wr, libevent.EventReading | libevent.EventEOF},
		{rd, libevent.EventWriting | libevent.EventEOF},
		{rd | wr, libevent.EventReading | libevent.EventWriting | libevent.EventEOF},
	} {
		base := testutil.NewBase(t)
		a, b := testutil.NewPair(t, base)
		_, err := a.Flush(c.what, libevent.FlushFinished)
		require.NoError(t, err)
		assert.Equal(t, c.want, testutil.Happening(t, b))
		assert.ErrorIs(t, b.Err(), io.EOF)
	}
}

// The end of a pair is told once. No read callback comes without bytes to read.
func TestEndOfPairIsToldOnce(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	events := 0
	require.NoError(t, b.SetCallbacks(func(*libevent.BufferEvent) {
		assert.Fail(t, "nothing to read")
	}, nil, func(*libevent.BufferEvent, libevent.Events) { events++ }))
	require.NoError(t, b.Enable(rd))
	require.NoError(t, a.CloseWrite())
	require.NoError(t, a.FreeAfterFlush(time.Second))
	testutil.Dispatch(t, base)
	assert.Equal(t, 1, events)
}

// The end of a pair comes after the bytes that were sent before it, also when both come
// while the other end runs its callbacks.
func TestPairEndOvertakesNothing(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, bev *libevent.BufferEvent) *libevent.BufferEvent{
		"pair": func(_ *testing.T, bev *libevent.BufferEvent) *libevent.BufferEvent { return bev },
		"filter": func(t *testing.T, bev *libevent.BufferEvent) *libevent.BufferEvent {
			return testutil.NewFilter(t, bev, nil, nil, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := testutil.NewBase(t)
			a, under := testutil.NewPair(t, base)
			b := end(t, under)
			var got []string
			require.NoError(t, b.SetCallbacks(func(b *libevent.BufferEvent) {
				p, err := io.ReadAll(b.Input())
				assert.NoError(t, err)
				got = append(got, string(p))
			}, func(*libevent.BufferEvent) {
				_, err := a.WriteString("last")
				assert.NoError(t, err)
				_, err = a.Flush(wr, libevent.FlushFinished)
				assert.NoError(t, err)
			}, func(_ *libevent.BufferEvent, what libevent.Events) { got = append(got, what.String()) }))
			require.NoError(t, b.Enable(rd))
			require.NoError(t, b.Trigger(wr, 0))
			testutil.Dispatch(t, base)
			assert.Equal(t, []string{"last", (libevent.EventReading | libevent.EventEOF).String()}, got)
		})
	}
}

// A read timeout has passed, and is restarted before it is told. Then the bufferevent still reads,
// or the timeout is told.
func TestReadTimeoutRestartedBeforeItIsTold(t *testing.T) {
	for _, c := range []struct {
		name    string
		restart func(bev *libevent.BufferEvent) error
	}{
		{"Enable", func(bev *libevent.BufferEvent) error { return bev.Enable(rd) }},
		{"SetTimeouts", func(bev *libevent.BufferEvent) error { return bev.SetTimeouts(time.Hour, 0) }},
		{"both", func(bev *libevent.BufferEvent) error {
			return errors.Join(bev.SetTimeouts(time.Hour, 0), bev.Enable(rd))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
				bev, peer := testutil.NewUnixSocket(t, base)
				restartReadTimeout(t, bev, bev, peer, c.restart)
			})
		})
	}
}

// The same of the bufferevent below a filter, which libevent has read again for what is done to the
// filter.
func TestReadTimeoutRestartedByAFilter(t *testing.T) {
	for name, restart := range map[string]func(filter *libevent.BufferEvent) error{
		"Enable":       func(filter *libevent.BufferEvent) error { return filter.Enable(rd) },
		"SetWatermark": func(filter *libevent.BufferEvent) error { return filter.SetWatermark(rd, 0, 0) },
	} {
		for filters := range 3 {
			t.Run(fmt.Sprint(name, filters+1), func(t *testing.T) {
				bev, peer := testutil.NewUnixSocket(t, testutil.NewBase(t))
				top := bev
				for range filters + 1 {
					top = testutil.NewFilter(t, top, nil, nil, libevent.OptCloseOnFree)
				}
				restartReadTimeout(t, bev, top, peer, func(top *libevent.BufferEvent) error {
					return errors.Join(bev.SetTimeouts(0, 0), restart(top))
				})
			})
		}
	}
}

// A read timeout has passed, and is taken away before it is told. It does not come back when more is
// read.
func TestReadTimeoutTakenAwayBeforeItIsTold(t *testing.T) {
	for name, again := range map[string]func(bev *libevent.BufferEvent) error{
		"at once":       func(*libevent.BufferEvent) error { return nil },
		"off and on":    func(bev *libevent.BufferEvent) error { return errors.Join(bev.Disable(rd), bev.Enable(rd)) },
		"on once again": func(bev *libevent.BufferEvent) error { return bev.Enable(rd) },
	} {
		t.Run(name, func(t *testing.T) {
			testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
				bev, peer := testutil.NewUnixSocket(t, base)
				defer func() { bev.Free(); _ = syscall.Close(peer) }()
				read, told := make(chan struct{}, 10), 0
				require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
					_ = b.Input().Drain(100)
					read <- struct{}{}
				}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
					told++
					assert.Equal(t, libevent.EventReading|libevent.EventTimeout, what)
					assert.NoError(t, b.Enable(rd))
				}))
				passReadTimeout(t, bev, bev, func(bev *libevent.BufferEvent) error {
					return errors.Join(bev.SetTimeouts(0, 0), again(bev))
				})
				testutil.OnLoop(t, base, func() { told = 0 }) // the timeout that has passed may have been told
				_, err := syscall.Write(peer, []byte("x"))
				require.NoError(t, err)
				testutil.Receive(t, read)
				late := make(chan struct{})
				timer, err := base.NewTimer(func() { close(late) })
				require.NoError(t, err)
				require.NoError(t, timer.Add(30*time.Millisecond))
				testutil.Receive(t, late)
				testutil.OnLoop(t, base, func() { timer.Free(); assert.Zero(t, told) })
			})
		})
	}
}

func restartReadTimeout(t *testing.T, bev, top *libevent.BufferEvent, peer int, restart func(*libevent.BufferEvent) error) {
	defer func() { top.Free(); _ = syscall.Close(peer) }()
	happened := make(chan struct{}, 10)
	require.NoError(t, top.SetCallbacks(func(b *libevent.BufferEvent) {
		_ = b.Input().Drain(100)
		happened <- struct{}{}
	}, nil, func(*libevent.BufferEvent, libevent.Events) { happened <- struct{}{} }))
	passReadTimeout(t, bev, top, restart)
	_, err := syscall.Write(peer, []byte("x"))
	require.NoError(t, err)
	testutil.Receive(t, happened)
}

// A write timeout has passed, and the program takes it away and writes more before it is told. Then the
// bufferevent still writes, or the timeout is told.
func TestWriteTimeoutPassedAndMoreWritten(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewUnixSocket(t, base)
		defer func() { bev.Free(); _ = syscall.Close(peer) }()
		require.NoError(t, bev.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			assert.Equal(t, libevent.EventWriting|libevent.EventTimeout, what)
			assert.NoError(t, errors.Join(b.SetTimeouts(0, 0), b.Enable(wr)))
		}))
		much := make([]byte, 1<<20) // more than the socket takes
		write := func() {
			_, err := bev.Write(much)
			assert.NoError(t, err)
		}
		testutil.OnceOnLoop(t, base, write)
		pass(t, base, func() { assert.NoError(t, bev.SetTimeouts(0, 10*time.Millisecond)) }, func() {
			assert.NoError(t, bev.SetTimeouts(0, 0))
			write()
		})
		for got, p := 0, make([]byte, 1<<16); got < 2*len(much); {
			n, err := syscall.Read(peer, p)
			require.NoError(t, err)
			got += n
		}
	})
}

// passReadTimeout runs the loop in the background. A read timeout of bev passes, and before it is told
// the loop calls before.
func passReadTimeout(t *testing.T, bev, top *libevent.BufferEvent, before func(*libevent.BufferEvent) error) {
	t.Helper()
	pass(t, bev.Base(), func() {
		assert.NoError(t, bev.SetTimeouts(10*time.Millisecond, 0))
		assert.NoError(t, top.Enable(rd))
	}, func() { assert.NoError(t, before(top)) })
}

// pass runs the loop in the background. The loop calls set, which sets a timeout of 10 ms, and calls
// before when that has passed and is not told yet.
func pass(t *testing.T, base *libevent.Base, set, before func()) {
	t.Helper()
	testutil.UseEitherWay(t, base)
	// It passes before the timeout, so its closure runs first.
	called := make(chan struct{})
	timer, err := base.NewTimer(func() { defer close(called); before() })
	require.NoError(t, err)
	testutil.Background(t, base)
	testutil.OnLoop(t, base, func() {
		set()
		assert.NoError(t, timer.Add(5*time.Millisecond))
		time.Sleep(30 * time.Millisecond) // sleep: it is tested that a closure keeps the loop busy past both timeouts
	})
	testutil.Receive(t, called)
	testutil.OnLoop(t, base, timer.Free)
}
