// SPDX-License-Identifier: BSD-3-Clause

package openssl

import (
	"crypto/x509"
	"fmt"
	"sync"
	"time"
)

// RevokedError says that the issuer of a certificate has revoked it.
type RevokedError struct{ Cert *x509.Certificate }

func (e *RevokedError) Error() string {
	return fmt.Sprintf("openssl: the certificate with the serial number %v is revoked", e.Cert.SerialNumber)
}

// revocations are the lists of a context, by the names of their issuers as text: an authority may
// write its name as another type of string in its lists than in its certificates.
type revocations map[string][]*revocationList

type revocationList struct {
	*x509.RevocationList
	serials map[string]bool

	mu      sync.Mutex
	signers map[string]bool // certificates that the list was checked with, and whether they signed it
}

func newRevocations(op string, lists []*x509.RevocationList) (revocations, error) {
	r := revocations{}
	for i, list := range lists {
		if list == nil {
			return nil, badArgument(op, "list %d of CRLs is nil", i)
		}
		if !canBeChecked(list.SignatureAlgorithm) {
			return nil, badArgument(op, "list %d of CRLs has a signature that crypto/x509 cannot check, so it would never be used", i)
		}
		l := &revocationList{RevocationList: list, serials: map[string]bool{}, signers: map[string]bool{}}
		for _, entry := range list.RevokedCertificateEntries {
			l.serials[entry.SerialNumber.String()] = true
		}
		r[list.Issuer.String()] = append(r[list.Issuer.String()], l)
	}
	return r, nil
}

func canBeChecked(alg x509.SignatureAlgorithm) bool {
	switch alg {
	case x509.UnknownSignatureAlgorithm, x509.MD2WithRSA, x509.MD5WithRSA, x509.DSAWithSHA1, x509.DSAWithSHA256:
		return false
	}
	return true
}

func (l *revocationList) isSignedBy(issuer *x509.Certificate) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	signed, known := l.signers[string(issuer.Raw)]
	if !known {
		// The user has given the list, so the certificate of the issuer need not say that it
		// may sign lists.
		signed = issuer.CheckSignature(l.SignatureAlgorithm, l.RawTBSRevocationList, l.Signature) == nil
		l.signers[string(issuer.Raw)] = signed
	}
	return signed
}

// check looks a certificate up in the lists of its issuer. If the issuer is nil, its name decides
// alone which lists are its.
func (r revocations) check(cert, issuer *x509.Certificate, now time.Time) error {
	for _, list := range r[cert.Issuer.String()] {
		switch {
		case issuer != nil && !list.isSignedBy(issuer):
		case list.serials[cert.SerialNumber.String()]:
			return &RevokedError{cert}
		case !list.NextUpdate.IsZero() && now.After(list.NextUpdate):
			return fmt.Errorf("openssl: the revocation list of %v should have been replaced at %v", list.Issuer, list.NextUpdate)
		}
	}
	return nil
}

// filter returns the chains in which no certificate is revoked. If there is none, it returns an
// error.
func (r revocations) filter(chains [][]*x509.Certificate, now time.Time) (good [][]*x509.Certificate, err error) {
	if len(r) == 0 {
		return chains, nil
	}
	for _, chain := range chains {
		revoked := error(nil)
		for i := 0; i < len(chain)-1 && revoked == nil; i++ {
			revoked = r.check(chain[i], chain[i+1], now)
		}
		if revoked == nil {
			good = append(good, chain)
		} else if err == nil {
			err = revoked
		}
	}
	if len(good) > 0 {
		err = nil
	}
	return good, err
}
