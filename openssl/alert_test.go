// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// interrupted is the socket of a peer of crypto/tls that sends other bytes before one of its records.
type interrupted struct {
	net.Conn
	before int
	with   []byte
}

func (i *interrupted) Write(p []byte) (int, error) {
	var out []byte
	for rest := p; len(rest) > 0; i.before-- {
		if i.before == 0 {
			out = append(out, i.with...)
		}
		n := 5 + int(rest[3])<<8 + int(rest[4])
		out, rest = append(out, rest[:n]...), rest[n:]
	}
	_, err := i.Conn.Write(out)
	return len(p), err
}

// A peer sends alerts in the middle of its handshake, which then goes on. The connection is not
// reported, and its end is reported once.
func TestAlertsInAHandshake(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	alert := func(level, code byte) []byte { return []byte{21, 3, 3, 0, 2, level, code} }
	versions(t, func(t *testing.T, version uint16) {
		accepting := server(t, &openssl.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version})
		connecting := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", MaxVersion: version})
		for name, with := range map[string][]byte{
			"handshake_failure":         alert(2, 40),
			"unknown":                   alert(2, 255),
			"a level that no alert has": alert(3, 40),
			"many warnings":             bytes.Repeat(alert(1, 112), 6),
			"half an alert":             {21, 3, 3, 0, 1, 2},
			"no alert":                  {21, 3, 3, 0, 0},
			"two in a record":           {21, 3, 3, 0, 4, 1, 112, 1, 112},
		} {
			for before := range 2 {
				for _, filter := range []bool{false, true} {
					for _, ctx := range []*openssl.Context{accepting, connecting} {
						t.Run(fmt.Sprint(name, " before ", before, " filter ", filter, " server ", ctx == accepting), func(t *testing.T) {
							fd, socket := testutil.TCPPair(t)
							conn := newConn(t, ctx, newLoop(t), fd, filter)
							_, events := watch(t, conn)
							peer := tls.Server(&interrupted{socket, before, with}, &tls.Config{Certificates: []tls.Certificate{cert}})
							if ctx == accepting {
								peer = tls.Client(&interrupted{socket, before, with}, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
							}
							failed := handshakeOf(peer)
							what := testutil.Receive(t, events)
							assert.NotZero(t, what.what&libevent.EventError)
							assert.Zero(t, what.what&libevent.EventConnected)
							// A server expects a ClientHello first, and a client of TLS 1.3
							// expects encrypted records after the ServerHello.
							var alert tls.AlertError
							if with[len(with)-2] == 2 && (before == 1) == (ctx == accepting) && assert.ErrorAs(t, what.err, &alert) {
								assert.Equal(t, tls.AlertError(with[len(with)-1]), alert)
							}
							assert.Zero(t, conn.ConnectionState())
							for range 2 {
								testutil.OnLoop(t, conn.Base(), func() {})
							}
							assert.Empty(t, events)
							conn.Free()
							require.NoError(t, socket.Close())
							testutil.Receive(t, failed) // in TLS 1.3 a client is done before the refusal
						})
					}
				}
			}
		}
	})
}
