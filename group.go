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

// Loop is what a Base and a Group have in common: what a program needs that serves
// connections and makes its own, and is not to know on how many loops.
type Loop interface {
	// Next returns the base for the next connection: of a Group each in turn, of
	// a Base itself.
	Next() *Base
	// Listen has accept called for each connection, on the loop's goroutine of
	// l.Base(), where the connection is to live. See Base.Listen and Group.Listen.
	Listen(network, address string, opts ListenOptions, accept func(l *Listener, fd int, remote net.Addr)) (*Listener, error)
}

var (
	_ Loop = (*Base)(nil)
	_ Loop = (*Group)(nil)
)

// Group is several event loops that run together, each on its own goroutine and OS
// thread, so that a program's closures use more than one core. What lives on one of
// its bases stays there, with all its closures; closures of different bases run at
// the same time, so what they share needs atomics or a lock. Closures may use
// bufferevents of other loops, unless those were made with OptLoopOnly.
type Group struct {
	bases []*Base
	turn  atomic.Uint64

	mu        sync.Mutex
	running   bool
	finishing bool
	others    int // loops that have not ended, but for the first base's
	kept      int // so many, from the first, do not end for want of events
}

// NewGroup makes loops bases as cfg says, with loops 0 one for each core that the
// program may use (runtime.GOMAXPROCS).
// Safe for concurrent use.
func NewGroup(loops int, cfg Config) (*Group, error) {
	if loops < 0 {
		return nil, badArgument("NewGroup", "loops is %d", loops)
	}
	if loops == 0 {
		// Not NumCPU: closures are Go code, of which no more runs at a time, and
		// this is the one that knows of a container's share of the machine.
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
// Safe for concurrent use.
func (g *Group) Len() int { return len(g.bases) }

// Bases returns the bases in a slice of the caller's, always in the same order. They
// stay the group's, whose Run runs them and whose Free frees them.
// Safe for concurrent use.
func (g *Group) Bases() []*Base { return slices.Clone(g.bases) }

// Next returns each base in turn, for a connection that the caller makes, or a function
// to post that any loop may run. Bases that were freed or cannot run again are left out,
// unless none is left. Of a Group that NewGroup did not make it returns nil.
// Safe for concurrent use.
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

// Next returns b, which is a Loop of one base.
// Safe for concurrent use.
func (b *Base) Next() *Base { return b }

// Stats returns the sums of the bases' counters, also after Free.
// Safe for concurrent use.
func (g *Group) Stats() (sum Stats) {
	for _, b := range g.bases {
		sum = sum.Add(b.Stats())
	}
	return sum
}

// PostAll runs fn once on each loop's goroutine, at the same time on several, with the
// base it runs on. For each it is as with Base.Post. If a base cannot run again the
// others run fn all the same, and the error says why.
// Safe for concurrent use.
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

// Listen is Base.Listen with the connections given to the loops in turn: accept runs
// on the goroutine of the loop whose turn it is, at the same time as that of others, and
// the base where the connection is to live is l.Base(). This l is that loop's share
// of the Listener that Listen returned, and otherwise does what that one does: Free
// in a closure, say, ends accepting for all loops. One base's loop takes the connections
// from the backlog, a different one for each Listen; while a closure keeps that loop, none
// is accepted. When the Listener has been freed or disabled, a connection on its way to
// another loop is closed.
// Safe for concurrent use. Wraps evconnlistener_new_bind.
func (g *Group) Listen(network, address string, opts ListenOptions, accept func(l *Listener, fd int, remote net.Addr)) (*Listener, error) {
	b := g.Next()
	if b == nil {
		return nil, ErrClosed
	}
	return b.listen(network, address, opts, accept, g.bases)
}

// ListenFD is Base.ListenFD with the connections given to the loops in turn, as Listen
// does.
// Safe for concurrent use. Wraps evconnlistener_new.
func (g *Group) ListenFD(fd int, opts ListenOptions, accept func(l *Listener, fd int, remote net.Addr)) (*Listener, error) {
	b := g.Next()
	if b == nil {
		return nil, ErrClosed
	}
	return b.listenFD(fd, opts, accept, g.bases)
}

// Run runs all loops, each on a goroutine of its own, and returns when all have ended.
// They run until ctx ends, and Run then returns context.Cause(ctx); or until one of
// them is ended, by LoopExit or LoopBreak of the group or of the base, which ends the
// others after the callback that each runs now, and Run returns nil. Unlike a Base's, a
// group's loops do not end when nothing is left to wait for, since work may come from
// another loop, unless Finish says that none will.
//
// A panic in a closure ends all loops and is raised again from here, as a *PanicError;
// of several at the same time it is the first, and the others are logged. After a Goexit
// in a closure Run returns ErrLoopAborted: that base cannot run again, and so neither can
// the group. It returns ErrRunning if one of the bases runs already, also when called
// inside a closure of the group.
// Safe for concurrent use. Wraps event_base_loop.
func (g *Group) Run(ctx context.Context) error {
	if ctx == nil {
		ctx = context.Background()
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

// beginRun takes all bases or none. They are given back together, too: a base of a group
// that runs cannot be freed when only its own loop has ended.
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

// keep keeps the loops from ending that must not yet. The first base's ends last, so
// that there is one on which LoopExit can wait.
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
			b.wake() // libevent does not by itself for a timer that was deleted
		}
	}
}

// ended takes note of a loop that had nothing left to wait for.
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
	empty    bool // for want of events
	err      error
	panicked *PanicError
}

// turnApart is turn for a goroutine that has nobody to tell but by ended.
func (b *Base) turnApart(ctx context.Context, ended chan<- loopEnd) {
	end := loopEnd{base: b, err: ErrLoopAborted} // if a Goexit leaves it so
	defer func() {
		if v := recover(); v != nil {
			end = loopEnd{base: b, panicked: panicError(v)}
		}
		ended <- end
	}()
	end.empty, end.err = b.turn("event_base_loop", 0, ctx)
}

// Finish lets each loop end when nothing is left to wait for on its base, and Run
// return when all have ended. Listeners are to be freed or disabled before: what one
// loop gives to another that has ended, connections too, waits for the next Run. While
// no Run is going on it holds for the next one.
// Safe for concurrent use.
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

// LoopExit ends the loops after d: the first base's when the closures that are due on it
// have run, the others' after the callback that each runs then. A negative d is refused. Given
// before Run it ends the next one.
// Safe for concurrent use. Wraps event_base_loopexit.
func (g *Group) LoopExit(d time.Duration) error {
	if len(g.bases) == 0 {
		return ErrClosed
	}
	// One exit for all: one of each base could stay behind when the first has
	// ended the others, and would end the next Run.
	return g.bases[0].LoopExit(d)
}

// LoopBreak ends each loop after the callback that it runs now. While no Run is going on
// it does nothing.
// Safe for concurrent use. Wraps event_base_loopbreak.
func (g *Group) LoopBreak() error { return g.each((*Base).LoopBreak) }

// Free frees the bases and everything that still lives on them, as Base.Free does; the
// connections on their way between loops are closed. While a Run is going on, and so
// inside a closure, it returns ErrRunning and does nothing. If a base's loop was aborted
// by a Goexit it frees what it can and returns ErrLoopAborted.
// Safe for concurrent use. Wraps event_base_free.
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
