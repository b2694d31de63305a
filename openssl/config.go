package openssl

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"time"
)

// Config says what a Context is like. Its words are those of crypto/tls. A constructor copies
// what it needs, so a Config may be changed and used again.
type Config struct {
	// Certificates are shown to the peer. A server needs at least one. For each type of
	// key it shows the client the first one that has the name that the client asks for, or,
	// if no certificate has that name, the first of all. A client has at most one. OpenSSL
	// needs the bytes of the private keys, so keys in hardware are not supported.
	Certificates []tls.Certificate

	// RootCAs or RootCertificates are the roots that a client trusts; set at most one of the
	// two. With RootCertificates OpenSSL verifies the server, and trusts each of them even
	// if it is signed by another certificate. Otherwise Go verifies the server during the
	// handshake, with crypto/x509; if both are nil, with the roots of the system.
	RootCAs          *x509.CertPool
	RootCertificates []*x509.Certificate

	// ServerName is the name, or the IP address, that a client expects of the server. If it
	// is empty, the client expects the name that ConnectHostname or Connect is called with.
	ServerName string
	// InsecureSkipVerify lets a client accept any certificate. It is for tests.
	InsecureSkipVerify bool

	// ClientAuth is what a server demands of the client's certificate. If the server verifies
	// it, its root must be in ClientCAs or ClientCACertificates, which work as RootCAs and
	// RootCertificates do: set at most one, and neither means the roots of the system.
	ClientAuth           tls.ClientAuthType
	ClientCAs            *x509.CertPool
	ClientCACertificates []*x509.Certificate

	// MinVersion and MaxVersion bound the version of TLS. For MinVersion 0 means TLS 1.2, for
	// MaxVersion the highest version that OpenSSL has.
	MinVersion, MaxVersion uint16
	// CipherList and CipherSuites choose the ciphers for TLS 1.2 and below and for TLS 1.3, in
	// the format of openssl-ciphers(1). Empty means OpenSSL's default.
	CipherList, CipherSuites string

	// NextProtos are the protocols of ALPN. A server picks the first of its own that the
	// client has, and refuses a client that offers only other protocols.
	NextProtos []string

	// SessionTicketsDisabled forbids a server to resume sessions, and a client to ask for it.
	SessionTicketsDisabled bool
	// SessionTickets is how many tickets a server sends in TLS 1.3. 0 means OpenSSL's
	// default, which is 2.
	SessionTickets int
	// SessionCache is the number of servers, told apart by name, whose last session a client
	// keeps in order to resume it. 0 means none.
	SessionCache int

	// HandshakeTimeout is how long a handshake may take as a whole. When it has passed, the event
	// closure gets EventTimeout. For a filter it includes the time until the bufferevent below is
	// connected. 0 means 10 seconds, and a negative value means no limit.
	HandshakeTimeout time.Duration

	// Renegotiation allows either side a new handshake on an open connection of TLS 1.2 or
	// below.
	Renegotiation bool

	// KeyLogWriter gets the secrets of the connections in the format of SSLKEYLOGFILE, for
	// debugging. It is written to on a goroutine of its own, and its errors are ignored.
	KeyLogWriter io.Writer
}
