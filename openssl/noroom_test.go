// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// In these tests OpenSSL has something to write of its own, and the bufferevent below a filter is at
// its high mark. Another filter stops the reading meanwhile, and the loop goes on.

// large makes a certificate that does not fit into a small socket.
func large(c *x509.Certificate) {
	c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Value: make([]byte, 60<<10)}}
}

// gate lets nothing be read before it is opened.
type gate struct {
	net.Conn
	open chan struct{}
}

func (g *gate) Read(p []byte) (int, error) {
	<-g.open
	return g.Conn.Read(p)
}

// crowd is a server on a socket that holds little. On it is a filter that may stop the reading.
type crowd struct {
	under, top *libevent.BufferEvent
	conn       *openssl.Conn
	fd         int
	peer       *gate // the other end of the socket
	read       chan string
	events     chan told
}

func newCrowd(t *testing.T, ctx *openssl.Context) *crowd {
	t.Helper()
	a, b := testutil.Socketpair(t)
	require.NoError(t, syscall.SetsockoptInt(a, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 8<<10))
	c := &crowd{fd: a, peer: &gate{fileConn(t, b), make(chan struct{})}, read: make(chan string, 1000), events: make(chan told, 10)}
	var err error
	c.under, err = newLoop(t).NewSocket(a, libevent.OptCloseOnFree)
	require.NoError(t, err)
	c.conn, err = ctx.NewFilter(c.under, libevent.OptCloseOnFree)
	require.NoError(t, err)
	require.NoError(t, c.conn.SetCallbacks(nil, nil, ignore))
	c.top = testutil.NewFilter(t, c.conn.BufferEvent, pass, pass, libevent.OptCloseOnFree)
	require.NoError(t, c.top.SetCallbacks(func(b *libevent.BufferEvent) {
		p := make([]byte, b.Input().Len())
		n, err := b.Read(p)
		assert.NoError(t, err)
		c.read <- string(p[:n])
	}, nil, func(b *libevent.BufferEvent, what libevent.Events) { c.events <- told{what, b.Err()} }))
	require.NoError(t, c.top.Enable(rd))
	return c
}

// limit leaves that much room below.
func (c *crowd) limit(t *testing.T, room int) {
	t.Helper()
	require.NoError(t, c.under.SetWatermark(wr, 0, c.under.Output().Len()+room))
}

// stop has the upper filter stop the reading, and then enables the connection.
func (c *crowd) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, c.top.Disable(rd))
	done := make(chan struct{})
	go func() {
		defer close(done)
		assert.NoError(t, c.conn.Enable(wr))
	}()
	testutil.Receive(t, done)
	testutil.OnLoop(t, c.conn.Base(), func() {})
	require.NoError(t, c.top.Enable(rd))
}

func TestHandshakeWithoutRoomBelow(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		ca := newAuthority(t)
		c := newCrowd(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issueWith(t, newKey(t), large, "example.test")}, MaxVersion: version}))
		c.limit(t, 600)
		peer := tls.Client(c.peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
		shaken := make(chan error, 1)
		go func() { shaken <- peer.Handshake() }()
		takesNoMore(t, c.under)
		require.NoError(t, c.conn.Enable(rd))
		c.stop(t)
		close(c.peer.open)
		require.NoError(t, testutil.Receive(t, shaken))
		require.Equal(t, connected, testutil.Receive(t, c.events))
		_, err := peer.Write([]byte("hello"))
		require.NoError(t, err)
		assert.Equal(t, "hello", take(t, c.read, 5))
		c.top.Free()
	})
}

// newFullCrowd has a connection that is open, and more to write than the socket takes.
func newFullCrowd(t *testing.T) (c *crowd, peer *tls.Conn, keyLog string, much []byte) {
	t.Helper()
	ca := newAuthority(t)
	c = newCrowd(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256}}))
	close(c.peer.open)
	var log bytes.Buffer
	peer = tls.Client(c.peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", KeyLogWriter: &log})
	require.NoError(t, peer.Handshake())
	require.Equal(t, connected, testutil.Receive(t, c.events))
	much = testutil.Noise(1 << 20)
	_, err := c.top.Write(much)
	require.NoError(t, err)
	takesNoMore(t, c.under)
	return c, peer, log.String(), much
}

func TestAnswerToAKeyUpdateWithoutRoomBelow(t *testing.T) {
	c, peer, keyLog, much := newFullCrowd(t)
	r := newRecords(t, keyLog)
	send := func(p []byte) {
		_, err := c.peer.Write(p)
		require.NoError(t, err)
		testutil.Eventually(t, func() bool { return !readable(c.fd) }, "it is read")
		testutil.OnLoop(t, c.conn.Base(), func() {})
	}
	send(r.keyUpdate(true))
	c.limit(t, 5)
	_, err := c.top.WriteString("last") // first OpenSSL answers
	require.NoError(t, err)
	send(r.keyUpdate(true))
	c.stop(t)
	send(r.data("hello"))
	assert.Equal(t, "hello", take(t, c.read, 5))
	takesAll(t, peer, append(much, "last"...))
	assert.Empty(t, c.events)
	c.top.Free()
}

func TestAlertWithoutRoomBelow(t *testing.T) {
	c, peer, _, much := newFullCrowd(t)
	c.limit(t, 0)
	_, err := c.peer.Write(append([]byte{23, 3, 3, 0, 32}, make([]byte, 32)...))
	require.NoError(t, err)
	assert.ErrorContains(t, testutil.Receive(t, c.events).err, "bad record mac")
	require.NoError(t, c.conn.Enable(rd|wr))
	c.stop(t)
	takesAll(t, peer, much)
	_, err = peer.Read(make([]byte, 1))
	assert.ErrorContains(t, err, "bad record MAC")
	c.top.Free()
}

func TestRenegotiationWithoutRoomBelow(t *testing.T) {
	h := newHalfway(t, true, large)
	c := &crowd{conn: h.conn, top: testutil.NewFilter(t, h.conn.BufferEvent, pass, pass, 0)}
	c.stop(t)
	h.release()
	require.Equal(t, connected, testutil.Receive(t, h.shaken))
	_, err := c.top.WriteString("after")
	require.NoError(t, err)
	assert.Equal(t, "after", take(t, h.read, 5))
	c.top.Free()
	h.conn.Free()
	h.peer.Free()
}

// The bytes wait for the end of the handshake, and meanwhile libevent writes them again and again. If
// they were gone, libevent would do so for ever in one call.
func TestDrainInAHandshake(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		ca := newAuthority(t)
		base := newLoop(t)
		a, b := testutil.Socketpair(t)
		conn := newConn(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version}), base, a, true)
		_, events := watch(t, conn)
		_, err := conn.WriteString("hello")
		require.NoError(t, err)
		require.NoError(t, conn.Enable(wr))
		assert.ErrorIs(t, conn.Output().Drain(5), libevent.ErrFrozen)
		peer := tls.Client(fileConn(t, b), &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
		require.NoError(t, peer.Handshake())
		require.Equal(t, connected, testutil.Receive(t, events))
		takesAll(t, peer, []byte("hello"))
		assert.ErrorIs(t, conn.Output().Prepend([]byte("x")), libevent.ErrFrozen)
		conn.Free()
	})
}

// sip reads little at a time, and lets the loop write in between.
type sip struct {
	net.Conn
	t    *testing.T
	base *libevent.Base
}

func (s *sip) Read(p []byte) (int, error) {
	testutil.OnLoop(s.t, s.base, func() {})
	return s.Conn.Read(p[:min(len(p), 100)])
}

// A refused renegotiation is answered with a warning. If the socket has no room for it, the warning waits: a record
// that is left out would be the end of the connection for the peer. OpenSSL may also put the warning off until its next
// write of data.
func TestRefusalWithoutRoom(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	message := strings.Repeat("x", 100)
	fill := func(most int, more ...string) (fits int) {
		var keyLog bytes.Buffer
		a, b := testutil.Socketpair(t)
		require.NoError(t, syscall.SetsockoptInt(a, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 8<<10))
		base := newLoop(t)
		conn := newSocket(t, ctx, base, a)
		read, events := watch(t, conn)
		h := &hellos{Conn: fileConn(t, b)}
		peer := tls.Client(h, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", KeyLogWriter: &keyLog, MaxVersion: tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}})
		require.NoError(t, peer.Handshake())
		require.Equal(t, connected, testutil.Receive(t, events))
		write := func(message string) {
			_, err := conn.WriteString(message)
			require.NoError(t, err)
			testutil.OnLoop(t, base, func() {})
		}
		for ; fits < most; fits++ {
			write(message)
			if conn.Output().Len() > 0 {
				conn.Free()
				return fits
			}
		}
		for _, m := range more {
			write(m)
		}
		r := newRecords12(t, keyLog.String(), h)
		_, err := h.Write(append(r.record(22, []byte{1, 0, 0, 0}), r.record(23, []byte("hi"))...))
		require.NoError(t, err)
		assert.Equal(t, "hi", testutil.Receive(t, read))
		write("the end")
		want := strings.Repeat(message, fits) + strings.Join(more, "") + "the end"
		got := make([]byte, len(want))
		h.Conn = &sip{h.Conn, t, base}
		_, err = io.ReadFull(peer, got)
		assert.NoError(t, err)
		assert.Equal(t, want, string(got))
		assert.Empty(t, events)
		conn.Free()
		return fits
	}
	fits := fill(1000)
	fill(fits)
	fill(fits, strings.Repeat("y", 14000), strings.Repeat("z", 1000))
}
