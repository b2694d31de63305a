// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
	"github.com/go-libevent/libevent/openssl/internal/heap"
)

// taken waits until the server has taken all that its client has sent so far.
func taken(t *testing.T, fd int) {
	testutil.Eventually(t, func() bool {
		_, _, err := syscall.Recvfrom(fd, make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return err == syscall.EAGAIN
	}, "the server has read everything")
}

// A client that does not go on with its handshake costs a server little memory. docs/tls.md has
// the figures for all memory of a connection, and these are the bounds of OpenSSL's part. How much
// OpenSSL needs for an SSL that has not started depends on its version: 9 KB with 3.0, 16 KB with
// 3.6. A client that sends nothing costs hardly more.
func TestMemoryOfHalfOpenHandshakes(t *testing.T) {
	const n = 20
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	for name, c := range map[string]struct {
		most int // bytes of OpenSSL, in addition to those of a connection without a socket
		say  func(t *testing.T, socket *net.TCPConn, fd int)
	}{
		"silent": {1 << 10, func(*testing.T, *net.TCPConn, int) {}},
		"hello": {48 << 10, func(t *testing.T, socket *net.TCPConn, fd int) {
			_, err := socket.Write(hello(t))
			require.NoError(t, err)
			_, err = io.ReadFull(socket, make([]byte, 100))
			require.NoError(t, err)
			taken(t, fd)
		}},
		"endless record": {80 << 10, func(t *testing.T, socket *net.TCPConn, fd int) {
			said := make([]byte, 16_000)
			copy(said, []byte{22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc})
			_, err := socket.Write(said)
			require.NoError(t, err)
			taken(t, fd)
		}},
	} {
		for _, asks := range []tls.ClientAuthType{tls.NoClientCert, tls.RequireAnyClientCert} {
			t.Run(name+" "+asks.String(), func(t *testing.T) {
				ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{cert}, ClientAuth: asks, HandshakeTimeout: -1})
				base := newLoop(t)
				grown := func(add func()) int {
					add() // the first one makes what all share
					before := heap.InUse()
					for range n {
						add()
					}
					return (heap.InUse() - before) / n
				}
				unstarted := grown(func() { newSocket(t, ctx, base, -1) })
				each := grown(func() {
					fd, socket := testutil.TCPPair(t)
					conn := newSocket(t, ctx, base, fd)
					t.Cleanup(conn.Free)
					watch(t, conn)
					for range 3 { // the loop starts the handshake
						testutil.OnLoop(t, base, func() {})
					}
					c.say(t, socket, fd)
				})
				t.Logf("%d bytes each, and %d without a socket", each, unstarted)
				assert.Less(t, each, unstarted+c.most)
			})
		}
	}
}

// CloseWrite waits for a handshake of a client that says nothing. The loop is told of its end, so it does not look again and
// again.
func TestCloseWriteInAHandshakeOfASilentClient(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	fd, _ := testutil.TCPPair(t)
	conn := newConn(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}), base, fd, true)
	watch(t, conn)
	_, err := conn.WriteString("hello")
	require.NoError(t, err)
	count := func() (n int) {
		testutil.OnLoop(t, base, func() {})
		testutil.OnLoop(t, base, func() { n = base.NumEvents(libevent.CountAdded) })
		return n
	}
	before := count()
	require.NoError(t, conn.CloseWrite())
	assert.Equal(t, before, count())
	conn.Free()
}
