// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/go-libevent/libevent"
)

// A server gives back what clients send. A client that ends gets its rest, one that does not
// read is not read from, and Shutdown ends the server in order.
func ExampleBase_Serve() {
	base, err := libevent.NewBase()
	if err != nil {
		panic(err)
	}
	defer base.Free()
	server, err := base.Serve("tcp", "127.0.0.1:0", libevent.ServeOptions{}, func(*libevent.BufferEvent) libevent.Handler {
		return libevent.Handler{Read: func(c *libevent.BufferEvent) { c.WriteBuffer(c.Input()) }}
	})
	if err != nil {
		panic(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	go func() { // a client
		defer stop()
		conn, err := net.Dial("tcp", server.Addr().String())
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "hello")
		conn.(*net.TCPConn).CloseWrite()
		answer, _ := io.ReadAll(conn)
		fmt.Printf("%s\n", answer)
	}()
	fmt.Println(base.Run(ctx))

	limit, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	fmt.Println(server.Shutdown(limit))
	// Output:
	// hello
	// context canceled
	// <nil>
}

// A client sends a line and prints the answer.
func ExampleBufferEvent_Handle() {
	base, err := libevent.NewBase()
	if err != nil {
		panic(err)
	}
	defer base.Free()
	server, err := base.Serve("tcp", "127.0.0.1:0", libevent.ServeOptions{}, func(*libevent.BufferEvent) libevent.Handler {
		return libevent.Handler{Read: func(c *libevent.BufferEvent) {
			for line, err := range c.Input().BoundedLines(libevent.EOLCRLF, 1024) {
				if err != nil {
					c.Free()
					return
				}
				fmt.Fprintf(c, "you said %q\r\n", line)
			}
		}}
	})
	if err != nil {
		panic(err)
	}
	client, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	if err != nil {
		panic(err)
	}
	err = errors.Join(client.Handle(libevent.Handler{
		Connected: func(c *libevent.BufferEvent) { c.WriteString("hello\r\n") },
		Read: func(c *libevent.BufferEvent) {
			if line, ok := c.Input().ReadLine(libevent.EOLCRLF); ok {
				fmt.Printf("%s\n", line)
				base.LoopBreak()
			}
		},
		Error: func(_ *libevent.BufferEvent, err error) { fmt.Println(err); base.LoopBreak() },
	}), client.ConnectTo(nil, "tcp", server.Addr().String()))
	if err != nil {
		panic(err)
	}
	fmt.Println(base.Run(context.Background()))
	// Output:
	// you said "hello"
	// <nil>
}

// The connections of this server have a filter that replaces each byte by its complement, in both
// directions. The closures of the Handler get the filter.
func ExampleBase_Serve_filter() {
	complement := func(src, dst *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
		p, _ := io.ReadAll(src)
		if len(p) == 0 {
			return libevent.FilterNeedMore, nil
		}
		for i := range p {
			p[i] = ^p[i]
		}
		return libevent.FilterOK, dst.Add(p)
	}
	base, err := libevent.NewBase()
	if err != nil {
		panic(err)
	}
	defer base.Free()
	server, err := base.Serve("tcp", "127.0.0.1:0", libevent.ServeOptions{}, func(c *libevent.BufferEvent) libevent.Handler {
		if _, err := libevent.NewFilter(c, complement, complement, libevent.OptCloseOnFree); err != nil {
			fmt.Println(err)
			c.Free()
		}
		return libevent.Handler{Read: func(c *libevent.BufferEvent) {
			p, _ := io.ReadAll(c.Input())
			fmt.Printf("the server reads %q\n", p)
			c.WriteString("bye")
		}}
	})
	if err != nil {
		panic(err)
	}
	defer server.Close()

	ctx, stop := context.WithCancel(context.Background())
	go func() { // a client
		defer stop()
		conn, err := net.Dial("tcp", server.Addr().String())
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		conn.Write([]byte{^byte('h'), ^byte('i')})
		answer := make([]byte, 3)
		io.ReadFull(conn, answer)
		fmt.Println(answer)
	}()
	base.Run(ctx)
	// Output:
	// the server reads "hi"
	// [157 134 154]
}
