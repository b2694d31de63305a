package libevent

/*
#include "native.h"
*/
import "C"

import (
	"context"
	"runtime"
	"time"
)

// Dispatch runs the loop on the calling goroutine until nothing is left to wait
// for, or LoopExit or LoopBreak ends it; then it returns nil. It returns ErrRunning
// if the loop runs already, also when called inside one of its closures. A panic
// in a closure is raised again from here, as a *PanicError.
// Safe for concurrent use. Wraps event_base_dispatch.
func (b *Base) Dispatch() error { return b.run("event_base_dispatch", 0, nil) }

// Loop is Dispatch with flags.
// Safe for concurrent use. Wraps event_base_loop.
func (b *Base) Loop(flags LoopFlags) error {
	if unknown := flags &^ (LoopOnce | LoopNonblock | LoopNoExitOnEmpty); unknown != 0 {
		return badArgument("event_base_loop", "flags: unknown bits %v", unknown)
	}
	return b.run("event_base_loop", flags, nil)
}

// Run is Dispatch until ctx ends: then it returns context.Cause(ctx). A context
// that can end keeps the loop running though nothing is left to wait for.
// Safe for concurrent use. Wraps event_base_loop.
func (b *Base) Run(ctx context.Context) error { return b.run("event_base_loop", 0, ctx) }

func (b *Base) run(op string, flags LoopFlags, ctx context.Context) error {
	if err := b.beginRun(); err != nil {
		return err
	}
	defer b.endRun()
	if ctx != nil && ctx.Done() != nil {
		b.keep(1)
		defer b.keep(-1)
	}
	_, err := b.turn(op, flags, ctx)
	if err == nil && ctx != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// turn runs the loop, between beginRun and endRun, until ctx ends at the latest. empty is
// whether it ended for want of events.
func (b *Base) turn(op string, flags LoopFlags, ctx context.Context) (empty bool, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if ctx != nil && ctx.Done() != nil {
		if ctx.Err() != nil {
			return false, nil
		}
		defer b.watch(ctx)()
	}

	claimed := !b.hosted()
	if claimed {
		C.glev_base_claim(b.c)
	}
	returned := false
	defer func() {
		if !returned { // a Goexit took libevent's frames away
			b.dead.Store(true)
		}
		if claimed {
			C.glev_base_unclaim(b.c)
		}
	}()
	rc := C.glev_base_loop(b.c, C.int(flags))
	returned = true
	if p := b.panicked.Swap(nil); p != nil {
		panic(p)
	}
	n, err := result(op, C.int64_t(rc))
	return n == 1, err
}

// beginRun makes the caller the one who runs the loop.
func (b *Base) beginRun() error {
	if !b.enter() {
		return ErrClosed
	}
	err := ErrRunning
	if b.lockOwn() {
		switch {
		case b.dead.Load():
			err = ErrLoopAborted
		case !b.running:
			b.running = true
			b.broken.Store(false)
			err = nil
		}
		b.own.Unlock()
	}
	if err != nil {
		b.leave()
	}
	return err
}

func (b *Base) endRun() {
	b.own.Lock()
	b.running = false
	b.own.Unlock()
	b.leave()
}

// watch breaks the loop when ctx ends, through a flag that the loop's own thread
// looks at: a loopbreak that comes before the loop is entered would be lost.
func (b *Base) watch(ctx context.Context) (unwatch func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		b.cancelled.Store(true)
		b.wake()
	})
	return func() {
		if !stop() {
			<-done
		}
		b.cancelled.Store(false)
	}
}

// keep counts what keeps the loop running though libevent sees no event.
func (b *Base) keep(delta int) {
	if !b.enter() {
		return
	}
	b.mu.Lock()
	b.keepers += delta
	changed := b.keepers == 0 || delta > 0 && b.keepers == delta
	b.mu.Unlock()
	if changed && b.usable() == nil {
		b.applyKeepers()
	} else if changed { // on another goroutine than a base without locks can bear
		b.enqueue(task{run: b.applyKeepers})
	}
	b.leave()
}

func (b *Base) applyKeepers() {
	b.mu.Lock()
	C.glev_base_keep(b.c, cBool(b.keepers > 0))
	b.mu.Unlock()
}

// LoopExit ends the loop after d, when the closures that are due have run. Given
// before the loop starts it ends the next one. A negative d is refused.
// Safe for concurrent use. Wraps event_base_loopexit.
func (b *Base) LoopExit(d time.Duration) error {
	const op = "event_base_loopexit"
	if d < 0 {
		return badArgument(op, "d is negative: %v", d)
	}
	if err := b.enterAlive(); err != nil {
		return err
	}
	defer b.leave()
	tv := timeval(d)
	return done(op, C.event_base_loopexit(b.event, &tv))
}

// LoopBreak ends the loop after the callback that runs now; the rest waits for the
// next run. What is due for one bufferevent is one callback: its read, write and event
// closures. While no loop runs it does nothing.
// Safe for concurrent use. Wraps event_base_loopbreak.
func (b *Base) LoopBreak() error {
	if err := b.enterAlive(); err != nil {
		return err
	}
	defer b.leave()
	rc := b.breakLoop()
	if !b.onLoop() {
		// libevent forgets a break that comes while it enters the loop; the queue
		// remembers.
		C.glev_base_wake(b.c)
	}
	return done("event_base_loopbreak", rc)
}

// LoopContinue has the loop look for new events after the callback that runs now,
// before the others that are due.
// Safe for concurrent use. Wraps event_base_loopcontinue.
func (b *Base) LoopContinue() error {
	if err := b.enterAlive(); err != nil {
		return err
	}
	defer b.leave()
	return done("event_base_loopcontinue", C.event_base_loopcontinue(b.event))
}

// GotExit reports whether the loop ended because of LoopExit.
// Safe for concurrent use. Wraps event_base_got_exit.
func (b *Base) GotExit() bool {
	if !b.enter() {
		return false
	}
	defer b.leave()
	return C.event_base_got_exit(b.event) != 0
}

// GotBreak reports whether the loop ended because of LoopBreak.
// Safe for concurrent use. Wraps event_base_got_break.
func (b *Base) GotBreak() bool {
	if !b.enter() {
		return false
	}
	defer b.leave()
	return C.event_base_got_break(b.event) != 0
}

// breakLoop leaves nothing behind for the next run where that is C's to begin.
func (b *Base) breakLoop() C.int {
	b.broken.Store(!b.hosted())
	return C.event_base_loopbreak(b.event)
}

// alive is the error of a loop that cannot run again.
func (b *Base) alive() error {
	err := b.enterAlive()
	if err == nil {
		b.leave()
	}
	return err
}

// OnLoop reports whether the caller is the loop's goroutine, in a closure say: for those
// who would wait there for something that only the loop brings, and so for ever. It is
// false when the base is freed.
// Safe for concurrent use.
func (b *Base) OnLoop() bool {
	if !b.enter() {
		return false
	}
	defer b.leave()
	return b.onLoop()
}

// onLoop reports whether the caller is the loop's goroutine. The caller is inside
// the base or one of its objects.
func (b *Base) onLoop() bool { return C.glev_base_on_loop(b.c) != 0 }

// --- what others want done on the loop's goroutine ---------------------------

// task is a function for the loop's goroutine.
type task struct {
	run    func()
	posted bool // by the user, so guarded; the binding's own cannot fail
}

// Post runs fn on the loop's goroutine, in the loop's next turn, after those that
// were posted before. It returns at once. A function that posts itself again waits
// for the next turn, so sockets are served in between. When no loop runs, fn waits
// for the next run; a loop does not end for want of events before it has run.
// Safe for concurrent use.
func (b *Base) Post(fn func()) error {
	if fn == nil {
		return badArgument("Post", "fn is nil")
	}
	if !b.enter() {
		return ErrClosed
	}
	defer b.leave()
	if b.dead.Load() {
		return ErrLoopAborted
	}
	b.enqueue(task{fn, true})
	return nil
}

// lockIdle locks own if no loop runs; none starts before own is unlocked. It never waits
// for a function of the user's.
func (b *Base) lockIdle() bool {
	if !b.lockOwn() {
		return false
	}
	if b.running || b.hosted() {
		b.own.Unlock()
		return false
	}
	return true
}

// lockOwn locks own, but does not wait for a function of the user's: neither for the
// caller's own, nor for one that may be waiting for the caller.
func (b *Base) lockOwn() bool {
	for !b.own.TryLock() {
		if b.ownHeldByUser.Load() {
			return false
		}
		runtime.Gosched()
	}
	return true
}

func (b *Base) enqueue(t task) {
	// Inside the base until the wake is made: the moment the queue is
	// unlocked, Base.Free may take the task and end.
	open := b.enter()
	b.mu.Lock()
	b.queue = append(b.queue, t)
	arm := open && !b.armed
	if arm {
		b.armed = true
	}
	b.changed.Broadcast()
	b.mu.Unlock()
	if arm {
		C.glev_base_wake(b.c)
	}
	if open {
		b.leave()
	}
}

func (b *Base) wake() {
	if b.enter() {
		C.glev_base_wake(b.c)
		b.leave()
	}
}

// maxSpare bounds the memory that a storm of posts leaves behind, in tasks.
const maxSpare = 4096

// runQueue is the wake event's callback.
func (b *Base) runQueue() {
	b.runDues()
	b.mu.Lock()
	batch := b.queue
	b.queue, b.spare = b.spare[:0], nil
	b.armed = false
	b.mu.Unlock()

	next := 0
	defer func() { // also when a closure ends the goroutine
		b.mu.Lock()
		defer b.mu.Unlock()
		if next == len(batch) {
			if cap(batch) <= maxSpare {
				b.spare = batch[:0]
			}
			return
		}
		b.queue = append(batch[next:len(batch):len(batch)], b.queue...)
		if !b.armed {
			b.armed = true
			C.glev_base_wake(b.c)
		}
	}()
	for next < len(batch) && !b.stopping() {
		t := batch[next]
		batch[next] = task{}
		next++
		if t.posted {
			b.runPosted(t.run)
		} else {
			t.run()
		}
	}
	if b.stopping() {
		b.broken.Store(false)
		C.event_base_loopbreak(b.event)
	}
}

// stopping reports whether what is queued must wait for the next run.
func (b *Base) stopping() bool {
	return b.panicked.Load() != nil || b.broken.Load() || b.cancelled.Load() ||
		b.hosted() && C.event_base_got_break(b.event) != 0
}

func (b *Base) runPosted(fn func()) {
	returned := false
	defer b.ran(&returned)
	b.callbacks.Add(1)
	fn()
	returned = true
}

// timeval is d, rounded up to microseconds.
func timeval(d time.Duration) C.struct_timeval {
	us := microseconds(d)
	return C.struct_timeval{tv_sec: C.time_t(us / 1e6), tv_usec: C.suseconds_t(us % 1e6)}
}

// microseconds rounds up: a timer must not fire early, and 0 means none.
func microseconds(d time.Duration) int64 {
	us := d / time.Microsecond
	if d%time.Microsecond > 0 {
		us++
	}
	return int64(us)
}
