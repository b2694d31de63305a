// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/go-libevent/libevent"
)

// largeRead is the size, in bytes, from which on a Read's buffer counts as large.
const largeRead = 16 << 10

// onReceive reads from the socket straight into the buffer of a waiting Read, which saves
// the copy from the input. After a small buffer was filled, more bytes are probably in the
// socket: then one large read into the input is quicker than many small ones.
func (c *Conn) onReceive(bev *libevent.BufferEvent) {
	c.mu.Lock()
	if c.in.waiting && c.buf != nil && !c.readWasFull {
		if n, _ := bev.Receive(c.buf); n > 0 {
			c.got = n
			c.readWasFull = n == len(c.buf) && n < largeRead
			c.in.wakeUp()
		}
	} else {
		c.readWasFull = false
	}
	c.mu.Unlock()
}

// onRead fills the buffer of a waiting Read on the loop's goroutine. The reader's goroutine
// then needs no call into C, and does not wait for a lock that the loop may hold.
func (c *Conn) onRead(bev *libevent.BufferEvent) {
	c.mu.Lock()
	if c.readShut {
		c.dropInput()
	} else if !c.in.waiting {
		c.mayHaveInput = true
	} else if c.buf == nil {
		c.mayHaveInput = true
		c.in.wakeUp()
	} else if n, _ := bev.Read(c.buf); n > 0 {
		c.got = n
		c.mayHaveInput = n == len(c.buf)
		c.in.wakeUp()
	}
	c.mu.Unlock()
}

// onWrite is set only while a Write waits. Without one, the loop would wake up for nothing
// to call it.
func (c *Conn) onWrite(bev *libevent.BufferEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		_ = bev.SetCallbacks(c.onRead, nil, c.onEvent)
	}
	c.out.wakeUp()
}

func (c *Conn) onEvent(bev *libevent.BufferEvent, what libevent.Events) {
	err := bev.Err()
	if what&libevent.EventEOF != 0 && what&libevent.EventReading != 0 {
		flushFilters(bev)
	}
	c.handleEvent(what, err)
}

// flushFilters makes a filter process the rest of the input below it. libevent reports the
// end to the filter as soon as the bufferevent below meets it; the filter may not have
// processed earlier input yet.
func flushFilters(bev *libevent.BufferEvent) {
	for bev.Underlying() != nil {
		if more, err := bev.Flush(libevent.EvRead, libevent.FlushFinished); !more || err != nil {
			return
		}
	}
}

// handleEvent ends the directions that an event ends.
func (c *Conn) handleEvent(what libevent.Events, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = netError(err)
	switch {
	case what&libevent.EventConnected != 0:
		c.updateAddrs()
	case what == libevent.EventTimeout: // TLS has no other, for NewConn has removed the timeouts
		c.endReading(errHandshakeTimeout)
		c.out.fail(errHandshakeTimeout)
	case what&libevent.EventWriting != 0:
		c.lose(what, err)
		c.out.fail(writeError(what, err))
		switch { // libevent may tell of both directions in one event
		case what&libevent.EventReading == 0:
		case what&libevent.EventEOF != 0:
			c.endReading(io.EOF)
		default:
			c.endReading(readError(err))
		}
		// After a failed write reading goes on, unless the failure has ended both directions of TLS.
		if what&libevent.EventError != 0 && c.bev.Enabled()&libevent.EvRead == 0 {
			c.endReading(err)
		}
	case what&libevent.EventReading != 0:
		c.endReading(err)
		if what&libevent.EventError != 0 { // the peer is lost, so writing fails too
			c.out.fail(lostError(err))
		}
	default:
		c.endReading(err)
		c.out.fail(writeError(what, err))
	}
}

// lose keeps the error of a failed write. If CloseWrite has been called, no later call would
// return the error, so Read does. Call with mu.
func (c *Conn) lose(what libevent.Events, err error) {
	if what&libevent.EventError == 0 || c.lost != nil {
		return
	}
	c.lost = err
	if c.writeShut && c.isAlive() {
		c.endReading(err)
	}
}

// endReading makes Read return err once the input is empty. Call with mu.
func (c *Conn) endReading(err error) {
	c.mayHaveInput = true
	if c.in.err == nil {
		c.in.err = err
	}
	c.in.wakeUp()
}

// writeError returns errBrokenPipe if the peer has ended the connection, or else err.
func writeError(what libevent.Events, err error) error {
	if what&libevent.EventEOF != 0 || err == error(syscall.EPIPE) {
		return errBrokenPipe
	}
	return err
}

// lostError returns the error of writing after reading has failed with err: EPIPE if the peer is gone. If TLS
// has refused the peer, both directions have the same reason, and the reason of a function of the user may be
// any error.
func lostError(err error) error {
	_, system := err.(*os.SyscallError)
	if system || err == io.ErrUnexpectedEOF {
		return errBrokenPipe
	}
	return err
}

// readError returns the error of reading for an event of both directions, whose error may be that
// of writing: reading never fails with EPIPE.
func readError(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		err = syscall.ECONNRESET
	}
	return connError("read", err)
}

// onPartnerFree ends a connection over a pair whose other end was freed. libevent does not
// report that to an end of a pair. It reports the end to a filter on top of the pair, which
// first has to process the rest of the input; so there only writing ends here.
func (c *Conn) onPartnerFree() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bev.Underlying() == nil {
		c.endReading(io.EOF)
	}
	c.out.fail(errBrokenPipe)
}

// onFree closes a connection whose bufferevent, or base, was freed by other code.
func (c *Conn) onFree() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.markClosed()
}
