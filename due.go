package libevent

/*
#include "native.h"
*/
import "C"

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// causes counts what may make C leave a note (due.c): references, file segments and
// buffer callbacks. While it is 0 a call does not look for notes.
var causes atomic.Int64

// deferred is the object that a note leads to. ready takes one note for it, and returns
// the closure to call now, or nil.
type deferred interface{ ready() func() }

// dues are notes that were taken.
type dues struct {
	first *C.struct_glev_due
}

// next takes the next note and returns its closure, or nil.
func (d *dues) next() (fn func()) {
	due := d.first
	d.first = due.next
	if v, ok := restore[deferred](due.handle); ok {
		return v.ready()
	}
	live.stale.Add(1)
	return nil
}

// run runs all closures, even if one of them panics.
func (d *dues) run() {
	if d.first == nil {
		return
	}
	defer d.run()
	for d.first != nil {
		if fn := d.next(); fn != nil {
			fn()
		}
	}
}

// collector keeps the notes of one call apart from those of others.
type collector bool

// collect begins a call into libevent, and end runs the closures that the call made
// due. C keeps the notes by thread, so the goroutine stays on its thread in between.
func collect() collector {
	if causes.Load() == 0 {
		return false
	}
	runtime.LockOSThread()
	return true
}

func (c collector) end() {
	if bool(c) || notesWait() {
		c.run()
	}
}

func notesWait() bool {
	return atomic.LoadInt32((*int32)(unsafe.Pointer(&C.glev_due_waiting))) > 0
}

func (c collector) run() {
	var d dues
	if notesWait() {
		// A call that began when causes was 0 did not stay on its thread. That
		// is rare, so it takes the notes of all threads.
		d.first = C.glev_due_take(nil, cBool(!bool(c)))
	}
	if c {
		runtime.UnlockOSThread()
	}
	d.run()
}

// takeDues takes the notes for the base. Loop goroutine only.
func (b *Base) takeDues() {
	taken := C.glev_due_take(b.c, 1)
	at := &b.dues.first
	for *at != nil {
		at = &(*at).next
	}
	*at = taken
}

// runDues runs the closures of the notes for the base, in a turn of the loop.
func (b *Base) runDues() {
	b.takeDues()
	for b.dues.first != nil && !b.stopping() {
		if fn := b.dues.next(); fn != nil {
			b.runPosted(fn)
		}
	}
	if b.dues.first != nil {
		C.glev_base_wake(b.c)
	}
}
