// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"io"
	"net"
	"strings"
	"testing"
)

// listen has a server answer what it reads with what fn makes of it; nil closes.
func listen(t *testing.T, fn func(p []byte) []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answer(conn, fn)
		}
	}()
	return l.Addr().String()
}

func answer(conn net.Conn, fn func(p []byte) []byte) {
	defer conn.Close()
	for p := make([]byte, 10); ; {
		if _, err := io.ReadFull(conn, p); err != nil {
			return
		}
		q := fn(p)
		if _, err := conn.Write(q); err != nil || q == nil {
			return
		}
	}
}

func TestLoadChecksWhatComesBack(t *testing.T) {
	for _, c := range []struct {
		name string
		fn   func(p []byte) []byte
		want string // in the error
	}{
		{"echo", func(p []byte) []byte { return p }, ""},
		{"wrong byte", func(p []byte) []byte { p[9]++; return p }, "other bytes"},
		{"end", func([]byte) []byte { return nil }, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := &load{size: 10}
			defer l.close()
			err := l.open(listen(t, c.fn), 3)
			if err == nil {
				err = l.run(30)
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
}

func TestLoadSendsAsManyAsItSays(t *testing.T) {
	messages := make(chan struct{}, 1000)
	addr := listen(t, func(p []byte) []byte { messages <- struct{}{}; return p })
	l := &load{size: 10}
	defer l.close()
	if err := l.open(addr, 3); err != nil {
		t.Fatal(err)
	}
	before := len(messages)
	if err := l.run(100); err != nil {
		t.Fatal(err)
	}
	if got, want := len(messages)-before, sent(100, point{10, 3}); got != want {
		t.Errorf("%d messages instead of %d", got, want)
	}
}

func TestCollected(t *testing.T) {
	n, err := collected("==1== Events    : Ir\n==1== Collected : 5700136\n==1==\n")
	if n != 5700136 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := collected("==1== Events    : Ir\n"); err == nil {
		t.Error("a server that was not counted is taken for one of no instructions")
	}
}

func TestFigures(t *testing.T) {
	if _, err := parseFigures(figures, ""); err != nil {
		t.Error(err)
	}
	found, err := parseFigures("# none\n\nm68k go1.26: net 10 1 500\namd64 go1.26: c-book 64 100 1000\n", "amd64 go1.26")
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	f := found[0]
	if f.contestant.name != "c-book" || f.point != (point{64, 100}) || f.count != 1000 {
		t.Errorf("%v", f)
	}
	for _, bad := range []string{"amd64: c-book 64 100", "amd64: nobody 64 100 1000", "amd64 c-book 64 100 1000"} {
		if _, err := parseFigures(bad, "amd64"); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	for n, want := range map[int]string{1050: "", 1051: "5 %", 949: ""} {
		verdict, err := f.judge(n)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %q, %v", n, verdict, err)
		}
		if lower := strings.Contains(verdict, "new figure"); lower != (n == 949) {
			t.Errorf("%d: %q", n, verdict)
		}
	}
}

// TestEnvironment checks that the environment is named as it is in the file of figures.
func TestEnvironment(t *testing.T) {
	where, err := environment(t.Context(), "../..")
	if words := strings.Fields(where); err != nil || len(words) != 4 || !strings.HasPrefix(words[2], "libevent-") {
		t.Errorf("%q, %v", where, err)
	}
}

// TestCount counts a server of which two things are known: an echo needs more instructions
// than two system calls do, and far fewer than the start of the program.
func TestCount(t *testing.T) {
	if err := tryValgrind(t.Context(), "true"); err != nil {
		t.Skip(err)
	}
	o := options{tree: "../..", few: 10, many: 1010, runs: 1}
	for _, c := range contestants {
		if c.name != "c-epoll" {
			continue
		}
		n, err := o.count(t.Context(), t.TempDir(), c, point{64, 10})
		if err != nil || n < 10 || n > 1000 {
			t.Errorf("%d instructions, %v", n, err)
		}
	}
}

func TestDeadServerIsNamed(t *testing.T) {
	if err := tryValgrind(t.Context(), "true"); err != nil {
		t.Skip(err)
	}
	_, err := run(t.Context(), server{file: "/bin/false"}, point{64, 1}, 1, "/dev/null")
	if err == nil || !strings.Contains(err.Error(), "ended before it was ready") {
		t.Error(err)
	}
}
