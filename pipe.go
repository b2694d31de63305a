// SPDX-License-Identifier: BSD-3-Clause

//go:build cgo

package libevent

// maxPiped bounds what waits for one side of a Pipe.
const maxPiped = 512 << 10

// Pipe forwards what each of two connections sends to the other one, without a copy, until
// both have ended, and then frees both. Both are on the same base, and stay the caller's if
// Pipe returns an error. They may still be connecting, and may speak TLS.
//
// While one side does not read, Pipe holds a bounded amount for it, and then stops reading
// from the other. When one side ends its stream, Pipe forwards what came before and then the
// end; the other direction goes on. When one side fails, failed is called with its error,
// unless failed is nil. Then the failed side is freed. The other side is freed, too: after
// it has got everything if the failed side had ended its stream before, and else at once, so
// that the peer cannot take a part for the whole. A timeout of SetTimeouts is such a
// failure.
func Pipe(a, b *BufferEvent, failed func(side *BufferEvent, err error)) error {
	const op = "Pipe"
	if a == nil || b == nil || a == b {
		return badArgument(op, "it needs two connections")
	}
	if a.Base() != b.Base() {
		return badArgument(op, "the connections are on different bases")
	}
	p := &piping{failed: failed}
	first, second := p.side(), p.side()
	first.into, second.into = second, first
	first.b, second.b = a, b
	if err := first.start(a); err != nil {
		return err
	}
	return second.start(b)
}

// piping has what the two sides of a Pipe share.
type piping struct {
	failed func(*BufferEvent, error)
}

func (p *piping) side() *handling {
	s := &handling{}
	s.Handler = Handler{
		MaxOutput: maxPiped,
		Read: func(c *BufferEvent) {
			if err := s.into.b.WriteBuffer(c.Input()); err != nil {
				c.Free()
				s.into.b.Free()
			}
		},
		End: func(c *BufferEvent) {
			if !s.into.ended && s.into.b.CloseWrite() == nil {
				return
			}
			flush(c)
			flush(s.into.b)
		},
		Error: func(c *BufferEvent, err error) {
			if p.failed != nil {
				p.failed(c, err)
			}
			c.Free()
			if s.ended {
				flush(s.into.b)
			} else {
				s.into.b.Free()
			}
		},
	}
	return s
}
