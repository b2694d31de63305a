// SPDX-License-Identifier: BSD-3-Clause

// Libevent is a server over this binding. With -copy a closure reads into a Go slice and writes
// the slice. With -receive a receiver does the same with what it takes from the socket. Otherwise the closure moves the input to the output, and the bytes do not pass
// through Go. With -plain libevent does all reading and writing. Without -nodelay
// accepted sockets have no TCP_NODELAY, as in libevent's book.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"net"
	"syscall"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/benchmarks/contestants/internal/server"
	"github.com/go-libevent/libevent/openssl"
)

var (
	copies  = flag.Bool("copy", false, "through a Go slice")
	receive = flag.Bool("receive", false, "from the socket to a Go slice")
	plain   = flag.Bool("plain", false, "without the fast path")
	nodelay = flag.Bool("nodelay", false, "with TCP_NODELAY")
)

func main() {
	args := server.Parse()
	// CoarseTimer is what event_base_new has in C, with which this server is compared.
	group, err := libevent.NewGroup(args.Loops, libevent.Config{CoarseTimer: true, PlainIO: *plain})
	server.Check(err)
	secure := newContext(args.TLS)
	loops := map[*libevent.Base]*loop{}
	for _, base := range group.Bases() {
		loops[base] = &loop{base: base, tls: secure, sink: args.Sink, buf: make([]byte, server.ReadSize)}
	}
	_, err = group.Listen("tcp", args.Addr, libevent.ListenOptions{Nagle: !*nodelay},
		func(l *libevent.Listener, fd int, _ net.Addr) { loops[l.Base()].accept(fd) })
	server.Check(err)
	server.Ready()
	server.Check(group.Run(context.Background()))
}

func newContext(file string) *openssl.Context {
	if file == "" {
		return nil
	}
	certificate, err := tls.LoadX509KeyPair(file, file)
	server.Check(err)
	context, err := openssl.NewServerContext(&openssl.Config{
		Certificates:           []tls.Certificate{certificate},
		SessionTicketsDisabled: true, // no client resumes a session
		// The others follow the client, which wants this one most.
		CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256},
	})
	server.Check(err)
	return context
}

type loop struct {
	base *libevent.Base
	tls  *openssl.Context // nil for plain TCP
	sink bool
	buf  []byte // for all connections: closures of a loop run one at a time
}

// socket has the methods of a bufferevent that accept needs, with TLS or without.
type socket interface {
	SetCallbacks(read, write func(*libevent.BufferEvent), event func(*libevent.BufferEvent, libevent.Events)) error
	Enable(libevent.What) error
	SetReceiver(func(*libevent.BufferEvent)) error
}

func (l *loop) newSocket(fd int) (socket, error) {
	if l.tls != nil {
		return l.tls.NewSocket(l.base, fd, libevent.OptCloseOnFree)
	}
	return l.base.NewSocket(fd, libevent.OptCloseOnFree)
}

func (l *loop) accept(fd int) {
	bev, err := l.newSocket(fd)
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
	if *receive {
		server.Check(bev.SetReceiver(l.receive))
	}
	server.Check(bev.SetCallbacks(read, nil, ended))
	server.Check(bev.Enable(libevent.EvRead))
}

// The read closures ignore errors: the event closure hears of a connection that has failed.

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

func (l *loop) receive(bev *libevent.BufferEvent) {
	for {
		n, _ := bev.Receive(l.buf)
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

func ended(bev *libevent.BufferEvent, what libevent.Events) {
	if what != libevent.EventConnected { // the handshake of TLS is done
		bev.Free()
	}
}
