// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"os"
	"syscall"

	"github.com/go-libevent/libevent"
)

var errBrokenPipe = os.NewSyscallError("write", syscall.EPIPE)

// Write sends p at once as far as the socket takes it, and copies the rest to the output, from
// where the loop sends it. If the output would grow beyond 256 KiB, Write waits for the peer. If
// Write returns an error, the first n bytes are still sent, unless the connection is broken.
func (c *Conn) Write(p []byte) (n int, err error) {
	c.out.turn.Lock()
	n, err = c.write(p)
	c.out.turn.Unlock()
	if err != nil {
		err = c.opError("write", err)
	}
	return n, err
}

func (c *Conn) write(p []byte) (n int, err error) {
	for {
		err := c.checkWrite()
		if err != nil || n == len(p) {
			return n, err
		}
		piece := p[n:min(n+outMark, len(p))]
		if err := c.makeRoom(len(piece)); err != nil {
			return n, err
		}
		k, err := c.bev.Write(piece)
		n += k
		c.queued += k
		if err != nil || n == len(p) {
			return n, netError(err)
		}
	}
}

// checkWrite returns the error of a Write that cannot even begin, or nil.
func (c *Conn) checkWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.checkOut()
}

// checkOut is checkWrite, and notes that the caller learns of a failure. Call with mu.
func (c *Conn) checkOut() error {
	err := c.out.check()
	c.told = c.told || err != nil && err == c.out.err
	return err
}

// makeRoom waits until size more bytes fit in the output. It asks C for the output's length
// only when queued is too high.
func (c *Conn) makeRoom(size int) error {
	if c.queued+size <= outMark {
		return nil
	}
	c.queued = c.bev.Output().Len()
	if c.queued+size <= outMark {
		return nil
	}
	err := c.awaitDrained()
	c.queued = 0
	return err
}

// awaitDrained waits until the output is empty. Waiting for a low mark instead would have
// the socket written to in pieces. While the writer wakes up, the socket still has its own
// buffer to send from.
func (c *Conn) awaitDrained() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if err := c.checkOut(); err != nil || c.bev.Output().Len() == 0 {
			return err
		}
		if err := refuseOnLoop(c.bev.Base()); err != nil {
			return err
		}
		if err := c.bev.SetCallbacks(c.onRead, c.onWrite, c.onEvent); err != nil {
			return netError(err)
		}
		if c.bev.Output().Len() == 0 { // it became empty before onWrite was set
			continue
		}
		c.out.waiting = true
		c.mu.Unlock()
		c.out.gate.wait()
		c.mu.Lock()
	}
}

// writeBuffer is Write for a buffer with size bytes, which it moves to the output.
func (c *Conn) writeBuffer(chunk *libevent.Buffer, size int) error {
	c.out.turn.Lock()
	defer c.out.turn.Unlock()
	err := c.checkWrite()
	if err == nil {
		err = c.makeRoom(size)
	}
	if err == nil {
		err = netError(c.bev.WriteBuffer(chunk))
	}
	if err != nil {
		return c.opError("write", err)
	}
	c.queued += size
	return nil
}
