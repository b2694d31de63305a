// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-libevent/libevent/benchmarks/internal/certificate"
)

// tail keeps the end of what a process prints. It is for the error that is reported when the
// process dies.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-2048):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}

// command makes a command that runs a program on the given CPUs. The program dies with this
// process, and when ctx ends.
func command(ctx context.Context, cpus, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "taskset", append([]string{"-c", cpus, path}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// server is a running server.
type server struct {
	cmd  *exec.Cmd
	port int
	err  tail
	done chan struct{} // closed when the process has ended
}

var nextPort = 20000

// freePort returns a free port below those that the system gives to clients.
func freePort() (int, error) {
	for range 10000 {
		if nextPort++; nextPort >= 30000 {
			nextPort = 20001
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", nextPort))
		if err == nil {
			return nextPort, l.Close()
		}
	}
	return 0, errors.New("no port between 20000 and 30000 is free")
}

func startServer(ctx context.Context, dir string, c contestant, s scenario, cpus string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	args := append([]string{"-port", fmt.Sprint(port), "-loops", fmt.Sprint(s.loops)}, slices.Concat(c.args, s.server)...)
	if s.tls {
		args = append(args, "-tls", certificate.In(dir))
	}
	v := &server{cmd: command(ctx, cpus, filepath.Join(dir, c.program), args...), port: port, done: make(chan struct{})}
	v.cmd.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", s.loops))
	v.cmd.Stderr = &v.err
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	v.cmd.Stdout = in
	err = v.cmd.Start()
	in.Close()
	if err != nil {
		out.Close()
		return nil, err
	}
	ready := make(chan bool, 1)
	go func() {
		defer out.Close()
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if lines.Text() == "ready" {
				ready <- true
			}
		}
		_, _ = io.Copy(io.Discard, out)
		_ = v.cmd.Wait()
		close(v.done)
	}()
	select {
	case <-ready:
		return v, nil
	case <-v.done:
		return nil, fmt.Errorf("%s ended instead of listening: %s", c.name, v.err.String())
	case <-time.After(20 * time.Second):
		v.stop()
		return nil, fmt.Errorf("%s did not listen within 20 s: %s", c.name, v.err.String())
	}
}

// stop ends the server and waits for its end.
func (v *server) stop() {
	_ = v.cmd.Process.Kill()
	<-v.done
}

// died returns an error with a server's last words if the server has ended by itself, or does
// so within grace.
func (v *server) died(grace time.Duration) error {
	select {
	case <-v.done:
		return fmt.Errorf("the server has died (%v): %s", v.cmd.ProcessState, v.err.String())
	case <-time.After(grace):
		return nil
	}
}
