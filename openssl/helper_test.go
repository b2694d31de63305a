// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// TestMain fails the run if a test has left an object behind in C.
func TestMain(m *testing.M) {
	code := testutil.Main(m, nil)
	if live := openssl.Live(); live != (openssl.LiveObjects{}) {
		fmt.Printf("FAIL: objects left behind: %+v\n", live)
		code = 1
	}
	os.Exit(code)
}

const (
	rd = libevent.EvRead
	wr = libevent.EvWrite
)

// --- certificates ---------------------------------------------------------------

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var serial int64

func template(name string) *x509.Certificate {
	serial++
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func sign(t testing.TB, cert, by *x509.Certificate, public crypto.PublicKey, key crypto.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, by, public, key)
	require.NoError(t, err)
	signed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return signed
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	return newAuthorityNamed(t, "test root")
}

func newAuthorityNamed(t testing.TB, name string) *authority {
	t.Helper()
	key, cert := newKey(t), template(name)
	cert.IsCA, cert.BasicConstraintsValid = true, true
	cert.KeyUsage = x509.KeyUsageCertSign
	return &authority{sign(t, cert, cert, &key.PublicKey, key), key}
}

// below makes an authority whose certificate this one signs.
func (a *authority) below(t testing.TB) *authority {
	t.Helper()
	key, cert := newKey(t), template("test intermediate")
	cert.IsCA, cert.BasicConstraintsValid = true, true
	cert.KeyUsage = x509.KeyUsageCertSign
	return &authority{sign(t, cert, a.cert, &key.PublicKey, a.key), key}
}

// issue makes a certificate for names and IP addresses, for a server or a client.
func (a *authority) issue(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	return a.issueWith(t, newKey(t), nil, names...)
}

func (a *authority) issueWith(t testing.TB, key crypto.Signer, change func(*x509.Certificate), names ...string) tls.Certificate {
	t.Helper()
	cert := template("test leaf")
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			cert.IPAddresses = append(cert.IPAddresses, ip)
		} else {
			cert.DNSNames = append(cert.DNSNames, name)
		}
	}
	cert.KeyUsage = x509.KeyUsageDigitalSignature
	cert.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if change != nil {
		change(cert)
	}
	leaf := sign(t, cert, a.cert, key.Public(), a.key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, a.cert.Raw}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func (a *authority) roots() []*x509.Certificate { return []*x509.Certificate{a.cert} }

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	return key
}

func toPEM(certs ...[]byte) (out []byte) {
	for _, der := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

// files writes a certificate with its chain to one PEM file, and its key to another.
func files(t testing.TB, cert tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(certFile, toPEM(cert.Certificate...), 0o600))
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	return certFile, keyFile
}

func (a *authority) file(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "root.pem")
	require.NoError(t, os.WriteFile(file, toPEM(a.cert.Raw), 0o600))
	return file
}

// --- contexts ---------------------------------------------------------------------

func server(t testing.TB, cfg *openssl.Config) *openssl.Context {
	t.Helper()
	ctx, err := openssl.NewServerContext(cfg)
	require.NoError(t, err)
	t.Cleanup(ctx.Free)
	return ctx
}

func client(t testing.TB, cfg *openssl.Config) *openssl.Context {
	t.Helper()
	ctx, err := openssl.NewClientContext(cfg)
	require.NoError(t, err)
	t.Cleanup(ctx.Free)
	return ctx
}

// isOld says whether OpenSSL is older than 3.0.
func isOld() bool { return strings.HasPrefix(openssl.Version(), "OpenSSL 1.") }

// versions runs a test with TLS 1.2 and with TLS 1.3.
func versions(t *testing.T, test func(t *testing.T, version uint16)) {
	t.Helper()
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(v), func(t *testing.T) { test(t, v) })
	}
}

// --- loops --------------------------------------------------------------------------

// newLoop makes a base whose loop runs until the end of the test.
func newLoop(t testing.TB) *libevent.Base {
	t.Helper()
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	return base
}

// --- connections ----------------------------------------------------------------------

func newSocket(t testing.TB, ctx *openssl.Context, base *libevent.Base, fd int) *openssl.Conn {
	t.Helper()
	conn, err := ctx.NewSocket(base, fd, libevent.OptCloseOnFree)
	require.NoError(t, err)
	return conn
}

// newConn makes a connection on a socket, or as a filter on the bufferevent of the socket.
func newConn(t testing.TB, ctx *openssl.Context, base *libevent.Base, fd int, filter bool) *openssl.Conn {
	t.Helper()
	if !filter {
		return newSocket(t, ctx, base, fd)
	}
	under, err := base.NewSocket(fd, libevent.OptCloseOnFree)
	require.NoError(t, err)
	conn, err := ctx.NewFilter(under, libevent.OptCloseOnFree)
	require.NoError(t, err)
	return conn
}

// layer puts TLS on the two ends of a connection.
func layer(t testing.TB, under [2]*libevent.BufferEvent) (accepted, connecting *openssl.Conn) {
	t.Helper()
	ca := newAuthority(t)
	accepted, err := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}).
		NewFilter(under[0], libevent.OptCloseOnFree)
	require.NoError(t, err)
	connecting, err = client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"}).
		NewFilter(under[1], libevent.OptCloseOnFree)
	require.NoError(t, err)
	return accepted, connecting
}

// shake waits for the handshake of two ends. events has what the second one is told after that.
func shake(t testing.TB, accepted, connecting *openssl.Conn) (events <-chan told) {
	t.Helper()
	_, open := watch(t, accepted)
	_, events = watch(t, connecting)
	require.Equal(t, connected, testutil.Receive(t, open))
	require.Equal(t, connected, testutil.Receive(t, events))
	return events
}

// fileConn makes a connection of package net for a descriptor.
func fileConn(t testing.TB, fd int) net.Conn {
	t.Helper()
	file := os.NewFile(uintptr(fd), "socket")
	conn, err := net.FileConn(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(testutil.Patience)))
	return conn
}

// told is what the event closure of a connection was told, with the cause.
type told struct {
	what libevent.Events
	err  error
}

// watch sets closures that collect what is read and the events.
func watch(t testing.TB, conn *openssl.Conn) (<-chan string, <-chan told) {
	t.Helper()
	read, events := make(chan string, 10000), make(chan told, 100)
	require.NoError(t, conn.SetCallbacks(func(b *libevent.BufferEvent) {
		p := make([]byte, b.Input().Len())
		n, err := b.Read(p)
		// The test may have freed the connection meanwhile, or drained its input.
		if !errors.Is(err, libevent.ErrClosed) && !errors.Is(err, libevent.ErrWouldBlock) {
			assert.NoError(t, err)
		}
		read <- string(p[:n])
	}, nil, func(b *libevent.BufferEvent, what libevent.Events) { events <- told{what, b.Err()} }))
	require.NoError(t, conn.Enable(rd))
	return read, events
}

// echo sets closures that send back what they read, and free the connection at its end.
func echo(t testing.TB, conn *openssl.Conn) {
	t.Helper()
	require.NoError(t, conn.SetCallbacks(func(b *libevent.BufferEvent) {
		assert.NoError(t, b.WriteBuffer(b.Input()))
	}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
		switch {
		case what&libevent.EventEOF != 0:
			assert.NoError(t, b.FreeAfterFlush(testutil.Patience))
		case what&libevent.EventError != 0:
			b.Free()
		}
	}))
	require.NoError(t, conn.Enable(rd))
}

// take gathers n bytes.
func take(t testing.TB, read <-chan string, n int) string {
	t.Helper()
	got := ""
	for len(got) < n {
		got += testutil.Receive(t, read)
	}
	return got
}
