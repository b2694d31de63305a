// SPDX-License-Identifier: BSD-3-Clause

// Instructions counts the user-space instructions that a server needs to echo a message. It
// runs the servers of ../contestants under valgrind's callgrind. In contrast to times, the
// counts are the same on a busy machine, so a change of one percent can be seen. What the
// kernel does is not in them.
//
//	go run ./instructions                                # everything, in a quarter of an hour
//	go run ./instructions -only libevent-move/1024/100   # one count, in a few seconds
//	go run ./instructions -csv FILE                      # also writes the counts to a file
//	go run ./instructions -tree DIR                      # of the servers in another checkout
//	go run ./instructions -check                         # fails if an echo has become dearer
//
// A server runs twice, with few messages and with many. The difference of the two counts,
// divided by the difference in messages, has neither the start nor the end of the server in it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"time"

	"github.com/go-libevent/libevent/benchmarks/internal/certificate"
	"github.com/go-libevent/libevent/benchmarks/report"
)

// contestant is a server of ../contestants.
type contestant struct {
	name    string
	program string
	args    []string
	tls     bool
	libs    []string // that pkg-config knows, if it is written in C
}

// Those of ../plan.go. All have TCP_NODELAY: without it the kernel holds back the ends of large
// messages, and a run with them takes minutes.
var contestants = []contestant{
	{name: "libevent-move", program: "libevent", args: []string{"-nodelay"}},
	{name: "libevent-copy", program: "libevent", args: []string{"-nodelay", "-copy"}},
	{name: "libevent-plain", program: "libevent", args: []string{"-nodelay", "-plain"}},
	{name: "libevent-receive", program: "libevent", args: []string{"-nodelay", "-receive"}},
	{name: "evnet", program: "evnet"},
	{name: "c-book", program: "c-book", args: []string{"-nodelay"}, libs: bookLibs},
	{name: "c-epoll", program: "c-epoll", args: []string{"-nodelay"}, libs: tlsLibs},
	{name: "net", program: "net"},
	{name: "gnet", program: "gnet"},
	{name: "netpoll", program: "netpoll"},
	{name: "nbio", program: "nbio"},
	{name: "libevent-move-tls", program: "libevent", args: []string{"-nodelay"}, tls: true},
	{name: "libevent-copy-tls", program: "libevent", args: []string{"-nodelay", "-copy"}, tls: true},
	{name: "c-book-tls", program: "c-book", args: []string{"-nodelay"}, libs: bookLibs, tls: true},
	{name: "c-epoll-tls", program: "c-epoll", args: []string{"-nodelay"}, libs: tlsLibs, tls: true},
	{name: "net-tls", program: "net", tls: true},
}

var (
	tlsLibs  = []string{"libevent_core", "openssl"}
	bookLibs = []string{"libevent_core", "libevent_openssl", "openssl"}
)

// point is a size of messages, in bytes, and a number of connections.
type point struct{ size, conns int }

var points = []point{{64, 100}, {1 << 10, 100}, {64, 1000}, {16 << 10, 10}}

func (p point) of(c contestant) string { return fmt.Sprintf("%s/%d/%d", c.name, p.size, p.conns) }

type options struct {
	tree, only, profile string
	csv                 string
	few, many, runs     int
	check               bool
}

func main() {
	// A server is to die when this process does, and for Linux that is the thread.
	runtime.LockOSThread()
	var o options
	flag.StringVar(&o.tree, "tree", "", "`folder` of the checkout whose servers are built; otherwise the one that this is run in")
	flag.StringVar(&o.only, "only", "", "`regexp` of contestant/size/connections, as ^libevent-move/1024/100$")
	flag.StringVar(&o.profile, "profile", "", "`folder` for what callgrind_annotate reads, a file for each count")
	flag.StringVar(&o.csv, "csv", "", "`file` for the counts, from which ./run.sh -report makes a table")
	flag.IntVar(&o.few, "few", 2000, "messages of a short run")
	flag.IntVar(&o.many, "many", 22000, "messages of a long run")
	flag.IntVar(&o.runs, "runs", 3, "short runs and long runs; the least count of each is taken")
	flag.BoolVar(&o.check, "check", false, "compare with the counts in "+figuresFile)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "instructions:", err)
		os.Exit(1)
	}
}

func (o *options) run(ctx context.Context) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if o.few < 1 || o.many <= o.few || o.runs < 1 {
		return errors.New("-few and -runs must be positive, and -many larger than -few")
	}
	if o.tree == "" {
		tree, err := checkout()
		if err != nil {
			return err
		}
		o.tree = tree
	}
	dir, err := os.MkdirTemp("", "instructions")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := certificate.Write(dir); err != nil {
		return err
	}
	if o.check {
		return o.compare(ctx, dir)
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if err := tryValgrind(ctx, "true"); err != nil {
		return err
	}
	return o.table(ctx, dir, only)
}

// checkout returns the folder of the checkout that the working folder is in.
func checkout() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "benchmarks", "contestants")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no folder benchmarks/contestants here or above: use -tree")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// table prints a line for each count, and writes it to a file if there is to be one.
func (o *options) table(ctx context.Context, dir string, only *regexp.Regexp) (err error) {
	file := o.csv
	if file == "" {
		file = os.DevNull
	}
	facts, err := o.facts(ctx)
	if err != nil {
		return err
	}
	raw, err := report.Create(file, facts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, raw.Close()) }()
	fmt.Printf("%-17s %6s %12s %13s\n", "contestant", "bytes", "connections", "instructions")
	var errs []error
	found := false
	for _, p := range points {
		for _, c := range contestants {
			if !only.MatchString(p.of(c)) || c.tls && p.conns > 100 { // handshakes are slow under valgrind
				continue
			}
			found = true
			n, err := o.count(ctx, dir, c, p)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			errs = append(errs, err)
			fmt.Printf("%-17s %6d %12d %13d\n", c.name, p.size, p.conns, n) // 0 after an error
			if err := raw.Add(report.Record{Scenario: "instructions", Contestant: c.name, Size: p.size, Conns: p.conns,
				Depth: 1, Loops: 1, Round: 1, Instructions: float64(n)}); err != nil {
				return err
			}
		}
	}
	if !found {
		return fmt.Errorf("-only %s leaves nothing to count", o.only)
	}
	return errors.Join(errs...)
}

// facts are what the counts depend on.
func (o *options) facts(ctx context.Context) ([]report.Fact, error) {
	where, err := environment(ctx, o.tree)
	if err != nil {
		return nil, err
	}
	valgrind, err := output(ctx, o.tree, "valgrind", "--version")
	if err != nil {
		return nil, err
	}
	return []report.Fact{
		{Name: "environment", Value: where},
		{Name: "counted with", Value: valgrind},
		{Name: "messages", Value: fmt.Sprintf("%d, less %d", o.many, o.few)},
		{Name: "date", Value: time.Now().UTC().Format("2006-01-02")},
	}, nil
}

// count returns the instructions of one echo. Go's scheduler does some work by the clock, and
// so adds more to the count of a run that waits for the machine. The least count of several
// runs has the least of that.
func (o *options) count(ctx context.Context, dir string, c contestant, p point) (int, error) {
	s, err := build(ctx, o.tree, dir, c)
	if err != nil {
		return 0, err
	}
	profile := "/dev/null"
	if o.profile != "" {
		profile = filepath.Join(o.profile, fmt.Sprintf("callgrind.out.%s-%d-%d", c.name, p.size, p.conns))
	}
	few, many := math.MaxInt, math.MaxInt
	for range o.runs {
		short, err := run(ctx, s, p, o.few, "/dev/null")
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p.of(c), err)
		}
		long, err := run(ctx, s, p, o.many, profile)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p.of(c), err)
		}
		few, many = min(few, short), min(many, long)
	}
	return (many - few) / (sent(o.many, p) - sent(o.few, p)), nil
}

// sent is how many of the messages load.run sends: each connection has an equal share.
func sent(messages int, p point) int { return messages / p.conns * p.conns }
