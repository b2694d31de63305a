// SPDX-License-Identifier: BSD-3-Clause

//go:build cgo

package libevent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// ServeOptions says how Serve makes connections. The zero value is right for plain TCP.
type ServeOptions struct {
	// Listen says how the listening socket is made.
	Listen ListenOptions
	// Options are those of each connection's bufferevent. OptCloseOnFree is added.
	Options Options
	// NewSocket makes the bufferevent of a connection, on the loop's goroutine. nil means
	// Base.NewSocket. The method Socket of a Context of package openssl makes a server of TLS.
	// opts has OptCloseOnFree. If NewSocket returns an error, fd must still be open; Serve closes it.
	NewSocket func(base *Base, fd int, opts Options) (*BufferEvent, error)
	// ReadTimeout and WriteTimeout are set with SetTimeouts on each connection; 0 means none. A
	// filter that is put on the connection later gets them in its place.
	ReadTimeout, WriteTimeout time.Duration
	// Error is called on the loop's goroutine when accepting fails, or when there is no
	// bufferevent for a connection, which is closed then. If it is nil, the error is logged.
	Error func(err error)
}

// Server is a listener with its connections. Its methods are safe for concurrent use.
type Server struct {
	loop     runner
	bases    []*Base
	opts     ServeOptions
	handler  func(c *BufferEvent) Handler
	listener *Listener

	mu        sync.Mutex
	conns     map[*BufferEvent]bool // false: the other side of a Pipe
	closing   bool
	deadline  time.Time     // of the first Shutdown, at which the loop frees what is left, or zero
	late      bool          // the loop has done so
	listening bool          // the listener's socket is not closed
	done      chan struct{} // closed when it is closing and neither socket nor connection is left
}

// Serve listens, and serves each connection: it makes a bufferevent c with OptCloseOnFree,
// calls handler, and passes what handler returns to the method Handle of c. network and address
// are those of Listen. Serve returns at once; connections are accepted while the loop runs. If
// the loop runs already, handler may be called before Serve has returned.
//
// handler runs on the loop's goroutine. It may set timeouts, watermarks and limits of c, and may
// free c to refuse the connection. If it sets the closures of c itself, with Pipe for example,
// the Handler that it returns is not used.
//
// handler may also put a filter on c, and a closure may do so later. As long as the filter exists,
// the filter stands for the connection: Conns returns the filter, Shutdown writes its output, and
// it has the timeouts of opts. A filter that handler puts on c gets the Handler, unless handler has
// set the closures of the filter. If c is freed, the filter is freed, too. If the filter is freed, c
// is freed as well, also without OptCloseOnFree, unless c has closures of its own or another filter.
func (b *Base) Serve(network, address string, opts ServeOptions, handler func(c *BufferEvent) Handler) (*Server, error) {
	return serve(b, []*Base{b}, network, address, opts, handler)
}

// Serve is Base.Serve, and gives the connections to the loops in turn. handler runs on the
// loop of the connection, and so at the same time on several loops.
func (g *Group) Serve(network, address string, opts ServeOptions, handler func(c *BufferEvent) Handler) (*Server, error) {
	return serve(g, g.bases, network, address, opts, handler)
}

// runner is a Base or a Group.
type runner interface {
	Loop
	Run(context.Context) error
}

func serve(loop runner, bases []*Base, network, address string, opts ServeOptions, handler func(*BufferEvent) Handler) (*Server, error) {
	if handler == nil {
		return nil, badArgument("Serve", "handler is nil")
	}
	if opts.ReadTimeout < 0 || opts.WriteTimeout < 0 {
		return nil, badArgument("Serve", "a timeout is negative: %v, %v", opts.ReadTimeout, opts.WriteTimeout)
	}
	if opts.NewSocket == nil {
		opts.NewSocket = (*Base).NewSocket
	}
	opts.Options |= OptCloseOnFree
	s := &Server{
		loop: loop, bases: bases, opts: opts, handler: handler,
		conns: map[*BufferEvent]bool{}, done: make(chan struct{}),
	}
	off := opts.Listen.Disabled
	opts.Listen.Disabled = true // until s.listener is set
	l, err := loop.Listen(network, address, opts.Listen, s.accept)
	if err != nil {
		return nil, err
	}
	s.listener, s.listening = l, true
	l.whenFreed = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.listening = false
		s.finish()
	}
	l.SetErrorFunc(func(_ *Listener, err error) { s.report(err) })
	if !off {
		if err := l.Enable(); err != nil {
			l.Free()
			return nil, err
		}
	}
	return s, nil
}

// Listener returns the listener, whose methods Disable and Enable stop and resume accepting.
func (s *Server) Listener() *Listener { return s.listener }

// Addr returns the address on which the server listens, also after it has ended.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Conns returns the accepted connections that exist at this moment, in no particular order: of
// each the topmost filter, or, without filters, the bufferevent that the handler of Serve has got.
// In the handler, the new connection is among them. Another goroutine or a closure may free any of
// them meanwhile.
func (s *Server) Conns() []*BufferEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	var conns []*BufferEvent
	for c, accepted := range s.conns {
		if accepted {
			conns = append(conns, c.served.top())
		}
	}
	return conns
}

// accept serves one connection.
func (s *Server) accept(l *Listener, fd int, _ net.Addr) {
	c, err := s.opts.NewSocket(l.Base(), fd, s.opts.Options)
	if err != nil {
		closeFD(fd)
		s.report(err)
		return
	}
	served := false
	defer func() {
		if !served { // also if handler has panicked
			c.Free()
		}
	}()
	if !s.add(c) {
		return
	}
	s.setTimeouts(c)
	h := s.handler(c)
	if top := c.served.top(); top.isOpen() && top.closures.Load() == &noClosures {
		if err := top.Handle(h); err != nil { // perhaps another goroutine has freed it
			if !errors.Is(err, ErrClosed) {
				s.report(err)
			}
			return
		}
	}
	served = true
}

// add counts a connection until it is freed. It returns false if the server has ended.
func (s *Server) add(c *BufferEvent) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.conns[c] = true
	c.served = &served{server: s, conn: c}
	c.whenFreed = func() { s.remove(c) }
	return true
}

func (s *Server) hasTimeouts() bool { return s.opts.ReadTimeout|s.opts.WriteTimeout != 0 }

func (s *Server) setTimeouts(c *BufferEvent) {
	_ = c.SetTimeouts(s.opts.ReadTimeout, s.opts.WriteTimeout) // it fails only if c is freed
}

// join counts the other side of a Pipe until it is freed. If the server is ending already, the
// Pipe ends that side after the connection.
func (s *Server) join(other *BufferEvent) {
	if other.served != nil && other.served.server == s {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[other] = false
	other.AfterFree(func() { s.remove(other) })
}

func (s *Server) remove(c *BufferEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.late = s.late || c.late.Load()
	s.finish()
}

// finish tells Shutdown that nothing is left. mu is held.
func (s *Server) finish() {
	if !s.closing || s.listening || len(s.conns) > 0 {
		return
	}
	select {
	case <-s.done:
	default:
		close(s.done)
	}
}

func (s *Server) report(err error) {
	if s.opts.Error != nil {
		s.opts.Error(err)
		return
	}
	logger().Warn("libevent: a connection is not served", slog.Any("err", err))
}

// Shutdown ends the server in order: it frees the listener, stops reading, and frees each
// connection, with the other side of its Pipe, when its output is written. It returns nil when
// all connections are freed and the address is free. If ctx ends before, Shutdown frees the
// rest at once and returns context.Cause(ctx).
//
// Shutdown waits for the loop. If the loop does not run, because a signal has ended Run for
// example, Shutdown runs it. In a closure of the loop Shutdown would wait for itself, so it
// returns an error there; a closure starts a goroutine that calls Shutdown.
func (s *Server) Shutdown(ctx context.Context) error {
	const op = "Shutdown"
	if ctx == nil {
		return badArgument(op, "ctx is nil")
	}
	for _, b := range s.bases {
		if b.OnLoop() {
			return badArgument(op, "a closure of the loop would wait for itself: use go")
		}
	}
	s.drain(ctx)
	err := s.wait(ctx)
	if err != nil {
		s.Close()
	} else if s.wasLate(ctx) {
		<-ctx.Done() // which is a moment later than by the time of the loop
		err = context.Cause(ctx)
	}
	return err
}

// wasLate reports whether the loop has met the deadline of ctx with output left.
func (s *Server) wasLate(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	s.mu.Lock()
	defer s.mu.Unlock()
	return ok && s.late && s.deadline.Equal(deadline)
}

// drain starts the end of each connection. What is left at the deadline is reset by the loop, so
// that no peer takes a part of the output for all of it.
func (s *Server) drain(ctx context.Context) {
	limit := 24 * time.Hour
	if deadline, ok := ctx.Deadline(); ok {
		limit = max(time.Until(deadline), 0)
		s.mu.Lock()
		if !s.closing {
			s.deadline = deadline
		}
		s.mu.Unlock()
	}
	for _, c := range s.close() {
		free := func() { c.freeInOrder(limit) }
		if c.Base().Post(free) != nil {
			free()
		}
	}
}

// freeInOrder frees a connection with its filters when its output is written.
func (b *BufferEvent) freeInOrder(limit time.Duration) {
	top := b
	if b.served != nil {
		top = b.served.top()
	}
	if top != b {
		top.AfterFree(b.Free)
	}
	if err := top.freeAfterFlush("FreeAfterFlush", limit, true); err != nil && !errors.Is(err, ErrClosed) {
		b.Free()
	}
}

// close accepts no more, and returns the connections with the other sides of Pipes.
func (s *Server) close() []*BufferEvent {
	s.listener.Free()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	s.finish()
	return slices.Collect(maps.Keys(s.conns))
}

// wait runs the loop, if it does not run, until no connection is left.
func (s *Server) wait(ctx context.Context) error {
	until, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-s.done:
			stop()
		case <-until.Done():
		}
	}()
	for {
		err := s.loop.Run(until)
		select {
		case <-s.done:
			return nil
		default:
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.Is(err, ErrRunning):
			return err // nil: the loop was broken out of
		}
		select { // the Run that is in progress may end before the connections do
		case <-s.done:
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Close frees the listener, all connections and the other sides of their Pipes at once. Output
// that is not written is dropped.
func (s *Server) Close() {
	for _, c := range s.close() {
		c.Free()
	}
}
