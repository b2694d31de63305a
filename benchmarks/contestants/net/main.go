// Package net: a goroutine for each connection, which reads and writes.
package main

import (
	"net"

	"github.com/go-libevent/libevent/benchmarks/contestants/internal/server"
)

func main() {
	args := server.Parse()
	l, err := net.Listen("tcp", args.Addr)
	server.Check(err)
	server.Ready()
	server.Serve(l, args.Sink)
}
