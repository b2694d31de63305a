// SPDX-License-Identifier: BSD-3-Clause

package openssl

/*
#include "native.h"
*/
import "C"

import (
	"crypto/x509"
	"syscall"
	"unsafe"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/adopt"
)

// ConnectionState is what is known of a connection. Its fields have the same meaning as the
// fields of [tls.ConnectionState] with the same names.
type ConnectionState struct {
	Version            uint16 // tls.VersionTLS12, tls.VersionTLS13...
	HandshakeComplete  bool
	DidResume          bool   // the handshake has resumed an earlier session
	CipherSuite        uint16 // tls.TLS_AES_128_GCM_SHA256...
	CipherSuiteName    string // its name in the RFCs
	NegotiatedProtocol string // by ALPN, or ""
	// ServerName is the name that the client asked for if this is a server, and the name
	// that it expects if this is a client.
	ServerName string
	// PeerCertificates are the certificates that the peer has shown, its own first, and
	// VerifiedChains the chains from it to a root, if the context verifies its peers. In a
	// handshake that resumes a session the peer shows none. Then a client has here what the
	// server has shown before, and a server has the client's own certificate, and no chains.
	PeerCertificates []*x509.Certificate
	VerifiedChains   [][]*x509.Certificate
	// OCSPResponse and SignedCertificateTimestamps are what a server has sent along with its
	// certificate. They are not verified. A client that resumes a session has those of the handshake
	// in which the session began.
	OCSPResponse                []byte
	SignedCertificateTimestamps [][]byte
}

// ConnectionState returns what is known of the connection. Before EventConnected that is the
// zero ConnectionState, also if the connection has got another socket. Do not change what it points to: all callers share that.
func (c *Conn) ConnectionState() ConnectionState {
	if s := c.state.Load(); s != nil {
		return *s
	}
	return ConnectionState{}
}

// readState reads what OpenSSL knows of the connection. A certificate that does not parse is an
// error.
func (c *Conn) readState() (*ConnectionState, error) {
	var native C.struct_gtls_state
	if rc := C.gtls_conn_state(c.c, &native); rc < 0 {
		return nil, &libevent.Error{Op: "ConnectionState", Err: syscall.Errno(-rc)}
	}
	defer C.gtls_der_free(native.ocsp)
	defer C.gtls_der_free(native.scts)
	certs, err := certificatesOf(native.peer)
	if err != nil {
		return nil, err
	}
	if native.protects == 0 {
		return nil, errNoProtection
	}
	s := &ConnectionState{
		Version:            uint16(native.version),
		HandshakeComplete:  true,
		DidResume:          native.resumed != 0,
		CipherSuite:        uint16(native.cipher),
		CipherSuiteName:    C.GoString(native.cipher_name),
		NegotiatedProtocol: C.GoStringN((*C.char)(unsafe.Pointer(&native.alpn[0])), C.int(native.alpn_len)),
		ServerName:         C.GoString(&native.name[0]),
		PeerCertificates:   certs,
	}
	if native.ocsp != nil {
		s.OCSPResponse = C.GoBytes(unsafe.Pointer(native.ocsp), C.int(native.nocsp))
	}
	s.SignedCertificateTimestamps = timestampsIn(C.GoBytes(unsafe.Pointer(native.scts), C.int(native.nscts)))
	if !c.ctx.server {
		s.ServerName = c.serverName()
	}
	return s, nil
}

// ExportKeyingMaterial returns bytes that only the two ends of the connection can derive, from a
// label and a context, which may be nil, as RFC 5705 has it. The label "EXPORTER-Channel-Binding"
// with an empty context gives the binding tls-exporter. With TLS 1.2 and a peer that does not know
// RFC 7627 the error matches errors.ErrUnsupported, because such bytes do not bind the connection.
// Before EventConnected the error matches syscall.ENOTCONN: the peer is perhaps refused.
func (c *Conn) ExportKeyingMaterial(label string, context []byte, length int) ([]byte, error) {
	const op = "SSL_export_keying_material"
	if length <= 0 || label == "" {
		return nil, badArgument(op, "length is %d, and label is %q", length, label)
	}
	out := make([]byte, length)
	pinned := newPinned()
	defer pinned.Unpin()
	to, from, with := pinned.bytes(out), pinned.bytes([]byte(label)), pinned.bytes(context)
	_, err := adopt.Call(c.BufferEvent, op, func() int64 {
		if c.state.Load() == nil {
			return -int64(syscall.ENOTCONN)
		}
		return int64(C.gtls_conn_export(c.c, (*C.uchar)(unsafe.Pointer(to.p)), to.n, from, with, cBool(context != nil)))
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
