// SPDX-License-Identifier: BSD-3-Clause

package chaos_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-libevent/libevent"
)

// kinds are what a connection may be made of: what is at the bottom, what is on top of that, the
// peer, options, and how the loops run.
var kinds = []string{"unix", "tcp", "pair", "pass", "xor", "hold", "tls", "tlsfilter", "raw", "plain", "looponly", "group"}

// shape is how a connection is made.
type shape struct {
	bottom string   // unix, tcp, pair
	tls    int      // of the sockets themselves: which of the contexts, or -1
	layers []string // at both ends, from the bottom up
	raw    bool     // one end is a goroutine that uses package net
}

func (s shape) String() string {
	text := s.bottom
	if s.tls >= 0 {
		text += " tls"
	}
	if s.raw {
		text += " raw"
	}
	return strings.Join(append([]string{text}, s.layers...), ", ")
}

// bottoms returns the kinds that are chosen and can be at the bottom.
func (w *world) bottoms() []string {
	return slices.DeleteFunc([]string{"unix", "tcp", "pair"}, func(kind string) bool { return !w.kinds[kind] })
}

func (a *actor) drawShape() shape {
	w := a.w
	s := shape{bottom: pick(a, w.bottoms()...), tls: -1}
	if s.bottom != "pair" && w.kinds["tls"] && a.chance(1, 4) {
		s.tls = a.rng.Intn(len(w.tls))
	}
	if s.bottom != "pair" && w.kinds["raw"] && a.chance(1, 3) {
		s.raw = true
		return s
	}
	for range pick(a, 0, 0, 1, 2) {
		layers := slices.DeleteFunc([]string{"xor", "hold", "tlsfilter"}, func(kind string) bool {
			// A handshake cannot go through a filter that waits for a Flush.
			return !w.kinds[kind] || kind == "tlsfilter" && slices.Contains(s.layers, "hold")
		})
		if len(layers) > 0 {
			s.layers = append(s.layers, pick(a, layers...))
		}
	}
	return s
}

// conn is a connection: two ends, and a stream in each direction.
type conn struct {
	w       *world
	id      int64
	shape   shape
	ends    [2]*end
	streams [2]*stream // what the end with this number writes

	ops  sync.RWMutex // held for reading by acts on the connection, for writing while it is examined
	calm atomic.Bool  // while it is examined closures only read
	over atomic.Bool  // no act is to begin

	urgent atomic.Bool // an end has had another priority than the usual one
}

// newConn makes a connection. It returns nil if the run has failed.
func (c *conductor) newConn() *conn {
	a, w := c.actor, c.actor.w
	s := a.drawShape()
	conn := &conn{w: w, id: w.ids.Add(1), shape: s}
	for side := range conn.streams {
		conn.streams[side] = &stream{phase: a.rng.Intn(period)}
	}
	for side := range conn.ends {
		conn.ends[side] = &end{conn: conn, side: side, out: conn.streams[side], in: conn.streams[1-side]}
		conn.ends[side].away.Store(-1)
	}
	a.note(conn.ends[0], "is made: %v", s)
	if !conn.build(c) {
		return nil
	}
	return conn
}

func (c *conn) build(by *conductor) bool {
	a := by.actor
	bottoms := c.bottoms(by)
	for side, e := range c.ends {
		if e.raw != nil {
			continue
		}
		if bottoms[side] == nil {
			return false
		}
		e.push(&layer{kind: c.shape.bottom, bev: bottoms[side].bev, tls: bottoms[side].tls})
		e.do(a, e.pile)
	}
	for _, e := range c.ends {
		e.do(a, e.start)
	}
	return !c.w.failed()
}

// pile puts the layers on the bottom.
func (e *end) pile(a *actor) {
	for _, kind := range e.conn.shape.layers {
		for a.w.kinds["pass"] && a.chance(1, 8) {
			e.putFilter(a, "pass", libevent.OptCloseOnFree)
		}
		e.putFilter(a, kind, libevent.OptCloseOnFree)
	}
}

// bottoms makes the two sockets, or the pair.
func (c *conn) bottoms(by *conductor) [2]*layer {
	a, w := by.actor, c.w
	one, two := pick(a, w.loops[:]...), pick(a, w.loops[:]...)
	if c.shape.bottom == "pair" {
		opts := by.options()
		x, y, err := one.base.NewPair(opts &^ (libevent.OptPlainIO | libevent.OptCloseOnFree))
		if w.expect(c.ends[0], "NewPair", err); err != nil {
			return [2]*layer{}
		}
		c.ends[0].opts, c.ends[1].opts = opts, opts
		return [2]*layer{{bev: x}, {bev: y}}
	}
	fds, err := w.sockets(c.shape.bottom)
	if w.expect(c.ends[0], "making sockets", err); err != nil {
		return [2]*layer{}
	}
	var made [2]*layer
	for side, fd := range fds {
		if c.shape.raw && side == 1 {
			c.ends[side].raw = by.newRaw(c.ends[side], fd)
			continue
		}
		made[side] = c.socket(by, c.ends[side], []*loop{one, two}[side].base, fd)
	}
	return made
}

func (c *conn) socket(by *conductor, e *end, base *libevent.Base, fd int) *layer {
	e.opts = by.options()
	if c.shape.tls >= 0 {
		e.opts &^= libevent.OptLoopOnly | libevent.OptDeferCallbacks
		tls, err := c.w.tls[c.shape.tls].side(e.side).NewSocket(base, fd, e.opts)
		if c.w.expect(e, "NewSocket", err); err != nil {
			return nil
		}
		return &layer{bev: tls.BufferEvent, tls: tls}
	}
	bev, err := base.NewSocket(fd, e.opts)
	if c.w.expect(e, "NewSocket", err); err != nil {
		return nil
	}
	return &layer{bev: bev}
}

// options are those of a socket or a pair.
func (c *conductor) options() libevent.Options {
	opts := libevent.OptCloseOnFree
	if c.actor.w.kinds["plain"] && c.actor.chance(1, 6) {
		opts |= libevent.OptPlainIO
	}
	// Without OptDeferCallbacks closures also run where no loop does.
	if c.actor.w.kinds["looponly"] && c.actor.chance(1, 8) {
		opts |= libevent.OptLoopOnly | libevent.OptDeferCallbacks
	}
	return opts
}

func (c *conn) String() string {
	text := fmt.Sprintf("connection c%d: %v\n", c.id, c.shape)
	for side, s := range c.streams {
		text += fmt.Sprintf("from side %d: %v\n", side, s)
	}
	for _, e := range c.ends {
		text += e.String()
	}
	return text
}

// --- its life ------------------------------------------------------------------------

// conductor makes one connection after the other, has it examined, and ends it.
type conductor struct {
	actor          *actor
	slot           int
	reader, writer *actor // of a raw end
}

func newConductor(w *world, slot int) *conductor {
	name := func(role string) *actor { return w.newActor(fmt.Sprintf("%s%d", role, slot)) }
	return &conductor{name("c"), slot, name("r"), name("s")}
}

func (c *conductor) conduct(over context.Context) {
	w := c.actor.w
	for over.Err() == nil && !w.failed() {
		conn := c.newConn()
		if conn == nil {
			return
		}
		w.conns[c.slot].Store(conn)
		for range 1 + c.actor.rng.Intn(4) {
			select {
			case <-over.Done():
			case <-time.After(time.Duration(c.actor.rng.Intn(250)) * time.Millisecond):
			}
			conn.examine(c.actor)
		}
		w.conns[c.slot].Store(nil)
		conn.end(c.actor)
	}
}
