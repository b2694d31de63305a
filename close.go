package libevent

/*
#include "native.h"
*/
import "C"

import (
	"errors"
	"time"
)

// Free ends the bufferevent: unwritten output is dropped, the descriptor is closed
// if OptCloseOnFree was given, and is no longer used in any case. A closure that
// runs now on the loop's goroutine goes on; none starts. With OptLoopOnly, from
// another goroutine while the loop runs, the descriptor is let go in a later turn:
// who closes it himself does so after a Post has run.
// Safe for concurrent use. Wraps bufferevent_free.
func (b *BufferEvent) Free() {
	if b.wrapped && b.enter() {
		C.glev_adopt_await(b.c)
		b.leave()
	}
	if b.close() {
		b.hangUp()
		b.quietAndLeave()
	} else {
		b.freeFlushed()
	}
}

// FreeAfterFlush is Free once the output is written, but at the latest after limit,
// or on an error. From its return on no closure starts, nothing is read, and methods
// return ErrClosed. Free cuts it short. After limit the rest of the output is dropped and,
// with OptCloseOnFree, a TCP connection reset: its peer would take a part for all. On a
// pair the other end gets EOF. A peer that is still sending gets EOF, and what it sends is
// dropped until it ends, too: closing with bytes unread would reset the connection, and
// what is on its way would be lost.
// Safe for concurrent use.
func (b *BufferEvent) FreeAfterFlush(limit time.Duration) error {
	const op = "FreeAfterFlush"
	if limit < 0 {
		return badArgument(op, "limit is negative: %v", limit)
	}
	if b.wrapped {
		return badArgument(op, "it is C's: Free gives it back")
	}
	if b.loopOnly { // refused before anything has changed
		if _, err := b.do(op, func() C.int64_t { return C.glev_bev_check(b.c) }); err != nil {
			return err
		}
	}
	c := b.begin()
	defer c.end()
	if c.err != nil {
		if errors.Is(c.err, ErrLoopAborted) {
			b.Free()
		}
		return c.err
	}
	if !b.close() {
		return ErrClosed
	}
	b.hangUp()
	// Set first: the flush may be done before the call below returns.
	b.flushing.Store(true)
	for c.next() {
		c.rc = C.glev_bev_linger(b.c, C.int64_t(microseconds(limit)))
	}
	if c.rc != 0 { // nothing to wait for, or no way to
		b.freeFlushed()
	}
	_, err := c.result(op)
	return err
}

// freeFlushed ends a FreeAfterFlush, whoever is first to say so.
func (b *BufferEvent) freeFlushed() {
	if b.flushing.CompareAndSwap(true, false) {
		b.quietAndLeave()
	}
}

// quietAndLeave takes the native bufferevent out of use and leaves the object, which is
// closed and was entered by whoever closed it.
func (b *BufferEvent) quietAndLeave() {
	defer collect().end()
	if b.filter != nil && b.filter.closeBelow {
		defer b.below.Free()
	}
	if b.loopOnly { // no lock: only the loop's thread may touch it
		b.leaveAtLoop(func() { C.glev_bev_quiet(b.c) })
		return
	}
	C.glev_bev_quiet(b.c)
	b.leave()
}

// CloseWrite shuts the writing side down when the output is written: the peer gets
// EOF after the last byte. From its return on nothing more can be written; reading
// goes on.
// Safe for concurrent use. Stands for shutdown(SHUT_WR).
func (b *BufferEvent) CloseWrite() error {
	_, err := b.do("CloseWrite", func() C.int64_t { return C.glev_bev_close_write(b.c) })
	return err
}
