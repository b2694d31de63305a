package evnet

import (
	"io"
	"syscall"

	"github.com/go-libevent/libevent"
)

// onReceive gives what comes to the reader that waits, as onRead does, past the input. With
// little room and more to come the input is the quicker way.
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

// onRead gives what came to the reader that waits: it then needs no call into C, nor a
// lock that the loop may hold.
func (c *Conn) onRead(bev *libevent.BufferEvent) {
	c.mu.Lock()
	if c.readShut {
		dropInput(bev)
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

// onWrite is there only while a writer waits: for all others it would be a wake-up of
// the loop for nothing.
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

// flushFilters has a filter look at all that is below it: it is told of the end when the one
// below is, and may be behind with what came before.
func flushFilters(bev *libevent.BufferEvent) {
	for bev.Underlying() != nil {
		if more, err := bev.Flush(libevent.EvRead, libevent.FlushFinished); !more || err != nil {
			return
		}
	}
}

func (c *Conn) handleEvent(what libevent.Events, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = netError(err)
	switch {
	case what&libevent.EventConnected != 0:
		c.updateAddrs()
		// Not before: a socket that is bound already would be read from.
		c.reportConnect(netError(c.bev.Enable(libevent.EvRead)))
		return
	case what&libevent.EventWriting != 0:
		c.out.fail(writeError(what, err))
		if what&libevent.EventReading != 0 && what&libevent.EventEOF != 0 { // both at once
			c.endReading(io.EOF)
		}
		// A socket may have something to read yet. TLS has failed as a whole.
		if what&libevent.EventError != 0 && c.bev.Enabled()&libevent.EvRead == 0 {
			c.endReading(err)
		}
	case what&libevent.EventReading != 0:
		c.endReading(err)
		if what&libevent.EventError != 0 { // and there is nobody to write to
			c.out.fail(errBrokenPipe)
		}
	default:
		c.endReading(err)
		c.out.fail(writeError(what, err))
	}
	c.reportConnect(err)
}

// endReading has Read return err once the input is empty. Call with mu.
func (c *Conn) endReading(err error) {
	c.mayHaveInput = true
	if c.in.err == nil {
		c.in.err = err
	}
	c.in.wakeUp()
}

// writeError is the error of writing to somebody who has ended the connection.
func writeError(what libevent.Events, err error) error {
	if what&libevent.EventEOF != 0 || err == error(syscall.EPIPE) {
		return errBrokenPipe
	}
	return err
}

// settle tells who connects how that ended. Call with mu.
func (c *Conn) reportConnect(err error) {
	if c.connected != nil {
		c.connected <- err
		c.connected = nil
	}
}

// onPartnerFree is for one end of a pair: libevent does not tell of the other's end, but to what
// is on top of a pair, which then has the rest of it to read first.
func (c *Conn) onPartnerFree() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bev.Underlying() == nil {
		c.endReading(io.EOF)
	}
	c.out.fail(errBrokenPipe)
}

// freed is for a bufferevent that somebody else has freed, or whose base is gone.
func (c *Conn) onFree() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.markClosed()
}
