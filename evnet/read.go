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
	if len(p) == 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return 0, c.checkRead()
	}
	for {
		n, err := c.await(p)
		if n > 0 || err != nil {
			return n, err
		}
		if n, err = c.take(p); n > 0 || err != nil {
			return n, err
		}
	}
}

// await waits until there may be something in the input. It returns how much of that the
// loop has already put into p, which may be nil.
func (c *Conn) await(p []byte) (int, error) {
	for {
		c.mu.Lock()
		err := c.checkRead()
		if err == nil && c.mayHaveInput {
			c.mayHaveInput = false
			c.mu.Unlock()
			return 0, nil
		}
		if err == nil {
			err = c.in.err
		}
		if err == nil {
			err = refuseOnLoop(c.bev.Base())
		}
		if err != nil {
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

// checkRead is why nothing is read, whatever there is. Call with mu.
func (c *Conn) checkRead() error {
	switch {
	case c.closed:
		return net.ErrClosed
	case c.in.expired:
		return os.ErrDeadlineExceeded
	case c.readShut:
		return io.EOF
	}
	return nil
}

// take reads from the input. What comes while it does so says so by itself.
func (c *Conn) take(p []byte) (int, error) {
	n, err := c.bev.Read(p)
	if n == len(p) {
		c.mu.Lock()
		c.mayHaveInput = true
		c.mu.Unlock()
	}
	if n == 0 {
		err = callError(err)
	} else {
		err = nil
	}
	return n, err
}

// callError leaves of the errors of reading those out that are of the connection: it has its
// own, of each direction.
func callError(err error) error {
	if errors.Is(err, libevent.ErrClosed) || errors.Is(err, libevent.ErrWrongLoop) || errors.Is(err, libevent.ErrLoopAborted) {
		return netError(err)
	}
	return nil
}

// WriteTo gives w what comes, until the peer's end. Between two connections of this package
// large amounts are not copied. There is no ReadFrom: a file is sent faster by Write than by
// sendfile from the loop.
// Safe for concurrent use.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	if dst, ok := w.(*Conn); ok {
		return c.relay(dst)
	}
	return io.Copy(w, struct{ io.Reader }{c})
}

const (
	minMove  = 96 << 10 // bytes, from which on it pays that the loop sends them from where they are
	copySize = 32 << 10
)

func (c *Conn) relay(dst *Conn) (total int64, err error) {
	chunk, err := libevent.NewBuffer()
	if err != nil {
		return 0, c.opError("read", netError(err))
	}
	defer chunk.Free()
	p := make([]byte, copySize)
	for {
		size, err := c.readBuffer(chunk)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, c.opError("read", err)
		}
		if size >= minMove {
			if err := dst.writeBuffer(chunk, size); err != nil {
				return total, err
			}
			total += int64(size)
			continue
		}
		for size > 0 {
			n, err := chunk.Remove(p)
			if err != nil {
				return total, c.opError("read", netError(err))
			}
			size -= n
			n, err = dst.Write(p[:n])
			total += int64(n)
			if err != nil {
				return total, err
			}
		}
	}
}

// readBuffer moves what came to an empty buffer, and returns how much.
func (c *Conn) readBuffer(chunk *libevent.Buffer) (int, error) {
	c.in.turn.Lock()
	defer c.in.turn.Unlock()
	for {
		if _, err := c.await(nil); err != nil {
			return 0, err
		}
		if err := c.bev.ReadBuffer(chunk); err != nil {
			return 0, netError(err)
		}
		if n := chunk.Len(); n > 0 {
			return n, nil
		}
	}
}
