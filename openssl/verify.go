// SPDX-License-Identifier: BSD-3-Clause

package openssl

/*
#include "native.h"
*/
import "C"

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// verifier is what Go needs to verify a peer.
type verifier struct {
	roots *x509.CertPool // nil stands for the roots of the system
	usage x509.ExtKeyUsage
}

// setTrust chooses whether Go or OpenSSL verifies the peer, or neither, and gives it the roots.
func (s *shared) setTrust(op string, cfg *Config) error {
	pool, certs := cfg.RootCAs, cfg.RootCertificates
	s.verifier.usage = x509.ExtKeyUsageServerAuth
	if s.server {
		pool, certs = cfg.ClientCAs, cfg.ClientCACertificates
		s.verifier.usage = x509.ExtKeyUsageClientAuth
	}
	s.verifier.roots = pool
	mode := C.int(C.GTLS_VERIFY_GO)
	switch {
	case cfg.InsecureSkipVerify || s.server && cfg.ClientAuth < tls.VerifyClientCertIfGiven:
		mode = C.GTLS_VERIFY_NOTHING
	case certs != nil:
		mode = C.GTLS_VERIFY_STORE
		if err := s.addRoots(op, certs); err != nil {
			return err
		}
	}
	s.verify = mode
	if s.server {
		if err := s.addNames(op, pool, certs); err != nil {
			return err
		}
		switch cfg.ClientAuth {
		case tls.RequestClientCert, tls.VerifyClientCertIfGiven:
			mode |= C.GTLS_CERT_REQUESTED
		case tls.RequireAnyClientCert, tls.RequireAndVerifyClientCert:
			mode |= C.GTLS_CERT_REQUIRED
		}
	}
	C.gtls_ctx_verify(s.c, mode)
	return nil
}

func (s *shared) addRoots(op string, certs []*x509.Certificate) error {
	pinned := newPinned()
	defer pinned.Unpin()
	for i, cert := range certs {
		if cert == nil {
			return badArgument(op, "root certificate %d is nil", i)
		}
		if code := C.gtls_ctx_add_root(s.c, pinned.bytes(cert.Raw)); code != 0 {
			return fmt.Errorf("root certificate %d: %w", i, newError(op, code))
		}
	}
	return nil
}

// addNames adds the names of the roots to the list that a server sends to clients when it asks
// for a certificate.
func (s *shared) addNames(op string, pool *x509.CertPool, certs []*x509.Certificate) error {
	var names [][]byte
	if pool != nil {
		//lint:ignore SA1019 Subjects leaves out the roots of the system, which this pool does not have.
		names = pool.Subjects()
	}
	for _, cert := range certs {
		names = append(names, cert.RawSubject)
	}
	pinned := newPinned()
	defer pinned.Unpin()
	for _, name := range names {
		if err := newErrorIf(op, C.gtls_ctx_add_ca_name(s.c, pinned.bytes(name))); err != nil {
			return err
		}
	}
	return nil
}

// verify verifies the certificates that the peer has sent. OpenSSL calls it in the middle of the
// handshake. It returns the X509_V_ERR_ for which OpenSSL sends the peer the right alert.
func (c *Conn) verify(ders [][]byte) (code C.int) {
	certs := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			c.failed.Store(&tls.CertificateVerificationError{UnverifiedCertificates: certs[:i], Err: err})
			return C.X509_V_ERR_UNSPECIFIED
		}
		certs[i] = cert
	}
	opts := x509.VerifyOptions{
		Roots:         c.ctx.verifier.roots,
		CurrentTime:   time.Now(),
		DNSName:       c.serverName(),
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{c.ctx.verifier.usage},
	}
	for _, cert := range certs[1:] {
		opts.Intermediates.AddCert(cert)
	}
	chains, err := certs[0].Verify(opts)
	if err == nil && !c.ctx.server && opts.DNSName == "" { // it may be any server's
		err = x509.HostnameError{Certificate: certs[0]}
	}
	if err != nil {
		c.failed.Store(&tls.CertificateVerificationError{UnverifiedCertificates: certs, Err: err})
		return alertFor(err)
	}
	c.chains.Store(&chains)
	return C.X509_V_OK
}

// alertFor returns the X509_V_ERR_ for an error of crypto/x509.
func alertFor(err error) C.int {
	var (
		invalid x509.CertificateInvalidError
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
	)
	switch {
	case errors.As(err, &host):
		return C.X509_V_ERR_HOSTNAME_MISMATCH
	case errors.As(err, &unknown):
		return C.X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return C.X509_V_ERR_CERT_HAS_EXPIRED
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return C.X509_V_ERR_INVALID_PURPOSE
	}
	return C.X509_V_ERR_UNSPECIFIED
}

// VerifyError is a failure of OpenSSL's own verification. Unwrap returns the error of
// crypto/x509 for the same failure, if there is one.
type VerifyError struct {
	Code   int    // one of X509_V_ERR_
	Reason string // OpenSSL's text for it
	err    error
}

func (e *VerifyError) Error() string {
	if e.err != nil {
		return fmt.Sprintf("%v (OpenSSL: %s)", e.err, e.Reason)
	}
	return "openssl: " + e.Reason
}

// Unwrap returns the error of crypto/x509, or nil.
func (e *VerifyError) Unwrap() error { return e.err }

// storeFailure returns the failure of OpenSSL's own verification, once, or nil.
func (c *Conn) storeFailure() error {
	var sent, wrong *C.struct_stack_st_X509
	code := C.gtls_conn_verify_failure(c.c, &sent, &wrong)
	if code == C.X509_V_OK {
		return nil
	}
	certs, _ := certificatesOf(sent)
	var cert *x509.Certificate
	if of, _ := certificatesOf(wrong); len(of) > 0 {
		cert = of[0]
	}
	e := &VerifyError{Code: int(code), Reason: C.GoString(C.X509_verify_cert_error_string(C.long(code)))}
	if cert != nil {
		e.err = c.goError(code, cert, e.Reason)
	}
	return &tls.CertificateVerificationError{UnverifiedCertificates: certs, Err: e}
}

// goError returns the error of crypto/x509 for a code of OpenSSL, or nil.
func (c *Conn) goError(code C.int, cert *x509.Certificate, reason string) error {
	invalid := func(why x509.InvalidReason) error {
		return x509.CertificateInvalidError{Cert: cert, Reason: why, Detail: reason}
	}
	switch code {
	case C.X509_V_ERR_HOSTNAME_MISMATCH, C.X509_V_ERR_IP_ADDRESS_MISMATCH:
		return x509.HostnameError{Certificate: cert, Host: c.serverName()}
	case C.X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, C.X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
		C.X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, C.X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
		C.X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, C.X509_V_ERR_CERT_UNTRUSTED:
		return x509.UnknownAuthorityError{Cert: cert}
	case C.X509_V_ERR_CERT_HAS_EXPIRED, C.X509_V_ERR_CERT_NOT_YET_VALID:
		return invalid(x509.Expired)
	case C.X509_V_ERR_INVALID_PURPOSE:
		return invalid(x509.IncompatibleUsage)
	case C.X509_V_ERR_INVALID_CA:
		return invalid(x509.NotAuthorizedToSign)
	case C.X509_V_ERR_PATH_LENGTH_EXCEEDED:
		return invalid(x509.TooManyIntermediates)
	case C.X509_V_ERR_PERMITTED_VIOLATION, C.X509_V_ERR_EXCLUDED_VIOLATION:
		return invalid(x509.CANotAuthorizedForThisName)
	}
	return nil
}

// checkServerName refuses what cannot be the name of a server. "" is allowed.
func checkServerName(op, name string) error {
	if len(name) > 255 || strings.ContainsAny(name, "\x00/ ") {
		return badArgument(op, "%q is not the name of a server", name)
	}
	return nil
}

// isIP reports whether a server's name is an IP address, and returns the address without
// brackets and zone.
func isIP(name string) (string, bool) {
	addr := strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	ip, err := netip.ParseAddr(addr)
	return ip.WithZone("").String(), err == nil
}
