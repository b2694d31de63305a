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

// ListenOptions says how Listen makes its socket. The zero value is a server's:
// address reuse on, close-on-exec, accepted sockets non-blocking and close-on-exec.
type ListenOptions struct {
	Backlog        int  // connections waiting to be accepted; 0 is 4096, and the system's limit holds
	Disabled       bool // accept nothing before Enable
	NoReuseAddr    bool // without SO_REUSEADDR
	ReusePort      bool // SO_REUSEPORT: several sockets share the address
	IPv6Only       bool // a socket for IPv6 takes no IPv4
	IPv4AndIPv6    bool // a socket for IPv6 takes IPv4, whatever the system says; needs libevent 2.2
	DeferredAccept bool // accept when the first bytes are there, where the system can
	NoCloseOnExec  bool // the accepted sockets, and the listening one, pass to other programs
	Blocking       bool // leave the accepted sockets blocking
}

func (o ListenOptions) native(family C.int) (flags C.uint, backlog C.int) {
	flags = C.LEV_OPT_CLOSE_ON_FREE
	set := func(on bool, flag C.uint) {
		if on {
			flags |= flag
		}
	}
	set(o.Disabled, C.LEV_OPT_DISABLED)
	set(!o.NoCloseOnExec, C.LEV_OPT_CLOSE_ON_EXEC)
	set(o.Blocking, C.LEV_OPT_LEAVE_SOCKETS_BLOCKING)
	if family != C.AF_UNIX { // on a unix socket these mean nothing, and libevent 2.2 refuses them
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
		return &Error{op, &sentinel{"IPv4AndIPv6 needs libevent 2.2", errors.ErrUnsupported}}
	}
	return nil
}

// Listener accepts connections and gives their descriptors to a closure.
type Listener struct {
	object
	c      *C.struct_glev_lev
	addr   net.Addr
	accept func(l *Listener, fd int, remote net.Addr)
	onErr  atomic.Pointer[func(*Listener, error)]
	off    atomic.Bool // disabled: no accept closure starts

	// Of a Group: what the closures of each loop get, and whose turn it is. One of
	// them is the listener itself, the others have no more than whole and base.
	shares []*Listener
	turn   int
	whole  *Listener
}

// root is the listener itself, of which l may be one loop's share.
func (l *Listener) root() *Listener {
	if l.whole != nil {
		return l.whole
	}
	return l
}

// Listen makes a listening socket and calls accept on the loop's goroutine for
// each connection. accept owns fd: it gives it to NewSocket with OptCloseOnFree, or
// closes it. network is "tcp", "tcp4", "tcp6" or "unix". The host may be empty for
// all addresses of the machine ("tcp": IPv6 and, unless the system says otherwise,
// IPv4), or a name, which is looked up before Listen returns; port 0 takes a free one, which Addr tells. The file of a
// unix socket is not removed by Free.
// Safe for concurrent use. Wraps evconnlistener_new_bind.
func (b *Base) Listen(network, address string, opts ListenOptions, accept func(l *Listener, fd int, remote net.Addr)) (*Listener, error) {
	return b.listen(network, address, opts, accept, nil)
}

func (b *Base) listen(network, address string, opts ListenOptions, accept func(*Listener, int, net.Addr), spread []*Base) (*Listener, error) {
	const op = "evconnlistener_new_bind"
	a, err := listenAddr(network, address)
	if err != nil {
		return nil, badArgument(op, "%v", err)
	}
	if network == "tcp6" {
		opts.IPv6Only = true
	}
	if err := opts.checkFamilies(op); err != nil {
		return nil, err
	}
	return b.newListener(op, opts, accept, spread, func(l *Listener) syscall.Errno {
		errno := l.bind(&a, opts)
		if (errno == syscall.EAFNOSUPPORT || errno == syscall.EADDRNOTAVAIL) && network == "tcp" && address[0] == ':' {
			// A machine without IPv6 still has all of its addresses.
			if v4, err := parseAddr("tcp4", address); err == nil {
				errno = l.bind(&v4, opts)
			}
		}
		return errno
	})
}

// ListenFD is Listen on a socket that is bound, or listening already: of a service
// manager, or a duplicate of the one of a net.Listener (its File method gives one). Of
// opts those that are about making the socket are not used. If err is nil the listener
// owns fd, which was made non-blocking; otherwise it stays the caller's.
// Safe for concurrent use. Wraps evconnlistener_new.
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
		l.c = C.glev_lev_new_fd(b.c, C.int(fd), flags, backlog, l.handle.p, &errno)
		if l.c == nil {
			return syscall.Errno(errno)
		}
		return 0
	})
}

// newListener spreads the connections over the bases in spread, or takes them all on b.
func (b *Base) newListener(op string, opts ListenOptions, accept func(*Listener, int, net.Addr), spread []*Base, open func(*Listener) syscall.Errno) (*Listener, error) {
	if accept == nil {
		return nil, badArgument(op, "accept is nil")
	}
	if opts.Backlog < 0 || opts.Backlog > 1<<20 {
		return nil, badArgument(op, "Backlog is %d", opts.Backlog)
	}
	if err := b.enterAlive(); err != nil {
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
	if errno := open(l); errno != 0 {
		l.handle.release()
		return nil, &Error{op, errno}
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
	l.c = C.glev_lev_new(l.base.c, a, flags, backlog, l.handle.p, &errno)
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

// FD returns the listening descriptor, or -1 after Free. It stays the listener's.
// Safe for concurrent use. Wraps evconnlistener_get_fd.
func (l *Listener) FD() int {
	l = l.root()
	if !l.enter() {
		return -1
	}
	defer l.leave()
	return int(C.evconnlistener_get_fd(l.c.lev))
}

// Base returns the base the listener was made on. Of the listener that an accept
// closure gets it is the one whose loop runs that closure, also when a Group has
// spread the connections over several.
// Safe for concurrent use. Wraps evconnlistener_get_base.
func (l *Listener) Base() *Base { return l.base }

// Addr returns the address the listener is bound to, also after Free.
// Safe for concurrent use. Stands for evconnlistener_get_fd and getsockname.
func (l *Listener) Addr() net.Addr { return l.root().addr }

// SetErrorFunc sets what is called on the loop's goroutine when accepting fails, for
// want of descriptors most likely. The listener then pauses and tries again after
// 50 ms, later after up to a second; fn is called once until accepting works again.
// Without fn the error is logged with SetLogger's logger or slog's default.
// Safe for concurrent use. Wraps evconnlistener_set_error_cb.
func (l *Listener) SetErrorFunc(fn func(*Listener, error)) {
	l.root().onErr.Store(&fn)
}

// Enable accepts connections again.
// Safe for concurrent use. Wraps evconnlistener_enable.
func (l *Listener) Enable() error { return l.root().enable("evconnlistener_enable", true) }

// Disable accepts no more until Enable. When it has returned no accept closure
// starts; connections wait in the backlog, but one that the loop was just taking
// from it may be closed, and of a Group those that are on their way to another loop.
// Safe for concurrent use. Wraps evconnlistener_disable.
func (l *Listener) Disable() error { return l.root().enable("evconnlistener_disable", false) }

func (l *Listener) enable(op string, on bool) error {
	if !l.enter() {
		return ErrClosed
	}
	if l.base.dead.Load() { // libevent would wait for a callback that never ends
		l.leave()
		return ErrLoopAborted
	}
	l.off.Store(!on)
	var rc C.int
	done := l.leaveAtLoop(func() {
		if l.off.Load() == !on && !l.base.dead.Load() { // unless somebody has changed it since
			rc = C.glev_lev_enable(l.c, cBool(on))
		}
	})
	if !done { // posted: nothing is known yet
		return nil
	}
	_, err := result(op, C.int64_t(rc))
	return err
}

// Free closes the listening socket. When it has returned no accept closure starts.
// Called on another goroutine while the loop runs, the address is free again a
// turn of the loop later.
// Safe for concurrent use. Wraps evconnlistener_free.
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

// accepted gives a connection to the closure, or closes it if there is none.
func (l *Listener) accepted(fd int, remote net.Addr) {
	if l.off.Load() || !l.isOpen() {
		// Disabled or freed from elsewhere, which the loop has yet to do. At
		// once, or all of the backlog would be accepted and closed.
		closeFD(fd)
		C.glev_lev_enable(l.c, 0)
		l.leave()
		return
	}
	if l.base.panicked.Load() != nil {
		// It was taken from the backlog and cannot go back: it waits for
		// the next run of the loop.
		l.base.enqueue(task{run: func() { l.accepted(fd, remote) }})
		return
	}
	to := l.next()
	if to == l {
		l.deliver(to, fd, remote)
		return
	}
	defer l.leave()
	if !to.base.enter() { // so that its Free, if one begins now, finds the task
		closeFD(fd)
		return
	}
	defer to.base.leave()
	to.base.enqueue(task{run: func() { to.handed(fd, remote) }})
}

// next is the share whose turn it is, of those whose loops can still run. Taking turns
// is the only way that is even for any number of connections. A socket for each loop
// (SO_REUSEPORT) leaves it to a hash, one socket that all loops poll to whoever wakes
// first, who then takes all there is; both were measured to cost as much CPU for a
// connection and for an echo. SO_REUSEPORT also lets a second server take the same port
// unnoticed, knows no unix sockets, loses the backlog of a socket that is closed, and does
// not spread on every system.
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
// backlog, or on nobody's when that base is being freed. A connection on its way keeps
// nothing in being: to free the listener's base would mean to wait for another loop.
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

// deliver runs the closure on the loop of the share to, inside the listener, which it
// leaves.
func (l *Listener) deliver(to *Listener, fd int, remote net.Addr) {
	defer l.leave()
	returned := false
	defer to.base.ran(&returned)
	to.base.callbacks.Add(1)
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
	err := &Error{"accept", errno}
	if !l.isOpen() {
		// Nobody to tell.
	} else if fn := l.onErr.Load(); fn != nil && *fn != nil {
		l.base.callbacks.Add(1)
		(*fn)(l, err)
	} else {
		logger().Warn("libevent: accepting is paused", slog.Any("addr", l.addr), slog.Any("err", err))
	}
	returned = true
}

func closeFD(fd int) { _ = syscall.Close(fd) }
