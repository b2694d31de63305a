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

// Dialer makes connections on a loop. Its fields are those of net.Dialer, but for Loop and DNS.
type Dialer struct {
	// Loop is where the connections are to live: of a Group on each base in turn. It
	// must be set, and run.
	Loop libevent.Loop
	// Timeout and Deadline limit a Dial, with all of its addresses and looking them up.
	// Of several addresses each has its share of the time.
	Timeout  time.Duration
	Deadline time.Time
	// LocalAddr is what to connect from, a *net.TCPAddr or *net.UnixAddr, or nil.
	LocalAddr net.Addr
	// FallbackDelay is how long the addresses of one family are tried before those of
	// the other are tried beside them; 0 is 300 ms, and a negative one tries all in turn.
	FallbackDelay time.Duration
	// KeepAlive and KeepAliveConfig are those of ListenConfig.
	KeepAlive       time.Duration
	KeepAliveConfig net.KeepAliveConfig
	// Resolver looks host names up; nil is Go's default. DNS, if set, is used
	// instead.
	Resolver *net.Resolver
	DNS      *libevent.DNSBase
}

const (
	defaultFallback = 300 * time.Millisecond
	minShare        = 2 * time.Second // of the time, for one address of several
)

// Dial is DialContext without a context.
// Safe for concurrent use.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext connects to an address of "tcp", "tcp4", "tcp6" or "unix" as net.Dialer
// does: host may be a name, of which all addresses are tried, port the name of a service. The
// end of ctx ends it at once; the connection that it returned does not depend on ctx.
// The net.Conn is a *Conn.
// Safe for concurrent use.
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

// deadline is the earlier of the two, or zero.
func (d *Dialer) deadline() time.Time {
	limit := d.Deadline
	if d.Timeout > 0 {
		if t := time.Now().Add(d.Timeout); limit.IsZero() || t.Before(limit) {
			limit = t
		}
	}
	return limit
}

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

// refuseOnAnyLoop is the error of a call that waits for any base of the loop.
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

// dialEach tries one address after the other, and returns the error of the first.
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

// withShare limits one of n attempts to its share of the time that is left.
func withShare(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	limit, ok := ctx.Deadline()
	if !ok || n == 1 {
		return ctx, func() {}
	}
	share := max(time.Until(limit)/time.Duration(n), minShare)
	return context.WithTimeout(ctx, share)
}

// dialOne connects to one address. When that was to itself it tries again, as package net
// does: somebody else may be meant, who does not listen yet.
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

// choosesNoPort reports whether the port to connect from is the system's choice.
func (d *Dialer) choosesNoPort() bool {
	local, ok := d.LocalAddr.(*net.TCPAddr)
	return !ok || local.Port == 0
}

// connectedToItself reports whether the connection has no peer: where nobody listens the system may
// choose that very port to connect from, and TCP takes it for two that connect to each other.
func (c *Conn) connectedToItself() bool {
	local, ok := c.LocalAddr().(*net.TCPAddr)
	remote, both := c.RemoteAddr().(*net.TCPAddr)
	return ok && both && local.Port == remote.Port && local.IP.Equal(remote.IP)
}

func (d *Dialer) connect(ctx context.Context, network string, addr net.Addr) (*Conn, error) {
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
	c := newConn(bev)
	c.remote = addr // unless the system knows better, or is asked too late
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

// connectCause is the error of a connect that was known at once.
func connectCause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return os.NewSyscallError("connect", errno)
	}
	return err
}

// drop is Close for a connection of which nobody knows.
func (c *Conn) discard() {
	_ = c.whileOpen("set", func() error { c.linger = 0; return nil })
	_ = c.Close()
}
