// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"math"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// In these tests a renegotiation meets what is on its way between the two ends.

// pump passes bytes on in one direction, as many as the test allows.
type pump struct {
	mu              sync.Mutex
	changed         *sync.Cond
	allowed, passed int
	holds           bool // something has come that may not pass
}

func newPump(from, to net.Conn) *pump {
	p := &pump{allowed: math.MaxInt}
	p.changed = sync.NewCond(&p.mu)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			for rest := buf[:n]; len(rest) > 0; {
				n := p.take(len(rest))
				if _, err := to.Write(rest[:n]); err != nil {
					return
				}
				p.pass(n)
				rest = rest[n:]
			}
		}
	}()
	return p
}

func (p *pump) take(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.allowed == 0 {
		p.holds = true
		p.changed.Wait()
	}
	p.holds = false
	n = min(n, p.allowed)
	p.allowed -= n
	return n
}

func (p *pump) pass(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passed += n
	p.changed.Broadcast()
}

// allow lets n more bytes through, and no others.
func (p *pump) allow(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed = n
	p.changed.Broadcast()
}

// let lets n more bytes through, and waits until the connection that gets them has read them.
func (p *pump) let(t *testing.T, n int, to *openssl.Conn) {
	t.Helper()
	p.mu.Lock()
	before := p.passed
	p.allowed = n
	p.changed.Broadcast()
	for p.passed < before+n {
		p.changed.Wait()
	}
	p.mu.Unlock()
	testutil.Eventually(t, func() bool { return !readable(to.FD()) }, "the bytes are read")
	testutil.OnLoop(t, to.Base(), func() {})
}

// crossing has two ends that may renegotiate, and the test in the middle.
type crossing struct {
	server, client         *openssl.Conn
	toServer, toClient     *pump
	fromServer, fromClient <-chan string
	serverTold, clientTold <-chan told
}

func newCrossing(t *testing.T, filter bool) *crossing {
	t.Helper()
	ca := newAuthority(t)
	accepting := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: tls.VersionTLS12, Renegotiation: true})
	connecting := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", Renegotiation: true})
	a, nearServer := testutil.Socketpair(t)
	b, nearClient := testutil.Socketpair(t)
	for _, fd := range []int{a, b} {
		require.NoError(t, syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 8<<10))
	}
	atServer, atClient := fileConn(t, nearServer), fileConn(t, nearClient)
	x := &crossing{toServer: newPump(atClient, atServer), toClient: newPump(atServer, atClient)}
	x.server, x.client = newConn(t, accepting, newLoop(t), a, filter), newSocket(t, connecting, newLoop(t), b)
	x.fromClient, x.serverTold = watch(t, x.server)
	x.fromServer, x.clientTold = watch(t, x.client)
	require.Equal(t, connected, testutil.Receive(t, x.serverTold))
	require.Equal(t, connected, testutil.Receive(t, x.clientTold))
	t.Cleanup(func() {
		x.toServer.allow(math.MaxInt)
		x.toClient.allow(math.MaxInt)
		x.server.Free()
		x.client.Free()
	})
	return x
}

// flow lets all through, and checks that both ends get what the other one has written.
func (x *crossing) flow(t *testing.T, toServer, toClient int) {
	t.Helper()
	x.toServer.allow(math.MaxInt)
	x.toClient.allow(math.MaxInt)
	for _, conn := range []*openssl.Conn{x.server, x.client} {
		_, err := conn.WriteString("the end")
		require.NoError(t, err)
	}
	assert.Equal(t, strings.Repeat("c", toServer)+"the end", take(t, x.fromClient, toServer+7))
	assert.Equal(t, strings.Repeat("s", toClient)+"the end", take(t, x.fromServer, toClient+7))
}

func renegotiates(t *testing.T, conn *openssl.Conn) {
	t.Helper()
	testutil.OnLoop(t, conn.Base(), func() { assert.NoError(t, conn.Renegotiate()) })
}

func writes(t *testing.T, conn *openssl.Conn, text string, n int) {
	t.Helper()
	_, err := conn.WriteString(strings.Repeat(text, n))
	require.NoError(t, err)
}

// A server asks while its output is on the way, and has half a record of the client: what it has to put
// aside meanwhile is bounded.
func TestRenegotiationInTheMiddleOfARecord(t *testing.T) {
	x := newCrossing(t, false)
	x.toClient.allow(0)
	writes(t, x.server, "s", 1<<20)
	takesNoMore(t, x.server.BufferEvent)
	x.toServer.allow(0)
	writes(t, x.client, "c", 16000)
	x.toServer.let(t, 8000, x.server)
	renegotiates(t, x.server)
	x.toClient.let(t, 500_000, x.client)
	x.flow(t, 16000, 1<<20)
	assert.Equal(t, connected, testutil.Receive(t, x.serverTold))
	assert.Empty(t, x.clientTold)
}

// A client calls Renegotiate when a part of the server's request has come.
func TestRenegotiationThatBothEndsWant(t *testing.T) {
	x := newCrossing(t, false)
	x.toClient.allow(0)
	renegotiates(t, x.server)
	x.toClient.let(t, 10, x.client)
	renegotiates(t, x.client)
	x.toClient.allow(math.MaxInt)
	assert.Equal(t, connected, testutil.Receive(t, x.serverTold))
	assert.Equal(t, connected, testutil.Receive(t, x.clientTold))
	x.flow(t, 0, 0)
	writes(t, x.client, "c", 100_000)
	writes(t, x.server, "s", 100_000)
	x.flow(t, 100_000, 100_000)
	assert.Empty(t, x.serverTold)
	assert.Empty(t, x.clientTold)
}

// A handshake that is wanted cannot start, because reading is off and the rest of a record has come. The loop waits.
func TestRenegotiationThatCannotStart(t *testing.T) {
	x := newCrossing(t, false)
	x.toServer.allow(0)
	writes(t, x.client, "c", 16000)
	x.toServer.let(t, 100, x.server)
	testutil.OnLoop(t, x.server.Base(), func() {
		assert.NoError(t, x.server.Disable(rd))
		assert.NoError(t, x.server.Renegotiate())
	})
	writes(t, x.client, "c", 16000)
	x.toServer.allow(math.MaxInt)
	testutil.Eventually(t, func() bool { return readable(x.server.FD()) }, "the next record has come")
	passed := make(chan struct{})
	timer, err := x.server.Base().NewTimer(func() { close(passed) })
	require.NoError(t, err)
	defer timer.Free()
	before := testutil.CPUTime()
	require.NoError(t, timer.Add(200*time.Millisecond))
	testutil.Receive(t, passed)
	assert.Less(t, testutil.CPUTime()-before, 100*time.Millisecond, "the loop sleeps")
	require.NoError(t, x.server.Enable(rd))
	assert.Equal(t, connected, testutil.Receive(t, x.serverTold))
	x.flow(t, 32000, 0)
}

// A server calls Renegotiate in the middle of a handshake that its client has started, and neither reads nor
// writes. That handshake counts.
func TestRenegotiateInARenegotiation(t *testing.T) {
	x := newCrossing(t, false)
	x.toClient.allow(0)
	renegotiates(t, x.client)
	testutil.Eventually(t, func() bool {
		x.toClient.mu.Lock()
		defer x.toClient.mu.Unlock()
		return x.toClient.holds
	}, "the server answers")
	testutil.OnLoop(t, x.server.Base(), func() {
		assert.NoError(t, x.server.Renegotiate())
		assert.NoError(t, x.server.Disable(rd))
	})
	x.toClient.allow(math.MaxInt)
	assert.Equal(t, connected, testutil.Receive(t, x.clientTold))
	assert.Equal(t, connected, testutil.Receive(t, x.serverTold))
	require.NoError(t, x.server.Enable(rd))
	x.flow(t, 0, 0)
}

// Two requests of a server come together, and the client has written a record in part.
func TestRenegotiationsThatComeTogether(t *testing.T) {
	x := newCrossing(t, false)
	x.toClient.allow(0)
	testutil.OnLoop(t, x.server.Base(), func() {
		for range 2 {
			assert.NoError(t, x.server.Renegotiate())
		}
	})
	x.toServer.allow(0)
	writes(t, x.client, "c", 500_000)
	takesNoMore(t, x.client.BufferEvent)
	x.flow(t, 500_000, 0)
	assert.Equal(t, connected, testutil.Receive(t, x.serverTold))
	assert.Empty(t, x.clientTold)
}

// A client renegotiates when a server on a filter has written a record in part.
func TestRenegotiationOfAFilterWithoutRoom(t *testing.T) {
	x := newCrossing(t, true)
	require.NoError(t, x.server.Underlying().SetWatermark(wr, 0, 5000))
	x.toClient.allow(0)
	writes(t, x.server, "s", 500_000)
	takesNoMore(t, x.server.BufferEvent)
	renegotiates(t, x.client)
	x.flow(t, 0, 500_000)
	assert.Equal(t, connected, testutil.Receive(t, x.clientTold))
	assert.Empty(t, x.serverTold)
}

// The server ends its stream when a client's first message is on its way. The server does not answer, and the
// client learns that it cannot write any more.
func TestRenegotiationAfterTheEnd(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		x := newCrossing(t, false)
		x.toServer.allow(0)
		renegotiates(t, x.client)
		if when == "before" {
			writes(t, x.client, "c", 1000)
		}
		require.NoError(t, x.server.CloseWrite())
		assert.Equal(t, libevent.EventReading|libevent.EventEOF, testutil.Receive(t, x.clientTold).what)
		if when == "after" {
			writes(t, x.client, "c", 1000)
		}
		end := testutil.Receive(t, x.clientTold)
		assert.Equal(t, libevent.EventWriting|libevent.EventError, end.what)
		assert.ErrorIs(t, end.err, syscall.EPIPE)
	}
}
