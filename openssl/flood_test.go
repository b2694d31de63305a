// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// hellos keeps the random numbers with which a handshake of TLS 1.2 begins.
type hellos struct {
	net.Conn
	client, server []byte
}

const beforeRandom = 5 + 4 + 2 // the head of the record, that of the message, the version

func (h *hellos) Write(p []byte) (int, error) {
	if h.client == nil {
		h.client = bytes.Clone(p[beforeRandom : beforeRandom+32])
	}
	return h.Conn.Write(p)
}

func (h *hellos) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if h.server == nil && n >= beforeRandom+32 {
		h.server = bytes.Clone(p[beforeRandom : beforeRandom+32])
	}
	return n, err
}

// records12 makes the records that a client of TLS 1.2 sends after its Finished message, with
// TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256.
type records12 struct {
	aead   cipher.AEAD
	iv     []byte
	number uint64
}

func newRecords12(t testing.TB, keyLog string, h *hellos) *records12 {
	_, line, found := strings.Cut(keyLog, "CLIENT_RANDOM ")
	require.True(t, found)
	master, err := hex.DecodeString(strings.Fields(line)[1])
	require.NoError(t, err)
	mac := func(parts ...[]byte) []byte {
		m := hmac.New(sha256.New, master)
		for _, p := range parts {
			m.Write(p)
		}
		return m.Sum(nil)
	}
	seed := append(append([]byte("key expansion"), h.server...), h.client...)
	var keys []byte
	for a := mac(seed); len(keys) < 40; a = mac(a) {
		keys = append(keys, mac(a, seed)...)
	}
	block, err := aes.NewCipher(keys[:16])
	require.NoError(t, err)
	aead, err := cipher.NewGCM(block)
	require.NoError(t, err)
	return &records12{aead: aead, iv: keys[32:36], number: 1}
}

func (r *records12) record(kind byte, payload []byte) []byte {
	number := binary.BigEndian.AppendUint64(nil, r.number)
	r.number++
	head := append(bytes.Clone(number), kind, 3, 3, 0, byte(len(payload)))
	sealed := r.aead.Seal(nil, append(bytes.Clone(r.iv), number...), payload, head)
	out := []byte{kind, 3, 3, 0, byte(8 + len(sealed))}
	return append(append(out, number...), sealed...)
}

// modes12 calls test, in all modes, with a client of TLS 1.2 whose handshake is done and that makes its records itself.
func modes12(t *testing.T, test func(t *testing.T, o *offender, r *records12, read <-chan string, events <-chan told)) {
	var keyLog bytes.Buffer
	cfg := &tls.Config{
		KeyLogWriter: &keyLog, MaxVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	}
	modes(t, cfg, func(t *testing.T, o *offender) {
		keyLog.Reset()
		testutil.Background(t, o.base)
		read, events := watch(t, o.conn)
		h := &hellos{Conn: o.socket}
		require.NoError(t, tls.Client(h, o.cfg).Handshake())
		require.Equal(t, connected, testutil.Receive(t, events))
		r := newRecords12(t, keyLog.String(), h)
		test(t, o, r, read, events)
	})
}

// A client that asks for renegotiation again and again is refused each time, and then cut off.
func TestFloodOfClientHellos(t *testing.T) {
	modes12(t, func(t *testing.T, o *offender, r *records12, read <-chan string, events <-chan told) {
		send := func(n int) {
			var all []byte
			for range n {
				all = append(all, r.record(22, []byte{1, 0, 0, 0})...)
			}
			_, err := o.socket.Write(append(all, r.record(23, []byte("x"))...))
			require.NoError(t, err)
		}
		send(10)
		assert.Equal(t, "x", testutil.Receive(t, read))
		send(10)
		assert.Equal(t, "x", testutil.Receive(t, read))
		send(17)
		what := testutil.Receive(t, events)
		assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
		assert.ErrorContains(t, what.err, "too many non-advancing records")
	})
}

// A message costs as much as a record, also if there are many in one record. What comes after them is not
// read.
func TestFloodOfMessagesInARecord(t *testing.T) {
	modes12(t, func(t *testing.T, o *offender, r *records12, read <-chan string, events <-chan told) {
		send := func(n int) {
			_, err := o.socket.Write(append(r.record(22, bytes.Repeat([]byte{1, 0, 0, 0}, n)), r.record(23, []byte("x"))...))
			require.NoError(t, err)
		}
		send(16)
		assert.Equal(t, "x", testutil.Receive(t, read))
		send(16)
		assert.Equal(t, "x", testutil.Receive(t, read))
		send(17)
		what := testutil.Receive(t, events)
		assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
		assert.ErrorContains(t, what.err, "too many non-advancing records")
		assert.Empty(t, read)
		testutil.OnLoop(t, o.base, func() {})
		assert.Empty(t, events)
	})
}

// Tickets are messages, too. A server sends a client many in one record.
func TestFloodOfTickets(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	ticket := []byte{4, 0, 0, 14, 0, 0, 1, 0, 1, 2, 3, 4, 0, 0, 1, 7, 0, 0}
	ctx := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", SessionCache: 1, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256}})
	for _, mode := range []string{"fast", "plain", "filter"} {
		t.Run(mode, func(t *testing.T) {
			var keyLog bytes.Buffer
			fd, socket := testutil.TCPPair(t)
			conn := connIn(t, ctx, newLoop(t), fd, mode)
			read, events := watch(t, conn)
			require.NoError(t, tls.Server(socket, &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true, KeyLogWriter: &keyLog}).Handshake())
			require.Equal(t, connected, testutil.Receive(t, events))
			_, line, _ := strings.Cut(keyLog.String(), "SERVER_TRAFFIC_SECRET_0 ")
			r := recordsOf(t, line)
			for _, n := range []int{16, 17} {
				_, err := socket.Write(append(r.record(22, bytes.Repeat(ticket, n)), r.data("x")...))
				require.NoError(t, err)
				if n == 16 {
					assert.Equal(t, "x", testutil.Receive(t, read))
				}
			}
			what := testutil.Receive(t, events)
			assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
			assert.ErrorContains(t, what.err, "too many non-advancing records")
			conn.Free()
		})
	}
}

// A client skips a server's requests for a renegotiation in a handshake.
func TestFloodOfRequestsInAHandshake(t *testing.T) {
	ctx := client(t, &openssl.Config{InsecureSkipVerify: true})
	for _, mode := range []string{"fast", "plain", "filter"} {
		t.Run(mode, func(t *testing.T) {
			fd, socket := testutil.TCPPair(t)
			conn := connIn(t, ctx, newLoop(t), fd, mode)
			_, events := watch(t, conn)
			_, err := socket.Write(append([]byte{22, 3, 3, 0, 4 * 18}, make([]byte, 4*18)...))
			require.NoError(t, err)
			what := testutil.Receive(t, events)
			assert.NotZero(t, what.what&libevent.EventError)
			assert.ErrorContains(t, what.err, "too many non-advancing records")
			testutil.OnLoop(t, conn.Base(), func() {})
			assert.Empty(t, events)
			conn.Free()
		})
	}
}
