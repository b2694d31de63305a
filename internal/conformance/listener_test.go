package conformance_test

import (
	"net"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestConformanceListener(t *testing.T) {
	t.Run("randport", func(t *testing.T) {
		base := testutil.NewBase(t)
		accepted := 0
		count := func(l *libevent.Listener, fd int, _ net.Addr) {
			accepted++
			testutil.Drop(l, fd, nil)
		}
		one, two := testutil.Listen(t, base, count), testutil.Listen(t, base, count)
		assert.NotEqual(t, one.Addr().String(), two.Addr().String())
		assert.NotEqual(t, one.FD(), two.FD())
		assert.Same(t, base, one.Base())
		testutil.Dial(t, one)
		testutil.Dial(t, one)
		testutil.Dial(t, two)
		for accepted < 3 {
			require.NoError(t, base.Loop(libevent.LoopOnce))
		}
		require.NoError(t, one.Disable())
		require.NoError(t, two.Disable())
		testutil.Dispatch(t, base)
	})
	t.Run("error", func(t *testing.T) {
		// A socket that listens no more: accept fails.
		base := testutil.NewBase(t)
		l := testutil.Listen(t, base, testutil.Drop)
		errs := 0
		l.SetErrorFunc(func(l *libevent.Listener, err error) {
			errs++
			assert.ErrorIs(t, err, syscall.EINVAL)
			assert.NoError(t, l.Disable())
		})
		require.NoError(t, syscall.Shutdown(l.FD(), syscall.SHUT_RD))
		testutil.Dispatch(t, base)
		assert.Equal(t, 1, errs)
	})
	t.Run("close_accepted_fd", func(t *testing.T) {
		base := testutil.NewBase(t)
		l := testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
			testutil.Drop(l, fd, nil)
			l.Free()
		})
		testutil.Dial(t, l)
		testutil.Dispatch(t, base)
	})
	t.Run("immediate_close", func(t *testing.T) {
		base := testutil.NewBase(t)
		accepted := 0
		l := testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
			accepted++
			testutil.Drop(l, fd, nil)
			assert.NoError(t, l.Disable())
		})
		testutil.Dial(t, l)
		testutil.Dial(t, l)
		testutil.Dispatch(t, base)
		assert.Equal(t, 1, accepted)
	})
	t.Run("disable_in_thread", func(t *testing.T) {
		base := testutil.NewBase(t)
		l := testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
			testutil.Drop(l, fd, nil)
			done := make(chan error)
			go func() { done <- l.Disable() }()
			assert.NoError(t, <-done)
		})
		testutil.Dial(t, l)
		testutil.Dispatch(t, base)
	})
	t.Run("disable_in_thread_error", func(t *testing.T) {
		base := testutil.NewBase(t)
		l := testutil.Listen(t, base, testutil.Drop)
		errs := 0
		l.SetErrorFunc(func(l *libevent.Listener, err error) {
			errs++
			done := make(chan error)
			go func() { done <- l.Disable() }()
			assert.NoError(t, <-done)
		})
		require.NoError(t, syscall.Shutdown(l.FD(), syscall.SHUT_RD))
		testutil.Dispatch(t, base)
		assert.Equal(t, 1, errs)
	})
	t.Run("reuseport_on_unix_socket", func(t *testing.T) {
		// libevent 2.2 refuses it; here the option means nothing on such a socket.
		base := testutil.NewBase(t)
		path := filepath.Join(t.TempDir(), "sock")
		l, err := base.Listen("unix", path, libevent.ListenOptions{ReusePort: true}, testutil.Drop)
		require.NoError(t, err)
		l.Free()
	})
}
