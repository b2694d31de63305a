package evnet

import (
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-libevent/libevent"
)

// side is what waits for one thing: the reading of a connection, its writing, or the
// accepting of a listener. mu guards the connection or the listener that it is a side of,
// and turn is held from the beginning of a call to its end, so one at a time waits.
//
// Who ends a wait takes waiting away, with mu held, and then sends one token; so each
// wait gets one, and no token stays behind.
type side struct {
	turn sync.Mutex
	mu   *sync.Mutex
	wake chan struct{} // holds one token

	// All of these with mu.
	waiting  bool
	err      error // for good
	deadline time.Time
	expired  bool // at has passed
	timer    *time.Timer
}

func (s *side) init(mu *sync.Mutex) {
	s.mu = mu
	s.wake = make(chan struct{}, 1)
}

// refused is why nothing can be done, or nil. Call with mu.
func (s *side) check() error {
	switch {
	case s.err != nil:
		return s.err
	case s.expired:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// wakeUp ends a wait, if there is one. Call with mu.
func (s *side) wakeUp() {
	if s.waiting {
		s.waiting = false
		s.wake <- struct{}{}
	}
}

// fail ends this side for good, if it has not ended before. Call with mu.
func (s *side) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.wakeUp()
}

// close is fail for all that comes after, whatever was the end before. Call with mu.
func (s *side) close() {
	s.err = net.ErrClosed
	if s.timer != nil {
		s.timer.Stop()
	}
	s.wakeUp()
}

// setDeadline is for any time before, after and during a wait. Call with mu.
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

// tick may come for a deadline that was changed since, or early by the wall's clock.
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

// refuseOnLoop is the error of waiting on the goroutine of the loop that is waited for.
func refuseOnLoop(base *libevent.Base) error {
	if base.OnLoop() {
		return ErrOnLoop
	}
	return nil
}
