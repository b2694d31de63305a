// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/evnet"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// shaking makes the connection of a client whose server does not answer.
func shaking(t *testing.T) *evnet.Conn {
	base := running(t)
	ctx, err := openssl.NewClientContext(&openssl.Config{InsecureSkipVerify: true, HandshakeTimeout: 50 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(ctx.Free)
	fd, _ := testutil.TCPPair(t)
	bev, err := ctx.NewSocket(base, fd, libevent.OptCloseOnFree)
	require.NoError(t, err)
	c, err := evnet.NewConn(bev.BufferEvent)
	require.NoError(t, err)
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
	base := running(t)
	ctx, err := openssl.NewClientContext(&openssl.Config{ServerName: "example.test"})
	require.NoError(t, err)
	t.Cleanup(ctx.Free)
	fd, peer := testutil.TCPPair(t)
	bev, err := ctx.NewSocket(base, fd, libevent.OptCloseOnFree)
	require.NoError(t, err)
	c, err := evnet.NewConn(bev.BufferEvent)
	require.NoError(t, err)
	_, err = peer.Write([]byte("\x15\x03\x03\x00\x02\x02\x28")) // the alert handshake_failure
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

// Close before the end of a handshake waits for that with what was written, but no longer than HandshakeTimeout.
func TestCloseInHandshake(t *testing.T) {
	c := shaking(t)
	require.NoError(t, c.SetLinger(3600))
	_, err := c.Write([]byte("too early"))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "the connection is freed")
}
