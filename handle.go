// SPDX-License-Identifier: BSD-3-Clause

//go:build cgo

package libevent

/*
#include <stdint.h>
*/
import "C"

import (
	"sync"
	"sync/atomic"
	"unsafe"

	pointer "github.com/mattn/go-pointer"
)

// handle is what C keeps in place of a Go pointer: the index of a slot in the table of handles,
// and the generation of that slot. A handle that was released leads to no object, also after
// its slot has been given to another object, until the generations start again: a caller that
// restores a handle therefore compares the native pointer of the call with the one that the
// object owns (see called).
type handle uintptr

const (
	slotBits   = 24 + 8*(^uintptr(0)>>63) // of a handle, for the index
	slotsEach  = 256                      // in a chunk
	generation = handle(1) << slotBits
)

// slot holds one object. Callbacks look objects up without a lock.
type slot struct {
	handle atomic.Uintptr // of the object, or of the next one
	object atomic.Pointer[any]
}

// handles is the table.
var handles struct {
	chunks atomic.Pointer[[]*[slotsEach]slot]

	mu   sync.Mutex
	free []uintptr // indexes of slots without an object
}

func slotOf(h handle) *slot {
	index := h & (generation - 1)
	chunks := handles.chunks.Load()
	if chunks == nil || index/slotsEach >= handle(len(*chunks)) {
		return nil
	}
	return &(*chunks)[index/slotsEach][index%slotsEach]
}

// newHandle gives the object a slot.
func newHandle(v any) handle {
	live.handles.Add(1)
	handles.mu.Lock()
	defer handles.mu.Unlock()
	if len(handles.free) == 0 {
		addSlots()
	}
	last := len(handles.free) - 1
	s := slotOf(handle(handles.free[last]))
	handles.free = handles.free[:last]
	s.object.Store(&v)
	return handle(s.handle.Load())
}

// addSlots adds a chunk of slots to the table. No handle is 0.
func addSlots() {
	var chunks []*[slotsEach]slot
	if old := handles.chunks.Load(); old != nil {
		chunks = append(chunks, *old...)
	}
	first := handle(len(chunks) * slotsEach)
	chunks = append(chunks, new([slotsEach]slot))
	handles.chunks.Store(&chunks)
	for i := range handle(slotsEach) {
		slotOf(first + i).handle.Store(uintptr(generation + first + i))
		handles.free = append(handles.free, uintptr(first+i))
	}
}

// release gives the slot back; a second time it does nothing. It must not be called before the
// last callback.
func (h *handle) release() {
	old := handle(atomic.SwapUintptr((*uintptr)(h), 0))
	if old == 0 {
		return
	}
	live.handles.Add(-1)
	handles.mu.Lock()
	defer handles.mu.Unlock()
	s := slotOf(old)
	s.object.Store(nil)
	next := old + generation
	if next < generation {
		next += generation // no handle is 0
	}
	s.handle.Store(uintptr(next))
	handles.free = append(handles.free, uintptr(old&(generation-1)))
}

// restore returns the object behind a handle, if it is a T.
func restore[T any](h uintptr) (v T, ok bool) {
	s := slotOf(handle(h))
	if s == nil {
		return v, false
	}
	object := s.object.Load()
	if object == nil || s.handle.Load() != h { // in this order: the slot may get another object
		return v, false
	}
	v, ok = (*object).(T)
	return v, ok
}

func (h handle) forC() C.uintptr_t { return C.uintptr_t(h) }

// baseHandle is the handle of a base. It is of package go-pointer, which no other file uses: a
// map under one lock for the whole process, which would be too slow for what lives on a base,
// and in which a second Unref aborts the process. So release does its work only once.
type baseHandle struct {
	p unsafe.Pointer
}

func newBaseHandle(b *Base) baseHandle {
	live.handles.Add(1)
	return baseHandle{pointer.Save(b)}
}

func (h *baseHandle) release() {
	if p := atomic.SwapPointer(&h.p, nil); p != nil {
		pointer.Unref(p)
		live.handles.Add(-1)
	}
}

func restoreBase(p unsafe.Pointer) (*Base, bool) {
	b, ok := pointer.Restore(p).(*Base)
	return b, ok
}

// cString is s for a C function that does not keep it. C.CString would end the process if
// there is no memory, and newBaseHandle does: both call C.malloc.
func cString(s string) *C.char {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(s + "\x00")))
}
