// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// halfway is a server in the middle of a renegotiation that its client has started: the server
// has read the client's first message, and the client, whose loop is held, reads nothing.
type halfway struct {
	conn, peer *openssl.Conn
	fd         int           // of the server
	read       <-chan string // by the client
	events     <-chan told   // of the server
	shaken     <-chan told   // of the client
	release    func()        // the client's loop
}

func newHalfway(t *testing.T, filter bool, change func(*x509.Certificate)) *halfway {
	t.Helper()
	ca := newAuthority(t)
	cert := ca.issueWith(t, newKey(t), change, "example.test")
	a, b := testutil.Socketpair(t)
	h := &halfway{fd: a}
	h.conn = newConn(t, server(t, &openssl.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12, Renegotiation: true}), newLoop(t), a, filter)
	h.peer = newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", Renegotiation: true}), newLoop(t), b)
	_, h.events = watch(t, h.conn)
	h.read, h.shaken = watch(t, h.peer)
	require.Equal(t, connected, testutil.Receive(t, h.events))
	require.Equal(t, connected, testutil.Receive(t, h.shaken))
	if change != nil { // what the server answers does not fit
		require.NoError(t, syscall.SetsockoptInt(a, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 8<<10))
		if filter {
			require.NoError(t, h.conn.Underlying().SetWatermark(wr, 0, 600))
		}
	}
	begun, may := make(chan struct{}), make(chan struct{})
	testutil.OnLoop(t, h.conn.Base(), func() { // a quick answer would be read at once
		assert.NoError(t, h.peer.Base().Post(func() {
			assert.NoError(t, h.peer.Renegotiate())
			close(begun)
			<-may
		}))
		<-begun
	})
	h.release = func() { close(may) }
	arrives(t, b)
	h.turns(t)
	return h
}

// arrives waits until there is something to read in a socket.
func arrives(t *testing.T, fd int) {
	t.Helper()
	testutil.Eventually(t, func() bool { return readable(fd) }, "the peer answers")
}

func readable(fd int) bool {
	n, _, _ := syscall.Recvfrom(fd, make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return n > 0
}

// turns waits for some turns of the server's loop.
func (h *halfway) turns(t *testing.T) {
	t.Helper()
	for range 5 {
		testutil.OnLoop(t, h.conn.Base(), func() {})
	}
}

// exhaust has another member use up what a group may read and write for a long time.
func exhaust(t *testing.T, h *halfway) *libevent.RateLimitGroup {
	t.Helper()
	base := h.conn.Base()
	group, err := base.NewRateLimitGroup(libevent.RateLimit{ReadRate: 1000, WriteRate: 1000, Tick: time.Hour})
	require.NoError(t, err)
	require.NoError(t, group.Add(h.conn.BufferEvent))
	fd, socket := testutil.TCPPair(t)
	other, err := base.NewSocket(fd, libevent.OptCloseOnFree)
	require.NoError(t, err)
	require.NoError(t, group.Add(other))
	read := make(chan int, 100)
	require.NoError(t, other.SetCallbacks(func(b *libevent.BufferEvent) { read <- b.Input().Len() }, nil, nil))
	require.NoError(t, other.Enable(rd))
	require.NoError(t, other.SetMaxSingleRead(0))
	go func(c net.Conn) { _, _ = c.Write(make([]byte, 1000)) }(socket)
	testutil.Receive(t, read)
	_, err = other.Write(make([]byte, 1000))
	require.NoError(t, err)
	testutil.Eventually(t, func() bool { return other.Output().Len() == 0 }, "the other one has written")
	t.Cleanup(func() { other.Free(); group.Free() })
	return group
}

// What the server has to write in the middle of a renegotiation cannot be taken back.
func TestDrainInARenegotiation(t *testing.T) {
	for _, filter := range []bool{false, true} {
		h := newHalfway(t, filter, nil)
		_, err := h.conn.WriteString("before")
		require.NoError(t, err)
		h.turns(t)
		assert.ErrorIs(t, h.conn.Output().Drain(h.conn.Output().Len()), libevent.ErrFrozen)
		h.release()
		require.Equal(t, connected, testutil.Receive(t, h.shaken))
		_, err = h.conn.WriteString("after")
		require.NoError(t, err)
		assert.Equal(t, "beforeafter", take(t, h.read, len("beforeafter")))
		h.conn.Free()
		h.peer.Free()
	}
}

// The server may not write any more when it has something to write in the middle of a renegotiation.
func TestWriteLimitInARenegotiation(t *testing.T) {
	h := newHalfway(t, false, nil)
	_, err := h.conn.WriteString("before")
	require.NoError(t, err)
	h.turns(t)
	group := exhaust(t, h)
	h.turns(t)
	h.release()
	arrives(t, h.fd)
	h.turns(t)
	require.NoError(t, group.Remove(h.conn.BufferEvent))
	assert.Equal(t, "before", take(t, h.read, 6))
	h.conn.Free()
	h.peer.Free()
}

// The server may not read any more when its part of a renegotiation finds no room in the socket.
func TestReadLimitInARenegotiation(t *testing.T) {
	h := newHalfway(t, false, large)
	group := exhaust(t, h)
	h.turns(t)
	h.release()
	arrives(t, h.fd)
	h.turns(t)
	require.NoError(t, group.Remove(h.conn.BufferEvent))
	require.Equal(t, connected, testutil.Receive(t, h.shaken))
	h.conn.Free()
	h.peer.Free()
}

// The server does not read when it has something to write in the middle of a renegotiation.
func TestWriteWithoutReadingInARenegotiation(t *testing.T) {
	for _, flush := range []bool{false, true} {
		h := newHalfway(t, false, nil)
		_, err := h.conn.WriteString("before")
		require.NoError(t, err)
		h.turns(t)
		if flush {
			require.NoError(t, h.conn.FreeAfterFlush(testutil.Patience))
		} else {
			require.NoError(t, h.conn.Disable(rd))
		}
		h.turns(t)
		h.release()
		assert.Equal(t, "before", take(t, h.read, 6))
		if flush {
			require.Equal(t, connected, testutil.Receive(t, h.shaken))
			assert.Equal(t, endOfFile, testutil.Receive(t, h.shaken))
		}
		assert.Empty(t, h.events)
		h.conn.Free()
		h.peer.Free()
	}
}

// The server has nothing more to write in the middle of a renegotiation. The client is told of the end after it.
func TestCloseWriteInARenegotiation(t *testing.T) {
	for _, flush := range []bool{false, true} {
		h := newHalfway(t, false, nil)
		if flush {
			require.NoError(t, h.conn.FreeAfterFlush(testutil.Patience))
		} else {
			require.NoError(t, h.conn.CloseWrite())
		}
		h.release()
		require.Equal(t, connected, testutil.Receive(t, h.shaken))
		assert.Equal(t, endOfFile, testutil.Receive(t, h.shaken))
		h.conn.Free()
		h.peer.Free()
	}
}

// The client does not go on with a renegotiation. The server's timeout of writing passes, also if it does not read.
func TestWriteTimeoutInARenegotiation(t *testing.T) {
	for _, reads := range []bool{false, true} {
		h := newHalfway(t, false, nil)
		if !reads {
			require.NoError(t, h.conn.Disable(rd))
		}
		_, err := h.conn.WriteString("before")
		require.NoError(t, err)
		h.turns(t)
		require.NoError(t, h.conn.SetTimeouts(0, 10*time.Millisecond))
		assert.Equal(t, told{libevent.EventWriting | libevent.EventTimeout, os.ErrDeadlineExceeded}, testutil.Receive(t, h.events))
		require.NoError(t, h.conn.SetTimeouts(0, 0))
		require.NoError(t, h.conn.Enable(rd|wr))
		h.release()
		assert.Equal(t, "before", take(t, h.read, 6))
		h.conn.Free()
		h.peer.Free()
	}
}
