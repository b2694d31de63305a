// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/go-libevent/libevent"
)

// resolve returns all addresses to try, in the order in which to try them.
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
			err = contextErr(ctx)
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

// fits reports whether an address is of the family that was asked for and of LocalAddr's.
func (d *Dialer) fits(family string, ip netip.Addr) bool {
	if local, ok := d.LocalAddr.(*net.TCPAddr); ok && !isWildcard(local) && (local.IP.To4() != nil) != ip.Is4() {
		return false
	}
	return family == "ip" || (family == "ip4") == ip.Is4()
}

// lookup returns the addresses of a host, which may be a literal address. As in package
// net an empty host is this machine.
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
	return d.lookupDNS(ctx, family, host)
}

// lookupDNS asks libevent's resolver.
func (d *Dialer) lookupDNS(ctx context.Context, family, host string) ([]netip.Addr, error) {
	type answer struct {
		ips []netip.Addr
		err error
	}
	answers := make(chan answer, 2) // room for both senders: the lookup, and the DNSBase that is freed
	lookup, err := d.DNS.Lookup(family, host, func(ips []netip.Addr, err error) { answers <- answer{ips, err} })
	if err != nil {
		return nil, netError(err)
	}
	defer lookup.AfterFree(func() { answers <- answer{err: net.ErrClosed} })()
	select {
	case a := <-answers:
		return a.ips, dnsError(host, a.err)
	case <-ctx.Done():
		lookup.Cancel()
		return nil, contextErr(ctx)
	}
}

// dnsError turns the error of libevent's resolver into the form that package net uses.
func dnsError(host string, err error) error {
	var e *libevent.DNSError
	if !errors.As(err, &e) {
		return err
	}
	return &net.DNSError{Err: e.Error(), Name: host, IsNotFound: e.IsNotFound(), IsTemporary: e.Temporary(), UnwrapErr: e}
}

// lookUpHost replaces a host name in an address with one of the host's addresses: the first
// IPv4 address, or the first address if none is IPv4, as package net chooses.
func lookUpHost(ctx context.Context, network, address string) (string, error) {
	family, ok := families[network]
	if !ok {
		return "", net.UnknownNetworkError(network)
	}
	if family == "" {
		return address, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return address, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return address, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, family, host)
	if err != nil {
		return "", err
	}
	best := addrs[0].Unmap()
	for _, a := range addrs[1:] {
		if best.Is6() && a.Unmap().Is4() {
			best = a.Unmap()
		}
	}
	return net.JoinHostPort(best.String(), port), nil
}

// families maps each supported network to the family of its IP addresses, in the words of
// net.Resolver. A unix socket has no IP address.
var families = map[string]string{"tcp": "ip", "tcp4": "ip4", "tcp6": "ip6", "unix": ""}
