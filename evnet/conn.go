package evnet

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

const (
	inMark     = 256 << 10 // bytes unread at which no more is read from the peer
	outMark    = 256 << 10 // bytes unwritten at which Write waits
	flushLimit = 30 * time.Second

	muchRoom = 16 << 10 // in bytes, of a Read
)

// Conn is a net.Conn over a bufferevent.
type Conn struct {
	bev *libevent.BufferEvent

	mu        sync.Mutex // held for moments, by the loop too
	in, out   side
	buf       []byte // what a Read that waits is to fill
	got       int    // how much of it the loop has filled; the reader's, once it is awake
	more      bool   // there may be something in the input
	full      bool   // what came may be more than the last Read had room for, which was little
	shut      bool   // reading, by CloseRead
	shutWrite bool   // by CloseWrite
	closed    bool
	linger    time.Duration
	settled   chan<- error // who connects wants to know, once

	queued int // no less than the output has; for the writer whose turn it is

	local, remote net.Addr
	partner       *libevent.BufferEvent // of a pair
	farewells     []func() bool
}

var (
	_ net.Conn    = (*Conn)(nil)
	_ io.WriterTo = (*Conn)(nil)
)

// NewConn makes a net.Conn of a bufferevent: a socket, connected or not, one end of a
// pair, a filter or TLS. If err is nil it has taken the bufferevent over: its closures,
// watermarks and timeouts, what is buffered in it, and its end, for Close frees it. Before
// it is connected Read waits, and what is written is kept, up to the bounds of memory. Of
// TLS the handshake is begun before, as by SetCallbacks(nil, nil, nil) of an openssl.Conn.
// A bufferevent that was made with OptLoopOnly is not fit for it: calls return
// ErrWrongLoop.
// Safe for concurrent use.
func NewConn(bev *libevent.BufferEvent) (*Conn, error) {
	if bev == nil {
		return nil, &libevent.Error{Op: "NewConn", Err: errors.New("bev is nil")}
	}
	c := newConn(bev)
	if err := errors.Join(bev.SetTimeouts(0, 0), bev.SetWatermark(libevent.EvWrite, 0, 0)); err != nil {
		return nil, err
	}
	for under := bev.Underlying(); under != nil; under = under.Underlying() {
		// Or the filter would pass everything on to there.
		if err := under.SetWatermark(libevent.EvWrite, 0, outMark); err != nil {
			return nil, err
		}
	}
	c.more = true
	if err := c.start(); err != nil {
		return nil, err
	}
	c.addrs()
	if c.partner = bottom(bev).Partner(); c.partner != nil {
		c.farewells = append(c.farewells, c.partner.AfterFree(c.peerGone))
	}
	c.happenedBefore(bev.Err())
	on := libevent.EvRead
	if bev.Enabled()&libevent.EvWrite == 0 { // or it would be as if the output had been written
		on |= libevent.EvWrite
	}
	if err := bev.Enable(on); err != nil {
		return nil, err
	}
	return c, nil
}

// happenedBefore is for the end, or the failure, of what then was nobody's. A socket tells
// of it again when it is read from and written to; others do not.
func (c *Conn) happenedBefore(err error) {
	var e *libevent.Error
	switch {
	case err == nil || errors.Is(err, os.ErrDeadlineExceeded):
	case err == io.EOF:
		c.happened(libevent.EventEOF|libevent.EventReading, err)
	case errors.As(err, &e) && e.Op == "write":
		c.happened(libevent.EventError|libevent.EventWriting, err)
	default:
		c.happened(libevent.EventError, err)
	}
}

func newConn(bev *libevent.BufferEvent) *Conn {
	c := &Conn{bev: bev, linger: flushLimit}
	c.in.init(&c.mu)
	c.out.init(&c.mu)
	return c
}

// start has the loop call the connection from now on, once reading is enabled.
func (c *Conn) start() error {
	if err := c.bev.SetCallbacks(c.onRead, nil, c.onEvent); err != nil {
		return err
	}
	if err := c.bev.SetReceiver(c.onReceive); err != nil {
		return err
	}
	if err := c.bev.SetWatermark(libevent.EvRead, 0, inMark); err != nil {
		return err
	}
	c.farewells = append(c.farewells, c.bev.AfterFree(c.freed))
	return nil
}

// --- what the loop tells -------------------------------------------------------------

// onReceive gives what comes to the reader that waits, as onRead does, past the input. With
// little room and more to come the input is the quicker way.
func (c *Conn) onReceive(bev *libevent.BufferEvent) {
	c.mu.Lock()
	if c.in.waiting && c.buf != nil && !c.full {
		if n, _ := bev.Receive(c.buf); n > 0 {
			c.got = n
			c.full = n == len(c.buf) && n < muchRoom
			c.in.rouse()
		}
	} else {
		c.full = false
	}
	c.mu.Unlock()
}

// onRead gives what came to the reader that waits: it then needs no call into C, nor a
// lock that the loop may hold.
func (c *Conn) onRead(bev *libevent.BufferEvent) {
	c.mu.Lock()
	if c.shut {
		drop(bev)
	} else if !c.in.waiting {
		c.more = true
	} else if c.buf == nil {
		c.more = true
		c.in.rouse()
	} else if n, _ := bev.Read(c.buf); n > 0 {
		c.got = n
		c.more = n == len(c.buf)
		c.in.rouse()
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
	c.out.rouse()
}

func (c *Conn) onEvent(bev *libevent.BufferEvent, what libevent.Events) {
	err := bev.Err()
	if what&libevent.EventEOF != 0 && what&libevent.EventReading != 0 {
		lastWords(bev)
	}
	c.happened(what, err)
}

// lastWords has a filter look at all that is below it: it is told of the end when the one
// below is, and may be behind with what came before.
func lastWords(bev *libevent.BufferEvent) {
	for bev.Underlying() != nil {
		if more, err := bev.Flush(libevent.EvRead, libevent.FlushFinished); !more || err != nil {
			return
		}
	}
}

func (c *Conn) happened(what libevent.Events, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = cause(err)
	switch {
	case what&libevent.EventConnected != 0:
		c.askAddrs()
		// Not before: a socket that is bound already would be read from.
		c.settle(cause(c.bev.Enable(libevent.EvRead)))
		return
	case what&libevent.EventWriting != 0:
		c.out.fail(brokenPipe(what, err))
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
		c.out.fail(brokenPipe(what, err))
	}
	c.settle(err)
}

// endReading has Read return err once the input is empty. Call with mu.
func (c *Conn) endReading(err error) {
	c.more = true
	if c.in.err == nil {
		c.in.err = err
	}
	c.in.rouse()
}

// brokenPipe is the error of writing to somebody who has ended the connection.
func brokenPipe(what libevent.Events, err error) error {
	if what&libevent.EventEOF != 0 || err == error(syscall.EPIPE) {
		return errBrokenPipe
	}
	return err
}

// settle tells who connects how that ended. Call with mu.
func (c *Conn) settle(err error) {
	if c.settled != nil {
		c.settled <- err
		c.settled = nil
	}
}

// peerGone is for one end of a pair: libevent does not tell of the other's end, but to what
// is on top of a pair, which then has the rest of it to read first.
func (c *Conn) peerGone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bev.Underlying() == nil {
		c.endReading(io.EOF)
	}
	c.out.fail(errBrokenPipe)
}

// freed is for a bufferevent that somebody else has freed, or whose base is gone.
func (c *Conn) freed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
}

// end refuses all that comes and wakes all that waits. Call with mu.
func (c *Conn) end() {
	c.closed = true
	c.in.close()
	c.out.close()
	c.settle(net.ErrClosed)
}

// --- ending --------------------------------------------------------------------------

// CloseRead ends reading: Read returns io.EOF, also one that waits, and what comes is
// dropped. The peer is not told.
// Safe for concurrent use.
func (c *Conn) CloseRead() error {
	return c.control("close", func() error {
		c.shut = true
		c.in.rouse()
		drop(c.bev)
		return nil
	})
}

// CloseWrite ends writing: the peer reads io.EOF after all that was written. It does not
// wait for that. Reading goes on.
// Safe for concurrent use.
func (c *Conn) CloseWrite() error {
	return c.control("close", func() error {
		err := c.bev.CloseWrite()
		c.shutWrite = true
		c.out.fail(errBrokenPipe)
		return err
	})
}

// control does something to the bufferevent that is not to meet with Close.
func (c *Conn) control(op string, fn func() error) error {
	c.mu.Lock()
	err := net.ErrClosed
	if !c.closed {
		err = cause(fn())
	}
	c.mu.Unlock()
	return c.opError(op, err)
}

// --- deadlines -----------------------------------------------------------------------

// SetDeadline is SetReadDeadline and SetWriteDeadline.
// Safe for concurrent use.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadline(t, &c.in, &c.out) }

// SetReadDeadline sets when Read stops waiting, also one that waits already; a zero t is
// never. A later one makes Read work again.
// Safe for concurrent use.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(t, &c.in) }

// SetWriteDeadline sets when Write stops waiting, also one that waits already; a zero t is
// never. A later one makes Write work again. What Write says it has written is sent all
// the same.
// Safe for concurrent use.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(t, &c.out) }

func (c *Conn) setDeadline(t time.Time, sides ...*side) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.opError("set", net.ErrClosed)
	}
	for _, s := range sides {
		s.setDeadline(t)
	}
	c.mu.Unlock()
	return nil
}
