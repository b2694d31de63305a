// SPDX-License-Identifier: BSD-3-Clause

//go:build cgo

package libevent

import (
	"errors"
	"os"
	"time"
)

const (
	// maxPiped bounds what waits for one side of a Pipe.
	maxPiped = 512 << 10
	// pipeLimit is how long a side of a Pipe may take to read its rest.
	pipeLimit = 10 * time.Minute
)

// Pipe forwards what each of two connections sends to the other one, until both have ended,
// and then frees both, each when its output is written, after 10 minutes at the latest. The
// bytes are moved, and Go does not see them. Both connections must be on the same base. They may still be connecting, and may speak TLS. If Pipe returns an error,
// they stay the caller's.
//
// When more than 512 KiB wait for a side that does not read, Pipe stops reading from the other
// side. When one side ends its stream, Pipe forwards what came before, and then the
// end; the other direction goes on. When one side fails, Pipe calls failed with its error,
// unless failed is nil, and frees the side. It also frees the other side: if the failed side
// had ended its stream before, after everything is written, and otherwise at once. Then its
// connection is reset, so that the peer does not take a part for the whole. (A Unix socket
// cannot be reset.)
//
// A write timeout of SetTimeouts is such a failure. A read timeout is a failure only if nothing
// has moved in the other direction either, so a long transfer in one direction goes on.
//
// If the program frees one side, Pipe frees the other side when its output is written.
// Shutdown and Close of the Server that has made one side end both sides.
func Pipe(a, b *BufferEvent, failed func(side *BufferEvent, err error)) error {
	const op = "Pipe"
	if a == nil || b == nil || a == b {
		return badArgument(op, "it needs two connections")
	}
	if a.Base() != b.Base() {
		return badArgument(op, "the connections are on different bases")
	}
	p := &piping{failed: failed}
	p.sides = [2]*handling{p.side(0, a), p.side(1, b)}
	p.sides[0].into, p.sides[1].into = p.sides[1], p.sides[0]
	for _, s := range p.sides {
		if err := s.prepare(); err != nil {
			return err
		}
	}
	for _, s := range p.sides {
		// The closures are set, so the loop may have piped everything and freed both sides by now.
		if err := s.begin(); err != nil && !errors.Is(err, ErrClosed) {
			return err
		}
	}
	for _, s := range p.sides {
		s.takeAlong(s.into.b)
	}
	return nil
}

// piping has what the two sides of a Pipe share.
type piping struct {
	failed func(*BufferEvent, error)
	sides  [2]*handling
	// since tells for each side what has happened after the side has sent something, and after
	// its last read timeout.
	since [2]struct {
		heard   bool // the other side has sent something
		waiting int  // how much of that was in the output at that timeout
	}
}

// isBusy reports whether the other direction has made progress since the last call.
func (p *piping) isBusy(i int) bool {
	since, waiting := &p.since[i], p.sides[i].b.Output().Len()
	busy := since.heard || waiting < since.waiting
	since.heard, since.waiting = false, waiting
	return busy
}

func (p *piping) side(i int, b *BufferEvent) *handling {
	s := newHandling(b, Handler{MaxOutput: maxPiped})
	s.Read = func(c *BufferEvent) {
		p.since[i].heard, p.since[1-i].heard = false, true
		switch err := s.into.b.WriteBuffer(c.Input()); {
		case errors.Is(err, ErrClosed):
			flush(c, pipeLimit)
		case err != nil:
			c.Free()
			cut(s.into.b)
		}
	}
	s.End = func(c *BufferEvent) {
		_ = c.Disable(EvRead) // perhaps a read timeout, told in the same call, has enabled it
		if !s.into.ended && s.into.b.CloseWrite() == nil {
			return
		}
		flush(c, pipeLimit)
		flush(s.into.b, pipeLimit)
	}
	s.Error = func(c *BufferEvent, err error) {
		if p.failed != nil {
			p.failed(c, err)
		}
		c.Free()
		if s.ended {
			flush(s.into.b, pipeLimit)
		} else {
			cut(s.into.b)
		}
	}
	s.Timeout = func(c *BufferEvent, what What) {
		if what != EvRead || !p.isBusy(i) {
			s.fail(c, os.ErrDeadlineExceeded)
		} else if s.into.waiter == nil { // else resume enables it
			_ = c.Enable(EvRead)
		}
	}
	return s
}

// cut frees a bufferevent and has the system reset its connection, so that the peer does not take a part
// for the whole. A pair or a failed connect has nothing to reset.
func cut(b *BufferEvent) {
	_ = b.bottom().SetLinger(0)
	b.Free()
}

// takeAlong frees the other side of a Pipe after this one, and has the server of this one end
// the other side with its connections.
func (s *handling) takeAlong(other *BufferEvent) {
	if s.b.served != nil {
		s.b.served.server.join(other)
	}
	s.b.AfterFree(func() {
		if other.isOpen() {
			_ = other.Base().Post(func() { flush(other, pipeLimit) })
		}
	})
}
