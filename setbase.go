package libevent

/*
#include "native.h"
*/
import "C"

import "syscall"

// Base returns the base the bufferevent is on.
// Safe for concurrent use. Wraps bufferevent_get_base.
func (b *BufferEvent) Base() *Base {
	if b.enter() {
		defer b.leave()
	}
	return b.base
}

// SetBase moves a socket to another base, with all that it is: what it has buffered,
// what is enabled, its closures, timeouts and watermarks. A timeout begins anew. The
// loop of the other base may be running; from SetBase's return on it calls the closures.
// Without SetPriority the priority becomes the middle one of the other base.
//
// Best on a new bufferevent, for what is due on the old base stays there: once it has
// been enabled SetBase fails with EBUSY while anything is due in that loop, which
// libevent does not tell apart, and while a closure of this bufferevent or another call
// on it is in progress. Then nothing has changed, and a function that is posted may try
// again. EINPROGRESS is its error while it connects, ERANGE if the other base has no
// such priority. Refused are the ends of a pair, filters, sockets with a filter on top,
// those with OptLoopOnly, and those that have, or had, a rate limit.
// Loop goroutine only, that of the old base, or any goroutine while its loop does not run.
// Wraps bufferevent_base_set.
func (b *BufferEvent) SetBase(base *Base) error {
	const op = "bufferevent_base_set"
	if base == nil {
		return badArgument(op, "base is nil")
	}
	if b.loopOnly {
		return badArgument(op, "it is OptLoopOnly: made for the loop of its base")
	}
	if !b.enter() {
		return ErrClosed
	}
	defer b.leave()
	if b.base.dead.Load() {
		return ErrLoopAborted
	}
	if base == b.base {
		return nil
	}
	if base.noLocks {
		return badArgument(op, "base has no locks")
	}
	if err := base.enterAlive(); err != nil {
		return err
	}
	defer base.exit()
	if b.partner != nil || b.filter != nil {
		_, err := result(op, C.GLEV_NO_SOCKET)
		return err
	}
	if !b.seize() {
		if !b.isOpen() {
			return ErrClosed
		}
		return &Error{op, syscall.EBUSY}
	}
	defer b.unseize()
	_, err := result(op, b.native64(func() C.int64_t {
		rc := C.glev_bev_set_base(b.c, base.c)
		if rc == 0 {
			b.base.hand(&b.object, base)
		}
		return rc
	}))
	return err
}
