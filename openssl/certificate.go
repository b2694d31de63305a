// SPDX-License-Identifier: BSD-3-Clause

package openssl

/*
#include "native.h"
*/
import "C"

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
)

// setCertificates gives OpenSSL the certificates with their chains and keys.
func (s *shared) setCertificates(op string, certs []tls.Certificate) error {
	for i := range certs {
		leaf, err := s.addCertificate(op, &certs[i])
		if err != nil {
			return fmt.Errorf("certificate %d: %w", i, err)
		}
		s.pick.add(i, leaf)
	}
	if len(certs) > 1 {
		C.gtls_ctx_pick_certs(s.c)
	}
	return nil
}

func (s *shared) addCertificate(op string, cert *tls.Certificate) (*x509.Certificate, error) {
	if len(cert.Certificate) == 0 {
		return nil, badArgument(op, "Certificate is empty")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil, badArgument(op, "%v", err)
	}
	if cert.PrivateKey == nil {
		return nil, badArgument(op, "PrivateKey is nil")
	}
	key, err := marshalKey(cert.PrivateKey)
	if err != nil {
		return nil, badArgument(op, "PrivateKey is a %T: OpenSSL needs the bytes of the key, and it does not give them", cert.PrivateKey)
	}
	defer clear(key)
	pinned := newPinned()
	defer pinned.Unpin()
	ders := make([]C.struct_gtls_bytes, len(cert.Certificate))
	for i, der := range cert.Certificate {
		ders[i] = pinned.bytes(der)
	}
	return leaf, newErrorIf(op, C.gtls_ctx_add_cert(s.c, &ders[0], C.int(len(ders)), pinned.bytes(key)))
}

// marshalKey returns the PKCS #8 bytes of a private key. crypto/x509 panics if there is no
// key, such as for a nil pointer in the interface.
func marshalKey(key crypto.PrivateKey) (der []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return x509.MarshalPKCS8PrivateKey(key)
}

// picker finds a server's certificates by the name that a client asks for. It is complete
// before there are connections, and does not change after that.
type picker struct {
	leaves []*x509.Certificate
	byName map[string][]int // indexes of leaves; "" has the default
}

func (p *picker) add(i int, leaf *x509.Certificate) {
	if p.byName == nil {
		p.byName = map[string][]int{}
	}
	p.leaves = append(p.leaves, leaf)
	p.addTo("", i)
	for _, name := range leaf.DNSNames {
		p.addTo(strings.ToLower(name), i)
	}
}

// addTo adds certificate i to those of a name, if it is the first with its type of key.
func (p *picker) addTo(name string, i int) {
	for _, j := range p.byName[name] {
		if p.leaves[j].PublicKeyAlgorithm == p.leaves[i].PublicKeyAlgorithm {
			return
		}
	}
	if len(p.byName[name]) < C.GTLS_MAX_PICKED {
		p.byName[name] = append(p.byName[name], i)
	}
}

// find returns the certificates for a name: those that have the name, or else those with a
// wildcard for its domain, or else the default.
func (p *picker) find(name string) []int {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if found, ok := p.byName[name]; ok && name != "" {
		return found
	}
	if _, domain, ok := strings.Cut(name, "."); ok {
		if found, ok := p.byName["*."+domain]; ok {
			return found
		}
	}
	return p.byName[""]
}

// ParseCertificates reads all certificates in PEM data, such as the roots for a Config.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	const op = "ParseCertificates"
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, badArgument(op, "certificate %d: %v", len(certs), err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, badArgument(op, "the data has no certificate in PEM format")
	}
	return certs, nil
}

// LoadCertificates is ParseCertificates for a file. For a certificate with its key use
// tls.LoadX509KeyPair.
func LoadCertificates(file string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return certs, nil
}

// certificatesOf parses OpenSSL's certificates up to the first that does not parse, and frees
// them.
func certificatesOf(stack *C.struct_stack_st_X509) ([]*x509.Certificate, error) {
	defer C.gtls_certs_free(stack)
	return parseStack(stack)
}

func parseStack(stack *C.struct_stack_st_X509) ([]*x509.Certificate, error) {
	n := int(C.gtls_certs_count(stack))
	certs := make([]*x509.Certificate, 0, n)
	for i := range n {
		cert, err := x509.ParseCertificate(derOf(stack, i))
		if err != nil {
			return certs, err
		}
		certs = append(certs, cert)
	}
	return certs, nil
}
