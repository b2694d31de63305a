package openssl

/*
#include "native.h"
*/
import "C"

import (
	"crypto/x509"
	"unsafe"

	"github.com/go-libevent/libevent/internal/adopt"
)

// ConnectionState is what is known of a connection. The fields are those of
// [tls.ConnectionState] of the same names.
type ConnectionState struct {
	Version            uint16 // tls.VersionTLS12, tls.VersionTLS13...
	HandshakeComplete  bool
	DidResume          bool   // an earlier session was resumed
	CipherSuite        uint16 // tls.TLS_AES_128_GCM_SHA256...
	CipherSuiteName    string // as in the RFCs
	NegotiatedProtocol string // of ALPN, or ""
	// ServerName is, on a server, the name that the client asked for, and on a client
	// the one it expects.
	ServerName string
	// PeerCertificates are those that the peer has shown, its own first. When a session
	// is resumed it shows none: then there is its own at most, from the session.
	PeerCertificates []*x509.Certificate
	// VerifiedChains are set when Go has verified in this handshake.
	VerifiedChains [][]*x509.Certificate
}

// ConnectionState returns what is known of the connection: nothing before EventConnected.
// Once asked for it stays after Free. What it points to is shared, and not to be changed.
// Safe for concurrent use.
func (c *Conn) ConnectionState() ConnectionState {
	if s := c.state.Load(); s != nil {
		return *s
	}
	if !c.connected.Load() {
		return ConnectionState{}
	}
	var native C.struct_gtls_state
	if _, err := adopt.Call(c.BufferEvent, "ConnectionState", func() int64 {
		return int64(C.gtls_conn_state(c.c, &native))
	}); err != nil {
		return ConnectionState{}
	}
	s := &ConnectionState{
		Version:            uint16(native.version),
		HandshakeComplete:  true,
		DidResume:          native.resumed != 0,
		CipherSuite:        uint16(native.cipher),
		CipherSuiteName:    C.GoString(native.cipher_name),
		NegotiatedProtocol: C.GoStringN((*C.char)(unsafe.Pointer(&native.alpn[0])), C.int(native.alpn_len)),
		ServerName:         C.GoString(&native.name[0]),
	}
	if !c.ctx.server {
		s.ServerName = c.serverName()
	}
	// What does not parse is not there; what was verified does.
	s.PeerCertificates, _ = certificatesOf(native.peer)
	// Without a certificate nobody was verified: these are of the connection before.
	if chains := c.chains.Load(); chains != nil && !s.DidResume && len(s.PeerCertificates) > 0 {
		s.VerifiedChains = *chains
	}
	c.state.Store(s)
	return *s
}
