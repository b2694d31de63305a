// This binding. With -copy a closure reads into a Go slice and writes that; otherwise
// it moves the input to the output and Go never sees the bytes. With -plain libevent does
// all reading and writing by itself. -nodelay sets TCP_NODELAY, as the peers in Go do.
package main

import (
	"context"
	"flag"
	"net"
	"syscall"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/benchmarks/contestants/internal/server"
)

var (
	copies  = flag.Bool("copy", false, "through a Go slice")
	plain   = flag.Bool("plain", false, "without the fast path")
	nodelay = flag.Bool("nodelay", false, "with TCP_NODELAY")
)

func main() {
	args := server.Parse()
	// The timers of C's event_base_new, which is what it is compared with.
	group, err := libevent.NewGroup(args.Loops, libevent.Config{CoarseTimer: true, PlainIO: *plain})
	server.Check(err)
	loops := map[*libevent.Base]*loop{}
	for _, base := range group.Bases() {
		loops[base] = &loop{base: base, sink: args.Sink, buf: make([]byte, server.ReadSize)}
	}
	listener, err := group.Listen("tcp", args.Addr, libevent.ListenOptions{},
		func(l *libevent.Listener, fd int, _ net.Addr) { loops[l.Base()].accept(fd) })
	server.Check(err)
	if *nodelay { // accepted sockets inherit it
		server.Check(syscall.SetsockoptInt(listener.FD(), syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1))
	}
	server.Ready()
	server.Check(group.Run(context.Background()))
}

type loop struct {
	base *libevent.Base
	sink bool
	buf  []byte // closures run one at a time
}

func (l *loop) accept(fd int) {
	bev, err := l.base.NewSocket(fd, libevent.OptCloseOnFree)
	if err != nil {
		_ = syscall.Close(fd)
		server.Check(err)
	}
	read := move
	switch {
	case l.sink && *copies:
		read = l.sinkCopy(new(server.Counter))
	case l.sink:
		read = sink(new(server.Counter))
	case *copies:
		read = l.copy
	}
	server.Check(bev.SetCallbacks(read, nil, ended))
	server.Check(bev.Enable(libevent.EvRead))
}

// What fails on a connection that ends is told to ended.

func move(bev *libevent.BufferEvent) { _ = bev.WriteBuffer(bev.Input()) }

func (l *loop) copy(bev *libevent.BufferEvent) {
	for {
		n, _ := bev.Read(l.buf)
		if n > 0 {
			_, _ = bev.Write(l.buf[:n])
		}
		if n < len(l.buf) {
			return
		}
	}
}

func sink(total *server.Counter) func(*libevent.BufferEvent) {
	return func(bev *libevent.BufferEvent) {
		n := bev.Input().Len()
		_ = bev.Input().Drain(n)
		if answer := total.Add(n); len(answer) > 0 {
			_, _ = bev.Write(answer)
		}
	}
}

func (l *loop) sinkCopy(total *server.Counter) func(*libevent.BufferEvent) {
	return func(bev *libevent.BufferEvent) {
		for {
			n, _ := bev.Read(l.buf)
			if answer := total.Add(n); len(answer) > 0 {
				_, _ = bev.Write(answer)
			}
			if n < len(l.buf) {
				return
			}
		}
	}
}

func ended(bev *libevent.BufferEvent, _ libevent.Events) { bev.Free() }
