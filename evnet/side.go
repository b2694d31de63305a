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
// To end a wait, wakeUp sets waiting to false, with mu held, and sends one token. So each
// wait gets exactly one token, and no token is left for the next wait.
type side struct {
	turn sync.Mutex
	mu   *sync.Mutex
	wake chan struct{} // holds one token

	// mu guards all of these.
	waiting  bool
	err      error // why this side has ended for good
	deadline time.Time
	expired  bool // the deadline has passed
	timer    *time.Timer
}

func (s *side) init(mu *sync.Mutex) {
	s.mu = mu
	s.wake = make(chan struct{}, 1)
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
		s.wake <- struct{}{}
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
	s.deadline = t
	s.expired = false
	left := time.Until(t)
	switch {
	case t.IsZero():
		if s.timer != nil {
			s.timer.Stop()
		}
	case left <= 0:
		if s.timer != nil {
			s.timer.Stop()
		}
		s.expired = true
		s.wakeUp()
	case s.timer == nil:
		s.timer = time.AfterFunc(left, s.onTimer)
	default:
		s.timer.Reset(left)
	}
}

// onTimer may run for a deadline that was changed since, or too early by the wall clock.
func (s *side) onTimer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deadline.IsZero() || s.expired || s.err == net.ErrClosed {
		return
	}
	if left := time.Until(s.deadline); left > 0 {
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
