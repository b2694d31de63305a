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
	// Options says how the socket is made.
	Options libevent.ListenOptions
	// Logger gets a message when accepting pauses, most likely because the process has
	// no free descriptors. nil means slog's default.
	Logger *slog.Logger
}

// Listener is a net.Listener on a loop.
// Safe for concurrent use.
type Listener struct {
	native *libevent.Listener
	loop   libevent.Loop
	config ListenConfig
	tcp    bool
	path   string        // of a unix socket's file
	freed  chan struct{} // closed once the address is free again

	mu     sync.Mutex
	in     side
	queue  []arrival
	paused bool // the queue is full, so the listener is disabled
	closed bool
}

// arrival is a connection that the loop has taken and Accept has not returned yet.
type arrival struct {
	fd     int
	remote net.Addr
}

var _ net.Listener = (*Listener)(nil)

// Listen makes a listener for "tcp", "tcp4", "tcp6" or "unix". Its connections run on loop;
// a Group places them on its bases in turn. address is as in net.Listen. The loop takes the
// connections, and Accept makes a *Conn of each. While 256 connections wait for Accept, the
// loop takes no more, and later ones wait in the system's backlog. Close removes the file of
// a unix socket.
// Safe for concurrent use.
func Listen(loop libevent.Loop, network, address string) (net.Listener, error) {
	return new(ListenConfig).Listen(context.Background(), loop, network, address)
}

// Listen is the function Listen with a configuration. The end of ctx ends only the lookup of
// a host name. The net.Listener is a *Listener.
func (lc *ListenConfig) Listen(ctx context.Context, loop libevent.Loop, network, address string) (net.Listener, error) {
	l := &Listener{loop: loop, config: *lc, tcp: network != "unix", freed: make(chan struct{})}
	l.in.init(&l.mu)
	if err := l.open(ctx, network, address); err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: textAddr{network, address}, Err: err}
	}
	return l, nil
}

// open starts listening.
func (l *Listener) open(ctx context.Context, network, address string) error {
	base, err := nextBase(l.loop)
	if err != nil {
		return err
	}
	if address, err = lookUpHost(ctx, network, address); err != nil {
		return err
	}
	opts := l.config.Options
	opts.Disabled, opts.Blocking = true, false
	// Not Group.Listen: when its listener is disabled, it drops the connections that are on
	// their way from one loop to another.
	l.native, err = base.Listen(network, address, opts, l.onAccept)
	if err != nil {
		var e *libevent.Error
		if errors.As(err, &e) {
			err = os.NewSyscallError("bind", e.Err)
		}
		return err
	}
	if addr, ok := l.native.Addr().(*net.UnixAddr); ok && addr.Name != "" && addr.Name[0] != '@' {
		l.path = addr.Name
	}
	l.native.SetErrorFunc(l.onError)
	l.native.AfterFree(l.onFree)
	return l.start()
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
	if l.path != "" {
		_ = os.Remove(l.path)
	}
	l.native.Free()
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

// Accept waits for the next connection and returns it, a *Conn. It goes on waiting when the
// process has no free descriptors. So it fails only when its deadline passes, or for ever
// when the listener is closed.
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
	c, err := adopt(l.loop.Next(), a)
	return c, netError(err)
}

// adopt makes a connection of a descriptor, or closes it.
func adopt(base *libevent.Base, a arrival) (*Conn, error) {
	bev, err := base.NewSocket(a.fd, libevent.OptCloseOnFree)
	if err != nil {
		_ = syscall.Close(a.fd)
		return nil, err
	}
	c := newConn(bev)
	c.remote = a.remote
	c.local = bev.LocalAddr()
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
		<-l.in.wake
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
	l.end()
	if l.native.Base().OnLoop() {
		return nil
	}
	select {
	case <-l.freed:
	case <-time.After(closeLimit):
	}
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
	close(l.freed)
}

// Addr returns the address of the listener, also after Close.
func (l *Listener) Addr() net.Addr { return l.native.Addr() }

// SetDeadline sets when Accept stops waiting, also an Accept that waits already. A zero t is
// no deadline. After a deadline has passed, a new one makes Accept work again.
func (l *Listener) SetDeadline(t time.Time) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return l.opError("set", net.ErrClosed)
	}
	l.in.setDeadline(t)
	l.mu.Unlock()
	return nil
}

func (l *Listener) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: l.Addr().Network(), Addr: l.Addr(), Err: err}
}

// textAddr is an address as the caller wrote it.
type textAddr struct{ network, address string }

func (a textAddr) Network() string { return a.network }
func (a textAddr) String() string  { return a.address }

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
