// SPDX-License-Identifier: BSD-3-Clause

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
	inMark     = 256 << 10        // unread bytes at which the loop reads no more from the peer
	outMark    = 256 << 10        // unwritten bytes at which Write waits
	flushLimit = 30 * time.Second // for which Close goes on sending
)

// Conn is a net.Conn over a bufferevent.
// Safe for concurrent use.
type Conn struct {
	bev   *libevent.BufferEvent
	plain bool         // bev is a socket, and all that is on it is this connection
	using sync.RWMutex // held for reading while a caller has the descriptor

	mu           sync.Mutex // held briefly; the loop's goroutine takes it too
	in, out      side
	buf          []byte // the buffer of the Read that waits
	got          int    // bytes that the loop put into buf; the reader's, once it is awake
	mayHaveInput bool   // the input may have bytes
	readWasFull  bool   // the last Receive filled a small buffer, so more bytes are probably there
	readShut     bool   // CloseRead was called
	writeShut    bool   // CloseWrite was called
	closed       bool
	dropped      bool  // input was thrown away
	lost         error // why bytes that Write has accepted could not be sent
	told         bool  // a call has returned lost
	linger       time.Duration

	// queued is an upper bound of the output's length. It belongs to the writer that holds
	// out.turn.
	queued int

	local, remote net.Addr
	partner       *libevent.BufferEvent // the other end, of a pair
	unwatch       []func() bool         // cancel the AfterFree functions
}

var (
	_ net.Conn      = (*Conn)(nil)
	_ io.WriterTo   = (*Conn)(nil)
	_ io.ReaderFrom = (*Conn)(nil)
	_ syscall.Conn  = (*Conn)(nil)
)

// NewConn makes a net.Conn of a bufferevent: a socket, connected or not, one end of a pair, a
// filter, or a bufferevent of package openssl, whose handshake it starts. If err is nil, the
// Conn owns the bufferevent: it replaces closures, watermarks and timeouts, Read returns what
// is in the input already, and Close frees the bufferevent. Until a socket is connected, Read
// waits, and written data is kept, up to the limit given under Memory. A bufferevent with
// OptLoopOnly does not work: calls return ErrWrongLoop.
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
		// Without a high watermark the filter would pass all output on to the one below.
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
	if bev.Enabled()&libevent.EvWrite == 0 { // enabled again, libevent would call the write closure
		on |= libevent.EvWrite
	}
	if err := bev.Enable(on); err != nil {
		return nil, err
	}
	return c, nil
}

// handlePastEvent handles an end or an error that came before NewConn. A socket would report
// it again at the next read or write, other bufferevents would not.
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
	c.in.init(&c.mu, bev.Base)
	c.out.init(&c.mu, bev.Base)
	return c
}

// start sets the closures. The loop calls them once reading is enabled.
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

// markClosed makes later calls fail, and wakes the calls that wait. Call with mu.
func (c *Conn) markClosed() {
	c.closed = true
	c.in.close()
	c.out.close()
}

// whileOpen runs fn, during which Close waits. On a closed connection it only returns an error.
func (c *Conn) whileOpen(op string, fn func() error) error {
	return c.opError(op, c.locked(fn))
}

// locked is whileOpen without the form of its error.
func (c *Conn) locked(fn func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	return netError(fn())
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadline(t, &c.in, &c.out) }

// SetReadDeadline sets the time at which Read stops waiting, also a Read that is waiting now. A
// zero t means no deadline. After a deadline has passed, a new one makes Read work again.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(t, &c.in) }

// SetWriteDeadline sets the time at which Write stops waiting, also a Write that is waiting
// now. A zero t means no deadline. After a deadline has passed, a new one makes Write work
// again. The n bytes of a Write that stopped are still sent.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(t, &c.out) }

func (c *Conn) setDeadline(t time.Time, sides ...*side) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.localError("set", net.ErrClosed)
	}
	for _, s := range sides {
		s.setDeadline(t)
	}
	c.mu.Unlock()
	return nil
}
