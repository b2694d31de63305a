// Echo gives every client back what it sends, byte for byte.
//
//	go run ./examples/echo -addr 127.0.0.1:9595
//
// A client that closes its writing side gets the rest of its bytes and then the
// end. One that sends without reading is not read from while it owes a megabyte.
// SIGINT or SIGTERM ends the server when the clients have got their bytes, or after
// five seconds.
package main

import (
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
	maxUnread  = 1 << 20 // bytes a client may owe us before we stop reading from it
	drainLimit = 5 * time.Second
)

func main() {
	flags := flag.NewFlagSet("echo", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	addr := flags.String("addr", "127.0.0.1:9595", "host and `port` to listen on")
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
		if err := serve(*addr); err != nil {
			fmt.Fprintln(os.Stderr, "echo:", err)
			os.Exit(1)
		}
	}
}

// server is touched by closures only, so by one goroutine.
type server struct {
	base     *libevent.Base
	listener *libevent.Listener
	signals  []*libevent.Event
	clients  map[*libevent.BufferEvent]*client

	connections, bytes int
}

// client is one connection.
type client struct {
	paused bool // not read from: it does not read
	ended  bool // it will send no more
}

func serve(addr string) error {
	base, err := libevent.NewBase()
	if err != nil {
		return err
	}
	defer base.Free()
	s := &server{base: base, clients: map[*libevent.BufferEvent]*client{}}
	if s.listener, err = base.Listen("tcp", addr, libevent.ListenOptions{}, s.accept); err != nil {
		return fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
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
	fmt.Printf("echo: listening on %s, libevent %s, %s\n", s.listener.Addr(), libevent.Version(), base.Method())
	if err := base.Dispatch(); err != nil {
		return err
	}
	fmt.Printf("echo: %d connections, %d bytes, %d callbacks\n", s.connections, s.bytes, base.Stats().Callbacks)
	return nil
}

func (s *server) accept(_ *libevent.Listener, fd int, _ net.Addr) {
	bev, err := s.base.NewSocket(fd, libevent.OptCloseOnFree)
	if err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		_ = syscall.Close(fd)
		return
	}
	s.connections++
	s.clients[bev] = &client{}
	// The write closure is called when a client that owed too much owes half.
	err = errors.Join(
		bev.SetCallbacks(s.read, s.written, s.event),
		bev.SetWatermark(libevent.EvWrite, maxUnread/2, 0),
		bev.Enable(libevent.EvRead))
	if err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		s.drop(bev)
	}
}

func (s *server) read(bev *libevent.BufferEvent) {
	s.bytes += bev.Input().Len()
	if err := bev.Output().AddBuffer(bev.Input()); err != nil {
		s.drop(bev)
		return
	}
	if bev.Output().Len() >= maxUnread {
		s.clients[bev].paused = true
		_ = bev.Disable(libevent.EvRead)
	}
}

func (s *server) written(bev *libevent.BufferEvent) {
	c := s.clients[bev]
	switch {
	case c.ended && bev.Output().Len() == 0:
		s.drop(bev)
	case c.paused && !c.ended:
		c.paused = false
		_ = bev.Enable(libevent.EvRead)
	}
}

func (s *server) event(bev *libevent.BufferEvent, what libevent.Events) {
	if what&libevent.EventEOF != 0 && bev.Output().Len() > 0 {
		s.clients[bev].ended = true // written drops it
		return
	}
	s.drop(bev)
}

func (s *server) drop(bev *libevent.BufferEvent) {
	delete(s.clients, bev)
	bev.Free()
}

// stop leaves nothing on the base but clients that are owed something, for a while.
// A second signal finds no handler and kills.
func (s *server) stop(os.Signal) {
	s.listener.Free()
	for _, e := range s.signals {
		e.Free()
	}
	for bev := range s.clients {
		_ = bev.FreeAfterFlush(drainLimit)
	}
}
