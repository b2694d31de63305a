// SPDX-License-Identifier: BSD-3-Clause

//go:build cgo

package libevent

import "C"

import (
	"sync/atomic"
	"unsafe"

	pointer "github.com/mattn/go-pointer"
)

// handle is what C keeps in place of a Go pointer. Only this file uses go-pointer,
// because two of its properties are dangerous: a second Unref aborts the process, and a
// handle that was given back may be given out again, so that a stale one leads to
// another object. release therefore does its work only once, and a caller that restores a
// handle compares the native pointer of the call with the one that the object owns (see
// called).
type handle struct {
	p unsafe.Pointer
}

func newHandle(v any) handle {
	live.handles.Add(1)
	return handle{pointer.Save(v)}
}

// release gives the handle back. It must not be called before the last callback.
func (h *handle) release() {
	if p := atomic.SwapPointer(&h.p, nil); p != nil {
		pointer.Unref(p)
		live.handles.Add(-1)
	}
}

// restore returns the object behind a handle, if it is a T.
func restore[T any](p unsafe.Pointer) (T, bool) {
	v, ok := pointer.Restore(p).(T)
	return v, ok
}

// cString is s for a C function that does not keep it. C.CString would end the process if
// there is no memory, and newHandle does: both call C.malloc.
func cString(s string) *C.char {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(s + "\x00")))
}
