// SPDX-License-Identifier: BSD-3-Clause

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
// the buffer. Its methods are safe for concurrent use.
type BufferCallback struct {
	usage
	buf    *Buffer
	fn     func(b *Buffer, added, deleted int)
	run    func() // tell, made once
	handle handle
	c      *C.struct_glev_buf_cb

	added, deleted atomic.Int64 // bytes that fn was not told of yet
	calls          atomic.Int64 // calls of tell: the one that runs, and those that left the work to it
}

// AddCallback has fn called with the number of bytes that were added to the buffer and
// the number that were removed. fn is called after the change: for the buffer of a
// bufferevent by the loop, in a later turn, and for a buffer that stands alone by the
// method that made the change, before it returns. Changes that happen meanwhile are
// added up. fn may change the buffer; it is told of that change after it has returned,
// never while it runs.
// Wraps evbuffer_add_cb.
func (b *Buffer) AddCallback(fn func(b *Buffer, added, deleted int)) (*BufferCallback, error) {
	const op = "evbuffer_add_cb"
	if fn == nil {
		return nil, badArgument(op, "fn is nil")
	}
	cb := &BufferCallback{buf: b, fn: fn}
	cb.run = cb.tell
	cb.handle = newHandle(cb)
	cb.c = C.glev_buf_cb_new(cb.handle.forC())
	err := error(&Error{Op: op, Err: syscall.ENOMEM})
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

// Remove removes the callback. After Remove has returned fn does not start.
// Wraps evbuffer_remove_cb_entry.
func (cb *BufferCallback) Remove() {
	if cb.close() { // the entry of close is left in ready, when C is done
		_, _ = cb.buf.do("evbuffer_remove_cb_entry", func() C.int64_t { return C.glev_buf_cb_remove(cb.buf.c, cb.c) })
	}
}

// Enable starts counting changes again.
// Wraps evbuffer_cb_set_flags.
func (cb *BufferCallback) Enable() error { return cb.enable("evbuffer_cb_set_flags", 1) }

// Disable stops counting changes. If there were changes before, fn may still be called for them.
// Wraps evbuffer_cb_clear_flags.
func (cb *BufferCallback) Disable() error { return cb.enable("evbuffer_cb_clear_flags", 0) }

func (cb *BufferCallback) enable(op string, on C.int) error {
	if !cb.enter() {
		return ErrClosed
	}
	defer cb.leave()
	_, err := cb.buf.do(op, func() C.int64_t { return C.glev_buf_cb_enable(cb.c, on) })
	return err
}

// leave undoes enter, and frees the callback if it is closed and nothing else is
// inside.
func (cb *BufferCallback) leave() {
	if cb.usage.leave() {
		cb.free()
	}
}

func (cb *BufferCallback) free() {
	cb.handle.release()
	C.free(unsafe.Pointer(cb.c))
}

func (cb *BufferCallback) ready() func() {
	// The callback may become due again, for the last time, on another goroutine as
	// soon as C is asked. Entered, it stays. After a Remove the entry of that is
	// still there.
	if !cb.enter() {
		cb.join()
	}
	defer cb.leave()
	change := C.glev_buf_cb_collect(cb.c)
	if change.last != 0 {
		cb.close() // unless Remove has done so
		cb.leave()
		return nil
	}
	cb.added.Add(int64(change.added))
	cb.deleted.Add(int64(change.deleted))
	return cb.run
}

// tell calls fn until fn knows everything. One of several calls at a time does it.
func (cb *BufferCallback) tell() {
	if cb.calls.Add(1) > 1 {
		return
	}
	returned := false
	defer func() {
		if !returned { // the next change brings what fn was not told
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
