package evnet

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-libevent/libevent"
)

const (
	inMark     = 256 << 10 // bytes unread at which no more is read from the peer
	outMark    = 256 << 10 // bytes unwritten at which Write waits
	flushLimit = 30 * time.Second

	largeRead = 16 << 10 // in bytes, of a Read
)

// Conn is a net.Conn over a bufferevent.
type Conn struct {
	bev *libevent.BufferEvent

	mu           sync.Mutex // held for moments, by the loop too
	in, out      side
	buf          []byte // what a Read that waits is to fill
	got          int    // how much of it the loop has filled; the reader's, once it is awake
	mayHaveInput bool   // there may be something in the input
	readWasFull  bool   // what came may be more than the last Read had room for, which was little
	readShut     bool   // reading, by CloseRead
	writeShut    bool   // by CloseWrite
	closed       bool
	linger       time.Duration
	connected    chan<- error // who connects wants to know, once

	queued int // no less than the output has; for the writer whose turn it is

	local, remote net.Addr
	partner       *libevent.BufferEvent // of a pair
	unwatch       []func() bool
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
	c.mayHaveInput = true
	if err := c.start(); err != nil {
		return nil, err
	}
	c.addrs()
	if c.partner = bottom(bev).Partner(); c.partner != nil {
		c.unwatch = append(c.unwatch, c.partner.AfterFree(c.onPartnerFree))
	}
	c.handlePastEvent(bev.Err())
	on := libevent.EvRead
	if bev.Enabled()&libevent.EvWrite == 0 { // or it would be as if the output had been written
		on |= libevent.EvWrite
	}
	if err := bev.Enable(on); err != nil {
		return nil, err
	}
	return c, nil
}

// handlePastEvent is for the end, or the failure, of what then was nobody's. A socket tells
// of it again when it is read from and written to; others do not.
func (c *Conn) handlePastEvent(err error) {
	var e *libevent.Error
	switch {
	case err == nil || errors.Is(err, os.ErrDeadlineExceeded):
	case err == io.EOF:
		c.handleEvent(libevent.EventEOF|libevent.EventReading, err)
	case errors.As(err, &e) && e.Op == "write":
		c.handleEvent(libevent.EventError|libevent.EventWriting, err)
	default:
		c.handleEvent(libevent.EventError, err)
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
	c.unwatch = append(c.unwatch, c.bev.AfterFree(c.onFree))
	return nil
}

// end refuses all that comes and wakes all that waits. Call with mu.
func (c *Conn) markClosed() {
	c.closed = true
	c.in.close()
	c.out.close()
	c.reportConnect(net.ErrClosed)
}

// whileOpen does something to the bufferevent that is not to meet with Close.
func (c *Conn) whileOpen(op string, fn func() error) error {
	c.mu.Lock()
	err := net.ErrClosed
	if !c.closed {
		err = netError(fn())
	}
	c.mu.Unlock()
	return c.opError(op, err)
}

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
