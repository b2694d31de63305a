// SPDX-License-Identifier: BSD-3-Clause

// Echo gives every client back what it sends, byte for byte.
//
//	go run ./examples/echo -addr 127.0.0.1:9595 -loops 1
//
// The clients are spread over the loops in turn; -loops 0 starts a loop for each core.
//
// A client that closes its writing side gets the rest of its bytes back, and then the
// end of the stream. The server stops reading from a client that has a megabyte of
// answers to read. SIGINT or SIGTERM ends the server once all clients have got their
// bytes, or after five seconds.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

const (
	maxUnread  = 1 << 20         // unread bytes of a client at which the server stops reading from it
	drainLimit = 5 * time.Second // for which a client may read its rest when the server ends
)

func main() {
	flags := flag.NewFlagSet("echo", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	addr := flags.String("addr", "127.0.0.1:9595", "host and `port` to listen on")
	loops := flags.Int("loops", 1, "`number` of event loops, 0 for one on each core")
	err := flags.Parse(os.Args[1:])
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
	case err != nil:
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(2)
	default:
		if err := serve(*addr, *loops); err != nil {
			fmt.Fprintln(os.Stderr, "echo:", err)
			os.Exit(1)
		}
	}
}

// server has what the loops share. No loop changes it.
type server struct {
	group    *libevent.Group
	loops    map[*libevent.Base]*loop
	listener *libevent.Listener
	signals  []*libevent.Event
}

// loop has the clients of one base. Only closures of that base use it, so only one goroutine.
type loop struct {
	base    *libevent.Base
	clients map[*libevent.BufferEvent]*client

	connections, bytes int
}

// client is one connection.
type client struct {
	paused bool // the server does not read from it, because it does not read
	ended  bool // it has closed its writing side
}

// serve runs a server until a signal ends it.
func serve(addr string, loops int) error {
	group, err := libevent.NewGroup(loops, libevent.Config{})
	if err != nil {
		return err
	}
	defer group.Free()
	s := &server{group: group, loops: map[*libevent.Base]*loop{}}
	for _, base := range group.Bases() {
		s.loops[base] = &loop{base: base, clients: map[*libevent.BufferEvent]*client{}}
	}
	s.listener, err = group.Listen("tcp", addr, libevent.ListenOptions{}, func(l *libevent.Listener, fd int, _ net.Addr) {
		s.loops[l.Base()].accept(fd)
	})
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
	if err := s.addSignals(); err != nil {
		return err
	}
	s.printAddress()
	if err := group.Run(context.Background()); err != nil {
		return err
	}
	s.printTotals()
	return nil
}

// addSignals makes SIGINT and SIGTERM stop the server.
func (s *server) addSignals() error {
	base := s.group.Next()
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		e, err := base.NewSignal(sig, s.stop)
		if err != nil {
			return err
		}
		if err := e.Add(-1); err != nil {
			return err
		}
		s.signals = append(s.signals, e)
	}
	return nil
}

func (s *server) printAddress() {
	fmt.Printf("echo: listening on %s, libevent %s, %s", s.listener.Addr(), libevent.Version(), s.group.Bases()[0].Method())
	if s.group.Len() > 1 {
		fmt.Printf(", %d loops", s.group.Len())
	}
	fmt.Println()
}

func (s *server) printTotals() {
	connections, bytes := 0, 0
	for _, l := range s.loops {
		connections += l.connections
		bytes += l.bytes
	}
	fmt.Printf("echo: %d connections, %d bytes, %d callbacks\n", connections, bytes, s.group.Stats().Callbacks)
}

// stop frees everything on the loops except clients that still have bytes to get. Those have
// until drainLimit. A second signal finds no handler, so it kills the process.
func (s *server) stop(os.Signal) {
	s.listener.Free()
	for _, e := range s.signals {
		e.Free()
	}
	err := s.group.PostAll(func(base *libevent.Base) {
		for bev := range s.loops[base].clients {
			_ = bev.FreeAfterFlush(drainLimit)
		}
	})
	if err = errors.Join(err, s.group.Finish()); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
	}
}

func (l *loop) accept(fd int) {
	bev, err := l.base.NewSocket(fd, libevent.OptCloseOnFree)
	if err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		_ = syscall.Close(fd)
		return
	}
	l.connections++
	l.clients[bev] = &client{}
	// libevent calls the write closure when a client's output has shrunk to half of maxUnread.
	err = errors.Join(
		bev.SetCallbacks(l.read, l.written, l.event),
		bev.SetWatermark(libevent.EvWrite, maxUnread/2, 0),
		bev.Enable(libevent.EvRead))
	if err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		l.drop(bev)
	}
}

func (l *loop) read(bev *libevent.BufferEvent) {
	l.bytes += bev.Input().Len()
	if err := bev.Output().AddBuffer(bev.Input()); err != nil {
		l.drop(bev)
		return
	}
	if bev.Output().Len() >= maxUnread {
		l.clients[bev].paused = true
		_ = bev.Disable(libevent.EvRead)
	}
}

func (l *loop) written(bev *libevent.BufferEvent) {
	c := l.clients[bev]
	switch {
	case c.ended && bev.Output().Len() == 0:
		l.drop(bev)
	case c.paused && !c.ended:
		c.paused = false
		_ = bev.Enable(libevent.EvRead)
	}
}

func (l *loop) event(bev *libevent.BufferEvent, what libevent.Events) {
	if what&libevent.EventEOF != 0 && bev.Output().Len() > 0 {
		l.clients[bev].ended = true // written drops the client once it has got everything
		return
	}
	l.drop(bev)
}

func (l *loop) drop(bev *libevent.BufferEvent) {
	delete(l.clients, bev)
	bev.Free()
}
