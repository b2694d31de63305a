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

// reference is memory of Go that is in a buffer.
type reference struct {
	pin    runtime.Pinner
	done   func()
	handle handle
	c      *C.struct_glev_ref
}

// AddReference appends p itself, not a copy: p must not be changed before done is
// called, which is once, when its last byte has left the last buffer that it was moved
// to, or that buffer is freed, with its bufferevent and its base perhaps. done may be
// nil. After an error it is not called, and p is the caller's as before.
//
// If the loop lets the last byte go, or a call on the loop's goroutine, done is called
// by the loop in a later turn, under the rules of all closures, and at the latest
// before Base.Free returns. In every other case it is called by the method that let the
// last byte go, before that returns.
//
// libevent 2.1 allocates a kilobyte for each reference: it pays for large p.
// Safe for concurrent use. Wraps evbuffer_add_reference.
func (b *Buffer) AddReference(p []byte, done func()) error {
	const op = "evbuffer_add_reference"
	r := &reference{done: done}
	r.handle = newHandle(r)
	r.c = C.glev_ref_new(r.handle.p)
	if r.c == nil {
		r.handle.release()
		return &Error{op, syscall.ENOMEM}
	}
	if len(p) > 0 {
		r.pin.Pin(&p[0])
	}
	live.objects[kindReference].Add(1)
	causes.Add(1)
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
	causes.Add(-1)
}
