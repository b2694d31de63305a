package openssl

import (
	"crypto/tls"
	"crypto/x509"
	"io"
)

// Config says what a Context is to be. The words are those of crypto/tls. A constructor
// copies what it needs: a Config may be used again, and changed.
type Config struct {
	// Certificates are shown to the peer. A server needs one at least: it shows the
	// client the one whose names match the name that the client asks for, of each type
	// of key the first, and if there is none the first of all. A client has one at
	// most. Private keys must be such that their bytes can be had: keys in hardware are
	// not supported.
	Certificates []tls.Certificate

	// RootCAs or RootCertificates are what a client trusts: at most one of the two.
	// With RootCertificates OpenSSL verifies, and each of them is trusted whoever has
	// signed it. With RootCAs, or with neither, which means the system's roots, Go
	// does, with crypto/x509 and during the handshake.
	RootCAs          *x509.CertPool
	RootCertificates []*x509.Certificate

	// ServerName is the name, or the IP address, that a client expects of servers:
	// that of ConnectHostname or Connect if it is empty.
	ServerName string
	// InsecureSkipVerify has a client take any certificate: for tests.
	InsecureSkipVerify bool

	// ClientAuth is what a server wants of clients' certificates. Those it verifies
	// must lead to ClientCAs or ClientCACertificates, as it is with RootCAs and
	// RootCertificates; at most one of the two, and neither means the system's roots.
	ClientAuth           tls.ClientAuthType
	ClientCAs            *x509.CertPool
	ClientCACertificates []*x509.Certificate

	// MinVersion and MaxVersion bound the version: 0 is TLS 1.2 for the least, and
	// the highest that OpenSSL has for the most.
	MinVersion, MaxVersion uint16
	// CipherList and CipherSuites choose the ciphers, for TLS 1.2 and below and for
	// TLS 1.3, in the form of openssl-ciphers(1). Empty is OpenSSL's default.
	CipherList, CipherSuites string

	// NextProtos are the protocols of ALPN. A server picks the first of its own that
	// the client has, and refuses a client that has others only.
	NextProtos []string

	// SessionTicketsDisabled has a server resume no sessions, and a client ask for none.
	SessionTicketsDisabled bool
	// SessionTickets is how many tickets a server gives in TLS 1.3: 0 is OpenSSL's
	// default, 2.
	SessionTickets int
	// SessionCache is of how many servers a client keeps the last session, to resume
	// it: 0 is none. Servers are told apart by name.
	SessionCache int

	// Renegotiation allows a new handshake on an open connection of TLS 1.2 or below,
	// to either side.
	Renegotiation bool

	// KeyLogWriter gets the secrets of connections, in the format of SSLKEYLOGFILE,
	// for debugging. It is written to on a goroutine of its own, and its errors are
	// ignored.
	KeyLogWriter io.Writer
}
