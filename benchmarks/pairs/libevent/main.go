// SPDX-License-Identifier: BSD-3-Clause

// Libevent sends a message back and forth between paired bufferevents, through Go closures.
// Compared with the same program in C, it shows what the binding itself costs.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-libevent/libevent"
)

var (
	size     = flag.Int("size", 64, "bytes of a message")
	pairs    = flag.Int("pairs", 1, "pairs that play at once")
	warm     = flag.Int("warm", 100, "`ms` that do not count")
	window   = flag.Int("window", 500, "`ms` that count")
	loopOnly = flag.Bool("looponly", false, "with OptLoopOnly")
)

func main() {
	flag.Parse()
	base, err := libevent.NewBase()
	check(err)
	opts := libevent.Options(0)
	if *loopOnly {
		opts = libevent.OptLoopOnly
	}
	count := 0
	read := func(bev *libevent.BufferEvent) {
		// The program in C checks the length too.
		if n := bev.Input().Len(); n != *size {
			check(fmt.Errorf("%d bytes of %d", n, *size))
		}
		count++
		check(bev.WriteBuffer(bev.Input()))
	}
	for range *pairs {
		a, b, err := base.NewPair(opts)
		check(err)
		for _, end := range []*libevent.BufferEvent{a, b} {
			check(end.SetCallbacks(read, nil, nil))
			check(end.Enable(libevent.EvRead))
		}
		_, err = a.Write(make([]byte, *size))
		check(err)
	}
	measure(base, &count)
}

// measure runs the loop, and prints the figures at the end of the window.
func measure(base *libevent.Base, count *int) {
	var counted int
	var began time.Time
	var cpuBegan int64
	after(base, *warm, func() { counted, began, cpuBegan = *count, time.Now(), cpu() })
	after(base, *warm+*window, func() {
		used, took := cpu()-cpuBegan, time.Since(began)
		fmt.Printf("{\"messages\":%d,\"ns\":%d,\"cpu\":%d}\n", *count-counted, took.Nanoseconds(), used)
		os.Exit(0)
	})
	check(base.Dispatch())
}

func after(base *libevent.Base, ms int, fn func()) {
	timer, err := base.NewTimer(fn)
	check(err)
	check(timer.Add(time.Duration(ms) * time.Millisecond))
}

func cpu() int64 {
	var t unix.Timespec
	check(unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t))
	return t.Nano()
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "libevent-pair:", err)
		os.Exit(1)
	}
}
