// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"context"
	"net"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

// Dialer makes connections on a loop. It has the fields of net.Dialer, and Loop and DNS.
// Safe for concurrent use, while no field is changed.
type Dialer struct {
	// Loop runs the connections; a Group places them on its bases in turn. It must be
	// set, and must run.
	Loop libevent.Loop
	// Timeout and Deadline limit a whole Dial: looking up the host and trying all
	// addresses. Each of several addresses gets a share of the time.
	Timeout  time.Duration
	Deadline time.Time
	// LocalAddr is the address to connect from, a *net.TCPAddr or *net.UnixAddr, or nil.
	LocalAddr net.Addr
	// FallbackDelay is how long Dial tries the addresses of one family before it also
	// tries those of the other. 0 means 300 ms; if negative, Dial tries one address
	// after the other.
	FallbackDelay time.Duration
	// KeepAlive and KeepAliveConfig are those of ListenConfig.
	KeepAlive       time.Duration
	KeepAliveConfig net.KeepAliveConfig
	// Resolver looks up host names; nil means Go's default. If DNS is set, it looks
	// them up instead.
	Resolver *net.Resolver
	DNS      *libevent.DNSBase
	// Control, or ControlContext if it is set, is called with each socket before the
	// socket connects, as in package net.
	Control        func(network, address string, c syscall.RawConn) error
	ControlContext func(ctx context.Context, network, address string, c syscall.RawConn) error

	multipath net.Dialer // keeps what SetMultipathTCP was told
}

// MultipathTCP reports whether Dial asks the system for MPTCP.
func (d *Dialer) MultipathTCP() bool { return d.multipath.MultipathTCP() }

// SetMultipathTCP says whether Dial asks the system for MPTCP, as in package net.
// Not safe for concurrent use.
func (d *Dialer) SetMultipathTCP(use bool) { d.multipath.SetMultipathTCP(use) }

// Dial is DialContext without a context.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext connects to an address of "tcp", "tcp4", "tcp6" or "unix", as net.Dialer does,
// and gives the connection to the loop. If the host is a name, all of its addresses are tried.
// The port may be the name of a service. When ctx ends, DialContext returns at once. A
// connection that DialContext has returned does not depend on ctx. The net.Conn is a *Conn.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := d.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (d *Dialer) dial(ctx context.Context, network, address string) (*Conn, error) {
	if _, ok := families[network]; !ok {
		return nil, d.opError(network, net.UnknownNetworkError(network))
	}
	if err := refuseOnAnyLoop(d.Loop); err != nil {
		return nil, d.opError(network, err)
	}
	base, err := nextBase(d.Loop)
	if err != nil {
		return nil, d.opError(network, err)
	}
	ctx, stop, err := whileAlive(ctx, base)
	if err != nil {
		return nil, d.opError(network, err)
	}
	defer stop()
	conn, err := d.reach(ctx, network, address)
	if err != nil && context.Cause(ctx) == net.ErrClosed {
		err = d.opError(network, net.ErrClosed)
	}
	if err != nil {
		return nil, err
	}
	fd, err := takeSocket(conn)
	if err != nil {
		return nil, d.opError(network, err)
	}
	c, err := adopt(base, fd, conn.LocalAddr(), conn.RemoteAddr())
	if err != nil {
		return nil, d.opError(network, netError(err))
	}
	return c, nil
}

func (d *Dialer) opError(network string, err error) error {
	return &net.OpError{Op: "dial", Net: network, Source: d.LocalAddr, Err: err}
}

// refuseOnAnyLoop returns ErrOnLoop on the goroutine of any base of the loop: the
// connection may be placed on that base.
func refuseOnAnyLoop(loop libevent.Loop) error {
	if group, ok := loop.(*libevent.Group); ok {
		for _, base := range group.Bases() {
			if err := refuseOnLoop(base); err != nil {
				return err
			}
		}
		return nil
	}
	base, err := nextBase(loop)
	if err != nil {
		return err
	}
	return refuseOnLoop(base)
}

// whileAlive returns a context that also ends, with the cause net.ErrClosed, when the base is
// freed. In a bubble of package synctest it does not end then, because the goroutine that frees
// the base may not end a context of the bubble.
func whileAlive(ctx context.Context, base *libevent.Base) (alive context.Context, stop func(), err error) {
	if _, bubble := realNow(); bubble {
		return ctx, func() {}, nil
	}
	watched, err := base.NewSocket(-1, 0)
	if err != nil {
		return nil, nil, netError(err)
	}
	alive, cancel := context.WithCancelCause(ctx)
	unwatch := watched.AfterFree(func() { cancel(net.ErrClosed) })
	return alive, func() {
		unwatch()
		watched.Free()
		cancel(nil)
	}, nil
}

// reach connects with package net.
func (d *Dialer) reach(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := d.multipath
	dialer.Timeout, dialer.Deadline = d.Timeout, d.Deadline
	dialer.LocalAddr = d.LocalAddr
	dialer.FallbackDelay = d.FallbackDelay
	dialer.KeepAlive, dialer.KeepAliveConfig = d.KeepAlive, d.KeepAliveConfig
	dialer.Resolver = d.Resolver
	dialer.Control, dialer.ControlContext = d.Control, d.ControlContext
	if host, port, ok := nameToLookUp(network, address); ok && d.DNS != nil {
		r := dnsDialer{dialer: dialer, dns: d.DNS, network: network}
		return r.dial(ctx, host, port)
	}
	return dialer.DialContext(ctx, network, address)
}

// takeSocket returns a descriptor of the socket and closes conn.
func takeSocket(conn interface{ Close() error }) (fd int, err error) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err == nil {
		fd, err = duplicate(raw)
	}
	_ = conn.Close()
	return fd, err
}

// duplicate returns another descriptor of a socket.
func duplicate(raw syscall.RawConn) (fd int, err error) {
	cause := raw.Control(func(old uintptr) { fd, err = dup(int(old)) })
	if cause != nil {
		err = cause
	}
	return fd, err
}
