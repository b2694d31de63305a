// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// stacks are the ways in which bufferevents can carry TLS and be carried by it. Each returns the
// topmost bufferevent.
var stacks = map[string]func(t *testing.T, ctx *openssl.Context, base *libevent.Base, fd int, opts libevent.Options) *libevent.BufferEvent{
	"TLS": func(t *testing.T, ctx *openssl.Context, base *libevent.Base, fd int, opts libevent.Options) *libevent.BufferEvent {
		conn, err := ctx.NewSocket(base, fd, opts)
		require.NoError(t, err)
		return conn.BufferEvent
	},
	"TLS on a socket": func(t *testing.T, ctx *openssl.Context, base *libevent.Base, fd int, opts libevent.Options) *libevent.BufferEvent {
		return tlsOn(t, ctx, socketOf(t, base, fd, opts))
	},
	"TLS on a filter": func(t *testing.T, ctx *openssl.Context, base *libevent.Base, fd int, opts libevent.Options) *libevent.BufferEvent {
		return tlsOn(t, ctx, passing(t, socketOf(t, base, fd, opts)))
	},
	"a filter on TLS": func(t *testing.T, ctx *openssl.Context, base *libevent.Base, fd int, opts libevent.Options) *libevent.BufferEvent {
		conn, err := ctx.NewSocket(base, fd, opts)
		require.NoError(t, err)
		return passing(t, conn.BufferEvent)
	},
	"a filter on TLS on a socket": func(t *testing.T, ctx *openssl.Context, base *libevent.Base, fd int, opts libevent.Options) *libevent.BufferEvent {
		return passing(t, tlsOn(t, ctx, socketOf(t, base, fd, opts)))
	},
}

func socketOf(t *testing.T, base *libevent.Base, fd int, opts libevent.Options) *libevent.BufferEvent {
	b, err := base.NewSocket(fd, opts)
	require.NoError(t, err)
	return b
}

func tlsOn(t *testing.T, ctx *openssl.Context, under *libevent.BufferEvent) *libevent.BufferEvent {
	conn, err := ctx.NewFilter(under, libevent.OptCloseOnFree)
	require.NoError(t, err)
	return conn.BufferEvent
}

func passing(t *testing.T, under *libevent.BufferEvent) *libevent.BufferEvent {
	return testutil.NewFilter(t, under, pass, pass, libevent.OptCloseOnFree)
}

// A reset is ECONNRESET, and no end of a stream, whatever the connection was doing.
func TestResetOfAStack(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	for name, stack := range stacks {
		for _, plain := range []bool{false, true} {
			opts := libevent.Options(libevent.OptCloseOnFree)
			if plain {
				opts |= libevent.OptPlainIO
			}
			for when, do := range resets {
				t.Run(name+", "+when+map[bool]string{true: ", plain"}[plain], func(t *testing.T) {
					base := newLoop(t)
					fd, socket := testutil.TCPPair(t)
					b := stack(t, ctx, base, fd, opts)
					defer b.Free()
					r := &resetting{t: t, b: b, socket: socket, events: make(chan told, 100)}
					r.peer = tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
					require.NoError(t, b.SetCallbacks(testutil.Mirror, nil, func(b *libevent.BufferEvent, what libevent.Events) {
						r.events <- told{what, b.Err()}
					}))
					require.NoError(t, b.Enable(rd|wr))
					do(r)
					what := testutil.Receive(t, r.events)
					assert.NotZero(t, what.what&libevent.EventError, "%v", what)
					assert.Zero(t, what.what&libevent.EventEOF, "%v", what)
					assert.ErrorIs(t, what.err, syscall.ECONNRESET)
					testutil.OnLoop(t, base, func() {})
					assert.Empty(t, r.events)
				})
			}
		}
	}
}

// resetting is a connection with a peer that is going to reset it.
type resetting struct {
	t      *testing.T
	b      *libevent.BufferEvent
	events chan told
	socket *net.TCPConn
	peer   *tls.Conn
}

func (r *resetting) reset() {
	assert.NoError(r.t, r.socket.SetLinger(0))
	assert.NoError(r.t, r.socket.Close())
}

func (r *resetting) handshake() {
	require.NoError(r.t, r.peer.Handshake())
	require.Equal(r.t, connected, testutil.Receive(r.t, r.events))
	_, err := r.peer.Write([]byte("x"))
	require.NoError(r.t, err)
	_, err = io.ReadFull(r.peer, make([]byte, 1)) // and the session tickets
	require.NoError(r.t, err)
}

var resets = map[string]func(r *resetting){
	"before the handshake": func(r *resetting) { r.reset() },
	"in the handshake": func(r *resetting) {
		_, err := r.socket.Write(hello(r.t))
		require.NoError(r.t, err)
		_, err = r.socket.Read(make([]byte, 1))
		require.NoError(r.t, err)
		r.reset()
	},
	"at rest": func(r *resetting) {
		r.handshake()
		r.reset()
	},
	"after data": func(r *resetting) {
		r.handshake()
		testutil.OnLoop(r.t, r.b.Base(), func() { // the loop sees both at once
			_, err := r.peer.Write(testutil.Noise(10_000))
			assert.NoError(r.t, err)
			r.reset()
		})
	},
	"after a part of a record": func(r *resetting) {
		r.handshake()
		testutil.OnLoop(r.t, r.b.Base(), func() {
			_, err := r.socket.Write([]byte{23, 3, 3, 0})
			assert.NoError(r.t, err)
			r.reset()
		})
	},
	"with output": func(r *resetting) {
		r.handshake()
		_, err := r.b.Write(make([]byte, 32<<20)) // more than the socket takes
		require.NoError(r.t, err)
		_, err = r.socket.Read(make([]byte, 1))
		require.NoError(r.t, err)
		r.reset()
	},
	"with output that is refused": func(r *resetting) {
		r.handshake()
		testutil.OnLoop(r.t, r.b.Base(), func() { // the write comes first
			r.reset()
			_, err := r.b.WriteString("x")
			assert.NoError(r.t, err)
		})
	},
}
