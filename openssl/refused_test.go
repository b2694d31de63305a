// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// refusing makes a server that refuses its client when the handshake is done, in the ways in which
// the handshake cannot wait for that.
func refusing(t *testing.T, test func(t *testing.T, conn *openssl.Conn, peer *tls.Conn)) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		for name, filter := range map[string]bool{"filter": true, "renegotiation": false} {
			t.Run(name, func(t *testing.T) {
				fd, socket := testutil.TCPPair(t)
				conn := newConn(t, server(t, &openssl.Config{
					Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version, Renegotiation: !filter,
					VerifyConnection: func(openssl.ConnectionState) error { return errUnwanted },
				}), newLoop(t), fd, filter)
				test(t, conn, tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"}))
			})
		}
	})
}

// bytesOf tells what a peer gets until the connection ends.
func bytesOf(peer *tls.Conn) <-chan string {
	all := make(chan string, 1)
	go func() {
		got, _ := io.ReadAll(peer) // how a refused connection ends for the peer does not matter
		all <- string(got)
	}()
	return all
}

// What was written before the handshake is not sent to a peer that is refused, and what the peer
// sends is not delivered.
func TestNothingIsSentToARefusedPeer(t *testing.T) {
	refusing(t, func(t *testing.T, conn *openssl.Conn, peer *tls.Conn) {
		_, err := conn.WriteString("secret")
		require.NoError(t, err)
		read, events := watch(t, conn)
		go func() { _, _ = peer.Write([]byte("from the peer")) }()
		got := bytesOf(peer)
		what := testutil.Receive(t, events)
		assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
		assert.Equal(t, errUnwanted, what.err)
		testutil.OnLoop(t, conn.Base(), func() { assert.Zero(t, conn.Input().Len()) })
		testutil.OnLoop(t, conn.Base(), func() {}) // another turn
		assert.Empty(t, events)
		assert.Empty(t, read)
		assert.Zero(t, conn.ConnectionState())
		conn.Free()
		assert.Empty(t, testutil.Receive(t, got))
	})
}

// A FreeAfterFlush that waits for the handshake sends nothing either, and ends.
func TestNothingIsFlushedToARefusedPeer(t *testing.T) {
	refusing(t, func(t *testing.T, conn *openssl.Conn, peer *tls.Conn) {
		_, err := conn.WriteString("secret")
		require.NoError(t, err)
		require.NoError(t, conn.FreeAfterFlush(testutil.Patience))
		assert.Empty(t, testutil.Receive(t, bytesOf(peer)))
		testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "the flush has ended")
	})
}

// renegotiating makes contexts that may renegotiate, and whose client shows another certificate in each handshake.
func renegotiating(t *testing.T, ca *authority, shown ...tls.Certificate) (accepting, connecting *openssl.Context) {
	calls := 0
	accepting = server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: tls.VersionTLS12,
		Renegotiation: true, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool()})
	connecting = client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", Renegotiation: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			calls++
			return &shown[calls-1], nil
		}})
	return accepting, connecting
}

// In a renegotiation a client shows another certificate than in its first handshake. The
// server would accept that certificate on a new connection, but has already told its user who the
// client is.
func TestAnotherPeerInARenegotiation(t *testing.T) {
	ca := newAuthority(t)
	shown := []tls.Certificate{ca.issue(t, "one"), ca.issue(t, "one"), ca.issue(t, "two")}
	shown[1] = shown[0]
	accepting, connecting := renegotiating(t, ca, shown...)
	a, b := testutil.Socketpair(t)
	accepted, peer := newSocket(t, accepting, newLoop(t), a), newSocket(t, connecting, newLoop(t), b)
	read, events := watch(t, accepted)
	_, shaken := watch(t, peer)
	require.Equal(t, connected, testutil.Receive(t, events))
	require.Equal(t, connected, testutil.Receive(t, shaken))
	_, err := peer.WriteString("one")
	require.NoError(t, err)
	assert.Equal(t, "one", take(t, read, 3))
	require.NoError(t, peer.Renegotiate())
	require.Equal(t, connected, testutil.Receive(t, shaken))
	_, err = peer.WriteString("one")
	require.NoError(t, err)
	assert.Equal(t, "one", take(t, read, 3))
	require.NoError(t, peer.Renegotiate())
	what := testutil.Receive(t, events)
	assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
	assert.ErrorContains(t, what.err, "another certificate in a renegotiation")
	assert.Empty(t, read)
	accepted.Free()
	peer.Free()
}

// A server asks for a renegotiation while its client has sent the start of a record, so OpenSSL puts it
// off. The server still knows its client, so that the client cannot
// show another certificate in a renegotiation of its own.
func TestAnotherPeerInAPutOffRenegotiation(t *testing.T) {
	ca := newAuthority(t)
	shown := []tls.Certificate{ca.issue(t, "one"), ca.issue(t, "two")}
	accepting, connecting := renegotiating(t, ca, shown...)
	a, toServer := testutil.Socketpair(t)
	b, toClient := testutil.Socketpair(t)
	near, far := fileConn(t, toServer), fileConn(t, toClient)
	accepted, peer := newSocket(t, accepting, newLoop(t), a), newSocket(t, connecting, newLoop(t), b)
	read, events := watch(t, accepted)
	_, shaken := watch(t, peer)
	forward := func(to, from net.Conn) { _, _ = io.Copy(to, from) }
	go forward(far, near)
	first := make(chan struct{})
	split, rest := make(chan struct{}), make(chan struct{})
	go func() {
		for p := make([]byte, 64<<10); ; {
			n, err := far.Read(p)
			if err != nil {
				return
			}
			start := p[:n]
			select {
			case <-first:
				start = p[:7]
			default:
			}
			_, _ = near.Write(start)
			if len(start) < n {
				close(split)
				<-rest
				_, _ = near.Write(p[7:n])
				forward(near, far)
				return
			}
		}
	}()
	require.Equal(t, connected, testutil.Receive(t, events))
	require.Equal(t, connected, testutil.Receive(t, shaken))
	before := accepted.ConnectionState()
	close(first)
	require.NoError(t, peer.Renegotiate())
	testutil.Receive(t, split)
	for range 3 {
		testutil.OnLoop(t, accepted.Base(), func() {}) // the server reads the start
	}
	require.NoError(t, accepted.Renegotiate())
	testutil.OnLoop(t, accepted.Base(), func() {})
	assert.Empty(t, events)
	assert.Equal(t, before, accepted.ConnectionState())
	close(rest)
	what := testutil.Receive(t, events)
	assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
	assert.ErrorContains(t, what.err, "another certificate in a renegotiation")
	assert.Empty(t, read)
	accepted.Free()
	peer.Free()
}
