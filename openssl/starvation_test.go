package openssl_test

import (
	"bytes"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// In these tests one peer sends or takes as much as it can, and the test looks at how much of
// that the loop does in one turn.

// offender is a connection of a server, and its peer, a client of crypto/tls.
type offender struct {
	base   *libevent.Base
	conn   *openssl.Conn
	peer   *tls.Conn
	socket *net.TCPConn // of the peer
}

// modes runs a test with the fast path, without it, and with TLS as a filter.
func modes(t *testing.T, cfg *tls.Config, test func(t *testing.T, o *offender)) {
	t.Helper()
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{
		Certificates: []tls.Certificate{ca.issue(t, "example.test")},
		CipherSuites: "TLS_AES_128_GCM_SHA256",
	})
	for _, mode := range []string{"fast", "plain", "filter"} {
		t.Run(mode, func(t *testing.T) {
			o := &offender{base: testutil.NewBase(t)}
			fd, socket := testutil.TCPPair(t)
			opts := libevent.Options(libevent.OptCloseOnFree)
			if mode == "plain" {
				opts |= libevent.OptPlainIO
			}
			var err error
			if mode == "filter" {
				under, err := o.base.NewSocket(fd, opts)
				require.NoError(t, err)
				o.conn, err = ctx.NewFilter(under, opts)
				require.NoError(t, err)
			} else {
				o.conn, err = ctx.NewSocket(o.base, fd, opts)
				require.NoError(t, err)
			}
			client := cfg.Clone()
			client.ServerName, client.RootCAs = "example.test", ca.pool()
			o.socket, o.peer = socket, tls.Client(socket, client)
			test(t, o)
			o.conn.Free()
			require.NoError(t, o.socket.Close())
		})
	}
}

// shake does the handshake and then calls fn on a goroutine of the peer.
func (o *offender) shake(t *testing.T, fn func()) {
	go func() {
		if assert.NoError(t, o.peer.Handshake()) {
			fn()
		}
	}()
}

// flood sends as much as the server takes, in pieces of n bytes.
func (o *offender) flood(n int) {
	p := make([]byte, n)
	for {
		if _, err := o.peer.Write(p); err != nil {
			return
		}
	}
}

func TestStarveByInput(t *testing.T) {
	modes(t, &tls.Config{}, func(t *testing.T, o *offender) {
		turns := testutil.CountTurns(o.base, 512<<10)
		require.NoError(t, o.conn.SetCallbacks(func(b *libevent.BufferEvent) {
			turns.Did(b.Input().Len())
			assert.NoError(t, b.Input().Drain(b.Input().Len()))
		}, nil, nil))
		require.NoError(t, o.conn.Enable(rd))
		o.shake(t, func() { o.flood(64 << 10) })
		turns.Run(t)
	})
}

// The peer is faster than the closure, so that there is always more to read.
func TestStarveBySlowClosure(t *testing.T) {
	modes(t, &tls.Config{}, func(t *testing.T, o *offender) {
		turns := testutil.CountTurns(o.base, 100)
		require.NoError(t, o.conn.SetCallbacks(func(b *libevent.BufferEvent) {
			turns.Did(1)
			time.Sleep(time.Millisecond / 2) // sleep: the closure is slow
			assert.NoError(t, b.Input().Drain(b.Input().Len()))
		}, nil, nil))
		require.NoError(t, o.conn.Enable(rd))
		o.shake(t, func() { o.flood(64 << 10) })
		turns.Run(t)
	})
}

// OpenSSL has more than the high mark lets in.
func TestStarveAtTheHighMark(t *testing.T) {
	modes(t, &tls.Config{}, func(t *testing.T, o *offender) {
		turns := testutil.CountTurns(o.base, 100)
		require.NoError(t, o.conn.SetWatermark(rd, 0, 100))
		require.NoError(t, o.conn.SetCallbacks(func(b *libevent.BufferEvent) {
			turns.Did(1)
			assert.NoError(t, b.Input().Drain(b.Input().Len()))
		}, nil, nil))
		require.NoError(t, o.conn.Enable(rd))
		o.shake(t, func() { o.flood(64 << 10) })
		turns.Run(t)
	})
}
