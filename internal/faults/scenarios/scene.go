// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

// patience bounds every wait. A scenario that needs so long waits for ever.
const patience = 20 * time.Second

// scene is what a scenario has: a base whose loop runs, and objects that are freed at the end.
type scene struct {
	base    *libevent.Base
	freeing bool // no memory is left from the end on
	ended   chan error
	frees   []func()
	err     error

	mu   sync.Mutex
	bugs []string
}

func perform(scenario func(*scene) error, freeing bool) *scene {
	s := &scene{freeing: freeing, ended: make(chan error, 1)}
	s.err = s.act(scenario)
	return s
}

func (s *scene) act(scenario func(*scene) error) error {
	defer s.clear()
	return scenario(s)
}

// clear frees everything, first what was made last.
func (s *scene) clear() {
	if s.freeing {
		faults{}.noneLeft(true)
		defer faults{}.noneLeft(false)
	}
	for i := len(s.frees) - 1; i >= 0; i-- {
		s.frees[i]()
	}
}

// later has fn called at the end.
func (s *scene) later(fn func()) { s.frees = append(s.frees, fn) }

// bug takes down that something went wrong, not just failed.
func (s *scene) bug(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bugs = append(s.bugs, fmt.Sprintf(format, args...))
}

// end is the first thing that ends the scenario.
func (s *scene) end(err error) {
	select {
	case s.ended <- err:
	default:
	}
}

// fail ends the scenario if err is not nil.
func (s *scene) fail(err error) {
	if err != nil {
		s.end(err)
	}
}

// wait waits for the end.
func (s *scene) wait() error {
	select {
	case err := <-s.ended:
		return err
	case <-time.After(patience):
		stacks := make([]byte, 1<<16)
		s.bug("nothing happens any more: %s", stacks[:runtime.Stack(stacks, true)])
		return errors.New("hang")
	}
}

// start makes a base whose loop runs.
func (s *scene) start(cfg libevent.Config) error {
	base, err := libevent.NewBaseConfig(cfg)
	if err != nil {
		return err
	}
	s.base = base
	s.later(func() {
		if err := base.Free(); err != nil {
			s.bug("Base.Free: %v", err)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- base.Run(ctx) }()
	s.later(func() {
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				s.bug("Run: %v", err)
			}
		case <-time.After(patience):
			s.bug("the loop does not end")
		}
	})
	return nil
}

// event is an event closure that ends the scenario at everything but EventConnected.
func (s *scene) event(b *libevent.BufferEvent, what libevent.Events) {
	if what&libevent.EventConnected == 0 {
		s.end(fmt.Errorf("%v: %w", what, b.Err()))
	}
}

// socket makes a bufferevent for one end of a TCP connection. It is freed at the end.
func (s *scene) socket(opts libevent.Options) (*libevent.BufferEvent, *net.TCPConn, error) {
	fd, peer := s.tcp()
	b, err := s.base.NewSocket(fd, opts|libevent.OptCloseOnFree)
	if err != nil {
		check(syscall.Close(fd))
		return nil, nil, err
	}
	s.later(b.Free)
	return b, peer, nil
}

// tcp makes a TCP connection: a descriptor for one end, and the other end, which is closed
// at the end.
func (s *scene) tcp() (fd int, peer *net.TCPConn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	check(err)
	s.later(func() { _ = conn.Close() })
	server, err := ln.Accept()
	check(err)
	fd = descriptorOf(server.(*net.TCPConn))
	return fd, conn.(*net.TCPConn)
}

// descriptorOf takes the descriptor of a connection, which it closes.
func descriptorOf(conn *net.TCPConn) (fd int) {
	f, err := conn.File()
	check(err)
	fd, err = syscall.Dup(int(f.Fd()))
	check(err)
	syscall.CloseOnExec(fd)
	check(f.Close())
	check(conn.Close())
	return fd
}

// noise makes n bytes that do not repeat soon.
func noise(n int) []byte {
	p := make([]byte, n)
	for i, z := 0, uint32(n); i < n; i++ {
		z = z*1664525 + 1013904223
		p[i] = byte(z >> 24)
	}
	return p
}

// ask writes p to a peer that echoes, and compares what comes back. An error of the
// connection itself does not end the scenario: the other end has to be told of it.
func (s *scene) ask(conn net.Conn, p []byte) {
	go func() { _, _ = conn.Write(p) }()
	if s.hear(conn, p) {
		s.end(nil)
	}
}

// hear reports whether p comes from conn.
func (s *scene) hear(conn net.Conn, p []byte) bool {
	got := make([]byte, len(p))
	n, err := io.ReadFull(conn, got)
	if !bytes.Equal(got[:n], p[:n]) {
		s.bug("wrong bytes among the first %d", n)
	}
	return err == nil
}

// end is a bufferevent, or a connection of package openssl.
type end interface {
	SetCallbacks(read, write func(*libevent.BufferEvent), event func(*libevent.BufferEvent, libevent.Events)) error
	Enable(what libevent.What) error
	Write(p []byte) (int, error)
}

// reads sets the read closure of an end, and enables reading.
func (s *scene) reads(b end, read func(*libevent.BufferEvent)) error {
	if err := b.SetCallbacks(read, nil, s.event); err != nil {
		return err
	}
	return b.Enable(libevent.EvRead)
}

// echoes has an end echo n bytes of its peer.
func (s *scene) echoes(b end, peer net.Conn, n int) error {
	if err := s.reads(b, s.echo); err != nil {
		return err
	}
	go s.ask(peer, noise(n))
	return s.wait()
}

// pair makes the two ends of a pair. They are freed at the end.
func (s *scene) pair() (a, b *libevent.BufferEvent, err error) {
	a, b, err = s.base.NewPair(0)
	if err == nil {
		s.later(a.Free)
		s.later(b.Free)
	}
	return a, b, err
}

// echo sends what comes in back.
func (s *scene) echo(b *libevent.BufferEvent) { s.fail(b.WriteBuffer(b.Input())) }
