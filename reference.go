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

// reference is memory of Go's that is part of a buffer.
type reference struct {
	pinner runtime.Pinner
	handle handle
	done   func()
}

// AddReference appends p itself, not a copy: p must not be changed until its last byte
// is gone, read, written or freed with the buffer. Then done, which may be nil, is
// called once: by the loop, in a later turn, if the loop let go of the byte, and
// otherwise by the method that did, before it returns. If there is an error done is not
// called. Below some kilobytes a copy (Add) is cheaper.
// Safe for concurrent use. Wraps evbuffer_add_reference.
func (b *Buffer) AddReference(p []byte, done func()) error {
	r := &reference{done: done}
	if len(p) > 0 {
		r.pinner.Pin(&p[0])
	}
	r.handle = newHandle(r)
	live.objects[kindReference].Add(1)
	_, err := b.do("evbuffer_add_reference", func() C.int64_t {
		c, n := bytesOf(p)
		return C.glev_buf_add_reference(b.c, c, n, r.handle.p)
	})
	if err != nil {
		r.release()
	}
	return err
}

func (r *reference) release() {
	r.pinner.Unpin()
	r.handle.release()
	live.objects[kindReference].Add(-1)
}

// takeDone returns the next function of a reference that was let go on the thread of
// the loop of c, or with nil elsewhere; nil when there is none.
func takeDone(c *C.struct_glev_base) (done func(), ok bool) {
	h := C.glev_take_done(c)
	if h == nil {
		return nil, false
	}
	r, _ := restore[*reference](h)
	r.release()
	return r.done, true
}

// runDone calls what waits because of a Go call. It is one atomic load when nothing
// does.
func runDone() {
	for atomic.LoadUint32((*uint32)(unsafe.Pointer(&C.glev_done_elsewhere))) != 0 {
		if done, ok := takeDone(nil); ok && done != nil {
			done()
		}
	}
}
