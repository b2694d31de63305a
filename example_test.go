// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

// A server and a client on one loop: accept, connect, echo, half-close.
func Example() {
	base, err := libevent.NewBase()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer base.Free()

	server, err := base.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{},
		func(l *libevent.Listener, fd int, _ net.Addr) {
			l.Free() // one client is enough here
			bev, err := base.NewSocket(fd, libevent.OptCloseOnFree)
			if err != nil {
				fmt.Println(err)
				return
			}
			_ = bev.SetCallbacks(
				func(bev *libevent.BufferEvent) { _ = bev.WriteBuffer(bev.Input()) },
				nil,
				func(bev *libevent.BufferEvent, _ libevent.Events) { _ = bev.FreeAfterFlush(time.Second) })
			_ = bev.Enable(libevent.EvRead)
		})
	if err != nil {
		fmt.Println(err)
		return
	}

	client, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = client.SetCallbacks(nil, nil, func(bev *libevent.BufferEvent, what libevent.Events) {
		switch {
		case what&libevent.EventConnected != 0:
			_, _ = bev.WriteString("hello, libevent")
			_ = bev.CloseWrite()
		case what&libevent.EventEOF != 0:
			answer, _ := io.ReadAll(bev)
			fmt.Printf("%s\n", answer)
			bev.Free()
		default:
			fmt.Println(bev.Err())
			bev.Free()
		}
	})
	_ = client.Enable(libevent.EvRead)
	if err := client.Connect("tcp", server.Addr().String()); err != nil {
		fmt.Println(err)
		return
	}
	_ = base.Dispatch() // until nothing is left on the base
	// Output: hello, libevent
}

// Watermarks say how many bytes a closure wants at least, and how many are buffered at
// most.
func ExampleBufferEvent_SetWatermark() {
	base, _ := libevent.NewBase()
	defer base.Free()
	a, b, _ := base.NewPair(0)

	// b reads four bytes at a time, and never buffers more than eight.
	_ = b.SetWatermark(libevent.EvRead, 4, 8)
	_ = b.SetCallbacks(func(b *libevent.BufferEvent) {
		p := make([]byte, 4)
		n, _ := b.Read(p)
		fmt.Printf("%s\n", p[:n])
	}, nil, nil)
	_ = b.Enable(libevent.EvRead)
	_, _ = a.WriteString("onlyfourbyteslong")
	_ = base.Dispatch()
	fmt.Println("left:", b.Input().Len())
	// Output:
	// only
	// four
	// byte
	// slon
	// left: 1
}

func ExampleBase_Post() {
	base, _ := libevent.NewBase()
	defer base.Free()
	go func() {
		// Any goroutine may post. The function runs on the loop's goroutine.
		_ = base.Post(func() {
			fmt.Println("on the loop")
			_ = base.LoopBreak()
		})
	}()
	_ = base.Loop(libevent.LoopNoExitOnEmpty)
	// Output: on the loop
}

func ExampleBase_NewTimer() {
	base, _ := libevent.NewBase()
	defer base.Free()
	timer, _ := base.NewTimer(func() { fmt.Println("now") })
	_ = timer.Add(10 * time.Millisecond)
	_ = base.Dispatch()
	// Output: now
}

func ExampleBase_NewSignal() {
	base, _ := libevent.NewBase()
	defer base.Free()
	var e *libevent.Event
	e, _ = base.NewSignal(syscall.SIGUSR1, func(sig os.Signal) {
		fmt.Println("got", sig)
		e.Free() // nothing is left to wait for, and Dispatch returns
	})
	_ = e.Add(-1)
	_ = syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	_ = base.Dispatch()
	// Output: got user defined signal 1
}

func ExampleBuffer_Peek() {
	b, _ := libevent.NewBuffer()
	defer b.Free()
	_ = b.Add([]byte("no copy is made"))
	_ = b.Peek(func(spans [][]byte) {
		for _, span := range spans {
			fmt.Printf("%s\n", span) // dies when this function returns
		}
	})
	// Output: no copy is made
}

func ExampleBuffer_Lines() {
	b, _ := libevent.NewBuffer()
	defer b.Free()
	_, _ = b.Write([]byte("one\r\ntwo\nthree, not yet whole"))
	for line := range b.Lines(libevent.EOLCRLF) {
		fmt.Printf("%s\n", line)
	}
	fmt.Println("left:", b.Len(), "bytes")
	// Output:
	// one
	// two
	// left: 20 bytes
}
