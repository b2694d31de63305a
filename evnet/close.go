// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

// Close closes the connection. Calls that wait return an error that matches net.ErrClosed.
// Close does not wait: the loop goes on sending what was written, for 30 seconds at most or as
// long as SetLinger says. If the peer has sent bytes that Read has not returned, a TCP
// connection of Listen or Dial is reset, as the system does it for package net.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.opError("close", net.ErrClosed)
	}
	c.updateAddrs() // while the socket is open
	flushes := c.out.err == nil || c.writeShut
	limit := c.linger
	if c.in.err == errHandshakeTimeout { // nothing can be sent
		limit = 0
	}
	if c.plain && (c.lost != nil || c.dropped || c.bev.Input().Len() > 0) {
		limit = 0
		resetOnClose(c.bev)
	}
	c.markClosed()
	c.mu.Unlock()
	c.using.Lock() // waits until every call that uses the descriptor has returned
	//lint:ignore SA2001 there is nothing to do but to wait
	c.using.Unlock()
	for _, stop := range c.unwatch {
		stop()
	}
	switch {
	case limit == 0 || c.plain && unsent(c.bev) == 0: // the rest is the system's, as for package net
		c.bev.Free()
	case flushes && unsent(c.bev) > 0:
		c.flush(limit)
	default:
		freeAfterFlush(c.bev, limit)
	}
	return nil
}

// resetOnClose has the system reset the connection, if it is TCP, when its socket is closed. An
// error means that there is no connection to be reset.
func resetOnClose(bev *libevent.BufferEvent) {
	l := syscall.Linger{Onoff: 1}
	_ = syscall.SetsockoptLinger(bottom(bev).FD(), syscall.SOL_SOCKET, syscall.SO_LINGER, &l)
}

// CloseRead ends reading: Read returns io.EOF, also a Read that is waiting, and what the peer
// sends is dropped. The peer is not told.
func (c *Conn) CloseRead() error {
	return c.whileOpen("close", func() error {
		if c.plain && c.in.err != nil {
			if err := c.shutdown(syscall.SHUT_RD); err != nil {
				return err
			}
		}
		c.readShut = true
		c.in.wakeUp()
		c.dropInput()
		return nil
	})
}

// CloseWrite ends writing: the peer reads everything that was written, then io.EOF.
// CloseWrite does not wait for that. Reading goes on. If what Write has accepted could not be
// sent, CloseWrite returns that error, and the peer reads no io.EOF.
func (c *Conn) CloseWrite() error {
	return c.whileOpen("close", func() error {
		if c.lost != nil && !c.told && c.isAlive() {
			c.told = true
			return c.lost
		}
		refused := c.out.err // also by an earlier CloseWrite
		again := c.writeShut
		left := !c.plain && !again && !c.told && refused != nil && unsent(c.bev) > 0
		c.writeShut = true
		c.out.fail(errBrokenPipe)
		err := c.bev.CloseWrite()
		if c.plain && refused != nil && (!again || unsent(c.bev) == 0) {
			return c.shutdown(syscall.SHUT_WR)
		}
		if left { // no write has failed, but the whole connection has, such as a handshake of TLS
			return refused
		}
		return connError("shutdown", err)
	})
}

// shutdown has the system say whether there still is a connection, as package net does.
func (c *Conn) shutdown(how int) error {
	return os.NewSyscallError("shutdown", syscall.Shutdown(c.bev.FD(), how))
}

// isAlive reports whether the system still has the connection although a write has failed.
// Only then does the peer wait in vain. Call with mu.
func (c *Conn) isAlive() bool {
	switch bottom(c.bev).RemoteAddr().(type) {
	case *net.TCPAddr:
		return true
	case *net.UnixAddr: // also known when the peer is gone
		return !errors.Is(c.lost, syscall.EPIPE) && !errors.Is(c.lost, syscall.ECONNRESET)
	}
	return false
}

// freeAfterFlush frees a bufferevent at once if FreeAfterFlush refuses it.
func freeAfterFlush(bev *libevent.BufferEvent, limit time.Duration) {
	if err := bev.FreeAfterFlush(limit); err != nil && !errors.Is(err, libevent.ErrClosed) {
		bev.Free()
	}
}

// flush frees the bufferevent when its output is written, and drops its input meanwhile.
// FreeAfterFlush alone would not do: it reads nothing, so two connections that are closed
// while each has output for the other would both wait until their limits.
func (c *Conn) flush(limit time.Duration) {
	timer := afterFunc(c.bev.Base(), limit, func() { freeAfterFlush(c.bev, 0) })
	written := func(bev *libevent.BufferEvent) {
		if unsent(bev) == 0 {
			timer.Stop()
			freeAfterFlush(bev, limit)
		}
	}
	err := c.bev.SetCallbacks(dropInput, written, func(bev *libevent.BufferEvent, what libevent.Events) {
		// A timeout can only be that of a handshake of TLS.
		if what&(libevent.EventError|libevent.EventWriting|libevent.EventTimeout) != 0 {
			timer.Stop()
			resetOnClose(bev)
			bev.Free()
		}
	})
	if err == nil {
		// An error that came before SetCallbacks went to the old closures, and TLS does
		// not report it again.
		err = failureOf(c.bev.Err())
	}
	if err == nil {
		dropInput(c.bev)
		// A failed write has turned writing off, here or below. Turned on again, it fails
		// again, which the event closure hears.
		err = c.bev.Enable(libevent.EvRead | libevent.EvWrite)
	}
	if errors.Is(err, libevent.ErrClosed) {
		return // written has run meanwhile, and Free would end the flush that it started
	}
	if err != nil {
		timer.Stop()
		resetOnClose(c.bev)
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
	written(c.bev) // the output may have become empty before the closures were set
}

// failureOf returns the error of a last event, or nil if the event was an end or a timeout.
func failureOf(err error) error {
	if err == io.EOF || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// unsent counts the bytes in the output and in the outputs below it.
func unsent(bev *libevent.BufferEvent) (n int) {
	for ; bev != nil; bev = bev.Underlying() {
		n += bev.Output().Len()
	}
	return n
}

// dropInput throws away what is in the input. Call with mu.
func (c *Conn) dropInput() {
	c.dropped = c.dropped || c.bev.Input().Len() > 0
	dropInput(c.bev)
}

// dropInput throws away what is in the input.
func dropInput(bev *libevent.BufferEvent) {
	_ = bev.Input().Drain(bev.Input().Len())
}
