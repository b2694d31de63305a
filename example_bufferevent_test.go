// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

// Two bufferevents without a descriptor, each of which reads what the other writes.
func ExampleBase_NewPair() {
	base, _ := libevent.NewBase()
	defer base.Free()
	a, b, _ := base.NewPair(0)
	_ = b.SetCallbacks(func(b *libevent.BufferEvent) {
		line, ok := b.Input().ReadLine(libevent.EOLLF)
		fmt.Printf("%s %v\n", line, ok)
	}, nil, nil)
	_ = b.Enable(libevent.EvRead)
	_, _ = fmt.Fprintln(a, "to the other end")
	_ = base.Dispatch()
	// Output: to the other end true
}

// A bufferevent takes over any stream socket, here one end of a socketpair.
func ExampleBase_NewSocket() {
	base, _ := libevent.NewBase()
	defer base.Free()
	fds, _ := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	defer syscall.Close(fds[1])
	bev, err := base.NewSocket(fds[0], libevent.OptCloseOnFree)
	if err != nil {
		_ = syscall.Close(fds[0]) // the other end is not the bufferevent's
		return
	}
	_, _ = bev.WriteString("hello")
	_ = bev.FreeAfterFlush(time.Second)
	_ = base.Dispatch()
	p := make([]byte, 16)
	n, _ := syscall.Read(fds[1], p)
	fmt.Printf("%s\n", p[:n])
	// Output: hello
}

// The cause of a failure is in Err.
func ExampleBufferEvent_Connect() {
	base, _ := libevent.NewBase()
	defer base.Free()
	bev, _ := base.NewSocket(-1, libevent.OptCloseOnFree)
	_ = bev.SetCallbacks(nil, nil, func(bev *libevent.BufferEvent, what libevent.Events) {
		fmt.Println(what, errors.Is(bev.Err(), syscall.ECONNREFUSED))
		bev.Free()
	})
	ln, _ := net.Listen("tcp", "127.0.0.1:0")
	_ = ln.Close() // no socket listens on the address now
	if err := bev.Connect("tcp", ln.Addr().String()); err != nil {
		fmt.Println(err)
	}
	_ = base.Dispatch()
	// Output: BEV_EVENT_ERROR true
}

// A read timeout ends the wait for a peer that sends nothing.
func ExampleBufferEvent_SetTimeouts() {
	base, _ := libevent.NewBase()
	defer base.Free()
	_, bev, _ := base.NewPair(0)
	_ = bev.SetTimeouts(5*time.Millisecond, 0)
	_ = bev.SetCallbacks(nil, nil, func(bev *libevent.BufferEvent, what libevent.Events) {
		fmt.Println(what)
		fmt.Println(errors.Is(bev.Err(), os.ErrDeadlineExceeded), "still on:", bev.Enabled())
	})
	_ = bev.Enable(libevent.EvRead)
	_ = base.Dispatch()
	// Output:
	// BEV_EVENT_READING|BEV_EVENT_TIMEOUT
	// true still on: EV_WRITE
}

// On a pair Flush moves what is written though the other end does not read yet.
func ExampleBufferEvent_Flush() {
	base, _ := libevent.NewBase()
	defer base.Free()
	a, b, _ := base.NewPair(0)
	_ = b.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, what libevent.Events) { fmt.Println(what) })
	_, _ = a.WriteString("all of it")
	_, _ = a.Flush(libevent.EvWrite, libevent.FlushFinished)
	fmt.Println(b.Input().Len(), "bytes")
	_ = base.Dispatch()
	// Output:
	// 9 bytes
	// BEV_EVENT_READING|BEV_EVENT_EOF
}

// A client says that its request is complete, and goes on reading.
func ExampleBufferEvent_CloseWrite() {
	base, _ := libevent.NewBase()
	defer base.Free()
	a, b, _ := base.NewPair(0)
	_ = b.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, _ libevent.Events) {
		question, _ := io.ReadAll(b)
		_, _ = fmt.Fprintf(b, "%s? Yes.", question)
		_ = b.CloseWrite()
	})
	_ = a.SetCallbacks(nil, nil, func(a *libevent.BufferEvent, _ libevent.Events) {
		answer, _ := io.ReadAll(a)
		fmt.Printf("%s\n", answer)
	})
	_ = a.Enable(libevent.EvRead)
	_ = b.Enable(libevent.EvRead)
	_, _ = a.WriteString("Is that all")
	_ = a.CloseWrite()
	_ = base.Dispatch()
	// Output: Is that all? Yes.
}

// A closure that leaves bytes in the input can ask to be called again.
func ExampleBufferEvent_Trigger() {
	base, _ := libevent.NewBase()
	defer base.Free()
	a, b, _ := base.NewPair(0)
	_ = b.SetCallbacks(func(b *libevent.BufferEvent) {
		line, _ := b.Input().ReadLine(libevent.EOLLF)
		fmt.Printf("%s\n", line)
		if b.Input().Len() > 0 { // take one line in each turn
			_ = b.Trigger(libevent.EvRead, 0)
		}
	}, nil, nil)
	_ = b.Enable(libevent.EvRead)
	_, _ = a.WriteString("one\ntwo\n")
	_ = base.Dispatch()
	// Output:
	// one
	// two
}

// The event closure can be asked for as well, here to have the end in one place.
func ExampleBufferEvent_TriggerEvent() {
	base, _ := libevent.NewBase()
	defer base.Free()
	bev, _, _ := base.NewPair(0)
	_ = bev.SetCallbacks(nil, nil, func(bev *libevent.BufferEvent, what libevent.Events) {
		fmt.Println(what)
		bev.Free()
	})
	_ = bev.TriggerEvent(libevent.EventEOF)
	_ = base.Dispatch()
	// Output: BEV_EVENT_EOF
}

// A socket that was made on one loop is served by another.
func ExampleBufferEvent_SetBase() {
	front, _ := libevent.NewBase()
	defer front.Free()
	worker, _ := libevent.NewBase()
	defer worker.Free()
	fds, _ := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	defer syscall.Close(fds[1])
	_, _ = syscall.Write(fds[1], []byte("work"))

	bev, _ := front.NewSocket(fds[0], libevent.OptCloseOnFree)
	if err := bev.SetBase(worker); err != nil {
		fmt.Println(err)
		return
	}
	_ = bev.SetCallbacks(func(bev *libevent.BufferEvent) {
		work, _ := io.ReadAll(bev.Input())
		fmt.Printf("%s is done by the worker: %v\n", work, bev.Base() == worker)
		bev.Free()
	}, nil, nil)
	_ = bev.Enable(libevent.EvRead)
	_ = worker.Dispatch()
	// Output: work is done by the worker: true
}
