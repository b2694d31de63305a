// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// answer returns what a server answers to the bytes it has read. nil closes the connection.
type answer func(total int, p []byte) []byte

// runLoad runs the load generator against a server of the test, and returns its figures.
func runLoad(t *testing.T, fn answer, args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	sources, err := filepath.Glob("load/*.c")
	if err == nil {
		err = cBuild(dir, "load", []string{"-lssl", "-lcrypto"}, sources...)
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn, fn)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	args = append([]string{"-port", fmt.Sprint(l.Addr().(*net.TCPAddr).Port), "-pid", fmt.Sprint(os.Getpid()),
		"-warm", "20", "-window", "50"}, args...)
	f, err := result(command(ctx, "0", filepath.Join(dir, "load"), args...))
	return fmt.Sprintf("%+v", f), err
}

func serve(conn net.Conn, fn answer) {
	defer conn.Close()
	p := make([]byte, 1<<16)
	for total := 0; ; {
		n, err := conn.Read(p)
		if err != nil {
			return
		}
		total += n
		q := fn(total, p[:n])
		if q == nil {
			return
		}
		if _, err := conn.Write(q); err != nil {
			return
		}
	}
}

func echo(_ int, p []byte) []byte { return p }

func TestLoadTakesAnEcho(t *testing.T) {
	for _, args := range [][]string{
		{"-size", "1"}, {"-size", "1000", "-conns", "7", "-depth", "5"}, {"-size", "1048576", "-conns", "2"},
		{"-mode", "churn", "-conns", "3"}, {"-mode", "idle", "-conns", "3"},
	} {
		if out, err := runLoad(t, echo, args...); err != nil {
			t.Errorf("%v: %v %s", args, err, out)
		}
	}
}

// firstMessage is the size of the message with which the load generator opens a connection. A
// server makes its fault after that, so however slow the machine is, the fault comes.
const firstMessage = 64

func TestLoadFindsFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		fn   answer
		args []string
		want string
	}{
		{"a wrong byte", func(total int, p []byte) []byte {
			if total > firstMessage {
				p[0] ^= 1
			}
			return p
		}, nil, "came back as"},
		{"a byte too many", func(_ int, p []byte) []byte { return append(p, 0) }, nil, "came back"},
		{"an early end", func(total int, p []byte) []byte {
			if total > firstMessage {
				return nil
			}
			return p
		}, nil, "closed it after"},
		{"a sink that counts too much", func(int, []byte) []byte { return make([]byte, 50) }, []string{"-mode", "sink"}, "the sink counts"},
		{"a wrong byte on a short connection", func(_ int, p []byte) []byte { p[3]++; return p }, []string{"-mode", "churn"}, "came back as"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if out, err := runLoad(t, c.fn, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, %s", err, out)
			}
		})
	}
}

func TestDeadServerIsNamed(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho out of luck >&2\nexit 3\n"
	if err := os.WriteFile(filepath.Join(dir, "dead"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := startServer(t.Context(), dir, contestant{name: "dead", program: "dead"}, scenario{loops: 1}, "0")
	if err == nil || !strings.Contains(err.Error(), "dead ended instead of listening: out of luck") {
		t.Errorf("%v", err)
	}
}

func TestSyscallsPerMessage(t *testing.T) {
	counts, err := parseStrace("calls syscall\n----- ----\n  200 read\n  100 futex\n    1 close\n  301 total\n")
	if err != nil {
		t.Fatal(err)
	}
	if total, detail := perMessage(counts, 100); fmt.Sprintf("%.2f %s", total, detail) != "2.01 read 2.00; and futex 1.00" {
		t.Errorf("%v %s", total, detail)
	}
	if _, err := parseStrace("nothing"); err == nil {
		t.Error("an empty table is taken")
	}
}
