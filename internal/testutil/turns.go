// SPDX-License-Identifier: BSD-3-Clause

package testutil

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
)

// Turns counts what is done in each turn of a loop: between two times that the loop polls.
// So it tells whether the loop is starved, no matter how fast the machine is. Only the
// loop's goroutine may use it while the loop runs.
type Turns struct {
	Each func() // called in each turn, or nil

	base    *libevent.Base
	allowed int // in one turn
	left    int // turns in which something is done
	done    int // in this turn
	most    int // in one turn
}

// CountTurns counts for a base whose loop does not run yet. allowed is the most that may be
// done in one turn.
func CountTurns(base *libevent.Base, allowed int) *Turns {
	return &Turns{base: base, allowed: allowed, left: 200}
}

// Did says that n more were done. A loop that is starved is broken out of.
func (c *Turns) Did(n int) {
	if c.done += n; c.done > 100*c.allowed {
		c.left = 0
		_ = c.base.LoopBreak()
	}
}

// Over says whether the turns are over. A function that would go on for ever must then end.
func (c *Turns) Over() bool { return c.left <= 0 }

// Run runs the loop until something was done in some turns, and fails the test if too much was
// done in one of them. It logs how late a timer of 10 ms has come.
func (c *Turns) Run(t testing.TB) {
	t.Helper()
	var turn *libevent.Event
	turn, err := c.base.NewTimer(func() {
		if c.done > 0 {
			c.left--
		}
		c.most, c.done = max(c.most, c.done), 0
		if c.Over() {
			assert.NoError(t, c.base.LoopBreak())
			return
		}
		if c.Each != nil {
			c.Each()
		}
		assert.NoError(t, turn.Add(0))
	})
	require.NoError(t, err)
	require.NoError(t, turn.Add(0))

	const tick = 10 * time.Millisecond
	var late time.Duration
	due := time.Now().Add(tick)
	timer, err := c.base.NewEvent(-1, libevent.EvPersist, func(int, libevent.What) {
		late = max(late, time.Since(due))
		due = time.Now().Add(tick)
	})
	require.NoError(t, err)
	require.NoError(t, timer.Add(tick))

	Dispatch(t, c.base)
	turn.Free()
	timer.Free()
	c.most = max(c.most, c.done)
	t.Logf("%d in a turn, a timer came %v late", c.most, max(late, time.Since(due)))
	assert.Positive(t, c.most)
	assert.LessOrEqual(t, c.most, c.allowed, "the loop is starved")
}
