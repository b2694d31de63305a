// Package evnet: as package net, but for who makes the connections.
package main

import (
	"context"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/benchmarks/contestants/internal/server"
	"github.com/go-libevent/libevent/evnet"
)

func main() {
	args := server.Parse()
	group, err := libevent.NewGroup(args.Loops, libevent.Config{CoarseTimer: true})
	server.Check(err)
	l, err := evnet.Listen(group, "tcp", args.Addr)
	server.Check(err)
	go func() { server.Check(group.Run(context.Background())) }()
	server.Ready()
	server.Serve(l, args.Sink)
}
