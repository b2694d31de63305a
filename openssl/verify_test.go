// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// trust runs a test with a client that trusts an authority in each of the ways.
func trust(t *testing.T, ca *authority, test func(t *testing.T, cfg openssl.Config)) {
	t.Run("pool", func(t *testing.T) { test(t, openssl.Config{RootCAs: ca.pool()}) })
	t.Run("certificates", func(t *testing.T) { test(t, openssl.Config{RootCertificates: ca.roots()}) })
}

// handshake connects a client to a server of crypto/tls. It returns the client's first event and
// the result of the server's handshake.
func handshake(t *testing.T, ctx *openssl.Context, cfg *tls.Config) (*openssl.Conn, told, error) {
	t.Helper()
	base := newLoop(t)
	fd, peer := testutil.TCPPair(t)
	failed := make(chan error, 1)
	go func() { failed <- tls.Server(peer, cfg).Handshake() }()
	conn := newSocket(t, ctx, base, fd)
	_, events := watch(t, conn)
	what := testutil.Receive(t, events)
	return conn, what, testutil.Receive(t, failed)
}

func TestVerified(t *testing.T) {
	ca := newAuthority(t)
	for name, cert := range map[string]tls.Certificate{
		"name":     ca.issue(t, "www.example.test"),
		"wildcard": ca.issue(t, "*.example.test"),
		"below":    withRoot(ca.below(t).issue(t, "www.example.test"), ca),
		"rsa":      ca.issueWith(t, rsaKey(t), nil, "www.example.test"),
	} {
		t.Run(name, func(t *testing.T) {
			trust(t, ca, func(t *testing.T, cfg openssl.Config) {
				cfg.ServerName = "www.example.test"
				conn, what, err := handshake(t, client(t, &cfg), &tls.Config{Certificates: []tls.Certificate{cert}})
				require.NoError(t, err)
				require.Equal(t, told{libevent.EventConnected, nil}, what)
				state := conn.ConnectionState()
				require.Len(t, state.PeerCertificates, len(cert.Certificate))
				assert.True(t, cert.Leaf.Equal(state.PeerCertificates[0]))
				assert.Equal(t, "www.example.test", state.ServerName)
				require.NotEmpty(t, state.VerifiedChains)
				assert.True(t, ca.cert.Equal(state.VerifiedChains[0][len(state.VerifiedChains[0])-1]))
			})
		})
	}
}

// A dot at the end of a name is left out, because SNI and certificates do not have it.
func TestAbsoluteName(t *testing.T) {
	ca := newAuthority(t)
	trust(t, ca, func(t *testing.T, cfg openssl.Config) {
		for _, name := range []string{"example.test.", "example.test.."} {
			cfg.ServerName = name
			_, what, err := handshake(t, client(t, &cfg), &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
			if name == "example.test." {
				require.NoError(t, err)
				assert.Equal(t, connected, what)
			} else {
				assert.True(t, as[x509.HostnameError](what.err), "%v", what)
			}
		}
	})
}

// withRoot adds the issuer's certificate to a chain that a peer sends.
func withRoot(cert tls.Certificate, ca *authority) tls.Certificate {
	cert.Certificate = append(cert.Certificate, ca.cert.Raw)
	return cert
}

// A certificate can be for an IP address, and a root can be a certificate that another has signed.
func TestVerifiedOtherwise(t *testing.T) {
	ca := newAuthority(t)
	trust(t, ca, func(t *testing.T, cfg openssl.Config) {
		cfg.ServerName = "127.0.0.1"
		_, what, err := handshake(t, client(t, &cfg), &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}})
		require.NoError(t, err)
		assert.Equal(t, told{libevent.EventConnected, nil}, what)
	})
	below := ca.below(t)
	trust(t, below, func(t *testing.T, cfg openssl.Config) {
		cfg.ServerName = "example.test"
		_, what, err := handshake(t, client(t, &cfg), &tls.Config{Certificates: []tls.Certificate{below.issue(t, "example.test")}})
		require.NoError(t, err)
		assert.Equal(t, told{libevent.EventConnected, nil}, what)
	})
}

// The error for a wrong certificate has the same types with each way to give the roots, and the
// server gets an alert.
func TestRefused(t *testing.T) {
	ca := newAuthority(t)
	now := time.Now()
	self := newKey(t)
	selfSigned := template("self")
	selfSigned.DNSNames = []string{"example.test"}
	selfSigned = sign(t, selfSigned, selfSigned, &self.PublicKey, self)
	other := newAuthority(t)
	for _, c := range []struct {
		name  string
		cert  tls.Certificate
		is    func(error) bool
		alert string
	}{
		{"wrong host", ca.issue(t, "other.test"), as[x509.HostnameError], "bad certificate"},
		{"name in the subject", ca.issueWith(t, newKey(t), func(c *x509.Certificate) {
			c.Subject.CommonName = "example.test"
		}), as[x509.HostnameError], "bad certificate"},
		{"expired", ca.issueWith(t, newKey(t), func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = now.Add(-2*time.Hour), now.Add(-time.Hour)
		}, "example.test"), invalid(x509.Expired), "expired certificate"},
		{"not yet", ca.issueWith(t, newKey(t), func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = now.Add(time.Hour), now.Add(2*time.Hour)
		}, "example.test"), invalid(x509.Expired), ""},
		{"self-signed", tls.Certificate{Certificate: [][]byte{selfSigned.Raw}, PrivateKey: self}, as[x509.UnknownAuthorityError], "unknown certificate authority"},
		{"wrong CA", other.issue(t, "example.test"), as[x509.UnknownAuthorityError], "unknown certificate authority"},
		{"wrong use", ca.issueWith(t, newKey(t), func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}, "example.test"), invalid(x509.IncompatibleUsage), "unsupported certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			trust(t, ca, func(t *testing.T, cfg openssl.Config) {
				versions(t, func(t *testing.T, version uint16) {
					cfg.ServerName, cfg.MaxVersion = "example.test", version
					conn, what, err := handshake(t, client(t, &cfg), &tls.Config{Certificates: []tls.Certificate{c.cert}})
					assert.NotZero(t, what.what&libevent.EventError)
					assert.Zero(t, what.what&libevent.EventConnected)
					assert.True(t, c.is(what.err), "%v", what.err)
					var failed *tls.CertificateVerificationError
					if assert.ErrorAs(t, what.err, &failed) {
						assert.Len(t, failed.UnverifiedCertificates, len(c.cert.Certificate))
					}
					if version == tls.VersionTLS12 {
						assert.ErrorContains(t, err, c.alert)
					} else { // OpenSSL sends this alert unencrypted, which crypto/tls refuses
						assert.Error(t, err)
					}
					assert.Equal(t, what.err, conn.Err())
					assert.False(t, conn.ConnectionState().HandshakeComplete)
				})
			})
		})
	}
}

func as[T error](err error) bool {
	var want T
	return errors.As(err, &want)
}

func invalid(reason x509.InvalidReason) func(error) bool {
	return func(err error) bool {
		var invalid x509.CertificateInvalidError
		return errors.As(err, &invalid) && invalid.Reason == reason
	}
}

// The test's authority is not among the roots of the system.
func TestSystemRoots(t *testing.T) {
	ca := newAuthority(t)
	_, what, err := handshake(t, client(t, &openssl.Config{ServerName: "example.test"}),
		&tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	assert.True(t, as[x509.UnknownAuthorityError](what.err), "%v", what.err)
	assert.Error(t, err)
}

// A server learns from the alert why a client has refused it.
func TestAlert(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		base := newLoop(t)
		a, b := testutil.Socketpair(t)
		accepted := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version}), base, a)
		_, events := watch(t, accepted)
		_, refused := watch(t, newSocket(t, client(t, &openssl.Config{ServerName: "example.test", RootCAs: other.pool()}), base, b))
		refusal := testutil.Receive(t, refused)
		assert.True(t, as[x509.UnknownAuthorityError](refusal.err), "%v", refusal)
		err := testutil.Receive(t, events).err
		var alert tls.AlertError
		require.ErrorAs(t, err, &alert)
		assert.Equal(t, tls.AlertError(48), alert)
		var e *openssl.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, "handshake", e.Op)
		assert.Contains(t, err.Error(), "unknown ca")
	})
}

func TestInsecureSkipVerify(t *testing.T) {
	ca := newAuthority(t)
	conn, what, err := handshake(t, client(t, &openssl.Config{InsecureSkipVerify: true}),
		&tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	require.NoError(t, err)
	assert.Equal(t, told{libevent.EventConnected, nil}, what)
	assert.NotEmpty(t, conn.ConnectionState().PeerCertificates)
	assert.Empty(t, conn.ConnectionState().VerifiedChains)
}

// A server's ClientAuth decides which clients of crypto/tls it accepts.
func TestClientAuth(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	cert := ca.issue(t, "example.test")
	given := map[string]*tls.Certificate{"none": {}, "good": new(tls.Certificate), "bad": new(tls.Certificate)}
	*given["good"], *given["bad"] = ca.issue(t, "client"), other.issue(t, "client")
	for auth, accepted := range map[tls.ClientAuthType]string{
		tls.NoClientCert:               "none good bad",
		tls.RequestClientCert:          "none good bad",
		tls.RequireAnyClientCert:       "good bad",
		tls.VerifyClientCertIfGiven:    "none good",
		tls.RequireAndVerifyClientCert: "good",
	} {
		for kind := range given {
			for _, from := range []string{"pool", "store"} {
				t.Run(auth.String()+" "+kind+" "+from, func(t *testing.T) {
					versions(t, func(t *testing.T, version uint16) {
						cfg := &openssl.Config{Certificates: []tls.Certificate{cert}, ClientAuth: auth, MaxVersion: version}
						switch {
						case auth < tls.VerifyClientCertIfGiven:
						case from == "store":
							cfg.ClientCACertificates = ca.roots()
						default:
							cfg.ClientCAs = ca.pool()
						}
						ok := strings.Contains(accepted, kind)
						conn, what := handshakeWith(t, cfg, ca, given[kind], ok)
						if !ok {
							isRejected(t, what, kind)
							return
						}
						assert.Equal(t, told{libevent.EventConnected, nil}, what)
						peers := conn.ConnectionState().PeerCertificates
						if kind == "none" || auth == tls.NoClientCert {
							assert.Empty(t, peers)
						} else {
							require.Len(t, peers, 2)
							assert.Equal(t, given[kind].Leaf.Raw, peers[0].Raw)
						}
					})
				})
			}
		}
	}
}

// handshakeWith has a client of crypto/tls give a certificate, whatever the server asks
// for, and expects the client to be accepted or not. It returns the server's connection and
// its first event.
func handshakeWith(t *testing.T, cfg *openssl.Config, ca *authority, cert *tls.Certificate, accepted bool) (*openssl.Conn, told) {
	t.Helper()
	fd, peer := testutil.TCPPair(t)
	conn := newSocket(t, server(t, cfg), newLoop(t), fd)
	_, events := watch(t, conn)
	client := tls.Client(peer, &tls.Config{
		RootCAs: ca.pool(), ServerName: "example.test",
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
	})
	err := client.Handshake()
	if err == nil && !accepted { // in TLS 1.3 the refusal comes after the client's handshake
		_, err = client.Read(make([]byte, 1))
	}
	what := testutil.Receive(t, events)
	assert.Equal(t, accepted, err == nil, "%v", err)
	return conn, what
}

// isRejected expects an error that says what is wrong with this kind of certificate.
func isRejected(t *testing.T, what told, kind string) {
	t.Helper()
	assert.NotZero(t, what.what&libevent.EventError)
	assert.Equal(t, kind == "bad", as[x509.UnknownAuthorityError](what.err), "%v", what.err)
	if kind == "none" {
		var e *openssl.Error
		assert.ErrorAs(t, what.err, &e)
	}
}

// A Conn with a new client forgets the certificate of the client before.
func TestClientAfterAVerifiedOne(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")},
			ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.pool(), MaxVersion: version}), newLoop(t), -1)
		_, events := watch(t, conn)
		for _, certs := range [][]tls.Certificate{{ca.issue(t, "client")}, nil} {
			fd, peer := testutil.TCPPair(t)
			testutil.OnLoop(t, conn.Base(), func() { assert.NoError(t, conn.ReplaceFD(fd)) })
			require.NoError(t, conn.Enable(rd))
			client := tls.Client(peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", Certificates: certs})
			require.NoError(t, client.Handshake())
			require.Equal(t, connected, testutil.Receive(t, events))
			state := conn.ConnectionState()
			assert.Equal(t, certs != nil, len(state.PeerCertificates) > 0)
			assert.Equal(t, certs != nil, len(state.VerifiedChains) > 0)
			require.NoError(t, client.Close())
			require.Equal(t, endOfFile, testutil.Receive(t, events))
		}
	})
}

// A client shows its certificate, with each type of key.
func TestClientCertificate(t *testing.T) {
	ca := newAuthority(t)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for name, cert := range map[string]tls.Certificate{
		"ecdsa":   ca.issue(t, "client"),
		"rsa":     ca.issueWith(t, rsaKey(t), nil, "client"),
		"ed25519": ca.issueWith(t, edKey, nil, "client"),
	} {
		t.Run(name, func(t *testing.T) {
			versions(t, func(t *testing.T, version uint16) {
				cfg := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")},
					ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(), MaxVersion: version}
				_, what, err := handshake(t, client(t, &openssl.Config{
					Certificates: []tls.Certificate{cert}, RootCAs: ca.pool(), ServerName: "example.test"}), cfg)
				require.NoError(t, err)
				assert.Equal(t, told{libevent.EventConnected, nil}, what)
			})
		})
	}
}
