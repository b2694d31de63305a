// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent/openssl"
)

// revoke makes a list of revoked certificates.
func (a *authority) revoke(t *testing.T, certs ...*x509.Certificate) *x509.RevocationList {
	t.Helper()
	return a.revokeWith(t, nil, certs...)
}

// revokeWith makes a list with other extensions.
func (a *authority) revokeWith(t *testing.T, extensions []pkix.Extension, certs ...*x509.Certificate) *x509.RevocationList {
	t.Helper()
	issuer := *a.cert
	issuer.KeyUsage |= x509.KeyUsageCRLSign
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour), ExtraExtensions: extensions}
	for _, cert := range certs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: cert.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, &issuer, a.key)
	require.NoError(t, err)
	list, err = x509.ParseRevocationList(der)
	require.NoError(t, err)
	return list
}

func TestCRLs(t *testing.T) {
	ca := newAuthorityNamed(t, "root with lists")
	below := ca.below(t)
	good, bad := ca.issue(t, "example.test"), ca.issue(t, "example.test")
	under := withRoot(below.issue(t, "example.test"), ca)
	for name, c := range map[string]struct {
		cert tls.Certificate
		list *x509.RevocationList
		as   func(error) bool
	}{
		"good":                 {good, ca.revoke(t, bad.Leaf), nil},
		"bad":                  {bad, ca.revoke(t, bad.Leaf), as[*openssl.RevokedError]},
		"intermediate":         {under, ca.revoke(t, below.cert), as[*openssl.RevokedError]},
		"list of another":      {bad, newAuthorityNamed(t, "another").revoke(t, bad.Leaf), nil},
		"name as UTF8String":   {bad, asUTF8String(t, ca).revoke(t, bad.Leaf), as[*openssl.RevokedError]},
		"name in other cases":  {bad, inOtherCases(ca).revoke(t, bad.Leaf), as[*openssl.RevokedError]},
		"list of a part":       {bad, ca.revokeWith(t, covers(1), bad.Leaf), as[*openssl.RevokedError]},
		"list with this name":  {bad, newAuthorityNamed(t, "root with lists").revoke(t, bad.Leaf), nil},
		"list that is too old": {good, oldList(t, ca), func(err error) bool { return err != nil }},
	} {
		t.Run(name, func(t *testing.T) {
			_, what, err := handshake(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", CRLs: []*x509.RevocationList{c.list}}),
				&tls.Config{Certificates: []tls.Certificate{c.cert}, MaxVersion: tls.VersionTLS12})
			if c.as == nil {
				require.NoError(t, err)
				assert.Equal(t, connected, what)
				return
			}
			assert.True(t, c.as(what.err), "%v", what)
			assert.Error(t, err)
			assert.True(t, as[*tls.CertificateVerificationError](what.err))
		})
	}
	verifying := openssl.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool()}
	verifying.CRLs = []*x509.RevocationList{nil}
	serverIsRefused(t, &verifying)
	uncheckable := ca.revoke(t, bad.Leaf)
	uncheckable.SignatureAlgorithm = x509.UnknownSignatureAlgorithm
	verifying.CRLs = []*x509.RevocationList{uncheckable}
	serverIsRefused(t, &verifying)
	for name, extensions := range map[string][]pkix.Extension{
		"indirect":            covers(4),
		"attributes":          covers(5),
		"delta":               {{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}},
		"unknown":             {{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}},
		"no such list at all": {{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{5, 0}}},
	} {
		_, err := openssl.NewClientContext(&openssl.Config{CRLs: []*x509.RevocationList{ca.revokeWith(t, extensions)}})
		assert.ErrorIs(t, err, syscall.EINVAL, name)
	}
	_, err := openssl.NewClientContext(&openssl.Config{CRLs: []*x509.RevocationList{nil}})
	assert.ErrorIs(t, err, syscall.EINVAL)
}

// Lists that would never be looked at are an error.
func TestCRLsWhereNothingIsVerified(t *testing.T) {
	ca := newAuthority(t)
	lists := []*x509.RevocationList{ca.revoke(t)}
	for _, auth := range []tls.ClientAuthType{tls.NoClientCert, tls.RequestClientCert, tls.RequireAnyClientCert} {
		serverIsRefused(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, ClientAuth: auth, CRLs: lists})
	}
	_, err := openssl.NewClientContext(&openssl.Config{InsecureSkipVerify: true, CRLs: lists})
	assert.ErrorIs(t, err, syscall.EINVAL)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, ClientAuth: tls.VerifyClientCertIfGiven, CRLs: lists})
	ctx.Free()
}

// covers is the extension that says which certificates a list has: 1 are those of users, 4 is an indirect list.
func covers(what byte) []pkix.Extension {
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 3, 0x80 | what, 1, 0xff}}}
}

func inOtherCases(a *authority) *authority {
	other := *a
	cert := *a.cert
	cert.RawSubject = bytes.Replace(a.cert.RawSubject, []byte("root with lists"), []byte("Root With LISTS"), 1)
	other.cert = &cert
	return &other
}

// asUTF8String returns the same authority, with another type of string in its name.
func asUTF8String(t *testing.T, a *authority) *authority {
	other := *a
	cert := *a.cert
	cert.RawSubject = bytes.Replace(a.cert.RawSubject, []byte{asn1.TagPrintableString, byte(len(cert.Subject.CommonName))},
		[]byte{asn1.TagUTF8String, byte(len(cert.Subject.CommonName))}, 1)
	require.NotEqual(t, a.cert.RawSubject, cert.RawSubject)
	other.cert = &cert
	return &other
}

func oldList(t *testing.T, a *authority) *x509.RevocationList {
	list := a.revoke(t)
	list.NextUpdate = time.Now().Add(-time.Minute) // the signature is of the bytes, which stay
	return list
}

// A client learns from its alert that its certificate is revoked, or at least that it is refused.
func TestRevokedClient(t *testing.T) {
	ca := newAuthority(t)
	bad := ca.issue(t, "client")
	versions(t, func(t *testing.T, version uint16) {
		_, what := handshakeWith(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(), CRLs: []*x509.RevocationList{ca.revoke(t, bad.Leaf)}}, ca, &bad, false)
		assert.True(t, as[*openssl.RevokedError](what.err), "%v", what)
	})
}
