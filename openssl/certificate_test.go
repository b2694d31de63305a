// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// unparsed makes a certificate whose serial number is negative. OpenSSL parses it, and crypto/x509
// does not.
func (a *authority) unparsed(t *testing.T, names ...string) tls.Certificate {
	t.Helper()
	cert := a.issueWith(t, newKey(t), func(c *x509.Certificate) { c.SerialNumber = big.NewInt(5) }, names...)
	before, after := []byte{0xa0, 3, 2, 1, 2, 2, 1, 5}, []byte{0xa0, 3, 2, 1, 2, 2, 1, 0x85}
	require.Equal(t, 1, bytes.Count(cert.Certificate[0], before))
	cert.Certificate[0] = bytes.Replace(cert.Certificate[0], before, after, 1)
	cert.Leaf = nil
	_, err := x509.ParseCertificate(cert.Certificate[0])
	require.Error(t, err)
	return cert
}

// refuses expects a server with this configuration to refuse a client's certificate, and a client
// to refuse a server's, also if it verifies nothing.
func refuses(t *testing.T, ca *authority, cert tls.Certificate, because string) {
	t.Helper()
	versions(t, func(t *testing.T, version uint16) {
		for auth := tls.RequestClientCert; auth <= tls.RequireAndVerifyClientCert; auth++ {
			t.Run(auth.String(), func(t *testing.T) {
				cfg := &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, ClientAuth: auth, MaxVersion: version}
				if auth >= tls.VerifyClientCertIfGiven {
					cfg.ClientCAs = ca.pool()
				}
				_, what := handshakeWith(t, cfg, ca, &cert, false)
				assert.NotZero(t, what.what&libevent.EventError)
				assert.ErrorContains(t, what.err, because)
			})
		}
		for name, cfg := range map[string]*openssl.Config{
			"client":                    {RootCAs: ca.pool(), ServerName: "example.test"},
			"client that verifies none": {InsecureSkipVerify: true},
		} {
			t.Run(name, func(t *testing.T) {
				cfg.MaxVersion = version
				_, what, err := handshake(t, client(t, cfg), &tls.Config{Certificates: []tls.Certificate{cert}})
				assert.Error(t, err)
				assert.NotZero(t, what.what&libevent.EventError)
				assert.ErrorContains(t, what.err, because)
			})
		}
	})
}

// A certificate that Go cannot parse is refused, and does not pass for none.
func TestCertificateThatGoDoesNotParse(t *testing.T) {
	ca := newAuthority(t)
	refuses(t, ca, ca.unparsed(t, "example.test"), "negative serial number")
}

// giant is the certificate of an intermediate, with an RSA key of so many bits. Nobody has the
// private key.
func (a *authority) giant(t *testing.T, bits int) *x509.Certificate {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits-1)))
	require.NoError(t, err)
	n.SetBit(n, bits-1, 1).SetBit(n, 0, 1)
	cert := template("giant")
	cert.IsCA, cert.BasicConstraintsValid = true, true
	return sign(t, cert, a.cert, &rsa.PublicKey{N: n, E: 65537}, a.key)
}

// What a peer sends is bounded, before anything is verified.
func TestBoundsOfAChain(t *testing.T) {
	ca := newAuthority(t)
	t.Run("bits", func(t *testing.T) {
		cert := ca.issue(t, "example.test")
		cert.Certificate = append(cert.Certificate, ca.giant(t, 8193).Raw)
		refuses(t, ca, cert, "an RSA key of 8193 bits")
	})
	t.Run("number", func(t *testing.T) {
		cert := ca.issue(t, "example.test")
		for len(cert.Certificate) < 11 {
			cert.Certificate = append(cert.Certificate, ca.cert.Raw)
		}
		refuses(t, ca, cert, "more than 10 certificates")
	})
	t.Run("bytes", func(t *testing.T) {
		cert := ca.issueWith(t, newKey(t), func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: make([]byte, 100<<10)}}
		}, "example.test")
		refuses(t, ca, cert, "excessive message size")
	})
}

func marshal(t *testing.T, v any) asn1.RawValue {
	t.Helper()
	b, err := asn1.Marshal(v)
	require.NoError(t, err)
	return asn1.RawValue{FullBytes: b}
}

// changed makes a certificate with other fields. Its signature is that of the first one.
func changed(t *testing.T, der []byte, change func(fields []asn1.RawValue) []asn1.RawValue) []byte {
	t.Helper()
	var cert, fields []asn1.RawValue
	_, err := asn1.Unmarshal(der, &cert)
	require.NoError(t, err)
	_, err = asn1.Unmarshal(cert[0].FullBytes, &fields)
	require.NoError(t, err)
	cert[0] = marshal(t, change(fields))
	return marshal(t, cert).FullBytes
}

// withKey makes a certificate with another key: point, for what the algorithm says.
func withKey(t *testing.T, der []byte, point []byte, algorithm ...any) []byte {
	t.Helper()
	var id []asn1.RawValue
	for _, part := range algorithm {
		id = append(id, marshal(t, part))
	}
	return changed(t, der, func(fields []asn1.RawValue) []asn1.RawValue {
		fields[6] = marshal(t, []asn1.RawValue{marshal(t, id), marshal(t, asn1.BitString{Bytes: point, BitLength: 8 * len(point)})})
		return fields
	})
}

// OpenSSL decodes keys on the loop's thread before Go is asked about the certificates. A key with parameters of
// its own can keep OpenSSL busy for half a second, and so can many compressed points. Such certificates are refused
// first, and keys with which OpenSSL checks a signature slowly.
func TestKeysThatKeepOpenSSLBusy(t *testing.T) {
	ca := newAuthority(t)
	leaf := ca.issue(t, "example.test")
	key, err := newKey(t).PublicKey.ECDH()
	require.NoError(t, err)
	point := key.Bytes()
	compressed := append([]byte{2 | point[64]&1}, point[1:33]...)
	ecPublicKey := asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	p256 := asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	large := new(big.Int).Lsh(big.NewInt(1), 3000)
	exponent := marshal(t, []*big.Int{new(big.Int).SetBit(large, 0, 1), big.NewInt(1<<32 + 1)}).FullBytes
	dsa := []any{asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}, []*big.Int{large, big.NewInt(257), big.NewInt(2)}}
	for name, der := range map[string][]byte{
		"exponent":         withKey(t, leaf.Certificate[0], exponent, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, asn1.NullRawValue),
		"DSA":              withKey(t, leaf.Certificate[0], marshal(t, large).FullBytes, dsa...),
		"parameters":       withKey(t, leaf.Certificate[0], point, ecPublicKey, []int{1, 2, 3}),
		"unknown curve":    withKey(t, leaf.Certificate[0], point, ecPublicKey, asn1.ObjectIdentifier{1, 3, 132, 0, 10}),
		"compressed point": withKey(t, leaf.Certificate[0], compressed, ecPublicKey, p256),
		"no point":         withKey(t, leaf.Certificate[0], nil, ecPublicKey, p256),
		"SM2":              withKey(t, leaf.Certificate[0], point, asn1.ObjectIdentifier{1, 2, 156, 10197, 1, 301}, []int{1, 2, 3}),
	} {
		t.Run(name, func(t *testing.T) {
			cert := leaf
			cert.Certificate = [][]byte{leaf.Certificate[0], der}
			refuses(t, ca, cert, "a kind of key that is not accepted")
		})
	}
	_, err = x509.ParseCertificate(withKey(t, leaf.Certificate[0], point, ecPublicKey, p256))
	assert.NoError(t, err, "the certificates above differ from this one only in what they are refused for")
}

// crypto/x509 sees a certificate as OpenSSL encodes it. What was sent otherwise, crypto/tls would refuse.
func TestCertificateThatIsNotDER(t *testing.T) {
	ca := newAuthority(t)
	leaf := ca.issue(t, "example.test")
	der := leaf.Certificate[0]
	var parts []asn1.RawValue // the signed part, the algorithm, the signature
	_, err := asn1.Unmarshal(der, &parts)
	require.NoError(t, err)
	long := func(der []byte) []byte { return append([]byte{der[0], 0x81}, der[1:]...) }
	with := func(i int, der []byte) []byte {
		changed := slices.Clone(parts)
		changed[i].FullBytes = der
		return marshal(t, changed).FullBytes
	}
	for name, ber := range map[string][]byte{
		"length":              append([]byte{0x30, 0x83, 0}, der[2:]...),
		"length of algorithm": with(1, long(parts[1].FullBytes)),
		"length of signature": with(2, long(parts[2].FullBytes)),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := x509.ParseCertificate(ber)
			require.Error(t, err)
			refuses(t, ca, tls.Certificate{Certificate: [][]byte{ber}, PrivateKey: leaf.PrivateKey}, "cannot be parsed")
		})
	}
	assert.Equal(t, der, with(1, parts[1].FullBytes))
}

// OpenSSL sorts the parts of a name, and makes a ticket of the certificate again and again.
func TestCertificateWithALongName(t *testing.T) {
	ca := newAuthority(t)
	refuses(t, ca, ca.issueWith(t, newKey(t), func(c *x509.Certificate) {
		c.Subject.CommonName = strings.Repeat("x", 5000)
	}, "example.test"), "a name of more than 4096 bytes")
}

const tooManyParts = "the names and extensions of the peer's certificates have more than 4096 parts"

// OpenSSL keeps the parts of names, of extensions, and within some extensions. A part of a few bytes becomes
// hundreds.
func TestCertificateWithManyParts(t *testing.T) {
	ca := newAuthority(t)
	chain := func(fill func(*x509.Certificate)) tls.Certificate {
		cert := ca.issue(t, "example.test")
		for range 8 {
			key := newKey(t)
			junk := template("junk.test")
			fill(junk)
			cert.Certificate = append(cert.Certificate, sign(t, junk, ca.cert, key.Public(), ca.key).Raw)
		}
		return cert
	}
	for name, cert := range map[string]tls.Certificate{
		"names": chain(func(c *x509.Certificate) {
			for range 140 {
				c.Subject.ExtraNames = append(c.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{1, 2, 3}, Value: "x"})
			}
		}),
		"extensions": chain(func(c *x509.Certificate) {
			for i := range 180 {
				c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 128 + i}})
			}
		}),
	} {
		t.Run(name, func(t *testing.T) { refuses(t, ca, cert, tooManyParts) })
	}
	value := func(n int, part ...byte) []byte {
		return marshal(t, asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: bytes.Repeat(part, n)}).FullBytes
	}
	for name, san := range map[string][]byte{
		"directory names": value(2100, 0xa4, 2, 0x30, 0),
		"URIs":            value(4100, 0x86, 0),
		"indefinite":      value(4100, 0xa4, 0x80, 0, 0),
		"not DER":         bytes.Repeat([]byte{0x1f, 0xff}, 9000),
	} {
		t.Run(name, func(t *testing.T) {
			refuses(t, ca, ca.issueWith(t, newKey(t), func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 18}, Value: san}}
			}, "example.test"), tooManyParts)
		})
	}
	names := []string{"example.test"}
	for i := range 2000 {
		names = append(names, fmt.Sprintf("%d.example.test", i))
	}
	versions(t, func(t *testing.T, version uint16) {
		fd, socket := testutil.TCPPair(t)
		conn := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "1999.example.test"}), newLoop(t), fd)
		_, events := watch(t, conn)
		require.NoError(t, tls.Server(socket, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, names...)}, MaxVersion: version}).Handshake())
		assert.Equal(t, connected, testutil.Receive(t, events))
	})
}

// The peer's own key is one with which crypto/tls lets a peer sign.
func TestOwnKeyOfThePeer(t *testing.T) {
	ca := newAuthority(t)
	t.Setenv("GODEBUG", "rsa1024min=0") // otherwise crypto/rsa makes no such key
	weak, err := rsa.GenerateKey(rand.Reader, 768)
	require.NoError(t, err)
	refuses(t, ca, ca.issueWith(t, weak, nil, "example.test"), "an RSA key of 768 bits")

	rsassaPSS := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	cert := ca.issue(t, "example.test")
	cert.Certificate[0] = withKey(t, cert.Certificate[0], x509.MarshalPKCS1PublicKey(&rsaKey(t).PublicKey), rsassaPSS)
	refuses(t, ca, cert, "neither RSA, ECDSA nor Ed25519")
}

// A chain at the bounds is accepted. Old roots have version 1, which has neither a version nor extensions.
func TestChainAtTheBounds(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	old := changed(t, ca.cert.Raw, func(fields []asn1.RawValue) []asn1.RawValue { return fields[1 : len(fields)-1] })
	cert.Certificate = append(cert.Certificate, ca.giant(t, 8192).Raw, old)
	for len(cert.Certificate) < 10 {
		cert.Certificate = append(cert.Certificate, ca.cert.Raw)
	}
	_, what, err := handshake(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"}), &tls.Config{Certificates: []tls.Certificate{cert}})
	require.NoError(t, err)
	assert.Equal(t, connected, what)
}

// A client accepts exactly the servers that a client of crypto/tls accepts.
func TestAsCryptoTLS(t *testing.T) {
	ca := newAuthority(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	isCA := func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	usage := func(usages ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = usages }
	}
	for name, c := range map[string]struct {
		cert       tls.Certificate
		serverName string
	}{
		"any usage":                {ca.issueWith(t, newKey(t), usage(x509.ExtKeyUsageAny), "example.test"), "example.test"},
		"no usage":                 {ca.issueWith(t, newKey(t), usage(), "example.test"), "example.test"},
		"a CA":                     {ca.issueWith(t, newKey(t), isCA, "example.test"), "example.test"},
		"mapped IPv4":              {ca.issue(t, "127.0.0.1"), "::ffff:127.0.0.1"},
		"IPv6":                     {ca.issue(t, "::1"), "::1"},
		"IPv6 in brackets":         {ca.issue(t, "::1"), "[::1]"},
		"IPv6 with a zone":         {ca.issue(t, "::1"), "::1%lo"},
		"IPv4 as a name":           {ca.issue(t, "127.0.0.1"), "0x7f.1"},
		"RSA with 1024 bits":       {ca.issueWith(t, small, nil, "example.test"), "example.test"},
		"upper case":               {ca.issue(t, "example.test"), "EXAMPLE.test"},
		"wildcard":                 {ca.issue(t, "*.example.test"), "a.example.test"},
		"wildcard for two labels":  {ca.issue(t, "*.example.test"), "a.b.example.test"},
		"wildcard for the domain":  {ca.issue(t, "*.example.test"), "example.test"},
		"wildcard in the middle":   {ca.issue(t, "a*.example.test"), "ab.example.test"},
		"wildcard as a ServerName": {ca.issue(t, "*.example.test"), "*.example.test"},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer ours.Close()
			defer theirs.Close()
			go func() { _ = tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{c.cert}}).Handshake() }()
			want := tls.Client(ours, &tls.Config{RootCAs: ca.pool(), ServerName: c.serverName}).Handshake()
			trust(t, ca, func(t *testing.T, cfg openssl.Config) {
				cfg.ServerName = c.serverName
				_, what, _ := handshake(t, client(t, &cfg), &tls.Config{Certificates: []tls.Certificate{c.cert}})
				if want == nil {
					assert.Equal(t, connected, what)
				} else {
					assert.Equal(t, fmt.Sprint(want), "tls: failed to verify certificate: "+strings.TrimPrefix(fmt.Sprint(what.err), "tls: failed to verify certificate: "))
				}
			})
		})
	}
}

// A certificate with the exact name does not hide a wildcard with another type of key.
func TestWildcardWithAnotherTypeOfKey(t *testing.T) {
	ca := newAuthority(t)
	exact, wildcard := ca.issueWith(t, rsaKey(t), nil, "a.example.test"), ca.issue(t, "*.example.test")
	unwanted := ca.issue(t, "other.test") // the default for its type of key
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{unwanted, exact, wildcard}})
	for suite, want := range map[uint16]tls.Certificate{
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:   exact,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: wildcard,
	} {
		fd, socket := testutil.TCPPair(t)
		conn := newSocket(t, ctx, newLoop(t), fd)
		_, events := watch(t, conn)
		peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "a.example.test", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}})
		require.NoError(t, peer.Handshake())
		assert.Equal(t, connected, testutil.Receive(t, events))
		assert.True(t, want.Leaf.Equal(peer.ConnectionState().PeerCertificates[0]))
	}
}

// A name with a dot before it would be that of no server, or of all below a domain.
func TestLeadingDot(t *testing.T) {
	ca := newAuthority(t)
	trust(t, ca, func(t *testing.T, cfg openssl.Config) {
		cfg.ServerName = ".example.test"
		_, err := openssl.NewClientContext(&cfg)
		assert.ErrorIs(t, err, syscall.EINVAL)
		cfg.ServerName = ""
		ctx := client(t, &cfg)
		_, err = ctx.Named(".example.test")
		assert.ErrorIs(t, err, syscall.EINVAL)
		conn := newSocket(t, ctx, testutil.NewBase(t), -1)
		assert.ErrorIs(t, conn.Connect("tcp", ".example.test:1"), syscall.EINVAL)
		conn.Free()
	})
}

// TLS has 64 KiB for the names of the authorities that a server sends. More are refused at once,
// and so many work.
func TestManyAuthorities(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	many := func(total int) []*x509.Certificate {
		roots := ca.roots()
		used := 2 + len(ca.cert.RawSubject)
		for used < total {
			name := template(strings.Repeat("x", 1000))
			name.IsCA, name.BasicConstraintsValid = true, true
			root := sign(t, name, ca.cert, &ca.key.PublicKey, ca.key)
			if used += 2 + len(root.RawSubject); used <= total {
				roots = append(roots, root)
			}
		}
		return roots
	}
	serverIsRefused(t, &openssl.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert,
		ClientCACertificates: append(many(65000), many(5000)...)})
	versions(t, func(t *testing.T, version uint16) {
		given := ca.issue(t, "client")
		_, what := handshakeWith(t, &openssl.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert,
			ClientCACertificates: many(64000), MaxVersion: version}, ca, &given, true)
		assert.Equal(t, connected, what)
	})
}

// ocspResponse is the outer form of an OCSP response. A TLS library looks no further.
func ocspResponse(t *testing.T, text string) []byte {
	type bytes struct {
		Type     asn1.ObjectIdentifier
		Response []byte
	}
	der, err := asn1.Marshal(struct {
		Status asn1.Enumerated
		Bytes  bytes `asn1:"explicit,tag:0"`
	}{0, bytes{asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}, []byte(text)}})
	require.NoError(t, err)
	return der
}

// As much as a context takes along with a certificate can be sent.
func TestLargeStaple(t *testing.T) {
	const most = 1<<16 - 512
	ca := newAuthority(t)
	staple := ocspResponse(t, strings.Repeat("x", 30000))
	timestamp := bytes.Repeat([]byte("x"), most-len(staple)-4)
	for name, set := range map[string]func(*tls.Certificate){
		"staple":    func(c *tls.Certificate) { c.OCSPStaple = ocspResponse(t, strings.Repeat("x", most-len(staple)+30000)) },
		"timestamp": func(c *tls.Certificate) { c.SignedCertificateTimestamps = [][]byte{make([]byte, most-4)} },
		"both": func(c *tls.Certificate) {
			c.OCSPStaple, c.SignedCertificateTimestamps = staple, [][]byte{timestamp}
		},
	} {
		t.Run(name, func(t *testing.T) {
			versions(t, func(t *testing.T, version uint16) {
				cert := ca.issue(t, "example.test")
				set(&cert)
				fd, socket := testutil.TCPPair(t)
				conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version, NextProtos: []string{strings.Repeat("p", 255)}}), newLoop(t), fd)
				_, events := watch(t, conn)
				peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", NextProtos: []string{strings.Repeat("p", 255)}})
				require.NoError(t, peer.Handshake())
				require.Equal(t, connected, testutil.Receive(t, events))
				assert.Equal(t, cert.OCSPStaple, peer.ConnectionState().OCSPResponse)
				assert.Equal(t, cert.SignedCertificateTimestamps, peer.ConnectionState().SignedCertificateTimestamps)
				conn.Free()
			})
		})
	}
}

// A server sends what its certificate has, and a client has what the server sends.
func TestStaple(t *testing.T) {
	ca := newAuthority(t)
	stapled := ca.issue(t, "example.test")
	stapled.OCSPStaple = ocspResponse(t, "a response")
	stapled.SignedCertificateTimestamps = [][]byte{[]byte("one"), []byte("another")}
	second := ca.issueWith(t, rsaKey(t), nil, "other.test")
	second.OCSPStaple = ocspResponse(t, "another response")
	plain := ca.issue(t, "example.test")
	versions(t, func(t *testing.T, version uint16) {
		for _, cert := range []*tls.Certificate{&stapled, &second, &plain} {
			name := cert.Leaf.DNSNames[0]
			for way, cfg := range map[string]openssl.Config{
				"one":            {Certificates: []tls.Certificate{*cert}},
				"several":        {Certificates: []tls.Certificate{*cert, ca.issue(t, "third.test")}},
				"GetCertificate": {GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }},
			} {
				t.Run(way, func(t *testing.T) {
					cfg.MaxVersion = version
					fd, socket := testutil.TCPPair(t)
					conn := newSocket(t, server(t, &cfg), newLoop(t), fd)
					_, events := watch(t, conn)
					peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: name})
					require.NoError(t, peer.Handshake())
					require.Equal(t, connected, testutil.Receive(t, events))
					assert.Equal(t, cert.OCSPStaple, peer.ConnectionState().OCSPResponse)
					assert.Equal(t, cert.SignedCertificateTimestamps, peer.ConnectionState().SignedCertificateTimestamps)
				})
			}
			conn, what, err := handshake(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: name, MaxVersion: version}),
				&tls.Config{Certificates: []tls.Certificate{*cert}})
			require.NoError(t, err)
			require.Equal(t, connected, what)
			assert.Equal(t, cert.OCSPStaple, conn.ConnectionState().OCSPResponse)
			assert.Equal(t, cert.SignedCertificateTimestamps, conn.ConnectionState().SignedCertificateTimestamps)
		}
	})
}

// While VerifyConnection decides, and after it has refused, there are no keys, though OpenSSL's handshake is done.
func TestExportKeyingMaterialOfARefusedPeer(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		asked, answer := make(chan struct{}), make(chan error)
		fd, socket := testutil.TCPPair(t)
		conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version,
			VerifyConnection: func(openssl.ConnectionState) error {
				close(asked)
				return <-answer
			}}), newLoop(t), fd)
		_, events := watch(t, conn)
		shaken := handshakeOf(tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"}))
		testutil.Receive(t, asked)
		_, err := conn.ExportKeyingMaterial("label", nil, 32)
		assert.ErrorIs(t, err, syscall.ENOTCONN)
		refused := errors.New("refused")
		answer <- refused
		assert.ErrorIs(t, testutil.Receive(t, events).err, refused)
		testutil.Receive(t, shaken)
		_, err = conn.ExportKeyingMaterial("label", nil, 32)
		assert.ErrorIs(t, err, syscall.ENOTCONN)
	})
}

// Both ends derive the same bytes.
func TestExportKeyingMaterial(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		fd, socket := testutil.TCPPair(t)
		conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version}), newLoop(t), fd)
		_, err := conn.ExportKeyingMaterial("label", nil, 32)
		assert.ErrorIs(t, err, syscall.ENOTCONN)
		_, events := watch(t, conn)
		peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
		require.NoError(t, peer.Handshake())
		require.Equal(t, connected, testutil.Receive(t, events))
		state := peer.ConnectionState()
		for _, context := range [][]byte{nil, {}, []byte("context")} {
			want, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", context, 32)
			require.NoError(t, err)
			got, err := conn.ExportKeyingMaterial("EXPORTER-Channel-Binding", context, 32)
			require.NoError(t, err)
			assert.Equal(t, want, got)
		}
		_, err = conn.ExportKeyingMaterial("label", nil, 0)
		assert.ErrorIs(t, err, syscall.EINVAL)
		conn.Free()
		_, err = conn.ExportKeyingMaterial("label", nil, 32)
		assert.ErrorIs(t, err, libevent.ErrClosed)
	})
}
