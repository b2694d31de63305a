package evnet

import (
	"context"
	"errors"
	"net"
	"net/netip"
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
	leastShare      = 2 * time.Second // of the time, for one address of several
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
	if err := waitsForItself(d.Loop); err != nil {
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

// waitsForItself is the error of a call that waits for any base of the loop.
func waitsForItself(loop libevent.Loop) error {
	if group, ok := loop.(*libevent.Group); ok {
		for _, base := range group.Bases() {
			if err := onLoop(base); err != nil {
				return err
			}
		}
		return nil
	}
	base, err := nextBase(loop)
	if err != nil {
		return err
	}
	return onLoop(base)
}

// byFamily gives the addresses of the family of the first one, and those of the other.
func byFamily(addrs []net.Addr) (first, second []net.Addr) {
	is4 := func(a net.Addr) bool { return a.(*net.TCPAddr).IP.To4() != nil }
	for _, a := range addrs {
		if is4(a) == is4(addrs[0]) {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	return first, second
}

// race tries first, and when that takes long or fails second beside it, and takes who is there first.
func (d *Dialer) race(ctx context.Context, network string, first, second []net.Addr) (*Conn, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop() // whoever has lost
	type outcome struct {
		c   *Conn
		err error
	}
	outcomes := make(chan outcome)
	try := func(addrs []net.Addr) {
		c, err := d.dialEach(ctx, network, addrs)
		select {
		case outcomes <- outcome{c, err}:
		case <-ctx.Done():
			if c != nil {
				_ = c.Close()
			}
		}
	}
	delay := d.FallbackDelay
	if delay == 0 {
		delay = defaultFallback
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	go try(first)
	var failure error
	started, failed := 1, 0
	for {
		fallback := started == 1
		select {
		case o := <-outcomes:
			if o.err == nil {
				return o.c, nil
			}
			if failure == nil {
				failure = o.err
			}
			if failed++; failed == 2 {
				return nil, failure
			}
		case <-timer.C:
		case <-ctx.Done():
			return nil, ended(ctx)
		}
		if fallback {
			started++
			go try(second)
		}
	}
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
		failure = ended(ctx)
	}
	return nil, failure
}

// withShare limits one of n attempts to its share of the time that is left.
func withShare(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	limit, ok := ctx.Deadline()
	if !ok || n == 1 {
		return ctx, func() {}
	}
	share := max(time.Until(limit)/time.Duration(n), leastShare)
	return context.WithTimeout(ctx, share)
}

// dialOne connects to one address. When that was to itself it tries again, as package net
// does: somebody else may be meant, who does not listen yet.
func (d *Dialer) dialOne(ctx context.Context, network string, addr net.Addr) (*Conn, error) {
	c, err := d.connect(ctx, network, addr)
	for i := 0; i < 2 && err == nil && d.choosesNoPort() && c.toItself(); i++ {
		c.drop()
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

// toItself reports whether the connection has no peer: where nobody listens the system may
// choose that very port to connect from, and TCP takes it for two that connect to each other.
func (c *Conn) toItself() bool {
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
		return nil, cause(err)
	}
	c := newConn(bev)
	c.remote = addr // unless the system knows better, or is asked too late
	settled := make(chan error, 1)
	c.settled = settled
	if err = c.start(); err == nil {
		err = connectCause(bev.Connect(network, addr.String()))
	}
	if err == nil {
		select {
		case err = <-settled:
		case <-ctx.Done():
			err = ended(ctx)
		}
	}
	if err != nil {
		c.drop()
		return nil, cause(err)
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
func (c *Conn) drop() {
	_ = c.control("set", func() error { c.linger = 0; return nil })
	_ = c.Close()
}

// boundSocket makes a socket that connects from an address to another.
func boundSocket(network string, local, remote net.Addr) (int, error) {
	domain, sa, err := sockaddr(network, local, remote)
	if err != nil {
		return -1, err
	}
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(domain, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := syscall.Bind(fd, sa); err != nil {
		_ = syscall.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

func sockaddr(network string, local, remote net.Addr) (domain int, sa syscall.Sockaddr, err error) {
	switch a := local.(type) {
	case *net.UnixAddr:
		if network == "unix" {
			return syscall.AF_UNIX, &syscall.SockaddrUnix{Name: a.Name}, nil
		}
	case *net.TCPAddr:
		if network == "unix" {
			break
		}
		ip := a.AddrPort().Addr().Unmap()
		if anyAddress(a) { // of the family of what it connects to
			ip = netip.IPv6Unspecified()
			if remote.(*net.TCPAddr).IP.To4() != nil {
				ip = netip.IPv4Unspecified()
			}
		}
		if ip.Is4() {
			return syscall.AF_INET, &syscall.SockaddrInet4{Port: a.Port, Addr: ip.As4()}, nil
		}
		if ip.Is6() {
			sa := &syscall.SockaddrInet6{Port: a.Port, Addr: ip.As16()}
			if a.Zone != "" {
				ifc, err := net.InterfaceByName(a.Zone)
				if err != nil {
					return 0, nil, err
				}
				sa.ZoneId = uint32(ifc.Index)
			}
			return syscall.AF_INET6, sa, nil
		}
	}
	return 0, nil, &net.AddrError{Err: "LocalAddr is not of network " + network, Addr: local.String()}
}

// anyAddress reports whether only the port is given.
func anyAddress(a *net.TCPAddr) bool { return len(a.IP) == 0 || a.IP.IsUnspecified() }

// --- host names ----------------------------------------------------------------------

// resolve gives all addresses that may be tried, in the order in which they are to be.
func (d *Dialer) resolve(ctx context.Context, network, family, address string) ([]net.Addr, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := d.resolver().LookupPort(ctx, network, service)
	if err != nil {
		return nil, err
	}
	ips, err := d.lookup(ctx, family, host)
	if err != nil {
		if ctx.Err() != nil {
			err = ended(ctx)
		}
		return nil, err
	}
	var addrs []net.Addr
	for _, ip := range ips {
		ip = ip.Unmap()
		if d.fits(family, ip) {
			addrs = append(addrs, net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(port))))
		}
	}
	if len(addrs) == 0 {
		return nil, &net.AddrError{Err: "no suitable address found", Addr: host}
	}
	return addrs, nil
}

func (d *Dialer) resolver() *net.Resolver {
	if d.Resolver != nil {
		return d.Resolver
	}
	return net.DefaultResolver
}

// fits leaves out what is of another family than asked for, or than what to connect from.
func (d *Dialer) fits(family string, ip netip.Addr) bool {
	if local, ok := d.LocalAddr.(*net.TCPAddr); ok && !anyAddress(local) && (local.IP.To4() != nil) != ip.Is4() {
		return false
	}
	return family == "ip" || (family == "ip4") == ip.Is4()
}

func (d *Dialer) lookup(ctx context.Context, family, host string) ([]netip.Addr, error) {
	switch ip, err := netip.ParseAddr(host); {
	case err == nil:
		return []netip.Addr{ip}, nil
	case host == "" && family == "ip6":
		return []netip.Addr{netip.IPv6Loopback()}, nil
	case host == "":
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	case d.DNS == nil:
		return d.resolver().LookupNetIP(ctx, family, host)
	}
	type answer struct {
		ips []netip.Addr
		err error
	}
	answers := make(chan answer, 2)
	lookup, err := d.DNS.Lookup(family, host, func(ips []netip.Addr, err error) { answers <- answer{ips, err} })
	if err != nil {
		return nil, cause(err)
	}
	defer lookup.AfterFree(func() { answers <- answer{err: net.ErrClosed} })()
	select {
	case a := <-answers:
		return a.ips, dnsError(host, a.err)
	case <-ctx.Done():
		lookup.Cancel()
		return nil, ended(ctx)
	}
}

// dnsError is the error of a lookup in the form of package net.
func dnsError(host string, err error) error {
	var e *libevent.DNSError
	if !errors.As(err, &e) {
		return err
	}
	return &net.DNSError{Err: e.Error(), Name: host, IsNotFound: e.IsNotFound(), IsTemporary: e.Temporary(), UnwrapErr: e}
}
