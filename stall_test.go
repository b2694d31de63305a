// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// The timeout of writing passes only if there is something to write, and nothing of it leaves the stack.
func TestFilterWriteTimeout(t *testing.T) {
	base := testutil.NewBase(t)
	sock, peer := testutil.NewSocket(t, base, 0)
	filter := testutil.NewFilter(t, sock, nil, nil, libevent.OptCloseOnFree)
	events := make(chan libevent.Events, 10)
	require.NoError(t, filter.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, what libevent.Events) { events <- what }))
	require.NoError(t, filter.SetTimeouts(0, 20*time.Millisecond))
	require.NoError(t, filter.Enable(rd|wr))
	testutil.Background(t, base)
	for _, text := range []string{"one", "two"} {
		_, err := filter.WriteString(text)
		require.NoError(t, err)
		got := make([]byte, 3)
		_, err = io.ReadFull(peer, got)
		require.NoError(t, err)
		assert.Equal(t, text, string(got))
		passed := make(chan struct{})
		_, err = base.After(100*time.Millisecond, func() { close(passed) })
		require.NoError(t, err)
		testutil.Receive(t, passed)
		assert.Empty(t, events)
	}
	_, err := filter.Write(make([]byte, 16<<20))
	require.NoError(t, err)
	assert.Equal(t, libevent.EventWriting|libevent.EventTimeout, testutil.Receive(t, events))
	assert.Equal(t, rd, filter.Enabled())
	filter.Free()
}

// More is written all the time, and the peer reads all the time, until it stops.
func TestFilterWriteTimeoutWithProgress(t *testing.T) {
	base := testutil.NewBase(t)
	sock, peer := testutil.NewUnixSocket(t, base)
	defer syscall.Close(peer)
	// The kernel tells of room when most of what the socket holds is read.
	require.NoError(t, syscall.SetsockoptInt(sock.FD(), syscall.SOL_SOCKET, syscall.SO_SNDBUF, 8<<10))
	lower := testutil.NewFilter(t, sock, nil, nil, libevent.OptCloseOnFree)
	filter := testutil.NewFilter(t, lower, nil, nil, libevent.OptCloseOnFree)
	events := make(chan libevent.Events, 10)
	require.NoError(t, filter.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, what libevent.Events) { events <- what }))
	require.NoError(t, filter.SetTimeouts(0, 50*time.Millisecond))
	require.NoError(t, filter.Enable(rd|wr))
	p, turns, done := make([]byte, 4096), 0, make(chan struct{})
	tick, err := base.Every(10*time.Millisecond, func() {
		_, err := filter.Write(make([]byte, 3*len(p)))
		assert.NoError(t, err)
		if turns++; turns <= 40 {
			_, err = syscall.Read(peer, p)
			assert.NoError(t, err)
		}
		if turns == 40 {
			close(done)
		}
	})
	require.NoError(t, err)
	_, err = filter.Write(make([]byte, 16<<20)) // more than the kernel takes
	require.NoError(t, err)
	testutil.Background(t, base)
	testutil.Receive(t, done)
	assert.Empty(t, events)
	assert.Equal(t, libevent.EventWriting|libevent.EventTimeout, testutil.Receive(t, events))
	testutil.OnLoop(t, base, func() {
		tick.Free()
		filter.Free()
	})
}

// The timer passes in the turn in which the program writes again, or turns writing off. Nothing is told.
func TestFilterWriteTimeoutInOneTurn(t *testing.T) {
	const limit = 20 * time.Millisecond
	for name, act := range map[string]func(*libevent.BufferEvent) error{
		"write":   func(b *libevent.BufferEvent) error { _, err := b.WriteString("two"); return err },
		"disable": func(b *libevent.BufferEvent) error { return b.Disable(wr) },
	} {
		t.Run(name, func(t *testing.T) {
			base := testutil.NewBase(t)
			sock, peer := testutil.NewSocket(t, base, 0)
			filter := testutil.NewFilter(t, sock, nil, nil, libevent.OptCloseOnFree)
			events := make(chan libevent.Events, 10)
			require.NoError(t, filter.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, what libevent.Events) { events <- what }))
			require.NoError(t, filter.SetTimeouts(0, limit))
			require.NoError(t, filter.Enable(rd|wr))
			testutil.Background(t, base)
			acted := make(chan struct{})
			testutil.Hold(t, base, 2*limit, func() {
				_, err := filter.WriteString("one")
				assert.NoError(t, err)
				_, err = base.After(limit+time.Millisecond, func() {
					assert.NoError(t, act(filter))
					close(acted)
				})
				assert.NoError(t, err)
			})
			testutil.Receive(t, acted)
			want, enabled := "onetwo", rd|wr
			if name == "disable" {
				want, enabled = "one", rd
			}
			got := make([]byte, len(want))
			_, err := io.ReadFull(peer, got)
			require.NoError(t, err)
			assert.Equal(t, want, string(got))
			testutil.OnLoop(t, base, func() { assert.Equal(t, enabled, filter.Enabled()) })
			assert.Empty(t, events)
			filter.Free()
		})
	}
}

// The other end of a pair takes nothing, or something now and then.
func TestPairWriteTimeout(t *testing.T) {
	const limit = 50 * time.Millisecond
	base := testutil.NewBase(t)
	bev, other := testutil.NewPair(t, base)
	require.NoError(t, other.SetWatermark(rd, 0, 1000))
	events := make(chan libevent.Events, 10)
	require.NoError(t, bev.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, what libevent.Events) { events <- what }))
	require.NoError(t, bev.SetTimeouts(0, limit))
	testutil.Background(t, base)
	_, err := bev.Write(make([]byte, 30000))
	require.NoError(t, err)
	assert.Equal(t, libevent.EventWriting|libevent.EventTimeout, testutil.Receive(t, events))
	assert.Zero(t, bev.Enabled())
	require.NoError(t, bev.Enable(wr))
	assert.Equal(t, libevent.EventWriting|libevent.EventTimeout, testutil.Receive(t, events))
	require.NoError(t, other.Enable(rd))
	require.NoError(t, bev.Enable(wr))
	turns, done := 0, make(chan struct{})
	tick, err := base.Every(limit/5, func() {
		assert.NoError(t, other.Input().Drain(other.Input().Len()))
		if turns++; turns == 20 {
			close(done)
		}
	})
	require.NoError(t, err)
	testutil.Receive(t, done)
	testutil.OnLoop(t, base, tick.Free)
	assert.Empty(t, events)
	assert.Equal(t, libevent.EventWriting|libevent.EventTimeout, testutil.Receive(t, events))
}
