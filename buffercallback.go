package libevent

/*
#include <stdlib.h>
#include "native.h"
*/
import "C"

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

// BufferCallback is a closure that is told how much a buffer changes. It is freed with
// the buffer.
type BufferCallback struct {
	usage
	buf    *Buffer
	fn     func(b *Buffer, added, deleted int)
	run    func() // what ready returns
	handle handle
	c      *C.struct_glev_buf_cb

	added, deleted atomic.Int64 // not yet told
	calls          atomic.Int64 // of tell: one that runs, and those that left it the rest
}

// AddCallback has fn told how many bytes were added to the buffer and how many were
// removed. It is told afterwards: on a bufferevent's buffer by the loop, in a later
// turn, and on a buffer alone by the method that made the change, before that returns.
// What happens meanwhile comes in one sum. fn may change the buffer; it is told of that
// when it has returned, never while it runs.
// Safe for concurrent use. Wraps evbuffer_add_cb.
func (b *Buffer) AddCallback(fn func(b *Buffer, added, deleted int)) (*BufferCallback, error) {
	const op = "evbuffer_add_cb"
	if fn == nil {
		return nil, badArgument(op, "fn is nil")
	}
	cb := &BufferCallback{buf: b, fn: fn}
	cb.run = cb.tell
	cb.handle = newHandle(cb)
	cb.c = C.glev_buf_cb_new(cb.handle.p)
	causes.Add(1)
	err := error(&Error{op, syscall.ENOMEM})
	if cb.c != nil {
		cb.open()
		_, err = b.do(op, func() C.int64_t { return C.glev_buf_cb_add(b.c, cb.c) })
	}
	if err != nil {
		cb.free()
		return nil, err
	}
	return cb, nil
}

// Remove ends it. When Remove has returned fn does not start.
// Safe for concurrent use. Wraps evbuffer_remove_cb_entry.
func (cb *BufferCallback) Remove() {
	if cb.close() { // and stays inside until C is done with it
		_, _ = cb.buf.do("evbuffer_remove_cb_entry", func() C.int64_t { return C.glev_buf_cb_remove(cb.buf.c, cb.c) })
	}
}

// Enable has changes counted again.
// Safe for concurrent use. Wraps evbuffer_cb_set_flags.
func (cb *BufferCallback) Enable() error { return cb.enable("evbuffer_cb_set_flags", 1) }

// Disable has changes no longer counted. fn may still be told of those before.
// Safe for concurrent use. Wraps evbuffer_cb_clear_flags.
func (cb *BufferCallback) Disable() error { return cb.enable("evbuffer_cb_clear_flags", 0) }

func (cb *BufferCallback) enable(op string, on C.int) error {
	if !cb.enter() {
		return ErrClosed
	}
	defer cb.leave()
	_, err := cb.buf.do(op, func() C.int64_t { return C.glev_buf_cb_enable(cb.c, on) })
	return err
}

// leave is the counterpart of enter.
func (cb *BufferCallback) leave() {
	if cb.usage.leave() {
		cb.free()
	}
}

func (cb *BufferCallback) free() {
	cb.handle.release()
	C.free(unsafe.Pointer(cb.c))
	causes.Add(-1)
}

func (cb *BufferCallback) ready() func() {
	// Inside, for what is asked here may already be due again, for the last time,
	// on another goroutine. Remove stays inside until then.
	if !cb.enter() {
		cb.join()
	}
	defer cb.leave()
	change := C.glev_buf_cb_collect(cb.c)
	if change.last != 0 {
		cb.close() // unless Remove did
		cb.leave()
		return nil
	}
	cb.added.Add(int64(change.added))
	cb.deleted.Add(int64(change.deleted))
	return cb.run
}

// tell calls fn until it knows everything. Of several calls at a time one does.
func (cb *BufferCallback) tell() {
	if cb.calls.Add(1) > 1 {
		return
	}
	returned := false
	defer func() {
		if !returned { // what fn was not told, it is told with the next change
			cb.calls.Store(0)
		}
	}()
	for {
		seen := cb.calls.Load()
		if added, deleted := cb.added.Swap(0), cb.deleted.Swap(0); added|deleted != 0 {
			cb.call(int(added), int(deleted))
		}
		if cb.calls.Add(-seen) == 0 {
			break
		}
	}
	returned = true
}

func (cb *BufferCallback) call(added, deleted int) {
	if !cb.buf.enter() {
		return
	}
	defer cb.buf.leave()
	if cb.enter() {
		defer cb.leave()
		cb.fn(cb.buf, added, deleted)
	}
}
