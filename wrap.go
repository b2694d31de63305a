// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include "native.h"
*/
import "C"

import (
	"log/slog"
	"unsafe"
)

// WrapConfig describes a base that C made.
type WrapConfig struct {
	// NoLocks is for a base that was made before evthread_use_pthreads was called,
	// or with EVENT_BASE_FLAG_NOLOCK, and that libevent therefore has no lock for.
	// Everything is then for the loop's goroutine only, except Post and Base.Free,
	// and everything that is made on the base is OptLoopOnly.
	NoLocks bool
	// OnPanic is called with the panics of closures and their stacks, on the loop's
	// goroutine, and the loop goes on. Without OnPanic a panic comes out of
	// Dispatch if Go runs the loop, and goes to the log if C does.
	OnPanic func(value any, stack []byte)
}

// WrapBase makes a Base of an event_base that C made and that stays C's: Free frees what this
// package has made on it, and leaves the rest to C. Either C runs the loop, with
// event_base_dispatch or event_base_loop, or Go does, with Dispatch, Loop or Run. When C runs the
// loop, closures run on C's thread, and a panic goes to OnPanic and to Err while the loop goes
// on. (A runtime.Goexit there, which t.FailNow calls, ends the process, because Go cannot unwind
// a thread that is not its own.)
//
// C must call evthread_use_pthreads before it makes the base; if it did not, set NoLocks. C must
// keep the base until Free has taken effect. Free takes effect at once if it is called before C
// has run the loop, or, outside of closures, on the thread that runs the loop or ran it last;
// otherwise it takes effect in the loop's next turn. (After a loop has ended, C makes a turn with
// event_base_loop and EVLOOP_NONBLOCK; a DNSBase may need several.)
//
// The binding learns that C runs the loop from the first callback. Before C starts the
// loop, other goroutines must have returned from calls that only the loop's goroutine may
// make, and from Free of objects with OptLoopOnly. The memory of what is freed goes back in
// the loop's next turn.
//
// libevent does all reading and writing of sockets on the base.
// Loop goroutine only, or any goroutine before a loop runs.
// Stands for event_base_new.
func WrapBase(base unsafe.Pointer, cfg WrapConfig) (*Base, error) {
	const op = "WrapBase"
	if base == nil {
		return nil, badArgument(op, "base is nil")
	}
	if err := useThreads(); err != nil {
		return nil, err
	}
	b := &Base{
		event:   (*C.struct_event_base)(base),
		plainIO: true,
		wrapped: true,
		noLocks: cfg.NoLocks,
		onPanic: cfg.OnPanic,
	}
	if err := b.start(op); err != nil {
		return nil, err
	}
	C.glev_base_set_foreign(b.c)
	b.wake() // the first callback tells whether C runs the loop
	return b, nil
}

// WrapBufferEvent makes a BufferEvent of a bufferevent that C has made on this base and that
// stays C's. Until Free, Go closures take the place of C's callbacks, and C must not change the
// callbacks. Free restores C's callbacks and C's rate limit, leaves all other settings as they
// are, and does not free the bufferevent. C may free the bufferevent before that; then no
// closure runs any more.
//
// After Free, C's callbacks are called for what comes from then on. They are not called for
// bytes that are in the input already, so a program that leaves bytes there has to tell C. If a
// filter is on the bufferevent, the Free of the filter restores C's callbacks.
//
// The binding cannot tell whether C's bufferevent has a lock. So only the loop's goroutine may
// use it, as with OptLoopOnly, but any goroutine may call Free. FreeAfterFlush returns an error,
// because the bufferevent is C's to free.
// Loop goroutine only, or any goroutine while no loop runs.
// Stands for bufferevent_incref and bufferevent_setcb.
func (b *Base) WrapBufferEvent(bev unsafe.Pointer) (*BufferEvent, error) {
	return b.fromC("WrapBufferEvent", bev, OptLoopOnly, true)
}

// Pointer returns the struct event_base, for C code that adds events of its own, or nil
// after Free. Only Go runs the loop and frees the base, unless WrapBase made it.
func (b *Base) Pointer() unsafe.Pointer {
	if !b.enter() {
		return nil
	}
	defer b.leave()
	return unsafe.Pointer(b.event)
}

// Err returns the first panic of a closure that did not come out of Dispatch, because
// it went to OnPanic or because C runs the loop. It is a *PanicError, or nil. It stays
// after Free.
func (b *Base) Err() error {
	if p := b.err.Load(); p != nil {
		return p
	}
	return nil
}

// hosted reports whether C runs the loop, as far as the binding knows.
func (b *Base) hosted() bool { return C.glev_base_hosted(b.c) != 0 }

// report handles a panic that cannot come out of Dispatch.
func (b *Base) report(p *PanicError) {
	b.err.CompareAndSwap(nil, p)
	defer func() {
		if recover() != nil { // OnPanic must not panic
			logger().Error("libevent: OnPanic panicked")
		}
	}()
	if b.onPanic != nil {
		b.onPanic(p.Value, p.Stack)
	} else {
		logger().Error("libevent: panic in a closure", slog.Any("value", p.Value), slog.String("stack", string(p.Stack)))
	}
}

// usable returns the error of a call on the base, or on what lives on it, that cannot
// be made, or not from this goroutine. The caller has entered.
func (b *Base) usable() error {
	if b.dead.Load() {
		return ErrLoopAborted
	}
	if !b.noLocks || b.onLoop() {
		return nil
	}
	if !b.lockIdle() {
		return ErrWrongLoop
	}
	b.own.Unlock()
	return nil
}

// freeLater starts a Free that has to wait for the loop. The caller has entered.
func (b *Base) freeLater() {
	b.freesInTurn.Store(true)
	b.close()
	b.closeChildren()
	C.glev_base_wake(b.c)
	b.leave()
}

// freeInTurn completes it, in the loop's turn.
func (b *Base) freeInTurn() {
	b.freeContents()
	b.runPosted(b.dues.run)
}
