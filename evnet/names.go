// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/go-libevent/libevent"
)

// minShare is the time that one of several addresses gets at least.
const minShare = 2 * time.Second

// families maps each supported network to the family of its IP addresses, in the words of
// net.Resolver. A unix socket has no IP address.
var families = map[string]string{"tcp": "ip", "tcp4": "ip4", "tcp6": "ip6", "unix": ""}

// nameToLookUp returns the parts of an address that has a host name.
func nameToLookUp(network, address string) (host, port string, ok bool) {
	host, port, err := net.SplitHostPort(address)
	if families[network] == "" || err != nil || host == "" {
		return "", "", false
	}
	_, err = netip.ParseAddr(host)
	return host, port, err != nil
}

// dnsDialer connects to hosts whose names libevent's resolver looks up. Package net connects
// to each address.
type dnsDialer struct {
	dialer  net.Dialer
	dns     *libevent.DNSBase
	network string
}

func (d *dnsDialer) dial(ctx context.Context, host, port string) (net.Conn, error) {
	if limit := d.deadline(); !limit.IsZero() {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadline(ctx, limit)
		defer stop()
	}
	addrs, err := d.resolve(ctx, host, port)
	if err != nil {
		return nil, d.opError(err)
	}
	first, second := addrs, []net.Addr(nil)
	if d.dialer.FallbackDelay >= 0 && d.network == "tcp" {
		first, second = byFamily(addrs)
	}
	if len(second) == 0 {
		return d.dialEach(ctx, first)
	}
	return d.race(ctx, first, second)
}

func (d *dnsDialer) opError(err error) error {
	return &net.OpError{Op: "dial", Net: d.network, Err: err}
}

// deadline returns the earlier end of Timeout and Deadline, or zero if neither is set.
func (d *dnsDialer) deadline() time.Time {
	limit := d.dialer.Deadline
	if d.dialer.Timeout > 0 {
		if t := time.Now().Add(d.dialer.Timeout); limit.IsZero() || t.Before(limit) {
			limit = t
		}
	}
	return limit
}

// resolve returns all addresses to try, in the order in which to try them.
func (d *dnsDialer) resolve(ctx context.Context, host, service string) ([]net.Addr, error) {
	port, err := net.DefaultResolver.LookupPort(ctx, d.network, service)
	if err != nil {
		return nil, err
	}
	ips, err := d.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var addrs []net.Addr
	for _, ip := range ips {
		ip = ip.Unmap()
		if d.fits(ip) {
			addrs = append(addrs, net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(port))))
		}
	}
	if len(addrs) == 0 {
		return nil, &net.AddrError{Err: "no suitable address found", Addr: host}
	}
	return addrs, nil
}

// fits reports whether an address is of the family that was asked for and of LocalAddr's.
func (d *dnsDialer) fits(ip netip.Addr) bool {
	local, ok := d.dialer.LocalAddr.(*net.TCPAddr)
	if ok && len(local.IP) > 0 && !local.IP.IsUnspecified() && (local.IP.To4() != nil) != ip.Is4() {
		return false
	}
	family := families[d.network]
	return family == "ip" || (family == "ip4") == ip.Is4()
}

// lookup returns the addresses of a host.
func (d *dnsDialer) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	var found []netip.Addr
	var cause error
	var once sync.Once
	var answered gate
	answered.init()
	answer := func(ips []netip.Addr, err error) {
		once.Do(func() {
			found, cause = ips, err
			answered.open()
		})
	}
	lookup, err := d.dns.Lookup(families[d.network], host, answer)
	if err != nil {
		return nil, netError(err)
	}
	defer lookup.AfterFree(func() { answer(nil, net.ErrClosed) })() // the DNSBase may be freed meanwhile
	defer context.AfterFunc(ctx, func() {
		lookup.Cancel()
		answer(nil, contextErr(ctx))
	})()
	answered.wait()
	return found, dnsError(host, cause)
}

// dnsError turns the error of libevent's resolver into the form that package net uses.
func dnsError(host string, err error) error {
	var e *libevent.DNSError
	if !errors.As(err, &e) {
		return err
	}
	return &net.DNSError{Err: e.Error(), Name: host, IsNotFound: e.IsNotFound(), IsTemporary: e.Temporary(), UnwrapErr: e}
}

// dialEach tries one address after the other. If all fail it returns the first one's error.
func (d *dnsDialer) dialEach(ctx context.Context, addrs []net.Addr) (net.Conn, error) {
	var failure error
	for i, addr := range addrs {
		if ctx.Err() != nil {
			break
		}
		share, stop := withShare(ctx, len(addrs)-i)
		c, err := d.dialer.DialContext(share, d.network, addr.String())
		stop()
		if err == nil {
			return c, nil
		}
		if failure == nil {
			failure = err
		}
	}
	if failure == nil {
		failure = d.opError(contextErr(ctx))
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
