// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent/examples/redis/hiredis"
	"github.com/go-libevent/libevent/examples/redis/internal/redistest"
)

const patience = 30 * time.Second

// run runs a gateway until the end of the test, and returns its address.
func run(t *testing.T, server string) (addr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan net.Addr, 1), make(chan error, 1)
	go func() { done <- serve(ctx, "127.0.0.1:0", server, func(addr net.Addr) { ready <- addr }) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			assert.NoError(t, err)
			assert.Zero(t, hiredis.Live())
		case <-time.After(patience):
			t.Error("the gateway does not end")
		}
	})
	select {
	case addr := <-ready:
		return addr.String()
	case err := <-done:
		done <- err
		require.NoError(t, err)
	case <-time.After(patience):
		require.Fail(t, "the gateway does not start")
	}
	return ""
}

func connect(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn.(*net.TCPConn)
}

// talk sends a text, closes the writing side, and returns everything that comes back.
func talk(t *testing.T, addr, text string) string {
	t.Helper()
	conn := connect(t, addr)
	go func() {
		_, _ = io.WriteString(conn, text)
		_ = conn.CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	return string(got)
}

func TestGateway(t *testing.T) {
	addr := run(t, redistest.Start(t).Unix)
	assert.Equal(t, "\"OK\"\n\"v\\xff\"\nnil\n1\nerror: WRONGTYPE Operation against a key holding the wrong kind of value\n",
		talk(t, addr, "SET k v\xff\r\nGET  k\n\nGET nothing\nRPUSH l a\nINCR l\n"))
	assert.Equal(t, "\"OK\"\n\"QUEUED\"\n\"QUEUED\"\n2:\n2\nerror: WRONGTYPE Operation against a key holding the wrong kind of value\n2:\n\"a\"\n\"b\"\n",
		talk(t, addr, "MULTI\nRPUSH l b\nGET l\nEXEC\nLRANGE l 0 -1\n"))
	assert.Equal(t, "\"PONG\"\nerror: hiredis: MONITOR is not answered by one reply, so not for Do\n",
		talk(t, addr, "PING\nMONITOR\nPING\n"), "in order, and the end")
	assert.Equal(t, "error: the line is too long\n", talk(t, addr, strings.Repeat("x", 2*maxLine)))
}

// A client may send far more commands than may wait for replies, and read the replies later.
func TestGatewayPipeline(t *testing.T) {
	addr := run(t, redistest.Start(t).TCP)
	const n = 20_000
	value := strings.Repeat("v", 1000)
	conn := connect(t, addr)
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, strings.Repeat("ECHO "+value+"\n", n))
		sent <- err
		_ = conn.CloseWrite()
	}()
	lines := bufio.NewReader(conn)
	for range n {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("%q\n", value), line)
	}
	_, err := lines.ReadByte()
	assert.ErrorIs(t, err, io.EOF)
	assert.NoError(t, <-sent)
}

func TestGatewayWithoutServer(t *testing.T) {
	server := redistest.Start(t)
	addr := run(t, server.TCP)
	waiting := connect(t, addr)
	_, err := io.WriteString(waiting, "PING\n")
	require.NoError(t, err)
	lines := bufio.NewReader(waiting)
	pong, err := lines.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "\"PONG\"\n", pong)
	server.Kill(t)
	rest, err := io.ReadAll(lines)
	require.NoError(t, err)
	assert.Contains(t, string(rest), "error: hiredis: ")
	assert.Contains(t, talk(t, addr, "PING\n"), "Connection refused")
	nowhere := run(t, "/nowhere/socket")
	assert.Contains(t, talk(t, nowhere, ""), "No such file")
}
