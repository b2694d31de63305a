package libevent

/*
#include "native.h"
*/
import "C"

import (
	"log/slog"
	"unsafe"
)

// WrapConfig says what a base that C made is like.
type WrapConfig struct {
	// NoLocks is for a base that was made before evthread_use_pthreads was called, or
	// with EVENT_BASE_FLAG_NOLOCK: libevent has no lock for it. Then all is for the loop's
	// goroutine only, but Post and Base.Free; everything made on it is OptLoopOnly.
	NoLocks bool
	// OnPanic gets the panics of closures, and the stack of each. It runs on the loop's
	// goroutine, and the loop goes on. Without it a panic on a loop that Go runs comes out
	// of Dispatch, and on one that C runs goes to the log.
	OnPanic func(value any, stack []byte)
}

// WrapBase makes a Base of an event_base of C's, which stays C's: Free takes away what
// was made here and leaves the rest. C may run the loop, with event_base_dispatch and its
// kin, or Go may, with Dispatch and its. When C does, closures run on its thread; a panic
// goes to OnPanic and to Err, and the loop goes on. (A runtime.Goexit there, as of
// t.FailNow, ends the process: Go cannot unwind a thread that is not its own.)
//
// C calls evthread_use_pthreads before it makes the base, or NoLocks says that it did not.
// It keeps the base until Free has taken effect: at once when called before C has run the
// loop, or on the thread that runs it or ran it last, outside of closures; otherwise in the
// loop's next turn. (A loop that has ended has one by event_base_loop with EVLOOP_NONBLOCK;
// a DNSBase may need some.)
// Sockets on it are read and written by libevent.
// To be called on the thread that runs the loop, or before any does.
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
	C.glev_base_is_foreign(b.c)
	b.wake() // so that it is known soon who runs the loop
	return b, nil
}

// WrapBufferEvent makes a BufferEvent of one of C's on this base, which stays C's. From
// then on closures stand in place of the callbacks of C, until Free puts those back, and
// the rate limit; other settings stay as they are then. Until then C leaves the callbacks
// alone. It may free the bufferevent meanwhile; then there is nothing left to happen.
//
// What comes after Free is told to C. What came before and is still in the input is not:
// who leaves something there tells C himself. Under a filter, it is the filter's Free that
// puts the callbacks back.
//
// C's bufferevents have a lock or have not, and nobody can tell: so all is for the loop's
// goroutine, but Free. FreeAfterFlush is refused, for it would end what is C's.
// Loop goroutine only, or any while no loop runs.
func (b *Base) WrapBufferEvent(bev unsafe.Pointer) (*BufferEvent, error) {
	return b.fromC("WrapBufferEvent", bev, OptLoopOnly, true)
}

// Pointer returns the native struct event_base, for C code that puts events of its own
// on it; nil after Free. Running the loop and freeing the base is Go's, unless the base is
// a wrapped one.
// Safe for concurrent use.
func (b *Base) Pointer() unsafe.Pointer {
	if !b.enter() {
		return nil
	}
	defer b.leave()
	return unsafe.Pointer(b.event)
}

// Err returns the first panic of a closure that did not come out of Dispatch, as a
// *PanicError, because it went to OnPanic or C runs the loop; also after Free. Otherwise
// nil.
// Safe for concurrent use.
func (b *Base) Err() error {
	if p := b.err.Load(); p != nil {
		return p
	}
	return nil
}

// hosted reports whether C runs the loop, by all that is known.
func (b *Base) hosted() bool { return C.glev_base_hosted(b.c) != 0 }

// report takes a panic that cannot come out of Dispatch.
func (b *Base) report(p *PanicError) {
	b.err.CompareAndSwap(nil, p)
	defer func() {
		if recover() != nil { // it has no right to
			logger().Error("libevent: OnPanic panicked")
		}
	}()
	if b.onPanic != nil {
		b.onPanic(p.Value, p.Stack)
	} else {
		logger().Error("libevent: panic in a closure", slog.Any("value", p.Value), slog.String("stack", string(p.Stack)))
	}
}

// usable is the error of a call on the base or what is on it that cannot be made, or
// cannot be made from here. The caller is inside.
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

// freeLater ends a Free that has to wait for the loop, by somebody who is inside.
func (b *Base) freeLater() {
	b.freesInTurn.Store(true)
	b.close()
	b.closeChildren()
	C.glev_base_wake(b.c)
	b.leave()
}

// freeInTurn is what is to be done for that in the loop's turn.
func (b *Base) freeInTurn() {
	b.freeContents()
	b.runPosted(b.dues.run)
}
