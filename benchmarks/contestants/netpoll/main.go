// SPDX-License-Identifier: BSD-3-Clause

// Netpoll is a server over netpoll. A poller for each loop reads, and goroutines run the
// handler. The handler uses the buffers of the connection, so large pieces are not copied.
package main

import (
	"context"
	"io"

	"github.com/cloudwego/netpoll"

	"github.com/go-libevent/libevent/benchmarks/contestants/internal/server"
)

func echo(_ context.Context, c netpoll.Connection) error {
	r, w := c.Reader(), c.Writer()
	buf, err := r.Next(r.Len())
	if err != nil {
		return err
	}
	if _, err := w.WriteBinary(buf); err != nil {
		return err
	}
	if err := w.Flush(); err != nil { // it waits until everything is written
		return err
	}
	return r.Release()
}

type counterKey struct{}

func opened(c netpoll.Connection) context.Context {
	return context.WithValue(context.Background(), counterKey{}, new(server.Counter))
}

func sink(ctx context.Context, c netpoll.Connection) error {
	r, n := c.Reader(), c.Reader().Len()
	if err := r.Skip(n); err != nil {
		return err
	}
	if err := r.Release(); err != nil {
		return err
	}
	if answer := ctx.Value(counterKey{}).(*server.Counter).Add(n); len(answer) > 0 {
		if _, err := c.Writer().WriteBinary(answer); err != nil {
			return err
		}
		return c.Writer().Flush()
	}
	return nil
}

func main() {
	args := server.Parse()
	server.Check(netpoll.Configure(netpoll.Config{PollerNum: args.Loops, LoggerOutput: io.Discard}))
	handler, options := echo, []netpoll.Option(nil)
	if args.Sink {
		handler, options = sink, []netpoll.Option{netpoll.WithOnPrepare(opened)}
	}
	l, err := netpoll.CreateListener("tcp", args.Addr)
	server.Check(err)
	loop, err := netpoll.NewEventLoop(handler, options...)
	server.Check(err)
	server.Ready()
	server.Check(loop.Serve(l))
}
