// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-libevent/libevent"
)

// side is one thing that calls wait for: reading from a connection, writing to it, or
// accepting from a listener. mu is the mutex of that connection or listener. A call holds
// turn from its beginning to its end, so one call at a time waits.
//
// To end a wait, wakeUp sets waiting to false, with mu held, and opens the gate. So the gate
// opens exactly once for each wait, and is not left open for the next wait.
type side struct {
	turn sync.Mutex
	mu   *sync.Mutex
	base func() *libevent.Base // whose loop ends the waits
	gate gate

	// mu guards all of these.
	waiting  bool
	err      error     // why this side has ended for good
	deadline time.Time // by the real clock
	expired  bool      // the deadline has passed
	timer    alarm
	onTime   func() // onTimer, made once
}

func (s *side) init(mu *sync.Mutex, base func() *libevent.Base) {
	s.mu, s.base = mu, base
	s.gate.init()
	s.onTime = s.onTimer
}

// check returns the error of a call that cannot even begin, or nil. Call with mu.
func (s *side) check() error {
	switch {
	case s.err != nil:
		return s.err
	case s.expired:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// wakeUp ends a wait, if one is under way. Call with mu.
func (s *side) wakeUp() {
	if s.waiting {
		s.waiting = false
		s.gate.open()
	}
}

// fail ends this side for good. An earlier error stays. Call with mu.
func (s *side) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.wakeUp()
}

// close ends this side with net.ErrClosed, which replaces an earlier error. Call with mu.
func (s *side) close() {
	s.err = net.ErrClosed
	if s.timer != nil {
		s.timer.Stop()
	}
	s.wakeUp()
}

// setDeadline also ends a wait that goes on, if the deadline has passed. Call with mu.
func (s *side) setDeadline(t time.Time) {
	s.deadline = time.Time{}
	s.expired = false
	if t.IsZero() {
		if s.timer != nil {
			s.timer.Stop()
		}
		return
	}
	left := time.Until(t)
	now, _ := realNow()
	s.deadline = now.Add(left)
	switch {
	case left <= 0:
		if s.timer != nil {
			s.timer.Stop()
		}
		s.expired = true
		s.wakeUp()
	case s.timer == nil:
		s.timer = afterFunc(s.base(), left, s.onTime)
	default:
		s.timer = restart(s.timer, s.base(), left, s.onTime)
	}
}

// onTimer may run for a deadline that was changed since.
func (s *side) onTimer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deadline.IsZero() || s.expired || s.err == net.ErrClosed {
		return
	}
	now, _ := realNow()
	if left := s.deadline.Sub(now); left > 0 {
		s.timer.Reset(left)
		return
	}
	s.expired = true
	s.wakeUp()
}

// refuseOnLoop returns ErrOnLoop on the goroutine of a base's loop.
func refuseOnLoop(base *libevent.Base) error {
	if base.OnLoop() {
		return ErrOnLoop
	}
	return nil
}
