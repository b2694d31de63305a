// SPDX-License-Identifier: BSD-3-Clause

package chaos_test

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

// examine keeps everybody from acting on the connection, and waits until all bytes that were
// written have arrived. That must happen by itself, unless something is off that has to be on.
func (c *conn) examine(a *actor) {
	c.ops.Lock()
	defer c.ops.Unlock()
	c.calm.Store(true)
	defer c.calm.Store(false)
	a.note(c.ends[0], "is examined")
	touched := c.restore(a)
	for _, s := range c.streams {
		c.await(a, s, touched)
	}
}

// restore undoes what keeps bytes from moving. It returns what it had to do.
func (c *conn) restore(a *actor) (touched string) {
	for _, e := range c.ends {
		if e.raw == nil && !e.freed.Load() {
			touched += e.undeafen(a)
			e.do(a, func(a *actor) {
				for _, did := range e.restore(a) {
					a.note(e, "is restored: %s", did)
					touched += fmt.Sprintf("\nside %d: %s", e.side, did)
				}
			})
		}
	}
	return touched
}

// undeafen gives the end its closures. A filter that was on top may have to go first, for which the
// loop has to run.
func (e *end) undeafen(a *actor) (touched string) {
	if e.deaf.Swap(false) {
		touched = fmt.Sprintf("\nside %d: it has a read closure again", e.side)
	}
	a.w.eventually("the closures can be set", func() (set bool) {
		e.do(a, func(*actor) {
			err := e.listen(e.top())
			set = err == nil || errors.Is(err, libevent.ErrClosed)
		})
		return set
	})
	return touched
}

func (e *end) restore(a *actor) (did []string) {
	if e.away.Load() >= 0 {
		e.onLoopDo(a, func(a *actor) { e.giveBack(a) })
		did = append(did, "its descriptor is back")
	}
	did = append(did, e.untimed(a)...)
	for _, l := range e.layers() {
		if off := e.enable(l); off != 0 {
			did = append(did, fmt.Sprintf("%s has %v on", l.kind, off))
		}
	}
	if e.out.held.Load() > 0 {
		e.flushAll()
	}
	e.takeAll(a)
	return did
}

// enable turns on what has to be on in a layer and is not.
func (e *end) enable(l *layer) libevent.What {
	want := libevent.What(0)
	// In both directions, also for a stream in one. The end whose handshake is done first may still
	// have the last message of it in its output.
	handshakes := !e.connected.Load() || !e.conn.ends[1-e.side].connected.Load()
	if handshakes || !e.in.ended.Load() && e.in.whole() {
		want |= rd
	}
	if handshakes || e.out.whole() {
		want |= wr
	}
	off := want &^ l.bev.Enabled()
	if off != 0 {
		e.conn.w.expect(e, "Enable", l.bev.Enable(off), mayFail...)
	}
	return off
}

// untimed takes the timeouts away. One that has passed may be due to be told, which turns a
// direction off, so this waits until it has been told.
func (e *end) untimed(a *actor) (did []string) {
	for _, l := range e.layers() {
		if l.timed.Swap(false) {
			a.w.expect(e, "SetTimeouts", l.bev.SetTimeouts(0, 0), mayFail...)
			did = append(did, l.kind+" has no timeouts")
		}
	}
	if did != nil || e.events.Swap(false) {
		for range 3 {
			e.onLoopDo(a, func(*actor) {})
		}
	}
	return did
}

// flushAll has all filters give what they hold.
func (e *end) flushAll() {
	layers := e.layers()
	for i := range layers {
		_, err := layers[len(layers)-1-i].bev.Flush(wr, libevent.FlushSync)
		e.conn.w.expect(e, "Flush", err, append(mayFail, syscall.EPIPE)...)
	}
}

// do runs fn here, or, for an end that is for the loop's goroutine, there.
func (e *end) do(a *actor, fn func(a *actor)) {
	if e.loopOnly() {
		e.onLoopDo(a, fn)
	} else {
		fn(a)
	}
}

func (e *end) onLoopDo(a *actor, fn func(a *actor)) {
	if e.onLoop() { // the loop of an end that is for its goroutine only
		fn(a)
		return
	}
	done := make(chan struct{})
	a.post(e.bottom().bev.Base(), func(a *actor) {
		defer close(done)
		fn(a)
	})
	select {
	case <-done:
	case <-time.After(*patienceFlag):
		a.w.loopsAnswer()
		a.w.stalled(e.conn, "a posted function has not run")
	}
}

// reader returns the end that reads a stream.
func (c *conn) reader(s *stream) *end {
	if c.ends[0].in == s {
		return c.ends[0]
	}
	return c.ends[1]
}

// await waits until a stream has arrived: all of it, and its end if it has one.
func (c *conn) await(a *actor, s *stream, touched string) {
	e := c.reader(s)
	last, since := int64(-1), time.Now()
	timeouts := [2]int64{-1, -1}
	for s.whole() && !c.w.failed() {
		waiting, low := 0, 0
		if e.raw == nil {
			e.do(a, func(*actor) {
				waiting = e.top().bev.Input().Len()
				low, _, _ = e.top().bev.Watermark(rd)
			})
		}
		for i, e := range c.ends { // a timeout that had passed already is told, perhaps
			if now := e.timeouts.Load(); now != timeouts[i] {
				timeouts[i] = now
				e.do(a, func(*actor) {
					for _, l := range e.layers() {
						e.enable(l)
					}
				})
			}
		}
		if writer := c.ends[1-e.side]; s.held.Load() > 0 {
			writer.do(a, func(*actor) { writer.flushAll() })
		}
		got, sent := s.got.Load(), s.sent.Load()
		if got+int64(waiting) == sent && (waiting == 0 || waiting < low) && (!s.fin.Load() || s.ended.Load()) {
			if s.held.Load() != 0 {
				c.w.fail(c, "a filter holds %d bytes that have arrived", s.held.Load())
			}
			return
		}
		if now := s.moves.Load() + int64(waiting); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) > *patienceFlag {
			c.w.loopsAnswer()
			c.w.stalled(c, "the stream to side %d makes no progress: %s (%d bytes wait in the input, low mark %d)\nwhat was done before: %s",
				e.side, s, waiting, low, touched)
			return
		}
		c.w.pause()
	}
}

// --- ends ----------------------------------------------------------------------------

// end ends the connection in one of several ways, and waits until nothing is left of it.
func (c *conn) end(a *actor) {
	c.ops.Lock()
	c.over.Store(true)
	c.ops.Unlock() // acts that were waiting find that it is over
	c.calm.Store(true)
	defer c.bury(a)
	if c.w.failed() {
		return
	}
	touched := c.restore(a)
	x, y := c.ends[0], c.ends[1]
	if a.chance(1, 2) {
		x, y = y, x
	}
	// The last bytes: they are on their way when the end comes.
	for range a.rng.Intn(4) {
		for _, e := range c.ends {
			if e.raw == nil {
				e.do(a, func(a *actor) { c.lastWords(a, e) })
			}
		}
	}
	switch way := pick(a, "in turn", "in turn", "at once", "flush", "flush", "flush", "limit", "free"); way {
	case "in turn":
		for _, e := range []*end{x, y} {
			e.finish(a)
			c.await(a, e.out, touched)
		}
	case "at once":
		x.finish(a)
		y.finish(a)
		c.await(a, x.out, touched)
		c.await(a, y.out, touched)
	case "flush", "limit":
		limit := patient
		if way == "limit" {
			limit = time.Duration(a.rng.Intn(10)) * time.Millisecond
		}
		if x.raw != nil {
			x = y
		}
		x.do(a, func(a *actor) { x.freeAfterFlush(a, limit) })
		c.await(a, x.out, touched)
		if x.out.whole() {
			c.gone(a, x)
		}
	}
}

// lastWords writes, and the panics of filter functions come out of that.
func (c *conn) lastWords(a *actor, e *end) {
	defer c.w.recovered()
	e.put(a, a.size())
}

// finish ends the stream of an end.
func (e *end) finish(a *actor) {
	if e.raw != nil {
		e.raw.finish.Store(true)
		e.awaitFin()
		return
	}
	e.do(a, e.closeWrite)
}

// awaitFin waits until the writer of a raw end has seen that it is to finish.
func (e *end) awaitFin() {
	for !e.out.fin.Load() && e.out.whole() && !e.conn.w.failed() {
		e.conn.w.pause()
	}
}

// gone waits until the bufferevents of an end are gone.
func (c *conn) gone(a *actor, e *end) {
	if e.raw != nil || c.w.failed() {
		return
	}
	var all sync.WaitGroup
	for _, l := range e.layers() {
		all.Add(1)
		l.bev.AfterFree(all.Done)
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(*patienceFlag):
		c.w.loopsAnswer()
		c.w.stalled(c, "side %d was freed, and is never gone", e.side)
	}
}

// bury frees what has not been freed.
func (c *conn) bury(a *actor) {
	for _, e := range c.ends {
		if e.raw != nil {
			e.raw.close()
			continue
		}
		if len(e.layers()) == 0 { // the run failed when it was made
			continue
		}
		e.free(a)
		e.giveBack(a)
		c.gone(a, e)
	}
}

// --- the monitor -----------------------------------------------------------------------

// watch looks at the loops, and at the actors, until the run has ended.
func (w *world) watch(ended <-chan struct{}) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	answered, since := [2]int64{}, [2]time.Time{time.Now(), time.Now()}
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		if w.failed() {
			return
		}
		for i, l := range w.loops {
			l.ping()
			if now := l.answered.Load(); now != answered[i] || l.asked.Load() == now {
				answered[i], since[i] = now, time.Now()
			}
			if time.Since(since[i]) > *patienceFlag {
				w.stalled(nil, "loop %d runs no posted function", i)
			}
		}
		for _, a := range w.busy() {
			w.stalled(nil, "an act of %s does not return; its last acts:\n%s", a.name, w.journal.recent(fmt.Sprintf(" %-5s ", a.name), 10))
		}
	}
}

// loopsAnswer is called when a connection stands still: if that is because a loop does, that is
// the failure.
func (w *world) loopsAnswer() {
	for i, l := range w.loops {
		answer := make(chan struct{})
		if l.base.Post(func() { close(answer) }) != nil {
			continue
		}
		select {
		case <-answer:
		case <-time.After(*patienceFlag):
			w.stalled(nil, "loop %d runs no posted function", i)
		}
	}
}

// busy returns the actors whose act takes too long.
func (w *world) busy() (hang []*actor) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Since(w.began)
	for _, a := range w.actors {
		if begun := a.busy.Load(); begun != 0 && now-time.Duration(begun) > *patienceFlag {
			hang = append(hang, a)
		}
	}
	return hang
}
