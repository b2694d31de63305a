// SPDX-License-Identifier: BSD-3-Clause

package openssl

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"
)

// RevokedError says that the issuer of a certificate has revoked it.
type RevokedError struct{ Cert *x509.Certificate }

func (e *RevokedError) Error() string {
	return fmt.Sprintf("openssl: the certificate with the serial number %#x is revoked", e.Cert.SerialNumber)
}

// revocations are the lists of a context, by the names of their issuers as nameOf has them.
type revocations map[string][]*revocationList

type revocationList struct {
	*x509.RevocationList
	serials map[string]bool

	mu      sync.Mutex
	signers map[[sha256.Size]byte]bool // keys that the list was checked with, and whether they signed it
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
		if id := unusual(list); id != nil {
			return nil, badArgument(op, "list %d of CRLs is not used, because of its extension %v: it is indirect, a delta, or of an unknown kind", i, id)
		}
		l := &revocationList{RevocationList: list, serials: map[string]bool{}, signers: map[[sha256.Size]byte]bool{}}
		for _, entry := range list.RevokedCertificateEntries {
			l.serials[serialOf(entry.SerialNumber)] = true
		}
		name := nameOf(&list.Issuer)
		r[name] = append(r[name], l)
	}
	return r, nil
}

// nameOf makes one text of a name, however it is written: an authority may use another type of string,
// other spaces, and other cases in its lists than in its certificates. A peer may choose a name with thousands
// of parts, for which Name.String needs the square of the time.
func nameOf(name *pkix.Name) string {
	var text strings.Builder
	for _, part := range name.Names {
		fmt.Fprintf(&text, "%v=%v\n", part.Type, strings.Join(strings.Fields(strings.ToLower(fmt.Sprint(part.Value))), " "))
	}
	return text.String()
}

// serialOf makes a text of a serial number. In decimal a long one would need the square of the time.
func serialOf(n *big.Int) string { return n.Text(16) }

// scope is the extension that tells which certificates a list covers.
type scope struct {
	From       asn1.RawValue  `asn1:"optional,tag:0"`
	OnlyUsers  bool           `asn1:"optional,tag:1"`
	OnlyCAs    bool           `asn1:"optional,tag:2"`
	Reasons    asn1.BitString `asn1:"optional,tag:3"`
	Indirect   bool           `asn1:"optional,tag:4"`
	Attributes bool           `asn1:"optional,tag:5"`
}

// unusual returns the extension because of which the certificates in a list need not be revoked ones of
// its issuer. That a list covers only some certificates does not matter: those that no list covers are not checked.
func unusual(list *x509.RevocationList) asn1.ObjectIdentifier {
	issuingDistributionPoint := asn1.ObjectIdentifier{2, 5, 29, 28}
	for _, e := range list.Extensions {
		var s scope
		switch {
		case !e.Id.Equal(issuingDistributionPoint):
			if e.Critical {
				return e.Id
			}
		default:
			if rest, err := asn1.Unmarshal(e.Value, &s); err != nil || len(rest) > 0 || s.Indirect || s.Attributes {
				return e.Id
			}
		}
	}
	return nil
}

func canBeChecked(alg x509.SignatureAlgorithm) bool {
	switch alg {
	case x509.UnknownSignatureAlgorithm, x509.MD2WithRSA, x509.MD5WithRSA, x509.DSAWithSHA1, x509.DSAWithSHA256:
		return false
	}
	return true
}

func (l *revocationList) isSignedBy(issuer *x509.Certificate) bool {
	const most = 1000 // a peer that is an authority itself may show new keys again and again
	key := sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
	l.mu.Lock()
	defer l.mu.Unlock()
	signed, known := l.signers[key]
	if !known {
		if len(l.signers) >= most {
			clear(l.signers)
		}
		// The user has given the list, so the certificate of the issuer need not say that it
		// may sign lists.
		signed = issuer.CheckSignature(l.SignatureAlgorithm, l.RawTBSRevocationList, l.Signature) == nil
		l.signers[key] = signed
	}
	return signed
}

// check looks a certificate up in the lists of its issuer. If the issuer is nil, its name decides
// alone which lists are its.
func (r revocations) check(cert, issuer *x509.Certificate, now time.Time) error {
	if len(r) == 0 {
		return nil
	}
	for _, list := range r[nameOf(&cert.Issuer)] {
		switch {
		case issuer != nil && !list.isSignedBy(issuer):
		case list.serials[serialOf(cert.SerialNumber)]:
			return &RevokedError{cert}
		case !list.NextUpdate.IsZero() && now.After(list.NextUpdate):
			return fmt.Errorf("openssl: the revocation list of %v should have been replaced at %v", list.Issuer, list.NextUpdate)
		}
	}
	return nil
}

// nextUpdate returns when the first list of an issuer should be replaced, or the zero time if none says.
func (r revocations) nextUpdate(cert, issuer *x509.Certificate) (next time.Time) {
	if len(r) == 0 {
		return next
	}
	for _, list := range r[nameOf(&cert.Issuer)] {
		if !list.NextUpdate.IsZero() && (next.IsZero() || list.NextUpdate.Before(next)) && list.isSignedBy(issuer) {
			next = list.NextUpdate
		}
	}
	return next
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
