// SPDX-License-Identifier: BSD-3-Clause

package chaos_test

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/go-libevent/libevent"
)

// priorities are so many that the usual one, which is the middle, is the last.
const priorities = 2

// loop is one of the bases, and the actor of its closures.
type loop struct {
	base  *libevent.Base
	actor *actor

	rates atomic.Pointer[libevent.RateLimitGroup]

	asked, answered atomic.Int64 // pings
}

// errOnPurpose is what closures and filter functions panic with.
var errOnPurpose = errors.New("on purpose")

// loopOf returns the loop of a base.
func (w *world) loopOf(base *libevent.Base) *loop {
	if base == w.loops[0].base {
		return w.loops[0]
	}
	return w.loops[1]
}

// ping has the loop answer. A loop that does not, hangs or starves.
func (l *loop) ping() {
	asked := l.asked.Load()
	if l.answered.Load() < asked {
		return
	}
	l.asked.Store(asked + 1)
	_ = l.base.Post(func() { l.answered.Store(asked + 1) })
}

// drive runs loops again and again until the run is over. turn runs them once.
func (w *world) drive(a *actor, turn func(context.Context) error, turns ...func() error) {
	for w.ctx.Err() == nil {
		w.drivenOnce(a, turn, turns)
		if a.chance(1, 4) {
			a.rest(3 * time.Millisecond) // the acts of other goroutines find no loop that runs
		}
	}
}

func (w *world) drivenOnce(a *actor, turn func(context.Context) error, turns []func() error) {
	defer w.recovered()
	ctx, cancel := w.ctx, context.CancelFunc(func() {})
	if a.chance(1, 2) {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(a.rng.Intn(100))*time.Millisecond)
	}
	defer cancel()
	if n := a.rng.Intn(2 + len(turns)); n < len(turns) {
		a.note(nil, "the loop runs, way %d", n)
		for range 1 + a.rng.Intn(20) {
			w.expect(nil, "running the loop", turns[n]())
		}
		return
	}
	a.note(nil, "the loop runs")
	w.expect(nil, "running the loop", turn(ctx), context.Canceled, context.DeadlineExceeded)
}

// recovered is deferred where a closure or a filter function may have panicked on purpose.
func (w *world) recovered() {
	v := recover()
	if p, ok := v.(*libevent.PanicError); ok && p.Value == errOnPurpose || v == nil {
		return
	}
	panic(v)
}

// startLoops has the loops run in the background: each on a goroutine of its own, or both as a
// Group.
func (w *world) startLoops(a *actor) error {
	cfg := libevent.Config{Priorities: priorities, PlainIO: a.chance(1, 6)}
	if a.chance(1, 4) {
		cfg.OnPanic = func(value any, stack []byte) {
			if value != errOnPurpose {
				w.fail(nil, "a closure panicked: %v\n%s", value, stack)
			}
		}
	}
	var bases []*libevent.Base
	if w.kinds["group"] && a.chance(1, 3) {
		group, err := libevent.NewGroup(2, cfg)
		if err != nil {
			return err
		}
		bases, w.free = group.Bases(), group.Free
		w.describe("a group, plain %v, OnPanic %v", cfg.PlainIO, cfg.OnPanic != nil)
		driver := w.newActor("group")
		w.drivers.Go(func() { w.drive(driver, group.Run) })
	} else {
		for range 2 {
			base, err := libevent.NewBaseConfig(cfg)
			if err != nil {
				return err
			}
			bases = append(bases, base)
		}
		w.free = func() error { return errors.Join(bases[0].Free(), bases[1].Free()) }
		w.describe("two bases, plain %v, OnPanic %v", cfg.PlainIO, cfg.OnPanic != nil)
		for i, base := range bases {
			driver := w.newActor([]string{"run0", "run1"}[i])
			w.drivers.Go(func() {
				w.drive(driver, base.Run,
					func() error { return base.Loop(libevent.LoopOnce) },
					func() error { return base.Loop(libevent.LoopNonblock) })
			})
		}
	}
	for i, base := range bases {
		w.loops[i] = &loop{base: base, actor: w.newActor([]string{"loop0", "loop1"}[i])}
		rates, err := base.NewRateLimitGroup(libevent.RateLimit{ReadRate: 1 << 20, WriteRate: 1 << 20, Tick: 10 * time.Millisecond})
		if err != nil {
			return err
		}
		w.loops[i].rates.Store(rates)
	}
	return nil
}

// post has fn run on the loop's goroutine of a base, and perhaps panic after it.
func (a *actor) post(base *libevent.Base, fn func(a *actor)) {
	panics := a.w.acts["panic"] && a.chance(1, 200)
	err := base.Post(func() {
		a := a.w.loopOf(base).actor
		a.ran++
		fn(a)
		if panics {
			a.note(nil, "panics in a posted function")
			panic(errOnPurpose)
		}
	})
	a.w.expect(nil, "Post", err)
	if err == nil {
		a.posted++
	}
}
