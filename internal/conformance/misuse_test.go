// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// misuses are what makes libevent abort, crash or hang. The binding returns an error, or
// does what the caller wants. docs/coverage.md has the list.
type misuses map[string]func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent)

// run tests each misuse on a base and a bufferevent of its own.
func (m misuses) run(t *testing.T) {
	t.Helper()
	for name, test := range m {
		t.Run(name, func(t *testing.T) {
			base, err := libevent.NewBase()
			require.NoError(t, err)
			defer func() { assert.NoError(t, base.Free()) }()
			bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
			require.NoError(t, err)
			test(t, base, bev)
		})
	}
}

var someLimit = libevent.RateLimit{ReadRate: 1000, WriteRate: 1000}

func TestConformanceMisuseOfRateLimits(t *testing.T) {
	misuses{
		"rate_limit_group_free with members": func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent) {
			group, err := base.NewRateLimitGroup(someLimit)
			require.NoError(t, err)
			require.NoError(t, group.Add(bev))
			group.Free()
			assert.ErrorIs(t, group.Add(bev), libevent.ErrClosed)
			assert.NoError(t, bev.Enable(rd), "the member goes on")
		},
		"rate_limit_group_free before a freed member is finalized": func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent) {
			group, err := base.NewRateLimitGroup(someLimit)
			require.NoError(t, err)
			require.NoError(t, group.Add(bev))
			bev.Free()
			group.Free()
		},
		"add_to_rate_limit_group of NULL": func(t *testing.T, base *libevent.Base, _ *libevent.BufferEvent) {
			group, err := base.NewRateLimitGroup(someLimit)
			require.NoError(t, err)
			assert.ErrorIs(t, group.Add(nil), syscall.EINVAL)
			assert.ErrorIs(t, group.Remove(nil), syscall.EINVAL)
			group.Free()
		},
		"decrement_limit without a limit": func(t *testing.T, _ *libevent.Base, bev *libevent.BufferEvent) {
			assert.ErrorIs(t, bev.TakeReadLimit(1), syscall.EINVAL)
			assert.ErrorIs(t, bev.TakeWriteLimit(1), syscall.EINVAL)
		},
		"ticks of less than a millisecond": func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent) {
			for _, tick := range []time.Duration{1, 999 * time.Microsecond, -time.Second} {
				l := someLimit
				l.Tick = tick
				assert.ErrorIs(t, bev.SetRateLimit(&l), syscall.EINVAL)
				_, err := base.NewRateLimitGroup(l)
				assert.ErrorIs(t, err, syscall.EINVAL)
			}
		},
	}.run(t)
}

func TestConformanceMisuseOfBufferCallbacks(t *testing.T) {
	misuses{
		"evbuffer_add_cb of NULL": func(t *testing.T, _ *libevent.Base, bev *libevent.BufferEvent) {
			for _, b := range []*libevent.Buffer{testutil.NewBuffer(t, ""), bev.Input()} {
				_, err := b.AddCallback(nil)
				assert.ErrorIs(t, err, syscall.EINVAL)
				assert.NoError(t, b.Prepend([]byte("a change")))
			}
		},
		"evbuffer_remove_cb_entry twice": func(t *testing.T, _ *libevent.Base, bev *libevent.BufferEvent) {
			for _, b := range []*libevent.Buffer{testutil.NewBuffer(t, ""), bev.Input()} {
				cb, err := b.AddCallback(func(*libevent.Buffer, int, int) {})
				require.NoError(t, err)
				cb.Remove()
				cb.Remove()
				assert.ErrorIs(t, cb.Enable(), libevent.ErrClosed)
			}
		},
		"evbuffer_remove_cb_entry after evbuffer_free": func(t *testing.T, _ *libevent.Base, bev *libevent.BufferEvent) {
			alone, err := libevent.NewBuffer()
			require.NoError(t, err)
			for b, free := range map[*libevent.Buffer]func(){alone: alone.Free, bev.Input(): bev.Free} {
				cb, err := b.AddCallback(func(*libevent.Buffer, int, int) {})
				require.NoError(t, err)
				free()
				cb.Remove()
				assert.ErrorIs(t, cb.Disable(), libevent.ErrClosed)
			}
		},
	}.run(t)
}

func TestConformanceMisuseOfFreedObjects(t *testing.T) {
	misuses{
		"free after event_base_free": func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent) {
			event, err := base.NewTimer(func() {})
			require.NoError(t, err)
			l := testutil.Listen(t, base, testutil.Drop)
			group, err := base.NewRateLimitGroup(someLimit)
			require.NoError(t, err)
			dns := testutil.NewDNSBase(t, base, libevent.DNSConfig{NoSystemConfig: true})
			require.NoError(t, base.Free())
			for _, free := range []func(){bev.Free, event.Free, l.Free, group.Free, dns.Free} {
				free()
			}
			_, err = bev.WriteString("x")
			assert.ErrorIs(t, err, libevent.ErrClosed)
			assert.ErrorIs(t, bev.Input().Drain(1), libevent.ErrClosed)
			assert.ErrorIs(t, event.Add(0), libevent.ErrClosed)
			assert.ErrorIs(t, l.Enable(), libevent.ErrClosed)
			assert.ErrorIs(t, group.SetMinShare(1), libevent.ErrClosed)
			_, err = base.NewSocket(-1, 0)
			assert.ErrorIs(t, err, libevent.ErrClosed)
			assert.NoError(t, base.Free(), "twice")
		},
		"use of what is finalized": func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent) {
			bev.Free()
			testutil.Dispatch(t, base)
			require.Zero(t, base.Stats().BufferEvents)
			assert.ErrorIs(t, bev.Enable(rd), libevent.ErrClosed)
			assert.ErrorIs(t, bev.SetFD(-1), libevent.ErrClosed)
			assert.ErrorIs(t, bev.Trigger(rd, 0), libevent.ErrClosed)
			assert.ErrorIs(t, bev.Output().Add([]byte("x")), libevent.ErrClosed)
			assert.Equal(t, -1, bev.FD())
			assert.Nil(t, bev.Pointer())
			bev.Free()
		},
	}.run(t)
}

func TestConformanceMisuseOfLoops(t *testing.T) {
	misuses{
		"event_base_free while its loop runs": func(t *testing.T, base *libevent.Base, _ *libevent.BufferEvent) {
			var inside error
			require.NoError(t, base.Post(func() { inside = base.Free() }))
			testutil.Dispatch(t, base)
			assert.ErrorIs(t, inside, libevent.ErrRunning)
		},
		"event_base_loop inside a callback": func(t *testing.T, base *libevent.Base, _ *libevent.BufferEvent) {
			var inside error
			require.NoError(t, base.Post(func() { inside = base.Dispatch() }))
			testutil.Dispatch(t, base)
			assert.ErrorIs(t, inside, libevent.ErrRunning)
		},
		"listener free and disable on another thread": func(t *testing.T, base *libevent.Base, _ *libevent.BufferEvent) {
			entered, leave := make(chan struct{}), make(chan struct{})
			l := testutil.Listen(t, base, func(_ *libevent.Listener, fd int, _ net.Addr) {
				assert.NoError(t, syscall.Close(fd))
				close(entered)
				<-leave
			})
			stop := testutil.Background(t, base)
			conn, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			testutil.Receive(t, entered)
			assert.NoError(t, l.Disable())
			assert.NoError(t, l.Enable())
			l.Free()
			close(leave)
			stop()
		},
		"a panic in a callback": func(t *testing.T, base *libevent.Base, _ *libevent.BufferEvent) {
			require.NoError(t, base.Post(func() { panic("on purpose") }))
			assert.IsType(t, &libevent.PanicError{}, testutil.Raises(func() { _ = base.Dispatch() }))
			testutil.Dispatch(t, base) // libevent alone would believe that its loop still runs
		},
	}.run(t)
}

func TestConformanceMisuseOfArguments(t *testing.T) {
	misuses{
		"a file in place of a socket": func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent) {
			f := testutil.NewFile(t, nil)
			_, err := base.NewSocket(int(f.Fd()), 0)
			assert.ErrorIs(t, err, syscall.EPERM)
			assert.ErrorIs(t, bev.SetFD(int(f.Fd())), syscall.EPERM)
		},
		"priorities that there are not": func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent) {
			event, err := base.NewTimer(func() {})
			require.NoError(t, err)
			for _, p := range []int{-1, 1, 1 << 20} {
				assert.ErrorIs(t, bev.SetPriority(p), syscall.EINVAL)
				assert.ErrorIs(t, event.SetPriority(p), syscall.EINVAL)
			}
			event.Free()
		},
	}.run(t)
}
