// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

const (
	queueMark  = 256         // connections in the queue at which the listener takes no more
	closeLimit = time.Second // for which Close waits for the loop
)

// ListenConfig says how Listen makes its listener. The function Listen uses the zero value.
// Safe for concurrent use, while no field is changed.
type ListenConfig struct {
	// KeepAlive and KeepAliveConfig are for accepted TCP connections, as in package net:
	// a KeepAlive of 0 means 15 seconds, a negative one turns keep-alive off, and
	// KeepAliveConfig is used instead if its Enable is set.
	KeepAlive       time.Duration
	KeepAliveConfig net.KeepAliveConfig
	// Control is called with the socket before the socket is bound, as in package net.
	Control func(network, address string, c syscall.RawConn) error
	// Options says how the socket is made.
	Options libevent.ListenOptions
	// Logger gets a message when accepting pauses, most likely because the process has
	// no free descriptors. nil means slog's default.
	Logger *slog.Logger

	multipath net.ListenConfig // keeps what SetMultipathTCP was told
}

// MultipathTCP reports whether Listen asks the system for MPTCP.
func (lc *ListenConfig) MultipathTCP() bool { return lc.multipath.MultipathTCP() }

// SetMultipathTCP says whether Listen asks the system for MPTCP, as in package net.
// Not safe for concurrent use.
func (lc *ListenConfig) SetMultipathTCP(use bool) { lc.multipath.SetMultipathTCP(use) }

// Listener is a net.Listener on a loop.
// Safe for concurrent use.
type Listener struct {
	native *libevent.Listener
	loop   libevent.Loop
	config ListenConfig
	tcp    bool
	addr   net.Addr
	path   string // of a unix socket's file
	freed  gate   // opens once the address is free again
	free   func() // opens freed

	using sync.RWMutex // held for reading while a caller has the descriptor

	mu     sync.Mutex
	in     side
	keeps  bool // the file of a unix socket
	queue  []arrival
	paused bool // the queue is full, so the listener is disabled
	closed bool
}

// arrival is a connection that the loop has taken and Accept has not returned yet.
type arrival struct {
	fd     int
	remote net.Addr
}

var (
	_ net.Listener = (*Listener)(nil)
	_ syscall.Conn = (*Listener)(nil)
)

// Listen makes a listener for "tcp", "tcp4", "tcp6" or "unix". Its connections run on loop;
// a Group places them on its bases in turn. address is as in net.Listen. The loop accepts the
// connections, and Accept returns each as a *Conn. While 256 connections wait for Accept, the
// loop accepts no more, and later ones wait in the system's backlog. Close removes the file of
// a unix socket.
// Safe for concurrent use.
func Listen(loop libevent.Loop, network, address string) (net.Listener, error) {
	return new(ListenConfig).Listen(context.Background(), loop, network, address)
}

// Listen is the function Listen with a configuration. The end of ctx ends only the lookup of
// a host name. The net.Listener is a *Listener.
func (lc *ListenConfig) Listen(ctx context.Context, loop libevent.Loop, network, address string) (net.Listener, error) {
	l := &Listener{loop: loop, config: *lc, tcp: network != "unix"}
	l.in.init(&l.mu, func() *libevent.Base { return l.native.Base() })
	l.freed.init()
	l.free = sync.OnceFunc(l.freed.open)
	if err := l.open(ctx, network, address); err != nil {
		var already *net.OpError
		if !errors.As(err, &already) {
			err = &net.OpError{Op: "listen", Net: network, Err: err}
		}
		return nil, err
	}
	return l, nil
}

// open starts listening. Package net makes the socket.
func (l *Listener) open(ctx context.Context, network, address string) error {
	if _, ok := families[network]; !ok {
		return net.UnknownNetworkError(network)
	}
	base, err := nextBase(l.loop)
	if err != nil {
		return err
	}
	lc := l.config.multipath
	lc.Control = l.config.control
	listening, err := lc.Listen(ctx, network, address)
	if err != nil {
		return err
	}
	l.addr = listening.Addr()
	if unix, ok := listening.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
		if path := l.addr.String(); path[0] != '@' {
			l.path = path
		}
	}
	fd, err := takeSocket(listening)
	if err != nil {
		return err
	}
	return l.listen(base, fd)
}

// listen gives the socket to the loop, or closes the socket.
func (l *Listener) listen(base *libevent.Base, fd int) (err error) {
	opts := l.config.Options
	if opts.Backlog > 0 {
		err = os.NewSyscallError("listen", syscall.Listen(fd, opts.Backlog))
	}
	if err == nil {
		opts.Disabled, opts.Blocking = true, false
		opts.Nagle = true // the connections get TCP_NODELAY, and not the listener, as in package net
		// Not Group.Listen: when its listener is disabled, it drops the connections that are on
		// their way from one loop to another.
		l.native, err = base.ListenFD(fd, opts, l.onAccept)
	}
	if err != nil {
		_ = syscall.Close(fd)
		l.unlink()
		return netError(err)
	}
	l.native.SetErrorFunc(l.onError)
	l.native.AfterFree(l.onFree)
	return l.start()
}

// control sets the options of the socket that package net does not know.
func (lc *ListenConfig) control(network, address string, c syscall.RawConn) error {
	var err error
	cause := c.Control(func(fd uintptr) { err = setListenOptions(int(fd), network, lc.Options) })
	if cause != nil {
		err = cause
	}
	if err == nil && lc.Control != nil {
		err = lc.Control(network, address, c)
	}
	return err
}

// start has the loop take connections. If it cannot, the address is free again.
func (l *Listener) start() error {
	err := l.native.Enable()
	if err != nil {
		l.markClosed()
		l.end()
	}
	return err
}

// end frees the address.
func (l *Listener) end() {
	l.unlink()
	l.native.Free()
}

// unlink removes the file of a unix socket.
func (l *Listener) unlink() {
	l.mu.Lock()
	keeps := l.keeps
	l.mu.Unlock()
	if l.path != "" && !keeps {
		_ = os.Remove(l.path)
	}
}

// SetUnlinkOnClose says whether Close removes the file of a unix socket, as in package net. The
// default is true.
func (l *Listener) SetUnlinkOnClose(unlink bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keeps = !unlink
}

// onAccept puts a connection into the queue. It runs on the loop's goroutine, so it leaves
// the rest of the work to Accept.
func (l *Listener) onAccept(_ *libevent.Listener, fd int, remote net.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = syscall.Close(fd)
		return
	}
	l.queue = append(l.queue, arrival{fd, remote})
	if len(l.queue) >= queueMark && !l.paused {
		l.paused = true
		_ = l.native.Disable()
	}
	l.in.wakeUp()
}

// onError logs that accepting has paused.
func (l *Listener) onError(_ *libevent.Listener, err error) {
	logger := l.config.Logger
	if logger == nil {
		logger = slog.Default()
	}
	logger.Warn("evnet: accepting is paused", slog.Any("addr", l.Addr()), slog.Any("err", err))
}

// Accept waits for the next connection and returns it, as a *Conn. Accept goes on waiting if the
// process has no free descriptors, so it fails only when its deadline passes, and always when
// the listener is closed.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.accept()
	if err != nil {
		return nil, l.opError("accept", err)
	}
	return c, nil
}

func (l *Listener) accept() (*Conn, error) {
	a, err := l.next()
	if err != nil {
		return nil, err
	}
	if l.tcp {
		tune(a.fd, l.config.KeepAlive, l.config.KeepAliveConfig)
	}
	c, err := adopt(l.loop.Next(), a.fd, nil, a.remote)
	return c, netError(err)
}

// adopt makes a connection of a socket, or closes the socket.
func adopt(base *libevent.Base, fd int, local, remote net.Addr) (*Conn, error) {
	bev, err := base.NewSocket(fd, libevent.OptCloseOnFree)
	if err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	c := newConn(bev)
	c.plain = true
	c.local, c.remote = local, named(remote)
	if local == nil {
		c.local = named(bev.LocalAddr())
	}
	if err = c.start(); err == nil {
		err = bev.Enable(libevent.EvRead)
	}
	if err != nil { // the base is being freed, and the socket with it
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// next waits for an arrival.
func (l *Listener) next() (arrival, error) {
	l.in.turn.Lock()
	defer l.in.turn.Unlock()
	for {
		a, ok, err := l.poll()
		if ok || err != nil {
			return a, err
		}
		l.in.gate.wait()
	}
}

// poll takes an arrival from the queue. If the queue is empty it begins a wait.
func (l *Listener) poll() (a arrival, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.in.check(); err != nil {
		return arrival{}, false, err
	}
	if len(l.queue) > 0 {
		a, l.queue = l.queue[0], l.queue[1:]
		if l.paused && len(l.queue) <= queueMark/2 {
			l.paused = false
			_ = l.native.Enable()
		}
		return a, true, nil
	}
	if err := refuseOnLoop(l.native.Base()); err != nil {
		return arrival{}, false, err
	}
	l.in.waiting = true
	return arrival{}, false, nil
}

// Close closes the listener. Accept returns an error that matches net.ErrClosed, and
// connections that it has not returned are closed. Close waits until the address is free
// again, but for no more than a second if closures keep the loop busy. On the loop's
// goroutine it does not wait.
func (l *Listener) Close() error {
	if !l.markClosed() {
		return l.opError("close", net.ErrClosed)
	}
	l.using.Lock() // waits until every call that uses the descriptor has returned
	//lint:ignore SA2001 there is nothing to do but to wait
	l.using.Unlock()
	l.end()
	if l.native.Base().OnLoop() {
		return nil
	}
	limit := afterFunc(l.native.Base(), closeLimit, l.free)
	l.freed.wait()
	limit.Stop()
	return nil
}

// markClosed ends waits and closes the queued connections. It reports whether this was the
// first call.
func (l *Listener) markClosed() (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.closed = true
	l.in.close()
	for _, a := range l.queue {
		_ = syscall.Close(a.fd)
	}
	l.queue = nil
	return true
}

func (l *Listener) onFree() {
	l.markClosed()
	l.free()
}

// Addr returns the address of the listener, also after Close.
func (l *Listener) Addr() net.Addr { return l.addr }

// SetDeadline sets the time at which Accept stops waiting, also an Accept that is waiting now. A
// zero t means no deadline. After a deadline has passed, a new one makes Accept work again.
func (l *Listener) SetDeadline(t time.Time) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return net.ErrClosed // without the form of other errors, as in package net
	}
	l.in.setDeadline(t)
	l.mu.Unlock()
	return nil
}

func (l *Listener) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: l.Addr().Network(), Addr: l.Addr(), Err: err}
}

// nextBase returns the base for a new listener or connection.
func nextBase(loop libevent.Loop) (*libevent.Base, error) {
	if loop == nil {
		return nil, errors.New("evnet: no loop")
	}
	base := loop.Next()
	if base == nil {
		return nil, net.ErrClosed
	}
	return base, nil
}
