// SPDX-License-Identifier: BSD-3-Clause

package hiredis_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/examples/redis/hiredis"
	"github.com/go-libevent/libevent/examples/redis/internal/redistest"
)

// patience bounds every wait of the tests. A passing test never waits that long.
const patience = 30 * time.Second

// TestMain fails the run when a test has left a client behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if n := hiredis.Live(); n != 0 {
		fmt.Printf("FAIL: %d clients left behind\n", n)
		code = 1
	}
	os.Exit(code)
}

func newBase(t testing.TB) *libevent.Base {
	t.Helper()
	base, err := libevent.NewBase()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, base.Free()) })
	return base
}

// dispatch runs the loop until nothing is left on it, so until all clients have ended. If that
// takes too long, the test fails.
func dispatch(t testing.TB, base *libevent.Base) {
	t.Helper()
	watchdog := time.AfterFunc(patience, func() {
		t.Error("the loop does not end")
		_ = base.LoopBreak()
	})
	defer watchdog.Stop()
	require.NoError(t, base.Dispatch())
}

// session is a client, its base, and the errors with which it ended.
type session struct {
	*hiredis.Client
	base  *libevent.Base
	ends  []error
	calls int
}

func dial(t testing.TB, base *libevent.Base, addr string) *session {
	t.Helper()
	s := &session{base: base}
	var err error
	s.Client, err = hiredis.Dial(base, addr, nil, func(err error) { s.ends = append(s.ends, err) })
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// answer is what a closure got.
type answer struct {
	value any
	err   error
}

// do sends a command and returns its answer, which the loop fills in.
func (s *session) do(t testing.TB, args ...string) *answer {
	t.Helper()
	a := &answer{err: errNothingYet}
	require.NoError(t, s.Do(func(value any, err error) {
		assert.ErrorIs(t, a.err, errNothingYet, "one reply only")
		*a = answer{value, err}
		s.calls++
	}, args...))
	return a
}

var errNothingYet = fmt.Errorf("no reply yet")

// finish runs the loop until all replies have come and the client has ended.
func (s *session) finish(t testing.TB) {
	t.Helper()
	require.NoError(t, s.Disconnect())
	dispatch(t, s.base)
	assert.Equal(t, []error{nil}, s.ends)
}

// eachWay runs a test over TCP and over a Unix socket.
func eachWay(t *testing.T, test func(t *testing.T, server *redistest.Server, addr string)) {
	t.Run("tcp", func(t *testing.T) { s := redistest.Start(t); test(t, s, s.TCP) })
	t.Run("unix", func(t *testing.T) { s := redistest.Start(t); test(t, s, s.Unix) })
}
