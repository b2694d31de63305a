// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/evnet"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// tlsConn makes the connection of a client, whose handshake may take that long, and the socket of its server.
func tlsConn(t *testing.T, limit time.Duration) (*evnet.Conn, *net.TCPConn) {
	t.Helper()
	base := running(t)
	ctx, err := openssl.NewClientContext(&openssl.Config{InsecureSkipVerify: true, HandshakeTimeout: limit})
	require.NoError(t, err)
	t.Cleanup(ctx.Free)
	fd, peer := testutil.TCPPair(t)
	bev, err := ctx.NewSocket(base, fd, libevent.OptCloseOnFree)
	require.NoError(t, err)
	c, err := evnet.NewConn(bev.BufferEvent)
	require.NoError(t, err)
	return c, peer
}

// shaking makes the connection of a client whose server does not answer.
func shaking(t *testing.T) *evnet.Conn {
	t.Helper()
	c, _ := tlsConn(t, 50*time.Millisecond)
	return c
}

// A handshake that takes too long ends the connection for good. As a new deadline does not help,
// the error does not match that of a deadline. Close does not wait for output that is left.
func TestHandshakeTimeout(t *testing.T) {
	c := shaking(t)
	_, err := c.Write([]byte("too early"))
	require.NoError(t, err)
	p := make([]byte, 1)
	for _, call := range []func([]byte) (int, error){c.Read, c.Write, c.Read} {
		n, err := call(p)
		assert.Zero(t, n)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.False(t, errors.Is(err, os.ErrDeadlineExceeded))
		assert.ErrorContains(t, err, "TLS handshake timeout")
		var failed net.Error
		require.ErrorAs(t, err, &failed)
		assert.True(t, failed.Timeout())
		require.NoError(t, c.SetDeadline(time.Now().Add(testutil.Patience)))
	}
	require.NoError(t, c.Close())
	testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "the connection is freed")
}

// After a handshake that has failed all calls return the reason.
func TestHandshakeFails(t *testing.T) {
	c, peer := tlsConn(t, testutil.Patience)
	_, err := peer.Write([]byte("\x15\x03\x03\x00\x02\x02\x28")) // the alert handshake_failure
	require.NoError(t, err)
	p := make([]byte, 1)
	for _, call := range []func([]byte) (int, error){c.Read, c.Write, c.Read, c.Write} {
		n, err := call(p)
		assert.Zero(t, n)
		assert.ErrorContains(t, err, "handshake failure")
	}
	require.NoError(t, c.Close())
	testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "the connection is freed")
}

// What Write has accepted before a handshake that fails is lost, and CloseWrite says why, once.
func TestCloseWriteTellsOfAFailedHandshake(t *testing.T) {
	for name, c := range map[string]struct {
		alert string // of the server
		want  string
	}{
		"alert":   {"\x15\x03\x03\x00\x02\x02\x28", "handshake failure"},
		"timeout": {"", "TLS handshake timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			limit := 50 * time.Millisecond
			if c.alert != "" {
				limit = testutil.Patience
			}
			conn, peer := tlsConn(t, limit)
			_, err := conn.Write([]byte("too early"))
			require.NoError(t, err)
			_, err = peer.Write([]byte(c.alert))
			require.NoError(t, err)
			_, err = conn.Read(make([]byte, 1)) // waits for the failure
			assert.ErrorContains(t, err, c.want)
			err = conn.CloseWrite()
			assertOp(t, err, "close", err)
			assert.ErrorContains(t, err, c.want)
			assert.NoError(t, conn.CloseWrite())
			require.NoError(t, conn.Close())
			testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "the connection is freed")
		})
	}
}

// An end without close_notify ends writing as well. What is still in the output is lost, and CloseWrite tells.
func TestCloseWriteTellsOfACutConnection(t *testing.T) {
	certFile, keyFile, _ := testutil.Certificate(t)
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	conn, peer := tlsConn(t, testutil.Patience)
	require.NoError(t, tls.Server(peer, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake())
	fill(t, conn)
	require.NoError(t, peer.CloseWrite())
	_, err = conn.Read(make([]byte, 1)) // waits for the end
	assert.Equal(t, io.ErrUnexpectedEOF, err)
	assertOp(t, conn.CloseWrite(), "close", syscall.EPIPE)
	assert.NoError(t, conn.CloseWrite())
	require.NoError(t, conn.Close())
	testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "the connection is freed")
}

// Close before the end of a handshake waits for that with what was written, but no longer than HandshakeTimeout.
func TestCloseInHandshake(t *testing.T) {
	c := shaking(t)
	require.NoError(t, c.SetLinger(3600))
	_, err := c.Write([]byte("too early"))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "the connection is freed")
}
