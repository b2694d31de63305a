// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

// Of the events that are due, those with the lowest number run first.
func ExampleNewBaseConfig() {
	base, _ := libevent.NewBaseConfig(libevent.Config{Priorities: 3})
	defer base.Free()
	for _, priority := range []int{2, 0, 1} {
		e, _ := base.NewEvent(-1, 0, func(int, libevent.What) { fmt.Println("priority", priority) })
		_ = e.SetPriority(priority)
		_ = e.Active(libevent.EvRead)
	}
	_ = base.Dispatch()
	// Output:
	// priority 0
	// priority 1
	// priority 2
}

// A loop on a goroutine of its own, until the context ends.
func ExampleBase_Run() {
	base, _ := libevent.NewBase()
	defer base.Free()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- base.Run(ctx) }()

	_ = base.Post(func() { fmt.Println("the loop runs") })
	_ = base.Post(cancel)
	fmt.Println(<-done)
	// Output:
	// the loop runs
	// context canceled
}

// A panic in a closure ends the loop and comes out of Dispatch. The base can be used
// further.
func ExamplePanicError() {
	base, _ := libevent.NewBase()
	defer base.Free()
	_ = base.Post(func() { panic("a closure went wrong") })
	_ = base.Post(func() { fmt.Println("what was pending goes on") })
	func() {
		defer func() {
			caught := recover().(*libevent.PanicError)
			fmt.Println(caught.Value)
		}()
		_ = base.Dispatch()
	}()
	_ = base.Dispatch()
	// Output:
	// a closure went wrong
	// what was pending goes on
}

// An event waits for any descriptor, here for one end of a pipe.
func ExampleBase_NewEvent() {
	base, _ := libevent.NewBase()
	defer base.Free()
	var pipe [2]int
	_ = syscall.Pipe(pipe[:])
	defer syscall.Close(pipe[0])
	defer syscall.Close(pipe[1])

	e, _ := base.NewEvent(pipe[0], libevent.EvRead, func(fd int, what libevent.What) {
		p := make([]byte, 16)
		n, _ := syscall.Read(fd, p)
		fmt.Printf("%v: %s\n", what, p[:n])
	})
	_ = e.Add(-1) // with no timeout
	_, _ = syscall.Write(pipe[1], []byte("ready"))
	_ = base.Dispatch()
	// Output: EV_READ: ready
}

// Many timers of the same length are kept in one queue.
func ExampleBase_NewCommonTimeout() {
	base, _ := libevent.NewBase()
	defer base.Free()
	idle, _ := base.NewCommonTimeout(5 * time.Millisecond)
	for i := range 3 {
		timer, _ := base.NewTimer(func() { fmt.Println("timer", i) })
		_ = timer.AddCommon(idle)
	}
	_ = base.Dispatch()
	// Output:
	// timer 0
	// timer 1
	// timer 2
}

// Stats counts what lives on a base, and what the base has done.
func ExampleBase_Stats() {
	base, _ := libevent.NewBase()
	defer base.Free()
	_, _, _ = base.NewPair(0)
	_, _ = base.NewTimer(func() {})
	_ = base.Post(func() {})
	_ = base.Dispatch()
	stats := base.Stats()
	fmt.Println("bufferevents:", stats.BufferEvents, "events:", stats.Events, "callbacks:", stats.Callbacks)
	// Output: bufferevents: 2 events: 1 callbacks: 1
}

// A test can check that it has left nothing behind.
func ExampleLive() {
	before := libevent.Live()
	base, _ := libevent.NewBase()
	_, _ = base.NewSocket(-1, 0)
	fmt.Println("bufferevents:", libevent.Live().BufferEvents-before.BufferEvents)
	_ = base.Free() // with all that lives on it
	fmt.Println("the same as before:", libevent.Live() == before)
	// Output:
	// bufferevents: 1
	// the same as before: true
}

// Messages of libevent go to a logger of package slog. Here libevent has no message, so
// there is no output.
func ExampleSetLogger() {
	handler := slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelWarn})
	if err := libevent.SetLogger(slog.New(handler)); err != nil {
		fmt.Println(err)
		return
	}
	defer libevent.SetLogger(nil) // libevent writes to standard error again
	base, _ := libevent.NewBase()
	_ = base.Free()
	// Output:
}

// An error says which function failed, and matches its cause.
func ExampleError() {
	base, _ := libevent.NewBase()
	defer base.Free()
	bev, _ := base.NewSocket(-1, 0)
	err := bev.SetWatermark(libevent.EvRead, 100, 10)
	fmt.Println(err)
	fmt.Println(errors.Is(err, syscall.EINVAL))
	bev.Free()
	_, err = bev.WriteString("too late")
	fmt.Println(errors.Is(err, libevent.ErrClosed))
	// Output:
	// libevent: bufferevent_setwatermark: low 100 is above high 10: the read closure would never be called
	// true
	// true
}
