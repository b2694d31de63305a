// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// told collects what the debug mode tells.
type told struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *told) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *told) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// debugged makes a base in debug mode, and what collects its messages. The caller frees the base.
func debugged(t *testing.T, cfg libevent.Config) (*libevent.Base, *told) {
	t.Helper()
	l := &told{}
	require.NoError(t, libevent.SetLogger(slog.New(slog.NewTextHandler(l, nil))))
	t.Cleanup(func() { assert.NoError(t, libevent.SetLogger(nil)) })
	base, err := libevent.NewBaseConfig(cfg)
	require.NoError(t, err)
	return base, l
}

func TestDebugTellsOfMistakes(t *testing.T) {
	base, l := debugged(t, libevent.Config{Debug: true})
	bev, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.SetCallbacks(func(*libevent.BufferEvent) {}, nil, nil))
	testutil.Eventually(t, func() bool { return strings.Contains(l.String(), "reading was never enabled") }, "the message")

	again, err := base.NewSocket(bev.FD(), 0)
	require.NoError(t, err)
	assert.Contains(t, l.String(), "two bufferevents use one descriptor")
	again.Free()

	require.NoError(t, bev.Enable(rd))
	require.NoError(t, peer.CloseWrite())
	stop := testutil.Background(t, base)
	testutil.Eventually(t, func() bool { return strings.Contains(l.String(), "no event closure") }, "the message")
	stop()
	assert.Contains(t, l.String(), "made=")
	assert.Contains(t, l.String(), "internal/testutil/bufferevent.go", "where NewSocket was called")
	bev.Free()
	require.NoError(t, base.Free())
}

func TestDebugTellsOfWhatIsLeft(t *testing.T) {
	base, l := debugged(t, libevent.Config{Debug: true})
	_, err := base.NewTimer(func() {})
	require.NoError(t, err)
	freed, err := base.NewTimer(func() {})
	require.NoError(t, err)
	freed.Free()
	require.NoError(t, base.Free())
	assert.Equal(t, 1, strings.Count(l.String(), "the program has not freed"))
	assert.Contains(t, l.String(), "kind=Event")
	assert.Contains(t, l.String(), "debugmode_test.go")
}

// The message about a slow closure comes while the closure runs, and has its stack.
func TestDebugTellsOfSlowClosures(t *testing.T) {
	base, l := debugged(t, libevent.Config{Debug: true, SlowClosure: 1})
	defer func() { assert.NoError(t, base.Free()) }()
	slow := func() {
		testutil.Eventually(t, func() bool { return strings.Contains(l.String(), "running for long") }, "the message")
	}
	require.NoError(t, base.Post(slow))
	testutil.Dispatch(t, base)
	assert.Contains(t, l.String(), "TestDebugTellsOfSlowClosures")
}

func TestDebugByTheEnvironment(t *testing.T) {
	t.Setenv("LIBEVENT_GO_DEBUG", "1")
	base, l := debugged(t, libevent.Config{})
	_, err := base.NewTimer(func() {})
	require.NoError(t, err)
	require.NoError(t, base.Free())
	assert.Contains(t, l.String(), "the program has not freed")
}

// A program without mistakes is told nothing.
func TestDebugIsSilent(t *testing.T) {
	base, l := debugged(t, libevent.Config{Debug: true, SlowClosure: testutil.Patience})
	s, err := base.Serve("tcp", "127.0.0.1:0", libevent.ServeOptions{}, echoHandler)
	require.NoError(t, err)
	stop := testutil.Background(t, base)
	conn := dialServer(t, s)
	assert.Equal(t, "hello", testutil.Say(t, conn, "hello"))
	require.NoError(t, conn.CloseWrite())
	_, err = io.ReadAll(conn)
	require.NoError(t, err)
	require.NoError(t, s.Shutdown(patient(t)))
	stop()
	require.NoError(t, base.Free())
	assert.Empty(t, l.String())
}
