// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include <stdlib.h>
#include "native.h"
*/
import "C"

import (
	"errors"
	"syscall"
	"unsafe"

	"github.com/go-libevent/libevent/internal/adopt"
)

// AdoptBufferEvent takes over a bufferevent that C made on this base: a socket, one end of a
// pair or a filter. From then on it is like one that this package made: C's callbacks are
// removed, Free frees it, and C must not use it any more. libevent does its reading and writing,
// without the fast path. If err is not nil, the bufferevent stays C's and has not changed.
//
// C must have made it with BEV_OPT_THREADSAFE, BEV_OPT_DEFER_CALLBACKS and
// BEV_OPT_UNLOCK_CALLBACKS, or, for OptLoopOnly, without the first and the last of these. For a
// socket, OptCloseOnFree in opts says whether Free closes the descriptor, however C made the
// socket. For a filter, the options with which C made it say whether Free also frees the
// bufferevent below.
//
// With OptLoopOnly:
// Loop goroutine only, or any goroutine while no loop runs.
func (b *Base) AdoptBufferEvent(bev unsafe.Pointer, opts Options) (*BufferEvent, error) {
	return b.fromC("AdoptBufferEvent", bev, opts, false)
}

// fromC makes a BufferEvent of one of C's. With wrap it stays C's.
func (b *Base) fromC(op string, bev unsafe.Pointer, opts Options, wrap bool) (*BufferEvent, error) {
	if bev == nil {
		return nil, badArgument(op, "bev is nil")
	}
	adopted, err := b.takeOver(op, opts, nil, func(n *newcomer) C.int64_t {
		n.bev.wrapped = wrap
		return C.glev_adopt(b.c, (*C.struct_bufferevent)(bev), n.flags, n.loopOnly, cBool(wrap), n.handle, &n.record)
	})
	if errors.Is(err, syscall.EXDEV) {
		return nil, badArgument(op, "bev is on another base")
	}
	if errors.Is(err, syscall.EEXIST) {
		return nil, badArgument(op, "bev has its BufferEvent already")
	}
	return adopted, err
}

// newcomer is a bufferevent that is getting its record.
type newcomer struct {
	bev             *BufferEvent
	flags, loopOnly C.int
	handle          C.uintptr_t
	record          *C.struct_glev_bev
}

// takeOver makes a BufferEvent whose C record the function record makes. The caller has
// entered below, if there is one; it stays entered until the new bufferevent is freed.
func (b *Base) takeOver(op string, opts Options, below *BufferEvent, record func(*newcomer) C.int64_t) (*BufferEvent, error) {
	flags, loopOnly, err := b.options(opts)
	if err != nil {
		return nil, badArgument(op, "%v", err)
	}
	if below != nil && below.loopOnly && !loopOnly {
		return nil, badArgument(op, "opts: the bufferevent below has OptLoopOnly, so this one needs it, too")
	}
	if err := b.enterAlive(op); err != nil {
		return nil, err
	}
	defer b.leave()
	bev := newBufferEvent(b, loopOnly)
	n := newcomer{bev: bev, flags: flags, loopOnly: cBool(loopOnly), handle: bev.handle.forC()}
	rc := b.asLoop(func() C.int64_t { return record(&n) })
	if _, err := result(op, rc); err != nil {
		bev.handle.release()
		if rc == -C.int64_t(syscall.EBUSY) {
			return nil, badArgument(op, "the bufferevent below has a filter already (one that was freed is on top until its AfterFree), or its writing side was closed")
		}
		return nil, err
	}
	bev.c, bev.below = n.record, below
	bev.complete(opts)
	if below == nil {
		bev.keepEndpoints()
	}
	return bev, nil
}

func init() {
	adopt.New, adopt.Call, adopt.OwnerOf = newOfKind, callOnKind, ownerOf
	adopt.OnLoop = func(bev any) bool { return bev.(*BufferEvent).Base().OnLoop() }
}

func callOnKind(bev any, op string, call func() int64) (int, error) {
	b := bev.(*BufferEvent)
	if b.below == nil && b.endpoints.Load() == nil { // the call may bring the descriptor
		defer b.keepEndpoints()
	}
	return b.do(op, func() C.int64_t {
		if rc := C.glev_bev_check(b.c); rc != 0 {
			return rc
		}
		return C.int64_t(call())
	})
}

// newOfKind is adopt.New.
func newOfKind(base any, opts uint32, under any, kind *adopt.Kind) (any, error) {
	const op = "bufferevent_new"
	b, below := base.(*Base), (*BufferEvent)(nil)
	if under != nil {
		below = under.(*BufferEvent)
		if !below.enter() {
			return nil, ErrClosed
		}
		if below.base != b {
			below.leave()
			return nil, badArgument(op, "the bufferevent below is on another base")
		}
	}
	door := C.struct_glev_door{
		arg:       kind.Arg,
		make:      (*[0]byte)(kind.Make),
		quiet:     (*[0]byte)(kind.Quiet),
		gone:      (*[0]byte)(kind.Gone),
		codes:     (*[0]byte)(kind.Codes),
		shutdown:  (*[0]byte)(kind.Shutdown),
		start:     (*[0]byte)(kind.Start),
		is_linked: (*[0]byte)(kind.IsLinked),
		is_open:   (*[0]byte)(kind.IsOpen),
		sent:      (*[0]byte)(kind.Sent),
		socket:    (*[0]byte)(kind.Socket),
		begin:     (*[0]byte)(kind.Begin),
		end:       (*[0]byte)(kind.End),
		recv:      (*[0]byte)(kind.Recv),
		pending:   (*[0]byte)(kind.Pending),
		send:      (*[0]byte)(kind.Send),
	}
	plain := cBool(b.plainIO || Options(opts)&OptPlainIO != 0)
	bev, err := b.takeOver(op, Options(opts), below, func(n *newcomer) C.int64_t {
		var lower *C.struct_glev_bev
		if below != nil {
			lower = below.c
			n.bev.filter = &filter{closeBelow: Options(opts)&OptCloseOnFree != 0}
		}
		n.bev.door = kind
		return C.glev_adopt_new(b.c, lower, &door, n.flags, n.loopOnly, plain, n.handle, &n.record)
	})
	if err != nil {
		if below != nil {
			below.leave()
		}
		return nil, err
	}
	return bev, nil
}

// explained asks the package that made the bufferevent, or one below, what an event
// means.
func (b *BufferEvent) explained(what Events, errno syscall.Errno, cause error, codes []uint64) (Events, error) {
	door := b.nextDoor()
	if door == nil || door.Event == nil {
		return what, cause
	}
	said, err := door.Event(int(what), errno, codes)
	return Events(said), err
}

// nextDoor returns the door of the bufferevent, or of the next one below that has one, or nil.
func (b *BufferEvent) nextDoor() *adopt.Kind {
	for b.door == nil && b.below != nil {
		b = b.below
	}
	return b.door
}

// ownerOf is adopt.OwnerOf.
func ownerOf(bev any) any {
	if door := bev.(*BufferEvent).nextDoor(); door != nil {
		return door.Owner
	}
	return nil
}
