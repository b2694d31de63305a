// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// renegotiate has a client renegotiate. work runs in the middle of that: the server does not answer
// before work returns, because it has the same loop. The client's events come from shaken, and what
// the server reads from read.
func renegotiate(t *testing.T, work func(*openssl.Conn)) (conn *openssl.Conn, shaken <-chan told, read <-chan string) {
	ca := newAuthority(t)
	base := newLoop(t)
	accepting := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: tls.VersionTLS12, Renegotiation: true})
	connecting := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", Renegotiation: true})
	a, b := testutil.Socketpair(t)
	accepted, conn := newSocket(t, accepting, base, a), newSocket(t, connecting, base, b)
	read, open := watch(t, accepted)
	_, shaken = watch(t, conn)
	require.Equal(t, connected, testutil.Receive(t, open))
	require.Equal(t, connected, testutil.Receive(t, shaken))
	testutil.OnLoop(t, base, func() {
		assert.NoError(t, conn.Renegotiate())
		work(conn)
	})
	return conn, shaken, read
}

// libevent would call its finalizer with the wrong bufferevent.
func TestFreeInARenegotiation(t *testing.T) {
	renegotiate(t, (*openssl.Conn).Free)
	testutil.Eventually(t, func() bool { return openssl.Live().Conns <= 1 }, "the client is gone")
}

func TestAnotherSocketInARenegotiation(t *testing.T) {
	other := testutil.TCPSocket(t)
	conn, shaken, read := renegotiate(t, func(conn *openssl.Conn) {
		fd := conn.FD()
		for _, another := range []int{other, -1} {
			assert.ErrorIs(t, conn.SetFD(another), syscall.EBUSY)
			assert.Equal(t, fd, conn.FD())
		}
		assert.Equal(t, rd|wr, conn.Enabled())
	})
	require.Equal(t, connected, testutil.Receive(t, shaken))
	_, err := conn.WriteString("one")
	require.NoError(t, err)
	assert.Equal(t, "one", take(t, read, 3))
}

// A peer that asks for a renegotiation is refused, and Go is asked nothing: VerifyConnection would run
// on the loop's goroutine, and it may block.
func TestRefusedRenegotiationAsksNothing(t *testing.T) {
	ca := newAuthority(t)
	for _, refuses := range []string{"server", "client"} {
		for _, filter := range []bool{false, true} {
			t.Run(fmt.Sprint(refuses, " filter ", filter), func(t *testing.T) {
				var calls atomic.Int32
				count := func(openssl.ConnectionState) error { calls.Add(1); return nil }
				accept := &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: tls.VersionTLS12}
				connect := &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", SessionCache: 1}
				refusing, asking := accept, connect
				if refuses == "client" {
					refusing, asking = connect, accept
				}
				refusing.VerifyConnection, asking.Renegotiation = count, true
				accepting, connecting := server(t, accept), client(t, connect)
				for range 2 { // a client calls VerifyConnection at the end of a handshake that resumes a session
					calls.Store(0)
					a, b := testutil.Socketpair(t)
					accepted, peer := newConn(t, accepting, newLoop(t), a, filter), newConn(t, connecting, newLoop(t), b, filter)
					refuser, asker := accepted, peer
					if refuses == "client" {
						refuser, asker = peer, accepted
					}
					_, open := watch(t, refuser)
					_, shaken := watch(t, asker)
					require.Equal(t, connected, testutil.Receive(t, open))
					require.Equal(t, connected, testutil.Receive(t, shaken))
					require.NoError(t, asker.Renegotiate())
					for what := connected; what.what&libevent.EventError == 0; { // a server is told first that it has asked
						what = testutil.Receive(t, shaken)
					}
					testutil.OnLoop(t, refuser.Base(), func() {}) // the turn that has refused it is over
					assert.EqualValues(t, 1, calls.Load())
					refuser.Free()
					asker.Free()
				}
			})
		}
	}
}

// The context of GetConfigForClient does not turn renegotiation on: the fast path reads and writes.
func TestRenegotiationOfAFollowedContext(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	followed := server(t, &openssl.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12, Renegotiation: true})
	first := server(t, &openssl.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*openssl.Context, error) { return followed, nil }})
	a, b := testutil.Socketpair(t)
	accepted := newSocket(t, first, newLoop(t), a)
	peer := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", Renegotiation: true}), newLoop(t), b)
	_, open := watch(t, accepted)
	_, shaken := watch(t, peer)
	require.Equal(t, connected, testutil.Receive(t, open))
	require.Equal(t, connected, testutil.Receive(t, shaken))
	assert.ErrorIs(t, accepted.Renegotiate(), errors.ErrUnsupported)
	require.NoError(t, peer.Renegotiate())
	assert.ErrorContains(t, testutil.Receive(t, shaken).err, "no renegotiation")
	accepted.Free()
	peer.Free()
}
