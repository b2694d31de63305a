// SPDX-License-Identifier: BSD-3-Clause

// Http is net/http's server, over evnet or, with -net, over package net. It answers every
// request with as many bytes as the path says, for example /1024.
package main

import (
	"flag"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/benchmarks/contestants/internal/server"
	"github.com/go-libevent/libevent/evnet"
)

var plain = flag.Bool("net", false, "over package net")

// most is how many bytes a path may ask for.
const most = 1 << 20

func main() {
	args := server.Parse()
	l, err := listen(args)
	server.Check(err)
	server.Ready()
	server.Check(http.Serve(l, http.HandlerFunc(answer)))
}

func listen(args server.Args) (net.Listener, error) {
	if *plain {
		return net.Listen("tcp", args.Addr)
	}
	base, err := libevent.NewBaseConfig(libevent.Config{CoarseTimer: true})
	server.Check(err)
	l, err := evnet.Listen(base, "tcp", args.Addr)
	go func() { server.Check(base.Dispatch()) }() // it does not end, as there is a listener
	return l, err
}

var body = make([]byte, most)

func answer(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
	if err != nil || size < 0 || size > most {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(size))
	_, _ = w.Write(body[:size])
}
