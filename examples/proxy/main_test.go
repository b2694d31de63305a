// SPDX-License-Identifier: BSD-3-Clause

package main_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent/internal/testutil"
)

var binary string

func TestMain(m *testing.M) { os.Exit(testutil.MainWithProgram(m, &binary, testutil.BuildGo)) }

// target runs a server on loopback, with TLS if cfg is not nil.
func target(t *testing.T, cfg *tls.Config, handle func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(testutil.Patience))
			if cfg != nil {
				conn = tls.Server(conn, cfg)
			}
			go func() {
				handle(conn)
				_ = conn.Close()
			}()
		}
	}()
	return ln.Addr().String()
}

type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// With plain TCP and TLS on either side, everything that is sent comes back after the
// sender has ended its side.
func TestEachWay(t *testing.T) {
	certFile, keyFile, pool := testutil.Certificate(t)
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	much := make([]byte, 8<<20)
	_, err = rand.Read(much)
	require.NoError(t, err)
	for _, tlsIn := range []bool{false, true} {
		for _, tlsOut := range []bool{false, true} {
			t.Run(fmt.Sprintf("in %v, out %v", tlsIn, tlsOut), func(t *testing.T) {
				var cfg *tls.Config
				if tlsOut {
					cfg = &tls.Config{Certificates: []tls.Certificate{cert}}
				}
				// The target answers only after the client's end, so the proxy has to
				// forward that end without closing the other direction.
				to := target(t, cfg, func(conn net.Conn) {
					p, err := io.ReadAll(conn)
					assert.NoError(t, err)
					_, err = conn.Write(p)
					assert.NoError(t, err)
				})
				args := []string{"-listen", "127.0.0.1:0", "-to", strings.Replace(to, "127.0.0.1", "localhost", 1)}
				if tlsIn {
					args = append(args, "-cert", certFile, "-key", keyFile)
				}
				if tlsOut {
					args = append(args, "-tls", "-ca", certFile)
				}
				addr := testutil.Serve(t, binary, args...)
				var conn halfCloser
				if tlsIn {
					conn, err = tls.Dial("tcp", addr, &tls.Config{RootCAs: pool})
				} else {
					var c net.Conn
					c, err = net.Dial("tcp", addr)
					conn, _ = c.(*net.TCPConn)
				}
				require.NoError(t, err)
				defer conn.Close()
				require.NoError(t, conn.SetDeadline(time.Now().Add(testutil.Patience)))
				_, err = conn.Write(much)
				require.NoError(t, err)
				require.NoError(t, conn.CloseWrite())
				got, err := io.ReadAll(conn)
				require.NoError(t, err)
				assert.True(t, bytes.Equal(much, got), "%d bytes of %d", len(got), len(much))
			})
		}
	}
}

// The proxy sends nothing to a target whose certificate it does not trust, and closes the
// client's connection.
func TestUntrustedTarget(t *testing.T) {
	certFile, keyFile, _ := testutil.Certificate(t)
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	to := target(t, &tls.Config{Certificates: []tls.Certificate{cert}}, func(conn net.Conn) {
		p, _ := io.ReadAll(conn)
		assert.Empty(t, p)
	})
	other, _, _ := testutil.Certificate(t)
	addr := testutil.Serve(t, binary, "-listen", "127.0.0.1:0", "-to", to, "-tls", "-ca", other)
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(testutil.Patience)))
	_, err = conn.Write([]byte("secret"))
	require.NoError(t, err)
	got, _ := io.ReadAll(conn)
	assert.Empty(t, got)
}

// With -clients the proxy forwards nothing of a client without a certificate.
func TestClientCertificates(t *testing.T) {
	certFile, keyFile, pool := testutil.Certificate(t)
	clientFile, clientKey, _ := testutil.Certificate(t)
	cert, err := tls.LoadX509KeyPair(clientFile, clientKey)
	require.NoError(t, err)
	to := target(t, nil, func(conn net.Conn) { _, _ = io.Copy(conn, conn) })
	addr := testutil.Serve(t, binary, "-listen", "127.0.0.1:0", "-to", to, "-cert", certFile, "-key", keyFile, "-clients", clientFile)
	for _, certs := range [][]tls.Certificate{{cert}, nil} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: certs})
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(testutil.Patience)))
		_, _ = conn.Write([]byte("hello")) // without a certificate it may fail
		_, err = io.ReadFull(conn, make([]byte, 5))
		assert.Equal(t, certs != nil, err == nil, "%v", err)
	}
}

// A client that does not read does not fill the proxy: the target's Write stops.
func TestBackPressure(t *testing.T) {
	written := make(chan int, 1)
	to := target(t, nil, func(conn net.Conn) {
		_ = conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
		n, _ := conn.Write(make([]byte, 256<<20))
		written <- n
	})
	certFile, keyFile, pool := testutil.Certificate(t)
	addr := testutil.Serve(t, binary, "-listen", "127.0.0.1:0", "-to", to, "-cert", certFile, "-key", keyFile)
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool})
	require.NoError(t, err)
	defer conn.Close()
	assert.Less(t, <-written, 64<<20)
}

func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{nil, {"-to", "nowhere"}, {"-to", "a:b"}, {"-to", "a:1", "-cert", "x"}, {"-to", "a:1", "-ca", "x"},
		{"-to", "a:1", "extra"}, {"-to", "a:1", "-tls", "-ca", "/none"}, {"-to", "a:1", "-cert", "/none", "-key", "/none"}} {
		assert.Error(t, exec.Command(binary, args...).Run(), "%v", args)
	}
}
