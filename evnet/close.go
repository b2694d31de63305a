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
	c.askAddrs() // for the last time
	flushes := c.out.err == nil || c.shutWrite
	limit := c.linger
	c.end()
	c.mu.Unlock()
	for _, stop := range c.farewells {
		stop()
	}
	switch {
	case limit == 0:
		c.bev.Free()
	case flushes && unsent(c.bev) > 0:
		c.flush(limit)
	default:
		freeFlushed(c.bev, limit)
	}
	return nil
}

// freeFlushed also ends what FreeAfterFlush refuses.
func freeFlushed(bev *libevent.BufferEvent, limit time.Duration) {
	if err := bev.FreeAfterFlush(limit); err != nil && !errors.Is(err, libevent.ErrClosed) {
		bev.Free()
	}
}

// flush frees the bufferevent when its output is written. Meanwhile it drops what comes:
// FreeAfterFlush reads nothing, so two ends that are closed with much to say to each other
// would both wait until their limits.
func (c *Conn) flush(limit time.Duration) {
	timer := time.AfterFunc(limit, func() { freeFlushed(c.bev, 0) })
	written := func(bev *libevent.BufferEvent) {
		if unsent(bev) == 0 {
			timer.Stop()
			freeFlushed(bev, limit)
		}
	}
	err := c.bev.SetCallbacks(drop, written, func(bev *libevent.BufferEvent, what libevent.Events) {
		if what&(libevent.EventError|libevent.EventWriting) != 0 {
			timer.Stop()
			bev.Free()
		}
	})
	if err == nil {
		err = failure(c.bev.Err()) // which was told just before, and TLS fails once
	}
	if err == nil {
		drop(c.bev)
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
func failure(err error) error {
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

func drop(bev *libevent.BufferEvent) {
	_ = bev.Input().Drain(bev.Input().Len())
}
