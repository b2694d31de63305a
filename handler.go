// SPDX-License-Identifier: BSD-3-Clause

//go:build cgo

package libevent

import (
	"os"
	"sync/atomic"
	"time"
)

const (
	defaultMaxOutput = 1 << 20
	// flushLimit is how long a peer may take to read its rest when a Handler ends a
	// connection.
	flushLimit = 10 * time.Second
	// maxBelow is how much output of a filter may wait in each bufferevent below it.
	maxBelow = 256 << 10
)

// Handler has the closures of a connection: those of SetCallbacks, but with one for each kind of
// event. All may be nil; the comment of each says what happens then. BufferEvent.Handle sets a
// Handler, and so does Serve. The closures run on the loop's goroutine.
//
// If End, Error or Timeout is set, it decides what becomes of the connection, and usually
// frees it.
type Handler struct {
	// Connected is called when Connect, ConnectHostname or a TLS handshake has succeeded, and
	// not for a connection that a server has accepted without TLS.
	Connected func(c *BufferEvent)
	// Read is called when bytes have come; c.Input() has them. If Read is nil, they are
	// dropped.
	Read func(c *BufferEvent)
	// Written is called after output was written, when no more than the low watermark of
	// writing is left.
	Written func(c *BufferEvent)
	// End is called when the peer has ended its stream. c.Input() still has what Read has
	// left, a part of a message for example. If End is nil, the connection is freed when its
	// output is written, after 10 seconds at the latest.
	End func(c *BufferEvent)
	// Error is called when the connection, or the attempt to connect, has failed. If Error is
	// nil, the connection is freed.
	Error func(c *BufferEvent, err error)
	// Timeout is called when a timeout of SetTimeouts has passed. what is EvRead, EvWrite or
	// both: the directions that are now off until they are enabled again. In a handshake of TLS
	// it is both. If Timeout is nil, the connection has failed with os.ErrDeadlineExceeded.
	Timeout func(c *BufferEvent, what What)

	// MaxOutput bounds the output, in bytes. If more is waiting to be written when Read has
	// returned, the loop stops reading from the connection, so that a peer which does not
	// read its answers cannot make the program keep ever more of them. Reading goes on when
	// half of MaxOutput is left, and, if Written is set, not before Written has been called.
	// 0 means 1 MiB, and a negative number means no bound. If the connection is a filter, each
	// bufferevent below without a high watermark of writing gets one of 256 KiB.
	MaxOutput int
}

// Handle sets the closures of h, in place of those of SetCallbacks, and enables reading. Read is
// called for what is in the input already. If Written is nil and the output is bounded, Handle
// sets the low watermark of writing. With TLS, the handshake starts.
// Stands for bufferevent_setcb.
func (b *BufferEvent) Handle(h Handler) error {
	s := newHandling(b, h)
	if err := s.prepare(); err != nil {
		return err
	}
	return s.begin()
}

func newHandling(b *BufferEvent, h Handler) *handling {
	if h.MaxOutput == 0 {
		h.MaxOutput = defaultMaxOutput
	}
	s := &handling{Handler: h, b: b}
	s.into = s
	return s
}

// prepare sets the closures. From then on they may run on the loop's goroutine, so all fields
// are set before.
func (s *handling) prepare() error {
	if s.MaxOutput > 0 {
		if err := s.boundBelow(); err != nil {
			return err
		}
		if s.Written == nil {
			if err := s.b.SetWatermark(EvWrite, s.MaxOutput/2, 0); err != nil {
				return err
			}
		}
	}
	s.due.Store(true)
	return s.watch(false)
}

// boundBelow has the output of a filter wait in the filter. Without a high watermark libevent would
// pass all of it on to the bufferevent below.
func (s *handling) boundBelow() error {
	for under := s.b.Underlying(); under != nil; under = under.Underlying() {
		low, high, err := under.Watermark(EvWrite)
		if err == nil && high == 0 {
			err = under.SetWatermark(EvWrite, low, maxBelow)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// begin has the loop read, and tells of what the input has already.
func (s *handling) begin() error {
	if err := s.b.Enable(EvRead); err != nil {
		return err
	}
	if s.b.Input().Len() > 0 {
		s.early.Store(true)
		return s.b.Trigger(EvRead, 0)
	}
	s.due.Store(false)
	return nil
}

// handling is a Handler at work on one connection.
type handling struct {
	Handler
	b      *BufferEvent
	into   *handling   // Read writes to its output: its own, or that of the other side of a Pipe
	waiter *handling   // is not read from until the output of this one is written, or nil
	ended  bool        // the peer sends no more
	due    atomic.Bool // Read is to be called for what was in the input before
	early  atomic.Bool // it was called, and the loop will call it once more
}

// watch sets the closures, with that for writing only if it has something to do, because
// the loop calls it after each write.
func (s *handling) watch(output bool) error {
	written := s.written
	if !output && s.Written == nil {
		written = nil
	}
	return s.b.SetCallbacks(s.read, written, s.event)
}

func (s *handling) read(b *BufferEvent) {
	if !s.due.Swap(false) && b.Input().Len() == 0 && s.early.Swap(false) {
		return
	}
	if s.Read == nil {
		_ = b.Input().Drain(b.Input().Len())
		return
	}
	if !s.keeps(s.Read) {
		return
	}
	to := s.into
	if to.MaxOutput <= 0 || to.waiter != nil || to.b.Output().Len() <= to.MaxOutput || b.Enabled()&EvRead == 0 {
		return
	}
	if to.watch(true) != nil { // freed, or a filter was put on it
		return
	}
	_ = b.Disable(EvRead)
	to.waiter = s
	to.resume() // perhaps another goroutine has written it since
}

// keeps calls a closure of the program. It returns false if that has set other closures: then the connection is theirs.
func (s *handling) keeps(closure func(*BufferEvent)) bool {
	before := s.b.closures.Load()
	closure(s.b)
	return s.b.closures.Load() == before
}

func (s *handling) written(b *BufferEvent) {
	if s.Written == nil || s.keeps(s.Written) {
		s.resume()
		return
	}
	if w := s.waiter; w != nil && !w.ended {
		s.waiter = nil
		_ = w.b.Enable(EvRead)
	}
}

func (s *handling) resume() {
	w := s.waiter
	if w == nil || s.b.Output().Len() > s.MaxOutput/2 {
		return
	}
	s.waiter = nil
	_ = s.watch(false)
	if !w.ended {
		_ = w.b.Enable(EvRead)
	}
}

// isDue reports whether Read comes before an event. libevent calls the read closure before the event closure, but
// the call that begin has asked for comes after an event that was due already.
func (s *handling) isDue() bool {
	if !s.due.Load() {
		return false
	}
	low, _, err := s.b.Watermark(EvRead)
	return err == nil && s.b.Input().Len() >= max(low, 1)
}

// passOn gives an event to the closures that the program has set in another one.
func passOn(b *BufferEvent, what Events) {
	if theirs := b.closures.Load().event; theirs != nil && what != 0 && b.isOpen() {
		theirs(b, what)
	}
}

// event calls one closure for each kind of event. After an error nothing else matters.
func (s *handling) event(b *BufferEvent, what Events) {
	if s.isDue() {
		if !s.keeps(s.read) {
			passOn(b, what)
			return
		}
		if !b.isOpen() {
			return
		}
	}
	if what&EventConnected != 0 && s.Connected != nil && !s.keeps(s.Connected) {
		passOn(b, what&^EventConnected)
		return
	}
	if what&EventError != 0 {
		s.fail(b, b.Err())
		return
	}
	if what&EventTimeout != 0 {
		s.timeout(b, what)
	}
	if what&EventEOF != 0 && b.isOpen() {
		s.end(b)
	}
}

func (s *handling) fail(b *BufferEvent, err error) {
	if s.Error == nil {
		b.Free()
		return
	}
	s.Error(b, err)
}

func (s *handling) timeout(b *BufferEvent, what Events) {
	if s.Timeout == nil {
		s.fail(b, os.ErrDeadlineExceeded)
		return
	}
	var direction What
	if what&EventReading != 0 {
		direction |= EvRead
	}
	if what&EventWriting != 0 {
		direction |= EvWrite
	}
	if direction == 0 {
		direction = EvRead | EvWrite
	}
	s.Timeout(b, direction)
}

func (s *handling) end(b *BufferEvent) {
	s.ended = true
	if s.End != nil {
		s.End(b)
	} else {
		flush(b, flushLimit)
	}
}

// flush frees a connection when its output is written.
func flush(b *BufferEvent, limit time.Duration) {
	if b.isOpen() && b.FreeAfterFlush(limit) != nil {
		b.Free()
	}
}
