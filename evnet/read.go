// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"errors"
	"io"
	"net"
	"os"

	"github.com/go-libevent/libevent"
)

// Read waits until the peer has sent something, and returns that. When it has returned
// everything that the peer sent, it returns io.EOF, or the error that ended the connection.
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
		return 0, c.locked(func() error { return nil })
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

// await waits until the input may have bytes. It returns how many of them the loop has
// already put into p. p may be nil.
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
		c.in.gate.wait()
		c.buf = nil
		if c.got > 0 {
			return c.got, nil
		}
	}
}

// checkRead returns the error of a Read that fails even if there is input. Call with mu.
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

// take reads from the input. For bytes that arrive meanwhile, the loop calls onRead, which
// sets mayHaveInput again.
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

// callError returns the errors that concern this call. It leaves out errors of the
// connection: c.in has those, and Read returns them once the input is empty.
func callError(err error) error {
	if errors.Is(err, libevent.ErrClosed) || errors.Is(err, libevent.ErrWrongLoop) || errors.Is(err, libevent.ErrLoopAborted) {
		return netError(err)
	}
	return nil
}

// WriteTo writes to w what the peer sends, until the peer ends its side. If w is a *Conn,
// large amounts are moved and not copied.
func (c *Conn) WriteTo(w io.Writer) (n int64, err error) {
	if dst, ok := w.(*Conn); ok {
		n, err = c.relay(dst)
	} else {
		n, err = io.Copy(w, struct{ io.Reader }{c})
	}
	return n, c.opError("writeto", err)
}

// ReadFrom writes what r has, until the end of r. It uses no sendfile, because Write sends a
// file faster than sendfile on the loop would.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(struct{ io.Writer }{c}, r)
	return n, c.opError("readfrom", err)
}

const (
	minMove  = 96 << 10 // bytes from which on moving is quicker than copying
	copySize = 32 << 10 // bytes of the buffer for copying
)

// relay is WriteTo for a connection of this package.
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
		n, err := c.pass(dst, chunk, size, p)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}

// pass writes the size bytes of a chunk to dst, and returns how many dst took. It moves a
// large chunk, and copies a small one through p.
func (c *Conn) pass(dst *Conn, chunk *libevent.Buffer, size int, p []byte) (total int, err error) {
	if size >= minMove {
		if err := dst.writeBuffer(chunk, size); err != nil {
			return 0, err
		}
		return size, nil
	}
	for size > 0 {
		n, err := chunk.Remove(p)
		if err != nil {
			return total, c.opError("read", netError(err))
		}
		size -= n
		n, err = dst.Write(p[:n])
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// readBuffer waits for input, moves it to an empty buffer and returns its size.
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
