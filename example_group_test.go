// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

// An echo server on two loops, which get the clients in turn. A counter that closures of
// both loops use has to be atomic. The data of one connection need no lock.
func ExampleGroup() {
	group, err := libevent.NewGroup(2, libevent.Config{}) // 0 is one for each core
	if err != nil {
		fmt.Println(err)
		return
	}
	defer group.Free()

	var served atomic.Int64
	l, err := group.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{},
		func(l *libevent.Listener, fd int, _ net.Addr) {
			bev, err := l.Base().NewSocket(fd, libevent.OptCloseOnFree) // the loop that runs this closure
			if err != nil {
				fmt.Println(err)
				_ = syscall.Close(fd)
				return
			}
			_ = bev.SetCallbacks(
				func(bev *libevent.BufferEvent) { _ = bev.WriteBuffer(bev.Input()) },
				nil,
				func(bev *libevent.BufferEvent, _ libevent.Events) {
					served.Add(1)
					_ = bev.FreeAfterFlush(time.Second)
				})
			_ = bev.Enable(libevent.EvRead)
		})
	if err != nil {
		fmt.Println(err)
		return
	}

	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		for i := range 4 {
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				fmt.Println(err)
				return
			}
			fmt.Fprintf(conn, "hello %d", i)
			_ = conn.(*net.TCPConn).CloseWrite()
			answer, _ := io.ReadAll(conn)
			fmt.Printf("%s\n", answer)
			_ = conn.Close()
		}
	}()
	if err := group.Run(ctx); !errors.Is(err, context.Canceled) {
		fmt.Println(err)
	}
	fmt.Println(served.Load(), "clients")
	// Output:
	// hello 0
	// hello 1
	// hello 2
	// hello 3
	// 4 clients
}
