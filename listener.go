// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include "native.h"
*/
import "C"

import (
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// ListenOptions says how Listen makes its socket. The zero value is right for a server: address
// reuse is on, and accepted sockets are non-blocking and close-on-exec. Accepted TCP sockets
// have TCP_NODELAY, because Nagle's algorithm makes the end of a reply wait until the peer has
// acknowledged what came before, which a peer may delay by 40 ms.
type ListenOptions struct {
	Backlog        int  // how many connections may wait to be accepted; 0 means 4096; the system may allow fewer
	Disabled       bool // accept nothing until Enable is called
	NoReuseAddr    bool // do not set SO_REUSEADDR
	ReusePort      bool // set SO_REUSEPORT: several sockets share the address
	IPv6Only       bool // a socket for IPv6 does not accept IPv4
	IPv4AndIPv6    bool // a socket for IPv6 accepts IPv4, too, whatever the system's default is; needs libevent 2.2
	DeferredAccept bool // accept a connection only when its first bytes have come, if the system supports that
	NoCloseOnExec  bool // let programs that this process starts inherit the listening and the accepted sockets
	Blocking       bool // leave the accepted sockets blocking
	Nagle          bool // leave Nagle's algorithm on: accepted TCP sockets get no TCP_NODELAY
}

func (o ListenOptions) native(family C.int) (flags C.uint, backlog C.int) {
	set := func(on bool, flag C.uint) {
		if on {
			flags |= flag
		}
	}
	set(o.Disabled, C.LEV_OPT_DISABLED)
	set(!o.NoCloseOnExec, C.LEV_OPT_CLOSE_ON_EXEC)
	set(o.Blocking, C.LEV_OPT_LEAVE_SOCKETS_BLOCKING)
	set(o.Nagle, C.GLEV_LEV_NAGLE)
	if family != C.AF_UNIX { // on a unix socket these have no meaning, and libevent 2.2 refuses them
		set(!o.NoReuseAddr, C.LEV_OPT_REUSEABLE)
		set(o.ReusePort, C.LEV_OPT_REUSEABLE_PORT)
		set(o.DeferredAccept, C.LEV_OPT_DEFERRED_ACCEPT)
	}
	if family == C.AF_INET6 {
		set(o.IPv6Only, C.LEV_OPT_BIND_IPV6ONLY)
		set(o.IPv4AndIPv6, C.GLEV_BIND_IPV4_AND_IPV6)
	}
	backlog = C.int(o.Backlog)
	if backlog == 0 {
		backlog = 4096
	}
	return flags, backlog
}

func (o ListenOptions) checkFamilies(op string) error {
	switch {
	case !o.IPv4AndIPv6:
		return nil
	case o.IPv6Only:
		return badArgument(op, "IPv4AndIPv6 on a socket that is for IPv6 only")
	case C.GLEV_BIND_IPV4_AND_IPV6 == 0:
		return &Error{Op: op, Err: &sentinel{"IPv4AndIPv6 needs libevent 2.2", errors.ErrUnsupported}}
	}
	return nil
}

// Listener accepts connections and gives their descriptors to a closure. Its methods
// are safe for concurrent use.
type Listener struct {
	object
	c      *C.struct_glev_lev
	addr   net.Addr
	accept func(l *Listener, fd int, remote net.Addr)
	onErr  atomic.Pointer[func(*Listener, error)]
	off    atomic.Bool // Disable was called: no accept closure starts

	// For a Group: shares has the Listener that the closures of each loop get, and
	// turn says whose turn it is. One share is the listener itself; the others have
	// whole, which leads to it, and base, and nothing else.
	shares []*Listener
	turn   int
	whole  *Listener
}

// root returns the listener itself, of which l may be one loop's share.
func (l *Listener) root() *Listener {
	if l.whole != nil {
		return l.whole
	}
	return l
}

// Listen makes a listening socket, and calls accept on the loop's goroutine for each
// connection. accept owns fd: it gives fd to NewSocket with OptCloseOnFree, or closes fd.
// network is "tcp", "tcp4", "tcp6" or "unix". An empty host means all addresses of the
// machine; with "tcp" these are the IPv6 addresses and, unless the system has another default,
// the IPv4 addresses. A host name is looked up before Listen returns. Port 0 takes a free
// port, which Addr returns. Free does not remove the file of a unix socket.
// Wraps evconnlistener_new_bind.
func (b *Base) Listen(network, address string, opts ListenOptions, accept func(l *Listener, fd int, remote net.Addr)) (*Listener, error) {
	return b.listen(network, address, opts, accept, nil)
}

func (b *Base) listen(network, address string, opts ListenOptions, accept func(*Listener, int, net.Addr), spread []*Base) (*Listener, error) {
	const op = "evconnlistener_new_bind"
	a, err := listenAddr(network, address)
	var lookup *net.DNSError
	if errors.As(err, &lookup) {
		return nil, &Error{Op: "listen", Net: network, Err: lookup}
	}
	if err != nil {
		return nil, badArgument(op, "%v", err)
	}
	if network == "tcp6" {
		opts.IPv6Only = true
	}
	if err := opts.checkFamilies(op); err != nil {
		return nil, err
	}
	l, err := b.newListener(op, opts, accept, spread, func(l *Listener) syscall.Errno {
		errno := l.bind(&a, opts)
		if (errno == syscall.EAFNOSUPPORT || errno == syscall.EADDRNOTAVAIL) && network == "tcp" && address[0] == ':' {
			// A machine without IPv6 still has addresses to listen on.
			if v4, err := parseAddr("tcp4", address); err == nil {
				errno = l.bind(&v4, opts)
			}
		}
		return errno
	})
	if e, ok := err.(*Error); ok && e.Op == "listen" {
		e.Net, e.Addr = network, netAddr(&a)
	}
	return l, err
}

// ListenFD is Listen on a socket that is bound or listening already, for example one that a
// service manager has passed, or the duplicate that the File method of a net.Listener returns.
// The options that say how to make the socket have no effect. If err is nil, the listener owns
// fd and has made it non-blocking; otherwise fd stays the caller's.
// Wraps evconnlistener_new.
func (b *Base) ListenFD(fd int, opts ListenOptions, accept func(l *Listener, fd int, remote net.Addr)) (*Listener, error) {
	return b.listenFD(fd, opts, accept, nil)
}

func (b *Base) listenFD(fd int, opts ListenOptions, accept func(*Listener, int, net.Addr), spread []*Base) (*Listener, error) {
	const op = "evconnlistener_new"
	if fd < 0 {
		return nil, badArgument(op, "fd is %d", fd)
	}
	return b.newListener(op, opts, accept, spread, func(l *Listener) syscall.Errno {
		flags, backlog := opts.native(C.AF_UNIX)
		var errno C.int
		l.c = C.glev_lev_new_fd(b.c, C.int(fd), flags, backlog, l.handle.forC(), &errno)
		if l.c == nil {
			return syscall.Errno(errno)
		}
		return 0
	})
}

// newListener spreads the connections over the bases in spread. If there are none, all
// connections go to b.
func (b *Base) newListener(op string, opts ListenOptions, accept func(*Listener, int, net.Addr), spread []*Base, open func(*Listener) syscall.Errno) (*Listener, error) {
	if accept == nil {
		return nil, badArgument(op, "accept is nil")
	}
	if opts.Backlog < 0 || opts.Backlog > 1<<20 {
		return nil, badArgument(op, "Backlog is %d", opts.Backlog)
	}
	if err := b.enterAlive(op); err != nil {
		return nil, err
	}
	defer b.leave()
	l := &Listener{object: object{base: b, kind: kindListener}, accept: accept}
	l.off.Store(opts.Disabled)
	for _, other := range spread {
		share := l
		if other != b {
			share = &Listener{object: object{base: other}, whole: l}
		}
		l.shares = append(l.shares, share)
	}
	l.handle = newHandle(l)
	l.prepare()
	if errno := open(l); errno != 0 {
		l.handle.release()
		return nil, &Error{Op: "listen", Err: errno}
	}
	l.native = unsafe.Pointer(l.c.lev)
	l.addr, _ = fdAddr(C.evconnlistener_get_fd(l.c.lev), false)
	l.free = func() { C.glev_lev_free(l.c) }
	l.abandon = func() { closeFD(int(C.evconnlistener_get_fd(l.c.lev))) }
	b.register(&l.object, l)
	return l, nil
}

func (l *Listener) bind(a *C.struct_glev_addr, opts ListenOptions) syscall.Errno {
	flags, backlog := opts.native(a.family)
	var errno C.int
	l.c = C.glev_lev_new(l.base.c, a, flags, backlog, l.handle.forC(), &errno)
	if l.c == nil {
		return syscall.Errno(errno)
	}
	return 0
}

// listenAddr is parseAddr that also looks host names up.
func listenAddr(network, address string) (C.struct_glev_addr, error) {
	a, err := parseAddr(network, address)
	if err == nil || network == "unix" {
		return a, err
	}
	tcp, lookup := net.ResolveTCPAddr(network, address)
	if lookup != nil {
		return a, lookup
	}
	return parseAddr(network, tcp.String())
}

// FD returns the listening descriptor, or -1 after Free. The listener owns it.
// Wraps evconnlistener_get_fd.
func (l *Listener) FD() int {
	l = l.root()
	if !l.enter() {
		return -1
	}
	defer l.leave()
	return int(C.evconnlistener_get_fd(l.c.lev))
}

// Base returns the base that the listener was made on. For the listener that an accept closure
// of a Group gets, Base returns the base whose loop runs that closure.
// Wraps evconnlistener_get_base.
func (l *Listener) Base() *Base { return l.base }

// Addr returns the address that the listener is bound to, also after Free.
// Stands for evconnlistener_get_fd and getsockname.
func (l *Listener) Addr() net.Addr { return l.root().addr }

// SetErrorFunc sets a function that the loop calls on its goroutine when accepting fails,
// most often because the process has no free descriptors. The listener then pauses, and tries
// again after 50 ms, and after longer pauses of up to one second. fn is not called again before
// accepting has succeeded. Without fn the error goes to the logger of SetLogger, or to slog's
// default logger.
// Wraps evconnlistener_set_error_cb.
func (l *Listener) SetErrorFunc(fn func(*Listener, error)) {
	l.root().onErr.Store(&fn)
}

// Enable accepts connections again.
// Wraps evconnlistener_enable.
func (l *Listener) Enable() error { return l.root().enable("evconnlistener_enable", true) }

// Disable stops accepting until Enable is called. After Disable has returned, no accept closure
// starts, and new connections wait in the backlog. A connection that the loop has just taken
// from the backlog may be closed, and so may connections that a Group is passing from one loop
// to another.
// Wraps evconnlistener_disable.
func (l *Listener) Disable() error { return l.root().enable("evconnlistener_disable", false) }

func (l *Listener) enable(op string, on bool) error {
	if !l.enter() {
		return ErrClosed
	}
	if l.base.dead.Load() { // libevent would wait for a callback that never returns
		l.leave()
		return ErrLoopAborted
	}
	l.off.Store(!on)
	var rc C.int
	done := l.leaveAtLoop(func() {
		if l.off.Load() == !on && !l.base.dead.Load() { // unless it has been changed since
			rc = C.glev_lev_enable(l.c, cBool(on))
		}
	})
	if !done { // posted: the outcome is not known yet
		return nil
	}
	_, err := result(op, C.int64_t(rc))
	return err
}

// Free closes the listening socket. After Free has returned, no accept closure starts. If Free
// is called on another goroutine while the loop runs, the socket is closed, and the address
// becomes free, in a later turn of the loop.
// Wraps evconnlistener_free.
func (l *Listener) Free() {
	l = l.root()
	if !l.close() {
		return
	}
	l.leaveAtLoop(func() {
		if !l.base.dead.Load() {
			C.glev_lev_enable(l.c, 0)
		}
	})
}

// accepted gives a connection to the closure, or closes it if no closure may start.
func (l *Listener) accepted(fd int, remote net.Addr) {
	if l.off.Load() || !l.isOpen() {
		// Another goroutine has disabled or freed the listener, and the loop
		// has not done so yet. Do it now, or the whole backlog would be
		// accepted and closed.
		closeFD(fd)
		C.glev_lev_enable(l.c, 0)
		l.leave()
		return
	}
	if l.base.panicked.Load() != nil {
		// The connection cannot go back to the backlog, so it waits for the
		// next run of the loop.
		l.base.enqueue(task{run: func() { l.accepted(fd, remote) }})
		return
	}
	to := l.next()
	if to == l {
		l.deliver(to, fd, remote)
		return
	}
	defer l.leave()
	if !to.base.enter() { // so that a Free that begins now finds the task
		closeFD(fd)
		return
	}
	defer to.base.leave()
	to.base.enqueue(task{run: func() { to.handed(fd, remote) }})
}

// next returns the share whose turn it is, of those whose loops can still run. Only
// taking turns is even for any number of connections. With a socket for each loop
// (SO_REUSEPORT) a hash decides, and with one socket that all loops poll the loop that
// wakes first takes all there is. Measured, both cost as much CPU for a connection and
// for an echo as this. SO_REUSEPORT also lets a second server take the same port
// unnoticed, does not exist for unix sockets, loses the backlog of a socket that is
// closed, and does not spread on every system.
func (l *Listener) next() *Listener {
	for range l.shares {
		share := l.shares[l.turn%len(l.shares)]
		l.turn++
		if share.base.isOpen() && !share.base.dead.Load() {
			return share
		}
	}
	return l
}

// handed is accepted on another loop than the one that took the connection from the
// backlog, or, while that base is being freed, on the goroutine that frees it. A
// connection on its way does not keep the listener from being freed, because Free of
// the listener's base would then have to wait for another loop.
func (l *Listener) handed(fd int, remote net.Addr) {
	if !l.whole.enter() {
		closeFD(fd)
	} else if l.whole.off.Load() || !l.base.isOpen() {
		closeFD(fd)
		l.whole.leave()
	} else {
		l.whole.deliver(l, fd, remote)
	}
}

// deliver runs the closure on the loop of the share to. The caller has entered the
// listener; deliver leaves it.
func (l *Listener) deliver(to *Listener, fd int, remote net.Addr) {
	defer l.leave()
	returned := false
	defer to.base.ran(&returned)
	to.base.count()
	to.base.debug.accepts(l)
	defer to.base.debug.accepts(nil)
	l.accept(to, fd, remote)
	returned = true
}

func (l *Listener) acceptFailed(errno syscall.Errno) {
	if l.base.panicked.Load() != nil {
		l.base.enqueue(task{run: func() { l.acceptFailed(errno) }})
		return
	}
	returned := false
	defer l.ran(&returned)
	err := &Error{Op: "accept", Err: errno}
	if l.addr != nil {
		err.Net, err.Addr = l.addr.Network(), l.addr
	}
	if !l.isOpen() {
		// The listener is freed.
	} else if fn := l.onErr.Load(); fn != nil && *fn != nil {
		l.base.count()
		(*fn)(l, err)
	} else {
		logger().Warn("libevent: accepting is paused", slog.Any("addr", l.addr), slog.Any("err", err))
	}
	returned = true
}

func closeFD(fd int) { _ = syscall.Close(fd) }
