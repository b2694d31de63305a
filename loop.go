// SPDX-License-Identifier: BSD-3-Clause

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

// Dispatch runs the loop on the calling goroutine. It returns nil when nothing is left
// to wait for, or when LoopExit or LoopBreak ends the loop. If the loop runs already,
// which includes a call inside one of its closures, it returns ErrRunning. A panic in a
// closure comes out of Dispatch as a *PanicError.
// Wraps event_base_dispatch.
func (b *Base) Dispatch() error { return b.run("event_base_dispatch", 0, nil) }

// Loop is Dispatch with flags.
// Wraps event_base_loop.
func (b *Base) Loop(flags LoopFlags) error {
	if unknown := flags &^ (LoopOnce | LoopNonblock | LoopNoExitOnEmpty); unknown != 0 {
		return badArgument("event_base_loop", "flags: unknown bits %v", unknown)
	}
	return b.run("event_base_loop", flags, nil)
}

// Run runs the loop on the calling goroutine until ctx ends, and then returns
// context.Cause(ctx). Unlike Dispatch it does not return when nothing is left to wait for,
// because another goroutine may post work or make a connection. LoopExit and LoopBreak end it,
// too, and then it returns nil. A panic in a closure comes out of Run as a *PanicError. If the
// loop runs already, Run returns ErrRunning.
// Wraps event_base_loop.
func (b *Base) Run(ctx context.Context) error {
	const op = "event_base_loop"
	if ctx == nil {
		return badArgument(op, "ctx is nil")
	}
	return b.run(op, 0, ctx)
}

func (b *Base) run(op string, flags LoopFlags, ctx context.Context) error {
	if err := b.beginRun(); err != nil {
		return err
	}
	defer b.endRun()
	if ctx != nil {
		b.keep(1)
		defer b.keep(-1)
	}
	_, err := b.turn(op, flags, ctx)
	if err == nil && ctx != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// turn runs the loop, between beginRun and endRun, until ctx ends at the latest. empty
// reports that the loop ended because no events were left.
func (b *Base) turn(op string, flags LoopFlags, ctx context.Context) (empty bool, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if ctx != nil && ctx.Done() != nil {
		if ctx.Err() != nil {
			return false, nil
		}
		defer b.watch(ctx)()
	}

	b.debug.runs()
	claimed := !b.hosted()
	if claimed {
		C.glev_base_claim(b.c)
	}
	returned := false
	defer func() {
		if !returned { // a Goexit has removed libevent's frames
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
	if b.dead.Load() { // a function of a filter has ended another goroutine
		return false, ErrLoopAborted
	}
	n, err := result(op, C.int64_t(rc))
	return n == 1, err
}

// beginRun gives the loop to the caller, who runs it until endRun.
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

// watch breaks the loop when ctx ends. It sets a flag that the loop's thread looks at,
// because libevent forgets a loopbreak that comes before the loop is entered.
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

// keep changes how many things keep the loop running although libevent sees no event.
func (b *Base) keep(delta int) {
	if !b.enter() {
		return
	}
	b.mu.Lock()
	b.keepers += delta
	changed := b.keepers == 0 || delta > 0 && b.keepers == delta
	b.mu.Unlock()
	if changed && !b.dead.Load() && (!b.noLocks || b.onLoop()) {
		b.applyKeepers()
	} else if changed {
		b.enqueue(task{run: b.applyKeepers})
	}
	b.leave()
}

func (b *Base) applyKeepers() {
	b.mu.Lock()
	C.glev_base_keep(b.c, cBool(b.keepers > 0))
	b.mu.Unlock()
}

// LoopExit ends the loop after d, rounded up to microseconds, when the closures that
// are due by then have run. If it is called before the loop starts, it ends the next
// run. A negative d is refused.
// Wraps event_base_loopexit.
func (b *Base) LoopExit(d time.Duration) error {
	const op = "event_base_loopexit"
	if d < 0 {
		return badArgument(op, "d is negative: %v", d)
	}
	if err := b.enterAlive(op); err != nil {
		return err
	}
	defer b.leave()
	tv := timeval(d)
	return done(op, C.event_base_loopexit(b.event, &tv))
}

// LoopBreak ends the loop after the callback that runs now. The callbacks that are left
// wait for the next run. The read, write and event closures that are due for one
// bufferevent are one callback. While no loop runs LoopBreak does nothing.
// Wraps event_base_loopbreak.
func (b *Base) LoopBreak() error {
	if err := b.enterAlive("event_base_loopbreak"); err != nil {
		return err
	}
	defer b.leave()
	rc := b.breakLoop()
	if !b.onLoop() {
		// libevent forgets a break that comes while it enters the loop. The
		// queue looks at broken, so wake it.
		C.glev_base_wake(b.c)
	}
	return done("event_base_loopbreak", rc)
}

// LoopContinue makes the loop look for new events after the callback that runs now,
// before it runs the other callbacks that are due.
// Wraps event_base_loopcontinue.
func (b *Base) LoopContinue() error {
	if err := b.enterAlive("event_base_loopcontinue"); err != nil {
		return err
	}
	defer b.leave()
	return done("event_base_loopcontinue", C.event_base_loopcontinue(b.event))
}

// GotExit reports whether LoopExit ended the loop.
// Wraps event_base_got_exit.
func (b *Base) GotExit() bool {
	if !b.enter() {
		return false
	}
	defer b.leave()
	return C.event_base_got_exit(b.event) != 0
}

// GotBreak reports whether LoopBreak ended the loop.
// Wraps event_base_got_break.
func (b *Base) GotBreak() bool {
	if !b.enter() {
		return false
	}
	defer b.leave()
	return C.event_base_got_break(b.event) != 0
}

// breakLoop breaks the loop. If C runs the loop, it sets no flag that the next run
// would see, because C starts that one.
func (b *Base) breakLoop() C.int {
	b.broken.Store(!b.hosted())
	return C.event_base_loopbreak(b.event)
}

// alive returns the error of a loop that cannot run again, or nil.
func (b *Base) alive() error {
	err := b.enterAlive("event_base_loop")
	if err == nil {
		b.leave()
	}
	return err
}

// OnLoop reports whether the calling goroutine runs the loop, as it does in a closure. A
// function that waits for a closure must not wait on that goroutine, because the closure could
// not run then. If the base is freed, OnLoop returns false.
func (b *Base) OnLoop() bool {
	if !b.enter() {
		return false
	}
	defer b.leave()
	return b.onLoop()
}

// onLoop reports whether the caller is the loop's goroutine. The caller has entered the
// base or one of its objects.
func (b *Base) onLoop() bool { return C.glev_base_on_loop(b.c) != 0 }

// --- work for the loop's goroutine --------------------------------------------

// task is a function for the loop's goroutine.
type task struct {
	run    func()
	posted bool // a function of the user's, which may panic; the binding's own do not
}

// taskQueue has the tasks that have not run, behind some that have.
type taskQueue struct {
	tasks []task
	ran   int
}

func (q *taskQueue) left() []task { return q.tasks[q.ran:] }

// maxSpare bounds the memory that is kept after many posts, in tasks.
const maxSpare = 4096

// drop removes the first n tasks.
func (q *taskQueue) drop(n int) {
	clear(q.left()[:n])
	q.ran += n
	switch left := q.left(); {
	case len(left) == 0 && cap(q.tasks) > maxSpare:
		*q = taskQueue{}
	case len(left) <= q.ran: // so a task is moved once on average, at most
		moved := copy(q.tasks, left)
		clear(q.tasks[moved:])
		*q = taskQueue{tasks: q.tasks[:moved]}
	}
}

// Post has the loop run fn on its goroutine in its next turn, after the functions that were
// posted before. Post returns at once. In one turn the loop runs a bounded number of posted
// functions before it looks at sockets and timers again, so a function that posts itself again
// does not keep these waiting. When no loop runs, fn waits for the next run. The loop does not
// end before fn has run, even if no events are left, unless LoopExit, LoopBreak or the context
// of Run ends it.
// Stands for event_base_once.
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

// lockIdle locks own and returns true if no loop runs. No loop starts before the caller
// unlocks own. lockIdle never waits for a function of the user's.
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

// lockOwn locks own. It returns false if a function of the user's runs while own is
// held: that may be the caller itself, or may be waiting for the caller.
func (b *Base) lockOwn() bool {
	for !b.own.TryLock() {
		if b.ownHeldByUser.Load() {
			return false
		}
		runtime.Gosched()
	}
	return true
}

// enterUser is called before a function of the user's runs on the loop's thread, and, if the
// result is true, leaveUser after the function. libevent runs closures without
// OptDeferCallbacks, and functions of filters, also inside a call that acts as the loop.
func (b *Base) enterUser() (entered bool) {
	return b.borrowed.Load() && !b.ownHeldByUser.Swap(true)
}

func (b *Base) leaveUser() { b.ownHeldByUser.Store(false) }

func (b *Base) enqueue(t task) {
	// The base is entered until the wake is made, because Base.Free may take the
	// task and end as soon as the queue is unlocked.
	open := b.enter()
	b.mu.Lock()
	b.queue.tasks = append(b.queue.tasks, t)
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

// mostTasks is how many tasks run in a turn of the loop, and how many closures that are due
// (see due.go), before the loop looks for new events. libevent's own bound for deferred
// callbacks is the same.
const mostTasks = 32

// runQueue is the callback of the wake event.
func (b *Base) runQueue() {
	b.runDues()
	var batch [mostTasks]task
	b.mu.Lock()
	n := copy(batch[:], b.queue.left())
	b.armed = false
	b.mu.Unlock()

	next := 0
	defer func() { // also when a closure ends the goroutine
		b.mu.Lock()
		defer b.mu.Unlock()
		b.queue.drop(next)
		if len(b.queue.left()) > 0 && !b.armed {
			b.armed = true
			C.glev_base_wake(b.c)
		}
	}()
	for next < n && !b.stopping() {
		t := batch[next]
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

// stopping reports whether the rest of the queue must wait for the next run.
func (b *Base) stopping() bool {
	return b.panicked.Load() != nil || b.broken.Load() || b.cancelled.Load() ||
		b.hosted() && C.event_base_got_break(b.event) != 0
}

func (b *Base) runPosted(fn func()) {
	returned := false
	defer b.ran(&returned)
	b.count()
	fn()
	returned = true
}

// timeval converts d, rounded up to microseconds.
func timeval(d time.Duration) C.struct_timeval {
	us := microseconds(d)
	return C.struct_timeval{tv_sec: C.time_t(us / 1e6), tv_usec: C.suseconds_t(us % 1e6)}
}

// microseconds rounds up, because a timer must not fire early and 0 means no timeout.
func microseconds(d time.Duration) int64 {
	us := d / time.Microsecond
	if d%time.Microsecond > 0 {
		us++
	}
	return int64(us)
}
