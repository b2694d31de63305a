// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include "native.h"
*/
import "C"

import (
	"errors"
	"net"
	"net/netip"
)

// endpoints are the addresses of a connection. The system forgets them when the connection is
// reset or its descriptor is closed, so they are kept from the moment at which the
// connection is there.
type endpoints struct {
	local, remote netip.AddrPort
	unix          *[2]net.UnixAddr // instead, for a unix socket
	connecting    bool             // remote is where it connects to, and local is not known
}

// addrs asks the system for both addresses. It returns nil if there is no connection.
func (b *BufferEvent) addrs() *endpoints {
	var a [2]C.struct_glev_addr
	_, err := b.do("getpeername", func() C.int64_t { return C.glev_bev_addrs(b.c, &a[0]) })
	if err != nil {
		return nil
	}
	return endpointsOf(&a[0], &a[1])
}

func endpointsOf(local, remote *C.struct_glev_addr) *endpoints {
	if local.family == C.AF_UNIX {
		return &endpoints{unix: &[2]net.UnixAddr{*netAddr(local).(*net.UnixAddr), *netAddr(remote).(*net.UnixAddr)}}
	}
	e := &endpoints{remote: addrPort(remote)}
	if local.family != C.AF_UNSPEC {
		e.local = addrPort(local)
	}
	return e
}

// endpointsOfFD returns the addresses of a connection that a caller brings, or nil if fd is not
// connected. A listening socket is refused: a bufferevent would report an error without a cause.
func endpointsOfFD(op string, fd int) (*endpoints, error) {
	var a [2]C.struct_glev_addr
	switch rc := C.glev_addrs_of_fd(C.int(fd), &a[0]); {
	case rc == C.GLEV_LISTENS:
		_, err := result(op, rc)
		return nil, err
	case rc != 0:
		return nil, nil
	}
	return endpointsOf(&a[0], &a[1]), nil
}

// keepEndpoints keeps the addresses of a connection that has just been made or given.
func (b *BufferEvent) keepEndpoints() {
	if e := b.addrs(); e != nil {
		b.endpoints.Store(e)
	}
}

// connectsTo keeps the address to which the bufferevent begins to connect.
func (b *BufferEvent) connectsTo(a *C.struct_glev_addr) {
	var none C.struct_glev_addr
	none.family = a.family // a unix socket that connects has no name
	if a.family != C.AF_UNIX {
		none.family = C.AF_UNSPEC
	}
	e := endpointsOf(&none, a)
	e.connecting = true
	b.endpoints.Store(e)
}

// LocalAddr returns the address of this end, also after the connection has ended and after
// Free, or nil if there never was one.
// Stands for getsockname.
func (b *BufferEvent) LocalAddr() net.Addr {
	bottom := b.bottom()
	if e := bottom.endpoints.Load(); e != nil && !e.connecting {
		return e.addr(0)
	}
	var a C.struct_glev_addr
	if _, err := bottom.do("getsockname", func() C.int64_t { return C.glev_bev_addr(bottom.c, 0, &a) }); err != nil {
		return nil
	}
	return netAddr(&a)
}

// RemoteAddr returns the address of the peer, also after the connection has ended and after
// Free, or nil if there never was one. While the bufferevent connects, and after that has
// failed, it is the address that was tried last.
// Stands for getpeername.
func (b *BufferEvent) RemoteAddr() net.Addr {
	bottom := b.bottom()
	if e := bottom.endpoints.Load(); e != nil {
		return e.addr(1)
	}
	if e := bottom.addrs(); e != nil {
		return e.addr(1)
	}
	return nil
}

func (e *endpoints) addr(peer int) net.Addr {
	if e.unix != nil {
		return &e.unix[peer]
	}
	a := [2]netip.AddrPort{e.local, e.remote}[peer]
	if !a.IsValid() {
		return nil
	}
	return net.TCPAddrFromAddrPort(a)
}

// located adds the addresses of the connection to an error of it.
func (b *BufferEvent) located(err error) error {
	var e *Error
	if !errors.As(err, &e) || e != err || e.Net != "" || e.Op == opLookup {
		return err
	}
	endpoints := b.bottom().endpoints.Load()
	if endpoints == nil {
		return err
	}
	where := &Error{Op: e.Op, Err: e.Err, Net: "tcp", Addr: endpoints.addr(1)}
	if endpoints.unix != nil {
		where.Net = "unix"
	}
	if !endpoints.connecting {
		where.Source = endpoints.addr(0)
	}
	return where
}
