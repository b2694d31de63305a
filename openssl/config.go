// SPDX-License-Identifier: BSD-3-Clause

package openssl

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"time"
)

// Config says what a Context is like. Its words are those of crypto/tls. A constructor copies
// what it needs, so a Config may be changed and used again. Pools of certificates are not copied, as in
// crypto/tls: what is added to a pool counts for the contexts that have it.
type Config struct {
	// Certificates are shown to the peer. A server needs at least one. For each type of
	// key it shows the client the first one that has the name that the client asks for, or,
	// if no certificate has that name, the first of all. If the client can use several types of
	// key, OpenSSL chooses among them, and their order here does not matter. A client has at most
	// one certificate, which it shows to servers that accept one of its issuers. OpenSSL needs the bytes of the private
	// keys, so keys in hardware are not supported.
	Certificates []tls.Certificate

	// GetCertificate returns the certificate that a server shows a client. It is called if
	// the client names a server, or if Certificates is empty. If it returns nil, the server
	// shows one of Certificates. OpenSSL's form of a certificate is kept for the next call
	// that returns the same pointer, so do not change what it points to. GetConfigForClient
	// returns another context of a server for a client, or nil to go on with this one; its
	// GetCertificate is then called, too. GetClientCertificate returns the certificate that
	// a client shows a server that wants one: one without Certificate stands for none, and
	// nil is an error. All three may block, as VerifyConnection may.
	GetCertificate       func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	GetConfigForClient   func(*tls.ClientHelloInfo) (*Context, error)
	GetClientCertificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)

	// RootCAs or RootCertificates are the roots that a client trusts. RootCertificates is the
	// same as a pool with these certificates; set at most one of the two. If both are nil, the
	// client trusts the roots of the system, as crypto/x509 finds them.
	RootCAs          *x509.CertPool
	RootCertificates []*x509.Certificate

	// ServerName is the name, or the IP address, that a client expects of the server. If it
	// is empty, the client expects the name that ConnectHostname or Connect is called with.
	ServerName string
	// InsecureSkipVerify lets a client accept any certificate. It is for tests.
	InsecureSkipVerify bool

	// ClientAuth is what a server demands of the client's certificate. If the server verifies
	// it, its root must be in ClientCAs or ClientCACertificates, which work as RootCAs and
	// RootCertificates do: set at most one, and neither means the roots of the system. Their
	// names are sent to the client, and have at most 65,024 bytes in all.
	ClientAuth           tls.ClientAuthType
	ClientCAs            *x509.CertPool
	ClientCACertificates []*x509.Certificate

	// CRLs are lists of revoked certificates. A list is used for the certificates of the
	// authority that has signed it, also for those of intermediates. A list whose NextUpdate
	// has passed refuses all certificates of its authority. Authorities without a list are not
	// checked. A list whose signature crypto/x509 cannot check is an error, and so is an indirect list, a
	// delta list, and one with an unknown critical extension. So are CRLs where no certificates are verified:
	// with InsecureSkipVerify, or a ClientAuth below VerifyClientCertIfGiven.
	CRLs []*x509.RevocationList

	// VerifyPeerCertificate is called in a full handshake, after the certificates of the peer have
	// been verified, or without certificates if a client that was asked for some has shown none.
	// VerifyConnection is called in every handshake, also in one that resumes a session. If one of them returns an error, the
	// handshake fails with it. They may block: they run on goroutines of their own, and the
	// handshake waits for them, but the loop does not. On a filter, in a renegotiation, and on
	// a client with OpenSSL 1.1.1, they run on the loop's goroutine, and must not use the
	// connection, nor end their goroutine: then the loop would end.
	VerifyPeerCertificate func(rawCerts [][]byte, verifiedChains [][]*x509.Certificate) error
	VerifyConnection      func(ConnectionState) error

	// Time returns the time at which certificates must be valid. If it is nil, that is
	// time.Now. It may be called with locks of the connection and the context held, so it must not use
	// these, nor end its goroutine: then Free would wait for ever.
	Time func() time.Time

	// MinVersion and MaxVersion bound the version of TLS. For MinVersion 0 means TLS 1.2, or
	// what openssl.cnf demands if that is higher. For MaxVersion 0 means what openssl.cnf
	// allows, or the highest version that OpenSSL has. TLS 1.0 and 1.1 also need ciphers, which only
	// CipherList can name, and OpenSSL 3 lets them pass at its security level 0: "HIGH:@SECLEVEL=0" for example.
	MinVersion, MaxVersion uint16
	// CipherSuites are the ids of cipher suites, most wanted first. The ids of TLS 1.3 choose
	// among the suites of TLS 1.3, and the others among those of TLS 1.2 and below. If no id
	// of a kind is there, the context has the ciphers of openssl.cnf, or else OpenSSL's
	// default; for TLS 1.2 only those of them with forward secrecy and authenticated
	// encryption. A suite that OpenSSL does not have is an error, such as those with RC4 in most
	// builds of OpenSSL.
	CipherSuites []uint16
	// CipherList chooses the ciphers of TLS 1.2 and below in the format of
	// openssl-ciphers(1), which can also set OpenSSL's security level. Set at most one of
	// CipherList and CipherSuites. Ciphers without a certificate or without encryption are
	// left out of every list. With DHE, parameters of 6144 bits and more are refused.
	CipherList string
	// CurvePreferences are the groups for the key exchange, most wanted first. With TLS 1.3 a server takes
	// a group for which the client has sent a share, if it has that group, also if another one is wanted more. Empty means
	// OpenSSL's default, without the groups of finite fields (ffdhe). Those that OpenSSL does not have are left out, if one remains:
	// those with ML-KEM, such as [tls.X25519MLKEM768], need OpenSSL 3.5.
	CurvePreferences []tls.CurveID

	// NextProtos are the protocols of ALPN. A server picks the first of its own that the
	// client has, and refuses a client that offers only other protocols.
	NextProtos []string

	// SessionTicketsDisabled forbids a server to resume sessions, and a client to ask for it.
	SessionTicketsDisabled bool
	// SessionTickets is how many tickets a server sends in TLS 1.3. 0 means OpenSSL's
	// default, which is 2. At most 16 are possible: a client of this package or of crypto/tls
	// ends the connection if more come before the first data. A client whose certificates have more than
	// 512 parts in their names and extensions gets at most two, because each contains its certificate.
	SessionTickets int
	// SessionCache is the number of servers, told apart by name, whose last session a client
	// keeps in order to resume it. 0 means none. A session with which a handshake fails is forgotten.
	SessionCache int

	// HandshakeTimeout is how long a handshake may take as a whole, with verification and the
	// functions of the Config. When it has passed, the event closure gets EventTimeout, and if the
	// program then enables the connection again, EventError. It does not end what the loop itself
	// waits for. For a filter it includes the time until the bufferevent below is connected, up to
	// the first attempt to connect that fails. 0 means 10 seconds, and a negative value means no
	// limit. Like every timeout of libevent it counts from the start of the loop's turn in which the
	// handshake starts, unless the base has NoCacheTime.
	HandshakeTimeout time.Duration

	// Renegotiation allows either side a new handshake on an open connection of TLS 1.2 or
	// below. It is for peers that are trusted: a peer may start as many handshakes as it likes, and
	// each costs as much as the first one. HandshakeTimeout does not limit it, but SetTimeouts does.
	// The context of GetConfigForClient may forbid it, but cannot allow it.
	Renegotiation bool

	// KeyLogWriter gets the secrets of the connections in the format of SSLKEYLOGFILE, for
	// debugging. It is written to on a goroutine of its own, and its errors are ignored. A panic in it
	// comes out of the loop of the connection, as one in a closure does.
	KeyLogWriter io.Writer
}
