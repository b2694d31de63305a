// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include "native.h"
*/
import "C"

import (
	"errors"
	"runtime"
	"sync/atomic"
	"syscall"
)

// FilterFunc takes bytes from src, changes them, and appends the result to dst. For the function
// for the input, src is the input of the bufferevent below, and dst the input of the filter. For
// the function for the output, src is the output of the filter, and dst the output of the
// bufferevent below. limit is how many bytes dst should get at most; -1 means no limit.
//
// If mode is FlushFinished, no more bytes will follow, so the function appends what it still
// holds. At the end of the stream the function for the input is called in this way before the
// event closure gets EventEOF, and what it appends goes to the read closure first. If something
// is missing then, such as a part of a frame, the function returns FilterError. The event closure
// gets EventError instead of EventEOF, so that a stream which was cut does not look whole.
//
// The function returns FilterOK if it has moved something. It is then called again if there is
// more, at once or after the loop has served others. It returns FilterNeedMore if it cannot go
// on before more bytes come. It returns FilterError with an error if the bytes are invalid; then
// the event closure gets EventError, and Err returns that error inside an *Error.
//
// libevent needs the result at once, so it holds a lock while it calls a FilterFunc. It does so
// for no other closure. The function runs on the loop's goroutine, or on the goroutine that
// writes to the filter. It may use src and dst, must not keep them, and must not use any other
// object of this package. It must not wait for another goroutine, because that may need the
// lock. A panic in it comes out of the method that made libevent call it, or out of Dispatch,
// Loop or Run if the loop called it.
type FilterFunc func(src, dst *Buffer, limit int, mode FlushMode) (FilterResult, error)

// filter is what a BufferEvent has in addition if it is a filter.
type filter struct {
	in, out    FilterFunc
	closeBelow bool
	running    atomic.Bool           // one of the functions runs
	err        atomic.Pointer[error] // the error of a FilterError, until its event comes
}

// NewFilter puts a filter on the bufferevent under. What the program reads from the filter has
// gone through in, and what it writes to the filter goes through out. If one of them is nil, the
// bytes of that direction pass unchanged.
//
// The filter uses under until the filter is freed. Meanwhile the closures of under are not
// called, and these methods of under return errors: SetCallbacks, CloseWrite, FreeAfterFlush,
// Trigger, TriggerEvent, and Peek, Pullup and Reserve of its buffers. With OptCloseOnFree, Free
// of the filter also frees under. Without it, the closures of under are called again after that, and
// under takes another filter. Free of the filter may return before that; AfterFree tells of it. While
// a function of Peek, Pullup or Reserve sees bytes of under, NewFilter returns ErrLent.
//
// The filter reads nothing before Enable(EvRead). CloseWrite and FreeAfterFlush of the filter
// first call out with FlushFinished, and then wait until the bufferevents below have written. If TLS
// is on the filter, FreeAfterFlush of TLS calls out with FlushFinished after TLS has ended its stream,
// and CloseWrite with FlushSync, because TLS may still have to answer its peer.
//
// The end of under, and an error of it, are told after the bytes that came before. Both wait while the
// filter does not read; the error only as long as there is nothing to write, because it may have ended
// writing as well.
//
// When a timeout of under passes, libevent turns that direction of under off, and the filter's
// event closure gets EventTimeout. To go on, it calls Enable of under.
// Wraps bufferevent_filter_new.
func NewFilter(under *BufferEvent, in, out FilterFunc, opts Options) (*BufferEvent, error) {
	const op = "bufferevent_filter_new"
	if under == nil {
		return nil, badArgument(op, "under is nil")
	}
	flags, loopOnly, err := under.Base().options(opts)
	if err != nil {
		return nil, badArgument(op, "%v", err)
	}
	if !under.enter() {
		return nil, ErrClosed
	}
	if under.loopOnly && !loopOnly {
		under.leave()
		return nil, badArgument(op, "opts: under has OptLoopOnly, so its filter needs it, too")
	}
	base := under.base
	if err := base.enterAlive(op); err != nil {
		under.leave()
		return nil, err
	}
	defer base.leave()
	b := newBufferEvent(base, loopOnly)
	b.filter = &filter{in: in, out: out, closeBelow: opts&OptCloseOnFree != 0}
	rc := under.makeFilter(b, flags)
	if rc < 0 {
		b.handle.release()
		under.leave()
		if rc == -C.int64_t(syscall.EBUSY) {
			return nil, badArgument(op, "under has a filter already (one that was freed is on top until its AfterFree), or its writing side was closed")
		}
		_, err := result(op, rc)
		return nil, err
	}
	b.below = under // it stays entered until the filter is freed
	b.complete(opts)
	return b, nil
}

// makeFilter makes the record of b, a filter on this bufferevent, which the caller has
// entered.
func (under *BufferEvent) makeFilter(b *BufferEvent, flags C.int) C.int64_t {
	in, out := cBool(b.filter.in != nil), cBool(b.filter.out != nil)
	c := nativeCall{base: under.base, filters: under.filter != nil}
	defer c.stop()
	for c.next() {
		if c.rc = C.glev_bev_check(under.c); c.rc == 0 {
			var errno C.int
			b.c = C.glev_filter_new(under.c, in, out, flags, cBool(b.loopOnly), b.handle.forC(), &errno)
			if b.c == nil {
				c.rc = -C.int64_t(errno)
			}
		}
	}
	return c.rc
}

// Underlying returns the bufferevent that a filter is on, or nil.
// Wraps bufferevent_get_underlying.
func (b *BufferEvent) Underlying() *BufferEvent { return b.below }

// enterFilters is called before a C call that may run functions of filters, and
// leaveFilters after it. leaveFilters raises the panic of such a function: C has kept
// it until then, because libevent holds locks while the function runs.
func enterFilters() {
	runtime.LockOSThread() // C keeps the panic by thread
	C.glev_filter_enter()
}

func leaveFilters() {
	panicked := handle(C.glev_filter_leave())
	runtime.UnlockOSThread()
	if panicked != 0 {
		p, _ := restore[*PanicError](uintptr(panicked))
		panicked.release()
		panic(p)
	}
}

// filtered runs one of the two functions. The caller has entered; filtered leaves.
func (b *BufferEvent) filtered(out bool, limit int, mode FlushMode) (result FilterResult) {
	fn, src, dst := b.filter.in, &b.below.in, &b.in
	if out {
		fn, src, dst = b.filter.out, &b.out, &b.below.out
	}
	if fn == nil { // bytes pass as they are, so nothing is left
		b.leave()
		return FilterNeedMore
	}
	returned := false
	outermost := b.filter.running.CompareAndSwap(false, true)
	entered := b.base.enterUser()
	defer func() {
		if outermost {
			b.filter.running.Store(false)
		}
		if !returned {
			result = FilterError
			b.filterFailed(recover())
		}
		b.leave()
		if entered {
			b.base.leaveUser()
		}
	}()
	b.base.callbacks.Add(1) // and not count: it may be on another goroutine than the loop's
	result, err := fn(src, dst, limit, mode)
	returned = true
	if result == FilterOK || result == FilterNeedMore {
		return result
	}
	if err == nil {
		err = errors.New("a filter function failed and gave no reason")
	}
	err = &Error{Op: "filter", Err: err}
	b.filter.err.Store(&err)
	return FilterError
}

// filterFailure takes the error of the filter, or of one below, that is behind an event.
func (b *BufferEvent) filterFailure() error {
	for ; b != nil && b.filter != nil; b = b.below {
		if err := b.filter.err.Swap(nil); err != nil {
			return *err
		}
	}
	return nil
}

// filterFailed hands a panic to the Go method that called into libevent on this thread,
// or else to the caller of the loop.
func (b *BufferEvent) filterFailed(panicked any) {
	var err error = &Error{Op: "filter", Err: errors.New("a filter function panicked")}
	b.filter.err.Store(&err)
	if panicked == nil { // a Goexit, perhaps not on the loop's goroutine
		C.glev_filter_abandon(b.c)
		b.base.failed(nil)
		if !b.base.hosted() {
			b.base.breakLoop()
		}
		return
	}
	p := panicError(panicked)
	h := newHandle(p)
	if C.glev_filter_panicked(h.forC()) == 0 {
		h.release()
		b.base.failed(p)
	}
}
