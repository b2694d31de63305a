// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include "native.h"
*/
import "C"

import (
	"errors"
	"syscall"
	"time"
)

// Free ends the bufferevent. Output that has not been written is dropped. The
// descriptor is closed if OptCloseOnFree was given, and the bufferevent no longer uses
// it in any case. A closure that runs at this moment on the loop's goroutine goes on;
// no other one starts. If Free is called with OptLoopOnly on another goroutine while the
// loop runs, the bufferevent uses the descriptor until a later turn. To close a descriptor
// of your own then, wait until a function that you post after Free has run.
// Wraps bufferevent_free.
func (b *BufferEvent) Free() {
	if b.wrapped && b.enter() {
		C.glev_bev_await(b.c)
		b.leave()
	}
	if b.close() {
		b.hangUp()
		b.quietAndLeave()
	} else {
		b.freeFlushed()
	}
}

// FreeAfterFlush returns at once. The loop frees the bufferevent when its output has been
// written, when writing fails, when a timeout of it or of a bufferevent below it passes, or when
// limit has passed, whichever is first. limit counts from the call, also if writing makes
// progress; with 0 it passes in the loop's next turn. After FreeAfterFlush has returned, no
// closure starts, the program gets no more input, and methods return ErrClosed. Free ends the
// wait at once. If the bufferevent is still connecting and there is something to write, the wait
// includes the connecting.
//
// If limit passes first, the rest of the output is dropped. With OptCloseOnFree a TCP connection
// is then reset, so that the peer does not take a part for the whole; the other end of a pair
// gets EOF.
//
// When the kernel has all bytes, the peer gets EOF. If the socket was closed at this moment, bytes
// that the peer still sends would reset the connection, and output on its way would be lost. So if
// the peer is still sending, or has not received everything yet (which only Linux tells), the loop
// drops what the peer sends until the peer has ended its stream or has received everything, or
// until limit passes. Then the socket is closed. What is below a filter without OptCloseOnFree lives on:
// there the peer gets no EOF of the socket, and nothing is dropped.
//
// FreeAfterFlush refuses a bufferevent of WrapBufferEvent, because only C may free that one, and one
// that has a filter on top, which is to be freed instead. A filter that was freed is on top until
// its AfterFree. What was refused stays open.
// Stands for bufferevent_free after the last write callback.
func (b *BufferEvent) FreeAfterFlush(limit time.Duration) error {
	const op = "FreeAfterFlush"
	if limit < 0 {
		return badArgument(op, "limit is negative: %v", limit)
	}
	return b.freeAfterFlush(op, limit, b.served != nil && b.served.endsWith(b))
}

// freeAfterFlush does FreeAfterFlush. whole says that what is below is freed as well, also without OptCloseOnFree.
func (b *BufferEvent) freeAfterFlush(op string, limit time.Duration, whole bool) error {
	if b.wrapped && b.isOpen() {
		return badArgument(op, "it is C's: Free gives it back")
	}
	// A refusal comes before anything changes.
	if _, err := b.do(op, func() C.int64_t { return C.glev_bev_may_flush(b.c) }); err != nil && err != ErrClosed && !errors.Is(err, ErrLoopAborted) {
		return err
	}
	c := b.begin()
	defer c.end()
	if c.refused {
		if c.rc == loopAborted {
			b.Free()
		}
		_, err := c.result(op)
		return err
	}
	if !b.close() {
		return ErrClosed
	}
	// The loop may end the flush before the call below returns.
	b.flushing.Store(true)
	for c.next() {
		c.rc = C.glev_bev_free_after_flush(b.c, C.int64_t(microseconds(limit)), cBool(whole))
	}
	if c.rc != 0 { // there is nothing to wait for, or waiting failed
		b.freeFlushed()
	}
	_, err := c.result(op)
	return err
}

// flushEnds ends a FreeAfterFlush because of an event, or with 0 because the output is
// written or, with ETIMEDOUT, limit has passed. It goes on if the event is the failure of an address
// of ConnectHostname, and another address is tried.
func (b *BufferEvent) flushEnds(what Events, errno syscall.Errno) {
	for p := b; what == 0 && errno == syscall.ETIMEDOUT && p != nil; p = p.below {
		p.late.Store(true)
	}
	if what != 0 {
		if what, _ = b.bottom().dialled(what, b.located(&Error{Op: "connect", Err: errno})); what == 0 {
			return
		}
	}
	b.freeFlushed()
}

// freeFlushed ends a FreeAfterFlush. The first caller of several does it.
func (b *BufferEvent) freeFlushed() {
	if b.flushing.CompareAndSwap(true, false) {
		b.hangUp()
		b.quietAndLeave()
	}
}

// quietAndLeave makes the record quiet and leaves the object, which the caller has
// closed.
func (b *BufferEvent) quietAndLeave() {
	defer collect().end()
	if b.served != nil {
		b.served.closed(b)
	}
	if b.filter != nil && b.filter.closeBelow {
		defer b.below.Free()
	}
	if b.loopOnly { // it has no lock
		b.leaveAtLoop(func() { C.glev_bev_quiet(b.c) })
		return
	}
	C.glev_bev_quiet(b.c)
	b.leave()
}

// CloseWrite shuts the writing side down when the output has been written: the peer
// gets EOF after the last byte. From the return of CloseWrite on nothing more can be
// written. Reading goes on.
// Stands for shutdown(SHUT_WR).
func (b *BufferEvent) CloseWrite() error {
	_, err := b.do("CloseWrite", func() C.int64_t { return C.glev_bev_close_write(b.c) })
	return err
}
