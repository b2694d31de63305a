// SPDX-License-Identifier: BSD-3-Clause

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
	cfg    *tls.Config  // of the peer
}

// modes runs a test with the fast path, without it, and with TLS as a filter.
func modes(t *testing.T, cfg *tls.Config, test func(t *testing.T, o *offender)) {
	t.Helper()
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{
		Certificates: []tls.Certificate{ca.issue(t, "example.test")},
		CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256},
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
			o.socket, o.peer, o.cfg = socket, tls.Client(socket, client), client
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

// Where libevent reads, at most a record gets past the high mark, and on a filter also what the socket
// below has read in one turn.
func TestInputPastTheHighMark(t *testing.T) {
	const mark, record, turn = 100, 16384, 4096
	modes(t, &tls.Config{}, func(t *testing.T, o *offender) {
		left := 200
		require.NoError(t, o.conn.SetWatermark(rd, 0, mark))
		require.NoError(t, o.conn.SetCallbacks(func(b *libevent.BufferEvent) {
			n := b.Input().Len()
			if left--; left == 0 || !assert.LessOrEqual(t, n, mark+record+turn) {
				assert.NoError(t, o.base.LoopBreak())
			}
			assert.NoError(t, b.Input().Drain(n))
		}, nil, nil))
		require.NoError(t, o.conn.Enable(rd))
		o.shake(t, func() { o.flood(64 << 10) })
		testutil.Dispatch(t, o.base)
		assert.Zero(t, left)
	})
}

// A record costs the same, however few bytes it has.
func TestStarveBySmallRecords(t *testing.T) {
	modes(t, &tls.Config{}, func(t *testing.T, o *offender) {
		turns := testutil.CountTurns(o.base, 400)
		require.NoError(t, o.conn.SetCallbacks(func(b *libevent.BufferEvent) {
			turns.Did(b.Input().Len())
			assert.NoError(t, b.Input().Drain(b.Input().Len()))
		}, nil, nil))
		o.shake(t, func() {
			// A filter takes little at a time from the socket below. Else many are in the
			// socket when the server starts to read.
			for range 4000 {
				if o.conn.Underlying() == nil {
					_, err := o.peer.Write([]byte("x"))
					assert.NoError(t, err)
				}
			}
			assert.NoError(t, o.conn.Enable(rd))
			o.flood(1)
		})
		turns.Run(t)
	})
}

func TestStarveByOutput(t *testing.T) {
	const much = 64 << 20
	modes(t, &tls.Config{}, func(t *testing.T, o *offender) {
		if o.conn.Underlying() != nil {
			t.Skip("the socket below is a socket like any other")
		}
		turns := testutil.CountTurns(o.base, 2<<20)
		opened := false
		require.NoError(t, o.conn.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, what libevent.Events) {
			opened = opened || what == libevent.EventConnected
		}))
		had, piece := 0, make([]byte, 16<<10)
		turns.Each = func() {
			left := o.conn.Output().Len()
			turns.Did(had - left)
			if had = left; left == 0 && opened {
				for ; had < much; had += len(piece) { // OpenSSL has a record for each
					assert.NoError(t, o.conn.Output().AddReference(piece, nil))
				}
			}
		}
		o.shake(t, func() {
			p := make([]byte, 64<<10)
			for { // what it reads stays encrypted, which is quicker
				if _, err := o.socket.Read(p); err != nil {
					return
				}
			}
		})
		turns.Run(t)
	})
}

// KeyUpdates have no data, and OpenSSL reads on. All are in the socket when the server starts
// to read, and it needs many turns for them.
func TestStarveByKeyUpdates(t *testing.T) {
	const n, most = 3000, 250
	var keyLog bytes.Buffer
	cfg := &tls.Config{KeyLogWriter: &keyLog, MinVersion: tls.VersionTLS13}
	modes(t, cfg, func(t *testing.T, o *offender) {
		keyLog.Reset()
		seen, got := 0, 0
		turns := testutil.CountTurns(o.base, 1)
		turns.Each = func() { seen++ }
		require.NoError(t, o.conn.SetCallbacks(func(b *libevent.BufferEvent) {
			got += b.Input().Len()
			assert.NoError(t, b.Input().Drain(b.Input().Len()))
			if got < n/10 {
				return
			}
			assert.GreaterOrEqual(t, seen, n/most, "turns")
			turns.Did(1)
			assert.NoError(t, o.base.LoopBreak())
		}, nil, nil))
		o.shake(t, func() {
			if o.conn.Underlying() != nil { // it takes little at a time from the socket below
				assert.NoError(t, o.conn.Enable(rd))
			}
			// More of them in a row would end the connection.
			records, all := newRecords(t, keyLog.String()), []byte{}
			for range n / 10 {
				for range 10 {
					all = append(all, records.keyUpdate(false)...)
				}
				all = append(all, records.data("x")...)
			}
			_, err := o.socket.Write(all)
			assert.NoError(t, err)
			assert.NoError(t, o.base.Post(func() {
				if o.conn.Underlying() == nil {
					seen = 0
				}
				assert.NoError(t, o.conn.Enable(rd))
			}))
		})
		turns.Run(t)
	})
}
