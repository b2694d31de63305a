package evnet

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/go-libevent/libevent"
)

// Close ends the connection; calls that wait return an error that matches net.ErrClosed.
// It does not wait: what was written is still sent, within 30 seconds or as SetLinger
// says, by the loop.
// Safe for concurrent use.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.opError("close", net.ErrClosed)
	}
	c.updateAddrs() // for the last time
	flushes := c.out.err == nil || c.writeShut
	limit := c.linger
	c.markClosed()
	c.mu.Unlock()
	for _, stop := range c.unwatch {
		stop()
	}
	switch {
	case limit == 0:
		c.bev.Free()
	case flushes && unsent(c.bev) > 0:
		c.flush(limit)
	default:
		freeAfterFlush(c.bev, limit)
	}
	return nil
}

// CloseRead ends reading: Read returns io.EOF, also one that waits, and what comes is
// dropped. The peer is not told.
// Safe for concurrent use.
func (c *Conn) CloseRead() error {
	return c.whileOpen("close", func() error {
		c.readShut = true
		c.in.wakeUp()
		dropInput(c.bev)
		return nil
	})
}

// CloseWrite ends writing: the peer reads io.EOF after all that was written. It does not
// wait for that. Reading goes on.
// Safe for concurrent use.
func (c *Conn) CloseWrite() error {
	return c.whileOpen("close", func() error {
		err := c.bev.CloseWrite()
		c.writeShut = true
		c.out.fail(errBrokenPipe)
		return err
	})
}

// freeAfterFlush also ends what FreeAfterFlush refuses.
func freeAfterFlush(bev *libevent.BufferEvent, limit time.Duration) {
	if err := bev.FreeAfterFlush(limit); err != nil && !errors.Is(err, libevent.ErrClosed) {
		bev.Free()
	}
}

// flush frees the bufferevent when its output is written. Meanwhile it drops what comes:
// FreeAfterFlush reads nothing, so two ends that are closed with much to say to each other
// would both wait until their limits.
func (c *Conn) flush(limit time.Duration) {
	timer := time.AfterFunc(limit, func() { freeAfterFlush(c.bev, 0) })
	written := func(bev *libevent.BufferEvent) {
		if unsent(bev) == 0 {
			timer.Stop()
			freeAfterFlush(bev, limit)
		}
	}
	err := c.bev.SetCallbacks(dropInput, written, func(bev *libevent.BufferEvent, what libevent.Events) {
		if what&(libevent.EventError|libevent.EventWriting) != 0 {
			timer.Stop()
			bev.Free()
		}
	})
	if err == nil {
		err = failureOf(c.bev.Err()) // which was told just before, and TLS fails once
	}
	if err == nil {
		dropInput(c.bev)
		// Writing, too, and below: if it has failed it fails again.
		err = c.bev.Enable(libevent.EvRead | libevent.EvWrite)
	}
	if err != nil {
		timer.Stop()
		c.bev.Free()
		return
	}
	if c.partner != nil {
		c.partner.AfterFree(c.bev.Free)
	}
	for under := c.bev.Underlying(); under != nil; under = under.Underlying() {
		_ = under.Enable(libevent.EvWrite)
		_, _ = under.Output().AddCallback(func(*libevent.Buffer, int, int) { written(c.bev) })
	}
	written(c.bev) // perhaps before there was anybody to tell
}

// failure is the cause of a last event that was no end, nor a timeout.
func failureOf(err error) error {
	if err == io.EOF || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// unsent is how much is in the output, and in those below it.
func unsent(bev *libevent.BufferEvent) (n int) {
	for ; bev != nil; bev = bev.Underlying() {
		n += bev.Output().Len()
	}
	return n
}

func dropInput(bev *libevent.BufferEvent) {
	_ = bev.Input().Drain(bev.Input().Len())
}
