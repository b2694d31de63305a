package libevent_test

import (
	"errors"
	"io"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// echo has bev answer with what it reads, and end with its peer.
func echo(t testing.TB, bev *libevent.BufferEvent, onRead func()) {
	t.Helper()
	require.NoError(t, bev.SetCallbacks(func(bev *libevent.BufferEvent) {
		onRead()
		assert.NoError(t, bev.WriteBuffer(bev.Input()))
	}, nil, func(bev *libevent.BufferEvent, _ libevent.Events) { bev.Free() }))
	require.NoError(t, bev.Enable(rd))
}

// setBase moves bev from the loop that it is on, as often as it takes for that loop
// to have nothing due.
func setBase(t testing.TB, bev *libevent.BufferEvent, to *libevent.Base) {
	t.Helper()
	for busy := true; busy; {
		testutil.OnLoop(t, bev.Base(), func() {
			err := bev.SetBase(to)
			busy = errors.Is(err, syscall.EBUSY)
			if !busy {
				assert.NoError(t, err)
			}
		})
	}
}

func TestSetBase(t *testing.T) {
	for name, opts := range map[string]libevent.Options{"fast": 0, "plain": libevent.OptPlainIO} {
		t.Run(name, func(t *testing.T) {
			from, to := testutil.NewBase(t), testutil.NewBase(t)
			bev, peer := testutil.NewSocket(t, from, opts)
			var on []*libevent.Base
			echo(t, bev, func() { on = append(on, bev.Base()) })
			ask := func(base *libevent.Base, text string) {
				_, err := io.WriteString(peer, text)
				require.NoError(t, err)
				got := make([]byte, len(text))
				done := make(chan error, 1)
				go func() {
					_, err := io.ReadFull(peer, got)
					done <- errors.Join(err, base.LoopBreak())
				}()
				require.NoError(t, base.Loop(libevent.LoopNoExitOnEmpty))
				require.NoError(t, testutil.Receive(t, done))
				assert.Equal(t, text, string(got))
			}
			ask(from, "on the first")
			require.NoError(t, from.Loop(libevent.LoopNonblock)) // what the break left
			require.NoError(t, bev.SetBase(to))
			assert.Same(t, to, bev.Base())
			assert.Equal(t, rd|wr, bev.Enabled())
			assert.Zero(t, from.Stats().BufferEvents)
			assert.Equal(t, 1, to.Stats().BufferEvents)
			require.NoError(t, from.Free())
			ask(to, "on the second")
			assert.Same(t, to, on[len(on)-1])
			require.NoError(t, bev.SetBase(to), "it is there")
			require.NoError(t, peer.Close())
			testutil.Dispatch(t, to)
			assert.Zero(t, to.Stats().BufferEvents)
		})
	}
}

// What was written before goes out, and the write closure is not called for nothing.
func TestSetBaseKeepsBuffersAndTimeouts(t *testing.T) {
	for name, opts := range map[string]libevent.Options{"fast": 0, "plain": libevent.OptPlainIO} {
		t.Run(name, func(t *testing.T) {
			from, to := testutil.NewBase(t), testutil.NewBase(t)
			bev, peer := testutil.NewSocket(t, from, opts)
			written := 0
			var events []libevent.Events
			require.NoError(t, bev.SetCallbacks(nil, func(*libevent.BufferEvent) { written++ },
				func(bev *libevent.BufferEvent, what libevent.Events) {
					events = append(events, what)
					bev.Free()
				}))
			require.NoError(t, bev.Input().Prepend([]byte("unread")))
			require.NoError(t, bev.SetTimeouts(20*time.Millisecond, 0))
			require.NoError(t, bev.Enable(rd))
			got := testutil.ReadAll(peer)
			_, err := bev.WriteString("unsent")
			require.NoError(t, err)
			require.NoError(t, bev.CloseWrite())
			require.NoError(t, bev.SetBase(to))
			assert.Equal(t, "unread", testutil.Content(t, bev.Input()))
			testutil.Dispatch(t, from) // which has nothing to do any more
			testutil.Dispatch(t, to)
			assert.Equal(t, "unsent", string(testutil.Receive(t, got)))
			assert.Equal(t, 1, written)
			assert.Equal(t, []libevent.Events{libevent.EventReading | libevent.EventTimeout}, events)
		})
	}
}

func TestSetBasePriority(t *testing.T) {
	from, err := libevent.NewBaseConfig(libevent.Config{Priorities: 7})
	require.NoError(t, err)
	defer from.Free()
	to, err := libevent.NewBaseConfig(libevent.Config{Priorities: 3})
	require.NoError(t, err)
	defer to.Free()
	bev, peer := testutil.NewSocket(t, from, 0)
	require.NoError(t, bev.SetPriority(5))
	require.ErrorIs(t, bev.SetBase(to), syscall.ERANGE)
	assert.Same(t, from, bev.Base())
	require.NoError(t, bev.SetPriority(2))
	require.NoError(t, bev.SetBase(to))
	assert.Equal(t, 2, bev.Priority())

	other, _ := testutil.NewSocket(t, from, 0)
	require.NoError(t, other.SetBase(to))
	assert.Equal(t, 1, other.Priority())

	// The callback itself has moved down, too: libevent would abort here.
	echo(t, bev, func() {})
	other.Free()
	require.NoError(t, bev.TriggerEvent(libevent.EventEOF))
	testutil.Dispatch(t, to)
	require.NoError(t, peer.Close())
}

func TestSetBaseRefuses(t *testing.T) {
	from, to := testutil.NewBase(t), testutil.NewBase(t)
	refused := func(t *testing.T, bev *libevent.BufferEvent, why string) {
		t.Helper()
		err := bev.SetBase(to)
		require.ErrorIs(t, err, syscall.EINVAL)
		assert.Contains(t, err.Error(), why)
		assert.Same(t, from, bev.Base())
	}
	bev, _ := testutil.NewSocket(t, from, 0)
	assert.ErrorIs(t, bev.SetBase(nil), syscall.EINVAL)
	a, _ := testutil.NewPair(t, from)
	refused(t, a, "not a socket")
	under, _ := testutil.NewSocket(t, from, 0)
	filter := testutil.NewFilter(t, under, nil, nil, 0)
	refused(t, filter, "not a socket")
	assert.ErrorIs(t, under.SetBase(to), syscall.EBUSY, "its filter uses it")
	alone, _ := testutil.NewSocket(t, from, libevent.OptLoopOnly)
	refused(t, alone, "OptLoopOnly")

	limit := libevent.RateLimit{ReadRate: 1000, ReadBurst: 1000}
	require.NoError(t, bev.SetRateLimit(&limit))
	refused(t, bev, "rate limit")
	require.NoError(t, bev.SetRateLimit(nil))
	refused(t, bev, "rate limit")
	member, _ := testutil.NewSocket(t, from, 0)
	group, err := from.NewRateLimitGroup(limit)
	require.NoError(t, err)
	require.NoError(t, group.Add(member))
	require.NoError(t, group.Remove(member))
	refused(t, member, "rate limit")

	dialing, err := from.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	require.NoError(t, dialing.ConnectHostname(nil, "tcp", "127.0.0.1", 1))
	assert.ErrorIs(t, dialing.SetBase(to), syscall.EINPROGRESS)

	gone := testutil.NewBase(t)
	require.NoError(t, gone.Free())
	fresh, _ := testutil.NewSocket(t, from, 0)
	assert.ErrorIs(t, fresh.SetBase(gone), libevent.ErrClosed)
	fresh.Free()
	assert.ErrorIs(t, fresh.SetBase(to), libevent.ErrClosed)
}

// Callbacks that are due stay in the queue of the old base.
func TestSetBaseWhenSomethingIsDue(t *testing.T) {
	from, to := testutil.NewBase(t), testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, from, 0)
	require.NoError(t, bev.TriggerEvent(libevent.EventTimeout))
	require.ErrorIs(t, bev.SetBase(to), syscall.EBUSY)

	var inClosure error
	require.NoError(t, bev.SetCallbacks(nil, nil, func(bev *libevent.BufferEvent, _ libevent.Events) {
		inClosure = bev.SetBase(to)
	}))
	testutil.Dispatch(t, from)
	assert.ErrorIs(t, inClosure, syscall.EBUSY)

	cb, err := bev.Input().AddCallback(func(b *libevent.Buffer, added, _ int) {
		assert.Equal(t, 1, added)
		inClosure = bev.SetBase(to)
	})
	require.NoError(t, err)
	require.NoError(t, bev.Input().Prepend([]byte("x")))
	inClosure = nil
	assert.ErrorIs(t, bev.SetBase(to), syscall.EBUSY, "a buffer callback is due")
	testutil.Dispatch(t, from)
	assert.ErrorIs(t, inClosure, syscall.EBUSY)
	require.NoError(t, bev.SetBase(to))
	cb.Remove()
}

// A connection goes to and fro between two running loops while others use it.
func TestSetBaseWhileLoopsRun(t *testing.T) {
	const rounds, message = 50, "there and back again"
	bases := []*libevent.Base{testutil.NewBase(t), testutil.NewBase(t)}
	for _, base := range bases {
		testutil.Background(t, base)
		testutil.OnLoop(t, base, func() {}) // it runs
	}
	nowhere := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, bases[0], 0)
	echo(t, bev, func() {})

	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // elsewhere it is refused, or too early; it never does half
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				assert.Error(t, bev.SetBase(nowhere))
				assert.NotNil(t, bev.Base())
				assert.Equal(t, rd|wr, bev.Enabled())
				runtime.Gosched()
			}
		}
	}()
	got := testutil.ReadAll(peer)
	for i := range rounds {
		_, err := io.WriteString(peer, message)
		require.NoError(t, err)
		setBase(t, bev, bases[(i+1)%2])
	}
	close(stop)
	testutil.Receive(t, stopped)
	require.NoError(t, peer.CloseWrite())
	assert.Equal(t, strings.Repeat(message, rounds), string(testutil.Receive(t, got)))
}

// Free and SetBase at a time: one of them is first.
func TestSetBaseAgainstFree(t *testing.T) {
	a, b := testutil.NewBase(t), testutil.NewBase(t)
	testutil.Background(t, a)
	testutil.Background(t, b)
	for range 100 {
		bev, _ := testutil.NewSocket(t, a, 0)
		echo(t, bev, func() {})
		freed := make(chan struct{})
		go func() { defer close(freed); bev.Free() }()
		testutil.OnLoop(t, a, func() {
			if err := bev.SetBase(b); !errors.Is(err, syscall.EBUSY) && !errors.Is(err, libevent.ErrClosed) {
				assert.NoError(t, err)
			}
		})
		testutil.Receive(t, freed)
	}
}

func TestReplaceFD(t *testing.T) {
	base := testutil.NewBase(t)
	bev, old := testutil.NewSocket(t, base, 0)
	closed := testutil.ReadAll(old)
	fd, peer := testutil.TCPPair(t)
	require.NoError(t, bev.ReplaceFD(fd))
	assert.Empty(t, testutil.Receive(t, closed))
	assert.Equal(t, fd, bev.FD())
	require.NoError(t, bev.ReplaceFD(fd), "the same stays open")
	_, err := bev.WriteString("on the new one")
	require.NoError(t, err)
	got := testutil.ReadAll(peer)
	require.NoError(t, bev.FreeAfterFlush(testutil.Patience))
	testutil.Dispatch(t, base)
	assert.Equal(t, "on the new one", string(testutil.Receive(t, got)))

	assert.ErrorIs(t, bev.ReplaceFD(-1), libevent.ErrClosed)
	none, err := base.NewSocket(-1, 0)
	require.NoError(t, err)
	assert.ErrorIs(t, none.ReplaceFD(-2), syscall.EINVAL)
	require.NoError(t, none.ReplaceFD(-1))
	assert.Equal(t, -1, none.FD())
	a, _ := testutil.NewPair(t, base)
	assert.ErrorIs(t, a.ReplaceFD(-1), syscall.EINVAL)
}
