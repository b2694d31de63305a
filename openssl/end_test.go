// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

var (
	connected  = told{libevent.EventConnected, nil}
	endOfFile  = told{libevent.EventReading | libevent.EventEOF, io.EOF}
	cutOff     = told{libevent.EventReading | libevent.EventError, io.ErrUnexpectedEOF}
	cutAllowed = told{libevent.EventReading | libevent.EventEOF, io.ErrUnexpectedEOF}
)

// open makes a connection between a server of this package and a client of crypto/tls.
func open(t testing.TB, version uint16, opts ...libevent.Options) (*openssl.Conn, <-chan string, <-chan told, *tls.Conn) {
	t.Helper()
	all := libevent.OptCloseOnFree
	for _, o := range opts {
		all |= o
	}
	ca := newAuthority(t)
	base := newLoop(t)
	fd, peer := testutil.TCPPair(t)
	conn, err := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version}).NewSocket(base, fd, all)
	require.NoError(t, err)
	read, events := watch(t, conn)
	client := tls.Client(peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	require.NoError(t, client.Handshake())
	require.Equal(t, connected, testutil.Receive(t, events))
	return conn, read, events, client
}

// cut ends a connection without close_notify. It does not close the socket: that would reset the
// connection, because the client has not read the session tickets.
func cut(t testing.TB, conn *tls.Conn) {
	t.Helper()
	require.NoError(t, conn.NetConn().(*net.TCPConn).CloseWrite())
}

// both makes a connection between a server and a client of this package, each with its own loop.
// crypto/tls would take a cut between two records for an end.
func both(t testing.TB, version uint16) (accepted, connecting *openssl.Conn, events <-chan told) {
	t.Helper()
	ca := newAuthority(t)
	a, b := testutil.Socketpair(t)
	accepted = newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version}), newLoop(t), a)
	connecting = newSocket(t, client(t, &openssl.Config{ServerName: "example.test", RootCAs: ca.pool()}), newLoop(t), b)
	_, shaken := watch(t, accepted)
	_, events = watch(t, connecting)
	require.Equal(t, connected, testutil.Receive(t, shaken))
	require.Equal(t, connected, testutil.Receive(t, events))
	return accepted, connecting, events
}

// The other end can tell an orderly end of the connection from a cut.
func TestEnds(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		for name, c := range map[string]struct {
			end  func(*openssl.Conn) error
			want told
		}{
			"CloseWrite":     {func(c *openssl.Conn) error { return c.CloseWrite() }, endOfFile},
			"FreeAfterFlush": {func(c *openssl.Conn) error { return c.FreeAfterFlush(testutil.Patience) }, endOfFile},
			"Free":           {func(c *openssl.Conn) error { c.Free(); return nil }, cutOff},
		} {
			t.Run(name, func(t *testing.T) {
				accepted, connecting, events := both(t, version)
				_, err := accepted.WriteString("last")
				require.NoError(t, err)
				testutil.Eventually(t, func() bool { return accepted.Output().Len() == 0 }, "it is written")
				require.NoError(t, c.end(accepted))
				assert.Equal(t, c.want, testutil.Receive(t, events))
				assert.Equal(t, c.want.err, connecting.Err())
			})
		}
	})
}

func TestCloseNotifyIsEOF(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		conn, read, events, peer := open(t, version)
		_, err := peer.Write([]byte("last"))
		require.NoError(t, err)
		require.NoError(t, peer.Close())
		assert.Equal(t, "last", take(t, read, 4))
		assert.Equal(t, endOfFile, testutil.Receive(t, events))
		assert.Zero(t, conn.Enabled()&rd)
		n, err := conn.Read(make([]byte, 1))
		assert.Zero(t, n)
		assert.Equal(t, io.EOF, err)
	})
}

// One turn of the loop reads data and close_notify, and the socket stays open.
func TestDataTogetherWithTheEnd(t *testing.T) {
	for mode, opts := range map[string]libevent.Options{"fast": 0, "plain": libevent.OptPlainIO} {
		t.Run(mode, func(t *testing.T) {
			versions(t, func(t *testing.T, version uint16) {
				conn, read, events, peer := open(t, version, opts)
				testutil.OnLoop(t, conn.Base(), func() {
					_, err := peer.Write([]byte("last"))
					assert.NoError(t, err)
					assert.NoError(t, peer.CloseWrite())
				})
				assert.Equal(t, "last", take(t, read, 4))
				assert.Equal(t, endOfFile, testutil.Receive(t, events))
			})
		})
	}
}

func TestCutIsUnexpectedEOF(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		conn, read, events, peer := open(t, version)
		_, err := peer.Write([]byte("last"))
		require.NoError(t, err)
		cut(t, peer)
		assert.Equal(t, "last", take(t, read, 4))
		assert.Equal(t, cutOff, testutil.Receive(t, events))
		assert.Zero(t, conn.Enabled())
		_, err = conn.Read(make([]byte, 1))
		assert.Equal(t, io.ErrUnexpectedEOF, err)
	})
}

func TestDirtyShutdown(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		conn, _, events, peer := open(t, version)
		assert.False(t, conn.AllowDirtyShutdown())
		conn.SetAllowDirtyShutdown(true)
		assert.True(t, conn.AllowDirtyShutdown())
		cut(t, peer)
		assert.Equal(t, cutAllowed, testutil.Receive(t, events))
	})
}

// A timeout and the peer's end come in one turn, and libevent tells of both at once. The end is
// the cause, as it is without TLS.
func TestEOFTogetherWithATimeout(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	a, b := testutil.Socketpair(t)
	one := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}), base, a)
	two := newSocket(t, client(t, &openssl.Config{ServerName: "example.test", RootCAs: ca.pool()}), base, b)
	_, events := watch(t, one)
	_, shaken := watch(t, two)
	require.Equal(t, connected, testutil.Receive(t, events))
	require.Equal(t, connected, testutil.Receive(t, shaken))
	testutil.OnLoop(t, base, func() {
		assert.NoError(t, two.CloseWrite())
		// In the next turn the end is read, then the function that is posted here runs, and then
		// the closure is called.
		assert.NoError(t, base.Post(func() { assert.NoError(t, one.TriggerEvent(libevent.EventTimeout)) }))
	})
	want := told{libevent.EventReading | libevent.EventEOF | libevent.EventTimeout, io.EOF}
	require.Equal(t, want, testutil.Receive(t, events))
	_, err := one.Read(make([]byte, 1))
	assert.Equal(t, io.EOF, err)
	one.Free()
	two.Free()
}

func TestReset(t *testing.T) {
	for _, dirty := range []bool{false, true} {
		versions(t, func(t *testing.T, version uint16) {
			conn, _, events, peer := open(t, version)
			conn.SetAllowDirtyShutdown(dirty)
			require.NoError(t, peer.NetConn().(*net.TCPConn).SetLinger(0))
			require.NoError(t, peer.NetConn().Close())
			what := testutil.Receive(t, events)
			assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
			assert.ErrorIs(t, what.err, syscall.ECONNRESET)
			var e *libevent.Error
			require.ErrorAs(t, what.err, &e)
			assert.Equal(t, "read", e.Op)
		})
	}
}

// CloseWrite sends close_notify after the last byte, and reading goes on.
func TestCloseWrite(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		conn, read, events, peer := open(t, version)
		last := testutil.Noise(1 << 20)
		_, err := conn.Write(last)
		require.NoError(t, err)
		require.NoError(t, conn.CloseWrite())
		_, err = conn.WriteString("more")
		assert.ErrorIs(t, err, syscall.EPIPE)
		got, err := io.ReadAll(peer) // no error: the connection was not cut
		require.NoError(t, err)
		assert.Equal(t, last, got)
		_, err = peer.Write([]byte("and the other way"))
		require.NoError(t, err)
		assert.Equal(t, "and the other way", take(t, read, 17))
		require.NoError(t, peer.Close())
		assert.Equal(t, endOfFile, testutil.Receive(t, events))
	})
}

// The peer gets the alert of a failure even if the closure that is told of the failure calls Free.
func TestAlertBeforeFree(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	for _, filter := range []bool{false, true} {
		fd, socket := testutil.TCPPair(t)
		conn := newConn(t, ctx, newLoop(t), fd, filter)
		require.NoError(t, conn.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			if what&libevent.EventError != 0 {
				b.Free()
			}
		}))
		require.NoError(t, conn.Enable(rd))
		peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
		require.NoError(t, peer.Handshake())
		_, err := socket.Write([]byte("\x17\x03\x03\x00\x20" + strings.Repeat("x", 32)))
		require.NoError(t, err)
		_, err = peer.Read(make([]byte, 1))
		assert.ErrorContains(t, err, "bad record MAC")
	}
}

// FreeAfterFlush writes all output, sends close_notify and frees the connection.
func TestFreeAfterFlush(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		conn, _, _, peer := open(t, version)
		last := testutil.Noise(4 << 20)
		_, err := conn.Write(last)
		require.NoError(t, err)
		require.NoError(t, conn.FreeAfterFlush(testutil.Patience))
		assert.ErrorIs(t, conn.FreeAfterFlush(0), libevent.ErrClosed)
		got, err := io.ReadAll(peer)
		require.NoError(t, err)
		assert.Equal(t, last, got)
		testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "the connection is freed")
	})
}

// FreeAfterFlush writes all output also if the peer's end is just about to be told, with which
// libevent stops writing.
func TestFreeAfterFlushWithAnEnd(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	for _, filter := range []bool{false, true} {
		base := newLoop(t)
		fd, socket := testutil.TCPPair(t)
		conn := newConn(t, ctx, base, fd, filter)
		_, events := watch(t, conn)
		peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
		require.NoError(t, peer.Handshake())
		require.Equal(t, connected, testutil.Receive(t, events))
		last := testutil.Noise(4 << 20)
		testutil.OnLoop(t, base, func() {
			_, err := conn.Write(last)
			assert.NoError(t, err)
			assert.NoError(t, conn.TriggerEvent(libevent.EventReading|libevent.EventEOF))
			assert.NoError(t, conn.FreeAfterFlush(testutil.Patience))
		})
		got, err := io.ReadAll(peer)
		assert.NoError(t, err)
		testutil.Same(t, last, got)
	}
}

// Even a peer that sends all the time gets the output and the close_notify.
func TestFreeAfterFlushWhileReading(t *testing.T) {
	conn, read, _, peer := open(t, tls.VersionTLS13)
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for p := testutil.Noise(16384); ; {
			if _, err := peer.Write(p); err != nil {
				return
			}
		}
	}()
	testutil.Receive(t, read)
	_, err := conn.WriteString("last")
	require.NoError(t, err)
	require.NoError(t, conn.FreeAfterFlush(testutil.Patience))
	got, err := io.ReadAll(peer)
	require.NoError(t, err)
	assert.Equal(t, "last", string(got))
	require.NoError(t, peer.NetConn().Close())
	testutil.Receive(t, stop)
	testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "the connection is freed")
}

// FreeAfterFlush does not wait longer than its limit for a peer that does not read.
func TestFreeAfterFlushLimit(t *testing.T) {
	conn, _, _, _ := open(t, tls.VersionTLS13)
	_, err := conn.Write(make([]byte, 32<<20))
	require.NoError(t, err)
	require.NoError(t, conn.FreeAfterFlush(50*time.Millisecond))
	testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "the connection is freed")
}

// After the peer's close_notify the rest of the output is still written, though libevent stops
// writing when reading ends.
func TestAnswerAfterEOF(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		conn, _, events, peer := open(t, version)
		answer := testutil.Noise(8 << 20)
		_, err := conn.Write(answer)
		require.NoError(t, err)
		testutil.Eventually(t, func() bool { n := conn.Output().Len(); return n > 0 && n < len(answer) }, "the socket is full")
		require.NoError(t, peer.CloseWrite())
		require.Equal(t, endOfFile, testutil.Receive(t, events))
		got := make([]byte, len(answer))
		_, err = io.ReadFull(peer, got)
		require.NoError(t, err)
		assert.Equal(t, answer, got)
	})
}

// In one turn the loop may find both the peer's end and a write that fails because of it. The
// event closure is told of both.
func TestEOFWithAFailedWrite(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		accepted, connecting, events := both(t, version)
		fd, other := testutil.Socketpair(t)
		defer syscall.Close(fd)
		defer syscall.Close(other)
		base := connecting.Base()
		behind, err := base.NewEvent(fd, libevent.EvRead, func(int, libevent.What) {
			_, err := connecting.WriteString("anybody?")
			assert.NoError(t, err)
		})
		require.NoError(t, err)
		defer behind.Free()
		require.NoError(t, behind.Add(-1))
		testutil.OnLoop(t, base, func() { // the next turn finds both ready, in this order
			assert.NoError(t, accepted.FreeAfterFlush(testutil.Patience))
			testutil.Eventually(t, func() bool { return openssl.Live().Conns == 1 }, "the peer is gone")
			_, err := syscall.Write(other, []byte{1})
			assert.NoError(t, err)
		})
		var what libevent.Events
		for what&(libevent.EventEOF|libevent.EventError) != libevent.EventEOF|libevent.EventError {
			event := testutil.Receive(t, events)
			if what |= event.what; event.what&libevent.EventEOF != 0 {
				assert.Equal(t, io.EOF, event.err)
			}
		}
		assert.Equal(t, libevent.EventReading|libevent.EventWriting|libevent.EventEOF|libevent.EventError, what)
		assert.Zero(t, connecting.Enabled())
	})
}

// A receiver may read up to the end of the stream. The event closure is told of it all the same.
func TestReceiverFindsTheEnd(t *testing.T) {
	if testutil.PlainIO {
		t.Skip("libevent reads")
	}
	conn, _, events, peer := open(t, tls.VersionTLS13)
	p := make([]byte, 10)
	require.NoError(t, conn.SetReceiver(func(b *libevent.BufferEvent) {
		if n, _ := b.Receive(p); n == 0 {
			return
		}
		assert.NoError(t, peer.CloseWrite())
		_, err := b.Receive(p)
		assert.Equal(t, libevent.ErrWouldBlock, err)
	}))
	_, err := peer.Write([]byte("hello"))
	require.NoError(t, err)
	assert.Equal(t, endOfFile, testutil.Receive(t, events))
}

func TestFreed(t *testing.T) {
	conn, _, _, _ := open(t, tls.VersionTLS13)
	assert.NotNil(t, conn.SSL())
	conn.Free()
	assert.Nil(t, conn.SSL())
	assert.ErrorIs(t, conn.Renegotiate(), libevent.ErrClosed)
	assert.ErrorIs(t, conn.CloseWrite(), libevent.ErrClosed)
}

// A failed write is reported with its errno, also if the peer has sent close_notify before.
func TestWriteToReset(t *testing.T) {
	for name, before := range map[string]func(*openssl.Conn, <-chan told, *tls.Conn){
		"at once": func(conn *openssl.Conn, _ <-chan told, _ *tls.Conn) { require.NoError(t, conn.Disable(rd)) },
		"after close_notify": func(_ *openssl.Conn, events <-chan told, peer *tls.Conn) {
			require.NoError(t, peer.CloseWrite())
			require.Equal(t, endOfFile, testutil.Receive(t, events))
		},
	} {
		t.Run(name, func(t *testing.T) {
			versions(t, func(t *testing.T, version uint16) {
				conn, _, events, peer := open(t, version)
				before(conn, events, peer)
				require.NoError(t, peer.NetConn().(*net.TCPConn).SetLinger(0))
				require.NoError(t, peer.NetConn().Close())
				writeUntilItFails(t, conn, events)
			})
		})
	}
}

func writeUntilItFails(t *testing.T, conn *openssl.Conn, events <-chan told) {
	var what told
	for i := 0; what.what == 0; i++ {
		_, err := conn.Write(make([]byte, 1000))
		require.NoError(t, err)
		select {
		case what = <-events:
		case <-time.After(10 * time.Millisecond):
			require.Less(t, i, 1000)
		}
	}
	assert.Equal(t, libevent.EventWriting|libevent.EventError, what.what)
	assert.True(t, errors.Is(what.err, syscall.ECONNRESET) || errors.Is(what.err, syscall.EPIPE), "%v", what.err)
}

// The end of the bufferevent below is reported only when the bytes before it were read.
func TestEndBelowWaitsForTheReader(t *testing.T) {
	base := newLoop(t)
	under := newPair(t, base)
	accepted, conn := layer(t, under)
	events := shake(t, accepted, conn)
	require.NoError(t, conn.Disable(rd))
	want := testutil.Noise(50_000)
	_, err := accepted.Write(want)
	require.NoError(t, err)
	require.NoError(t, accepted.CloseWrite())
	_, err = under[0].Flush(wr, libevent.FlushFinished) // moves the bytes even if the other end does not read
	require.NoError(t, err)
	testutil.Eventually(t, func() bool { return under[1].Input().Len() > len(want) }, "it is there")
	testutil.OnLoop(t, base, func() { assert.Empty(t, events) })
	read, events := watch(t, conn)
	assert.True(t, take(t, read, len(want)) == string(want))
	assert.Equal(t, endOfFile, testutil.Receive(t, events))
	accepted.Free()
	conn.Free()
}

// The socket below ends after close_notify, and a later write fails there. That is reported too.
func TestWriteAfterTheEndBelow(t *testing.T) {
	base := newLoop(t)
	accepted, conn := layer(t, newSockets(t, base))
	events := shake(t, accepted, conn)
	require.NoError(t, accepted.FreeAfterFlush(testutil.Patience))
	require.Equal(t, endOfFile, testutil.Receive(t, events))
	_, err := conn.WriteString("in vain")
	require.NoError(t, err)
	failed := testutil.Receive(t, events)
	assert.Equal(t, libevent.EventWriting|libevent.EventError, failed.what)
	assert.ErrorIs(t, failed.err, syscall.EPIPE)
	conn.Free()
}

// With OptLoopOnly the failure of a write and the end of the peer come one after the other, and libevent merges what TLS on a
// filter makes of them. The program is told that reading has ended as well.
func TestEndAfterAFailedWriteInOneThread(t *testing.T) {
	const opts = libevent.OptCloseOnFree | libevent.OptLoopOnly
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")},
		SessionTicketsDisabled: true}) // the peer, which does not read them, would reset the socket
	for _, layers := range []int{1, 2} {
		base := testutil.NewBase(t)
		fd, other := testutil.Socketpair(t)
		under, err := base.NewSocket(fd, opts)
		require.NoError(t, err)
		var conn *openssl.Conn
		peer := fileConn(t, other)
		socket := peer
		for range layers {
			conn, err = ctx.NewFilter(under, opts)
			require.NoError(t, err)
			under = conn.BufferEvent
			peer = tls.Client(peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
		}
		var events libevent.Events
		require.NoError(t, conn.SetCallbacks(func(b *libevent.BufferEvent) {
			assert.NoError(t, b.Input().Drain(b.Input().Len()))
			assert.NoError(t, base.Post(func() { // then the socket can be read and written in one turn
				assert.NoError(t, socket.Close())
				_, err := b.Write(make([]byte, 50_000))
				assert.NoError(t, err)
			}))
		}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			if what == libevent.EventConnected {
				return
			}
			events |= what
		}))
		require.NoError(t, conn.Enable(rd))
		go func() { _, _ = peer.Write([]byte("hello")) }()
		testutil.Dispatch(t, base)
		assert.Equal(t, libevent.EventReading|libevent.EventWriting|libevent.EventError, events)
		conn.Free()
	}
}

// When the connection below is cut, TLS on TLS reports the end once, and then the loop sleeps.
func TestCutBelow(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	fd, peer := testutil.TCPPair(t)
	conn, err := ctx.NewFilter(newSocket(t, ctx, base, fd).BufferEvent, libevent.OptCloseOnFree)
	require.NoError(t, err)
	_, events := watch(t, conn)
	cfg := &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"}
	require.NoError(t, tls.Client(tls.Client(peer, cfg), cfg).Handshake())
	require.Equal(t, connected, testutil.Receive(t, events))
	require.NoError(t, peer.CloseWrite())
	assert.Equal(t, cutOff, testutil.Receive(t, events))
	before := testutil.CPUTime()
	time.Sleep(300 * time.Millisecond) // sleep: a loop that spins uses CPU time meanwhile
	assert.Less(t, testutil.CPUTime()-before, 100*time.Millisecond, "the loop sleeps")
	assert.Empty(t, events)
	conn.Free()
}

// A filter on TLS that does not read at the moment keeps the peer's end, and tells it once when the program reads on.
func TestEndBelowAFilterIsToldOnce(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	for _, below := range []bool{false, true} {
		for _, filters := range []int{1, 2} {
			t.Run(fmt.Sprint(below, filters), func(t *testing.T) {
				fd, socket := testutil.TCPPair(t)
				base := newLoop(t)
				conn := newConn(t, ctx, base, fd, below)
				top := conn.BufferEvent
				for range filters {
					top = testutil.NewFilter(t, top, nil, nil, libevent.OptCloseOnFree)
				}
				events := make(chan told, 100)
				reads := func(b *libevent.BufferEvent) { _ = b.Input().Drain(b.Input().Len()) }
				tells := func(b *libevent.BufferEvent, what libevent.Events) { events <- told{what, b.Err()} }
				require.NoError(t, top.SetCallbacks(nil, nil, tells))
				require.NoError(t, top.SetWatermark(rd, 0, 1000))
				require.NoError(t, top.Enable(rd))
				peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
				require.NoError(t, peer.Handshake())
				require.Equal(t, connected, testutil.Receive(t, events))
				_, err := peer.Write(make([]byte, 50_000))
				require.NoError(t, err)
				require.NoError(t, peer.CloseWrite())
				testutil.Eventually(t, func() bool { return top.Input().Len() >= 1000 && top.Underlying().Input().Len() > 0 }, "the input is full")
				for range 5 {
					testutil.OnLoop(t, base, func() {})
				}
				require.NoError(t, top.SetCallbacks(reads, nil, tells))
				testutil.OnLoop(t, base, func() { reads(top) })
				assert.Equal(t, endOfFile, testutil.Receive(t, events))
				for range 5 {
					testutil.OnLoop(t, base, func() {})
				}
				assert.Empty(t, events)
				top.Free()
			})
		}
	}
}

// later passes the first write on and keeps the following ones.
type later struct {
	net.Conn
	began bool
	kept  bytes.Buffer
}

func (l *later) Write(p []byte) (int, error) {
	if l.began {
		return l.kept.Write(p)
	}
	l.began = true
	return l.Conn.Write(p)
}

// A client may send its data and close_notify together with the end of its handshake, and close
// the socket before the server's tickets arrive. The server still gets all of it.
func TestClientThatIsGone(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	fd, other := testutil.Socketpair(t)
	file := os.NewFile(uintptr(other), "peer")
	peer, err := net.FileConn(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}), base, fd)
	read, events := watch(t, conn)
	held := &later{Conn: peer}
	go2 := tls.Client(held, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	require.NoError(t, go2.Handshake())
	_, err = go2.Write([]byte("hello"))
	require.NoError(t, err)
	require.NoError(t, go2.CloseWrite())
	require.NoError(t, peer.SetDeadline(time.Time{})) // CloseWrite has set one
	testutil.OnLoop(t, base, func() {                 // the loop sees all of it at once
		_, err := peer.Write(held.kept.Bytes())
		assert.NoError(t, err)
		assert.NoError(t, peer.Close())
	})
	assert.Equal(t, connected, testutil.Receive(t, events))
	assert.Equal(t, "hello", take(t, read, 5))
	assert.Equal(t, endOfFile, testutil.Receive(t, events))
}

// The peer is gone without a close_notify, and OpenSSL's alert meets a closed socket. When the
// connection is enabled again, the loop does not spin: it still runs what has a lower priority.
func TestEnableAfterTheAlertHasMetAClosedSocket(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	versions(t, func(t *testing.T, version uint16) {
		base, err := libevent.NewBaseConfig(libevent.Config{PlainIO: true, Priorities: 2})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, base.Free()) })
		testutil.Background(t, base)
		a, b := testutil.Socketpair(t)
		accepted := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version}), newLoop(t), a)
		connecting := newSocket(t, client(t, &openssl.Config{ServerName: "example.test", RootCAs: ca.pool()}), base, b)
		defer connecting.Free()
		_, shaken := watch(t, accepted)
		_, events := watch(t, connecting)
		require.Equal(t, connected, testutil.Receive(t, shaken))
		require.Equal(t, connected, testutil.Receive(t, events))
		testutil.OnLoop(t, base, func() { assert.NoError(t, connecting.SetPriority(0)) })
		accepted.Free()
		require.Equal(t, cutOff, testutil.Receive(t, events))
		for range 3 {
			require.NoError(t, connecting.Enable(rd|wr))
			testutil.OnLoop(t, base, func() {})
		}
	})
}
