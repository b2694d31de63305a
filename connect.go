// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include "native.h"
*/
import "C"

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
)

// Connect starts to connect to a literal address: network is "tcp", "tcp4" or "tcp6"
// with an IP address and a port, or "unix" with a path, or with "@" and an abstract
// name. The event closure gets EventConnected, or EventError with the cause in Err. If
// Connect returns an error, which is known at once, no event follows. A bufferevent
// without a descriptor gets a socket, which Free closes if OptCloseOnFree was given. If the
// socket is connected already, Connect returns an error that matches EISCONN, and with TLS EALREADY if
// a connect is in progress. ReplaceFD(-1) removes the socket, and then Connect makes another one.
// While a ConnectHostname is under way, Connect is for the loop's goroutine, or any
// goroutine while no loop runs, and returns ErrWrongLoop elsewhere.
// Wraps bufferevent_socket_connect.
func (b *BufferEvent) Connect(network, address string) error {
	const op = "bufferevent_socket_connect"
	if b.partner != nil && b.isOpen() {
		return badArgument(op, "one end of a pair has no socket")
	}
	a, err := parseAddr(network, address)
	if err != nil {
		return badArgument(op, "%v", err)
	}
	if a.family != C.AF_UNIX && address[0] == ':' {
		return badArgument(op, "address %q has no host", address)
	}
	host := ""
	if a.family != C.AF_UNIX {
		host, _, _ = net.SplitHostPort(address)
	}
	// A process that is started meanwhile must not inherit the socket.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	err = b.redialTo(op, host, nil, func() C.int64_t {
		rc := C.glev_bev_connect(b.c, &a)
		if rc >= 0 {
			b.connectsTo(&a)
		}
		return rc
	})
	if e, ok := err.(*Error); ok {
		if errno, ok := e.Err.(syscall.Errno); ok { // the system's
			return &Error{Op: "connect", Net: network, Addr: netAddr(&a), Err: errno}
		}
	}
	return err
}

// FD returns the descriptor, or -1 if there is none. The caller may set socket options
// with it; only the bufferevent reads, writes and closes it.
// Wraps bufferevent_getfd.
func (b *BufferEvent) FD() int {
	fd, err := b.do("bufferevent_getfd", func() C.int64_t {
		if b.partner != nil {
			return C.GLEV_NO_SOCKET
		}
		return C.glev_bev_fd(b.c)
	})
	if err != nil {
		return -1
	}
	return fd
}

// SetFD replaces the descriptor, or removes it with -1. It does not close the old
// descriptor, which is the caller's from then on. What is buffered stays. An end, an error or
// a timeout of the old descriptor that libevent has met in the same turn is still told, and turns off
// what it would have turned off before. So change the descriptor in the event closure, or while the
// old one is quiet.
// Loop goroutine only, or any goroutine while no loop runs.
// Wraps bufferevent_setfd.
func (b *BufferEvent) SetFD(fd int) error {
	const op = "bufferevent_setfd"
	if fd < -1 {
		return badArgument(op, "fd is %d", fd)
	}
	return b.replace(op, fd, func() C.int64_t { return C.glev_bev_setfd(b.c, C.int(fd)) })
}

// ReplaceFD is SetFD that also closes the old descriptor, whether OptCloseOnFree was
// given or not.
// Loop goroutine only, or any goroutine while no loop runs.
// Stands for bufferevent_replacefd, which libevent 2.1 lacks.
func (b *BufferEvent) ReplaceFD(fd int) error {
	const op = "bufferevent_replacefd"
	if fd < -1 {
		return badArgument(op, "fd is %d", fd)
	}
	return b.replace(op, fd, func() C.int64_t { return C.glev_bev_replacefd(b.c, C.int(fd)) })
}

// replace is redial to a descriptor of the caller's.
func (b *BufferEvent) replace(op string, fd int, call func() C.int64_t) error {
	endpoints, err := endpointsOfFD(op, fd)
	if err != nil {
		return err
	}
	err = b.redial(op, nil, call)
	if err == nil {
		b.endpoints.Store(endpoints)
		b.Base().debug.given(b, b.FD())
	}
	return err
}

// Base returns the base that the bufferevent is on.
// Wraps bufferevent_get_base.
func (b *BufferEvent) Base() *Base {
	if b.enter() {
		defer b.leave()
	}
	return b.base
}

// SetBase moves a socket to another base, with everything that belongs to it: what it
// has buffered, what is enabled, its closures, timeouts and watermarks. A timeout
// restarts. The loop of the other base may be running; from the return of SetBase on it
// calls the closures. Unless SetPriority was called, the priority becomes the middle
// one of the other base.
//
// Call SetBase on a new bufferevent, because callbacks that are due stay on the old
// base, and libevent does not tell which bufferevent they are for. Once the bufferevent
// has been enabled, SetBase therefore fails with EBUSY while anything is due in the old
// loop, and also while a closure of this bufferevent or another call on it is in
// progress. Nothing has changed then; a posted function may try again. The error is
// EINPROGRESS while the bufferevent connects, and ERANGE if the other base does not
// have its priority. SetBase refuses the ends of a pair, filters, sockets with a filter
// on top, bufferevents with OptLoopOnly, and those that have, or had, a rate limit.
// Loop goroutine only, that of the old base, or any goroutine while the old base's loop
// does not run.
// Wraps bufferevent_base_set.
func (b *BufferEvent) SetBase(base *Base) error {
	const op = "bufferevent_base_set"
	if base == nil {
		return badArgument(op, "base is nil")
	}
	c := b.begin()
	defer c.end()
	if c.refused {
		_, err := c.result(op)
		return err
	}
	if b.loopOnly {
		return badArgument(op, "a bufferevent with OptLoopOnly stays on its base")
	}
	if base == b.base {
		return nil
	}
	if base.noLocks {
		return badArgument(op, "base was wrapped with NoLocks")
	}
	if err := base.enterAlive(op); err != nil {
		return err
	}
	defer base.leave()
	if b.partner != nil || b.filter != nil {
		_, err := result(op, C.GLEV_NO_SOCKET)
		return err
	}
	if !b.seize() {
		if !b.isOpen() {
			return ErrClosed
		}
		return &Error{Op: op, Err: syscall.EBUSY}
	}
	defer b.unseize()
	for c.next() {
		c.rc = C.glev_bev_set_base(b.c, base.c)
		if c.rc == 0 {
			b.base.move(&b.object, base)
		}
	}
	_, err := c.result(op)
	return err
}

// --- connecting by name --------------------------------------------------------

// ConnectHostname looks host up and connects to the first of its addresses that accepts
// the connection. network is "tcp", or "tcp4" or "tcp6" for one kind of addresses; host
// may be an IP address. dns does the lookup; if it is nil, Go's resolver does it on
// another goroutine. The loop does not end before the outcome is known, even if no
// events are left.
//
// The event closure gets EventConnected, or, when there is no address or none accepts
// the connection, EventError; it is not called for the attempts before. The cause is an
// *Error with Op "lookup" and a *DNSError or *net.DNSError, or an *Error with Op
// "connect" and the failure of the first address. The write timeout limits each
// attempt, as it limits Connect, and counts as such a failure; it does not limit the
// lookup. No other timeout passes until there is a connection. Enabled returns what the
// user enabled, and output waits for the connection.
//
// The sockets of attempts that fail are closed. If the bufferevent has a descriptor
// already, only the first address is tried, and the error is that of Connect if the descriptor is
// connected. Free, Connect, SetFD and another
// ConnectHostname end a ConnectHostname that is under way; with TLS, Connect and ConnectHostname return
// EISCONN instead once its handshake has begun. Meanwhile Connect, SetFD and
// ConnectHostname are for the loop's goroutine, or any goroutine while no loop runs, and
// return ErrWrongLoop elsewhere.
// Wraps bufferevent_socket_connect_hostname. That function tries the first address
// only, so the binding uses evdns_getaddrinfo.
func (b *BufferEvent) ConnectHostname(dns *DNSBase, network, host string, port int) error {
	const op = "bufferevent_socket_connect_hostname"
	if b.partner != nil && b.isOpen() {
		return badArgument(op, "one end of a pair has no socket")
	}
	ipNetwork, ok := map[string]string{"tcp": "ip", "tcp4": "ip4", "tcp6": "ip6"}[network]
	if !ok {
		return badArgument(op, "%v", net.UnknownNetworkError(network))
	}
	if port < 1 || port > 65535 {
		return badArgument(op, "port is %d", port)
	}
	ip, err := netip.ParseAddr(host)
	literal := err == nil
	if literal {
		ip = ip.Unmap()
		if ip.Is4() && network == "tcp6" || ip.Is6() && network == "tcp4" {
			return badArgument(op, "host %q is not of network %s", host, network)
		}
	} else if err := checkName(op, "host", host); err != nil {
		return err
	}
	if dns != nil && !dns.isOpen() {
		return ErrClosed
	}
	if !b.enter() {
		return ErrClosed
	}
	defer b.leave()
	d := &dial{b: b, base: b.base, port: port}
	d.base.keep(1)
	if err := b.redialTo(op, host, d, func() C.int64_t { return C.glev_bev_dial(b.c) }); err != nil {
		d.stop()
		return err
	}
	b.endpoints.Store(nil)
	switch {
	case literal:
		d.found([]netip.Addr{ip}, nil)
	case dns == nil:
		d.resolve(ipNetwork, host)
	default:
		d.ask(dns, ipNetwork, host)
	}
	if !b.isOpen() && !b.flushing.Load() { // a Free since enter may not have seen the dial
		b.hangUp()
	}
	return nil
}

// ConnectTo is ConnectHostname with an address such as "example.com:443" or "[::1]:80", or
// Connect if network is "unix" and address is a path. The port may have a name.
// Wraps bufferevent_socket_connect_hostname.
func (b *BufferEvent) ConnectTo(dns *DNSBase, network, address string) error {
	const op = "ConnectTo"
	if network == "unix" {
		return b.Connect(network, address)
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return badArgument(op, "%v", err)
	}
	port, err := net.DefaultResolver.LookupPort(context.Background(), network, service)
	if err != nil {
		return badArgument(op, "%v", err)
	}
	return b.ConnectHostname(dns, network, host, port)
}

// dial is a ConnectHostname that is under way. The state of its attempts is the link of the
// C record. The addresses and the cause belong to the loop's goroutine.
type dial struct {
	b     *BufferEvent
	base  *Base
	port  int
	addrs []netip.Addr // still to be tried
	cause error        // of the first failure

	mu      sync.Mutex
	stopped bool
	cancel  func() // ends the lookup
}

// resolve looks the name up with Go's resolver.
func (d *dial) resolve(network, host string) {
	ctx, cancel := context.WithCancel(context.Background())
	d.onStop(cancel)
	go func() {
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, network, host)
		if err != nil {
			err = &Error{Op: opLookup, Err: err}
		}
		d.found(addrs, err)
	}()
}

// ask looks the name up with evdns.
func (d *dial) ask(dns *DNSBase, network, host string) {
	l, err := dns.lookup(opLookup, host, families[network], d.found, true)
	if err != nil {
		d.found(nil, &Error{Op: opLookup, Err: err})
		return
	}
	d.onStop(l.Cancel)
}

// found takes the outcome of the lookup to the loop. It is called on any goroutine.
func (d *dial) found(addrs []netip.Addr, err error) {
	if err == nil && len(addrs) == 0 {
		err = &Error{Op: opLookup, Err: errors.New("the name has no address")}
	}
	d.base.enqueue(task{run: func() {
		if !d.enter() {
			return
		}
		defer d.b.leave()
		d.addrs, d.cause = addrs, err
		if !d.next() {
			C.glev_bev_give_up(d.b.c, 1)
		}
	}})
}

// enter enters the bufferevent, also while FreeAfterFlush waits, if it still connects for d.
func (d *dial) enter() bool {
	if !d.b.enter() && !(d.b.flushing.Load() && d.b.join()) {
		return false
	}
	if d.b.currentDial() == d {
		return true
	}
	d.b.leave()
	return false
}

// looksUp reports whether the lookup has not ended.
func (d *dial) looksUp() bool { return d.addrs == nil && d.cause == nil }

// next starts to connect to the next address with which that can be done. It returns false
// if there is none.
func (d *dial) next() bool {
	for len(d.addrs) > 0 {
		ip := d.addrs[0].Unmap()
		d.addrs = d.addrs[1:]
		err := d.try(ip)
		if err == nil || errors.Is(err, ErrClosed) { // or another connect has begun
			return true
		}
		d.failed(err)
	}
	return false
}

func (d *dial) try(ip netip.Addr) error {
	const op = "connect"
	a, err := ipAddr(ip, d.port)
	if err != nil {
		return &Error{Op: op, Err: err}
	}
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	d.b.connectsTo(&a)
	_, err = result(op, C.glev_bev_try(d.b.c, &a))
	return d.b.located(err)
}

func (d *dial) failed(cause error) {
	if d.cause == nil {
		d.cause = cause
	}
}

// onStop sets what ends the lookup.
func (d *dial) onStop(cancel func()) {
	d.mu.Lock()
	d.cancel = cancel
	stopped := d.stopped
	d.mu.Unlock()
	if stopped {
		cancel()
	}
}

// stop ends the lookup if there still is one, and lets the loop go. It does nothing on
// nil.
func (d *dial) stop() {
	if d == nil {
		return
	}
	d.mu.Lock()
	first, cancel := !d.stopped, d.cancel
	d.stopped = true
	d.mu.Unlock()
	if !first {
		return
	}
	d.base.keep(-1)
	if cancel != nil {
		cancel()
	}
}

// --- the dial of a bufferevent --------------------------------------------------------

// redial makes a C call that gives the bufferevent another descriptor, or begins to, and
// ends the dial that was under way before; d takes its place.
func (b *BufferEvent) redial(op string, d *dial, call func() C.int64_t) error {
	var old *dial
	_, err := b.do(op, func() C.int64_t {
		b.dialing.Lock()
		defer b.dialing.Unlock()
		rc := call()
		if b.dial != nil && (rc >= 0 || C.glev_bev_dialing(b.c) == 0) {
			old, b.dial = b.dial, nil
		}
		if rc >= 0 {
			b.ended.Store(nil)
			b.dial = d
		}
		return rc
	})
	old.stop()
	return err
}

// redialTo is redial to a host. The package that made the socket is told the host before. A connect that is refused
// must leave the host of the one that goes on, and its handshake may begin at any time, so the lock is held from the
// question whether a connect is possible to the connect itself.
func (b *BufferEvent) redialTo(op, host string, d *dial, connect func() C.int64_t) error {
	if b.door == nil || b.door.Dial == nil || b.filter != nil {
		return b.redial(op, d, connect)
	}
	var refused error
	err := b.redial(op, d, func() C.int64_t {
		rc := C.glev_bev_hold_to_connect(b.c)
		if rc < 0 {
			return rc
		}
		defer C.glev_bev_release(b.c)
		undo, err := b.door.Dial(op, host)
		if refused = err; err != nil {
			return -C.int64_t(syscall.EINVAL)
		}
		if rc = connect(); rc < 0 {
			undo()
		}
		return rc
	})
	if refused != nil {
		return refused
	}
	return err
}

// hangUp ends the dial that is under way.
func (b *BufferEvent) hangUp() {
	b.dialing.Lock()
	d := b.dial
	b.dial = nil
	b.dialing.Unlock()
	d.stop()
}

func (b *BufferEvent) currentDial() *dial {
	b.dialing.Lock()
	defer b.dialing.Unlock()
	return b.dial
}

// dialled looks at an event of a socket before its closure does: the closure is not told of
// the failure of an address while there are others. It returns the event to tell, or 0 if
// there is none.
func (b *BufferEvent) dialled(what Events, cause error) (Events, error) {
	d := b.currentDial()
	if d == nil || what&(EventConnected|EventError|EventTimeout) == 0 {
		return what, cause
	}
	if d.looksUp() { // the event was due before d began
		return 0, nil
	}
	if what&EventConnected == 0 && C.glev_bev_is_linked(b.c) == 0 {
		if what&EventTimeout != 0 {
			cause = b.located(&Error{Op: "connect", Err: os.ErrDeadlineExceeded})
		}
		d.failed(cause)
		if d.next() {
			return 0, nil
		}
		what, cause = EventError, d.cause
		C.glev_bev_give_up(b.c, 0)
	}
	b.hangUp()
	return what, cause
}

// bottom is the bufferevent itself, or the one below a stack of filters.
func (b *BufferEvent) bottom() *BufferEvent {
	for b.below != nil {
		b = b.below
	}
	return b
}
