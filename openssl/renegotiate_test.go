// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

// A filter on the client is flushed in the middle. Its bytes go out when the handshake is done, although nothing is read any
// more.
func TestFlushOfAFilterInARenegotiation(t *testing.T) {
	_, _, read := renegotiate(t, func(conn *openssl.Conn) {
		f, err := libevent.NewFilter(conn.BufferEvent, nil, nil, libevent.OptCloseOnFree)
		assert.NoError(t, err)
		assert.NoError(t, f.Enable(rd))
		_, err = f.WriteString("the last words")
		assert.NoError(t, err)
		assert.NoError(t, f.FreeAfterFlush(2*testutil.Patience))
	})
	assert.Equal(t, "the last words", take(t, read, len("the last words")))
}

func TestRenegotiateAfterTheBase(t *testing.T) {
	ca := newAuthority(t)
	base := testutil.NewBase(t)
	stop := testutil.Background(t, base)
	fd, socket := testutil.TCPPair(t)
	conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: tls.VersionTLS12, Renegotiation: true}), base, fd)
	_, events := watch(t, conn)
	require.NoError(t, tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"}).Handshake())
	require.Equal(t, connected, testutil.Receive(t, events))
	stop()
	require.NoError(t, base.Free())
	assert.ErrorIs(t, conn.Renegotiate(), libevent.ErrClosed)
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

// talker sends a stream as long as it receives that of its peer, and checks what it receives.
type talker struct {
	conn       *openssl.Conn
	events     chan told
	received   chan struct{}
	sent, took int
}

// streamed has the bytes of such a stream, again and again.
var streamed = func() (p [1 << 20]byte) {
	for i := range p {
		p[i] = byte(i % 251)
	}
	return p
}()

func newTalker(t *testing.T, conn *openssl.Conn, piece int) *talker {
	t.Helper()
	k := &talker{conn: conn, events: make(chan told, 10), received: make(chan struct{}, 1)}
	require.NoError(t, conn.SetCallbacks(func(b *libevent.BufferEvent) {
		p := make([]byte, min(b.Input().Len(), len(streamed)/2))
		n, err := b.Read(p)
		assert.NoError(t, err)
		assert.True(t, bytes.Equal(p[:n], streamed[k.took%251:][:n]), "what was received after %d bytes", k.took)
		k.took += n
		k.send(t, piece)
		select {
		case k.received <- struct{}{}:
		default:
		}
	}, nil, func(b *libevent.BufferEvent, what libevent.Events) { k.events <- told{what, b.Err()} }))
	require.NoError(t, conn.Enable(rd))
	return k
}

// send sends one piece, unless much is not written yet.
func (k *talker) send(t *testing.T, piece int) {
	if k.conn.Output().Len() < 256<<10 {
		_, err := k.conn.Write(streamed[k.sent%251:][:piece])
		assert.NoError(t, err)
		k.sent += piece
	}
}

// Both ends send when one asks for a renegotiation, and go on with it.
func TestRenegotiationWhileBothEndsSend(t *testing.T) {
	ca := newAuthority(t)
	accepting := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: tls.VersionTLS12, Renegotiation: true})
	connecting := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", Renegotiation: true})
	for _, piece := range []int{1000, 100000} {
		a, b := testutil.Socketpair(t)
		ends := []*talker{newTalker(t, newSocket(t, accepting, newLoop(t), a), piece), newTalker(t, newSocket(t, connecting, newLoop(t), b), piece)}
		for _, end := range ends {
			require.Equal(t, connected, testutil.Receive(t, end.events))
		}
		flows := func() {
			for range 5 {
				for _, end := range ends {
					testutil.Receive(t, end.received)
				}
			}
		}
		for _, end := range ends {
			testutil.OnLoop(t, end.conn.Base(), func() {
				for range 4 {
					end.send(t, piece)
				}
			})
		}
		for range 3 {
			for i, end := range ends {
				flows()
				require.NoError(t, end.conn.Renegotiate())
				require.Equal(t, connected, testutil.Receive(t, end.events))
				assert.Empty(t, ends[1-i].events)
			}
		}
		flows()
		for _, end := range ends {
			testutil.OnLoop(t, end.conn.Base(), end.conn.Free) // not while its closure writes
		}
	}
}

// The handshake that an end has asked for goes on, though the end neither reads nor writes.
func TestRenegotiationWithoutReading(t *testing.T) {
	for _, asks := range []string{"client", "server"} {
		ca := newAuthority(t)
		a, b := testutil.Socketpair(t)
		accepted := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: tls.VersionTLS12, Renegotiation: true}), newLoop(t), a)
		peer := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", Renegotiation: true}), newLoop(t), b)
		_, open := watch(t, accepted)
		_, shaken := watch(t, peer)
		require.Equal(t, connected, testutil.Receive(t, open))
		require.Equal(t, connected, testutil.Receive(t, shaken))
		asker, events := peer, shaken
		if asks == "server" {
			asker, events = accepted, open
		}
		require.NoError(t, asker.Disable(rd))
		require.NoError(t, asker.SetTimeouts(0, testutil.Patience))
		require.NoError(t, asker.Renegotiate())
		assert.Equal(t, connected, testutil.Receive(t, events), asks)
		accepted.Free()
		peer.Free()
	}
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

// A renegotiation for which GetConfigForClient returns no context follows the first one again, which asks the
// client for a certificate.
func TestRenegotiationReturnsToTheFirstContext(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	followed := server(t, &openssl.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12, Renegotiation: true})
	for _, returns := range []string{"nil", "itself"} {
		t.Run(returns, func(t *testing.T) {
			var calls atomic.Int32
			var first *openssl.Context
			var asked atomic.Bool
			first = server(t, &openssl.Config{
				Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12, Renegotiation: true,
				ClientAuth: tls.RequestClientCert,
				GetConfigForClient: func(*tls.ClientHelloInfo) (*openssl.Context, error) {
					switch {
					case calls.Add(1) == 1:
						return followed, nil
					case returns == "nil":
						return nil, nil
					}
					return first, nil
				}})
			a, b := testutil.Socketpair(t)
			accepted := newSocket(t, first, newLoop(t), a)
			peer := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", Renegotiation: true,
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					asked.Store(true)
					return &tls.Certificate{}, nil
				}}), newLoop(t), b)
			_, open := watch(t, accepted)
			_, shaken := watch(t, peer)
			require.Equal(t, connected, testutil.Receive(t, open))
			require.Equal(t, connected, testutil.Receive(t, shaken))
			assert.False(t, asked.Load())
			require.NoError(t, peer.Renegotiate())
			assert.Equal(t, connected, testutil.Receive(t, shaken))
			assert.True(t, asked.Load())
			accepted.Free()
			peer.Free()
		})
	}
}

// Renegotiations that are allowed may follow each other without data.
func TestManyRenegotiations(t *testing.T) {
	ca := newAuthority(t)
	accepting := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: tls.VersionTLS12, Renegotiation: true})
	connecting := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", Renegotiation: true})
	for _, filter := range []bool{false, true} {
		t.Run(fmt.Sprint("filter ", filter), func(t *testing.T) {
			base := newLoop(t)
			a, b := testutil.Socketpair(t)
			accepted, conn := newConn(t, accepting, base, a, filter), newConn(t, connecting, base, b, filter)
			read, open := watch(t, accepted)
			_, shaken := watch(t, conn)
			require.Equal(t, connected, testutil.Receive(t, open))
			require.Equal(t, connected, testutil.Receive(t, shaken))
			for range 20 {
				require.NoError(t, conn.Renegotiate())
				require.Equal(t, connected, testutil.Receive(t, shaken))
			}
			_, err := conn.WriteString("after them")
			require.NoError(t, err)
			assert.Equal(t, "after them", take(t, read, 10))
			assert.Empty(t, open)
			conn.Free()
			accepted.Free()
		})
	}
}

// A connection lets go of the context that its handshake before has followed.
func TestContextsOfManyRenegotiations(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	connecting := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", Renegotiation: true})
	for _, filter := range []bool{false, true} {
		t.Run(fmt.Sprint("filter ", filter), func(t *testing.T) {
			var followed atomic.Pointer[openssl.Context]
			first := server(t, &openssl.Config{MaxVersion: tls.VersionTLS12, Renegotiation: true,
				GetConfigForClient: func(*tls.ClientHelloInfo) (*openssl.Context, error) {
					ctx, err := openssl.NewServerContext(&openssl.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12, Renegotiation: true})
					if before := followed.Swap(ctx); before != nil {
						before.Free()
					}
					return ctx, err
				}})
			a, b := testutil.Socketpair(t)
			accepted, peer := newConn(t, first, newLoop(t), a, filter), newConn(t, connecting, newLoop(t), b, filter)
			_, open := watch(t, accepted)
			_, shaken := watch(t, peer)
			require.Equal(t, connected, testutil.Receive(t, open))
			require.Equal(t, connected, testutil.Receive(t, shaken))
			before := openssl.Live().Contexts
			for range 8 {
				require.NoError(t, peer.Renegotiate())
				require.Equal(t, connected, testutil.Receive(t, shaken))
				assert.Equal(t, before, openssl.Live().Contexts)
			}
			peer.Free()
			accepted.Free()
			followed.Load().Free()
			testutil.Eventually(t, func() bool { return openssl.Live().Contexts == before-1 }, "the last one is gone, too")
		})
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

// A limit has stopped the reading of a server when it asks for a renegotiation, and OpenSSL has more data. The
// loop goes on, so that the limit ends.
func TestRenegotiationOfALimitedServer(t *testing.T) {
	ca := newAuthority(t)
	accepting := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: tls.VersionTLS12, Renegotiation: true})
	connecting := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", Renegotiation: true})
	a, b := testutil.Socketpair(t)
	conn, peer := newSocket(t, accepting, newLoop(t), a), newSocket(t, connecting, newLoop(t), b)
	read, events := watch(t, conn)
	_, shaken := watch(t, peer)
	require.Equal(t, connected, testutil.Receive(t, events))
	require.Equal(t, connected, testutil.Receive(t, shaken))
	require.NoError(t, conn.SetRateLimit(&libevent.RateLimit{ReadRate: 3000, Tick: 10 * time.Millisecond}))
	much := strings.Repeat("x", 100_000)
	_, err := peer.WriteString(much)
	require.NoError(t, err)
	got := testutil.Receive(t, read)
	require.NoError(t, conn.Renegotiate())
	require.Equal(t, connected, testutil.Receive(t, events))
	assert.Equal(t, len(much)-len(got), len(take(t, read, len(much)-len(got))))
	conn.Free()
	peer.Free()
}
