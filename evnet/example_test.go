// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/evnet"
)

// run runs a loop on a goroutine; stop ends it and frees it.
func run(base *libevent.Base) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- base.Run(ctx) }()
	return func() {
		cancel()
		<-done
		_ = base.Free()
	}
}

// An HTTP server and its client share a libevent loop.
func Example() {
	base, err := libevent.NewBase()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer run(base)()

	l, err := evnet.Listen(base, "tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello over libevent")
	})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()

	dialer := evnet.Dialer{Loop: base, Timeout: time.Second}
	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://" + l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	fmt.Println(string(text), err)
	// Output: hello over libevent <nil>
}

// Each connection has a goroutine that blocks in Read and Write.
func ExampleListen() {
	base, err := libevent.NewBase()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer run(base)()
	l, err := evnet.Listen(base, "tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()

	conn, err := (&evnet.Dialer{Loop: base}).Dial("tcp", l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	fmt.Fprint(conn, "echo")
	_ = conn.(*evnet.Conn).CloseWrite()
	text, err := io.ReadAll(conn)
	fmt.Println(string(text), err)
	// Output: echo <nil>
}

// The context or the Timeout ends a Dial that takes too long.
func ExampleDialer() {
	base, err := libevent.NewBase()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer run(base)()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	dialer := evnet.Dialer{Loop: base, Timeout: 3 * time.Second, KeepAlive: time.Minute}
	_, err = dialer.DialContext(ctx, "tcp", "127.0.0.1:1")
	fmt.Println(err)
	// Output: dial tcp 127.0.0.1:1: operation was canceled
}

// NewConn takes any kind of bufferevent. Here it takes one end of a pair, whose other end
// closures serve.
func ExampleNewConn() {
	base, err := libevent.NewBase()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer run(base)()
	ours, theirs, err := base.NewPair(0)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = theirs.SetCallbacks(func(bev *libevent.BufferEvent) {
		_ = bev.WriteBuffer(bev.Input())
	}, nil, nil)
	_ = theirs.Enable(libevent.EvRead)

	conn, err := evnet.NewConn(ours)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprint(conn, "through closures")
	p := make([]byte, 16)
	_, err = io.ReadFull(conn, p)
	fmt.Println(string(p), err)
	// Output: through closures <nil>
}
