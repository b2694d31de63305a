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
// buffer callbacks. While there are none a call looks for no notes.
var causes atomic.Int64

// deferred is what a note leads to. ready takes it for one time, and gives the closure
// to call now, or nil.
type deferred interface{ ready() func() }

// dues are notes that were taken.
type dues struct {
	first *C.struct_glev_due
}

// next takes the next note, and gives its closure, or nil.
func (d *dues) next() (fn func()) {
	due := d.first
	d.first = due.next
	if v, ok := restore[deferred](due.handle); ok {
		return v.ready()
	}
	live.stale.Add(1)
	return nil
}

// run runs all closures, also those behind one that panics.
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

// collector is what a call is between its beginning and its end.
type collector bool

// collect begins a call into libevent; end runs what the call made due. The notes are
// left with the thread, so the goroutine keeps it meanwhile.
func collect() collector {
	if causes.Load() == 0 {
		return false
	}
	runtime.LockOSThread()
	return true
}

func (c collector) end() {
	var d dues
	if atomic.LoadInt32((*int32)(unsafe.Pointer(&C.glev_due_waiting))) > 0 {
		// One that began when there was no cause does not know its thread
		// any more. That is rare: it takes what there is.
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

// runDues runs what the notes for the base ask for, in a turn of the loop.
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
