// SPDX-License-Identifier: BSD-3-Clause

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"regexp"
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

func TestMain(m *testing.M) { os.Exit(testutil.MainWithProgram(m, &binary, testutil.BuildGo)) }

// server is a running server.
type server struct {
	cmd  *exec.Cmd
	addr string
	out  *bufio.Reader
}

// eachWay runs a test against a server with one loop, and one with two.
func eachWay(t *testing.T, test func(t *testing.T, loops int)) {
	for _, loops := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d loops", loops), func(t *testing.T) { test(t, loops) })
	}
}

// start starts a server and checks its first line.
func start(t *testing.T, loops int) *server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, binary, "-addr", "127.0.0.1:0", "-loops", strconv.Itoa(loops))
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	out := bufio.NewReader(stdout)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	m := regexp.MustCompile(`^echo: listening on (127\.0\.0\.1:\d+), libevent 2\.\d+\.\d+[^\s,]*, \w+(, 2 loops)?\n$`).FindStringSubmatch(line)
	require.NotNil(t, m, line)
	require.Equal(t, loops == 2, m[2] != "", line)
	return &server{cmd, m[1], out}
}

// stop ends the server with a signal and returns its totals.
func (s *server) stop(t *testing.T, sig os.Signal) (connections, bytes, callbacks int) {
	t.Helper()
	require.NoError(t, s.cmd.Process.Signal(sig))
	rest, err := io.ReadAll(s.out)
	require.NoError(t, err)
	require.NoError(t, s.cmd.Wait(), "exit 0")
	_, err = fmt.Sscanf(string(rest), "echo: %d connections, %d bytes, %d callbacks\n", &connections, &bytes, &callbacks)
	require.NoError(t, err, string(rest))
	return connections, bytes, callbacks
}

func (s *server) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

// memory is the server's resident set in bytes.
func (s *server) memory(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Skip("no /proc here")
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	require.NotNil(t, m)
	kb, err := strconv.Atoi(string(m[1]))
	require.NoError(t, err)
	return kb << 10
}

func noise(n int) []byte {
	p := make([]byte, n)
	rand.New(rand.NewSource(int64(n))).Read(p)
	return p
}

// exchange sends data, closes the writing side, and returns everything that comes back.
func exchange(conn *net.TCPConn, data []byte) ([]byte, error) {
	go func() {
		_, _ = conn.Write(data)
		_ = conn.CloseWrite()
	}()
	return io.ReadAll(conn)
}

func TestEchoAtEverySize(t *testing.T) { eachWay(t, testEchoAtEverySize) }

func testEchoAtEverySize(t *testing.T, loops int) {
	s := start(t, loops)
	total := 0
	sizes := []int{0, 1, 63, 4095, 4096, 4097, 65_537, 1 << 20, 20 << 20}
	for _, size := range sizes {
		data := noise(size)
		got, err := exchange(s.dial(t), data)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got), "%d bytes sent, %d came back", size, len(got))
		total += size
	}
	connections, sum, callbacks := s.stop(t, syscall.SIGTERM)
	assert.Equal(t, len(sizes), connections)
	assert.Equal(t, total, sum)
	assert.Greater(t, callbacks, len(sizes))
}

// A client that does not read costs the server bounded memory. When it reads at last, it
// gets everything.
func TestEchoClientThatDoesNotRead(t *testing.T) { eachWay(t, testEchoClientThatDoesNotRead) }

func testEchoClientThatDoesNotRead(t *testing.T, loops int) {
	s := start(t, loops)
	conn := s.dial(t)
	before := s.memory(t)
	data := noise(64 << 20)
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(data)
		_ = conn.CloseWrite()
		sent <- err
	}()
	// The server stops reading, so the client's Write stops.
	select {
	case err := <-sent:
		require.Fail(t, "the server took everything", "%v", err)
	case <-time.After(time.Second):
	}
	assert.Less(t, s.memory(t)-before, 16<<20)
	// Another client is served meanwhile.
	got, err := exchange(s.dial(t), []byte("hello"))
	require.NoError(t, err)
	assert.Equal(t, "hello", string(got))

	got, err = io.ReadAll(conn)
	require.NoError(t, err)
	require.NoError(t, <-sent)
	assert.True(t, bytes.Equal(data, got))
	s.stop(t, os.Interrupt)
}

// A thousand clients send and receive at once; some of them reset their connections.
func TestEchoUnderPressure(t *testing.T) { eachWay(t, testEchoUnderPressure) }

func testEchoUnderPressure(t *testing.T, loops int) {
	s := start(t, loops)
	const clients, rounds, size = 1000, 20, 512
	conns := make([]*net.TCPConn, clients)
	for i := range conns {
		conns[i] = s.dial(t)
	}
	var wg sync.WaitGroup
	for i, conn := range conns {
		wg.Go(func() {
			data, got := noise(size+i), make([]byte, size+i)
			for round := range rounds {
				if i%10 == 0 && round == rounds/2 {
					_, _ = conn.Write(data)
					_ = conn.SetLinger(0)
					_ = conn.Close()
					return
				}
				if _, err := conn.Write(data); !assert.NoError(t, err) {
					return
				}
				if _, err := io.ReadFull(conn, got); !assert.NoError(t, err) {
					return
				}
				if !bytes.Equal(data, got) {
					assert.Fail(t, "bytes differ")
					return
				}
			}
		})
	}
	wg.Wait()
	connections, _, _ := s.stop(t, syscall.SIGTERM)
	assert.Equal(t, clients, connections)
}

// A server that stops still sends a slow client its bytes.
func TestEchoStopDrains(t *testing.T) { eachWay(t, testEchoStopDrains) }

func testEchoStopDrains(t *testing.T, loops int) {
	s := start(t, loops)
	conn := s.dial(t)
	data := noise(512 << 10)
	_, err := conn.Write(data)
	require.NoError(t, err)
	first := make([]byte, 1)
	_, err = io.ReadFull(conn, first) // the server has begun to answer
	require.NoError(t, err)
	got := make(chan []byte, 1)
	go func() {
		// This client reads on only when the server has begun to stop, which shows when the
		// server accepts no more connections.
		for {
			other, err := net.Dial("tcp", s.addr)
			if err != nil {
				break
			}
			_ = other.Close()
		}
		p, _ := io.ReadAll(conn)
		got <- append(first, p...)
	}()
	_, sum, _ := s.stop(t, syscall.SIGTERM)
	p := <-got
	assert.True(t, bytes.Equal(data[:sum], p), "%d taken, %d came back", sum, len(p))
	_, err = net.Dial("tcp", s.addr)
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
}

func TestEchoRefusesBadUse(t *testing.T) { eachWay(t, testEchoRefusesBadUse) }

func testEchoRefusesBadUse(t *testing.T, loops int) {
	s := start(t, loops)
	for _, args := range [][]string{{"-addr", s.addr}, {"-addr", "nonsense"}, {"-no-such-flag"}, {"extra"}, {"-loops", "-1"}, {"-loops", "x"}} {
		var stderr bytes.Buffer
		cmd := exec.Command(binary, args...)
		cmd.Stderr = &stderr
		err := cmd.Run()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit, "%v", args)
		assert.Equal(t, 1, strings.Count(stderr.String(), "\n"), "one line: %q", stderr.String())
		assert.True(t, strings.HasPrefix(stderr.String(), "echo: "), stderr.String())
	}
	out, err := exec.Command(binary, "-h").Output()
	require.NoError(t, err)
	assert.Contains(t, string(out), "127.0.0.1:9595")
	assert.Contains(t, string(out), "-loops")
	s.stop(t, syscall.SIGTERM)
}
