// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

func TestVersion(t *testing.T) {
	assert.Regexp(t, `^OpenSSL \d+\.\d+\.\d+`, openssl.Version())
}

// A server here, a client of crypto/tls.
func TestServer(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version})
		base := newLoop(t)
		fd, peer := testutil.TCPPair(t)
		conn := newSocket(t, ctx, base, fd)
		read, events := watch(t, conn)
		go2 := tls.Client(peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
		require.NoError(t, go2.Handshake())
		assert.Equal(t, version, go2.ConnectionState().Version)
		assert.Equal(t, told{libevent.EventConnected, nil}, testutil.Receive(t, events))
		_, err := go2.Write([]byte("ping"))
		require.NoError(t, err)
		assert.Equal(t, "ping", take(t, read, 4))
		_, err = conn.WriteString("pong")
		require.NoError(t, err)
		p := make([]byte, 4)
		_, err = io.ReadFull(go2, p)
		require.NoError(t, err)
		assert.Equal(t, "pong", string(p))

		state := conn.ConnectionState()
		assert.Equal(t, version, state.Version)
		assert.True(t, state.HandshakeComplete)
		assert.Equal(t, go2.ConnectionState().CipherSuite, state.CipherSuite)
		assert.Equal(t, tls.CipherSuiteName(state.CipherSuite), state.CipherSuiteName)
		assert.Equal(t, "example.test", state.ServerName)
		assert.Empty(t, state.PeerCertificates)

		require.NoError(t, go2.CloseWrite())
		assert.Equal(t, told{libevent.EventReading | libevent.EventEOF, io.EOF}, testutil.Receive(t, events))
		_, err = conn.WriteString("late")
		require.NoError(t, err)
		require.NoError(t, conn.FreeAfterFlush(testutil.Patience))
		rest, err := io.ReadAll(go2)
		require.NoError(t, err)
		assert.Equal(t, "late", string(rest))
		assert.Equal(t, state, conn.ConnectionState())
	})
}
