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

// hasty is the socket of a client that fails before it has heard the end of the handshake. What it writes
// after its first message is held.
type hasty struct {
	net.Conn
	said bool
	held []byte
}

func (h *hasty) Write(p []byte) (int, error) {
	if !h.said {
		h.said = true
		return h.Conn.Write(p)
	}
	h.held = append(h.held, p...)
	return len(p), nil
}

func (h *hasty) Read(p []byte) (int, error) {
	if len(h.held) == 0 {
		return h.Conn.Read(p)
	}
	return copy(p, []byte{23, 3, 3, 0, 1, 0}), nil
}

// connIn makes a connection that the fast path carries, or libevent, or that is a filter.
func connIn(t testing.TB, ctx *openssl.Context, base *libevent.Base, fd int, mode string) *openssl.Conn {
	t.Helper()
	if mode != "plain" {
		return newConn(t, ctx, base, fd, mode == "filter")
	}
	conn, err := ctx.NewSocket(base, fd, libevent.OptCloseOnFree|libevent.OptPlainIO)
	require.NoError(t, err)
	return conn
}

// A fatal alert is not the end of the peer's data, also if it comes together with the end of the handshake,
// and the program writes when it hears of the connection.
func TestFatalAlertIsNoEnd(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version})
		base := newLoop(t)
		for _, mode := range []string{"fast", "plain", "filter"} {
			t.Run(mode, func(t *testing.T) {
				fd, socket := testutil.TCPPair(t)
				conn := connIn(t, ctx, base, fd, mode)
				events := make(chan told, 10)
				require.NoError(t, conn.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
					events <- told{what, b.Err()}
					if what == libevent.EventConnected {
						_, err := b.WriteString("hello")
						assert.NoError(t, err)
					}
				}))
				require.NoError(t, conn.Enable(rd))
				h := &hasty{Conn: socket}
				peer := tls.Client(h, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
				if peer.Handshake() == nil { // in TLS 1.3 the client's own message is the last one
					_, err := peer.Write([]byte("half of the dat"))
					require.NoError(t, err)
					_, err = peer.Read(make([]byte, 1))
					require.Error(t, err)
				}
				_, err := socket.Write(h.held)
				require.NoError(t, err)
				require.Equal(t, connected, testutil.Receive(t, events))
				what := testutil.Receive(t, events)
				assert.NotZero(t, what.what&libevent.EventError)
				assert.Zero(t, what.what&libevent.EventEOF)
				assert.ErrorAs(t, what.err, new(tls.AlertError))
				conn.Free()
				assert.Empty(t, events)
			})
		}
	})
}
