// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"time"

	"github.com/go-libevent/libevent/benchmarks/report"
)

// contestant is a server or a program of pairs. The others of a scenario are compared with its
// first.
type contestant struct {
	name    string
	program string
	args    []string
}

// servers are the contestants of most scenarios. The peers in Go set TCP_NODELAY by themselves.
// C libevent is measured with and without it, because TCP_NODELAY makes large echoes quicker but
// costs more CPU. Compare libevent-plain with c-book.
var servers = []contestant{
	{"c-book", "c-book", nil},
	{"c-book-nodelay", "c-book", []string{"-nodelay"}},
	{"c-epoll", "c-epoll", []string{"-nodelay"}},
	{"libevent-move", "libevent", []string{"-nodelay"}},
	{"libevent-copy", "libevent", []string{"-nodelay", "-copy"}},
	{"libevent-plain", "libevent", []string{"-plain"}},
	{"net", "net", nil},
	{"gnet", "gnet", nil},
	{"netpoll", "netpoll", nil},
	{"nbio", "nbio", nil},
}

// blocking are the contestants with a goroutine for each connection. They get as many cores as
// the scenario has loops; evnet's one loop runs on the same cores.
var blocking = []contestant{
	{"net", "net", nil},
	{"evnet", "evnet", nil},
}

var pairs = []contestant{
	{"c-pair", "c-pair", nil},
	{"c-pair-locked", "c-pair", []string{"-locked"}},
	{"libevent-pair", "libevent-pair", nil},
	{"libevent-pair-looponly", "libevent-pair", []string{"-looponly"}},
}

// tlsServers are the contestants with TLS. All of them set TCP_NODELAY.
var tlsServers = []contestant{
	{"c-book-nodelay", "c-book", []string{"-nodelay"}},
	{"c-epoll", "c-epoll", []string{"-nodelay"}},
	{"libevent-move", "libevent", []string{"-nodelay"}},
	{"libevent-copy", "libevent", []string{"-nodelay", "-copy"}},
	{"net", "net", nil},
}

type kind int

const (
	traffic  kind = iota // a server and the load generator
	memory               // the same, with idle connections
	syscalls             // the same, under strace
	alone                // a program that prints its own figures
)

// scenario is one kind of work.
type scenario struct {
	name        string
	kind        kind
	contestants []contestant
	server      []string // arguments of the server
	load        []string // arguments of the load generator
	tls         bool     // on every connection
	loops       int
	depth       int // messages that one connection may have under way
	cells       []cell
	rounds      int // the most in which it is measured; 0 means all
}

type cell struct{ size, conns int }

// rounds has the numbers of rounds of a run.
type rounds struct {
	all   int
	shown int // for what the charts and the README show
}

// most is the number of the last round.
func (n rounds) most() int { return max(n.all, n.shown) }

// of returns in how many rounds a cell is measured.
func (n rounds) of(s scenario, c cell) int {
	most := n.all
	if s.name == report.ShownScenario && report.Shown(c.size, c.conns) {
		most = n.most()
	}
	if s.rounds > 0 {
		most = min(most, s.rounds)
	}
	return most
}

func cross(sizes, conns []int) (cells []cell) {
	for _, size := range sizes {
		for _, n := range conns {
			cells = append(cells, cell{size, n})
		}
	}
	return cells
}

// echoCells leaves out 1 MiB on 1,000 connections: with a gigabyte under way, the figures
// would show the kernel's memory and not the server.
func echoCells() (cells []cell) {
	for _, c := range cross([]int{64, 1 << 10, 16 << 10, 64 << 10, 1 << 20}, []int{1, 10, 100, 1000}) {
		if c.size < 1<<20 || c.conns < 1000 {
			cells = append(cells, c)
		}
	}
	return append(cells, cell{64, 10000}, cell{1 << 10, 10000})
}

func plan() []scenario {
	return []scenario{
		{name: "echo", contestants: servers, cells: echoCells()},
		{name: "flood", contestants: servers, depth: 16, cells: []cell{{64, 10}, {64, 1000}, {1 << 10, 100}, {16 << 10, 10}}},
		{name: "sink", contestants: servers, server: []string{"-sink"}, load: []string{"-mode", "sink"},
			cells: []cell{{1 << 10, 100}, {16 << 10, 1}, {64 << 10, 10}}},
		{name: "churn", contestants: servers, load: []string{"-mode", "churn"}, cells: []cell{{64, 64}}},
		{name: "loops", contestants: servers, loops: 2, cells: []cell{{64, 1000}, {1 << 10, 100}, {16 << 10, 100}}},
		{name: "goroutines", contestants: blocking, loops: 2, cells: cross([]int{1 << 10, 64 << 10}, []int{10, 100})},
		{name: "idle", kind: memory, contestants: servers, load: []string{"-mode", "idle", "-warm", "1000", "-window", "1"},
			cells: []cell{{64, 10000}}},
		{name: "pairs", kind: alone, contestants: pairs, cells: []cell{{64, 1}, {64, 64}, {4 << 10, 1}, {4 << 10, 64}}},
		{name: "tls-echo", contestants: tlsServers, tls: true, cells: cross([]int{1 << 10, 64 << 10}, []int{10, 100})},
		{name: "tls-sink", contestants: tlsServers, tls: true, server: []string{"-sink"}, load: []string{"-mode", "sink"},
			cells: []cell{{16 << 10, 10}, {64 << 10, 10}}},
		{name: "tls-churn", contestants: tlsServers, tls: true, load: []string{"-mode", "churn"}, cells: []cell{{64, 32}}},
		{name: "syscalls", kind: syscalls, contestants: servers, rounds: 1, cells: []cell{{64, 1}, {1 << 10, 100}, {64 << 10, 10}}},
	}
}

// shorten makes the plan of a smoke test: every scenario and every contestant, in few cells and
// one round.
func shorten(plan []scenario) []scenario {
	for i := range plan {
		s := &plan[i]
		s.rounds = 1
		switch s.name {
		case "echo":
			s.cells = []cell{{64, 100}, {64 << 10, 10}}
		case "idle":
			s.cells, s.load = []cell{{64, 200}}, []string{"-mode", "idle", "-warm", "100", "-window", "1"}
		default:
			s.cells = s.cells[:1]
		}
	}
	return plan
}

// only keeps the contestants that match, and the cells whose names, such as "echo/64/1000",
// match. It leaves out what this machine cannot measure, and prints why.
func only(plan []scenario, cells, contestants *regexp.Regexp, most int, say func(string, ...any)) (kept []scenario) {
	for _, s := range plan {
		if s.kind == syscalls {
			if _, err := exec.LookPath("strace"); err != nil {
				say("strace is not installed: system calls are not counted")
				continue
			}
		}
		var in []cell
		for _, c := range s.cells {
			switch {
			case !cells.MatchString(fmt.Sprintf("%s/%d/%d", s.name, c.size, c.conns)):
			case c.conns+200 > most:
				say("%s with %d connections is left out: only %d descriptors are allowed (ulimit -n)", s.name, c.conns, most)
			default:
				in = append(in, c)
			}
		}
		var who []contestant
		for i, c := range s.contestants {
			if i == 0 || contestants.MatchString(c.name) { // the others are compared with the first
				who = append(who, c)
			}
		}
		if s.loops == 0 {
			s.loops = 1
		}
		if s.depth == 0 {
			s.depth = 1
		}
		if s.cells, s.contestants = in, who; len(in) > 0 {
			kept = append(kept, s)
		}
	}
	return kept
}

// estimate returns how long the plan will take. Besides its warm-up and window, a measurement
// takes time to start and end the server, and to connect.
func estimate(plan []scenario, rounds rounds, each time.Duration) time.Duration {
	var total time.Duration
	for _, s := range plan {
		for _, c := range s.cells {
			one := each + 200*time.Millisecond + time.Duration(c.conns)*100*time.Microsecond
			if s.kind == memory {
				one += time.Second
			}
			total += time.Duration(rounds.of(s, c)*len(s.contestants)) * one
		}
	}
	return total
}
