// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-libevent/libevent/benchmarks/internal/certificate"
)

// patience is the time that one run of a server may take.
const patience = 2 * time.Minute

// underValgrind makes a command that runs a program under callgrind. What Go's runtime does by
// the clock would make the count of a busy machine higher: it collects no garbage, preempts
// nothing, and its monitor is not counted.
func underValgrind(ctx context.Context, profile, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "valgrind", append([]string{"--tool=callgrind", "--callgrind-out-file=" + profile,
		"--toggle-collect=runtime.sysmon", "--collect-atstart=yes", program}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1")
	return cmd
}

// tryValgrind returns why valgrind cannot run a program here, which ends by itself.
func tryValgrind(ctx context.Context, program string, args ...string) error {
	out, err := underValgrind(ctx, "/dev/null", program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("valgrind cannot run %s: %w %s", filepath.Base(program), err, out)
	}
	return nil
}

// run starts a server under callgrind, lets the server echo messages on p's connections, ends
// it, and returns how many instructions its whole life took. If profile is a file, callgrind
// writes there where the instructions went.
func run(ctx context.Context, s server, p point, messages int, profile string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	port, err := freePort()
	if err != nil {
		return 0, err
	}
	cmd := underValgrind(ctx, profile, s.file, append([]string{"-port", port}, s.args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	l := &load{size: p.size, tls: s.tls}
	defer l.close() // after the server's end, which so needs no instructions for theirs
	err = waitReady(out)
	if err == nil {
		err = l.open("127.0.0.1:"+port, p.conns)
	}
	if err == nil {
		err = l.run(messages)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait() // always an error: the signal
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, said.String())
	}
	return collected(said.String())
}

func waitReady(out io.Reader) error {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "ready" {
			return nil
		}
	}
	return errors.Join(lines.Err(), errors.New("the server ended before it was ready"))
}

var total = regexp.MustCompile(`Collected : (\d+)`)

// collected finds the number of instructions in what callgrind says at the end.
func collected(said string) (int, error) {
	match := total.FindStringSubmatch(said)
	if match == nil {
		return 0, fmt.Errorf("callgrind has counted nothing: %s", said)
	}
	return strconv.Atoi(match[1])
}

// freePort takes a port below those that the system gives to clients. It starts anywhere, so
// that two of these commands can run at once.
func freePort() (string, error) {
	for range 1000 {
		port := strconv.Itoa(20000 + rand.IntN(10000))
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			return port, l.Close()
		}
	}
	return "", errors.New("no port between 20000 and 30000 is free")
}

// server is a program that was built.
type server struct {
	file string
	args []string
	tls  bool
}

// build compiles the program of a contestant of the checkout tree into dir.
func build(ctx context.Context, tree, dir string, c contestant) (server, error) {
	s := server{filepath.Join(dir, c.program), c.args, c.tls}
	if c.tls {
		s.args = append(slices.Clone(c.args), "-tls", certificate.In(dir))
	}
	// Valgrind does not need Go's debugging information, and older ones cannot read it.
	args := []string{"go", "build", "-ldflags=-w", "-o", s.file, "./contestants/" + c.program}
	if c.libs != nil {
		flags, err := output(ctx, tree, append([]string{"pkg-config", "--cflags", "--libs"}, c.libs...)...)
		if err != nil {
			return s, err
		}
		cc, err := output(ctx, tree, "go", "env", "CC")
		if err != nil {
			return s, err
		}
		args = append(strings.Fields(cc), "-O2", "-g", "-pthread", "-o", s.file,
			"contestants/c/server.c", "contestants/c/tls.c", "contestants/"+c.program+"/main.c")
		args = append(args, strings.Fields(flags)...)
	}
	_, err := output(ctx, tree, args...)
	return s, err
}

// output runs a command in the folder benchmarks of a checkout and returns what it prints.
func output(ctx context.Context, tree string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = filepath.Join(tree, "benchmarks")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}
