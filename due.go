// SPDX-License-Identifier: BSD-3-Clause

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
	if v, ok := restore[deferred](uintptr(due.handle)); ok {
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
type collector struct{}

// collect begins a call into libevent, and end runs the closures that the call made
// due. C keeps the notes by thread, so the goroutine stays on its thread in between.
func collect() (c collector) {
	runtime.LockOSThread()
	return c
}

func (c collector) end() {
	if atomic.LoadInt32((*int32)(unsafe.Pointer(&C.glev_due_waiting))) == 0 {
		runtime.UnlockOSThread()
		return
	}
	d := dues{C.glev_due_take(nil)}
	runtime.UnlockOSThread()
	d.run()
}

// takeDues takes the notes for the base. Loop goroutine only.
func (b *Base) takeDues() {
	taken := C.glev_due_take(b.c)
	at := &b.dues.first
	for *at != nil {
		at = &(*at).next
	}
	*at = taken
}

// runDues runs closures of the notes for the base, in a turn of the loop.
func (b *Base) runDues() {
	if b.dues.first == nil {
		b.takeDues()
	}
	for n := 0; n < mostTasks && b.dues.first != nil && !b.stopping(); n++ {
		if fn := b.dues.next(); fn != nil {
			b.runPosted(fn)
		}
	}
	if b.dues.first != nil {
		C.glev_base_wake(b.c)
	}
}
