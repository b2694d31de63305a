// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include "native.h"
*/
import "C"

import "runtime"

// There are three ways to make a call into C. In each of them the object exists until the
// call has returned, because the caller has entered it, and a closed object is refused.
//
//  1. enterAlive and leave, around a C function that any thread may call.
//  2. begin, next and end, around a C function that perhaps only the loop's thread may call,
//     or that changes what is in a buffer or runs functions of filters.
//  3. leaveAtLoop, for work that only the loop's thread may do and that can wait.
//
// A method that has an answer even when no loop can run any more uses enter and leave alone.

// enterAlive is the first way. It enters the object, and the caller then calls leave, or it
// returns an error: ErrClosed, ErrLoopAborted, or, if the base has no locks and its loop runs
// on another goroutine, ErrWrongLoop.
func (o *object) enterAlive(op string) error {
	if !o.enter() {
		return ErrClosed
	}
	err := named(op, o.base.usable())
	if err != nil {
		o.leave()
	}
	return err
}

// enterAlive is the same for a base.
func (b *Base) enterAlive(op string) error {
	if !b.enter() {
		return ErrClosed
	}
	err := named(op, b.usable())
	if err != nil {
		b.leave()
	}
	return err
}

// quick enters the bufferevent if it has a lock and is no filter. C functions of the second way
// may then be called on any thread, and run no function of a filter, so there is nothing to try
// again or to undo. Otherwise quick returns false.
func (b *BufferEvent) quick() bool {
	raceRelease()
	if b.loopOnly || b.filter != nil || !b.usage.enter() {
		return false
	}
	if b.base.dead.Load() {
		b.leave()
		return false
	}
	return true
}

// nativeCall is the second way, a call on a bufferevent or a buffer:
//
//	c := b.begin()
//	defer c.end()
//	for c.next() {
//		c.rc = C.glev_function(b.c)
//	}
//	return c.result(op)
//
// The C function decides whether the thread matters. It is called on the present thread
// first. If it returns GLEV_WRONG_LOOP and no loop runs, it is called once more while this
// thread acts as the loop; if a loop runs, the result is ErrWrongLoop. The panic of a filter's
// function comes out of the last next. The closures that the call made due (due.go) run in
// end, after the object has been left.
type nativeCall struct {
	rc    C.int64_t    // what the C function returned, or why it is not called
	bev   *BufferEvent // entered, or nil
	buf   *Buffer      // entered instead of bev, if it stands alone
	other *Buffer      // entered by with, in addition
	base  *Base        // as whose loop this thread acts, or may have to; nil: that of bev
	notes collector

	refused   bool // the C function is not called
	called    bool // it was called
	filters   bool // it may run functions of filters
	shows     bool // it runs a function of the user's
	inFilters bool // enterFilters was called
	asLoop    bool // this thread acts as the loop
	undo      bool // inFilters or asLoop is true
}

// begin enters the bufferevent, or refuses the call.
func (b *BufferEvent) begin() (c nativeCall) {
	raceRelease()
	c.notes = collect()
	if !b.enter() {
		c.refuse(C.GLEV_CLOSED)
		return c
	}
	c.bev, c.filters = b, b.filter != nil
	if b.base.dead.Load() {
		c.refuse(loopAborted)
	}
	return c
}

func (b *Buffer) begin() (c nativeCall) {
	if b.owner != nil {
		return b.owner.begin()
	}
	raceRelease()
	c.notes = collect()
	if b.usage.enter() {
		c.buf = b
	} else {
		c.refuse(C.GLEV_CLOSED)
	}
	return c
}

func (c *nativeCall) refuse(why C.int64_t) { c.refused, c.rc = true, why }

// with enters a second buffer that takes part in the call. If the first is not OptLoopOnly
// and the second is, the thread may have to act as the loop of the second.
func (c *nativeCall) with(other *Buffer) {
	if c.refused {
		return
	}
	if !other.enter() {
		c.refuse(C.GLEV_CLOSED)
		return
	}
	c.other = other
	o := other.owner
	if o != nil && o.loopOnly && (c.bev == nil || !c.bev.loopOnly) {
		c.base = o.base
	}
	c.filters = c.filters || o != nil && o.filter != nil
}

// next reports whether the C function is to be called, for the first time or again.
func (c *nativeCall) next() bool {
	if c.called && c.rc != C.GLEV_WRONG_LOOP && !c.undo { // small enough to be inlined
		return false
	}
	return c.again()
}

func (c *nativeCall) again() bool {
	switch {
	case c.refused:
		return false
	case !c.called:
		c.called = true
		if c.filters {
			c.undo, c.inFilters = true, true
			enterFilters()
		}
		return true
	case c.rc == C.GLEV_WRONG_LOOP && !c.asLoop && c.takeLoop():
		return true
	}
	c.stop()
	return false
}

func (c *nativeCall) takeLoop() bool {
	if c.base == nil && c.bev != nil {
		c.base = c.bev.base
	}
	if c.base == nil || !c.base.lockIdle() {
		return false
	}
	c.undo, c.asLoop = true, true
	c.base.borrowed.Store(true)
	c.base.ownHeldByUser.Store(c.shows)
	runtime.LockOSThread()
	C.glev_base_claim(c.base.c)
	return true
}

// stop undoes what next did; a second time it does nothing.
func (c *nativeCall) stop() {
	c.undo = false
	if c.asLoop {
		c.asLoop = false
		C.glev_base_unclaim(c.base.c)
		runtime.UnlockOSThread()
		c.base.ownHeldByUser.Store(false)
		c.base.borrowed.Store(false)
		c.base.own.Unlock()
	}
	if c.inFilters {
		c.inFilters = false
		leaveFilters()
	}
}

// end leaves what the call has entered. It is deferred, because a closure inside the call
// may panic or end the goroutine; then there is something to undo.
func (c *nativeCall) end() {
	if c.undo {
		c.stopAndEnd()
		return
	}
	if c.other != nil {
		c.other.leave()
	}
	if c.bev != nil {
		c.bev.leave()
	} else if c.buf != nil {
		c.buf.leave()
	}
	c.notes.end()
}

func (c *nativeCall) stopAndEnd() {
	defer c.end() // also if stop raises the panic of a filter
	if c.inFilters {
		// A function of a filter has ended the goroutine.
		for _, b := range []*Buffer{c.buf, c.other} {
			if b != nil {
				C.glev_buf_abandon(b.c)
			}
		}
	}
	c.stop()
}

// result is that of the last call of the C function, or ErrClosed or ErrLoopAborted.
func (c *nativeCall) result(op string) (int, error) { return result(op, c.rc) }

// quickly is do for the calls that every message makes. The function must not run a function of
// the user's, because nothing is deferred where the bufferevent is entered quickly.
func (b *BufferEvent) quickly(op string, function func() C.int64_t) (int, error) {
	if !b.quick() {
		return b.do(op, function)
	}
	notes := collect()
	rc := function()
	b.leave()
	notes.end()
	return result(op, rc)
}

// do is the second way in one line, for methods that need not be fast.
func (b *BufferEvent) do(op string, function func() C.int64_t) (int, error) {
	return b.begin().do(op, function)
}

func (b *Buffer) do(op string, function func() C.int64_t) (int, error) {
	return b.begin().do(op, function)
}

func (c nativeCall) do(op string, function func() C.int64_t) (int, error) {
	defer c.end()
	for c.next() {
		c.rc = function()
	}
	return c.result(op)
}

// asLoop is the second way without entering: the caller is inside the base already.
func (b *Base) asLoop(function func() C.int64_t) C.int64_t {
	c := nativeCall{base: b}
	defer c.stop()
	for c.next() {
		c.rc = function()
	}
	return c.rc
}

// leaveAtLoop is the third way: it runs fn and then leaves the object, which the caller has
// entered. On the loop's goroutine, or while no loop runs, it does so at once; otherwise in
// a later turn of the loop. It reports whether fn has run.
func (o *object) leaveAtLoop(fn func()) (done bool) {
	switch {
	case o.base.onLoop():
		fn()
	case o.base.lockIdle():
		func() {
			defer o.base.own.Unlock()
			fn()
		}()
	default:
		o.base.enqueue(task{run: func() { fn(); o.leave() }})
		return false
	}
	o.leave()
	return true
}
