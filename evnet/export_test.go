// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"net"

	"github.com/go-libevent/libevent"
)

// Buffered returns how many bytes the inputs and outputs of connections hold, including
// those of the bufferevents below.
func Buffered(conns ...*Conn) (n int) {
	for _, c := range conns {
		for bev := c.bev; bev != nil; bev = bev.Underlying() {
			n += bev.Input().Len() + bev.Output().Len()
		}
	}
	return n
}

// Waiting reports whether both a reader and a writer wait.
func Waiting(c *Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in.waiting && c.out.waiting
}

// BaseOf returns the base of a connection.
func BaseOf(c *Conn) *libevent.Base { return c.bev.Base() }

// OverFilter reports whether a connection is over a filter.
func OverFilter(c *Conn) bool { return c.bev.Underlying() != nil }

// Arrived returns how many connections wait for Accept.
func Arrived(l net.Listener) int {
	listener := l.(*Listener)
	listener.mu.Lock()
	defer listener.mu.Unlock()
	return len(listener.queue)
}

// Start starts a listener again.
func Start(l net.Listener) error { return l.(*Listener).start() }

// Dropped reports whether a connection has thrown input away.
func Dropped(c *Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped
}

// Lost reports whether a write has failed.
func Lost(c *Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost != nil
}
