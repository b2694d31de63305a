// Package openssl makes TLS bufferevents: libevent's bufferevent_openssl, on the system's
// OpenSSL. Only programs that import it link OpenSSL.
//
//	Config ── NewServerContext ──► Context ── NewSocket, NewFilter ──► Conn
//	       ── NewClientContext ──►    │                                  │
//	                          certificates, trust,              a *libevent.BufferEvent,
//	                          versions, sessions                and what TLS knows of it
//
// A Conn is a [libevent.BufferEvent]: what is written to it is encrypted, what is read was
// decrypted, and its event closure gets EventConnected when the handshake is done.
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
// A client checks the certificate of its server, and that it is for the name it connects
// to, before EventConnected. A failure is EventError, with a cause that errors.As finds as
// a [*tls.CertificateVerificationError] and as the error of crypto/x509 for the reason:
// [x509.HostnameError], [x509.UnknownAuthorityError], [x509.CertificateInvalidError]. The
// peer gets the alert for it. TLS 1.2 is the least that is spoken, unless Config says so.
//
// # The end
//
// EventEOF with io.EOF means that the peer has said so in TLS, with close_notify. A
// connection that just ends is EventError with io.ErrUnexpectedEOF, whoever cut it, and one
// that is reset is EventError with ECONNRESET. CloseWrite sends close_notify when the output
// is written, and reading goes on; FreeAfterFlush does the same and then frees, without
// blocking the loop. Free sends nothing: to the peer that is a cut.
package openssl
