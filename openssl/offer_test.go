// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"io"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// counted16 puts the length of parts before them.
func counted16(parts ...[]byte) []byte {
	all := slices.Concat(parts...)
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(all))), all...)
}

// offering makes the first message of a client of TLS 1.3 that offers so many key shares and tickets. The server
// has only the group of the last share, X25519, and can use none of the tickets.
func offering(t *testing.T, shared, tickets int) []byte {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	var groups, shares []byte
	for i := range shared - 1 {
		group := []byte{0x40 + byte(i>>8), byte(i)} // unknown
		groups = append(groups, group...)
		shares = slices.Concat(shares, group, counted16([]byte{1}))
	}
	groups = append(groups, 0, byte(tls.X25519))
	shares = slices.Concat(shares, []byte{0, byte(tls.X25519)}, counted16(key.PublicKey().Bytes()))
	identities := bytes.Repeat(slices.Concat(counted16(make([]byte, 33)), make([]byte, 4)), tickets)
	var offered []byte // it has to be the last extension
	if tickets > 0 {
		binder := append([]byte{32}, make([]byte, 32)...)
		offered = slices.Concat([]byte{0, 45}, counted16([]byte{1, 1}), []byte{0, 41}, counted16(counted16(identities), counted16(binder)))
	}
	extensions := counted16(
		[]byte{0, 10}, counted16(counted16(groups)),
		[]byte{0, 13}, counted16(counted16([]byte{4, 3})), // ECDSAWithP256AndSHA256
		[]byte{0, 43}, counted16([]byte{2, 3, 4}), // TLS 1.3
		[]byte{0, 51}, counted16(counted16(shares)), offered,
	)
	body := slices.Concat([]byte{3, 3}, make([]byte, 32), []byte{0}, counted16([]byte{0x13, 1}), []byte{1, 0}, extensions)
	return handshakeRecord(append([]byte{1, 0, byte(len(body) >> 8), byte(len(body))}, body...))
}

// A client cannot have OpenSSL look for thousands of key shares in a list of thousands of groups, nor decrypt
// hundreds of tickets.
func TestTooManyOffers(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	base := newLoop(t)
	for offers, answer := range map[struct{ shared, tickets int }]byte{
		{1, 0}: 22, {16, 0}: 22, {17, 0}: 21, {1000, 0}: 21, {1, 1}: 22, {1, 16}: 22, {1, 17}: 21, {1, 400}: 21,
	} {
		for _, filter := range []bool{false, true} {
			fd, socket := testutil.TCPPair(t)
			conn := newConn(t, ctx, base, fd, filter)
			_, events := watch(t, conn)
			_, err := socket.Write(offering(t, offers.shared, offers.tickets))
			require.NoError(t, err)
			got := make([]byte, 7)
			_, err = io.ReadFull(socket, got)
			require.NoError(t, err)
			assert.Equal(t, answer, got[0], "%+v", offers)
			if answer == 21 {
				assert.Equal(t, []byte{2, 47}, got[5:], "fatal: illegal_parameter")
				what := testutil.Receive(t, events)
				assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
				assert.ErrorContains(t, what.err, "more than 16 key shares or tickets")
			}
			conn.Free()
		}
	}
}
