// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// In these tests TLS is used through a *libevent.BufferEvent.

func ignore(*libevent.BufferEvent, libevent.Events) {}

func pass(src, dst *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
	return libevent.FilterOK, dst.AddBuffer(src)
}

// SetCallbacks starts the handshake, and the server must have the name that is connected to.
func TestBufferEventConnects(t *testing.T) {
	ca := newAuthority(t)
	names := make(chan string, 10)
	addr := listen(t, &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, "localhost", "127.0.0.1")},
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			names <- hello.ServerName
			return nil, nil
		},
	}, sendBack)
	base, ctx := newLoop(t), client(t, &openssl.Config{RootCAs: ca.pool()})
	for name, connect := range map[string]func(b *libevent.BufferEvent) error{
		"localhost": func(b *libevent.BufferEvent) error { return b.ConnectHostname(nil, "tcp4", "localhost", addr.Port) },
		"":          func(b *libevent.BufferEvent) error { return b.Connect("tcp", addr.String()) },
	} {
		conn := newSocket(t, ctx, base, -1)
		b := conn.BufferEvent
		answer, events := make(chan string, 10), make(chan told, 10)
		require.NoError(t, b.SetCallbacks(func(b *libevent.BufferEvent) {
			p := make([]byte, b.Input().Len())
			_, err := b.Read(p)
			assert.NoError(t, err)
			answer <- string(p)
		}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			assert.Same(t, conn, openssl.ConnOf(b))
			events <- told{what, b.Err()}
		}))
		require.NoError(t, b.Enable(rd))
		require.NoError(t, connect(b))
		assert.Equal(t, connected, testutil.Receive(t, events))
		assert.Equal(t, name, testutil.Receive(t, names))
		_, err := b.WriteString("hello")
		require.NoError(t, err)
		assert.Equal(t, "hello", take(t, answer, 5))
		b.Free()
	}
}

// A filter on a connection starts the handshake, too.
func TestFilterStartsTheHandshake(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	for _, filter := range []bool{false, true} {
		base := newLoop(t)
		fd, peer := testutil.TCPPair(t)
		conn := newConn(t, ctx, base, fd, filter)
		top := testutil.NewFilter(t, conn.BufferEvent, pass, pass, libevent.OptCloseOnFree)
		assert.Same(t, conn, openssl.ConnOf(top))
		events := make(chan libevent.Events, 10)
		require.NoError(t, top.SetCallbacks(func(b *libevent.BufferEvent) {
			assert.NoError(t, b.WriteBuffer(b.Input()))
		}, nil, func(_ *libevent.BufferEvent, what libevent.Events) { events <- what }))
		require.NoError(t, top.Enable(rd))
		client := tls.Client(peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
		assert.Equal(t, "hello", testutil.Say(t, client, "hello"))
		assert.EqualValues(t, libevent.EventConnected, testutil.Receive(t, events))
		top.Free()
	}
	assert.Nil(t, openssl.ConnOf(testutil.NewFilter(t, mustPair(t), pass, pass, libevent.OptCloseOnFree)))
}

// Reading stopped in the middle of a record, whose rest is with OpenSSL. A filter that is put on the
// connection then gets the rest, although nothing more comes to the socket.
func TestFilterReadsTheRestOfARecord(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	base := newLoop(t)
	fd, peer := testutil.TCPPair(t)
	conn := newSocket(t, ctx, base, fd)
	first := make(chan string, 10)
	require.NoError(t, conn.SetWatermark(rd, 0, 100))
	require.NoError(t, conn.SetCallbacks(func(b *libevent.BufferEvent) {
		assert.NoError(t, b.Disable(rd))
		p, err := io.ReadAll(b.Input())
		assert.NoError(t, err)
		first <- string(p)
	}, nil, ignore))
	require.NoError(t, conn.Enable(rd))
	client := tls.Client(peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	want := testutil.Noise(16_000)
	_, err := client.Write(want)
	require.NoError(t, err)
	begin := testutil.Receive(t, first)
	require.NoError(t, conn.SetWatermark(rd, 0, 0))
	read := make(chan string, 100)
	top := testutil.NewFilter(t, conn.BufferEvent, pass, pass, libevent.OptCloseOnFree)
	require.NoError(t, top.SetCallbacks(func(b *libevent.BufferEvent) {
		p, err := io.ReadAll(b.Input())
		assert.NoError(t, err)
		read <- string(p)
	}, nil, ignore))
	require.NoError(t, top.Enable(rd))
	assert.True(t, begin+take(t, read, len(want)-len(begin)) == string(want))
	assert.Empty(t, first)
	top.Free()
}

func mustPair(t *testing.T) *libevent.BufferEvent {
	a, b := testutil.NewPair(t, newLoop(t))
	t.Cleanup(b.Free)
	t.Cleanup(a.Free)
	return a
}

// TLS in TLS in TLS: the handshakes of those below start with the one on top.
func TestThreeTimes(t *testing.T) {
	ca := newAuthority(t)
	contexts := [2]*openssl.Context{
		server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}),
		client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"}),
	}
	for _, filter := range []bool{false, true} {
		base := newLoop(t)
		fds := [2]int{}
		fds[0], fds[1] = testutil.Socketpair(t)
		var ends [2]*openssl.Conn
		for i, ctx := range contexts {
			ends[i] = newConn(t, ctx, base, fds[i], filter)
			for range 2 {
				var err error
				ends[i], err = ctx.NewFilter(ends[i].BufferEvent, libevent.OptCloseOnFree)
				require.NoError(t, err)
			}
		}
		echo(t, ends[0])
		read, events := watch(t, ends[1])
		assert.Equal(t, connected, testutil.Receive(t, events))
		_, err := ends[1].WriteString("hello")
		require.NoError(t, err)
		assert.Equal(t, "hello", take(t, read, 5))
		require.NoError(t, ends[1].CloseWrite())
		assert.Equal(t, endOfFile, testutil.Receive(t, events))
		ends[1].Free()
	}
}

// Enable has started the handshake, and it has ended, when SetCallbacks is called for the first
// time. Nothing changes but the closures.
func TestFirstSetCallbacksAfterTheHandshake(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	a, b := testutil.Socketpair(t)
	one := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}), base, a)
	two := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"}), base, b)
	read, events := watch(t, one)
	require.NoError(t, two.Enable(rd|wr))
	require.Equal(t, connected, testutil.Receive(t, events))
	testutil.Eventually(t, func() bool { return two.ConnectionState().HandshakeComplete }, "the handshake has ended")
	testutil.OnLoop(t, base, func() {})
	require.NoError(t, two.Disable(wr))
	require.NoError(t, two.SetCallbacks(nil, nil, ignore))
	assert.Equal(t, rd, two.Enabled())
	_, err := two.WriteString("hello")
	require.NoError(t, err)
	require.NoError(t, two.Enable(wr))
	assert.Equal(t, "hello", take(t, read, 5))
	one.Free()
	two.Free()
}

// Whatever is enabled or disabled meanwhile, the handshake goes on.
func TestDisableDoesNotStopTheHandshake(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	for _, filter := range []bool{false, true} {
		base := newLoop(t)
		fd, peer := testutil.TCPPair(t)
		conn := newConn(t, ctx, base, fd, filter)
		_, events := watch(t, conn)
		testutil.OnLoop(t, base, func() {}) // the server has begun to wait
		require.NoError(t, conn.Disable(rd|wr))
		require.NoError(t, tls.Client(peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"}).Handshake())
		assert.Equal(t, connected, testutil.Receive(t, events))
		assert.Zero(t, conn.Enabled())
		conn.Free()
	}
}

// The end of the handshake is about to be told to a filter when that is freed. Then the
// connection is told.
func TestConnectedAfterAFilterWasFreed(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	base := newLoop(t)
	for range 100 {
		fd, peer := testutil.TCPPair(t)
		conn := newSocket(t, ctx, base, fd)
		events := make(chan libevent.Events, 10)
		event := func(_ *libevent.BufferEvent, what libevent.Events) { events <- what }
		require.NoError(t, conn.SetCallbacks(nil, nil, event))
		filter := testutil.NewFilter(t, conn.BufferEvent, pass, pass, 0)
		require.NoError(t, filter.SetCallbacks(nil, nil, event))
		client := tls.Client(peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
		go func() { assert.NoError(t, client.Handshake()) }()
		for !conn.ConnectionState().HandshakeComplete && !t.Failed() {
		}
		freed := testutil.Freed(filter)
		filter.Free()
		testutil.Receive(t, freed)
		assert.EqualValues(t, libevent.EventConnected, testutil.Receive(t, events))
		require.NoError(t, conn.CloseWrite())
		_, err := io.ReadAll(client)
		assert.NoError(t, err)
		conn.Free()
		assert.Empty(t, events)
	}
}
