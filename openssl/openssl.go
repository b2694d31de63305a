// SPDX-License-Identifier: BSD-3-Clause

// Package openssl makes TLS bufferevents: libevent's bufferevent_openssl, with the OpenSSL of
// the system. Only programs that import this package link OpenSSL.
//
//	Config ── NewServerContext ──► Context ── NewSocket, NewFilter ──► Conn
//	       ── NewClientContext ──►    │                                  │
//	                          certificates, trust,              a *libevent.BufferEvent
//	                          versions, sessions                with its ConnectionState
//
// A Conn is a [libevent.BufferEvent]. It encrypts what is written to it, and what is read from
// it is decrypted. Its event closure gets EventConnected when the handshake is done. What was written
// cannot be taken back: OpenSSL has perhaps made a record of it, so Output().Drain and all else that
// changes the front of the output is [libevent.ErrFrozen].
//
//	ctx, err := openssl.NewServerContext(&openssl.Config{Certificates: []tls.Certificate{cert}})
//	...
//	base.Listen("tcp", ":443", libevent.ListenOptions{}, func(_ *libevent.Listener, fd int, _ net.Addr) {
//		conn, err := ctx.NewSocket(base, fd, libevent.OptCloseOnFree)
//		...
//		conn.SetCallbacks(read, nil, event)
//		conn.Enable(libevent.EvRead)
//	})
//
// # What is checked
//
// Before EventConnected a client verifies the certificate of the server, and that it is for
// the name that the client connects to. A failure is EventError. In its cause errors.As finds
// a [*tls.CertificateVerificationError] and the error of crypto/x509 for the reason:
// [x509.HostnameError], [x509.UnknownAuthorityError], [x509.CertificateInvalidError]. The server
// gets the matching alert, and a client that a server refuses gets handshake_failure. If the client
// sends its signature in the same record as its certificate, it gets internal_error or no alert. In
// TLS 1.3 OpenSSL does not encrypt the alert of a client, which a server that uses crypto/tls takes
// for a bad record.
// TLS 1.2 is the lowest version, unless Config says otherwise.
//
// A certificate that crypto/x509 does not parse is refused everywhere, also where certificates are
// not verified, and so are RSA keys above 8192 bits, names of more than 4096 bytes, more than 10
// certificates, more than 4096 parts in all of their names and extensions, and more than 100 KB. The
// peer's own key is RSA with 1024 bits or more, ECDSA, or Ed25519.
// A server also refuses a client that offers more than 16 key shares or tickets, 1000 cipher suites, or the
// names of 256 authorities, in 16 KiB, and a client a server that names more than 1000 authorities, or whose
// names have more than 8192 parts.
// When the handshake is done, everything is checked once more that the Config demands, also if the
// handshake has resumed a session. Only then EventConnected is reported.
//
// Verification and the functions of a Config run on goroutines of their own. The handshake waits
// for them meanwhile, and the loop does not. There are at most GOMAXPROCS verifications and 1000
// calls of functions at a time, and more of them wait. Three kinds of handshakes cannot wait, so
// the loop waits for them: those of filters, of contexts with Renegotiation, and verifications
// by clients with OpenSSL 1.1.1.
//
// # For users of crypto/tls
//
// What is not in this table is the same as in the [tls.Config].
//
//	crypto/tls                     here                      difference
//	Rand                           none                      OpenSSL has its own
//	Time                           the same                  may be called with a lock held; session lifetimes do not use it
//	Certificates                   the same                  keys give their bytes (no crypto.Signer), because OpenSSL signs; a
//	                                                         client has at most one; SupportedSignatureAlgorithms is an error,
//	                                                         and so is an OCSPStaple that is no OCSP response, or what
//	                                                         has more than 65,024 bytes together with the timestamps; of
//	                                                         several types of key that the client can use OpenSSL chooses one
//	NameToCertificate              none                      the names in the certificates are used, as crypto/tls does by default
//	GetCertificate                 the same                  called once for each handshake, before versions are negotiated,
//	                                                         also for one that resumes a session
//	GetConfigForClient             the same                  returns a Context; CurvePreferences, SessionTickets, the keys of
//	                                                         tickets and HandshakeTimeout stay those of the first context
//	GetClientCertificate           the same
//	ClientHelloInfo,               the same                  Context returns nil, because only crypto/tls can set it;
//	CertificateRequestInfo                                   HelloRetryRequest is false, as there is one call; Conn has the
//	                                                         addresses, and its other methods return an error
//	VerifyPeerCertificate          the same                  for a client without a certificate it is called at the end, as
//	                                                         VerifyConnection is, and such a client does not resume sessions
//	VerifyConnection               the same                  gets a ConnectionState of this package; without a certificate in
//	                                                         the handshake it is called at the end, when the peer's handshake
//	                                                         may have ended, and a refusal sends no alert; with ClientAuth
//	                                                         such a client does not resume sessions; with TLS 1.2
//	                                                         OCSPResponse is not there yet
//	RootCAs, ClientCAs             the same                  or RootCertificates, ClientCACertificates: the same as a list
//	ServerName                     the same                  or the name that Connect or ConnectHostname is called with
//	ClientAuth                     the same                  the names of the authorities have at most 65,024 bytes
//	InsecureSkipVerify             the same
//	NextProtos                     the same                  a server of h2 only refuses a client of http/1.1 only
//	CipherSuites                   the same                  also for TLS 1.3, and the order matters; CipherList has OpenSSL's format
//	PreferServerCipherSuites       none                      a server always prefers its own order
//	CurvePreferences               the same                  the order matters, but a server of TLS 1.3 prefers a group of the
//	                                                         client's shares; what OpenSSL does not have is left out; with
//	                                                         TLS 1.2 it must have the curve of an ECDSA certificate
//	MinVersion, MaxVersion         the same                  0 is TLS 1.2, and what openssl.cnf says; TLS 1.1 and below also need
//	                                                         a CipherList
//	SessionTicketsDisabled         the same
//	SessionTicketKey               none                      deprecated; SetSessionTicketKeys is there
//	SetSessionTicketKeys           of Context                servers with different demands on clients do not share sessions
//	ClientSessionCache             SessionCache, a number    the sessions are in C, and have a format of OpenSSL's own, so a cache
//	                                                         of the user's could not do more than keep bytes
//	WrapSession, UnwrapSession,    none                      OpenSSL encrypts tickets itself
//	EncryptTicket, DecryptTicket
//	DynamicRecordSizingDisabled    none                      records are as large as what is written, up to 16 KiB
//	Renegotiation                  a bool                    for both sides, with TLS 1.2; the peer keeps its certificate
//	KeyLogWriter                   the same                  written to on a goroutine of its own
//	EncryptedClientHello...        none                      OpenSSL 3.5 does not have it
//	Config.Clone                   none                      a Config may be copied
//	ConnectionState                the same                  after a resumption a server has only the client's own certificate
//	  .TLSUnique                   none                      ExportKeyingMaterial has tls-exporter, which RFC 9266 puts in its place
//	  .CurveID, .HelloRetryRequest none                      OpenSSL 1.1.1 does not tell them
//	  .NegotiatedProtocolIsMutual  none                      deprecated, and always true
//	ExportKeyingMaterial           of Conn                   also with Renegotiation
//	a client's certificate         the same                  above about 60 KB only without tickets, which have to contain it
//	a server's certificate         the same                  with TLS 1.2 an ECDSA or Ed25519 key needs the use digitalSignature,
//	                                                         and OpenSSL parses all extensions of the certificate; a key of an
//	                                                         unknown kind is refused in every certificate of a chain
//	Conn.Handshake                 SetCallbacks, Enable      start the handshake
//	Conn.HandshakeContext          HandshakeTimeout          EventConnected tells of the end, and Free ends a handshake
//	Conn.SetDeadline               SetTimeouts               package evnet has deadlines
//	Conn.NetConn                   FD, Underlying
//	Conn.OCSPResponse              of ConnectionState
//	Conn.VerifyHostname            none                      PeerCertificates[0].VerifyHostname
//
// Beyond crypto/tls there are CRLs, CipherList, SessionTickets and Named. kTLS is not used: OpenSSL
// hands records to the kernel only with its own BIO for sockets, and the BIO of this package reads
// many records with one system call. A session by ID is not resumed with TLS 1.2, only one with a
// ticket, as with crypto/tls.
//
// # The end
//
// EventEOF with io.EOF means that the peer has ended the connection with close_notify, TLS's
// own message for that. A connection that ends without it is EventError with
// io.ErrUnexpectedEOF, whether the peer or an attacker has cut it. A connection that is reset
// is EventError with ECONNRESET. It is also EventError if there is something to write while the peer
// has sent only a part of a message, such as a KeyUpdate, because OpenSSL writes nothing until the
// rest has come. Each of these errors is the end of both directions. Only after a write that the
// peer does not take any more, which is EventWriting|EventError with EPIPE, does reading go on, until
// the peer's end.
//
// CloseWrite sends close_notify when the output is written, and reading goes on. FreeAfterFlush does
// the same and then frees, without blocking the loop. Free sends nothing, so to the peer the
// connection is cut.
package openssl

/*
#include <openssl/crypto.h>
*/
import "C"

// Version returns the version of the OpenSSL that runs, such as "OpenSSL 3.0.20 7 Apr 2026".
// Wraps OpenSSL_version.
func Version() string { return C.GoString(C.OpenSSL_version(C.OPENSSL_VERSION)) }
