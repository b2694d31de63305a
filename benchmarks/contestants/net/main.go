// SPDX-License-Identifier: BSD-3-Clause

// Net is a server over package net, with a goroutine for each connection. Its TLS is
// crypto/tls.
package main

import (
	"crypto/tls"
	"net"

	"github.com/go-libevent/libevent/benchmarks/contestants/internal/server"
)

func main() {
	args := server.Parse()
	l, err := net.Listen("tcp", args.Addr)
	server.Check(err)
	if args.TLS != "" {
		certificate, err := tls.LoadX509KeyPair(args.TLS, args.TLS)
		server.Check(err)
		l = tls.NewListener(l, &tls.Config{
			Certificates:           []tls.Certificate{certificate},
			SessionTicketsDisabled: true, // no client resumes a session
		})
	}
	server.Ready()
	server.Serve(l, args.Sink)
}
