// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// FreeAfterFlush before the end of a verification waits for it, and then sends what was written.
func TestFlushWhileVerifying(t *testing.T) {
	waiting(t, func(t *testing.T, conn *openssl.Conn, slow *slowly, failed <-chan error, peer *tls.Conn) {
		watch(t, conn)
		testutil.Receive(t, slow.called)
		_, err := conn.WriteString("from us")
		require.NoError(t, err)
		require.NoError(t, conn.FreeAfterFlush(testutil.Patience))
		close(slow.may)
		require.NoError(t, testutil.Receive(t, failed))
		got, err := io.ReadAll(peer)
		require.NoError(t, err)
		assert.Equal(t, "from us", string(got))
	})
}

// After a failed handshake FreeAfterFlush does not wait for output that can never be sent.
func TestFlushAfterFailedHandshake(t *testing.T) {
	ca := newAuthority(t)
	ctx := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	refused := &tls.Config{Certificates: []tls.Certificate{newAuthorityNamed(t, "another").issue(t, "example.test")}}
	for name, end := range map[string]func(*net.TCPConn){
		"closed":  func(socket *net.TCPConn) { _ = socket.Close() },
		"refused": func(socket *net.TCPConn) { _ = tls.Server(socket, refused).Handshake() },
	} {
		for _, filter := range []bool{false, true} {
			t.Run(fmt.Sprint(name, "/", filter), func(t *testing.T) {
				fd, socket := testutil.TCPPair(t)
				conn := newConn(t, ctx, newLoop(t), fd, filter)
				_, events := watch(t, conn)
				_, err := conn.WriteString("before")
				require.NoError(t, err)
				go end(socket)
				require.NotZero(t, testutil.Receive(t, events).what&libevent.EventError)
				_, err = conn.WriteString("after")
				require.NoError(t, err)
				require.NoError(t, conn.FreeAfterFlush(time.Hour))
				testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "the connection is freed")
			})
		}
	}
}

// layers makes two connections of TLS, one in the other, on each of two bufferevents, and returns
// the inner ones when their handshakes are done, with what the second is told then.
func layers(t *testing.T, under [2]*libevent.BufferEvent) (conns [2]*openssl.Conn, events <-chan told) {
	t.Helper()
	accepted, connecting := layer(t, under)
	conns[0], conns[1] = layer(t, [2]*libevent.BufferEvent{accepted.BufferEvent, connecting.BufferEvent})
	shaken := make([]chan told, 2)
	for i, conn := range conns {
		shaken[i] = make(chan told, 100)
		require.NoError(t, conn.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			shaken[i] <- told{what, b.Err()}
		}))
		require.NoError(t, conn.Enable(rd))
	}
	require.Equal(t, connected, testutil.Receive(t, shaken[0]))
	require.Equal(t, connected, testutil.Receive(t, shaken[1]))
	return conns, shaken[1]
}

// Of two layers of TLS, the other end reads all that was sent before it is told of an end, also if
// its input is full meanwhile. FreeAfterFlush ends the inner layer, and Free does not.
func TestEndOfTwoLayers(t *testing.T) {
	bottoms := map[string]func(*testing.T, *libevent.Base) [2]*libevent.BufferEvent{"pair": newPair, "sockets": newSockets}
	ends := map[string]struct {
		end  func(*openssl.Conn) error
		want told
	}{
		"FreeAfterFlush": {func(c *openssl.Conn) error { return c.FreeAfterFlush(testutil.Patience) }, endOfFile},
		"Free":           {func(c *openssl.Conn) error { c.Free(); return nil }, cutOff},
	}
	for bottom, under := range bottoms {
		for name, c := range ends {
			t.Run(bottom+"/"+name, func(t *testing.T) {
				base := newLoop(t)
				conns, events := layers(t, under(t, base))
				accepted, connecting := conns[0], conns[1]
				require.NoError(t, connecting.SetWatermark(rd, 0, 600))
				require.NoError(t, connecting.Disable(rd))
				for _, part := range []string{strings.Repeat("a", 600), strings.Repeat("b", 942)} {
					_, err := accepted.WriteString(part)
					require.NoError(t, err)
				}
				testutil.Eventually(t, func() bool {
					layer := accepted.Underlying()
					socket := layer.Underlying() // or a pair, which moves its output when the other end reads
					return accepted.Output().Len()+layer.Output().Len() == 0 && (socket.FD() < 0 || socket.Output().Len() == 0)
				}, "both parts are sent")
				require.NoError(t, connecting.Enable(rd))
				testutil.Eventually(t, func() bool {
					n := connecting.Input().Len() // libevent 2.2 reads more than the high watermark
					return n == 1542 || n == 600 && connecting.Underlying().Input().Len() > 942
				}, "the second part waits")
				require.NoError(t, c.end(accepted))
				for range 5 { // turns, in which the end comes to the inner layer
					testutil.OnLoop(t, base, func() {})
				}
				if connecting.Input().Len() < 1542 {
					assert.Empty(t, events, "the end is not told before the bytes")
				}
				got, p := "", make([]byte, 1542)
				testutil.Eventually(t, func() bool {
					n, _ := connecting.Read(p)
					got += string(p[:n])
					return len(got) == len(p)
				}, "all is read")
				assert.Equal(t, strings.Repeat("a", 600)+strings.Repeat("b", 942), got)
				assert.Equal(t, c.want, testutil.Receive(t, events))
			})
		}
	}
}

func newPair(t *testing.T, base *libevent.Base) [2]*libevent.BufferEvent {
	a, b := testutil.NewPair(t, base)
	return [2]*libevent.BufferEvent{a, b}
}

func newSockets(t *testing.T, base *libevent.Base) (socks [2]*libevent.BufferEvent) {
	a, b := testutil.Socketpair(t)
	for i, fd := range [2]int{a, b} {
		var err error
		socks[i], err = base.NewSocket(fd, libevent.OptCloseOnFree)
		require.NoError(t, err)
	}
	return socks
}

// A connection that has failed takes no more, so FreeAfterFlush does not wait for a peer that reads nothing.
func TestFlushAfterAFailure(t *testing.T) {
	ca := newAuthority(t)
	for name, fail := range map[string]func(socket *net.TCPConn) error{
		"end without close_notify": (*net.TCPConn).CloseWrite,
		"bad record": func(socket *net.TCPConn) error {
			_, err := socket.Write(append([]byte{23, 3, 3, 0, 32}, make([]byte, 32)...))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			fd, socket := testutil.TCPPair(t)
			conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}), newLoop(t), fd)
			_, events := watch(t, conn)
			require.NoError(t, tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"}).Handshake())
			require.Equal(t, connected, testutil.Receive(t, events))
			_, err := conn.Write(make([]byte, 16<<20)) // which the peer does not read
			require.NoError(t, err)
			require.NoError(t, fail(socket))
			assert.NotZero(t, testutil.Receive(t, events).what&libevent.EventError)
			require.NoError(t, conn.FreeAfterFlush(time.Hour))
			testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "the connection is freed")
		})
	}
}

// With OptLoopOnly a filter below TLS passes on no more than its high mark in one call, and the other end of a pair brings
// everything at once. The end comes after all bytes.
func TestFlushToAFilterInOneThread(t *testing.T) {
	const opts = libevent.OptCloseOnFree | libevent.OptLoopOnly
	ca := newAuthority(t)
	base := testutil.NewBase(t)
	a, b, err := base.NewPair(opts)
	require.NoError(t, err)
	conn, err := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"}).NewFilter(a, opts)
	require.NoError(t, err)
	accepted, err := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}).
		NewFilter(testutil.NewFilter(t, b, nil, nil, opts), opts)
	require.NoError(t, err)
	const n = 700_000
	require.NoError(t, conn.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
		assert.EqualValues(t, libevent.EventConnected, what)
		_, err := b.Write(make([]byte, n))
		assert.NoError(t, err)
		assert.NoError(t, b.FreeAfterFlush(testutil.Patience))
	}))
	require.NoError(t, conn.Enable(rd))
	got, ended := 0, 0
	require.NoError(t, accepted.SetCallbacks(func(b *libevent.BufferEvent) {
		got += b.Input().Len()
		assert.NoError(t, b.Input().Drain(b.Input().Len()))
	}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
		if what == libevent.EventConnected {
			return
		}
		assert.Equal(t, endOfFile, told{what, b.Err()})
		assert.Equal(t, n, got)
		ended++
		b.Free()
	}))
	require.NoError(t, accepted.Enable(rd))
	testutil.Dispatch(t, base)
	assert.Equal(t, 1, ended)
}
