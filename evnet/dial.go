// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"context"
	"errors"
	"net"
	"os"
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
}

const (
	defaultFallback = 300 * time.Millisecond
	minShare        = 2 * time.Second // that one of several addresses gets
)

// Dial is DialContext without a context.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext connects to an address of "tcp", "tcp4", "tcp6" or "unix" as net.Dialer
// does. The host may be a name, of which all addresses are tried, and the port may be the
// name of a service. When ctx ends, DialContext returns at once; a connection that it has
// returned does not depend on ctx. The net.Conn is a *Conn.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if limit := d.deadline(); !limit.IsZero() {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadline(ctx, limit)
		defer stop()
	}
	c, err := d.dial(ctx, network, address)
	if err == nil {
		return c, nil
	}
	var already *net.OpError
	if !errors.As(err, &already) {
		err = &net.OpError{Op: "dial", Net: network, Source: d.LocalAddr, Addr: textAddr{network, address}, Err: err}
	}
	return nil, err
}

// deadline returns the earlier end of Timeout and Deadline, or zero if neither is set.
func (d *Dialer) deadline() time.Time {
	limit := d.Deadline
	if d.Timeout > 0 {
		if t := time.Now().Add(d.Timeout); limit.IsZero() || t.Before(limit) {
			limit = t
		}
	}
	return limit
}

// dial is DialContext without the limits and without the form of its error.
func (d *Dialer) dial(ctx context.Context, network, address string) (*Conn, error) {
	family, ok := families[network]
	if !ok {
		return nil, net.UnknownNetworkError(network)
	}
	if err := refuseOnAnyLoop(d.Loop); err != nil {
		return nil, err
	}
	if family == "" {
		return d.dialOne(ctx, network, &net.UnixAddr{Name: address, Net: network})
	}
	addrs, err := d.resolve(ctx, network, family, address)
	if err != nil {
		return nil, err
	}
	first, second := addrs, []net.Addr(nil)
	if d.FallbackDelay >= 0 && family == "ip" {
		first, second = byFamily(addrs)
	}
	if len(second) == 0 {
		return d.dialEach(ctx, network, first)
	}
	return d.race(ctx, network, first, second)
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

// dialEach tries one address after the other. If all fail it returns the first one's error.
func (d *Dialer) dialEach(ctx context.Context, network string, addrs []net.Addr) (*Conn, error) {
	var failure error
	for i, addr := range addrs {
		if ctx.Err() != nil {
			break
		}
		share, stop := withShare(ctx, len(addrs)-i)
		c, err := d.dialOne(share, network, addr)
		stop()
		if err == nil {
			return c, nil
		}
		if failure == nil {
			failure = err
		}
	}
	if failure == nil {
		failure = contextErr(ctx)
	}
	return nil, failure
}

// withShare limits the next of n attempts to its share of the remaining time.
func withShare(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	limit, ok := ctx.Deadline()
	if !ok || n == 1 {
		return ctx, func() {}
	}
	share := max(time.Until(limit)/time.Duration(n), minShare)
	return context.WithTimeout(ctx, share)
}

// dialOne connects to one address. If the socket has connected to itself, dialOne tries
// again, as package net does.
func (d *Dialer) dialOne(ctx context.Context, network string, addr net.Addr) (*Conn, error) {
	c, err := d.connect(ctx, network, addr)
	for i := 0; i < 2 && err == nil && d.choosesNoPort() && c.connectedToItself(); i++ {
		c.discard()
		c, err = d.connect(ctx, network, addr)
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Source: d.LocalAddr, Addr: addr, Err: err}
	}
	return c, nil
}

// choosesNoPort reports whether the system chooses the port to connect from.
func (d *Dialer) choosesNoPort() bool {
	local, ok := d.LocalAddr.(*net.TCPAddr)
	return !ok || local.Port == 0
}

// connectedToItself reports whether the connection has no peer. For a port on which no
// program listens, the system may choose that same port as the one to connect from. TCP
// then sees two sockets that connect to each other, and the connection succeeds.
func (c *Conn) connectedToItself() bool {
	local, ok := c.LocalAddr().(*net.TCPAddr)
	remote, both := c.RemoteAddr().(*net.TCPAddr)
	return ok && both && local.Port == remote.Port && local.IP.Equal(remote.IP)
}

// newSocket makes a bufferevent that can connect to addr.
func (d *Dialer) newSocket(network string, addr net.Addr) (*libevent.BufferEvent, error) {
	base, err := nextBase(d.Loop)
	if err != nil {
		return nil, err
	}
	fd := -1
	if d.LocalAddr != nil {
		if fd, err = boundSocket(network, d.LocalAddr, addr); err != nil {
			return nil, err
		}
	}
	bev, err := base.NewSocket(fd, libevent.OptCloseOnFree)
	if err != nil {
		if fd >= 0 {
			_ = syscall.Close(fd)
		}
		return nil, netError(err)
	}
	return bev, nil
}

// connect makes one attempt to connect, and waits for its result.
func (d *Dialer) connect(ctx context.Context, network string, addr net.Addr) (*Conn, error) {
	bev, err := d.newSocket(network, addr)
	if err != nil {
		return nil, err
	}
	c := newConn(bev)
	c.remote = addr // for the case that the system no longer knows it when it is asked
	connected := make(chan error, 1)
	c.connected = connected
	if err = c.start(); err == nil {
		err = connectCause(bev.Connect(network, addr.String()))
	}
	if err == nil {
		select {
		case err = <-connected:
		case <-ctx.Done():
			err = contextErr(ctx)
		}
	}
	if err != nil {
		c.discard()
		return nil, netError(err)
	}
	if network != "unix" {
		_ = c.setsockopt(func(fd int) error { tune(fd, d.KeepAlive, d.KeepAliveConfig); return nil })
	}
	return c, nil
}

// connectCause names the system call in an error that Connect returned at once.
func connectCause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return os.NewSyscallError("connect", errno)
	}
	return err
}

// discard closes a connection that no caller has got.
func (c *Conn) discard() {
	_ = c.whileOpen("set", func() error { c.linger = 0; return nil })
	_ = c.Close()
}
