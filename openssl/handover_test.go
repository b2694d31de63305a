// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// In these tests libevent takes a connection over from the fast path, or gives it back, while a
// write waits for room in the socket, or it may not write although WRITE is enabled.

// openLocal makes a connection between a server of this package and a client of crypto/tls. The
// sockets of its socketpair hold little.
func openLocal(t *testing.T, version uint16) (*openssl.Conn, <-chan string, <-chan told, *tls.Conn) {
	t.Helper()
	ca := newAuthority(t)
	a, b := testutil.Socketpair(t)
	conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version}), newLoop(t), a)
	read, events := watch(t, conn)
	socket := fileConn(t, b)
	peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	require.NoError(t, peer.Handshake())
	require.Equal(t, connected, testutil.Receive(t, events))
	return conn, read, events, peer
}

// takesNoMore waits until a bufferevent has bytes to write, and the socket does not take them.
func takesNoMore(t *testing.T, bev *libevent.BufferEvent) {
	t.Helper()
	left, same := 0, 0
	testutil.Eventually(t, func() bool {
		testutil.OnLoop(t, bev.Base(), func() {})
		n := bev.Output().Len()
		if n != left {
			left, same = n, 0
		}
		same++
		return n > 0 && same > 20
	}, "the socket takes no more")
}

// fillSocket writes p as one piece of memory, and waits until the socket takes no more.
func fillSocket(t *testing.T, conn *openssl.Conn, p []byte) {
	t.Helper()
	require.NoError(t, conn.Output().AddReference(p, nil))
	takesNoMore(t, conn.BufferEvent)
}

func takesAll(t *testing.T, peer *tls.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	_, err := io.ReadFull(peer, got)
	assert.NoError(t, err)
	testutil.Same(t, want, got)
}

// libevent is in the middle of a large write when the peer sends something, and the reason why
// libevent writes ends.
func TestFastPathWaitsForAWriteOfLibevent(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		conn, read, events, peer := openLocal(t, version)
		much := testutil.Noise(8 << 20)
		require.NoError(t, conn.SetMaxSingleRead(8000))
		fillSocket(t, conn, much)
		_, err := peer.Write([]byte("hello"))
		require.NoError(t, err)
		assert.Equal(t, "hello", take(t, read, 5))
		require.NoError(t, conn.SetMaxSingleRead(0))
		_, err = conn.WriteString("last")
		require.NoError(t, err)
		takesAll(t, peer, append(much, "last"...))
		assert.Empty(t, events)
		conn.Free()
	})
}

// libevent finishes a write that the fast path has begun, and then the fast path writes less.
func TestFastPathForgetsAWriteThatLibeventHasFinished(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		conn, _, events, peer := openLocal(t, version)
		much := testutil.Noise(8 << 20)
		fillSocket(t, conn, much)
		require.NoError(t, conn.SetMaxSingleWrite(8000))
		takesAll(t, peer, much)
		testutil.Eventually(t, func() bool { return conn.Output().Len() == 0 }, "all is written")
		require.NoError(t, conn.SetMaxSingleWrite(0))
		_, err := conn.WriteString("last")
		require.NoError(t, err)
		takesAll(t, peer, []byte("last"))
		assert.Empty(t, events)
		conn.Free()
	})
}

// What needs libevent comes and goes at random while both sides write.
func TestManyHandOvers(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		conn, read, events, peer := openLocal(t, version)
		there, back := testutil.Noise(4<<20), testutil.Noise(1<<20)
		go func() {
			for n := 0; n < len(back); {
				k := min(1+rand.IntN(3000), len(back)-n)
				_, err := peer.Write(back[n : n+k])
				assert.NoError(t, err)
				n += k
			}
		}()
		go func() {
			for n := 0; n < len(there); {
				k := min(1+rand.IntN(300000), len(there)-n)
				_, err := conn.Write(there[n : n+k])
				assert.NoError(t, err)
				n += k
			}
		}()
		done := make(chan struct{})
		go func() {
			defer close(done)
			takesAll(t, peer, there)
		}()
		got := ""
		for i := 0; ; i++ {
			select {
			case <-done:
			default:
				assert.NoError(t, conn.SetMaxSingleRead(i%2*8000))
				assert.NoError(t, conn.SetMaxSingleWrite(i%3%2*8000))
				if i%5 == 0 {
					assert.NoError(t, conn.SetRateLimit(&libevent.RateLimit{ReadRate: 10 << 20, ReadBurst: 10 << 20}))
				} else {
					assert.NoError(t, conn.SetRateLimit(nil))
				}
				got += takeSome(read)
				continue
			}
			break
		}
		require.NoError(t, conn.SetRateLimit(nil))
		got += take(t, read, len(back)-len(got))
		testutil.Same(t, back, []byte(got))
		assert.Empty(t, events)
		conn.Free()
	})
}

// On a filter libevent's SSL_write may wait for something to read, and is repeated by libevent's
// reading. While the output is lent libevent could not drain what it has written, and would write
// that twice.
func TestEnableWhileTheOutputOfAFilterIsLent(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	base, want := newLoop(t), testutil.Noise(300000)
	for range 30 {
		fd, socket := testutil.TCPPair(t)
		conn := newConn(t, ctx, base, fd, true)
		_, err := conn.Write(want)
		require.NoError(t, err)
		var over atomic.Bool
		var peek func()
		peek = func() {
			assert.NoError(t, conn.Output().Peek(func([][]byte) {
				for range 20 {
					runtime.Gosched() // the other goroutine calls Enable
				}
			}))
			if !over.Load() {
				assert.NoError(t, base.Post(peek))
			}
		}
		require.NoError(t, base.Post(peek))
		require.NoError(t, conn.SetCallbacks(nil, nil, func(*libevent.BufferEvent, libevent.Events) {}))
		go func() {
			defer over.Store(true)
			takesAll(t, tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"}), want)
		}()
		for !over.Load() {
			require.NoError(t, conn.Enable(rd|wr))
			runtime.Gosched() // with one processor the others would hardly run
		}
		testutil.OnLoop(t, base, conn.Free)
		if t.Failed() {
			return
		}
	}
}

// takeSome takes what is there.
func takeSome(read <-chan string) (got string) {
	for {
		select {
		case s := <-read:
			got += s
		default:
			return got
		}
	}
}

// corked is a socket that sends what is written after cork in one piece.
type corked struct {
	net.Conn
	kept *bytes.Buffer
}

func (c *corked) Write(p []byte) (int, error) {
	if c.kept != nil {
		return c.kept.Write(p)
	}
	return c.Conn.Write(p)
}

func (c *corked) cork() { c.kept = new(bytes.Buffer) }

// CloseWrite of crypto/tls leaves a deadline that has passed.
func (c *corked) SetWriteDeadline(time.Time) error { return nil }

func (c *corked) uncork() error {
	all := c.kept.Bytes()
	c.kept = nil
	_, err := c.Write(all)
	return err
}

// The peer's last bytes and its end come in one turn. A Read that passes the connection on, and leaves the bytes, has
// them come before the end.
func TestPassingOnBeforeTheEnd(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	for name, pass := range map[string]func(t *testing.T, b, other *libevent.BufferEvent){
		"Pipe": func(t *testing.T, b, other *libevent.BufferEvent) { assert.NoError(t, libevent.Pipe(b, other, nil)) },
		"Handle": func(t *testing.T, b, other *libevent.BufferEvent) {
			assert.NoError(t, b.Handle(libevent.Handler{
				Read: func(b *libevent.BufferEvent) {
					assert.NotZero(t, b.Input().Len())
					assert.NoError(t, other.WriteBuffer(b.Input()))
				},
				End: func(b *libevent.BufferEvent) {
					assert.NoError(t, other.FreeAfterFlush(testutil.Patience))
					b.Free()
				},
			}))
		},
		"watermark": func(t *testing.T, b, other *libevent.BufferEvent) {
			assert.NoError(t, b.SetWatermark(rd, 100, 0))
			assert.NoError(t, b.Handle(libevent.Handler{
				Read: func(b *libevent.BufferEvent) { assert.Fail(t, "too little has come") },
				End: func(b *libevent.BufferEvent) {
					assert.NoError(t, other.WriteBuffer(b.Input()))
					assert.NoError(t, other.FreeAfterFlush(testutil.Patience))
					b.Free()
				},
			}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := newLoop(t)
			fd, socket := testutil.TCPPair(t)
			other, far := testutil.NewSocket(t, base, 0)
			conn := newConn(t, ctx, base, fd, true)
			require.NoError(t, conn.Handle(libevent.Handler{Read: func(b *libevent.BufferEvent) { pass(t, b, other) }}))
			cork := &corked{Conn: socket}
			peer := tls.Client(cork, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
			require.NoError(t, peer.Handshake())
			cork.cork()
			_, err := peer.Write([]byte("hello"))
			require.NoError(t, err)
			require.NoError(t, peer.CloseWrite())
			require.NoError(t, cork.uncork())
			got, err := io.ReadAll(far)
			require.NoError(t, err)
			assert.Equal(t, "hello", string(got))
			conn.Free()
		})
	}
}
