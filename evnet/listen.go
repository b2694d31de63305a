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
	queueMark  = 256         // connections that nobody has accepted, at which the rest waits in the system
	closeLimit = time.Second // that Close waits for the loop
)

// ListenConfig says how Listen makes its listener. The zero value is what the function
// Listen uses.
type ListenConfig struct {
	// KeepAlive and KeepAliveConfig are set on accepted TCP connections, as package
	// net does: the first is on with 15 seconds if 0 and off if negative, the second
	// is used instead if its Enable is set.
	KeepAlive       time.Duration
	KeepAliveConfig net.KeepAliveConfig
	// Options says how the socket is made.
	Options libevent.ListenOptions
	// Logger is told when accepting must pause, for want of descriptors most likely;
	// nil is slog's default.
	Logger *slog.Logger
}

// Listener is a net.Listener on a loop.
type Listener struct {
	native *libevent.Listener
	loop   libevent.Loop
	config ListenConfig
	tcp    bool
	path   string // of the file of a unix socket
	freed  chan struct{}

	mu     sync.Mutex
	in     side
	queue  []arrival
	paused bool // enough has arrived
	closed bool
}

// arrival is a connection that was not accepted yet.
type arrival struct {
	fd     int
	remote net.Addr
}

var _ net.Listener = (*Listener)(nil)

// Listen makes a listener for "tcp", "tcp4", "tcp6" or "unix", whose connections live on
// loop: of a Group on each base in turn. address is as in net.Listen. The loop takes
// the connections and Accept makes a *Conn of each; while 256 of them wait for Accept no
// more are taken, and those after them wait in the system. The file of a unix socket is
// removed by Close.
// Safe for concurrent use.
func Listen(loop libevent.Loop, network, address string) (net.Listener, error) {
	return new(ListenConfig).Listen(context.Background(), loop, network, address)
}

// Listen is the function Listen with a configuration, and a context that ends looking the
// host name up. The net.Listener is a *Listener.
// Safe for concurrent use.
func (lc *ListenConfig) Listen(ctx context.Context, loop libevent.Loop, network, address string) (net.Listener, error) {
	l := &Listener{loop: loop, config: *lc, tcp: network != "unix", freed: make(chan struct{})}
	l.in.init(&l.mu)
	if err := l.open(ctx, network, address); err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: textAddr{network, address}, Err: err}
	}
	return l, nil
}

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
	// Not Group.Listen, which loses what is on its way from loop to loop when the
	// listener is disabled.
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
	return l.native.Enable()
}

// arrived is called on the loop's goroutine. What can be done by the one who accepts is not done here.
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

func (l *Listener) onError(_ *libevent.Listener, err error) {
	logger := l.config.Logger
	if logger == nil {
		logger = slog.Default()
	}
	logger.Warn("evnet: accepting is paused", slog.Any("addr", l.Addr()), slog.Any("err", err))
}

// Accept waits for the next connection and returns it, a *Conn. It fails only for good or
// by its deadline: when descriptors run out it waits on.
// Safe for concurrent use.
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
		l.mu.Lock()
		err := l.in.check()
		if err != nil {
			l.mu.Unlock()
			return arrival{}, err
		}
		if len(l.queue) > 0 {
			a := l.queue[0]
			l.queue = l.queue[1:]
			if l.paused && len(l.queue) <= queueMark/2 {
				l.paused = false
				_ = l.native.Enable()
			}
			l.mu.Unlock()
			return a, nil
		}
		if err := refuseOnLoop(l.native.Base()); err != nil {
			l.mu.Unlock()
			return arrival{}, err
		}
		l.in.waiting = true
		l.mu.Unlock()
		<-l.in.wake
	}
}

// Close ends listening: Accept returns an error that matches net.ErrClosed, and
// connections that it did not return are closed. The address is free again when Close
// returns, if the loop runs and its closures do not keep it for a second, or no loop runs.
// Safe for concurrent use.
func (l *Listener) Close() error {
	if !l.markClosed() {
		return l.opError("close", net.ErrClosed)
	}
	if l.path != "" {
		_ = os.Remove(l.path)
	}
	l.native.Free()
	if l.native.Base().OnLoop() {
		return nil
	}
	select {
	case <-l.freed:
	case <-time.After(closeLimit):
	}
	return nil
}

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

// Addr returns the address that is listened on, also after Close.
// Safe for concurrent use.
func (l *Listener) Addr() net.Addr { return l.native.Addr() }

// SetDeadline sets when Accept stops waiting, also one that waits already; a zero t is
// never. A later one makes Accept work again.
// Safe for concurrent use.
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

// textAddr is an address as it was given.
type textAddr struct{ network, address string }

func (a textAddr) Network() string { return a.network }
func (a textAddr) String() string  { return a.address }

// nextBase is the base for something new.
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
