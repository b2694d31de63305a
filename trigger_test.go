package libevent_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

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
		require.NoError(t, bev.TriggerEvent(-1)) // CONNECTED comes by itself, as in libevent
		testutil.Dispatch(t, base)
		assert.Equal(t, []libevent.Events{libevent.EventReading | libevent.EventTimeout,
			libevent.EventConnected, ^libevent.EventConnected}, events)
		assert.ErrorIs(t, bev.Trigger(libevent.EvTimeout, 0), syscall.EINVAL)
		assert.ErrorIs(t, bev.Trigger(rd, 1<<12), syscall.EINVAL)
		assert.ErrorIs(t, bev.TriggerEvent(0), syscall.EINVAL)
	})
}

func TestPartner(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	assert.Same(t, b, a.Partner())
	assert.Same(t, a, b.Partner())
	b.Free()
	assert.Nil(t, a.Partner())
	assert.Nil(t, b.Partner())
	socket, _ := testutil.NewSocket(t, base, 0)
	assert.Nil(t, socket.Partner())
}

// With priorities what is urgent goes first, and setting one is checked.
func TestPriorities(t *testing.T) {
	base, err := libevent.NewBaseConfig(libevent.Config{Priorities: 3})
	require.NoError(t, err)
	defer func() { assert.NoError(t, base.Free()) }()
	assert.Equal(t, 3, base.Priorities())
	var order []int
	for _, p := range []int{2, 0, 1} {
		e, err := base.NewEvent(-1, 0, func(int, libevent.What) { order = append(order, p) })
		require.NoError(t, err)
		assert.Equal(t, 1, e.Priority())
		require.NoError(t, e.SetPriority(p))
		assert.Equal(t, p, e.Priority())
		require.NoError(t, e.Active(rd))
		assert.ErrorIs(t, e.SetPriority(0), syscall.EBUSY, "it is due")
		assert.ErrorIs(t, e.SetPriority(3), syscall.EINVAL)
		assert.ErrorIs(t, e.SetPriority(-1), syscall.EINVAL)
	}
	bev, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.SetPriority(0))
	assert.Equal(t, 0, bev.Priority())
	require.NoError(t, bev.SetFD(bev.FD()))
	assert.Equal(t, 0, bev.Priority(), "libevent itself would forget it")
	assert.ErrorIs(t, bev.SetPriority(3), syscall.EINVAL)
	pair, _ := testutil.NewPair(t, base)
	assert.ErrorIs(t, pair.SetPriority(0), syscall.EINVAL)
	assert.Equal(t, 1, pair.Priority())
	_ = peer.Close()
	testutil.Dispatch(t, base)
	assert.Equal(t, []int{0, 1, 2}, order)
}

// While the loop may be about to put an event into its queues nobody else may say which.
func TestPriorityWhileTheLoopRuns(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	timer, err := base.NewTimer(func() {})
	require.NoError(t, err)
	defer timer.Free()
	testutil.Background(t, base)
	require.NoError(t, timer.SetPriority(0))
	require.NoError(t, timer.Add(time.Hour))
	require.NoError(t, bev.Enable(rd))
	testutil.OnLoop(t, base, func() {})
	assert.ErrorIs(t, timer.SetPriority(0), libevent.ErrWrongLoop)
	assert.ErrorIs(t, bev.SetPriority(0), libevent.ErrWrongLoop)
	testutil.OnLoop(t, base, func() {
		assert.NoError(t, timer.SetPriority(0))
		_ = bev.SetPriority(0) // EBUSY if something is due
	})
	_ = peer.Close()
	bev.Free()
}

// Each event flag reaches the closure as it is, alone too.
func TestEventFlagsAlone(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	for _, what := range []libevent.Events{libevent.EventReading, libevent.EventWriting, libevent.EventEOF,
		libevent.EventError, libevent.EventTimeout, libevent.EventConnected} {
		require.NoError(t, bev.TriggerEvent(what))
		assert.Equal(t, what, testutil.Happening(t, bev))
	}
}
