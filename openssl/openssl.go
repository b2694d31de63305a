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
// it is decrypted. Its event closure gets EventConnected when the handshake is done.
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
// [x509.HostnameError], [x509.UnknownAuthorityError], [x509.CertificateInvalidError]. The peer
// gets the matching alert. TLS 1.2 is the lowest version, unless Config says otherwise.
//
// # The end
//
// EventEOF with io.EOF means that the peer has ended the connection with close_notify, TLS's
// own message for that. A connection that ends without it is EventError with
// io.ErrUnexpectedEOF, whether the peer or an attacker has cut it. A connection that is reset
// is EventError with ECONNRESET. CloseWrite sends close_notify when the output is written, and
// reading goes on. FreeAfterFlush does the same and then frees, without blocking the loop. Free
// sends nothing, so to the peer the connection is cut.
package openssl
