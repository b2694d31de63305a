// SPDX-License-Identifier: BSD-3-Clause

//go:build cgo

package libevent

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"unsafe"
)

// usage decides which goroutine frees an object, and when. It is one word: a bit that says
// the object is open, and the number of goroutines that are inside a C call on it or in one
// of its closures. After close no goroutine enters, and the last one that leaves frees the
// object. The zero value is closed, so an object that no constructor made is refused
// like a freed one.
type usage struct {
	word atomic.Int64
}

const (
	usageOpen   = 1 << 62
	usageSeized = 1 << 61 // set in place of usageOpen; other goroutines wait
)

// prepare has callbacks wait until open is called: libevent may have one before the constructor
// of the object has returned.
func (u *usage) prepare() { u.word.Store(usageSeized) }

func (u *usage) open() { u.word.Store(usageOpen) }

func (u *usage) isOpen() bool { return u.word.Load()&(usageOpen|usageSeized) != 0 }

// look returns the word, and waits while it is seized.
func (u *usage) look() int64 {
	for {
		w := u.word.Load()
		if w&usageSeized == 0 {
			return w
		}
		runtime.Gosched()
	}
}

// seize keeps other goroutines out until unseize. The caller has entered. seize returns
// false if other goroutines are inside, too, or the object is closed.
func (u *usage) seize() bool { return u.word.CompareAndSwap(usageOpen+1, usageSeized+1) }

func (u *usage) unseize() { u.word.Store(usageOpen + 1) }

// enter keeps the object from being freed until leave. It returns false if it is
// closed.
func (u *usage) enter() bool {
	w := u.word.Load() // small enough to be inlined
	return w&usageOpen != 0 && u.word.CompareAndSwap(w, w+1) || u.enterSlowly()
}

func (u *usage) enterSlowly() bool {
	for {
		w := u.look()
		if w&usageOpen == 0 {
			return false
		}
		if u.word.CompareAndSwap(w, w+1) {
			return true
		}
	}
}

// join is enter for a closed object. Another goroutine is inside and stays there until
// join returns; if none is, join returns false.
func (u *usage) join() bool {
	for {
		w := u.word.Load()
		if w&^usageOpen == 0 {
			return false
		}
		if u.word.CompareAndSwap(w, w+1) {
			return true
		}
	}
}

// leave undoes one enter, join or close. It reports whether the object is closed and no
// goroutine is left inside.
func (u *usage) leave() (last bool) { return u.word.Add(-1) == 0 }

// close refuses other goroutines from now on, and enters for the caller. It returns
// false if the object was closed before.
func (u *usage) close() bool {
	for {
		w := u.look()
		if w&usageOpen == 0 {
			return false
		}
		if u.word.CompareAndSwap(w, w&^usageOpen+1) {
			return true
		}
	}
}

// users returns how many goroutines are inside of an object that is not seized.
func (u *usage) users() int64 { return u.look() &^ usageOpen }

// object is what Event, BufferEvent, Listener and others have in common: they live on a
// base, libevent calls back for them, and the loop frees their memory after the last
// user has left.
type object struct {
	usage
	base   *Base // changed by SetBase, so read it only when inside, or closed
	kind   kind
	handle handle
	native unsafe.Pointer // what libevent passes to this object's callbacks
	free   func()         // gives the C memory back
	below  *BufferEvent   // what a filter is on; entered until the filter is freed
	// abandon gives back what is not memory, in place of free, after a Goexit.
	abandon func()

	whenFreed   func() // called when its memory is given back, for the binding itself
	freeWaiters atomic.Pointer[freeWaiters]
}

func (o *object) self() *object { return o }

// leave undoes enter. If the object is closed and no other goroutine is inside, the
// loop frees it in a later turn, because a callback of the object may be below on this
// stack. If no loop runs it is freed at once. But the C program may start the loop of a
// wrapped base at any moment, and the binding learns of the loop from its first callback,
// which already uses the memory. So that memory always waits for the loop.
func (o *object) leave() {
	if o.usage.leave() {
		o.sendToLoop()
	}
}

func (o *object) sendToLoop() {
	if !o.base.wrapped && o.base.lockIdle() {
		o.freeNow()
		o.base.own.Unlock()
		o.leaveBelow()
	} else {
		o.base.enqueue(task{run: func() { o.freeNow(); o.leaveBelow() }})
	}
}

func (o *object) leaveBelow() {
	if o.below != nil {
		o.below.leave()
	}
}

// freeNow gives back everything that belongs to the object. It runs on the loop's
// thread, or while no loop runs.
func (o *object) freeNow() {
	if !o.base.dead.Load() {
		o.free()
	} else if o.abandon != nil {
		// libevent believes that the aborted loop still runs, and free would
		// wait for it.
		o.abandon()
	}
	o.handle.release()
	o.base.unregister(o)
	o.tellFreed()
}

// count is called before a closure runs.
func (b *Base) count() {
	b.callbacks.Add(1)
	b.debug.closureBegins()
}

// called finds the object that a callback is for, and enters it. If the handle leads to
// no object, or to another one than native, the call is stale and is counted. A freed
// object gets no more calls. After a true result the caller defers ran, or calls leave.
func called[T interface{ self() *object }](h uintptr, native unsafe.Pointer) (T, bool) {
	v, ok := restore[T](h)
	if ok {
		v.self().look() // native is set when the object is open
	}
	if !ok || v.self().native != native {
		live.stale.Add(1)
		return v, false
	}
	raceAcquire()
	return v, v.self().enter()
}

// ran is deferred by a function that runs a closure of the object; *returned says
// whether the closure returned. It leaves the object.
func (o *object) ran(returned *bool) {
	o.base.debug.closureEnds()
	if !*returned {
		o.base.failed(recover())
	}
	o.leave()
}

// ran is the same for a closure that belongs to no object, or runs on another base than
// that of its object.
func (b *Base) ran(returned *bool) {
	b.debug.closureEnds()
	if !*returned {
		b.failed(recover())
	}
}

// failed handles a closure that did not return. A panic is kept and raised again when
// libevent's frames are gone from the stack. A Goexit (panicked is nil) cannot be
// stopped and removes those frames, so the base is marked dead.
func (b *Base) failed(panicked any) {
	if panicked == nil {
		b.dead.Store(true)
		return
	}
	p := panicError(panicked)
	if b.onPanic != nil || b.hosted() {
		b.report(p)
		return
	}
	b.panicked.CompareAndSwap(nil, p)
	b.breakLoop()
}

// panicError wraps a panic value with the stack of the panic, which is still below this
// function. A panic that came through an inner loop is wrapped already.
func panicError(panicked any) *PanicError {
	p, ok := panicked.(*PanicError)
	if !ok {
		p = &PanicError{Value: panicked, Stack: debug.Stack()}
	}
	return p
}
