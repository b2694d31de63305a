// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
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

// offers is how much of each the first message of a client of TLS 1.3 has.
type offers struct{ shares, tickets, ciphers, authorities, responders, name int }

// message makes that message. The server has only the group of the last share, X25519, and the last cipher suite, and
// can use none of the tickets. The names are empty, but for one of so many bytes, which is no name.
func (o offers) message(t *testing.T) []byte {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	var groups, shares []byte
	for i := range o.shares - 1 {
		group := []byte{0x40 + byte(i>>8), byte(i)} // unknown
		groups = append(groups, group...)
		shares = slices.Concat(shares, group, counted16([]byte{1}))
	}
	groups = append(groups, 0, byte(tls.X25519))
	shares = slices.Concat(shares, []byte{0, byte(tls.X25519)}, counted16(key.PublicKey().Bytes()))
	identities := bytes.Repeat(slices.Concat(counted16(make([]byte, 33)), make([]byte, 4)), o.tickets)
	var offered []byte // it has to be the last extension
	if o.tickets > 0 {
		binder := append([]byte{32}, make([]byte, 32)...)
		offered = slices.Concat([]byte{0, 45}, counted16([]byte{1, 1}), []byte{0, 41}, counted16(counted16(identities), counted16(binder)))
	}
	empty := counted16([]byte{0x30, 0})
	var names []byte
	if o.authorities > 0 {
		names = slices.Concat([]byte{0, 47}, counted16(counted16(bytes.Repeat(empty, o.authorities))))
	}
	if o.name > 0 {
		names = slices.Concat([]byte{0, 47}, counted16(counted16(counted16(make([]byte, o.name)))))
	}
	if o.responders > 0 {
		ids := bytes.Repeat(counted16([]byte{0xa1, 2, 0x30, 0}), o.responders)
		names = slices.Concat(names, []byte{0, 5}, counted16([]byte{1}, counted16(ids), []byte{0, 0}))
	}
	extensions := counted16(
		[]byte{0, 10}, counted16(counted16(groups)),
		[]byte{0, 13}, counted16(counted16([]byte{4, 3})), // ECDSAWithP256AndSHA256
		[]byte{0, 43}, counted16([]byte{2, 3, 4}), // TLS 1.3
		[]byte{0, 51}, counted16(counted16(shares)), names, offered,
	)
	ciphers := append(bytes.Repeat([]byte{0x7a, 0x7a}, max(o.ciphers-1, 0)), 0x13, 1)
	body := slices.Concat([]byte{3, 3}, make([]byte, 32), []byte{0}, counted16(ciphers), []byte{1, 0}, extensions)
	all := append([]byte{1, 0, byte(len(body) >> 8), byte(len(body))}, body...)
	if len(all) > 10000 {
		return append(handshakeRecord(all[:10000]), handshakeRecord(all[10000:])...)
	}
	return handshakeRecord(all)
}

// A client cannot have OpenSSL look for thousands of key shares in a list of thousands of groups, nor decrypt
// hundreds of tickets, nor keep thousands of names.
func TestTooManyOffers(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	base := newLoop(t)
	for o, answer := range map[offers]byte{
		{shares: 1}: 22, {shares: 16}: 22, {shares: 17}: 21, {shares: 1000}: 21,
		{shares: 1, tickets: 1}: 22, {shares: 1, tickets: 16}: 22, {shares: 1, tickets: 17}: 21, {shares: 1, tickets: 400}: 21,
		{shares: 1, ciphers: 1000}: 22, {shares: 1, ciphers: 1001}: 21,
		{shares: 1, authorities: 256}: 22, {shares: 1, authorities: 257}: 21, {shares: 1, name: 16385}: 21,
		{shares: 1, responders: 16}: 22, {shares: 1, responders: 17}: 21,
	} {
		for _, filter := range []bool{false, true} {
			fd, socket := testutil.TCPPair(t)
			conn := newConn(t, ctx, base, fd, filter)
			_, events := watch(t, conn)
			_, err := socket.Write(o.message(t))
			require.NoError(t, err)
			got := make([]byte, 7)
			_, err = io.ReadFull(socket, got)
			require.NoError(t, err)
			assert.Equal(t, answer, got[0], "%+v", o)
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

// Nor can a server that is not verified yet have a client keep thousands of names.
func TestTooManyAuthorities(t *testing.T) {
	ca := newAuthority(t)
	key := newKey(t)
	pool := x509.NewCertPool()
	named := func(n int, name string, parts ...pkix.AttributeTypeAndValue) {
		for i := range n {
			cert := template(fmt.Sprint(name, i))
			cert.Subject.ExtraNames = parts
			der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
			require.NoError(t, err)
			parsed, err := x509.ParseCertificate(der)
			require.NoError(t, err)
			pool.AddCert(parsed)
		}
	}
	base, ctx := newLoop(t), client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	connects := func(t *testing.T, version uint16) told {
		fd, socket := testutil.TCPPair(t)
		conn := newSocket(t, ctx, base, fd)
		_, events := watch(t, conn)
		failed := handshakeOf(tls.Server(socket, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")},
			ClientAuth: tls.RequestClientCert, ClientCAs: pool, MaxVersion: version}))
		what := testutil.Receive(t, events)
		conn.Free()
		assert.NoError(t, socket.Close())
		<-failed
		return what
	}
	named(1000, "a")
	versions(t, func(t *testing.T, version uint16) { assert.Equal(t, connected, connects(t, version)) })
	named(1, "one more")
	refused := func(t *testing.T, version uint16) {
		assert.ErrorContains(t, connects(t, version).err, "the server names more than 1000 authorities")
	}
	versions(t, refused)
	pool = x509.NewCertPool()
	named(1, strings.Repeat("long", 1024))
	versions(t, refused)
	pool = x509.NewCertPool()
	part := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{1, 2, 3}, Value: "x"}
	named(10, "parts", slices.Repeat([]pkix.AttributeTypeAndValue{part}, 190)...)
	versions(t, func(t *testing.T, version uint16) { assert.Equal(t, connected, connects(t, version)) })
	named(1, "more parts", slices.Repeat([]pkix.AttributeTypeAndValue{part}, 190)...)
	versions(t, refused)
}
