// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"sync"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

// gate lets one wait through for each open.
//
// A channel, a timer and a sync.Cond belong to the bubble of package testing/synctest in which
// a goroutine made them or waits at them. A loop outside of the bubble, which may not touch
// them, has to end the wait. So a gate that is made in a bubble is a mutex. Elsewhere it is a
// channel, because a goroutine that waits for a mutex spins for some microseconds first.
type gate struct {
	opened chan struct{} // nil in a bubble
	locked sync.Mutex
}

func (g *gate) init() {
	if _, bubble := realNow(); bubble {
		g.locked.Lock()
	} else {
		g.opened = make(chan struct{}, 1)
	}
}

func (g *gate) wait() {
	if g.opened != nil {
		<-g.opened
	} else {
		g.locked.Lock()
	}
}

func (g *gate) open() {
	if g.opened != nil {
		g.opened <- struct{}{}
	} else {
		g.locked.Unlock()
	}
}

// alarm calls a function when a time has passed. Stop need not be in time. After Stop, Reset
// starts the alarm again.
type alarm interface {
	Reset(d time.Duration) bool
	Stop() bool
}

// afterFunc is time.AfterFunc for a call that waits for a loop. The clock of a bubble stands
// still during such a wait, as it does for package net. So in a bubble the alarm is a timer of
// libevent, which goes by the real clock, but only while the loop runs.
func afterFunc(base *libevent.Base, d time.Duration, fn func()) alarm {
	if _, bubble := realNow(); !bubble {
		return time.AfterFunc(d, fn)
	}
	a := &loopAlarm{base: base, fn: fn}
	a.Reset(d)
	return a
}

// restart starts an alarm again, or returns one to be used in its place. A bubble can stop a
// timer of package time from outside of the bubble, but would start it by the bubble's clock.
func restart(a alarm, base *libevent.Base, d time.Duration, fn func()) alarm {
	if _, bubble := realNow(); bubble {
		if _, ok := a.(*time.Timer); ok {
			a.Stop()
			return afterFunc(base, d, fn)
		}
	}
	a.Reset(d)
	return a
}

// realNow returns the time by the real clock, and whether the caller is in a bubble. In a
// bubble time.Now has no monotonic reading.
func realNow() (now time.Time, bubble bool) {
	now = time.Now()
	if now != now.Round(0) {
		return now, false
	}
	var tv syscall.Timeval
	_ = syscall.Gettimeofday(&tv)
	return time.Unix(tv.Unix()), true
}

// loopAlarm is an alarm that is a timer of libevent.
type loopAlarm struct {
	base  *libevent.Base
	fn    func()
	event *libevent.Event
}

// Reset does nothing when the base is freed, because all waits have ended then.
func (a *loopAlarm) Reset(d time.Duration) bool {
	a.Stop()
	if event, err := a.base.NewTimer(a.fn); err == nil {
		a.event = event
		_ = event.Add(d)
	}
	return false
}

func (a *loopAlarm) Stop() bool {
	if a.event != nil {
		a.event.Free()
	}
	return false
}
