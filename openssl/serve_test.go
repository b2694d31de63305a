// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// TestServe serves TLS with a Handler, through a Pipe that speaks TLS on both sides. The name of the
// server that the Pipe leads to has one address, or another one before it that refuses.
func TestServe(t *testing.T) {
	t.Run("one address", func(t *testing.T) { serve(t, "127.0.0.1 two.test\n") })
	t.Run("the second address", func(t *testing.T) { serve(t, "::1 two.test\n127.0.0.1 two.test\n") })
}

// serve is TestServe with a file of hosts.
func serve(t *testing.T, hosts string) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "two.test")}, NextProtos: []string{"test"}})
	toServer := client(t, &openssl.Config{RootCAs: ca.pool(), NextProtos: []string{"test"}})
	base := newLoop(t)
	file := filepath.Join(t.TempDir(), "hosts")
	require.NoError(t, os.WriteFile(file, []byte(hosts), 0o600))
	dns := testutil.NewDNSBase(t, base, libevent.DNSConfig{NoSystemConfig: true, Hosts: file})
	opts := libevent.ServeOptions{NewSocket: ctx.Socket}
	echo, err := base.Serve("tcp", "127.0.0.1:0", opts, func(c *libevent.BufferEvent) libevent.Handler {
		conn := openssl.ConnOf(c)
		assert.Same(t, c, conn.BufferEvent)
		return libevent.Handler{
			Connected: func(*libevent.BufferEvent) {
				assert.Equal(t, "test", conn.ConnectionState().NegotiatedProtocol)
			},
			Read: testutil.Mirror,
		}
	})
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(echo.Addr().String())
	require.NoError(t, err)
	proxy, err := base.Serve("tcp", "127.0.0.1:0", opts, func(c *libevent.BufferEvent) libevent.Handler {
		target, err := toServer.Socket(base, -1, libevent.OptCloseOnFree)
		assert.NoError(t, err)
		assert.NoError(t, libevent.Pipe(c, target, nil))
		// The name is the one that the certificate is verified for.
		assert.NoError(t, target.ConnectTo(dns, "tcp", net.JoinHostPort("two.test", port)))
		return libevent.Handler{}
	})
	require.NoError(t, err)
	conn, err := tls.Dial("tcp", proxy.Addr().String(), &tls.Config{RootCAs: ca.pool(), ServerName: "two.test", NextProtos: []string{"test"}})
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(testutil.Patience)))
	data := testutil.Noise(4 << 20)
	go func() {
		_, err := conn.Write(data)
		assert.NoError(t, err)
		assert.NoError(t, conn.CloseWrite())
	}()
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(data, got))
	limit, cancel := context.WithTimeout(context.Background(), testutil.Patience)
	defer cancel()
	assert.NoError(t, proxy.Shutdown(limit))
	assert.NoError(t, echo.Shutdown(limit))
}

// The handler, or a closure after a word of the client (as with STARTTLS), puts TLS on a connection
// of plain TCP. Shutdown ends the stream of TLS in order, whoever frees the socket.
func TestServePutsTLSOnTop(t *testing.T) {
	for _, word := range []string{"", "STARTTLS"} {
		for _, opts := range []libevent.Options{0, libevent.OptCloseOnFree} {
			t.Run(fmt.Sprintf("%s %v", word, opts), func(t *testing.T) { servesTLSOnTop(t, word, opts) })
		}
	}
}

func servesTLSOnTop(t *testing.T, word string, opts libevent.Options) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	group, err := libevent.NewGroup(2, libevent.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, group.Free()) })
	echo := libevent.Handler{Read: func(c *libevent.BufferEvent) {
		assert.NotNil(t, openssl.ConnOf(c))
		testutil.Mirror(c)
	}}
	s, err := group.Serve("tcp", "127.0.0.1:0", libevent.ServeOptions{}, func(c *libevent.BufferEvent) libevent.Handler {
		if word == "" {
			_, err := ctx.NewFilter(c, opts)
			assert.NoError(t, err)
			return echo
		}
		return libevent.Handler{Read: func(c *libevent.BufferEvent) {
			if c.Input().Len() < len(word) {
				return
			}
			testutil.Mirror(c)
			conn, err := ctx.NewFilter(c, opts)
			assert.NoError(t, err)
			assert.NoError(t, conn.Handle(echo))
		}}
	})
	require.NoError(t, err)
	testutil.Background(t, group)
	socket := testutil.Dial(t, s.Listener())
	assert.Equal(t, word, testutil.Say(t, socket, word))
	conn := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	assert.Equal(t, "hello", testutil.Say(t, conn, "hello"))
	conns := s.Conns()
	require.Len(t, conns, 1)
	assert.NotNil(t, openssl.ConnOf(conns[0]))
	end := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(conn)
		end <- err
	}()
	limit, cancel := context.WithTimeout(context.Background(), testutil.Patience)
	defer cancel()
	require.NoError(t, s.Shutdown(limit))
	assert.NoError(t, testutil.Receive(t, end), "close_notify came")
}

func TestConnOfOthers(t *testing.T) {
	base := testutil.NewBase(t)
	a, _ := testutil.NewPair(t, base)
	assert.Nil(t, openssl.ConnOf(a))
	assert.Nil(t, openssl.ConnOf(nil))
}
