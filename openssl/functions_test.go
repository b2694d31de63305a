// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

var errUnwanted = errors.New("this peer is not wanted")

// eachSide runs a test with a server and a client of this package, and a peer of crypto/tls that
// shows a certificate. The configuration is what the server and the client have in common.
func eachSide(t *testing.T, test func(t *testing.T, handshake func(cfg openssl.Config) (*openssl.Conn, told, error))) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	versions(t, func(t *testing.T, version uint16) {
		t.Run("server", func(t *testing.T) {
			test(t, func(cfg openssl.Config) (*openssl.Conn, told, error) {
				cfg.Certificates, cfg.MaxVersion = []tls.Certificate{cert}, version
				cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, ca.pool()
				fd, socket := testutil.TCPPair(t)
				conn := newSocket(t, server(t, &cfg), newLoop(t), fd)
				_, events := watch(t, conn)
				peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", Certificates: []tls.Certificate{cert}})
				err := peer.Handshake()
				what := testutil.Receive(t, events)
				if err == nil && what != connected {
					_, err = peer.Read(make([]byte, 1))
				}
				return conn, what, err
			})
		})
		t.Run("client", func(t *testing.T) {
			test(t, func(cfg openssl.Config) (*openssl.Conn, told, error) {
				cfg.RootCAs, cfg.ServerName, cfg.MaxVersion = ca.pool(), "example.test", version
				return handshake(t, client(t, &cfg), &tls.Config{Certificates: []tls.Certificate{cert}})
			})
		})
	})
}

func TestVerifyPeerCertificate(t *testing.T) {
	eachSide(t, func(t *testing.T, handshake func(openssl.Config) (*openssl.Conn, told, error)) {
		for _, result := range []error{nil, errUnwanted} {
			var raw [][]byte
			var chains [][]*x509.Certificate
			conn, what, err := handshake(openssl.Config{VerifyPeerCertificate: func(r [][]byte, c [][]*x509.Certificate) error {
				raw, chains = r, c
				return result
			}})
			if result != nil {
				assert.ErrorIs(t, what.err, errUnwanted)
				assert.Error(t, err)
			} else {
				require.Equal(t, connected, what)
				require.NoError(t, err)
				assert.Equal(t, conn.ConnectionState().PeerCertificates[0].Raw, raw[0])
			}
			assert.Len(t, raw, 2)
			assert.NotEmpty(t, chains)
		}
	})
}

func TestVerifyConnection(t *testing.T) {
	eachSide(t, func(t *testing.T, handshake func(openssl.Config) (*openssl.Conn, told, error)) {
		for _, result := range []error{nil, errUnwanted} {
			var states []openssl.ConnectionState
			conn, what, err := handshake(openssl.Config{VerifyConnection: func(s openssl.ConnectionState) error {
				states = append(states, s)
				return result
			}})
			require.Len(t, states, 1)
			if result != nil {
				assert.ErrorIs(t, what.err, errUnwanted)
				assert.Error(t, err)
			} else {
				require.Equal(t, connected, what)
				require.NoError(t, err)
				want := conn.ConnectionState()
				want.HandshakeComplete = false
				assert.Equal(t, want, states[0])
			}
		}
	})
}

// A function that blocks holds its own connection up, and no other.
func TestFunctionThatBlocks(t *testing.T) {
	eachSide(t, func(t *testing.T, handshake func(openssl.Config) (*openssl.Conn, told, error)) {
		called, may := make(chan struct{}), make(chan struct{})
		slow := make(chan told, 1)
		go func() {
			_, what, _ := handshake(openssl.Config{VerifyConnection: func(openssl.ConnectionState) error {
				close(called)
				<-may
				return nil
			}})
			slow <- what
		}()
		testutil.Receive(t, called)
		for range 3 {
			_, what, err := handshake(openssl.Config{})
			require.NoError(t, err)
			require.Equal(t, connected, what)
		}
		close(may)
		assert.Equal(t, connected, testutil.Receive(t, slow))
	})
}

// VerifyPeerCertificate is also asked about a client that has no certificate, each time that it comes,
// but not if the server wants no certificates.
func TestVerifyPeerCertificateWithoutCertificates(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		for _, auth := range []tls.ClientAuthType{tls.NoClientCert, tls.RequestClientCert, tls.VerifyClientCertIfGiven} {
			var result error
			var calls atomic.Int32
			ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version, ClientAuth: auth,
				VerifyPeerCertificate: func(raw [][]byte, chains [][]*x509.Certificate) error {
					assert.Empty(t, raw)
					assert.Empty(t, chains)
					calls.Add(1)
					return result
				}})
			cache := tls.NewLRUClientSessionCache(1)
			for _, result = range []error{nil, errUnwanted, errUnwanted, nil} {
				calls.Store(0)
				fd, socket := testutil.TCPPair(t)
				conn := newSocket(t, ctx, newLoop(t), fd)
				_, events := watch(t, conn)
				got := bytesOf(tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", ClientSessionCache: cache}))
				what := testutil.Receive(t, events)
				if auth == tls.NoClientCert {
					assert.Equal(t, connected, what)
					assert.Zero(t, calls.Load())
				} else {
					assert.Equal(t, result == nil, what == connected)
					assert.ErrorIs(t, what.err, result)
					assert.EqualValues(t, 1, calls.Load())
				}
				if what == connected {
					_, err := conn.WriteString("hello") // in TLS 1.3 the ticket comes before it
					require.NoError(t, err)
					require.NoError(t, conn.FreeAfterFlush(testutil.Patience))
				} else {
					conn.Free()
				}
				testutil.Receive(t, got)
			}
		}
	})
}

// VerifyConnection is called for a resumed session, and for a client without a certificate.
func TestVerifyConnectionWithoutCertificates(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		var refuse atomic.Bool
		seen := make(chan openssl.ConnectionState, 10)
		verify := func(s openssl.ConnectionState) error {
			assert.False(t, s.HandshakeComplete, "as in crypto/tls")
			seen <- s
			if refuse.Load() {
				return errUnwanted
			}
			return nil
		}
		t.Run("server", func(t *testing.T) {
			events := make(chan told, 10)
			addr := accept(t, newLoop(t), server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}, MaxVersion: version, VerifyConnection: verify}),
				func(conn *openssl.Conn) {
					assert.NoError(t, conn.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
						events <- told{what, b.Err()}
						b.Free()
					}))
				})
			for _, refused := range []bool{false, true} {
				refuse.Store(refused)
				conn, err := tls.Dial("tcp", addr.String(), &tls.Config{RootCAs: ca.pool()})
				if err == nil {
					defer conn.Close()
				}
				assert.Empty(t, testutil.Receive(t, seen).PeerCertificates)
				what := testutil.Receive(t, events)
				assert.Equal(t, refused, errors.Is(what.err, errUnwanted), "%v", what)
			}
		})
		t.Run("client", func(t *testing.T) {
			refuse.Store(false)
			addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}, MaxVersion: version}, sendBack)
			ctx := client(t, &openssl.Config{RootCAs: ca.pool(), SessionCache: 1, VerifyConnection: verify})
			for i := range 3 {
				refuse.Store(i == 2)
				conn := newSocket(t, ctx, newLoop(t), -1)
				read, events := watch(t, conn)
				require.NoError(t, conn.Connect("tcp", addr.String()))
				state := testutil.Receive(t, seen)
				assert.Equal(t, i > 0, state.DidResume)
				assert.Len(t, state.PeerCertificates, 2)
				what := testutil.Receive(t, events)
				if i == 2 {
					assert.ErrorIs(t, what.err, errUnwanted)
				} else {
					require.Equal(t, connected, what)
					_, err := conn.WriteString("hello") // in TLS 1.3 the ticket comes with the answer
					require.NoError(t, err)
					assert.Equal(t, "hello", take(t, read, 5))
				}
				conn.Free()
			}
		})
	})
}

// A client without a certificate gets its tickets before VerifyConnection is called. They do not help a client that is
// refused: a server without this client's certificate cannot know what the function has said.
func TestRefusedClientIsNotResumed(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		seen := make(chan bool, 10)
		ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}, MaxVersion: version,
			ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.pool(), VerifyConnection: func(s openssl.ConnectionState) error {
				seen <- s.DidResume
				if s.DidResume {
					return nil
				}
				return errUnwanted
			}})
		addr := accept(t, newLoop(t), ctx, func(conn *openssl.Conn) { echo(t, conn) }).String()
		cfg := &tls.Config{RootCAs: ca.pool(), ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		for range 2 {
			conn, err := tls.Dial("tcp", addr, cfg)
			if err == nil {
				require.NoError(t, conn.SetDeadline(time.Now().Add(testutil.Patience)))
				_, err = conn.Read(make([]byte, 1))
				_ = conn.Close()
			}
			assert.Error(t, err)
			assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			assert.False(t, testutil.Receive(t, seen))
		}
	})
}

// On a filter the functions are called, too.
func TestFunctionsOnAFilter(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	for _, result := range []error{nil, errUnwanted} {
		a, b, err := base.NewPair(0)
		require.NoError(t, err)
		var calls atomic.Int32
		count := func() error { calls.Add(1); return result }
		accepted, err := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")},
			VerifyConnection: func(openssl.ConnectionState) error { return count() }}).NewFilter(a, libevent.OptCloseOnFree)
		require.NoError(t, err)
		connecting, err := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test",
			VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error { calls.Add(1); return nil }}).NewFilter(b, libevent.OptCloseOnFree)
		require.NoError(t, err)
		_, events := watch(t, accepted)
		watch(t, connecting)
		what := testutil.Receive(t, events)
		if result == nil {
			assert.Equal(t, connected, what)
		} else {
			assert.ErrorIs(t, what.err, errUnwanted)
			assert.Zero(t, what.what&libevent.EventConnected)
		}
		assert.EqualValues(t, 2, calls.Load())
		accepted.Free()
		connecting.Free()
	}
}
