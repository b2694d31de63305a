// SPDX-License-Identifier: BSD-3-Clause

//go:build linux

package embed_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent/internal/testutil"
)

const patience = time.Minute

var binary string

// TestMain builds the program, with -race or -asan if the tests are built with them.
func TestMain(m *testing.M) {
	if musl, _ := filepath.Glob("/lib/ld-musl-*"); len(musl) > 0 {
		fmt.Println("skipped: Go archives do not start with musl")
		return
	}
	os.Exit(testutil.MainWithProgram(m, &binary, func(binary string) *exec.Cmd {
		args := []string{binary}
		info, _ := debug.ReadBuildInfo()
		for _, setting := range info.Settings {
			if (setting.Key == "-race" || setting.Key == "-asan") && setting.Value == "true" {
				args = append(args, setting.Key)
			}
		}
		return exec.Command("./build.sh", args...)
	}))
}

// program is a running program.
type program struct {
	t        *testing.T
	cmd      *exec.Cmd
	out      *bufio.Reader
	err      transcript
	c, forGo string // addresses
}

// transcript keeps what a program prints.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// start starts a program whose stderr is kept.
func start(t *testing.T) *program {
	t.Helper()
	p := &program{t: t}
	p.begin(&p.err)
	return p
}

// begin starts the program on free ports. The test has to wait for its end.
func (p *program) begin(stderr io.Writer) {
	p.t.Helper()
	p.cmd = exec.Command(binary, "0", "0")
	p.cmd.Stderr = stderr
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, p.cmd.Start())
	p.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		if p.t.Failed() {
			p.t.Log(p.err.String())
		}
	})
	p.out = bufio.NewReader(stdout)
	line := p.line()
	m := regexp.MustCompile(`^embed: (127\.0\.0\.1:\d+) is C's, (127\.0\.0\.1:\d+) is Go's\n$`).FindStringSubmatch(line)
	require.NotNil(p.t, m, line)
	p.c, p.forGo = m[1], m[2]
}

// watch has the program abort if it is not stopped in time. It bounds a wait for the program.
func (p *program) watch() *time.Timer {
	return time.AfterFunc(patience, func() { _ = p.cmd.Process.Signal(syscall.SIGABRT) })
}

// line returns the next line that the program prints.
func (p *program) line() string {
	p.t.Helper()
	defer p.watch().Stop()
	line, err := p.out.ReadString('\n')
	require.NoError(p.t, err)
	return line
}

// ends sends a signal, checks that the program ends with status 0, and returns the rest of
// what it printed.
func (p *program) ends(sig os.Signal) string {
	p.t.Helper()
	defer p.watch().Stop()
	require.NoError(p.t, p.cmd.Process.Signal(sig))
	rest, err := io.ReadAll(p.out)
	require.NoError(p.t, err)
	require.NoError(p.t, p.cmd.Wait(), p.err.String())
	assert.NotContains(p.t, p.err.String(), "DATA RACE")
	return string(rest)
}

// status makes the program print its numbers of connections.
func (p *program) status() string {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGUSR1))
	return p.line()
}

func eventually(t *testing.T, cond func() bool, what string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) { // sleep: between looks at another process
		require.True(t, time.Now().Before(deadline), "never happened: "+what)
	}
}

// client is a connection to a program.
type client struct {
	t testing.TB
	*net.TCPConn
	lines *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	c := &client{t: t, TCPConn: conn.(*net.TCPConn)}
	c.lines = bufio.NewReader(c)
	return c
}

// The deadline of Read and Write is that of one call: an answer may be long. When a Read has waited
// in vain, all later calls fail at once.

func (c *client) Read(p []byte) (int, error) {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	n, err := c.TCPConn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = c.Close()
	}
	return n, err
}

func (c *client) Write(p []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	return c.TCPConn.Write(p)
}

// lend dials C's port and makes C lend the connection to Go.
func lend(t testing.TB, p *program) *client {
	c := dial(t, p.c)
	c.send("go\nhello\n")
	c.gets(byGo("hello"))
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	_, err := io.WriteString(c, text)
	assert.NoError(c.t, err)
}

func (c *client) gets(lines ...string) {
	c.t.Helper()
	for _, want := range lines {
		line, err := c.lines.ReadString('\n')
		if !assert.NoError(c.t, err) || !assert.Equal(c.t, want, strings.TrimSuffix(line, "\n")) {
			return
		}
	}
}

func (c *client) getsEnd() {
	c.t.Helper()
	rest, err := io.ReadAll(c.lines)
	assert.NoError(c.t, err)
	assert.Empty(c.t, string(rest))
}

func byC(line string) string  { return "C " + line }
func byGo(line string) string { return fmt.Sprintf("Go %x", sha256.Sum256([]byte(line))) }

// eachOwner runs a test with connections that C serves, that Go owns, and that C has lent to Go.
func eachOwner(t *testing.T, test func(t *testing.T, p *program, connect func() *client, answer string)) {
	owners := map[string]struct {
		connect func(t *testing.T, p *program) *client
		answer  string
	}{
		"C":    {func(t *testing.T, p *program) *client { return dial(t, p.c) }, "C"},
		"Go":   {func(t *testing.T, p *program) *client { return dial(t, p.forGo) }, "Go"},
		"lent": {func(t *testing.T, p *program) *client { return lend(t, p) }, "Go"},
	}
	for name, owner := range owners {
		t.Run(name, func(t *testing.T) {
			p := start(t)
			test(t, p, func() *client { return owner.connect(t, p) }, owner.answer)
			p.ends(syscall.SIGTERM)
		})
	}
}

func TestLendsAndGivesBack(t *testing.T) {
	p := start(t)
	c := dial(t, p.c)
	c.send("one\n")
	c.gets(byC("one"))
	c.send("go\n")
	c.send("two\n")
	c.gets(byGo("two"))
	assert.Equal(t, "embed: 1 connections of C, 1 of them lent, 0 given to Go, 0 panics\n", p.status())
	c.send("back\n")
	c.gets("C again")
	c.send("three\n")
	c.gets(byC("three"))

	// The client may send lines for C and Go together. Each line is answered by whoever has
	// the connection when its turn comes, and no line is lost.
	for range 10 {
		c.send("1\ngo\n2\n3\nback\n4\ngo\n5\nback\n6\n")
		c.gets(byC("1"), byGo("2"), byGo("3"), "C again", byC("4"), byGo("5"), "C again", byC("6"))
	}
	assert.Equal(t, "embed: 1 connections of C, 0 of them lent, 0 given to Go, 0 panics\n", p.status())
	assert.Contains(t, p.ends(syscall.SIGTERM), "the end")
}

func TestManyAtOnce(t *testing.T) {
	p := start(t)
	var wg sync.WaitGroup
	for i := range 90 {
		c := dial(t, []string{p.c, p.forGo, p.c}[i%3])
		wg.Go(func() {
			for j := range 20 {
				line := fmt.Sprintf("%d of %d", j, i)
				switch i % 3 {
				case 0:
					c.send(line + "\n")
					c.gets(byC(line))
				case 1:
					c.send(line + "\n" + line + " again\n")
					c.gets(byGo(line), byGo(line+" again"))
				case 2:
					c.send("go\n" + line + "\nback\n" + line + "\n")
					c.gets(byGo(line), "C again", byC(line))
				}
			}
			_ = c.CloseWrite()
			c.getsEnd()
		})
	}
	wg.Wait()
	assert.Equal(t, "embed: 0 connections of C, 0 of them lent, 30 given to Go, 0 panics\n", p.status())
	p.ends(syscall.SIGTERM)
}

// A client that has ended its writing side still gets all answers.
func TestHalfClosed(t *testing.T) {
	eachOwner(t, func(t *testing.T, p *program, connect func() *client, answer string) {
		c := connect()
		c.send("many 1000000\nmany 3\n")
		require.NoError(t, c.CloseWrite())
		dial(t, p.c).send("meanwhile\n")
		n := 0
		for {
			line, err := c.lines.ReadString('\n')
			if line == "C again\n" { // Go has given the connection back at the client's end
				continue
			}
			if err != nil {
				assert.Equal(t, io.EOF, err)
				break
			}
			n++
			require.Equal(t, answer+"\n", line)
		}
		assert.Equal(t, 1000003, n)
	})
}

func TestPanicIsTheHosts(t *testing.T) {
	p := start(t)
	owned, lent := dial(t, p.forGo), lend(t, p)
	owned.send("panic at sea\nstill here\n")
	owned.gets(byGo("still here"))
	lent.send("panic\nback\nand C\n")
	lent.gets("C again", byC("and C"))
	assert.Contains(t, p.status(), "2 panics")
	assert.Contains(t, p.err.String(), "embed: panic in Go: the client said panic at sea\ngoroutine ")
	assert.Contains(t, p.ends(syscall.SIGTERM), "after 2 panics")
}

// After the client has closed the connection, the first write is answered by a reset. The
// next write fails with EPIPE, and raises SIGPIPE.
func TestWriteToAClosedConnection(t *testing.T) {
	eachOwner(t, func(t *testing.T, p *program, connect func() *client, _ string) {
		failed := func(how string) int { return strings.Count(strings.ToLower(p.err.String()), how) }
		for failed("broken pipe") < 3 { // a reset that comes early gives another error
			before := failed("connection")
			c := connect()
			c.send("many 1000000\n")
			require.NoError(t, c.Close())
			eventually(t, func() bool { return failed("connection") > before }, "an error of writing")
		}
		c := connect()
		c.send("many 2\n")
		_, err := io.ReadFull(c.lines, make([]byte, 4))
		assert.NoError(t, err)
		require.NoError(t, c.Close())
		eventually(t, func() bool { return strings.Contains(p.status(), " 0 connections of C") }, "all of C's are freed")
	})
}

// A write to a closed stderr does not end the process. If C alone ignored SIGPIPE, the Go
// runtime would end it.
func TestStderrIsGone(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	p := &program{t: t}
	p.begin(w)
	require.NoError(t, w.Close())
	require.NoError(t, r.Close())
	for _, addr := range []string{p.c, p.forGo} {
		c := dial(t, addr)
		c.send("many 1000000\n")
		require.NoError(t, c.Close())
	}
	c := dial(t, p.forGo)
	c.send("panic\nhello\n")
	c.gets(byGo("hello"))
	p.ends(syscall.SIGTERM)
}

// A signal may come on any thread of the program, also while it runs on the small stack of a
// goroutine.
func TestSignalsWhileGoRuns(t *testing.T) {
	p := start(t)
	rest, printed := make(chan string, 1), 0
	go func() {
		for {
			line, err := p.out.ReadString('\n')
			if err != nil || !strings.Contains(line, "connections of C") {
				rest <- line
				return
			}
			printed++
		}
	}()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				p.signalThreads(syscall.SIGUSR1)
			}
		}
	}()
	var wg sync.WaitGroup
	padding := strings.Repeat("x", 10000)
	for i := range 64 {
		c := dial(t, p.forGo)
		wg.Go(func() {
			for j := range 100 {
				line := fmt.Sprintf("%d of %d, %s", j, i, padding)
				c.send(line + "\n")
				c.gets(byGo(line))
			}
		})
	}
	wg.Wait()
	close(stop)
	<-stopped
	// At its end the program restores the default action of the signal, which would end it.
	eventually(t, p.hasHandled(syscall.SIGUSR1), "each thread has handled its signal")
	defer p.watch().Stop()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	assert.Equal(t, "embed: the end, after 0 panics\n", <-rest)
	assert.NoError(t, p.cmd.Wait(), p.err.String())
	assert.Greater(t, printed, 10)
}

// signalThreads sends a signal to each thread of the program.
func (p *program) signalThreads(sig syscall.Signal) {
	pid := p.cmd.Process.Pid
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	assert.NoError(p.t, err)
	for _, thread := range threads {
		tid, _ := strconv.Atoi(thread.Name())
		_, _, _ = syscall.Syscall(syscall.SYS_TGKILL, uintptr(pid), uintptr(tid), uintptr(sig)) // it may be gone
	}
}

// hasHandled returns a function that reports whether the signal waits for no thread of the program.
func (p *program) hasHandled(sig syscall.Signal) func() bool {
	return func() bool {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.cmd.Process.Pid))
		require.NoError(p.t, err)
		for _, file := range files {
			status, _ := os.ReadFile(file) // the thread may be gone
			var pending uint64
			if _, mask, ok := strings.Cut(string(status), "SigPnd:"); ok {
				_, err := fmt.Sscanf(mask, "%x", &pending)
				require.NoError(p.t, err)
			}
			if pending&(1<<(sig-1)) != 0 {
				return false
			}
		}
		return true
	}
}

func TestEnds(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(sig.String(), func(t *testing.T) {
			p := start(t)
			clients := []*client{dial(t, p.c), dial(t, p.forGo), lend(t, p)}
			clients[0].send("1\n")
			clients[0].gets(byC("1"))
			clients[1].send("1\n")
			clients[1].gets(byGo("1"))
			full := []*client{dial(t, p.c), dial(t, p.forGo), lend(t, p)}
			for _, c := range full { // whose answers are more than the sockets hold
				c.send("many 1000000\n")
				_, err := c.lines.ReadByte()
				require.NoError(t, err)
			}
			assert.Equal(t, "embed: the end, after 0 panics\n", p.ends(sig))
			for _, c := range clients {
				c.getsEnd()
			}
		})
	}
}

func TestPortIsTaken(t *testing.T) {
	p := start(t)
	_, port, err := net.SplitHostPort(p.c)
	require.NoError(t, err)
	out, err := exec.Command(binary, "0", port).CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 1, exit.ExitCode())
	assert.Equal(t, "embed: port "+port+": Address already in use\n", string(out))
	p.ends(syscall.SIGTERM)
}
