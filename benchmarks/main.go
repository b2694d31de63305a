// SPDX-License-Identifier: BSD-3-Clause

// Benchmarks compares this binding with C libevent, raw epoll, and other ways to write a
// server in Go. It writes docs/benchmarks.md, its charts and its raw data:
//
//	go run .           # runs everything, in about an hour on a quiet machine
//	go run . -smoke    # checks that everything works, in a minute or two; the figures mean nothing
//	go run . -report   # writes the page again, from the raw data
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-libevent/libevent/benchmarks/internal/certificate"
	"github.com/go-libevent/libevent/benchmarks/report"
)

type options struct {
	runner
	rounds         rounds
	only, who      string
	out            string
	smoke, rewrite bool
}

func main() {
	// Children have Pdeathsig. Linux sends it when the thread that started the child ends, so
	// this goroutine has to keep its thread.
	runtime.LockOSThread()
	var o options
	flag.IntVar(&o.rounds.all, "rounds", 5, "rounds, in each of which every contestant does everything once")
	flag.IntVar(&o.rounds.shown, "shown-rounds", 15, "rounds of what the charts and the README show")
	flag.DurationVar(&o.warm, "warm", 250*time.Millisecond, "checked traffic before each measurement")
	flag.DurationVar(&o.window, "window", 700*time.Millisecond, "length of a measurement")
	flag.StringVar(&o.server, "server-cpus", "0", "CPUs of a server with one loop")
	flag.StringVar(&o.load, "load-cpus", "1", "CPUs of the load generator for that server")
	flag.StringVar(&o.server2, "server2-cpus", "0,1", "CPUs of a server with two loops")
	flag.StringVar(&o.load2, "load2-cpus", "0,1", "CPUs of the load generator for that server")
	flag.StringVar(&o.only, "only", "", "`regexp` of scenario/size/connections, for example ^echo/64/")
	flag.StringVar(&o.who, "contestants", "", "`regexp` of contestants; those with which others are compared are always measured")
	flag.StringVar(&o.out, "out", "../docs", "`folder` for the page, the charts and the raw data")
	flag.BoolVar(&o.smoke, "smoke", false, "only check that everything works")
	flag.BoolVar(&o.rewrite, "report", false, "only write the page again, from the raw data")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func (o *options) run(ctx context.Context) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if o.rounds.all < 1 || o.window < time.Millisecond {
		return errors.New("-rounds and -window must be positive")
	}
	if o.rewrite {
		return o.write()
	}
	if err := checkTools(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "benchmarks")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.dir = dir
	scenarios, err := o.choose()
	if err != nil {
		return err
	}
	say("building")
	if err := build(dir); err != nil {
		return err
	}
	if err := certificate.Write(dir); err != nil {
		return err
	}
	say("about %v to go", estimate(scenarios, o.rounds, o.warm+o.window).Round(10*time.Second))
	failed, err := o.measureAll(ctx, scenarios)
	if err != nil {
		return err
	}
	if err := o.write(); err != nil {
		return err
	}
	if o.smoke {
		if err := o.checkPage(scenarios); err != nil {
			return err
		}
		say("everything works")
	}
	return errors.Join(failed...)
}

// choose returns the scenarios to measure. For a smoke test it also sets short times, and
// o.out to a folder that is removed afterwards.
func (o *options) choose() ([]scenario, error) {
	all := plan()
	if o.smoke {
		all = shorten(all)
		o.rounds, o.warm, o.window = rounds{all: 1}, 50*time.Millisecond, 100*time.Millisecond
		if !given("out") {
			o.out = o.dir
		}
	}
	cells, err := regexp.Compile(o.only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	who, err := regexp.Compile(o.who)
	if err != nil {
		return nil, fmt.Errorf("-contestants: %w", err)
	}
	scenarios := only(all, cells, who, raiseDescriptors(), say)
	if len(scenarios) == 0 {
		return nil, errors.New("nothing is left to measure")
	}
	return scenarios, nil
}

// given reports whether a flag is on the command line.
func given(name string) (is bool) {
	flag.Visit(func(f *flag.Flag) { is = is || f.Name == name })
	return is
}

// measureAll measures in rounds. So a disturbance of the machine meets all contestants alike,
// and contestants that are compared are measured within seconds of each other. failed has the
// errors of measurements that are missing.
func (o *options) measureAll(ctx context.Context, scenarios []scenario) (failed []error, err error) {
	command := strings.Join(append([]string{"go run ."}, os.Args[1:]...), " ")
	raw, err := report.Create(filepath.Join(o.out, "benchmarks.csv"), machine(&o.runner, o.rounds, command))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, raw.Close()) }()
	for round := 1; round <= o.rounds.most(); round++ {
		for _, s := range scenarios {
			s.cells = slices.DeleteFunc(slices.Clone(s.cells), func(c cell) bool { return o.rounds.of(s, c) < round })
			if len(s.cells) == 0 {
				continue
			}
			began := time.Now()
			missing, err := o.measureScenario(ctx, s, round, raw)
			if err != nil {
				return nil, err
			}
			failed = append(failed, missing...)
			say("round %d of %d: %s, %.0f s", round, o.rounds.most(), s.name, time.Since(began).Seconds())
		}
	}
	return failed, nil
}

// measureScenario is one round of a scenario. failed is as in measureAll.
func (o *options) measureScenario(ctx context.Context, s scenario, round int, raw *report.Writer) (failed []error, err error) {
	for _, c := range s.cells {
		for _, who := range rotated(s.contestants, round-1) {
			rec, err := o.try(ctx, s, c, who, round)
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if err != nil && o.smoke {
				return nil, err
			}
			if err != nil {
				failed = append(failed, err)
				continue
			}
			if err := raw.Add(rec); err != nil {
				return nil, err
			}
		}
	}
	return failed, nil
}

// try repeats a failed measurement once, so that one failure does not spoil a run of half an
// hour. A measurement that fails twice is missing in the tables, and the run ends with its
// error.
func (o *options) try(ctx context.Context, s scenario, c cell, who contestant, round int) (report.Record, error) {
	rec, err := o.measure(ctx, s, c, who, round)
	if err != nil && ctx.Err() == nil && !o.smoke {
		say("again: %v", err)
		rec, err = o.measure(ctx, s, c, who, round)
	}
	return rec, err
}

// rotated returns the contestants in another order for each round.
func rotated(list []contestant, by int) []contestant {
	by %= len(list)
	return slices.Concat(list[by:], list[:by])
}

// write writes the page and the charts from the raw data.
func (o *options) write() error {
	data, err := report.ReadFile(filepath.Join(o.out, "benchmarks.csv"))
	if err != nil {
		return err
	}
	counts, err := report.ReadFile(filepath.Join(o.out, "instructions.csv"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := data.WriteTo(o.out, counts); err != nil {
		return err
	}
	say("written: %s", filepath.Join(o.out, "benchmarks.md"))
	return nil
}

// checkPage checks that every contestant has a record for each cell of its scenarios, and is
// on the page.
func (o *options) checkPage(scenarios []scenario) error {
	data, err := report.ReadFile(filepath.Join(o.out, "benchmarks.csv"))
	if err != nil {
		return err
	}
	page, err := os.ReadFile(filepath.Join(o.out, "benchmarks.md"))
	if err != nil {
		return err
	}
	for _, s := range scenarios {
		for _, who := range s.contestants {
			n := 0
			for _, r := range data.Records {
				if r.Scenario == s.name && r.Contestant == who.name {
					n++
				}
			}
			if n != len(s.cells) || !strings.Contains(string(page), who.name) {
				return fmt.Errorf("%s: %d records of %s, not %d, or it is not on the page", s.name, n, who.name, len(s.cells))
			}
		}
	}
	return nil
}

// raiseDescriptors raises the limit of open files to the number that 10,000 connections need,
// or as far as it can, and returns the limit. The programs that are started inherit it.
func raiseDescriptors() int {
	const want = 10500
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	raised := syscall.Rlimit{Cur: max(limit.Cur, want), Max: max(limit.Max, want)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err == nil {
		return int(raised.Cur)
	}
	raised = syscall.Rlimit{Cur: limit.Max, Max: limit.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err == nil {
		return int(raised.Cur)
	}
	return int(limit.Cur)
}
