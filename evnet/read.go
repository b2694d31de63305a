package evnet

import (
	"errors"
	"io"
	"net"
	"os"

	"github.com/go-libevent/libevent"
)

// Read gives what came, as soon as there is something, then io.EOF or the error that ended
// the connection.
// Safe for concurrent use.
func (c *Conn) Read(p []byte) (int, error) {
	c.in.turn.Lock()
	n, err := c.read(p)
	c.in.turn.Unlock()
	if err != nil {
		err = c.opError("read", err)
	}
	return n, err
}

func (c *Conn) read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		switch {
		case c.closed:
			c.mu.Unlock()
			return 0, net.ErrClosed
		case c.in.expired:
			c.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			c.mu.Unlock()
			return 0, nil
		case c.shut:
			c.mu.Unlock()
			return 0, io.EOF
		case c.more:
			c.more = false
			c.mu.Unlock()
			if n, err := c.take(p); n > 0 || err != nil {
				return n, err
			}
			continue
		case c.in.err != nil:
			err := c.in.err
			c.mu.Unlock()
			return 0, err
		}
		if err := onLoop(c.bev.Base()); err != nil {
			c.mu.Unlock()
			return 0, err
		}
		c.buf, c.got, c.in.waiting = p, 0, true
		c.mu.Unlock()
		<-c.in.wake
		c.buf = nil
		if c.got > 0 {
			return c.got, nil
		}
	}
}

// take reads from the input. What comes while it does says so by itself.
func (c *Conn) take(p []byte) (int, error) {
	n, err := c.bev.Read(p)
	if n > 0 {
		if n == len(p) {
			c.mu.Lock()
			c.more = true
			c.mu.Unlock()
		}
		return n, nil
	}
	// Other errors are of the connection, which has its own of each direction.
	if errors.Is(err, libevent.ErrClosed) || errors.Is(err, libevent.ErrWrongLoop) || errors.Is(err, libevent.ErrLoopAborted) {
		return 0, cause(err)
	}
	return 0, nil
}

// WriteTo gives w what comes, until the peer's end.
// Safe for concurrent use.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}
