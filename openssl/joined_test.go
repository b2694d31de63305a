// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// joining is the socket of a client of crypto/tls. It makes one record of the handshake messages
// that the client writes together, as the libraries of browsers do. crypto/tls makes a record for
// each.
type joining struct {
	net.Conn
	t        *testing.T
	keyLog   *bytes.Buffer
	finished bool // the next records are not those of the handshake
}

func (j *joining) Write(p []byte) (int, error) {
	var out, plain, sealed []byte
	_, secret, encrypts := strings.Cut(j.keyLog.String(), "CLIENT_HANDSHAKE_TRAFFIC_SECRET ")
	var r *records
	if encrypts && !j.finished {
		r = recordsOf(j.t, secret)
	}
	for rest := p; len(rest) > 0; {
		n := 5 + int(rest[3])<<8 + int(rest[4])
		record := rest[:n]
		rest = rest[n:]
		switch {
		case j.finished:
			out = append(out, record...)
		case record[0] == 22:
			plain = append(plain, record[5:]...)
		case record[0] == 23:
			sealed = append(sealed, r.open(record)...)
		case encrypts:
			out = append(out, record...)
		default: // ChangeCipherSpec of TLS 1.2, and the client's last message
			j.finished = true
			out, plain = append(handshakeRecord(plain), record...), nil
		}
	}
	out = append(out, handshakeRecord(plain)...)
	if sealed != nil {
		j.finished, r.number = true, 0
		out = append(out, r.record(22, sealed)...)
	}
	_, err := j.Conn.Write(out)
	return len(p), err
}

func handshakeRecord(messages []byte) []byte {
	if len(messages) == 0 {
		return nil
	}
	return append([]byte{22, 3, 3, byte(len(messages) >> 8), byte(len(messages))}, messages...)
}

// With its certificate a client sends its signature in the same record. So OpenSSL checks the
// signature before the certificate is verified. A client that is refused is refused again when it
// comes back, because it did not get a ticket.
func TestSignatureInTheRecordOfTheCertificate(t *testing.T) {
	ca := newAuthority(t)
	good, bad := ca.issue(t, "client"), newAuthority(t).issue(t, "client")
	versions(t, func(t *testing.T, version uint16) {
		for name, c := range map[string]struct {
			cert     tls.Certificate
			tickets  bool
			accepted bool
		}{
			"good":                {good, true, true},
			"bad":                 {bad, true, false},
			"bad without tickets": {bad, false, false},
		} {
			t.Run(name, func(t *testing.T) {
				ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version,
					CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256}, SessionTicketsDisabled: !c.tickets,
					ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool()})
				cfg := &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", ClientSessionCache: tls.NewLRUClientSessionCache(1),
					GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.cert, nil }}
				for i := range 2 {
					fd, socket := testutil.TCPPair(t)
					conn := newSocket(t, ctx, newLoop(t), fd)
					_, events := watch(t, conn)
					keyLog := new(bytes.Buffer)
					cfg.KeyLogWriter = keyLog
					peer := tls.Client(&joining{Conn: socket, t: t, keyLog: keyLog}, cfg)
					got := bytesOf(peer)
					what := testutil.Receive(t, events)
					if c.accepted {
						require.Equal(t, connected, what)
						assert.Equal(t, i > 0, conn.ConnectionState().DidResume)
						_, err := conn.WriteString("hello") // in TLS 1.3 the ticket comes before it
						require.NoError(t, err)
						require.NoError(t, conn.FreeAfterFlush(testutil.Patience))
						assert.Equal(t, "hello", testutil.Receive(t, got))
						continue
					}
					assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
					assert.True(t, as[x509.UnknownAuthorityError](what.err), "%v", what.err)
					conn.Free()
					assert.Empty(t, testutil.Receive(t, got))
				}
			})
		}
	})
}
