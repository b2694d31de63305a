// SPDX-License-Identifier: BSD-3-Clause

package openssl

/*
#include "native.h"
*/
import "C"

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// trust is what a context demands of the certificates of its peers.
type trust struct {
	asked    bool           // the peer is asked for a certificate
	required bool           // the peer must have one
	verified bool           // it must be valid, and a server's for the name of the server
	roots    *x509.CertPool // nil stands for the roots of the system
	usage    x509.ExtKeyUsage
	revoked  revocations
	now      func() time.Time
	clients  *clients // that have been verified

	// functions of the user, or nil
	verifyPeer       func([][]byte, [][]*x509.Certificate) error
	verifyConnection func(ConnectionState) error
}

// examines reports whether the context does not take every certificate.
func (t *trust) examines() bool { return t.verified || t.verifyPeer != nil }

// calls reports whether functions of the user decide about peers.
func (t *trust) calls() bool { return t.verifyPeer != nil || t.verifyConnection != nil }

// setTrust sets what the context demands of its peers.
func (s *shared) setTrust(op string, cfg *Config) error {
	s.trust = trust{asked: true, required: true, verified: !cfg.InsecureSkipVerify, usage: x509.ExtKeyUsageServerAuth, now: time.Now, clients: new(clients)}
	pool, certs := cfg.RootCAs, cfg.RootCertificates
	if s.server {
		pool, certs = cfg.ClientCAs, cfg.ClientCACertificates
		s.trust.usage = x509.ExtKeyUsageClientAuth
		s.trust.asked = cfg.ClientAuth != tls.NoClientCert
		s.trust.required = cfg.ClientAuth == tls.RequireAnyClientCert || cfg.ClientAuth == tls.RequireAndVerifyClientCert
		s.trust.verified = cfg.ClientAuth >= tls.VerifyClientCertIfGiven
		names, err := s.addNames(op, pool, certs)
		if err != nil {
			return err
		}
		s.demands = demandsOf(byte(cfg.ClientAuth), names)
	}
	var err error
	if s.trust.revoked, err = newRevocations(op, cfg.CRLs); err != nil {
		return err
	}
	s.trust.verifyPeer, s.trust.verifyConnection = cfg.VerifyPeerCertificate, cfg.VerifyConnection
	if cfg.Time != nil {
		s.trust.now = cfg.Time
	}
	if certs != nil {
		pool = x509.NewCertPool()
	}
	for i, cert := range certs {
		if cert == nil {
			return badArgument(op, "root certificate %d is nil", i)
		}
		pool.AddCert(cert)
	}
	s.trust.roots = pool
	C.gtls_ctx_verify(s.c, cBool(s.trust.asked), cBool(s.trust.required))
	if s.trust.verifyConnection != nil {
		C.gtls_ctx_ask(s.c)
	}
	return nil
}

// addNames adds the names of the roots to the list that a server sends to clients when it asks
// for a certificate. Each name has a length of 16 bits before it, and all of them share one extension,
// so that there is somewhat less room than 64 KiB.
func (s *shared) addNames(op string, pool *x509.CertPool, certs []*x509.Certificate) (names [][]byte, err error) {
	const most = mostExtended
	if pool != nil {
		//lint:ignore SA1019 Subjects leaves out the roots of the system, which this pool does not have.
		names = pool.Subjects()
	}
	for i, cert := range certs {
		if cert == nil {
			return nil, badArgument(op, "root certificate %d is nil", i)
		}
		names = append(names, cert.RawSubject)
	}
	pinned := newPinned()
	defer pinned.Unpin()
	total := 0
	for _, name := range names {
		if total += 2 + len(name); total > most {
			return nil, badArgument(op, "the names of ClientCAs or ClientCACertificates have more than %d bytes, which is all that TLS can send to a client", most)
		}
		if err := newErrorIf(op, C.gtls_ctx_add_ca_name(s.c, pinned.bytes(name))); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// peer is whom a handshake has found at the other end.
type peer struct {
	certs  []*x509.Certificate
	chains [][]*x509.Certificate // from a certificate of the peer to a root; nil if nobody has verified it

	// of a server whose session is kept: what it has sent along, see ConnectionState
	stapled bool
	ocsp    []byte
	scts    [][]byte
}

// parsePeer parses what the peer has sent. What crypto/x509 does not parse is refused, because
// such a certificate could not be told from none. crypto/x509 looks only at keys that have signed a certificate, so
// that of the peer itself is checked here.
func parsePeer(ders [][]byte) (*peer, error) {
	p := &peer{}
	for _, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return p, fmt.Errorf("openssl: a certificate of the peer cannot be parsed: %w", err)
		}
		if key, ok := cert.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > C.GTLS_MAX_KEY_BITS {
			return p, fmt.Errorf("openssl: a certificate of the peer has an RSA key of %d bits: at most %d are accepted", key.N.BitLen(), C.GTLS_MAX_KEY_BITS)
		}
		p.certs = append(p.certs, cert)
	}
	if len(p.certs) == 0 {
		return p, nil
	}
	return p, checkOwnKey(p.certs[0].PublicKey)
}

// checkOwnKey refuses the keys with which crypto/tls lets no peer sign a handshake.
func checkOwnKey(key any) error {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < C.GTLS_MIN_KEY_BITS {
			return fmt.Errorf("openssl: the certificate of the peer has an RSA key of %d bits: at least %d are demanded", bits, C.GTLS_MIN_KEY_BITS)
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return errors.New("openssl: the certificate of the peer has a key that is neither RSA, ECDSA nor Ed25519")
	}
	return nil
}

// verify verifies the certificates of a peer that shall have this name.
func (t *trust) verify(p *peer, name string, server bool) error {
	opts := x509.VerifyOptions{
		Roots:         t.roots,
		CurrentTime:   t.now(),
		DNSName:       name,
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{t.usage},
	}
	for _, cert := range p.certs[1:] {
		opts.Intermediates.AddCert(cert)
	}
	chains, err := p.certs[0].Verify(opts)
	if err == nil && !server && name == "" { // it may be any server's
		err = x509.HostnameError{Certificate: p.certs[0]}
	}
	if err == nil {
		chains, err = t.revoked.filter(chains, opts.CurrentTime)
	}
	p.chains = chains
	return err
}

// alertFor returns the X509_V_ for the result of a verification. OpenSSL makes an alert of it.
func alertFor(err error) C.int {
	if err == nil {
		return C.X509_V_OK
	}
	var (
		invalid x509.CertificateInvalidError
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		revoked *RevokedError
	)
	switch {
	case errors.As(err, &revoked):
		return C.X509_V_ERR_CERT_REVOKED
	case errors.As(err, &host):
		return C.X509_V_ERR_HOSTNAME_MISMATCH
	case errors.As(err, &unknown):
		return C.X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return C.X509_V_ERR_CERT_HAS_EXPIRED
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return C.X509_V_ERR_INVALID_PURPOSE
	}
	return C.X509_V_ERR_CERT_REJECTED
}

// checkServerName refuses what cannot be the name of a server. "" is allowed.
func checkServerName(op, name string) error {
	if len(name) > 255 || strings.ContainsAny(name, "\x00/ ") || strings.HasPrefix(name, ".") {
		return badArgument(op, "%q is not the name of a server", name)
	}
	return nil
}

// isIP reports whether a server's name is an IP address, which SNI does not have.
func isIP(name string) bool {
	_, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"))
	return err == nil
}
