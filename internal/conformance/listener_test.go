// SPDX-License-Identifier: BSD-3-Clause

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
	for name, test := range map[string]func(t *testing.T, base *libevent.Base){
		"randport":                 conformRandomPort,
		"error":                    conformAcceptError,
		"close_accepted_fd":        conformFreeInAccept,
		"immediate_close":          conformDisableInAccept,
		"disable_in_thread":        conformDisableInThread,
		"disable_in_thread_error":  conformDisableInThreadOnError,
		"reuseport_on_unix_socket": conformReusePortOnUnixSocket,
	} {
		t.Run(name, func(t *testing.T) { test(t, testutil.NewBase(t)) })
	}
}

func conformRandomPort(t *testing.T, base *libevent.Base) {
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
}

// failingListener makes a listener whose socket does not listen any more, so that accept
// fails.
func failingListener(t *testing.T, base *libevent.Base) *libevent.Listener {
	t.Helper()
	l := testutil.Listen(t, base, testutil.Drop)
	require.NoError(t, syscall.Shutdown(l.FD(), syscall.SHUT_RD))
	return l
}

func conformAcceptError(t *testing.T, base *libevent.Base) {
	errs := 0
	failingListener(t, base).SetErrorFunc(func(l *libevent.Listener, err error) {
		errs++
		assert.ErrorIs(t, err, syscall.EINVAL)
		assert.NoError(t, l.Disable())
	})
	testutil.Dispatch(t, base)
	assert.Equal(t, 1, errs)
}

func conformFreeInAccept(t *testing.T, base *libevent.Base) {
	l := testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
		testutil.Drop(l, fd, nil)
		l.Free()
	})
	testutil.Dial(t, l)
	testutil.Dispatch(t, base)
}

func conformDisableInAccept(t *testing.T, base *libevent.Base) {
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
}

// disableElsewhere disables a listener on another goroutine and waits for that.
func disableElsewhere(t *testing.T, l *libevent.Listener) {
	done := make(chan error)
	go func() { done <- l.Disable() }()
	assert.NoError(t, <-done)
}

func conformDisableInThread(t *testing.T, base *libevent.Base) {
	l := testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
		testutil.Drop(l, fd, nil)
		disableElsewhere(t, l)
	})
	testutil.Dial(t, l)
	testutil.Dispatch(t, base)
}

func conformDisableInThreadOnError(t *testing.T, base *libevent.Base) {
	errs := 0
	failingListener(t, base).SetErrorFunc(func(l *libevent.Listener, err error) {
		errs++
		disableElsewhere(t, l)
	})
	testutil.Dispatch(t, base)
	assert.Equal(t, 1, errs)
}

// libevent 2.2 refuses ReusePort on such a socket. Here the option has no effect.
func conformReusePortOnUnixSocket(t *testing.T, base *libevent.Base) {
	path := filepath.Join(t.TempDir(), "sock")
	l, err := base.Listen("unix", path, libevent.ListenOptions{ReusePort: true}, testutil.Drop)
	require.NoError(t, err)
	l.Free()
}
