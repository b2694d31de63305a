// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"cmp"
	"net"

	"github.com/go-libevent/libevent"
)

// noAddr is the address of an end that has no address of its own.
type noAddr string

func (a noAddr) Network() string { return string(a) }
func (a noAddr) String() string  { return string(a) }

const (
	pairAddr    noAddr = "pair"
	unknownAddr noAddr = "bufferevent"
)

// LocalAddr returns the address of this end, also after Close. It is never nil: the address
// of an end of a pair has the network "pair".
func (c *Conn) LocalAddr() net.Addr {
	local, _ := c.addrs()
	return local
}

// RemoteAddr returns the address of the peer, also after Close. It is never nil.
func (c *Conn) RemoteAddr() net.Addr {
	_, remote := c.addrs()
	return remote
}

// addrs returns both addresses. An address that is not known yet, because the socket is not
// connected, is asked for again.
func (c *Conn) addrs() (local, remote net.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.updateAddrs()
	return orUnknown(c.local), orUnknown(c.remote)
}

// updateAddrs asks the system for an address that is missing. Once the peer has ended the
// connection, the system may no longer know the address. Call with mu.
func (c *Conn) updateAddrs() {
	if (c.local == nil || c.remote == nil) && !c.closed {
		socket := bottom(c.bev)
		if socket.Partner() != nil {
			c.local, c.remote = pairAddr, pairAddr
		} else {
			c.local = cmp.Or(named(socket.LocalAddr()), c.local)
			c.remote = cmp.Or(named(socket.RemoteAddr()), c.remote)
		}
	}
}

// named gives a unix socket that has no name the one that package net gives it.
func named(addr net.Addr) net.Addr {
	if unix, ok := addr.(*net.UnixAddr); ok && unix.Name == "" {
		return &net.UnixAddr{Name: "@", Net: "unix"}
	}
	return addr
}

// orUnknown replaces a missing address.
func orUnknown(addr net.Addr) net.Addr {
	if addr == nil {
		return unknownAddr
	}
	return addr
}

// bottom returns the socket or the pair end below all filters, or bev if it has no filters.
func bottom(bev *libevent.BufferEvent) *libevent.BufferEvent {
	for bev.Underlying() != nil {
		bev = bev.Underlying()
	}
	return bev
}
