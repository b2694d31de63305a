// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// connectable is what BufferEvent and Conn have in common here.
type connectable interface {
	Connect(network, address string) error
	ConnectHostname(dns *libevent.DNSBase, network, host string, port int) error
	SetCallbacks(read, write func(*libevent.BufferEvent), event func(*libevent.BufferEvent, libevent.Events)) error
}

// connecting are the ways to begin a connection.
var connecting = map[string]func(t *testing.T, base *libevent.Base, c connectable, port int) error{
	"Connect": func(_ *testing.T, _ *libevent.Base, c connectable, port int) error {
		return c.Connect("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	},
	"ConnectHostname address": func(_ *testing.T, _ *libevent.Base, c connectable, port int) error {
		return c.ConnectHostname(nil, "tcp", "127.0.0.1", port)
	},
	"ConnectHostname name": func(_ *testing.T, _ *libevent.Base, c connectable, port int) error {
		return c.ConnectHostname(nil, "tcp", "localhost", port)
	},
	// The first address of the name refuses the connection.
	"ConnectHostname second address": func(t *testing.T, base *libevent.Base, c connectable, port int) error {
		hosts := filepath.Join(t.TempDir(), "hosts")
		require.NoError(t, os.WriteFile(hosts, []byte("::1 two.test\n127.0.0.1 two.test\n"), 0o600))
		dns := testutil.NewDNSBase(t, base, libevent.DNSConfig{NoSystemConfig: true, Hosts: hosts})
		return c.ConnectHostname(dns, "tcp", "two.test", port)
	},
}

// layers are what may be on a socket: each function returns what connects, and the top of
// the stack, which is written to and ended.
var layers = map[string]func(t *testing.T, base *libevent.Base, ctx *openssl.Context) (connects connectable, top *libevent.BufferEvent){
	"socket": func(t *testing.T, base *libevent.Base, _ *openssl.Context) (connectable, *libevent.BufferEvent) {
		bev := unconnected(t, base)
		return bev, bev
	},
	"filter": func(t *testing.T, base *libevent.Base, _ *openssl.Context) (connectable, *libevent.BufferEvent) {
		bev := unconnected(t, base)
		return bev, testutil.NewFilter(t, bev, nil, nil, libevent.OptCloseOnFree)
	},
	"filter on filter": func(t *testing.T, base *libevent.Base, _ *openssl.Context) (connectable, *libevent.BufferEvent) {
		bev := unconnected(t, base)
		top := testutil.NewFilter(t, bev, nil, nil, libevent.OptCloseOnFree)
		return bev, testutil.NewFilter(t, top, nil, nil, libevent.OptCloseOnFree)
	},
	"TLS socket": func(t *testing.T, base *libevent.Base, ctx *openssl.Context) (connectable, *libevent.BufferEvent) {
		conn := tlsSocket(t, base, ctx)
		return conn, conn.BufferEvent
	},
	"filter on TLS socket": func(t *testing.T, base *libevent.Base, ctx *openssl.Context) (connectable, *libevent.BufferEvent) {
		conn := tlsSocket(t, base, ctx)
		return conn, testutil.NewFilter(t, conn.BufferEvent, nil, nil, libevent.OptCloseOnFree)
	},
	"TLS filter": func(t *testing.T, base *libevent.Base, ctx *openssl.Context) (connectable, *libevent.BufferEvent) {
		bev := unconnected(t, base)
		return bev, tlsFilter(t, bev, ctx)
	},
	"filter on TLS filter": func(t *testing.T, base *libevent.Base, ctx *openssl.Context) (connectable, *libevent.BufferEvent) {
		bev := unconnected(t, base)
		return bev, testutil.NewFilter(t, tlsFilter(t, bev, ctx), nil, nil, libevent.OptCloseOnFree)
	},
	"TLS filter on filter": func(t *testing.T, base *libevent.Base, ctx *openssl.Context) (connectable, *libevent.BufferEvent) {
		bev := unconnected(t, base)
		return bev, tlsFilter(t, testutil.NewFilter(t, bev, nil, nil, libevent.OptCloseOnFree), ctx)
	},
}

func unconnected(t *testing.T, base *libevent.Base) *libevent.BufferEvent {
	t.Helper()
	bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	return bev
}

func tlsSocket(t *testing.T, base *libevent.Base, ctx *openssl.Context) *openssl.Conn {
	t.Helper()
	conn, err := ctx.NewSocket(base, -1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	require.NoError(t, conn.SetCallbacks(nil, nil, nil))
	return conn
}

func tlsFilter(t *testing.T, under *libevent.BufferEvent, ctx *openssl.Context) *libevent.BufferEvent {
	t.Helper()
	conn, err := ctx.NewFilter(under, libevent.OptCloseOnFree)
	require.NoError(t, err)
	require.NoError(t, conn.SetCallbacks(nil, nil, nil))
	return conn.BufferEvent
}

// Each way to end writes first what was written before there was a connection.
var endings = map[string]func(t *testing.T, b *libevent.BufferEvent){
	"CloseWrite": func(t *testing.T, b *libevent.BufferEvent) { assert.NoError(t, b.CloseWrite()) },
	"FreeAfterFlush": func(t *testing.T, b *libevent.BufferEvent) {
		assert.NoError(t, b.FreeAfterFlush(testutil.Patience))
	},
	"CloseWrite, FreeAfterFlush": func(t *testing.T, b *libevent.BufferEvent) {
		assert.NoError(t, b.CloseWrite())
		assert.NoError(t, b.FreeAfterFlush(testutil.Patience))
	},
}

// TestEndWhileConnecting writes and ends before there is a connection: all bytes arrive, and
// an end behind them, whatever is on the socket and however it connects.
func TestEndWhileConnecting(t *testing.T) {
	ln, port := listening(t)
	certFile, keyFile, pool := testutil.Certificate(t)
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	ctx, err := openssl.NewClientContext(&openssl.Config{RootCAs: pool, ServerName: "localhost"})
	require.NoError(t, err)
	t.Cleanup(ctx.Free)
	sent := testutil.Noise(300000)
	for way, connect := range connecting {
		for layer, make := range layers {
			for end, do := range endings {
				t.Run(way+"/"+layer+"/"+end, func(t *testing.T) {
					base := testutil.NewBase(t)
					connects, top := make(t, base, ctx)
					_, err := top.Write(sent)
					require.NoError(t, err)
					require.NoError(t, connect(t, base, connects, port))
					do(t, top)
					testutil.Background(t, base)
					testutil.Same(t, sent, receivedBy(t, ln, layer, cert))
					top.Free()
				})
			}
		}
	}
}

func listening(t *testing.T) (ln net.Listener, port int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	return ln, ln.Addr().(*net.TCPAddr).Port
}

// receivedBy returns what the next client sends until its end.
func receivedBy(t *testing.T, ln net.Listener, layer string, cert tls.Certificate) []byte {
	t.Helper()
	type outcome struct {
		got []byte
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			done <- outcome{err: err}
			return
		}
		defer conn.Close()
		if isTLS(layer) {
			conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
		}
		got, err := io.ReadAll(conn)
		done <- outcome{got, err}
	}()
	result := testutil.Receive(t, done)
	require.NoError(t, result.err)
	return result.got
}

func isTLS(layer string) bool {
	return layer != "socket" && layer != "filter" && layer != "filter on filter"
}
