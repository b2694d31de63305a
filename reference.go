// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include <stdlib.h>
#include "native.h"
*/
import "C"

import (
	"runtime"
	"syscall"
	"unsafe"
)

// reference is Go memory that is in a buffer.
type reference struct {
	pin    runtime.Pinner
	done   func()
	handle handle
	c      *C.struct_glev_ref
}

// AddReference appends the memory of p, without a copy. The caller must not change p until
// done is called. done is called once, when no buffer has a byte of p any more: all bytes were
// written or removed, or the buffer that had the last of them was freed. done may be nil. If
// AddReference returns an error, done is not called, and the caller may use p again.
//
// Where done runs depends on what removes the last byte. If the loop does, or a call on the
// loop's goroutine, the loop calls done in a later turn, as it calls closures, and at the latest
// before Base.Free returns. In every other case the method that removes the last byte calls done
// before it returns.
//
// libevent 2.1 allocates a kilobyte for each reference, so use it for a large p.
// Wraps evbuffer_add_reference.
func (b *Buffer) AddReference(p []byte, done func()) error {
	const op = "evbuffer_add_reference"
	r := &reference{done: done}
	r.handle = newHandle(r)
	r.c = C.glev_ref_new(r.handle.forC())
	if r.c == nil {
		r.handle.release()
		return &Error{Op: op, Err: syscall.ENOMEM}
	}
	if len(p) > 0 {
		r.pin.Pin(&p[0])
	}
	live.objects[kindReference].Add(1)
	at, size := bytesOf(p)
	_, err := b.do(op, func() C.int64_t { return C.glev_buf_add_reference(b.c, at, size, r.c) })
	if err != nil {
		r.release()
	}
	return err
}

func (r *reference) ready() func() {
	r.release()
	return r.done
}

func (r *reference) release() {
	r.pin.Unpin()
	r.handle.release()
	C.free(unsafe.Pointer(r.c))
	live.objects[kindReference].Add(-1)
}
