// SPDX-License-Identifier: BSD-3-Clause

// Package redistest runs a real redis-server for a test.
package redistest

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

const patience = 30 * time.Second

// Server is a running redis-server.
type Server struct {
	TCP, Unix string // addresses
	cmd       *exec.Cmd
	exited    chan struct{}
}

// Start starts a server, which is killed at the end of the test at the latest. If redis-server
// is not installed, Start skips the test.
func Start(t testing.TB, options ...string) *Server {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed")
	}
	dir, err := os.MkdirTemp("", "redis") // the path of a socket may have about 100 bytes only
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	// Another process may take the free port before the server does.
	for range 5 {
		if s := start(t, program, dir, options); s != nil {
			return s
		}
	}
	t.Fatal("redis-server does not start")
	return nil
}

func start(t testing.TB, program, dir string, options []string) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	s := &Server{TCP: l.Addr().String(), Unix: filepath.Join(dir, "socket"), exited: make(chan struct{})}
	var said bytes.Buffer
	s.cmd = exec.Command(program, append([]string{
		"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--unixsocket", s.Unix,
		"--dir", dir, "--save", "", "--appendonly", "no"}, options...)...)
	s.cmd.Stdout, s.cmd.Stderr = &said, &said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	t.Cleanup(func() { s.Kill(t) })
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if s.answers() {
			return s
		}
		select {
		case <-s.exited:
			t.Logf("%s", said.Bytes())
			return nil
		case <-time.After(5 * time.Millisecond):
		}
	}
	s.Kill(t)
	t.Fatalf("redis-server does not answer:\n%s", said.Bytes())
	return nil
}

func (s *Server) answers() bool {
	for network, addr := range map[string]string{"tcp": s.TCP, "unix": s.Unix} {
		conn, err := net.DialTimeout(network, addr, patience)
		if err != nil {
			return false
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = conn.Write([]byte("PING\r\n"))
		answer := make([]byte, 1)
		if _, err := conn.Read(answer); err != nil {
			return false
		}
	}
	return true
}

// Kill ends the server as a crash would, and waits for its end.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	_ = s.cmd.Process.Kill()
	select {
	case <-s.exited:
	case <-time.After(patience):
		t.Error("redis-server cannot be killed")
	}
}
