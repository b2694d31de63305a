// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-libevent/libevent/benchmarks/report"
)

// runner measures.
type runner struct {
	dir          string // has the programs
	warm, window time.Duration
	// CPUs of the server and of the load generator, for servers with one loop and with more.
	server, load   string
	server2, load2 string
}

// patience bounds one measurement.
const patience = 2 * time.Minute

// figures has the names under which the load generator and the programs of pairs print theirs.
type figures struct {
	Messages float64 `json:"messages"`
	All      float64 `json:"all"`
	NS       float64 `json:"ns"`
	CPU      float64 `json:"cpu"`
	User     float64 `json:"user"` // User and System divide CPU
	System   float64 `json:"system"`
	Samples  int     `json:"samples"`
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
	P999     float64 `json:"p999"`
	IdleRSS  float64 `json:"idle_rss"`
	RSS      float64 `json:"rss"`
}

// measure makes one measurement.
func (r *runner) measure(ctx context.Context, s scenario, c cell, who contestant, round int) (report.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	rec := report.Record{Scenario: s.name, Contestant: who.name, Size: c.size, Conns: c.conns, Depth: s.depth, Loops: s.loops, Round: round}
	var f figures
	var err error
	if s.kind == alone {
		f, err = r.runAlone(ctx, c, who)
	} else {
		f, rec.Detail, err = r.runServer(ctx, s, c, who)
	}
	if err == nil && s.kind != memory && f.Messages == 0 {
		err = errors.New("not one message within the window: make it longer")
	}
	if err != nil {
		return rec, fmt.Errorf("%s, %s, %d bytes, %d connections: %w", s.name, who.name, c.size, c.conns, err)
	}
	switch s.kind {
	case memory:
		rec.RSS, rec.PerConn = f.RSS, (f.RSS-f.IdleRSS)/float64(c.conns)
	case syscalls:
		rec.Messages = f.All
		var counts map[string]float64
		if counts, err = parseStrace(rec.Detail); err != nil {
			return rec, err
		}
		rec.Syscalls, rec.Detail = perMessage(counts, f.All)
	default:
		rec.Messages, rec.Seconds, rec.RSS = f.Messages, f.NS/1e9, f.RSS
		rec.CPU, rec.Rate = f.CPU/f.Messages, f.Messages/f.NS*1e9
		if ticks := f.User + f.System; ticks > 0 {
			// In a record 0 means not measured, and less than a tick was.
			rec.User, rec.System = rec.CPU*max(f.User, 0.5)/ticks, rec.CPU*max(f.System, 0.5)/ticks
		}
		rec.P50 = f.P50
		// With fewer samples the percentile would be the highest sample.
		if f.Samples >= 100 {
			rec.P99 = f.P99
		}
		if f.Samples >= 1000 {
			rec.P999 = f.P999
		}
	}
	return rec, nil
}

func ms(d time.Duration) string { return strconv.FormatInt(max(d.Milliseconds(), 1), 10) }

// runAlone runs a program of pairs.
func (r *runner) runAlone(ctx context.Context, c cell, who contestant) (figures, error) {
	args := append(slices.Clone(who.args), "-size", fmt.Sprint(c.size), "-pairs", fmt.Sprint(c.conns),
		"-warm", ms(r.warm), "-window", ms(r.window))
	cmd := command(ctx, r.server, filepath.Join(r.dir, who.program), args...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	return result(cmd)
}

// runServer runs a server under load. traced is the table of strace, if the scenario wants one.
func (r *runner) runServer(ctx context.Context, s scenario, c cell, who contestant) (f figures, traced string, err error) {
	serverCPUs, loadCPUs := r.server, r.load
	if s.loops > 1 {
		serverCPUs, loadCPUs = r.server2, r.load2
	}
	v, err := startServer(ctx, r.dir, who, s, serverCPUs)
	if err != nil {
		return f, "", err
	}
	defer v.stop()
	var trace *tracer
	if s.kind == syscalls {
		if trace, err = startTracer(ctx, r.dir, v.cmd.Process.Pid, loadCPUs); err != nil {
			return f, "", err
		}
		defer trace.kill()
	}
	// The scenario's arguments come last, so they replace these.
	args := append([]string{"-port", fmt.Sprint(v.port), "-pid", fmt.Sprint(v.cmd.Process.Pid),
		"-size", fmt.Sprint(c.size), "-conns", fmt.Sprint(c.conns), "-depth", fmt.Sprint(s.depth),
		"-warm", ms(r.warm), "-window", ms(r.window)}, s.load...)
	if s.tls {
		args = append(args, "-tls")
	}
	f, err = result(command(ctx, loadCPUs, filepath.Join(r.dir, "load"), args...))
	if err != nil {
		// A dead server may be noticed a little later than the load generator's error.
		return f, "", errors.Join(err, v.died(100*time.Millisecond))
	}
	if err := v.died(0); err != nil {
		return f, "", err
	}
	if trace != nil {
		traced, err = trace.stop()
	}
	return f, traced, err
}

// result runs a program and returns the figures that it prints.
func result(cmd *exec.Cmd) (f figures, err error) {
	var out strings.Builder
	var stderr tail
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return f, fmt.Errorf("%w: %s", err, stderr.String())
	}
	if err := json.Unmarshal([]byte(out.String()), &f); err != nil {
		return f, fmt.Errorf("%w in %q", err, out.String())
	}
	return f, nil
}

// tracer is an strace that is attached to a server.
type tracer struct {
	cmd  *exec.Cmd
	err  tail
	file string
	done chan struct{}
}

func startTracer(ctx context.Context, dir string, pid int, cpus string) (*tracer, error) {
	t := &tracer{file: filepath.Join(dir, "strace.txt"), done: make(chan struct{})}
	t.cmd = command(ctx, cpus, "strace", "-c", "-f", "-U", "calls,name", "-o", t.file, "-p", fmt.Sprint(pid))
	stderr, err := t.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	attached := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			fmt.Fprintln(&t.err, lines.Text())
			if strings.Contains(lines.Text(), "attached") {
				select {
				case attached <- true:
				default:
				}
			}
		}
		_ = t.cmd.Wait()
		close(t.done)
	}()
	select {
	case <-attached:
		return t, nil
	case <-t.done:
		return nil, fmt.Errorf("strace cannot attach: %s", t.err.String())
	case <-time.After(10 * time.Second):
		t.kill()
		return nil, fmt.Errorf("strace did not attach within 10 s: %s", t.err.String())
	}
}

func (t *tracer) kill() {
	_ = t.cmd.Process.Kill()
	<-t.done
}

// stop makes strace write its table, and returns the table.
func (t *tracer) stop() (string, error) {
	_ = t.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-t.done:
	case <-time.After(10 * time.Second):
		return "", errors.New("strace does not end")
	}
	table, err := os.ReadFile(t.file)
	return string(table), err
}

// parseStrace reads strace's table of numbers and names.
func parseStrace(table string) (map[string]float64, error) {
	counts := map[string]float64{}
	for line := range strings.Lines(table) {
		words := strings.Fields(line)
		if len(words) != 2 || words[1] == "total" {
			continue
		}
		if n, err := strconv.ParseFloat(words[0], 64); err == nil {
			counts[words[1]] = n
		}
	}
	if len(counts) == 0 {
		return nil, fmt.Errorf("no system calls in what strace wrote: %q", table)
	}
	return counts, nil
}

// scheduling has the system calls by which threads wait for each other, and those that get
// memory. The slower system calls are, the more of these Go's runtime makes; so it makes most
// of them under strace.
var scheduling = []string{"futex", "nanosleep", "clock_nanosleep", "sched_yield", "tgkill", "getpid",
	"rt_sigprocmask", "rt_sigreturn", "restart_syscall", "mmap", "munmap", "madvise", "brk", "clone", "clone3"}

// perMessage returns the number of system calls for input and output. detail names all calls
// that are made once in twenty messages or more often.
func perMessage(counts map[string]float64, messages float64) (total float64, detail string) {
	var names, others []string
	for name, n := range counts {
		other := slices.Contains(scheduling, name)
		if !other {
			total += n / messages
		}
		switch {
		case n/messages < 0.05:
		case other:
			others = append(others, name)
		default:
			names = append(names, name)
		}
	}
	detail = list(names, counts, messages)
	if len(others) > 0 {
		detail += "; and " + list(others, counts, messages)
	}
	return total, detail
}

func list(names []string, counts map[string]float64, messages float64) string {
	slices.SortFunc(names, func(a, b string) int {
		if counts[a] != counts[b] {
			return int(counts[b] - counts[a])
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%s %.2f", name, counts[name]/messages))
	}
	return strings.Join(parts, ", ")
}
