// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// On an open connection a timeout belongs to one direction and disables that direction.
func TestReadTimeout(t *testing.T) {
	conn, read, events, peer := open(t, tls.VersionTLS13)
	require.NoError(t, conn.SetTimeouts(20*time.Millisecond, 0))
	assert.Equal(t, told{libevent.EventReading | libevent.EventTimeout, os.ErrDeadlineExceeded}, testutil.Receive(t, events))
	assert.Equal(t, wr, conn.Enabled())
	passes(t, conn.Base(), 100*time.Millisecond)
	assert.Empty(t, events)
	require.NoError(t, conn.SetTimeouts(0, 0))
	_, err := peer.Write([]byte("late"))
	require.NoError(t, err)
	require.NoError(t, conn.Enable(rd))
	assert.Equal(t, "late", take(t, read, 4))
}

func TestWriteTimeout(t *testing.T) {
	conn, _, events, _ := open(t, tls.VersionTLS13)
	require.NoError(t, conn.SetTimeouts(0, 100*time.Millisecond))
	_, err := conn.Write(make([]byte, 16<<20)) // which the peer does not read
	require.NoError(t, err)
	assert.Equal(t, told{libevent.EventWriting | libevent.EventTimeout, os.ErrDeadlineExceeded}, testutil.Receive(t, events))
	assert.Equal(t, rd, conn.Enabled())
}

// The peer of a filter reads slowly, but all the time.
func TestWriteTimeoutOfAFilter(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	accepting := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	connecting := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	for name, below := range map[string]func(*testing.T, int, int) (accepted, connected *openssl.Conn){
		"socket": func(t *testing.T, a, b int) (accepted, connected *openssl.Conn) {
			return newConn(t, accepting, base, a, true), newConn(t, connecting, base, b, true)
		},
		"TLS": func(t *testing.T, a, b int) (accepted, connected *openssl.Conn) {
			accepted, err := accepting.NewFilter(newSocket(t, accepting, base, a).BufferEvent, libevent.OptCloseOnFree)
			require.NoError(t, err)
			connected, err = connecting.NewFilter(newSocket(t, connecting, base, b).BufferEvent, libevent.OptCloseOnFree)
			require.NoError(t, err)
			return accepted, connected
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := testutil.Socketpair(t)
			// The kernel tells of room when most of what the socket holds is read.
			require.NoError(t, syscall.SetsockoptInt(b, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 8<<10))
			accepted, conn := below(t, a, b)
			_, open := watch(t, accepted)
			_, shaken := watch(t, conn)
			require.Equal(t, connected, testutil.Receive(t, open))
			require.Equal(t, connected, testutil.Receive(t, shaken))
			const size = 1 << 20
			got, done := 0, make(chan struct{})
			testutil.OnLoop(t, base, func() {
				assert.NoError(t, accepted.SetCallbacks(func(b *libevent.BufferEvent) {
					n := b.Input().Len()
					assert.NoError(t, b.Input().Drain(n))
					assert.NoError(t, accepted.Underlying().Disable(rd))
					if got += n; got == size {
						close(done)
						return
					}
					_, err := base.After(5*time.Millisecond, func() { assert.NoError(t, accepted.Underlying().Enable(rd)) })
					assert.NoError(t, err)
				}, nil, nil))
			})
			require.NoError(t, conn.SetTimeouts(0, 100*time.Millisecond))
			_, err := conn.Write(make([]byte, size))
			require.NoError(t, err)
			testutil.Receive(t, done)
			assert.Empty(t, shaken)
			conn.Free()
			accepted.Free()
		})
	}
}

// After a failure nothing is written, so no write timeout passes.
func TestNoWriteTimeoutAfterAFailure(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	fd, socket := testutil.TCPPair(t)
	conn := newConn(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}), base, fd, true)
	_, events := watch(t, conn)
	require.NoError(t, tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"}).Handshake())
	require.Equal(t, connected, testutil.Receive(t, events))
	require.NoError(t, conn.SetTimeouts(0, 200*time.Millisecond))
	_, err := conn.Write(make([]byte, 16<<20)) // which the peer does not read
	require.NoError(t, err)
	require.NoError(t, socket.SetLinger(0))
	require.NoError(t, socket.Close())
	what := testutil.Receive(t, events)
	assert.NotZero(t, what.what&libevent.EventError, "%v", what)
	_, err = conn.WriteString("more") // in vain
	require.NoError(t, err)
	passes(t, base, 500*time.Millisecond)
	assert.Empty(t, events)
	conn.Free()
}

// The other end of the pair takes nothing any more, and the program goes on writing.
func TestWriteTimeoutOnAPair(t *testing.T) {
	base := newLoop(t)
	under := newPair(t, base)
	accepted, conn := layer(t, under)
	events := shake(t, accepted, conn)
	require.NoError(t, accepted.Disable(rd))
	require.NoError(t, under[0].Disable(rd))
	require.NoError(t, conn.SetTimeouts(0, 50*time.Millisecond))
	tick, err := base.Every(10*time.Millisecond, func() { _, _ = conn.Write(make([]byte, 100)) })
	require.NoError(t, err)
	assert.Equal(t, told{libevent.EventWriting | libevent.EventTimeout, os.ErrDeadlineExceeded}, testutil.Receive(t, events))
	assert.Equal(t, rd, conn.Enabled())
	tick.Free()
	conn.Free()
	accepted.Free()
}
