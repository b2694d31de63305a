// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include "native.h"
*/
import "C"

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Event calls a closure on the loop's goroutine when a descriptor is ready, when a time has
// passed, when a signal comes, or when the program calls Active. An event waits only after
// Add. Its methods are safe for concurrent use unless their doc says otherwise.
type Event struct {
	object
	c  *C.struct_glev_event
	fn func(fd int, what What)

	mu     sync.Mutex   // see lock
	signal *signalWatch // of a signal, or nil
}

// NewEvent makes an event for a descriptor. what has EvRead, EvWrite or both, and may
// have EvPersist (stay added after firing) and EvET. The descriptor stays the caller's, who
// closes it after Free or Del. With fd -1, what has neither EvRead nor EvWrite; the event is
// then a timer, or fires only when the program calls Active. EvPersist makes a timer repeat.
// Wraps event_new.
func (b *Base) NewEvent(fd int, what What, fn func(fd int, what What)) (*Event, error) {
	const op = "event_new"
	switch {
	case fn == nil:
		return nil, badArgument(op, "fn is nil")
	case what&EvSignal != 0:
		return nil, badArgument(op, "what has EV_SIGNAL: use NewSignal")
	case what&^(EvTimeout|EvRead|EvWrite|EvPersist|EvET) != 0:
		return nil, badArgument(op, "what: unknown bits in %v", what)
	case fd < -1 || fd == -1 && what&(EvRead|EvWrite) != 0:
		return nil, badArgument(op, "fd is %d", fd)
	}
	return b.newEvent(op, fd, what, fn, nil)
}

// NewTimer makes an event that calls fn once for each Add, when its time has passed.
// Wraps evtimer_new.
func (b *Base) NewTimer(fn func()) (*Event, error) {
	const op = "evtimer_new"
	if fn == nil {
		return nil, badArgument(op, "fn is nil")
	}
	return b.newEvent(op, -1, 0, func(int, What) { fn() }, nil)
}

// After makes a timer that calls fn once, on the loop's goroutine, when d has passed. The
// timer is freed then. Free before that cancels the call. A negative d is refused.
// Wraps evtimer_new and evtimer_add.
func (b *Base) After(d time.Duration, fn func()) (*Event, error) {
	var e *Event
	return b.timed(d, 0, fn, func(int, What) {
		defer e.Free()
		fn()
	}, &e)
}

// Every makes a timer that calls fn, on the loop's goroutine, each time d has passed, until the
// timer is freed. If the loop is late, calls are left out. A d of 0 or less is refused.
// Wraps event_new and event_add.
func (b *Base) Every(d time.Duration, fn func()) (*Event, error) {
	var e *Event
	return b.timed(d, EvPersist, fn, func(int, What) { fn() }, &e)
}

func (b *Base) timed(d time.Duration, what What, fn func(), fired func(int, What), e **Event) (*Event, error) {
	const op = "evtimer_new"
	if fn == nil {
		return nil, badArgument(op, "fn is nil")
	}
	if d < 0 || d == 0 && what != 0 {
		return nil, badArgument(op, "d is %v", d)
	}
	timer, err := b.newEvent(op, -1, what, fired, nil)
	if err != nil {
		return nil, err
	}
	*e = timer // before the loop may call fired
	if err := timer.Add(d); err != nil {
		timer.Free()
		return nil, err
	}
	return timer, nil
}

// NewSignal makes an event that calls fn on the loop's goroutine each time the process
// gets sig, from Add to Del. Signals that come faster than the loop turns are merged.
// It uses os/signal, because a signal handler of libevent's own would corrupt Go's
// stacks.
// Stands for evsignal_new.
func (b *Base) NewSignal(sig os.Signal, fn func(os.Signal)) (*Event, error) {
	const op = "evsignal_new"
	if fn == nil {
		return nil, badArgument(op, "fn is nil")
	}
	if s, ok := sig.(syscall.Signal); !ok || s <= 0 {
		return nil, badArgument(op, "sig is %v", sig)
	}
	return b.newEvent(op, -1, EvPersist, func(int, What) { fn(sig) }, &signalWatch{sig: sig})
}

func (b *Base) newEvent(op string, fd int, what What, fn func(int, What), sig *signalWatch) (*Event, error) {
	if err := b.enterAlive(op); err != nil {
		return nil, err
	}
	defer b.leave()
	e := &Event{object: object{base: b, kind: kindEvent}, fn: fn, signal: sig}
	e.handle = newHandle(e)
	e.c = C.glev_event_new(b.c, C.int(fd), C.short(what), e.handle.forC())
	if e.c == nil {
		e.handle.release()
		return nil, &Error{Op: op, Err: syscall.ENOMEM}
	}
	e.native = unsafe.Pointer(e.c.ev)
	e.free = func() { C.glev_event_free(e.c) }
	b.register(&e.object, e)
	return e, nil
}

// Add makes the event wait. If nothing else happens before, the event fires with EvTimeout
// after d, rounded up to microseconds. A negative d means no timeout; an event for a signal
// accepts no other d. To add an event again restarts its timeout.
// Wraps event_add.
func (e *Event) Add(d time.Duration) error {
	const op = "event_add"
	if e.signal != nil && d >= 0 {
		return badArgument(op, "a signal takes no timeout: %v", d)
	}
	if err := e.lock(op); err != nil {
		return err
	}
	defer e.unlock()
	if e.signal != nil {
		e.signal.start(e)
		return nil
	}
	us := int64(-1)
	if d >= 0 {
		us = microseconds(d)
	}
	_, err := result(op, C.glev_event_add(e.c, C.int64_t(us)))
	return err
}

// Del makes the event stop waiting. If Del is called on another goroutine than the loop's,
// and the loop is about to call the closure, the closure may still start.
// Wraps event_del.
func (e *Event) Del() error {
	if err := e.lock("event_del"); err != nil {
		return err
	}
	defer e.unlock()
	e.signal.stop(e)
	_, err := result("event_del", C.int64_t(C.glev_event_del(e.c)))
	return err
}

// Active makes the event fire with what, a set of EvTimeout, EvRead, EvWrite and EvSignal,
// whether the event is added or not. Several calls before the closure runs count as one. If
// many events were made active since the loop last polled, the event fires after the loop
// has polled again.
// Wraps event_active.
func (e *Event) Active(what What) error {
	const op = "event_active"
	if what&(EvTimeout|EvRead|EvWrite|EvSignal) == 0 ||
		what&^(EvTimeout|EvRead|EvWrite|EvSignal) != 0 {
		return badArgument(op, "what is %v, not a set of EV_TIMEOUT, EV_READ, EV_WRITE and EV_SIGNAL", what)
	}
	if err := e.lock(op); err != nil {
		return err
	}
	defer e.unlock()
	C.glev_event_active(e.c, C.short(what))
	return nil
}

// Pending returns which bits of what the event waits for or is due for.
// Wraps event_pending.
func (e *Event) Pending(what What) What {
	if err := e.lock("event_pending"); err != nil {
		return 0
	}
	defer e.unlock()
	return What(C.glev_event_pending(e.c, C.short(what&(EvTimeout|EvRead|EvWrite|EvSignal))))
}

// FD returns the descriptor of the event, or -1 if it has none or is freed.
// Wraps event_get_fd.
func (e *Event) FD() int {
	if err := e.lock("event_get_fd"); err != nil {
		return -1
	}
	defer e.unlock()
	return int(C.event_get_fd(e.c.ev))
}

// Base returns the base that the event was made on.
// Wraps event_get_base.
func (e *Event) Base() *Base { return e.base }

// SetPriority sets the priority, from 0 (first) to Config.Priorities minus one. The error is
// EBUSY while the event is due.
// Loop goroutine only, or any goroutine while no loop runs or the event is not added.
// Wraps event_priority_set.
func (e *Event) SetPriority(priority int) error {
	const op = "event_priority_set"
	if err := e.base.checkPriority(op, priority); err != nil {
		return err
	}
	if err := e.lock(op); err != nil {
		return err
	}
	defer e.unlock()
	_, err := result(op, e.base.asLoop(func() C.int64_t { return C.glev_event_set_priority(e.c, C.int(priority)) }))
	return err
}

// Priority returns the priority.
// Wraps event_get_priority.
func (e *Event) Priority() int {
	if err := e.lock("event_get_priority"); err != nil {
		return 0
	}
	defer e.unlock()
	return int(C.event_get_priority(e.c.ev))
}

// CommonTimeout is a timeout that many events of one base share. It makes adding and deleting
// those events cheaper. Make it with Base.NewCommonTimeout. It lives as long as the base.
type CommonTimeout struct {
	base *Base
	tv   *C.struct_timeval // libevent's own, with a mark in it
}

// NewCommonTimeout tells libevent that many events will have the timeout d, rounded up to
// microseconds. A base can have 256 common timeouts; for the next one the error is ENOSPC.
// Wraps event_base_init_common_timeout.
func (b *Base) NewCommonTimeout(d time.Duration) (*CommonTimeout, error) {
	const op = "event_base_init_common_timeout"
	if d < 0 {
		return nil, badArgument(op, "d is negative: %v", d)
	}
	if err := b.enterAlive(op); err != nil {
		return nil, err
	}
	defer b.leave()
	tv := timeval(d)
	common := C.event_base_init_common_timeout(b.event, &tv)
	if common == nil {
		return nil, &Error{Op: op, Err: syscall.ENOSPC}
	}
	return &CommonTimeout{b, common}, nil
}

// AddCommon is Add with a common timeout of the same base.
// Wraps event_add.
func (e *Event) AddCommon(timeout *CommonTimeout) error {
	const op = "event_add"
	if timeout == nil || timeout.base != e.base {
		return badArgument(op, "timeout is nil or of another base")
	}
	if e.signal != nil {
		return badArgument(op, "a signal takes no timeout")
	}
	if err := e.lock(op); err != nil {
		return err
	}
	defer e.unlock()
	_, err := result(op, C.glev_event_add_common(e.c, timeout.tv))
	return err
}

// Free deletes the event and frees its memory. The closure does not start after Free
// has returned.
// Wraps event_free.
func (e *Event) Free() {
	if !e.close() {
		return
	}
	e.mu.Lock()
	e.signal.stop(e)
	elsewhere := e.base.noLocks && !e.base.onLoop()
	if !elsewhere {
		C.glev_event_del(e.c)
	}
	e.mu.Unlock()
	if elsewhere {
		e.leaveAtLoop(func() { C.glev_event_del(e.c) })
	} else {
		e.leave()
	}
}

// lock is enterAlive, and locks mu, until unlock. mu keeps C calls on the event from
// coming after the event_del of Free: an event that was added again would stay
// registered when its descriptor is closed and reused. No such call waits for the loop,
// so mu is held briefly.
func (e *Event) lock(op string) error {
	if err := e.enterAlive(op); err != nil {
		return err
	}
	e.mu.Lock()
	if !e.isOpen() {
		e.unlock()
		return ErrClosed
	}
	return nil
}

func (e *Event) unlock() {
	e.mu.Unlock()
	e.leave()
}

func (e *Event) fired(fd int, what What) {
	returned := false
	defer e.ran(&returned)
	e.base.count()
	e.fn(fd, what)
	returned = true
}

// signalWatch brings a signal from os/signal to the loop. The mu of the event guards
// it.
type signalWatch struct {
	sig  os.Signal
	ch   chan os.Signal // nil unless it is watching
	done chan struct{}
	due  bool // a signal came, and the event has not fired yet
}

func (w *signalWatch) start(e *Event) {
	if w.ch != nil {
		return
	}
	ch, done := make(chan os.Signal, 16), make(chan struct{})
	w.ch, w.done = ch, done
	signal.Notify(ch, w.sig)
	e.base.keep(1)
	go func() {
		for {
			select {
			case <-ch:
				w.came(e, ch)
			case <-done:
				return
			}
		}
	}()
}

// came has the loop fire the event. Only the loop's thread may do that on a base without
// locks.
func (w *signalWatch) came(e *Event, ch chan os.Signal) {
	e.mu.Lock()
	due := w.ch == ch && !w.due
	w.due = w.due || due
	e.mu.Unlock()
	if due {
		e.base.enqueue(task{run: func() { w.fire(e, ch) }})
	}
}

// fire fires the event, unless the watch has ended since the signal came.
func (w *signalWatch) fire(e *Event, ch chan os.Signal) {
	if e.lock("event_active") != nil {
		return
	}
	defer e.unlock()
	if w.ch == ch {
		w.due = false
		C.glev_event_active(e.c, C.EV_SIGNAL)
	}
}

// stop ends the watch. It does nothing on nil, which an event without a signal has.
func (w *signalWatch) stop(e *Event) {
	if w == nil || w.ch == nil {
		return
	}
	signal.Stop(w.ch)
	close(w.done)
	w.ch, w.done, w.due = nil, nil, false
	e.base.keep(-1)
}
