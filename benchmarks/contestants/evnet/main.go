// SPDX-License-Identifier: BSD-3-Clause

// Evnet is the server of contestant net, over package evnet.
package main

import (
	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/benchmarks/contestants/internal/server"
	"github.com/go-libevent/libevent/evnet"
)

func main() {
	args := server.Parse()
	base, err := libevent.NewBaseConfig(libevent.Config{CoarseTimer: true})
	server.Check(err)
	l, err := evnet.Listen(base, "tcp", args.Addr)
	server.Check(err)
	go func() { server.Check(base.Dispatch()) }() // it does not end, as there is a listener
	server.Ready()
	server.Serve(l, args.Sink)
}
