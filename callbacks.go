// SPDX-License-Identifier: BSD-3-Clause

package libevent

// The exported trampolines, which callbacks.c calls. Each finds the object behind the
// handle and makes one guarded call. The package exports nothing else to C.

/*
#include "native.h"
*/
import "C"

import (
	"runtime"
	"syscall"
	"unsafe"
)

//export glevYield
func glevYield() { runtime.Gosched() }

//export glevWake
func glevWake(h unsafe.Pointer, base *C.struct_event_base) (last C.int) {
	b, ok := restoreBase(h)
	if !ok || b.event != base {
		live.stale.Add(1)
		return 0
	}
	b.runQueue()
	if !b.freesInTurn.Load() {
		return 0
	}
	b.freeInTurn()
	return 1
}

//export glevEvent
func glevEvent(h C.uintptr_t, ev *C.struct_event, fd C.int, what C.short) {
	if e, ok := called[*Event](uintptr(h), unsafe.Pointer(ev)); ok {
		e.fired(int(fd), What(what))
	}
}

//export glevBevRead
func glevBevRead(h C.uintptr_t, bev *C.struct_bufferevent) (again C.int) {
	if b, ok := called[*BufferEvent](uintptr(h), unsafe.Pointer(bev)); ok {
		again = cBool(b.call(b.closures.Load().read))
	} else {
		again = b.missed(bev)
	}
	return again
}

// There is no result: the loop reads what a receiver leaves anyway, so no receiver has
// to be called again after a panic.
//
//export glevBevReceive
func glevBevReceive(h C.uintptr_t, bev *C.struct_bufferevent) {
	if b, ok := called[*BufferEvent](uintptr(h), unsafe.Pointer(bev)); ok {
		b.call(*b.receiver.Load())
	}
}

//export glevBevWrite
func glevBevWrite(h C.uintptr_t, bev *C.struct_bufferevent) (again C.int) {
	if b, ok := called[*BufferEvent](uintptr(h), unsafe.Pointer(bev)); ok {
		again = cBool(b.call(b.closures.Load().write))
	} else {
		again = b.missed(bev)
	}
	return again
}

// glevBevEvent returns GLEV_AGAIN if the event has to be told again, and GLEV_MISSED if the
// bufferevent is freed.
//
//export glevBevEvent
func glevBevEvent(h C.uintptr_t, bev *C.struct_bufferevent, what C.short, err, connecting C.int, codes *C.ulong, ncodes C.int) C.int {
	b, ok := called[*BufferEvent](uintptr(h), unsafe.Pointer(bev))
	if !ok {
		if b.missed(bev) != 0 {
			return C.GLEV_AGAIN
		}
		return C.GLEV_MISSED
	}
	var said []uint64
	for _, code := range unsafe.Slice(codes, ncodes) {
		said = append(said, uint64(code))
	}
	return cBool(b.happened(Events(what), syscall.Errno(err), connecting != 0, said))
}

// missed reports whether the call was for a wrapped bufferevent that was freed
// meanwhile. The call is then made again, to C's callback. b may be nil.
func (b *BufferEvent) missed(bev *C.struct_bufferevent) C.int {
	return cBool(b != nil && b.wrapped && b.native == unsafe.Pointer(bev))
}

// A bufferevent that is being flushed is closed already, so it cannot be entered.
//
//export glevBevFlushEnds
func glevBevFlushEnds(h C.uintptr_t, bev *C.struct_bufferevent, what C.short, err C.int) {
	if b, ok := restore[*BufferEvent](uintptr(h)); ok && b.native == unsafe.Pointer(bev) {
		b.flushEnds(Events(what), syscall.Errno(err))
	} else {
		live.stale.Add(1)
	}
}

// A filter that is being flushed is closed already, but still passes its output on.
//
//export glevFilter
func glevFilter(h C.uintptr_t, bev *C.struct_bufferevent, out C.int, limit C.int64_t, mode C.int) C.int {
	b, ok := restore[*BufferEvent](uintptr(h))
	if !ok || b.native != unsafe.Pointer(bev) {
		live.stale.Add(1)
	} else if b.usage.enter() || b.flushing.Load() && b.join() {
		return C.int(b.filtered(out != 0, int(limit), FlushMode(mode)))
	}
	return C.BEV_NEED_MORE
}

//export glevAccept
func glevAccept(h C.uintptr_t, lev *C.struct_evconnlistener, fd C.int, addr *C.struct_glev_addr) {
	if l, ok := called[*Listener](uintptr(h), unsafe.Pointer(lev)); ok {
		l.accepted(int(fd), netAddr(addr))
	} else {
		closeFD(int(fd))
	}
}

//export glevAcceptError
func glevAcceptError(h C.uintptr_t, lev *C.struct_evconnlistener, err C.int) {
	if l, ok := called[*Listener](uintptr(h), unsafe.Pointer(lev)); ok {
		l.acceptFailed(syscall.Errno(err))
	}
}

//export glevDNSCleared
func glevDNSCleared(h C.uintptr_t, dns *C.struct_glev_dns) {
	if d, ok := called[*DNSBase](uintptr(h), unsafe.Pointer(dns)); ok {
		d.cleared()
		d.leave()
	}
}

//export glevLookup
func glevLookup(h C.uintptr_t, lookup *C.struct_glev_lookup, code C.int, addrs *C.struct_glev_addr, n C.int) {
	if l, ok := called[*DNSLookup](uintptr(h), unsafe.Pointer(lookup)); ok {
		l.answered(int(code), unsafe.Slice(addrs, n))
	}
}
