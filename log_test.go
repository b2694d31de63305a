// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// countingHandler counts records and keeps the last.
type countingHandler struct {
	n    atomic.Int64
	last atomic.Pointer[slog.Record]
}

func (h *countingHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *countingHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *countingHandler) WithGroup(string) slog.Handler            { return h }
func (h *countingHandler) Handle(_ context.Context, r slog.Record) error {
	h.last.Store(&r)
	h.n.Add(1)
	return nil
}

func TestSetLogger(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	fds := testutil.OpenFDs(t)
	var h countingHandler
	require.NoError(t, libevent.SetLogger(slog.New(&h)))
	base := testutil.NewBase(t)
	e, err := base.NewEvent(1<<20, rd, func(int, libevent.What) {})
	require.NoError(t, err)
	assert.Error(t, e.Add(-1)) // libevent logs that epoll refuses the descriptor
	if strings.Contains(base.Method(), "poll") {
		testutil.Eventually(t, func() bool { return h.n.Load() == 1 }, "the message arrives")
		assert.Equal(t, slog.LevelWarn, h.last.Load().Level)
		assert.Contains(t, h.last.Load().Message, "1048576")
	}
	for range 1000 { // more messages than the ring holds, faster than they may be read
		assert.Error(t, e.Add(-1))
	}
	require.NoError(t, libevent.SetLogger(slog.New(slog.DiscardHandler)), "another one")
	require.NoError(t, libevent.SetLogger(nil))
	require.NoError(t, libevent.SetLogger(nil), "twice")
	testutil.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines }, "the reader ends")
	e.Free()
	require.NoError(t, base.Free())
	testutil.Eventually(t, func() bool { return testutil.OpenFDs(t) <= fds }, "the pipe is closed")
}
