// SPDX-License-Identifier: BSD-3-Clause

package openssl

/*
#include "native.h"
*/
import "C"

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// decide says whether a connection may be reported whose handshake is done. It is the only place
// that does, for full handshakes, for resumed sessions, for filters and for renegotiations. All
// that the context demands is checked here again, whatever OpenSSL has checked already. If the
// result is nil, the connection must be reported as failed.
func (c *Conn) decide() (*ConnectionState, error) {
	s, err := c.readState()
	if err != nil {
		return nil, err
	}
	if err := c.checkPeer(s); err != nil {
		return nil, err
	}
	if !c.isSamePeer(s) {
		return nil, errOtherPeer
	}
	if proto := s.NegotiatedProtocol; proto != "" && !slices.Contains(c.rules().protos, proto) {
		return nil, fmt.Errorf("openssl: the peer has chosen the protocol %q, which NextProtos does not have", proto)
	}
	return s, nil
}

var (
	errNoProtection  = errors.New("openssl: the cipher does not protect the connection")
	errNoCertificate = errors.New("openssl: the peer has shown no certificate")
	errNotVerified   = errors.New("openssl: the certificate of the peer was not verified")
	errOtherPeer     = errors.New("openssl: the peer has shown another certificate in a renegotiation")
)

// isSamePeer reports whether a renegotiation has led to the peer of the handshake before. A user who
// has looked at the peer once must not get bytes of another one.
func (c *Conn) isSamePeer(s *ConnectionState) bool {
	before := c.next.Load() // the first handshake is perhaps not reported yet
	if before == nil {
		before = c.state.Load()
	}
	if before == nil {
		return true
	}
	now, then := s.PeerCertificates, before.PeerCertificates
	return len(now) == 0 && len(then) == 0 || len(now) > 0 && len(then) > 0 && now[0].Equal(then[0])
}

// checkPeer checks that the peer has shown the certificates that the context demands, and sets
// those of s.
func (c *Conn) checkPeer(s *ConnectionState) error {
	p, t := c.peer.Load(), &c.rules().trust
	if s.DidResume {
		p = c.resumedPeer(s)
	} else if len(s.PeerCertificates) == 0 {
		p = nil // the one that is known is that of the handshake before
	}
	switch {
	case p == nil && t.required:
		return errNoCertificate
	case p == nil && len(s.PeerCertificates) == 0:
		return nil
	case p == nil || !p.certs[0].Equal(s.PeerCertificates[0]):
		return errNotVerified
	case s.DidResume && t.verified:
		chains, err := t.stillValid(p, c.serverName(), c.ctx.server)
		if err != nil {
			return err
		}
		now := *p
		now.chains = chains
		p = &now
	case t.verified && len(p.chains) == 0:
		return errNotVerified
	}
	s.PeerCertificates, s.VerifiedChains = p.certs, p.chains
	if s.DidResume {
		s.OCSPResponse = p.ocsp
		if len(s.SignedCertificateTimestamps) == 0 { // with TLS 1.2 the server sends them again
			s.SignedCertificateTimestamps = p.scts
		}
	}
	c.peer.Store(p)
	return nil
}

// resumedPeer returns whom the session knows. A client remembers all that the server has shown, and
// a server has the client's own certificate only.
func (c *Conn) resumedPeer(s *ConnectionState) *peer {
	if len(s.PeerCertificates) == 0 {
		return nil
	}
	if p := c.offered.Load(); p != nil && p.certs[0].Equal(s.PeerCertificates[0]) {
		return p
	}
	return &peer{certs: s.PeerCertificates}
}

// stillValid checks what can have changed since the certificates were verified. It returns the
// chains that are still valid.
func (t *trust) stillValid(p *peer, name string, server bool) ([][]*x509.Certificate, error) {
	chains, err := t.unexpired(p)
	if err != nil || server {
		return chains, err
	}
	return chains, p.certs[0].VerifyHostname(name)
}

// unexpired returns the chains of the peer in which no certificate is expired or revoked by now. If
// there is none, or if the peer's own certificate is expired or revoked, it returns an error.
func (t *trust) unexpired(p *peer) (good [][]*x509.Certificate, err error) {
	now := t.now()
	chains := p.chains
	if len(chains) == 0 { // the issuer is not known
		err = t.revoked.check(p.certs[0], nil, now)
	} else {
		chains, err = t.revoked.filter(chains, now)
	}
	if err != nil {
		return nil, err
	}
	outside := func(cert *x509.Certificate) bool { return now.Before(cert.NotBefore) || now.After(cert.NotAfter) }
	bad := p.certs[0]
	if !outside(bad) {
		for _, chain := range chains {
			if i := slices.IndexFunc(chain, outside); i < 0 {
				good = append(good, chain)
			} else {
				bad = chain[i]
			}
		}
		if len(good) > 0 || len(chains) == 0 {
			return good, nil
		}
	}
	return nil, x509.CertificateInvalidError{Cert: bad, Reason: x509.Expired, Detail: fmt.Sprintf("it is %v now", now)}
}

// goodUntil returns when the last chain of the peer has an expired certificate, or needs a new revocation list.
func (t *trust) goodUntil(p *peer) (until time.Time) {
	if len(p.chains) == 0 { // the peer was not verified
		return p.certs[0].NotAfter
	}
	for _, chain := range p.chains {
		end := chain[0].NotAfter
		for i, cert := range chain {
			end = earlier(end, cert.NotAfter)
			if i > 0 {
				end = earlier(end, t.revoked.nextUpdate(chain[i-1], cert))
			}
		}
		if end.After(until) {
			until = end
		}
	}
	return until
}

// earlier returns the first of two times. A zero other stands for never.
func earlier(one, other time.Time) time.Time {
	if !other.IsZero() && other.Before(one) {
		return other
	}
	return one
}

// mayResume says whether a server resumes a session with a client. If not, the client gets a full
// handshake.
func (s *shared) mayResume(client *C.struct_stack_st_X509) bool {
	certs, err := parseStack(client)
	switch {
	case err != nil:
		return false
	case len(certs) == 0: // a function may accept a client that has none, or refuse it, after the tickets were sent
		return !s.trust.required && !(s.trust.asked && s.trust.calls())
	case s.trust.examines() && !s.trust.clients.has(certs[0], s.trust.now()):
		return false
	}
	_, err = s.trust.unexpired(&peer{certs: certs})
	return err == nil
}
