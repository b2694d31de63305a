package evnet

import (
	"cmp"
	"net"

	"github.com/go-libevent/libevent"
)

// noAddr stands for an address where there is none.
type noAddr string

func (a noAddr) Network() string { return string(a) }
func (a noAddr) String() string  { return string(a) }

const (
	pairAddr    noAddr = "pair"
	unknownAddr noAddr = "bufferevent"
)

// LocalAddr returns the address of this end, also after Close. It is never nil: an end of
// a pair has one that says so.
// Safe for concurrent use.
func (c *Conn) LocalAddr() net.Addr {
	local, _ := c.addrs()
	return local
}

// RemoteAddr returns the address of the peer, also after Close. It is never nil.
// Safe for concurrent use.
func (c *Conn) RemoteAddr() net.Addr {
	_, remote := c.addrs()
	return remote
}

// addrs asks again for what is not known before there is a connection.
func (c *Conn) addrs() (local, remote net.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.updateAddrs()
	return orUnknown(c.local), orUnknown(c.remote)
}

// updateAddrs may be too late when the peer has ended the connection. Call with mu.
func (c *Conn) updateAddrs() {
	if (c.local == nil || c.remote == nil) && !c.closed {
		socket := bottom(c.bev)
		if socket.Partner() != nil {
			c.local, c.remote = pairAddr, pairAddr
		} else {
			c.local = cmp.Or(socket.LocalAddr(), c.local)
			c.remote = cmp.Or(socket.RemoteAddr(), c.remote)
		}
	}
}

func orUnknown(addr net.Addr) net.Addr {
	if addr == nil {
		return unknownAddr
	}
	return addr
}

// bottom is the bufferevent itself, or the socket or pair below filters.
func bottom(bev *libevent.BufferEvent) *libevent.BufferEvent {
	for bev.Underlying() != nil {
		bev = bev.Underlying()
	}
	return bev
}
