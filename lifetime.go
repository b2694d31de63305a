//go:build cgo

package libevent

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"unsafe"
)

// usage is the word that decides who frees an object: one bit for open, and the
// number of goroutines that are inside a C call on it or in one of its closures.
// Nobody gets in after close, and whoever leaves last frees. The zero value is
// closed, so an object that no constructor made is refused like a freed one.
type usage struct {
	word atomic.Int64
}

const (
	usageOpen   = 1 << 62
	usageSeized = 1 << 61 // and not open: those who come wait
)

func (u *usage) open() { u.word.Store(usageOpen) }

func (u *usage) isOpen() bool { return u.word.Load()&(usageOpen|usageSeized) != 0 }

// look returns the word when it is not seized.
func (u *usage) look() int64 {
	for {
		w := u.word.Load()
		if w&usageSeized == 0 {
			return w
		}
		runtime.Gosched()
	}
}

// seize lets nobody else in until unseize. The caller is inside; it reports false if
// others are, too, or it is closed.
func (u *usage) seize() bool { return u.word.CompareAndSwap(usageOpen+1, usageSeized+1) }

func (u *usage) unseize() { u.word.Store(usageOpen + 1) }

func (u *usage) enter() bool {
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

// join is enter for a closed object that somebody is inside of, who stays there
// meanwhile.
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

// leave reports whether the object is closed and nobody is left inside.
func (u *usage) leave() (last bool) { return u.word.Add(-1) == 0 }

// close leaves the caller inside. It reports false when it was closed before.
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

// users is the number of those inside of what is not seized.
func (u *usage) users() int64 { return u.look() &^ usageOpen }

// object is what Event, BufferEvent and Listener have in common: they live on a
// base, libevent calls back for them, and their memory is given back by the
// loop, after the last user has left.
type object struct {
	usage
	base   *Base // for those inside, and for all when it is closed: SetBase changes it
	kind   kind
	handle handle
	native unsafe.Pointer // what libevent passes to this object's callbacks
	free   func()         // gives the C memory back
	below  *BufferEvent   // what a filter is on: entered until the filter is gone
	// abandon gives back what is not memory when that cannot be given back.
	abandon func()

	freeWaiters atomic.Pointer[freeWaiters]
}

func (o *object) self() *object { return o }

// leave is the counterpart of enter. The last one to leave a closed object sends
// it to the loop: a callback of it may be below on the stack here.
func (o *object) leave() {
	if !o.usage.leave() {
		return
	}
	if o.base.lockIdle() {
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

func (o *object) freeNow() {
	if !o.base.dead.Load() {
		o.free()
	} else if o.abandon != nil {
		// libevent believes its loop runs for ever, and would wait for it.
		o.abandon()
	}
	o.handle.release()
	o.base.unregister(o)
	o.tellFreed()
}

// called finds the object a callback is for, and enters it. A handle that now
// means another object, or none, is stale; an object that is freed gets no more
// calls. After a true result ran must be called once, as a deferred call.
func called[T interface{ self() *object }](h, native unsafe.Pointer) (T, bool) {
	v, ok := restore[T](h)
	if !ok || v.self().native != native {
		live.stale.Add(1)
		return v, false
	}
	return v, v.self().enter()
}

// ran is deferred by whoever runs a closure of the object; *returned says
// whether the closure got to its end.
func (o *object) ran(returned *bool) {
	if !*returned {
		o.base.failed(recover())
	}
	o.leave()
}

// ran is deferred by whoever runs a closure that is no object's, or on another base
// than its object's.
func (b *Base) ran(returned *bool) {
	if !*returned {
		b.failed(recover())
	}
}

// failed takes note of a closure that did not return: of its panic, which is
// raised again when libevent's frames are gone from the stack, or of a Goexit,
// which cannot be stopped and takes those frames with it.
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

// panicError gives a panic the stack of where it came from, which is still below;
// one that came through an inner loop has it already.
func panicError(panicked any) *PanicError {
	p, ok := panicked.(*PanicError)
	if !ok {
		p = &PanicError{Value: panicked, Stack: debug.Stack()}
	}
	return p
}
