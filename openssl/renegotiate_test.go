// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
