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
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/go-libevent/libevent"
)

// setCertificates gives OpenSSL the certificates with their chains and keys.
func (s *shared) setCertificates(op string, certs []tls.Certificate) error {
	for i := range certs {
		leaf, native, err := nativeCertificate(op, &certs[i])
		if err != nil {
			return fmt.Errorf("certificate %d: %w", i, err)
		}
		if code := C.gtls_ctx_add_cert(s.c, native); code != 0 {
			return fmt.Errorf("certificate %d: %w", i, newError(op, code))
		}
		s.pick.add(i, leaf)
	}
	if len(certs) > 1 {
		C.gtls_ctx_pick_certs(s.c)
	}
	return nil
}

// nativeCertificate makes OpenSSL's form of a certificate, which the caller frees.
func nativeCertificate(op string, cert *tls.Certificate) (*x509.Certificate, *C.struct_gtls_cert, error) {
	if len(cert.Certificate) == 0 {
		return nil, nil, badArgument(op, "Certificate is empty")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil, nil, badArgument(op, "%v", err)
	}
	if cert.PrivateKey == nil {
		return nil, nil, badArgument(op, "PrivateKey is nil")
	}
	if cert.SupportedSignatureAlgorithms != nil {
		return nil, nil, badArgument(op, "SupportedSignatureAlgorithms is set, but OpenSSL cannot restrict the algorithms of one certificate")
	}
	if len(cert.OCSPStaple) > 0 && !isOCSPResponse(cert.OCSPStaple) {
		return nil, nil, badArgument(op, "OCSPStaple is not the DER form of an OCSP response")
	}
	if slices.ContainsFunc(cert.SignedCertificateTimestamps, func(sct []byte) bool { return len(sct) == 0 }) {
		return nil, nil, badArgument(op, "SignedCertificateTimestamps has a timestamp without bytes")
	}
	scts := timestamps(cert.SignedCertificateTimestamps)
	if n := len(cert.OCSPStaple) + len(scts); n > mostExtended {
		return nil, nil, badArgument(op, "OCSPStaple and SignedCertificateTimestamps have %d bytes: a server can send at most %d", n, mostExtended)
	}
	key, err := marshalKey(cert.PrivateKey)
	if err != nil {
		return nil, nil, badArgument(op, "PrivateKey is a %T: OpenSSL needs the bytes of the key, and it does not give them", cert.PrivateKey)
	}
	defer clear(key)
	pinned := newPinned()
	defer pinned.Unpin()
	ders := make([]C.struct_gtls_bytes, len(cert.Certificate))
	for i, der := range cert.Certificate {
		ders[i] = pinned.bytes(der)
	}
	var code C.ulong
	native := C.gtls_cert_new(&ders[0], C.int(len(ders)), pinned.bytes(key), &code)
	if native == nil {
		return nil, nil, newError(op, code)
	}
	if C.gtls_cert_staple(native, pinned.bytes(cert.OCSPStaple), pinned.bytes(scts)) == 0 {
		C.gtls_cert_free(native)
		return nil, nil, &libevent.Error{Op: op, Err: syscall.ENOMEM}
	}
	return leaf, native, nil
}

// isOCSPResponse reports whether der is what OpenSSL 3.6 and newer can parse. They take a response
// apart before they send it, and a handshake would fail with one that they cannot parse.
func isOCSPResponse(der []byte) bool {
	var response struct { // RFC 6960
		Status asn1.Enumerated
		Bytes  struct {
			Type     asn1.ObjectIdentifier
			Response []byte
		} `asn1:"optional,explicit,tag:0"`
	}
	rest, err := asn1.Unmarshal(der, &response)
	return err == nil && len(rest) == 0
}

// mostExtended is how many bytes of the user's a message can have in its extensions. All of them together have
// at most 64 KiB, and the other extensions need room as well.
const mostExtended = 1<<16 - 512

// timestamps is TLS's form of a list, in which each length has 16 bits.
func timestamps(scts [][]byte) []byte {
	var list []byte
	for _, sct := range scts {
		list = append(binary.BigEndian.AppendUint16(list, uint16(len(sct))), sct...)
	}
	if len(list) == 0 {
		return nil
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(list))), list...)
}

// timestampsIn returns what is in such a list.
func timestampsIn(list []byte) (scts [][]byte) {
	for list = skip(list, 2); len(list) >= 2; {
		n := int(binary.BigEndian.Uint16(list))
		if list = list[2:]; n > len(list) {
			break
		}
		scts, list = append(scts, list[:n]), list[n:]
	}
	return scts
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
	p.byName[""] = p.with(p.byName[""], i)
	for _, name := range leaf.DNSNames {
		name = strings.ToLower(name)
		p.byName[name] = p.with(p.byName[name], i)
	}
}

// with adds certificate i to some, if it is the first with its type of key.
func (p *picker) with(some []int, i int) []int {
	for _, j := range some {
		if p.leaves[j].PublicKeyAlgorithm == p.leaves[i].PublicKeyAlgorithm {
			return some
		}
	}
	if len(some) < C.GTLS_MAX_PICKED {
		some = append(some, i)
	}
	return some
}

// find returns the certificates for a name: those that have the name, and, for the other types of
// key, those with a wildcard for its domain, or else the default.
func (p *picker) find(name string) []int {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" {
		return p.byName[""]
	}
	found := slices.Clip(p.byName[name]) // others use it, so what is added goes elsewhere
	if _, domain, ok := strings.Cut(name, "."); ok {
		for _, i := range p.byName["*."+domain] {
			found = p.with(found, i)
		}
	}
	if len(found) > 0 {
		return found
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
