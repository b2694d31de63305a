// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// These tests are about ends and their causes: an error is never told as an end in order, and
// an end never overtakes bytes.

// TestErrorBehindBytes finds an error behind exactly as many bytes as are read in a turn, and
// the read closure hands reading to libevent.
func TestErrorBehindBytes(t *testing.T) {
	for name, hand := range map[string]func(b *libevent.BufferEvent) error{
		"single read": func(b *libevent.BufferEvent) error { return b.SetMaxSingleRead(1000) },
		"rate limit": func(b *libevent.BufferEvent) error {
			return b.SetRateLimit(&libevent.RateLimit{ReadRate: 1 << 30, ReadBurst: 1 << 30})
		},
		"Pointer": func(b *libevent.BufferEvent) error { b.Pointer(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			base := testutil.NewBase(t)
			bev, peer := testutil.NewUnixSocket(t, base)
			defer bev.Free()
			_, err := syscall.Write(bev.FD(), []byte("unread, so that closing is a reset"))
			require.NoError(t, err)
			n, err := syscall.Write(peer, testutil.Noise(128<<10))
			require.NoError(t, err)
			require.Equal(t, 128<<10, n)
			require.NoError(t, syscall.Close(peer))
			require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
				assert.NoError(t, hand(b))
				assert.NoError(t, b.Input().Drain(b.Input().Len()))
			}, nil, func(_ *libevent.BufferEvent, what libevent.Events) {
				assert.Equal(t, libevent.EventReading|libevent.EventError, what)
				assert.ErrorIs(t, bev.Err(), syscall.ECONNRESET)
				assert.NoError(t, base.LoopBreak())
			}))
			require.NoError(t, bev.Enable(rd))
			testutil.Dispatch(t, base)
			assert.ErrorIs(t, bev.Err(), syscall.ECONNRESET)
		})
	}
}

// TestFailedWriteKeepsItsCause has a write fail and the end of reading come in one turn: the
// cause is the errno of the write.
func TestFailedWriteKeepsItsCause(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewUnixSocket(t, base)
		defer bev.Free()
		var told libevent.Events
		require.NoError(t, bev.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			told |= what
			if what&libevent.EventError != 0 {
				assert.ErrorIs(t, b.Err(), syscall.EPIPE)
			}
			if told&libevent.EventWriting != 0 && told&libevent.EventReading != 0 {
				assert.NoError(t, base.LoopBreak())
			}
		}))
		require.NoError(t, bev.Enable(rd|wr))
		require.NoError(t, syscall.Close(peer))
		_, err := bev.Write([]byte("to nowhere"))
		require.NoError(t, err)
		testutil.Dispatch(t, base)
		assert.NotZero(t, told&libevent.EventError)
	})
}

// TestResetAfterWriting writes in the read closure to a connection that was reset: that is an
// error for the reader, too.
func TestResetAfterWriting(t *testing.T) {
	if testutil.PlainIO {
		t.Skip("libevent may find the end of reading after the error of writing")
	}
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	defer bev.Free()
	require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		assert.NoError(t, b.Input().Drain(b.Input().Len()))
		assert.NoError(t, peer.SetLinger(0))
		assert.NoError(t, peer.Close())
		_, err := b.Write([]byte("answer"))
		assert.NoError(t, err)
	}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
		if what&libevent.EventReading != 0 {
			assert.Zero(t, what&libevent.EventEOF, "a cut is no end")
			assert.ErrorIs(t, b.Err(), syscall.ECONNRESET)
			assert.NoError(t, base.LoopBreak())
		}
	}))
	require.NoError(t, bev.Enable(rd))
	_, err := peer.Write([]byte("question"))
	require.NoError(t, err)
	testutil.Dispatch(t, base)
}

// TestMarkSetByTheReadClosure sets a high mark in the read closure, takes a part and leaves more
// than the mark: the closure is called again.
func TestMarkSetByTheReadClosure(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		defer bev.Free()
		calls := 0
		require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			if calls++; calls == 1 {
				assert.NoError(t, b.SetWatermark(rd, 0, 100))
			}
			assert.NoError(t, b.Input().Drain(200))
			if b.Input().Len() == 0 {
				assert.NoError(t, base.LoopBreak())
			}
		}, nil, nil))
		require.NoError(t, bev.Enable(rd))
		_, err := peer.Write(testutil.Noise(1000))
		require.NoError(t, err)
		testutil.Dispatch(t, base)
		assert.Zero(t, bev.Input().Len())
		assert.GreaterOrEqual(t, calls, 5)
	})
}

// TestEndBelowAFilterWaits ends a pair while the filter on its other end does not read: the end
// comes after the bytes.
func TestEndBelowAFilterWaits(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	top := testutil.NewFilter(t, b, nil, nil, libevent.OptCloseOnFree)
	defer top.Free()
	defer a.Free()
	got := 0
	require.NoError(t, top.SetCallbacks(func(b *libevent.BufferEvent) {
		got += b.Input().Len()
		assert.NoError(t, b.Input().Drain(b.Input().Len()))
	}, nil, func(_ *libevent.BufferEvent, what libevent.Events) {
		assert.Equal(t, libevent.EventReading|libevent.EventEOF, what)
		assert.Equal(t, 50000, got, "no byte comes after the end")
		assert.NoError(t, base.LoopBreak())
	}))
	require.NoError(t, b.Enable(rd))
	_, err := a.Write(testutil.Noise(50000))
	require.NoError(t, err)
	require.NoError(t, a.FreeAfterFlush(testutil.Patience))
	testutil.Idle(t, base, 20*time.Millisecond)
	assert.Zero(t, got)
	require.NoError(t, top.Enable(rd))
	testutil.Dispatch(t, base)
	assert.Equal(t, 50000, got)
}

// TestReplyAndTheWriteMark writes a reply of more than 16 KiB in one piece, whether it is below the
// low mark of writing or above: a last small segment would wait for the peer to acknowledge.
func TestReplyAndTheWriteMark(t *testing.T) {
	if testutil.PlainIO {
		t.Skip("libevent writes 16 KiB at a time")
	}
	for _, mark := range []int{1, 20000, 64 << 10} {
		t.Run(strconv.Itoa(mark), func(t *testing.T) { replyWithMark(t, mark) })
	}
}

func replyWithMark(t *testing.T, mark int) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	defer bev.Free()
	require.NoError(t, bev.SetWatermark(wr, mark, 0))
	require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		assert.NoError(t, b.Input().Drain(b.Input().Len()))
		_, err := b.Write(testutil.Noise(40000))
		assert.NoError(t, err)
		assert.NoError(t, base.Post(func() { assert.NoError(t, base.LoopBreak()) }))
	}, nil, nil))
	require.NoError(t, bev.Enable(rd))
	_, err := peer.Write([]byte("question"))
	require.NoError(t, err)
	testutil.Dispatch(t, base)
	assert.EqualValues(t, 1, base.Stats().FastWrites)
	assert.Zero(t, base.Stats().FastSpills)
}

// A write fails in the middle of the output. The peer must not take what it got for the whole,
// whether FreeAfterFlush comes before the failure or after it.
func TestFreeAfterFlushOfWhatCannotBeWritten(t *testing.T) {
	for name, spoil := range map[string]func(path string) (*os.File, error){
		"a file that cannot be read":  func(path string) (*os.File, error) { return os.OpenFile(path, os.O_WRONLY, 0) },
		"a file that becomes shorter": os.Open,
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, late %v", name, late), func(t *testing.T) {
				testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
					path := filepath.Join(t.TempDir(), "file")
					require.NoError(t, os.WriteFile(path, make([]byte, 1<<20), 0o600))
					f, err := spoil(path)
					require.NoError(t, err)
					defer f.Close()
					bev, peer := testutil.NewSocket(t, base, 0)
					flush := func() { assert.NoError(t, bev.FreeAfterFlush(testutil.Patience)) }
					require.NoError(t, bev.SetCallbacks(nil, nil, func(*libevent.BufferEvent, libevent.Events) { flush() }))
					require.NoError(t, base.Post(func() {
						_, err := bev.WriteString("head")
						assert.NoError(t, err)
						assert.NoError(t, bev.Output().AddFile(f, 0, 1<<20))
						assert.NoError(t, os.Truncate(path, 0))
						if !late {
							flush()
						}
					}))
					testutil.Dispatch(t, base)
					_, err = io.Copy(io.Discard, peer)
					assert.ErrorIs(t, err, syscall.ECONNRESET)
				})
			})
		}
	}
}
