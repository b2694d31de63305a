// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// inHardware is a private key that does not give its bytes.
type inHardware struct{ crypto.Signer }

// serverIsRefused expects NewServerContext to refuse a configuration.
func serverIsRefused(t *testing.T, cfg *openssl.Config) {
	t.Helper()
	ctx, err := openssl.NewServerContext(cfg)
	assert.Nil(t, ctx)
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "NewServerContext")
	assert.Zero(t, openssl.Live())
}

func TestBadServerConfig(t *testing.T) {
	ca := newAuthority(t)
	certs := []tls.Certificate{ca.issue(t, "example.test")}
	pool, roots := ca.pool(), ca.roots()
	for name, cfg := range map[string]*openssl.Config{
		"without a certificate": nil,
		"without Certificates":  {},
		"RootCAs":               {Certificates: certs, RootCAs: pool},
		"RootCertificates":      {Certificates: certs, RootCertificates: roots},
		"ServerName":            {Certificates: certs, ServerName: "example.test"},
		"InsecureSkipVerify":    {Certificates: certs, InsecureSkipVerify: true},
		"SessionCache":          {Certificates: certs, SessionCache: 1},
		"SessionTickets":        {Certificates: certs, SessionTickets: -1},
		"too many tickets":      {Certificates: certs, SessionTickets: 17},
		"ClientAuth":            {Certificates: certs, ClientAuth: 99},
		"ClientCAs for nothing": {Certificates: certs, ClientCAs: pool},
		"both kinds of CAs":     {Certificates: certs, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, ClientCACertificates: roots},
		"a CA that is nil":      {Certificates: certs, ClientAuth: tls.RequireAndVerifyClientCert, ClientCACertificates: []*x509.Certificate{nil}},
		"MinVersion":            {Certificates: certs, MinVersion: 7},
		"MaxVersion below":      {Certificates: certs, MaxVersion: tls.VersionTLS11},
		"old, without ciphers":  {Certificates: certs, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"NextProtos":            {Certificates: certs, NextProtos: []string{""}},
		"long NextProtos":       {Certificates: certs, NextProtos: []string{strings.Repeat("x", 256)}},
	} {
		t.Run(name, func(t *testing.T) { serverIsRefused(t, cfg) })
	}
}

func TestBadCertificate(t *testing.T) {
	cert := newAuthority(t).issue(t, "example.test")
	for name, bad := range map[string]tls.Certificate{
		"key in hardware":   {Certificate: cert.Certificate, PrivateKey: inHardware{newKey(t)}},
		"key that is nil":   {Certificate: cert.Certificate, PrivateKey: (*ecdsa.PrivateKey)(nil)},
		"key that is empty": {Certificate: cert.Certificate, PrivateKey: ed25519.PrivateKey{}},
		"no key":            {Certificate: cert.Certificate},
		"nothing in it":     {},
		"not a certificate": {Certificate: [][]byte{{1, 2, 3}}, PrivateKey: newKey(t)},
		"staple":            {Certificate: cert.Certificate, PrivateKey: cert.PrivateKey, OCSPStaple: []byte("an OCSP response")},
		"empty timestamp":   {Certificate: cert.Certificate, PrivateKey: cert.PrivateKey, SignedCertificateTimestamps: [][]byte{[]byte("one"), {}}},
		"large timestamp":   {Certificate: cert.Certificate, PrivateKey: cert.PrivateKey, SignedCertificateTimestamps: [][]byte{make([]byte, 1<<16)}},
		"large timestamps":  {Certificate: cert.Certificate, PrivateKey: cert.PrivateKey, SignedCertificateTimestamps: [][]byte{make([]byte, 40000), make([]byte, 40000)}},
		"large staple":      {Certificate: cert.Certificate, PrivateKey: cert.PrivateKey, OCSPStaple: ocspResponse(t, strings.Repeat("x", 1<<16))},
		"large together":    {Certificate: cert.Certificate, PrivateKey: cert.PrivateKey, OCSPStaple: ocspResponse(t, strings.Repeat("x", 40000)), SignedCertificateTimestamps: [][]byte{make([]byte, 40000)}},
		"long staple":       {Certificate: cert.Certificate, PrivateKey: cert.PrivateKey, OCSPStaple: append(ocspResponse(t, "a response"), 0)},
	} {
		t.Run(name, func(t *testing.T) {
			serverIsRefused(t, &openssl.Config{Certificates: []tls.Certificate{bad}})
		})
	}
}

func TestBadClientConfig(t *testing.T) {
	ca := newAuthority(t)
	cert, pool, roots := ca.issue(t, "example.test"), ca.pool(), ca.roots()
	for name, cfg := range map[string]*openssl.Config{
		"two certificates":  {Certificates: []tls.Certificate{cert, cert}},
		"ClientAuth":        {ClientAuth: tls.RequireAnyClientCert},
		"ClientCAs":         {ClientCAs: pool},
		"both kinds":        {RootCAs: pool, RootCertificates: roots},
		"SessionTickets":    {SessionTickets: 1},
		"SessionCache":      {SessionCache: -1},
		"ServerName":        {ServerName: "a/b"},
		"NUL in ServerName": {ServerName: "a\x00b"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, err := openssl.NewClientContext(cfg)
			assert.Nil(t, ctx)
			assert.ErrorIs(t, err, syscall.EINVAL)
			assert.Zero(t, openssl.Live())
		})
	}
}

// OpenSSL refuses these configurations, and its error is returned.
func TestConfigThatOpenSSLRefuses(t *testing.T) {
	cert := newAuthority(t).issue(t, "example.test")
	certs := []tls.Certificate{cert}
	swapped := tls.Certificate{Certificate: cert.Certificate, PrivateKey: newKey(t)}
	for name, cfg := range map[string]*openssl.Config{
		"key of another certificate":   {Certificates: []tls.Certificate{swapped}},
		"broken chain":                 {Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Certificate[0], {1, 2}}, PrivateKey: cert.PrivateKey}}},
		"ciphers":                      {Certificates: certs, CipherList: "none of them"},
		"ciphers that protect nothing": {Certificates: certs, CipherList: "aNULL:eNULL:@SECLEVEL=0"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := openssl.NewServerContext(cfg)
			var e *openssl.Error
			require.ErrorAs(t, err, &e)
			assert.NotZero(t, e.Code)
			assert.NotEmpty(t, e.Reason)
			assert.Zero(t, openssl.Live())
		})
	}
}

func TestBadArguments(t *testing.T) {
	ca := newAuthority(t)
	base := testutil.NewBase(t)
	accepting, connecting := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}), client(t, nil)
	a, b := testutil.Socketpair(t)
	defer syscall.Close(a)
	defer syscall.Close(b)
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer file.Close()
	listener := testutil.Listen(t, base, testutil.Drop)
	for name, try := range map[string]func() (*openssl.Conn, error){
		"no base":        func() (*openssl.Conn, error) { return accepting.NewSocket(nil, a, 0) },
		"fd below -1":    func() (*openssl.Conn, error) { return accepting.NewSocket(base, -2, 0) },
		"a closed fd":    func() (*openssl.Conn, error) { return accepting.NewSocket(base, 9999, 0) },
		"a file":         func() (*openssl.Conn, error) { return accepting.NewSocket(base, int(file.Fd()), 0) },
		"a listener":     func() (*openssl.Conn, error) { return accepting.NewSocket(base, listener.FD(), 0) },
		"nobody to meet": func() (*openssl.Conn, error) { return connecting.NewSocket(base, a, 0) },
		"unknown option": func() (*openssl.Conn, error) { return accepting.NewSocket(base, a, 1<<30) },
		"nothing below":  func() (*openssl.Conn, error) { return accepting.NewFilter(nil, 0) },
	} {
		conn, err := try()
		assert.Nil(t, conn, name)
		assert.Error(t, err, name)
	}
	_, err = accepting.Named("example.test")
	assert.ErrorIs(t, err, syscall.EINVAL)
	conn := newSocket(t, connecting, base, -1)
	assert.ErrorIs(t, conn.Connect("unix", "/nowhere"), syscall.EINVAL)
	assert.Equal(t, openssl.ConnectionState{}, conn.ConnectionState())
	assert.ErrorIs(t, conn.Renegotiate(), syscall.ENOTCONN)
	conn.Free()
	under, _, err := base.NewPair(0)
	require.NoError(t, err)
	first, err := accepting.NewFilter(under, 0)
	require.NoError(t, err)
	_, err = accepting.NewFilter(under, 0)
	assert.ErrorIs(t, err, syscall.EINVAL)
	first.Free()
	_, err = connecting.NewFilter(under, 0)
	assert.ErrorIs(t, err, syscall.EINVAL)
	under.Free()
	_, err = accepting.NewFilter(under, 0)
	assert.ErrorIs(t, err, libevent.ErrClosed)
}

func TestFreedContext(t *testing.T) {
	ca := newAuthority(t)
	conn, read, _, peer := open(t, tls.VersionTLS13)
	_ = conn
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	ctx.Free()
	ctx.Free()
	_, err := ctx.NewSocket(conn.Base(), -1, 0)
	assert.ErrorIs(t, err, libevent.ErrClosed)
	// The connection has another context, and goes on.
	_, err = peer.Write([]byte("on"))
	require.NoError(t, err)
	assert.Equal(t, "on", take(t, read, 2))
}

// Free and NewSocket may run at the same time. A connection that comes too late is refused, and
// all memory is given back once.
func TestFreedContextFromElsewhere(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	cert := ca.issue(t, "example.test")
	for range 50 {
		ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{cert}})
		var all sync.WaitGroup
		for range 2 {
			all.Go(ctx.Free)
			all.Go(func() {
				if conn, err := ctx.NewSocket(base, -1, 0); err == nil {
					conn.Free()
				} else {
					assert.ErrorIs(t, err, libevent.ErrClosed)
				}
			})
		}
		all.Wait()
	}
	testutil.Eventually(t, func() bool { return openssl.Live() == openssl.LiveObjects{} }, "all is given back")
}

func TestContextIsFreedWithItsLastConnection(t *testing.T) {
	ca := newAuthority(t)
	ctx, err := openssl.NewServerContext(&openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	require.NoError(t, err)
	base := newLoop(t)
	fd, peer := testutil.TCPPair(t)
	conn := newSocket(t, ctx, base, fd)
	ctx.Free()
	read, events := watch(t, conn)
	client := tls.Client(peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	_, err = client.Write([]byte("on"))
	require.NoError(t, err)
	require.Equal(t, connected, testutil.Receive(t, events))
	assert.Equal(t, "on", take(t, read, 2))
	assert.EqualValues(t, 1, openssl.Live().Contexts)
	conn.Free()
	testutil.Eventually(t, func() bool { return openssl.Live() == openssl.LiveObjects{} }, "the context is freed")
}

func TestParseCertificates(t *testing.T) {
	ca := newAuthority(t)
	other := newAuthority(t)
	certs, err := openssl.ParseCertificates(append(toPEM(ca.cert.Raw), toPEM(other.cert.Raw)...))
	require.NoError(t, err)
	require.Len(t, certs, 2)
	assert.True(t, certs[1].Equal(other.cert))
	certs, err = openssl.LoadCertificates(ca.file(t))
	require.NoError(t, err)
	assert.True(t, certs[0].Equal(ca.cert))
	for _, bad := range [][]byte{nil, []byte("nothing"), toPEM([]byte{1, 2})} {
		_, err = openssl.ParseCertificates(bad)
		assert.ErrorIs(t, err, syscall.EINVAL)
	}
	_, err = openssl.LoadCertificates("/does/not/exist")
	assert.True(t, errors.Is(err, os.ErrNotExist))
}

// lockedBuffer is a writer that several goroutines may use.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Both ends write the same secrets.
func TestKeyLog(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		var ours, theirs lockedBuffer
		_, what, err := handshake(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", KeyLogWriter: &ours}),
			&tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version, KeyLogWriter: &theirs})
		require.NoError(t, err)
		require.Equal(t, connected, what)
		want := strings.Split(strings.TrimSpace(theirs.String()), "\n")
		require.NotEmpty(t, want)
		for _, line := range want {
			testutil.Eventually(t, func() bool { return strings.Contains(ours.String(), line+"\n") }, "the key is logged: "+line)
		}
	})
}

// writer is an io.Writer.
type writer func(p []byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

// A writer that panics or ends its goroutine loses a line. A panic comes out of the loop.
func TestKeyLogFails(t *testing.T) {
	ca := newAuthority(t)
	for name, fail := range map[string]func(){"panic": testutil.Explode, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			var lines lockedBuffer
			var failed atomic.Bool
			ctx := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", MinVersion: tls.VersionTLS13, KeyLogWriter: writer(func(p []byte) {
				if !failed.Swap(true) {
					fail()
				}
				_, _ = lines.Write(p)
			})})
			base := testutil.NewBase(t)
			fd, peer := testutil.TCPPair(t)
			conn := newSocket(t, ctx, base, fd)
			_, events := watch(t, conn)
			shaken := handshakeOf(tls.Server(peer, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}))
			if name == "panic" {
				raised := make(chan any, 1)
				go func() { raised <- testutil.Raises(func() { _ = base.Run(context.Background()) }) }()
				assert.ErrorIs(t, testutil.AsError(testutil.Receive(t, raised)), testutil.ErrBoom)
			}
			testutil.Background(t, base)
			assert.Equal(t, connected, testutil.Receive(t, events))
			assert.NoError(t, testutil.Receive(t, shaken))
			testutil.Eventually(t, func() bool { return strings.Count(lines.String(), "\n") == 4 }, "the other lines are written")
			conn.Free()
		})
	}
}

func TestVersions(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	fd, peer := testutil.TCPPair(t)
	conn := newSocket(t, ctx, newLoop(t), fd)
	_, events := watch(t, conn)
	err := tls.Client(peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}).Handshake()
	assert.ErrorContains(t, err, "protocol version")
	assert.ErrorContains(t, testutil.Receive(t, events).err, "unsupported protocol")

	_, what, err := handshake(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", MinVersion: tls.VersionTLS13}),
		&tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: tls.VersionTLS12})
	assert.Error(t, err)
	assert.Error(t, what.err)
}

func TestCiphers(t *testing.T) {
	ca := newAuthority(t)
	for _, c := range []struct {
		cfg  openssl.Config
		want uint16
	}{
		{openssl.Config{MaxVersion: tls.VersionTLS12, CipherList: "ECDHE-ECDSA-CHACHA20-POLY1305"}, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256},
		{openssl.Config{CipherSuites: []uint16{tls.TLS_CHACHA20_POLY1305_SHA256}}, tls.TLS_CHACHA20_POLY1305_SHA256},
	} {
		c.cfg.RootCAs, c.cfg.ServerName = ca.pool(), "example.test"
		conn, what, err := handshake(t, client(t, &c.cfg), &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
		require.NoError(t, err)
		require.Equal(t, connected, what)
		state := conn.ConnectionState()
		assert.Equal(t, c.want, state.CipherSuite)
		assert.Equal(t, tls.CipherSuiteName(c.want), state.CipherSuiteName)
	}
}

// A panic of a closure comes out of the loop, as with every bufferevent.
func TestPanic(t *testing.T) {
	ca := newAuthority(t)
	base := testutil.NewBase(t)
	a, b := testutil.Socketpair(t)
	conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}), base, a)
	require.NoError(t, conn.SetCallbacks(nil, nil, func(*libevent.BufferEvent, libevent.Events) { panic("closure") }))
	peer := newSocket(t, client(t, &openssl.Config{ServerName: "example.test", RootCAs: ca.pool()}), base, b)
	_, events := watch(t, peer)
	func() {
		defer func() {
			var p *libevent.PanicError
			require.ErrorAs(t, recover().(error), &p)
			assert.Equal(t, "closure", p.Value)
		}()
		_ = base.Dispatch()
	}()
	conn.Free()
	onEvent := false
	for range 100 {
		require.NoError(t, base.Loop(libevent.LoopNonblock))
		select {
		case what := <-events:
			onEvent = onEvent || what.err == nil || what.err == io.ErrUnexpectedEOF
		default:
		}
	}
	assert.True(t, onEvent)
	peer.Free()
}
