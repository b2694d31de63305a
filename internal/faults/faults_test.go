// SPDX-License-Identifier: BSD-3-Clause

//go:build linux && cgo

package faults_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

var (
	all   = flag.Bool("all", false, "run all scenarios, not a selection")
	seeds = flag.Int("seeds", 3, "how often each scenario runs with system calls that fail at random")
)

// selection is what runs without -all.
var selection = []string{"base", "buffers", "echo", "files", "filter", "listen and connect", "pair", "post", "remove buffer", "run", "watermarks"}

// ofLibevent are the allocations and system calls whose failure libevent does not survive, or
// loses something by, and that nothing outside of libevent can foresee. docs/reliability.md
// explains each. inside names functions, or libraries, that are all in the stack of the call.
var ofLibevent = []struct {
	inside                []string
	crashes, hangs, exits bool
}{
	{inside: []string{"libevent_pthreads", "event_base_new_with_config"}, crashes: true, exits: true}, // the base has no lock
	{inside: []string{"bufferevent_pair_new"}, crashes: true},
	{inside: []string{"bufferevent_filter_new"}, crashes: true, hangs: true},
	{inside: []string{"libevent_openssl", "gtls_make"}, crashes: true, hangs: true},
	{inside: []string{"libevent_openssl", "BIO_write"}, hangs: true},
	{inside: []string{"libevent_openssl", "evbuffer_reserve_space"}, hangs: true},
	{inside: []string{"libevent_extra"}, crashes: true},             // evdns
	{inside: []string{"bufferevent_unsuspend_read_"}, hangs: true},  // by a rate limit
	{inside: []string{"bufferevent_unsuspend_write_"}, hangs: true}, // by a rate limit
}

// excused reports whether a run has ended as the list says.
func excused(e ended) bool {
	hung := len(e.Bugs) == 1 && strings.HasPrefix(e.Bugs[0], "nothing happens any more")
	for _, known := range ofLibevent {
		inside := !slices.ContainsFunc(known.inside, func(name string) bool { return !slices.Contains(e.failed, name) })
		exited := e.status == 1 && e.crashed == nil // by libevent's event_errx
		if inside && (known.crashes && e.crashed != nil || known.hangs && hung || known.exits && exited) {
			return true
		}
	}
	return false
}

// judge fails the test if a run went wrong by a fault of ours.
func judge(t *testing.T, e ended, err error) {
	if err != nil && excused(e) {
		t.Logf("libevent's own: %v", e.failed)
	} else if !assert.NoError(t, err) {
		t.Log(e.output)
	}
}

// each runs fn for each scenario.
func each(t *testing.T, fn func(t *testing.T, l *lab, scenario string)) {
	l := newLab(t)
	for _, name := range l.scenarios(t) {
		if *all || slices.Contains(selection, name) {
			t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) { fn(t, l, name) })
		}
	}
}

// TestAllocations lets each allocation fail in turn. What follows is an error, an event or
// success.
func TestAllocations(t *testing.T) {
	each(t, func(t *testing.T, l *lab, scenario string) {
		for k := 1; ; k++ {
			e, err := l.run(scenario, false, fmt.Sprintf("FAULTS_ALLOCATION=%d", k))
			judge(t, e, err)
			if err == nil && e.Allocations < k {
				t.Logf("%d allocations", e.Allocations)
				break
			}
		}
	})
}

// TestFreeAllocatesNothing lets every allocation fail from the beginning of Free on.
func TestFreeAllocatesNothing(t *testing.T) {
	each(t, func(t *testing.T, l *lab, scenario string) {
		e, err := l.run(scenario, true)
		judge(t, e, err)
	})
}

// TestSystemCalls lets system calls fail, and move less than they were asked to, at random.
func TestSystemCalls(t *testing.T) {
	each(t, func(t *testing.T, l *lab, scenario string) {
		for seed := range *seeds {
			e, err := l.run(scenario, false, fmt.Sprintf("FAULTS_SEED=%d", seed+1))
			judge(t, e, err)
		}
	})
}

// calls are system calls, each with an errno that is worth a run for its own sake.
var calls = map[string]syscall.Errno{
	"accept4": syscall.EMFILE, "connect": syscall.ENOBUFS, "epoll_ctl": syscall.ENOSPC, "eventfd": syscall.EMFILE,
	"pipe": syscall.EMFILE, "read": syscall.EINTR, "readv": syscall.ENOMEM, "recv": syscall.ECONNRESET,
	"send": syscall.ENOBUFS, "sendmsg": syscall.EPIPE, "socket": syscall.EMFILE, "write": syscall.EINTR,
	"writev": syscall.ENOBUFS,
}

// TestEachSystemCall lets the first calls of each name fail in turn.
func TestEachSystemCall(t *testing.T) {
	each(t, func(t *testing.T, l *lab, scenario string) {
		for name, errno := range calls {
			for k := 1; k <= 5; k++ {
				e, err := l.run(scenario, false, fmt.Sprintf("FAULTS_CALL=%s:%d:%d", name, errno, k))
				judge(t, e, err)
				if e.CallsLeft > 0 { // it made no k-th call
					break
				}
			}
		}
	})
}
