// SPDX-License-Identifier: BSD-3-Clause

//go:build cgo

package libevent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Loop is what a Base and a Group have in common, so that one function can serve or make
// connections on one loop or on several. Its methods are safe for concurrent use.
type Loop interface {
	// Next returns the base for the next connection: a Group returns each of its
	// bases in turn, a Base returns itself.
	Next() *Base
	// Listen listens, and calls accept for each connection, on the goroutine of the
	// loop that the connection is for, which is the loop of l.Base(). See Base.Listen
	// and Group.Listen.
	Listen(network, address string, opts ListenOptions, accept func(l *Listener, fd int, remote net.Addr)) (*Listener, error)
}

var (
	_ Loop = (*Base)(nil)
	_ Loop = (*Group)(nil)
)

// Group is several event loops that run together, each on its own goroutine and OS thread,
// so that the closures of a program use more than one core. An object stays on the base on
// which it was made, unless SetBase moves it, and its closures run on the loop of that base.
// Closures of different bases run at the same time, so data that they share needs atomics or
// a lock. Closures may use bufferevents of other loops, unless those were made with
// OptLoopOnly. The methods of a Group are safe for concurrent use.
type Group struct {
	bases []*Base
	turn  atomic.Uint64

	mu        sync.Mutex
	running   bool
	finishing bool
	others    int // loops that have not ended, without that of the first base
	kept      int // how many, from the first, are kept from ending when no events are left
}

// NewGroup makes loops bases as cfg says. With 0 it makes one for each core that the
// program may use (runtime.GOMAXPROCS).
func NewGroup(loops int, cfg Config) (*Group, error) {
	if loops < 0 {
		return nil, badArgument("NewGroup", "loops is %d", loops)
	}
	if loops == 0 {
		// Not NumCPU: closures are Go code, of which no more than GOMAXPROCS
		// run at a time, and GOMAXPROCS knows a container's share of the
		// machine.
		loops = runtime.GOMAXPROCS(0)
	}
	g := &Group{}
	for range loops {
		b, err := NewBaseConfig(cfg)
		if err != nil {
			return nil, errors.Join(err, g.Free())
		}
		g.bases = append(g.bases, b)
	}
	return g, nil
}

// Len returns the number of loops, also after Free.
func (g *Group) Len() int { return len(g.bases) }

// Bases returns the bases, always in the same order, in a slice of the caller's. They
// stay the group's: its Run runs them and its Free frees them.
func (g *Group) Bases() []*Base { return slices.Clone(g.bases) }

// Next returns each base in turn, for a connection that the caller makes, or for a function
// that any loop may run. It leaves out bases that were freed or whose loops cannot run again,
// unless all are. If NewGroup did not make the Group, Next returns nil.
func (g *Group) Next() *Base {
	for range g.bases {
		b := g.bases[(g.turn.Add(1)-1)%uint64(len(g.bases))]
		if b.isOpen() && !b.dead.Load() {
			return b
		}
	}
	if len(g.bases) == 0 {
		return nil
	}
	return g.bases[0]
}

// Next returns b itself. With it a Base is a Loop.
func (b *Base) Next() *Base { return b }

// Stats returns the sums of the bases' counters, also after Free.
func (g *Group) Stats() (sum Stats) {
	for _, b := range g.bases {
		sum = sum.Add(b.Stats())
	}
	return sum
}

// PostAll posts fn to each base, as Base.Post does. Each loop runs fn once, on its goroutine,
// with its base as the argument; several loops may run fn at the same time. If the loop of a
// base cannot run again, the other loops still run fn, and PostAll returns the error.
func (g *Group) PostAll(fn func(b *Base)) error {
	if fn == nil {
		return badArgument("PostAll", "fn is nil")
	}
	return g.each(func(b *Base) error { return b.Post(func() { fn(b) }) })
}

// each calls fn with every base, and returns the first error.
func (g *Group) each(fn func(*Base) error) (err error) {
	if len(g.bases) == 0 {
		return ErrClosed
	}
	for _, b := range g.bases {
		if e := fn(b); err == nil {
			err = e
		}
	}
	return err
}

// Listen is Base.Listen, and gives the connections to the loops in turn. accept runs on the
// goroutine of the loop whose turn it is, and so at the same time on several loops. l.Base()
// is the base of that loop, on which accept makes the bufferevent. The methods of l act on the
// Listener that Listen returned: l.Free, for example, ends accepting for all loops.
//
// One of the loops accepts all connections and passes them on; for the next Listen it is
// another loop. While a closure blocks that loop, no connection is accepted. When the
// Listener is freed or disabled, connections that are on their way to another loop are
// closed.
// Wraps evconnlistener_new_bind.
func (g *Group) Listen(network, address string, opts ListenOptions, accept func(l *Listener, fd int, remote net.Addr)) (*Listener, error) {
	b := g.Next()
	if b == nil {
		return nil, ErrClosed
	}
	return b.listen(network, address, opts, accept, g.bases)
}

// ListenFD is Base.ListenFD, and gives the connections to the loops in turn, as Listen does.
// Wraps evconnlistener_new.
func (g *Group) ListenFD(fd int, opts ListenOptions, accept func(l *Listener, fd int, remote net.Addr)) (*Listener, error) {
	b := g.Next()
	if b == nil {
		return nil, ErrClosed
	}
	return b.listenFD(fd, opts, accept, g.bases)
}

// Run runs all loops, each on a goroutine of its own, and returns when all have ended.
// They run until ctx ends, and Run then returns context.Cause(ctx). They also end when
// LoopExit or LoopBreak, of the group or of a base, ends one of them: the others then
// end after the callback that each runs at that moment, and Run returns nil. They do not
// end when nothing is left to wait for, because work may come from another loop; Finish
// changes that.
//
// A panic in a closure ends all loops, and comes out of Run as a *PanicError. If several
// closures panic at the same time, the first panic comes out, and the others are logged. After
// a runtime.Goexit in a closure Run returns ErrLoopAborted: the base of that closure cannot
// run again, and so the group cannot either. Run returns ErrRunning if one of the bases runs
// already, and so in a closure of the group.
// Wraps event_base_loop.
func (g *Group) Run(ctx context.Context) error {
	if ctx == nil {
		return badArgument("event_base_loop", "ctx is nil")
	}
	if err := g.beginRun(); err != nil {
		return err
	}
	defer g.endRun()
	every, stop := context.WithCancel(ctx)
	defer stop()
	ends := make(chan loopEnd, len(g.bases))
	for _, b := range g.bases {
		go b.turnApart(every, ends)
	}
	var first loopEnd
	for range g.bases {
		end := <-ends
		if end.empty {
			g.ended(end.base)
		} else {
			stop()
		}
		if first.err == nil {
			first.err = end.err
		}
		if first.panicked == nil {
			first.panicked = end.panicked
		} else if end.panicked != nil {
			logger().Error("libevent: a second panic in a closure", slog.Any("err", end.panicked))
		}
	}
	switch {
	case first.panicked != nil:
		panic(first.panicked)
	case first.err != nil:
		return first.err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return nil
}

// beginRun takes the loops of all bases or of none. endRun gives all of them back at
// once, so that no base of a running group can be freed when only its own loop has
// ended.
func (g *Group) beginRun() error {
	if len(g.bases) == 0 {
		return ErrClosed
	}
	for i, b := range g.bases {
		if err := b.beginRun(); err != nil {
			for _, begun := range g.bases[:i] {
				begun.endRun()
			}
			return err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running, g.others = true, len(g.bases)-1
	g.keep()
	return nil
}

// keep keeps those loops from ending that must not end yet. The loop of the first base
// ends last, so that there is one on which LoopExit can wait.
func (g *Group) keep() {
	want := len(g.bases)
	switch {
	case !g.running || g.finishing && g.others == 0:
		want = 0
	case g.finishing:
		want = 1
	}
	for ; g.kept < want; g.kept++ {
		g.bases[g.kept].keep(1)
	}
	for ; g.kept > want; g.kept-- {
		b := g.bases[g.kept-1]
		b.keep(-1)
		if g.running {
			b.wake() // libevent does not wake the loop for a timer that is deleted
		}
	}
}

// ended is called for a loop that had nothing left to wait for.
func (g *Group) ended(b *Base) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if b != g.bases[0] {
		g.others--
		g.keep()
	}
}

func (g *Group) endRun() {
	g.mu.Lock()
	g.running, g.finishing = false, false
	g.keep()
	g.mu.Unlock()
	for _, b := range g.bases {
		b.endRun()
	}
}

// loopEnd is how one loop of a group has ended.
type loopEnd struct {
	base     *Base
	empty    bool // because no events were left
	err      error
	panicked *PanicError
}

// turnApart is turn on a goroutine whose only result is what it sends to ended.
func (b *Base) turnApart(ctx context.Context, ended chan<- loopEnd) {
	end := loopEnd{base: b, err: ErrLoopAborted} // stays so after a Goexit
	defer func() {
		if v := recover(); v != nil {
			end = loopEnd{base: b, panicked: panicError(v)}
		}
		ended <- end
	}()
	end.empty, end.err = b.turn("event_base_loop", 0, ctx)
}

// Finish lets each loop end when nothing is left to wait for on its base. Run returns when
// all have ended. Free or disable listeners before: a connection or a function that one loop
// passes to a loop that has ended waits for the next Run. If no Run is in progress, Finish
// acts on the next one.
func (g *Group) Finish() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.each((*Base).alive); err != nil {
		return err
	}
	g.finishing = true
	g.keep()
	return nil
}

// LoopExit ends the loops after d. The loop of the first base ends when the closures that are
// due on it have run, the other loops after the callback that each runs at that moment. If it
// is called before Run, it ends the next Run. A negative d is refused.
// Wraps event_base_loopexit.
func (g *Group) LoopExit(d time.Duration) error {
	if len(g.bases) == 0 {
		return ErrClosed
	}
	// One exit serves for all. If each base had its own, one could be left over
	// when the first has ended the others, and would end the next Run.
	return g.bases[0].LoopExit(d)
}

// LoopBreak ends each loop after the callback that it runs now. While no Run is in
// progress it does nothing.
// Wraps event_base_loopbreak.
func (g *Group) LoopBreak() error { return g.each((*Base).LoopBreak) }

// Free frees the bases and everything that still lives on them, as Base.Free does, and closes
// connections that are on their way between loops. While a Run is in progress, and so in a
// closure, Free returns ErrRunning and does nothing. If a runtime.Goexit has aborted the loop
// of a base, Free frees what it can and returns ErrLoopAborted.
// Wraps event_base_free.
func (g *Group) Free() (err error) {
	for _, b := range g.bases {
		e := b.Free()
		if errors.Is(e, ErrRunning) {
			return e
		}
		if err == nil {
			err = e
		}
	}
	return err
}
