// SPDX-License-Identifier: BSD-3-Clause

package chaos_test

import (
	"errors"
	"io"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

// act is something that is done to one end of a connection.
type act struct {
	name    string
	chances int
	loop    bool // on the loop's goroutine only
	may     func(e *end) bool
	do      func(a *actor, e *end)
}

func actTable() []act {
	return []act{
		{name: "write", chances: 40, do: func(a *actor, e *end) { e.put(a, a.size()) }},
		{name: "read", chances: 20, do: func(a *actor, e *end) { e.take(a, a.size()) }},
		{name: "putback", chances: 3, do: func(a *actor, e *end) { e.putBack(a, 1+a.rng.Intn(2000)) }},
		{name: "peek", chances: 4, loop: true, do: (*actor).peek},
		{name: "pullup", chances: 3, loop: true, do: (*actor).pullup},
		{name: "reserve", chances: 4, loop: true, do: (*actor).reserve},
		{name: "callback", chances: 2, do: (*actor).callback},

		{name: "enable", chances: 24, do: func(a *actor, e *end) { a.enable(e, a.layer(e)) }},
		{name: "disable", chances: 6, do: (*actor).disable},
		{name: "marks", chances: 8, do: (*actor).marks},
		{name: "timeouts", chances: 4, do: (*actor).timeouts},
		{name: "appetite", chances: 4, do: (*actor).appetite},
		{name: "closures", chances: 2, do: (*actor).closures},
		{name: "receiver", chances: 2, may: alone, do: (*actor).receiver},
		{name: "trigger", chances: 6, do: (*actor).trigger},
		{name: "triggerevent", chances: 2, do: (*actor).triggerEvent},
		{name: "flush", chances: 4, do: (*actor).flush},
		{name: "look", chances: 6, do: (*actor).look},

		{name: "ratelimit", chances: 2, may: onSocket, do: (*actor).rateLimit},
		{name: "group", chances: 4, may: onSocket, do: (*actor).group},
		{name: "single", chances: 3, may: onSocket, do: (*actor).single},
		{name: "priority", chances: 3, loop: true, may: onSocket, do: (*actor).priority},
		{name: "pointer", chances: 1, do: (*actor).pointer},

		{name: "replacefd", chances: 2, loop: true, may: onPlainSocket, do: (*actor).replaceFD},
		{name: "setfd", chances: 2, loop: true, may: onPlainSocket, do: (*actor).setFD},
		{name: "setbase", chances: 3, loop: true, may: onPlainSocket, do: (*actor).setBase},
		{name: "filteron", chances: 2, do: (*actor).filterOn},
		{name: "filteroff", chances: 4, loop: true, do: (*actor).filterOff},

		{name: "post", chances: 6, do: func(a *actor, e *end) { a.post(e.bottom().bev.Base(), func(*actor) {}) }},
		{name: "loopbreak", chances: 1, do: func(a *actor, e *end) { a.w.expect(e, "LoopBreak", e.bottom().bev.Base().LoopBreak()) }},
		{name: "loopcontinue", chances: 1, do: func(a *actor, e *end) { a.w.expect(e, "LoopContinue", e.bottom().bev.Base().LoopContinue()) }},
		{name: "loopexit", chances: 1, do: func(a *actor, e *end) {
			a.w.expect(e, "LoopExit", e.bottom().bev.Base().LoopExit(time.Duration(a.rng.Intn(3))*time.Millisecond))
		}},

		{name: "closewrite", chances: 1, do: func(a *actor, e *end) { a.seldom(e, (*end).closeWrite) }},
		{name: "freeafterflush", chances: 1, do: func(a *actor, e *end) {
			a.seldom(e, func(e *end, a *actor) { e.freeAfterFlush(a, pick(a, patient, 0, 5*time.Millisecond)) })
		}},
		{name: "free", chances: 1, do: func(a *actor, e *end) { a.seldom(e, (*end).free) }},

		// What other acts do, or do not do, besides.
		{name: "panic"}, {name: "addfile"}, {name: "addreference"}, {name: "layers"},
	}
}

func actNames() (names []string) {
	for _, what := range actTable() {
		names = append(names, what.name)
	}
	return names
}

// alone is for the bufferevent of a socket that has nothing on top.
func alone(e *end) bool { return len(e.layers()) == 1 && e.bottom().kind != "pair" }

func onSocket(e *end) bool { return e.bottom().kind != "pair" }

func onPlainSocket(e *end) bool { return onSocket(e) && e.bottom().tls == nil }

// act does something to a connection.
func (a *actor) act(c *conn) {
	e := c.ends[a.rng.Intn(2)]
	if e.raw != nil {
		e = c.ends[1-e.side]
	}
	what := a.draw()
	if what == nil || !a.begin(c) {
		return
	}
	defer c.ops.RUnlock()
	switch {
	case e.freed.Load() && a.chance(7, 8) || what.may != nil && !what.may(e):
	case (what.loop || e.loopOnly()) && !e.onLoop():
		a.post(e.bottom().bev.Base(), func(a *actor) {
			if a.begin(c) {
				defer c.ops.RUnlock()
				if e.onLoop() && (what.may == nil || what.may(e)) {
					a.perform(what, e)
				}
			}
		})
	default:
		a.perform(what, e)
	}
}

// begin keeps the connection from being examined until its lock is released.
func (a *actor) begin(c *conn) bool {
	if !c.ops.TryRLock() {
		return false
	}
	if c.over.Load() {
		c.ops.RUnlock()
		return false
	}
	return true
}

func (a *actor) draw() *act {
	if a.w.chances == 0 {
		return nil
	}
	n, i := a.rng.Intn(a.w.chances), 0
	for ; n >= a.w.table[i].chances; i++ {
		n -= a.w.table[i].chances
	}
	return &a.w.table[i]
}

func (a *actor) perform(what *act, e *end) {
	outermost := a.busy.Load() == 0
	if outermost {
		a.busy.Store(int64(time.Since(a.w.began)))
		defer a.busy.Store(0)
	}
	a.note(e, "%s", what.name)
	defer a.w.recovered()
	what.do(a, e)
}

// seldom does something that ends a connection.
func (a *actor) seldom(e *end, fn func(*end, *actor)) {
	if a.chance(1, 40) {
		fn(e, a)
	}
}

// layer draws one of the bufferevents of a stack, more often the top.
func (a *actor) layer(e *end) *layer {
	layers := e.layers()
	if !a.w.acts["layers"] || a.chance(1, 2) {
		return layers[len(layers)-1]
	}
	return pick(a, layers...)
}

// --- directions, marks, closures --------------------------------------------------------

// Enable moves what waits below a filter up into its input.
func (a *actor) enable(e *end, l *layer) {
	e.in.rmu.Lock() // while it is held, no actor takes a filter off
	defer e.in.rmu.Unlock()
	a.w.expect(e, "Enable", l.bev.Enable(pick(a, rd, wr, rd|wr)), mayFail...)
}

func (a *actor) disable(e *end) {
	e.in.rmu.Lock() // while it is held, no actor puts a filter on this end
	defer e.in.rmu.Unlock()
	a.w.expect(e, "Disable", a.layer(e).bev.Disable(pick(a, rd, wr, rd|wr)), mayFail...)
}

// A filter is not called for fewer bytes than the low mark of the bufferevent below, so only
// the top gets one.
func (a *actor) marks(e *end) {
	e.in.rmu.Lock() // while it is held, no actor puts a filter on this end
	defer e.in.rmu.Unlock()
	l := a.layer(e)
	low, high := pick(a, 0, 0, 1, 500, 5000), pick(a, 0, 0, 600, 20000, 100000)
	if a.chance(1, 2) {
		a.w.expect(e, "SetWatermark", l.bev.SetWatermark(wr, low, high), mayFail...)
		return
	}
	if l != e.top() {
		low = 0
	}
	if high > 0 {
		low = min(low, high)
	}
	a.note(e, "%s: read marks %d %d", l.kind, low, high)
	a.w.expect(e, "SetWatermark", l.bev.SetWatermark(rd, low, high), mayFail...)
}

func (a *actor) timeouts(e *end) {
	l := a.layer(e)
	if !e.connected.Load() { // a handshake that has timed out is over
		return
	}
	few := func() time.Duration { return time.Duration(pick(a, 0, 0, 1, 5, 50)) * time.Millisecond }
	l.timed.Store(true)
	e.mayEndFlush()
	a.w.expect(e, "SetTimeouts", l.bev.SetTimeouts(few(), few()), mayFail...)
}

func (a *actor) appetite(e *end) { e.appetite.Store(int32(pick(a, all, all, some, none))) }

func (a *actor) closures(e *end) {
	e.deaf.Store(a.chance(1, 4))
	_ = e.listen(e.top())
}

func (a *actor) receiver(e *end) {
	b := e.top().bev
	if a.chance(1, 2) {
		a.w.expect(e, "SetReceiver", b.SetReceiver(nil), mayFail...)
		return
	}
	a.w.expect(e, "SetReceiver", b.SetReceiver(func(b *libevent.BufferEvent) {
		a := e.enter(b)
		for a.chance(2, 3) {
			if !e.receive(a, b) {
				break
			}
		}
		e.meddle(a)
	}), mayFail...)
}

// receive reads past the input.
func (e *end) receive(a *actor, b *libevent.BufferEvent) bool {
	s := e.in
	s.rmu.Lock()
	defer s.rmu.Unlock()
	n, err := b.Receive(a.scratch[:1+a.rng.Intn(len(a.scratch))])
	if e.freed.Load() && b != e.top().bev {
		return false // the filters that were on it are freed, with what waited in them
	}
	if err := s.check(a.scratch[:n]); err != nil {
		a.w.fail(e.conn, "side %d: Receive: %v", e.side, err)
	}
	a.w.expect(e, "Receive", err, append(mayFail, libevent.ErrWouldBlock)...)
	return err == nil
}

func (a *actor) trigger(e *end) {
	err := e.top().bev.Trigger(pick(a, rd, wr, rd|wr), pick(a, 0, libevent.TriggerIgnoreWatermarks))
	a.w.expect(e, "Trigger", err, mayFail...)
}

// triggerEvent says something that has no consequences.
func (a *actor) triggerEvent(e *end) {
	e.events.Store(true)
	e.mayEndFlush()
	a.w.expect(e, "TriggerEvent", e.top().bev.TriggerEvent(libevent.EventTimeout), mayFail...)
}

// flush moves bytes. The locks keep readers and writers, which know the next byte, away meanwhile.
func (a *actor) flush(e *end) {
	e.out.wmu.Lock()
	defer e.out.wmu.Unlock()
	e.in.rmu.Lock()
	defer e.in.rmu.Unlock()
	what := pick(a, rd, wr, rd|wr)
	_, err := a.layer(e).bev.Flush(what, pick(a, libevent.FlushNormal, libevent.FlushSync))
	a.w.expect(e, "Flush", err, append(mayFail, syscall.EPIPE)...)
}

func (a *actor) look(e *end) {
	b := a.layer(e).bev
	_, _, _, _ = b.Enabled(), b.FD(), b.LocalAddr(), b.RemoteAddr()
	_, _, _, _ = b.MaxToRead(), b.MaxToWrite(), b.ReadLimit(), b.WriteLimit()
	_, _, _, _ = b.Priority(), b.Partner(), b.Err(), b.Underlying()
	_, _, _ = b.Watermark(pick(a, rd, wr))
	_, _ = b.Input().ContiguousSpace(), b.Output().Len()
	_ = b.Base().Stats()
	_ = b.Input().Search([]byte("x"), 0)
}

// --- buffers that are lent ---------------------------------------------------------------

// shown checks bytes of a buffer that a Peek or a Pullup shows, of which the first has an offset in
// the stream. While they are shown others may try to change the buffer.
func (a *actor) shown(e *end, s *stream, offset int64, spans [][]byte, locked func()) {
	check := func(when string) {
		at := offset
		for _, p := range spans {
			if wrong := s.differs(at, p); wrong >= 0 {
				a.w.fail(e.conn, "side %d: byte %d is wrong where it is shown, %s; %s", e.side, at+int64(wrong), when, s.explain(at+int64(wrong), p[wrong:]))
			}
			at += int64(len(p))
		}
	}
	check("at first")
	locked()
	e.meddle(a)
	a.rest(200 * time.Microsecond)
	check("after others have tried to change it")
}

func (a *actor) peek(e *end) {
	output := a.chance(1, 2)
	s, mu, side := e.in, &e.in.rmu, (*libevent.BufferEvent).Input
	if output {
		s, mu, side = e.out, &e.out.wmu, (*libevent.BufferEvent).Output
	}
	mu.Lock()
	unlock := sync.OnceFunc(mu.Unlock)
	defer unlock()
	err := side(e.top().bev).Peek(func(spans [][]byte) {
		offset := s.got.Load()
		if output { // they are the last ones that were written
			offset = s.sent.Load()
			for _, p := range spans {
				offset -= int64(len(p))
			}
		}
		a.shown(e, s, offset, spans, unlock)
	})
	a.w.expect(e, "Peek", err, append(mayFail, errors.ErrUnsupported)...)
}

func (a *actor) pullup(e *end) {
	mu := &e.in.rmu
	mu.Lock()
	unlock := sync.OnceFunc(mu.Unlock)
	defer unlock()
	err := e.top().bev.Input().Pullup(pick(a, -1, 1, 100, 5000), func(p []byte) {
		a.shown(e, e.in, e.in.got.Load(), [][]byte{p}, unlock)
	})
	a.w.expect(e, "Pullup", err, append(mayFail, io.ErrShortBuffer)...)
}

func (a *actor) reserve(e *end) {
	s := e.out
	s.wmu.Lock()
	defer s.wmu.Unlock()
	sent, n, used := s.sent.Load(), 1+a.rng.Intn(5000), 0
	if s.fin.Load() || !s.whole() || sent-s.got.Load() > e.conn.window() {
		return
	}
	err := e.top().bev.Output().Reserve(n, func(spans [][]byte) int {
		p := s.at(sent, 1+a.rng.Intn(n))
		for _, span := range spans {
			used += copy(span, p[used:])
		}
		a.rest(100 * time.Microsecond) // others try to change it
		return used
	})
	if err == nil {
		s.sent.Store(sent + int64(used))
	}
	a.w.expect(e, "Reserve", err, mayFail...)
}

func (a *actor) callback(e *end) {
	e.cbMu.Lock()
	defer e.cbMu.Unlock()
	if len(e.callbacks) > 3 || a.chance(1, 4) {
		for _, cb := range e.callbacks {
			cb.Remove()
		}
		e.callbacks = nil
		return
	}
	l := a.layer(e)
	cb, err := pick(a, l.bev.Input(), l.bev.Output()).AddCallback(func(b *libevent.Buffer, added, deleted int) {
		if added < 0 || deleted < 0 || added+deleted == 0 {
			a.w.fail(e.conn, "side %d: a buffer callback is told of %d bytes added, %d deleted", e.side, added, deleted)
		}
	})
	if a.w.expect(e, "AddCallback", err, mayFail...); err == nil {
		e.callbacks = append(e.callbacks, cb)
	}
}

// --- limits, priorities, descriptors, bases ------------------------------------------------

func (a *actor) rateLimit(e *end) {
	limit := pick(a, nil,
		&libevent.RateLimit{ReadRate: 1 << 30, WriteRate: 1 << 30},
		&libevent.RateLimit{ReadRate: 200000, WriteRate: 200000, Tick: 10 * time.Millisecond})
	a.w.expect(e, "SetRateLimit", e.bottom().bev.SetRateLimit(limit), mayFail...)
}

func (a *actor) group(e *end) {
	b := e.bottom().bev
	l := a.w.loopOf(b.Base())
	rates := l.rates.Load()
	switch a.rng.Intn(8) {
	case 0:
		made, err := l.base.NewRateLimitGroup(libevent.RateLimit{ReadRate: 1 << 20, WriteRate: 1 << 20, Tick: 10 * time.Millisecond})
		a.w.expect(e, "NewRateLimitGroup", err)
		if old := l.rates.Swap(made); old != nil {
			old.Free()
		}
	case 1, 2, 3:
		a.w.expect(e, "Add", rates.Add(b), mayFail...)
	case 4, 5:
		a.w.expect(e, "Remove", rates.Remove(b), mayFail...)
	case 6:
		rate := 1 << (18 + a.rng.Intn(6))
		err := rates.SetLimit(libevent.RateLimit{ReadRate: rate, WriteRate: rate, Tick: 10 * time.Millisecond})
		a.w.expect(e, "SetLimit", err, mayFail...)
	case 7:
		rates.Totals()
		a.w.expect(e, "SetMinShare", rates.SetMinShare(1+a.rng.Intn(2000)), mayFail...)
	}
}

func (a *actor) single(e *end) {
	n, b := pick(a, 0, 1000, 8000, 100000), e.bottom().bev
	a.w.expect(e, "SetMaxSingle", pick(a, b.SetMaxSingleRead, b.SetMaxSingleWrite)(n), mayFail...)
}

// priority is what starves others as long as there is much to do, and is meant to. So urgent
// connections have little to do, and no priority is lower than the usual one.
func (a *actor) priority(e *end) {
	e.conn.urgent.Store(true)
	a.w.expect(e, "SetPriority", e.bottom().bev.SetPriority(a.rng.Intn(priorities)), append(mayFail, syscall.EBUSY)...)
}

func (a *actor) pointer(e *end) {
	if a.chance(1, 10) {
		a.layer(e).bev.Pointer()
	}
}

// replaceFD gives the bufferevent another descriptor of the same socket. libevent's CloseWrite
// belongs to a descriptor, so that is left alone after it.
func (a *actor) replaceFD(e *end) {
	e.out.wmu.Lock()
	defer e.out.wmu.Unlock()
	e.fdMu.Lock()
	defer e.fdMu.Unlock()
	b := e.bottom().bev
	if e.out.fin.Load() || e.away.Load() >= 0 || e.freed.Load() {
		return
	}
	fd, err := syscall.Dup(b.FD())
	if err != nil { // Free was faster
		return
	}
	syscall.CloseOnExec(fd)
	if err := b.ReplaceFD(fd); err != nil {
		_ = syscall.Close(fd)
		a.w.expect(e, "ReplaceFD", err, mayFail...)
	}
}

// setFD takes the descriptor away, or gives it back.
func (a *actor) setFD(e *end) {
	e.out.wmu.Lock()
	defer e.out.wmu.Unlock()
	if e.away.Load() >= 0 {
		e.giveBack(a)
		return
	}
	e.fdMu.Lock()
	defer e.fdMu.Unlock()
	b := e.bottom().bev
	if fd := b.FD(); fd >= 0 && !e.out.fin.Load() && !e.freed.Load() {
		err := b.SetFD(-1)
		if a.w.expect(e, "SetFD(-1)", err, mayFail...); err == nil {
			e.away.Store(int64(fd))
		}
	}
}

// giveBack undoes setFD. After Free the descriptor is closed.
func (e *end) giveBack(a *actor) {
	e.fdMu.Lock()
	defer e.fdMu.Unlock()
	if e.away.Load() < 0 {
		return
	}
	err := e.bottom().bev.SetFD(int(e.away.Load()))
	switch {
	case errors.Is(err, libevent.ErrWrongLoop) && e.freed.Load():
		return // it is freed when the filters on it are gone
	case err != nil:
		_ = syscall.Close(int(e.away.Load()))
		a.w.expect(e, "SetFD", err, mayFail...)
	}
	e.away.Store(-1)
}

func (a *actor) setBase(e *end) {
	err := e.bottom().bev.SetBase(pick(a, a.w.loops[:]...).base)
	a.w.expect(e, "SetBase", err, append(mayFail, syscall.EBUSY, syscall.EINPROGRESS)...)
}

// --- filters -----------------------------------------------------------------------------

// filterOn puts a filter on that passes all bytes on.
func (a *actor) filterOn(e *end) {
	if len(e.layers()) > 5 {
		return
	}
	e.out.wmu.Lock()
	defer e.out.wmu.Unlock()
	e.in.rmu.Lock()
	defer e.in.rmu.Unlock()
	if e.freed.Load() || e.out.fin.Load() || e.in.ended.Load() {
		return
	}
	_, high, err := e.top().bev.Watermark(rd)
	if err == nil {
		err = e.top().bev.SetWatermark(rd, 0, high)
	}
	a.w.expect(e, "SetWatermark", err, mayFail...)
	if err != nil || !e.putFilter(a, "pass", 0) {
		return
	}
	_ = e.listen(e.top())
	a.w.expect(e, "Enable", e.top().bev.Enable(rd|wr), mayFail...)
}

// filterOff takes it off, if there is no byte in it that is on its way out.
func (a *actor) filterOff(e *end) {
	l := e.top()
	if l.owns || len(e.layers()) == 1 || e.freed.Load() {
		return
	}
	e.takeAll(a)
	e.out.wmu.Lock()
	defer e.out.wmu.Unlock()
	e.in.rmu.Lock()
	defer e.in.rmu.Unlock()
	if e.out.fin.Load() || e.top() != l || l.bev.Output().Len() > 0 || l.bev.Input().Len() > 0 {
		return
	}
	l.bev.Free()
	e.pop()
	_ = e.listen(e.top())
	a.w.expect(e, "Trigger", e.top().bev.Trigger(rd, 0), mayFail...)
}

// --- ends ----------------------------------------------------------------------------------

// patient is a limit that is not reached.
const patient = time.Minute

func (e *end) closeWrite(a *actor) {
	s := e.out
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.fin.Load() || e.freed.Load() {
		return
	}
	a.note(e, "CloseWrite")
	s.fin.Store(true) // before: the other end may be told at once
	err := e.top().bev.CloseWrite()
	if err != nil {
		s.fin.Store(false)
		if s.whole() && e.in.whole() {
			a.w.expect(e, "CloseWrite", err, append(mayFail, syscall.ENOTCONN)...)
		}
	}
}

func (e *end) freeAfterFlush(a *actor, limit time.Duration) {
	e.out.wmu.Lock()
	defer e.out.wmu.Unlock()
	if e.freed.Load() {
		return
	}
	a.note(e, "FreeAfterFlush %v", limit)
	e.freed.Store(true) // before mayTimeOut: an actor that sees false here leaves its mark for that
	e.fdMu.Lock()
	if e.away.Load() >= 0 || limit < patient || e.mayTimeOut() {
		e.out.cut("FreeAfterFlush had a limit, or no descriptor, or an event that ends it was due")
	}
	e.fdMu.Unlock()
	e.in.cut("its reader was freed after a flush")
	e.out.fin.Store(true)
	err := e.top().bev.FreeAfterFlush(limit)
	if err != nil { // a filter that was freed is still on top, for example
		e.out.cut("FreeAfterFlush failed")
		a.w.expect(e, "FreeAfterFlush", err, mayFail...)
		e.top().bev.Free()
	}
	e.giveBack(a)
	e.freeBelow(len(e.layers())-1, limit)
}

// mayEndFlush is called when a timeout was set, or an event triggered. The layers below a top that is
// flushing can still be used, and what they are told ends the flush.
func (e *end) mayEndFlush() {
	if e.freed.Load() {
		e.out.cut("a timeout or an event ended FreeAfterFlush")
	}
}

func (e *end) mayTimeOut() bool {
	return e.events.Load() || slices.ContainsFunc(e.layers(), func(l *layer) bool { return l.timed.Load() })
}

// freeBelow frees what is below a filter that does not do so itself, when the filter is gone.
func (e *end) freeBelow(i int, limit time.Duration) {
	layers := e.layers()
	for i > 0 && layers[i].owns {
		i--
	}
	if i > 0 {
		below := layers[i-1].bev
		layers[i].bev.AfterFree(func() { // not on the loop's goroutine, where some have to be freed
			_ = below.Base().Post(func() {
				_ = below.FreeAfterFlush(limit)
				e.freeBelow(i-1, limit)
			})
		})
	}
}

func (e *end) free(a *actor) {
	e.out.wmu.Lock() // no filter is put on meanwhile
	defer e.out.wmu.Unlock()
	a.note(e, "Free")
	e.out.cut("its writer was freed")
	e.in.cut("its reader was freed")
	e.freed.Store(true)
	onLoop := e.onLoop()
	layers := slices.Clone(e.layers())
	if a.chance(1, 4) {
		slices.Reverse(layers)
	}
	for _, l := range slices.Backward(layers) {
		l.bev.Free()
	}
	e.giveBack(a)
	if onLoop {
		e.silent.Store(true)
	}
}
