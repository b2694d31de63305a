// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
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

// GetCertificate is told the same of a client as with crypto/tls.
func TestClientHelloInfo(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	for name, cfg := range map[string]*tls.Config{
		"all":       {NextProtos: []string{"h2", "http/1.1"}},
		"TLS 1.2":   {MaxVersion: tls.VersionTLS12, CurvePreferences: []tls.CurveID{tls.CurveP256}},
		"one suite": {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.RootCAs, cfg.ServerName = ca.pool(), "example.test"
			ours, theirs := make(chan *tls.ClientHelloInfo, 1), make(chan *tls.ClientHelloInfo, 1)
			a, b := net.Pipe()
			defer a.Close()
			defer b.Close()
			handshakeOf(tls.Server(a, &tls.Config{GetCertificate: func(info *tls.ClientHelloInfo) (*tls.Certificate, error) {
				theirs <- info
				return &cert, nil
			}}))
			go func() { _, _ = io.Copy(io.Discard, b) }()
			fd, peer := testutil.TCPPair(t)
			conn := newSocket(t, server(t, &openssl.Config{GetCertificate: func(info *tls.ClientHelloInfo) (*tls.Certificate, error) {
				ours <- info
				return &cert, nil
			}}), newLoop(t), fd)
			_, events := watch(t, conn)
			// Both servers get the same message.
			require.NoError(t, tls.Client(&copied{Conn: peer, to: b}, cfg).Handshake())
			require.Equal(t, connected, testutil.Receive(t, events))
			got, want := testutil.Receive(t, ours), testutil.Receive(t, theirs)
			assert.Equal(t, want.CipherSuites, got.CipherSuites)
			assert.Equal(t, want.ServerName, got.ServerName)
			assert.Equal(t, want.SupportedCurves, got.SupportedCurves)
			assert.Equal(t, want.SupportedPoints, got.SupportedPoints)
			assert.Equal(t, want.SignatureSchemes, got.SignatureSchemes)
			assert.Equal(t, want.SupportedProtos, got.SupportedProtos)
			assert.Equal(t, want.SupportedVersions, got.SupportedVersions)
			assert.Equal(t, want.Extensions, got.Extensions)
			assert.Equal(t, peer.LocalAddr().String(), got.Conn.RemoteAddr().String())
			assert.NoError(t, got.SupportsCertificate(&cert))
		})
	}
}

// A client may say that it knows any version.
func TestVersionsOfAnOldHello(t *testing.T) {
	cert := newAuthority(t).issue(t, "example.test")
	for version, want := range map[string][]uint16{
		"\x02\x00": nil,
		"\x03\x02": {tls.VersionTLS11, tls.VersionTLS10},
		"\x03\x03": {tls.VersionTLS12, tls.VersionTLS11, tls.VersionTLS10},
		"\xff\xff": {tls.VersionTLS13, tls.VersionTLS12, tls.VersionTLS11, tls.VersionTLS10},
	} {
		infos := make(chan *tls.ClientHelloInfo, 1)
		fd, socket := testutil.TCPPair(t)
		conn := newSocket(t, server(t, &openssl.Config{GetCertificate: func(info *tls.ClientHelloInfo) (*tls.Certificate, error) {
			infos <- info
			return &cert, nil
		}}), newLoop(t), fd)
		watch(t, conn)
		hello := version + strings.Repeat("r", 32) + "\x00\x00\x02\xc0\x2b\x01\x00"
		_, err := socket.Write([]byte("\x16\x03\x01\x00\x2d\x01\x00\x00\x29" + hello))
		require.NoError(t, err)
		assert.Equal(t, want, testutil.Receive(t, infos).SupportedVersions)
		conn.Free()
	}
}

// copied writes its first message to another connection as well.
type copied struct {
	net.Conn
	to   net.Conn
	done bool
}

func (c *copied) Write(p []byte) (int, error) {
	if !c.done {
		c.done = true
		if _, err := c.to.Write(p); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

// GetCertificate chooses by name, and may choose another certificate for the next client. A server
// without a certificate for a client falls back to Certificates.
func TestGetCertificate(t *testing.T) {
	ca := newAuthority(t)
	plain, first, second := ca.issue(t, "plain.test"), ca.issue(t, "example.test"), ca.issueWith(t, rsaKey(t), nil, "example.test")
	versions(t, func(t *testing.T, version uint16) {
		var current atomic.Pointer[tls.Certificate]
		var refuse atomic.Bool
		events := make(chan told, 100)
		addr := accept(t, newLoop(t), server(t, &openssl.Config{Certificates: []tls.Certificate{plain}, MaxVersion: version,
			GetCertificate: func(info *tls.ClientHelloInfo) (*tls.Certificate, error) {
				if refuse.Load() {
					return nil, errUnwanted
				}
				if info.ServerName == "example.test" {
					return current.Load(), nil
				}
				return nil, nil
			}}), func(conn *openssl.Conn) {
			assert.NoError(t, conn.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
				events <- told{what, b.Err()}
				b.Free()
			}))
		}).String()
		dial := func(name string) *x509.Certificate {
			conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: ca.pool(), ServerName: name})
			require.NoError(t, err)
			defer conn.Close()
			require.Equal(t, connected, testutil.Receive(t, events))
			return conn.ConnectionState().PeerCertificates[0]
		}
		for range 2 {
			for _, cert := range []*tls.Certificate{&first, &second} {
				current.Store(cert)
				assert.True(t, dial("example.test").Equal(cert.Leaf))
				assert.True(t, dial("plain.test").Equal(plain.Leaf))
			}
		}
		refuse.Store(true)
		_, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
		assert.ErrorContains(t, err, "internal error")
		assert.ErrorIs(t, testutil.Receive(t, events).err, errUnwanted)
	})
}

// A certificate that OpenSSL cannot use is an error of the connection.
func TestGetBadCertificate(t *testing.T) {
	ca := newAuthority(t)
	good := ca.issue(t, "example.test")
	for name, cert := range map[string]*tls.Certificate{
		"empty":              {},
		"other key":          {Certificate: good.Certificate, PrivateKey: newKey(t)},
		"none":               nil,
		"restricted schemes": {Certificate: good.Certificate, PrivateKey: good.PrivateKey, SupportedSignatureAlgorithms: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}},
	} {
		t.Run(name, func(t *testing.T) {
			fd, peer := testutil.TCPPair(t)
			conn := newSocket(t, server(t, &openssl.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }}), newLoop(t), fd)
			_, events := watch(t, conn)
			assert.Error(t, tls.Client(peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"}).Handshake())
			assert.Error(t, testutil.Receive(t, events).err)
		})
	}
}

// While GetCertificate blocks, the loop does other things.
func TestGetCertificateThatBlocks(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	called, may := make(chan struct{}), make(chan struct{})
	fd, peer := testutil.TCPPair(t)
	conn := newSocket(t, server(t, &openssl.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		close(called)
		<-may
		return &cert, nil
	}}), newLoop(t), fd)
	_, events := watch(t, conn)
	failed := handshakeOf(tls.Client(peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"}))
	testutil.Receive(t, called)
	for range 100 { // many turns of the loop
		testutil.OnLoop(t, conn.Base(), func() {})
	}
	assert.Empty(t, events)
	close(may)
	assert.NoError(t, testutil.Receive(t, failed))
	assert.Equal(t, connected, testutil.Receive(t, events))
}

// GetConfigForClient gives a client another certificate, other versions and protocols, and demands
// its certificate.
func TestGetConfigForClient(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	strict := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "strict.test")}, NextProtos: []string{"strict"},
		MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool()})
	events := make(chan told, 100)
	conns := make(chan *openssl.Conn, 100)
	addr := accept(t, newLoop(t), server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, NextProtos: []string{"plain"},
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*openssl.Context, error) {
			switch info.ServerName {
			case "strict.test":
				return strict, nil
			case "unwanted.test":
				return nil, errUnwanted
			}
			return nil, nil
		}}), func(conn *openssl.Conn) {
		assert.NoError(t, conn.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			events <- told{what, b.Err()}
			conns <- conn
		}))
		assert.NoError(t, conn.Enable(rd))
	}).String()
	dial := func(name string, certs ...tls.Certificate) (tls.ConnectionState, told, error) {
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: ca.pool(), ServerName: name, NextProtos: []string{"plain", "strict"}, Certificates: certs})
		what := testutil.Receive(t, events)
		testutil.Receive(t, conns).Free()
		if err != nil {
			return tls.ConnectionState{}, what, err
		}
		defer conn.Close()
		return conn.ConnectionState(), what, nil
	}
	state, what, err := dial("example.test")
	require.NoError(t, err)
	assert.Equal(t, connected, what)
	assert.EqualValues(t, tls.VersionTLS13, state.Version)
	assert.Equal(t, "plain", state.NegotiatedProtocol)
	state, what, err = dial("strict.test", ca.issue(t, "client"))
	require.NoError(t, err)
	assert.Equal(t, connected, what)
	assert.EqualValues(t, tls.VersionTLS12, state.Version)
	assert.Equal(t, "strict", state.NegotiatedProtocol)
	_, what, err = dial("strict.test")
	assert.Error(t, err)
	assert.NotZero(t, what.what&libevent.EventError)
	_, what, err = dial("strict.test", other.issue(t, "client"))
	assert.Error(t, err)
	assert.NotZero(t, what.what&libevent.EventError)
	_, what, err = dial("unwanted.test")
	assert.ErrorContains(t, err, "internal error")
	assert.ErrorIs(t, what.err, errUnwanted)
	strict.Free()
	_, what, err = dial("strict.test", ca.issue(t, "client"))
	assert.Error(t, err)
	assert.ErrorIs(t, what.err, libevent.ErrClosed)
}

// A context may be replaced and freed while a handshake is about to follow it. The handshake gets
// the new one.
func TestGetConfigForClientDuringAReload(t *testing.T) {
	ca := newAuthority(t)
	old, fresh := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "old.test")}}),
		server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	contexts := []*openssl.Context{old, fresh}
	ctx := server(t, &openssl.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*openssl.Context, error) {
		chosen := contexts[0]
		contexts = contexts[1:]
		old.Free()
		return chosen, nil
	}})
	fd, socket := testutil.TCPPair(t)
	conn := newSocket(t, ctx, newLoop(t), fd)
	defer conn.Free()
	_, events := watch(t, conn)
	require.NoError(t, tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"}).Handshake())
	assert.Equal(t, connected, testutil.Receive(t, events))
	assert.Empty(t, contexts)
}

// A function that always returns a context that it has freed is not asked for ever.
func TestGetConfigForClientReturnsFreedContexts(t *testing.T) {
	ca := newAuthority(t)
	var calls atomic.Int32
	ctx := server(t, &openssl.Config{HandshakeTimeout: time.Hour, GetConfigForClient: func(*tls.ClientHelloInfo) (*openssl.Context, error) {
		calls.Add(1)
		freed, err := openssl.NewServerContext(&openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
		if err == nil {
			freed.Free()
		}
		return freed, err
	}})
	fd, socket := testutil.TCPPair(t)
	conn := newSocket(t, ctx, newLoop(t), fd)
	_, events := watch(t, conn)
	require.Error(t, tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"}).Handshake())
	what := testutil.Receive(t, events)
	assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
	assert.ErrorIs(t, what.err, libevent.ErrClosed)
	assert.EqualValues(t, 2, calls.Load())
	conn.Free()
}

// A Conn whose socket is replaced asks again, and starts with its own context.
func TestGetConfigForTheNextClient(t *testing.T) {
	ca := newAuthority(t)
	strict := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "strict.test")}, MaxVersion: tls.VersionTLS12})
	conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")},
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*openssl.Context, error) {
			if info.ServerName == "strict.test" {
				return strict, nil
			}
			return nil, nil
		}}), newLoop(t), -1)
	_, events := watch(t, conn)
	for _, name := range []string{"strict.test", "example.test", "strict.test", "example.test"} {
		fd, socket := testutil.TCPPair(t)
		testutil.OnLoop(t, conn.Base(), func() { assert.NoError(t, conn.ReplaceFD(fd)) })
		require.NoError(t, conn.Enable(rd))
		peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: name})
		require.NoError(t, peer.Handshake())
		require.Equal(t, connected, testutil.Receive(t, events))
		assert.Equal(t, name == "strict.test", peer.ConnectionState().Version == tls.VersionTLS12)
		require.NoError(t, peer.Close())
		require.Equal(t, endOfFile, testutil.Receive(t, events))
	}
}

// A client shows its certificate only to servers that accept one of its issuers.
func TestCertificateForTheRightServer(t *testing.T) {
	ca, other := newAuthority(t), newAuthorityNamed(t, "other root")
	cert := ca.issue(t, "client")
	versions(t, func(t *testing.T, version uint16) {
		for _, way := range []openssl.Config{
			{Certificates: []tls.Certificate{cert}},
			{GetClientCertificate: func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if info.SupportsCertificate(&cert) != nil {
					return new(tls.Certificate), nil
				}
				return &cert, nil
			}},
		} {
			for accepted, pool := range map[*authority]*x509.CertPool{ca: ca.pool(), other: other.pool(), nil: nil} {
				way.RootCAs, way.ServerName, way.MaxVersion = ca.pool(), "example.test", version
				var shown []*x509.Certificate
				_, what, err := handshake(t, client(t, &way), &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")},
					ClientAuth: tls.RequestClientCert, ClientCAs: pool,
					VerifyConnection: func(s tls.ConnectionState) error { shown = s.PeerCertificates; return nil }})
				require.NoError(t, err)
				require.Equal(t, connected, what)
				assert.Equal(t, accepted != other, len(shown) > 0)
			}
		}
	})
}

func TestGetClientCertificateThatFails(t *testing.T) {
	ca := newAuthority(t)
	for _, result := range []error{errUnwanted, nil} {
		_, what, err := handshake(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test",
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return nil, result }}),
			&tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, ClientAuth: tls.RequestClientCert})
		assert.Error(t, err)
		assert.Error(t, what.err)
		if result != nil {
			assert.ErrorIs(t, what.err, errUnwanted)
		}
	}
}

func TestFunctionsForTheOtherSide(t *testing.T) {
	ca := newAuthority(t)
	get := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }
	serverIsRefused(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return nil, nil }})
	for _, cfg := range []*openssl.Config{{GetCertificate: get},
		{GetConfigForClient: func(*tls.ClientHelloInfo) (*openssl.Context, error) { return nil, nil }}} {
		_, err := openssl.NewClientContext(cfg)
		assert.ErrorIs(t, err, syscall.EINVAL)
	}
}

// same is a cache that returns the last session for every server.
type same struct{ tls.ClientSessionCache }

func (s same) Get(string) (*tls.ClientSessionState, bool)    { return s.ClientSessionCache.Get("") }
func (s same) Put(_ string, session *tls.ClientSessionState) { s.ClientSessionCache.Put("", session) }

// The name is the one that the client has asked for, also if it resumes a session, and also if that
// was a session with another name.
func TestServerNameOfAResumedSession(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		confirmed := make(chan string, 1)
		ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "one.test", "two.test")}, MaxVersion: version,
			VerifyConnection: func(s openssl.ConnectionState) error { confirmed <- s.ServerName; return nil }})
		cfg := &tls.Config{RootCAs: ca.pool(), ClientSessionCache: same{tls.NewLRUClientSessionCache(1)}}
		for i, name := range []string{"one.test", "one.test", "two.test"} {
			fd, socket := testutil.TCPPair(t)
			conn := newSocket(t, ctx, newLoop(t), fd)
			_, events := watch(t, conn)
			cfg.ServerName = name
			got := bytesOf(tls.Client(socket, cfg))
			require.Equal(t, connected, testutil.Receive(t, events))
			assert.Equal(t, i > 0, conn.ConnectionState().DidResume)
			assert.Equal(t, name, conn.ConnectionState().ServerName)
			assert.Equal(t, name, testutil.Receive(t, confirmed))
			_, err := conn.WriteString("hello") // in TLS 1.3 the ticket comes before it
			require.NoError(t, err)
			require.NoError(t, conn.FreeAfterFlush(testutil.Patience))
			assert.Equal(t, "hello", testutil.Receive(t, got))
		}
	})
}

// changing is the socket of a client that says something else in its second message.
type changing struct {
	net.Conn
	from, to string
	said     bool
}

func (c *changing) Write(p []byte) (int, error) {
	if c.said {
		p = bytes.ReplaceAll(p, []byte(c.from), []byte(c.to))
	}
	c.said = true
	return c.Conn.Write(p)
}

// A server that has chosen by the client's first message does not accept a second one in which the
// client asks for another server or other protocols, or can do something else.
func TestAnotherSecondHello(t *testing.T) {
	ca := newAuthority(t)
	for name, test := range map[string]struct {
		from, to string
		chooses  bool
	}{
		"name":                {"one.test", "two.test", false},
		"name after a choice": {"one.test", "two.test", true},
		"protocol":            {"\x06proto1", "\x06proto2", true},
		"no protocol":         {"\x00\x10\x00\x09\x00\x07\x06proto1", "\xff\xff\x00\x09\x00\x07\x06proto1", true},
		"version":             {"\x00\x2b\x00\x05\x04\x03\x04\x03\x03", "\x00\x2b\x00\x05\x04\x03\x04\x03\x02", true},
		"group":               {"\x00\x0a\x00\x06\x00\x04\x00\x1d\x00\x17", "\x00\x0a\x00\x06\x00\x04\x00\x18\x00\x17", true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "one.test", "two.test")}, CurvePreferences: []tls.CurveID{tls.CurveP256},
				NextProtos: []string{"proto1", "proto2"}}
			if test.chooses {
				cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*openssl.Context, error) { return nil, nil }
			}
			fd, socket := testutil.TCPPair(t)
			conn := newSocket(t, server(t, cfg), newLoop(t), fd)
			_, events := watch(t, conn)
			peer := tls.Client(&changing{Conn: socket, from: test.from, to: test.to}, &tls.Config{RootCAs: ca.pool(), ServerName: "one.test",
				NextProtos: []string{"proto1"}, CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256}})
			assert.ErrorContains(t, peer.Handshake(), "illegal parameter")
			what := testutil.Receive(t, events)
			assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
			conn.Free()
		})
	}
}

// The Conn of a ClientHelloInfo has addresses. What else a function tries with it is an error.
func TestConnOfClientHelloInfo(t *testing.T) {
	ca := newAuthority(t)
	_, what := handshakeWith(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")},
		GetCertificate: func(info *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c, now := info.Conn, time.Now()
			assert.NotNil(t, c.LocalAddr())
			assert.NotNil(t, c.RemoteAddr())
			_, read := c.Read(make([]byte, 1))
			_, write := c.Write([]byte("x"))
			for _, err := range []error{read, write, c.SetDeadline(now), c.SetReadDeadline(now), c.SetWriteDeadline(now), c.Close()} {
				assert.ErrorIs(t, err, errors.ErrUnsupported)
			}
			return nil, nil
		}}, ca, &tls.Certificate{}, true)
	assert.Equal(t, connected, what)
}
