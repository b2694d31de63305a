package openssl

/*
#include "native.h"
*/
import "C"

import (
	"crypto/x509"
	"errors"
	"syscall"
	"unsafe"

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
	// PeerCertificates are the certificates that the peer has shown, its own first. In a
	// handshake that resumes a session the peer shows none. Then its own certificate is
	// here if the session has it, and no other.
	PeerCertificates []*x509.Certificate
	// VerifiedChains are set if Go has verified the peer in this handshake.
	VerifiedChains [][]*x509.Certificate
}

// knownState is the state after one of the handshakes of a connection.
type knownState struct {
	ConnectionState
	handshake int // its number
}

// ConnectionState returns what is known of the connection. Before EventConnected that is the
// zero ConnectionState, and also after Free, unless ConnectionState was called before Free.
// Do not change what it points to: all callers share that.
func (c *Conn) ConnectionState() ConnectionState {
	known := c.state.Load()
	if known == nil {
		known = &knownState{}
	}
	var native C.struct_gtls_state
	handshake, err := adopt.Call(c.BufferEvent, "ConnectionState", func() int64 {
		return int64(C.gtls_conn_state(c.c, C.int64_t(known.handshake), &native))
	})
	switch {
	case errors.Is(err, syscall.ENOTCONN):
		return ConnectionState{}
	case err != nil || handshake == known.handshake:
		return known.ConnectionState
	}
	s := ConnectionState{
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
	// A certificate that does not parse ends the list. Go's verification refuses such a peer.
	s.PeerCertificates, _ = certificatesOf(native.peer)
	// If this peer has shown no certificate, the chains are those of the peer of an earlier
	// connection.
	if chains := c.chains.Load(); chains != nil && !s.DidResume && len(s.PeerCertificates) > 0 {
		s.VerifiedChains = *chains
	}
	c.state.Store(&knownState{s, handshake})
	return s
}
