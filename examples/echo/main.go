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
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

// drainLimit is how long clients may read their rest when the server ends.
const drainLimit = 5 * time.Second

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

// serve runs a server until a signal ends it.
func serve(addr string, loops int) error {
	group, err := libevent.NewGroup(loops, libevent.Config{})
	if err != nil {
		return err
	}
	defer group.Free()
	var connections, bytes atomic.Int64
	server, err := group.Serve("tcp", addr, libevent.ServeOptions{}, func(*libevent.BufferEvent) libevent.Handler {
		connections.Add(1)
		// Without End and Error a client that ends gets its rest, and one that fails is
		// freed. MaxOutput is 1 MiB if it is not set.
		return libevent.Handler{Read: func(c *libevent.BufferEvent) {
			bytes.Add(int64(c.Input().Len()))
			_ = c.WriteBuffer(c.Input()) // without a copy
		}}
	})
	if err != nil {
		return err
	}
	until, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	printAddress(server, group)
	err = group.Run(until)
	stop() // a second signal kills the process
	if !errors.Is(err, context.Canceled) {
		return err
	}
	drain, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		fmt.Fprintln(os.Stderr, "echo: some clients have not read their rest:", err)
	}
	fmt.Printf("echo: %d connections, %d bytes, %d callbacks\n", connections.Load(), bytes.Load(), group.Stats().Callbacks)
	return nil
}

func printAddress(server *libevent.Server, group *libevent.Group) {
	fmt.Printf("echo: listening on %s, libevent %s, %s", server.Addr(), libevent.Version(), group.Bases()[0].Method())
	if group.Len() > 1 {
		fmt.Printf(", %d loops", group.Len())
	}
	fmt.Println()
}
