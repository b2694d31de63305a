// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"fmt"
	"io"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestDebugTellsOfMistakes(t *testing.T) {
	base, l := testutil.Debugged(t, libevent.Config{Debug: true})
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
	base, l := testutil.Debugged(t, libevent.Config{Debug: true})
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

// What a closure of the program has made is known by the line in the closure, and a connection that
// Serve has made by the line that calls Serve, on each loop of a Group.
func TestDebugNamesTheProgram(t *testing.T) {
	l := testutil.NewLog(t)
	g, err := libevent.NewGroup(2, libevent.Config{Debug: true})
	require.NoError(t, err)
	served := make(chan struct{})
	_, _, line, _ := runtime.Caller(0)
	s, err := g.Serve("tcp", "127.0.0.1:0", libevent.ServeOptions{}, func(c *libevent.BufferEvent) libevent.Handler {
		_, err := c.Base().NewTimer(func() {})
		assert.NoError(t, err)
		served <- struct{}{}
		return libevent.Handler{}
	})
	require.NoError(t, err)
	stop := runGroup(t, g)
	for range 2 {
		dialServer(t, s)
		testutil.Receive(t, served)
	}
	_ = stop()
	require.NoError(t, g.Free())
	for kind, place := range map[string]string{
		"Listener":    fmt.Sprintf("\\S*/debugmode_test.go:%d\n", line+1),
		"BufferEvent": fmt.Sprintf(`"accepted by the listener of \S*/debugmode_test.go:%d"`, line+1),
		"Event":       fmt.Sprintf("\\S*/debugmode_test.go:%d\n", line+2),
	} {
		assert.Regexp(t, "kind="+kind+" made="+place, l)
		assert.NotContains(t, regexp.MustCompile("kind="+kind+" made="+place).ReplaceAllString(l.String(), ""), "kind="+kind)
	}
}

// The message about a slow closure comes while the closure runs, and has its stack.
func TestDebugTellsOfSlowClosures(t *testing.T) {
	base, l := testutil.Debugged(t, libevent.Config{Debug: true, SlowClosure: 1})
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
	base, l := testutil.Debugged(t, libevent.Config{})
	_, err := base.NewTimer(func() {})
	require.NoError(t, err)
	require.NoError(t, base.Free())
	assert.Contains(t, l.String(), "the program has not freed")
}

// A program without mistakes is told nothing.
func TestDebugIsSilent(t *testing.T) {
	base, l := testutil.Debugged(t, libevent.Config{Debug: true, SlowClosure: testutil.Patience})
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
