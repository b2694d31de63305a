// SPDX-License-Identifier: BSD-3-Clause

// Scenarios uses the packages of this module while memory and system calls fail. It runs the
// scenario that its argument names, with testdata/faults.c preloaded, which says what fails,
// and prints what came of it as a line of JSON. The tests of package faults start it.
//
// With a second argument, "free", nothing fails until the objects are freed; from then on no
// memory is left.
package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/faults/outcome"
	"github.com/go-libevent/libevent/openssl"
)

// scenarios are the functions that main may run. Each returns after the first error of a
// call, the first event that ends a connection, or when all went well.
var scenarios = map[string]func(*scene) error{}

func main() {
	if len(os.Args) < 2 {
		for name := range scenarios {
			fmt.Println(name)
		}
		return
	}
	scenario, freeing := scenarios[os.Args[1]], slices.Contains(os.Args[2:], "free")
	check(libevent.SetLogger(slog.New(slog.DiscardHandler)))
	// What is made once in a process is made here, and is no leak.
	check(perform(scenario, false).err)
	files := descriptors()
	var f faults
	f.begin()
	s := perform(scenario, freeing)
	f.end()
	said := outcome.Outcome{
		Allocations: f.allocations(), CallsLeft: f.callsLeft(), Bugs: s.bugs,
	}
	if s.err != nil {
		said.Error = s.err.Error()
	}
	said.Bugs = append(said.Bugs, leaks(files)...)
	check(json.NewEncoder(os.Stdout).Encode(said))
}

// leaks says what a scenario has left behind.
func leaks(files []string) (bugs []string) {
	if live := libevent.Live(); live != (libevent.LiveObjects{}) {
		bugs = append(bugs, fmt.Sprintf("leak: %+v", live))
	}
	if live := openssl.Live(); live != (openssl.LiveObjects{}) {
		bugs = append(bugs, fmt.Sprintf("leak: %+v", live))
	}
	if n := libevent.StaleCallbacks(); n != 0 {
		bugs = append(bugs, fmt.Sprintf("%d stale callbacks", n))
	}
	if left := descriptors(); !slices.Equal(left, files) {
		bugs = append(bugs, fmt.Sprintf("leak: descriptors %q, before %q", left, files))
	}
	if n := (faults{}).live(); n != 0 {
		bugs = append(bugs, fmt.Sprintf("leak: %d allocations", n))
	}
	return bugs
}

// descriptors lists the open descriptors. Go's poller, which opens some for itself, has run
// before.
func descriptors() (open []string) {
	runtime.GC() // files that package net has forgotten
	entries, err := os.ReadDir("/proc/self/fd")
	check(err)
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			open = append(open, e.Name()+" "+target)
		}
	}
	return open
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
