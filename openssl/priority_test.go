// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// stopping is the socket of a peer that sends some bytes of its handshake, or of what comes after
// it, and then ends the connection.
type stopping struct {
	*net.TCPConn
	left int
	end  func(*net.TCPConn)
}

func (s *stopping) Write(p []byte) (int, error) {
	if len(p) < s.left {
		s.left -= len(p)
		return s.TCPConn.Write(p)
	}
	if s.end != nil {
		_, _ = s.TCPConn.Write(p[:s.left])
		s.end(s.TCPConn)
		s.end = nil
	}
	return 0, io.ErrClosedPipe
}

// run is the handshake of a peer, and then all that the other end takes. It does not read.
func (s *stopping) run(peer *tls.Conn) {
	err := peer.Handshake()
	for p := make([]byte, 10_000); err == nil; {
		_, err = peer.Write(p)
	}
}

var waysToEnd = map[string]func(*net.TCPConn){
	"close": func(peer *net.TCPConn) { _ = peer.Close() },
	"reset": func(peer *net.TCPConn) { _ = peer.SetLinger(0); _ = peer.Close() },
	"cut":   func(peer *net.TCPConn) { _ = peer.CloseWrite() },
	"garbage": func(peer *net.TCPConn) {
		_, _ = peer.Write(make([]byte, 1000))
		_ = peer.Close()
	},
}

var waysToLimit = map[string]func(*libevent.BufferEvent) error{
	"no limit": func(*libevent.BufferEvent) error { return nil },
	"rate limit": func(b *libevent.BufferEvent) error {
		return b.SetRateLimit(&libevent.RateLimit{ReadRate: 16 << 10, WriteRate: 16 << 10, Tick: 5 * time.Millisecond})
	},
	"single limit": func(b *libevent.BufferEvent) error {
		if err := b.SetMaxSingleRead(2000); err != nil {
			return err
		}
		return b.SetMaxSingleWrite(2000)
	},
}

// lowest runs the loop until it has called an event of the lowest priority many times. libevent
// calls that event only in turns in which nothing of a higher priority is due.
func lowest(t *testing.T, base *libevent.Base) {
	t.Helper()
	left := 20
	var timer *libevent.Event
	timer, err := base.NewTimer(func() {
		if left--; left == 0 {
			assert.NoError(t, base.LoopBreak())
			return
		}
		assert.NoError(t, timer.Add(0))
	})
	require.NoError(t, err)
	defer timer.Free()
	require.NoError(t, timer.SetPriority(base.Priorities()-1))
	require.NoError(t, timer.Add(0))
	testutil.Dispatch(t, base)
	assert.Zero(t, left)
}

// Whenever and however a peer ends a connection of the highest priority, events of lower priorities
// are still called, also if the connection is enabled again and has output.
func TestPriorityOfABrokenConnection(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	accepting := &openssl.Config{Certificates: []tls.Certificate{cert}, HandshakeTimeout: -1}
	connecting := &openssl.Config{ServerName: "example.test", RootCAs: ca.pool(), HandshakeTimeout: -1}
	for limit, setLimit := range waysToLimit {
		for end, endIt := range waysToEnd {
			for _, mode := range []string{"fast", "plain", "filter"} {
				t.Run(limit+" "+end+" "+mode, func(t *testing.T) {
					for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
						accepting.MaxVersion, connecting.MaxVersion = version, version
						for i, ctx := range []*openssl.Context{server(t, accepting), client(t, connecting)} {
							for _, left := range []int{0, 3, 100, 200, 700, 100_000} {
								b := broken{t: t, ctx: ctx, mode: mode, limit: setLimit, peer: &stopping{left: left, end: endIt}}
								if i == 0 {
									b.handshake = tls.Client(b.peer, &tls.Config{ServerName: "example.test", RootCAs: ca.pool()})
								} else {
									b.handshake = tls.Server(b.peer, &tls.Config{Certificates: []tls.Certificate{cert}})
								}
								b.run()
								require.False(t, t.Failed(), "%s, server %t, after %d bytes", tls.VersionName(version), i == 0, left)
							}
						}
					}
				})
			}
		}
	}
}

// broken is a connection that its peer ends.
type broken struct {
	t         *testing.T
	ctx       *openssl.Context
	mode      string
	limit     func(*libevent.BufferEvent) error
	peer      *stopping
	handshake *tls.Conn
}

func (b *broken) run() {
	t := b.t
	base, err := libevent.NewBaseConfig(libevent.Config{PlainIO: testutil.PlainIO || b.mode == "plain", Priorities: 3})
	require.NoError(t, err)
	defer func() { assert.NoError(t, base.Free()) }()
	var fd int
	fd, b.peer.TCPConn = testutil.TCPPair(t)
	defer b.peer.Close()
	conn := newConn(t, b.ctx, base, fd, b.mode == "filter")
	defer conn.Free()
	socket := conn.BufferEvent
	if b.mode == "filter" {
		socket = conn.Underlying()
	}
	require.NoError(t, socket.SetPriority(0))
	require.NoError(t, b.limit(socket))
	_, err = conn.Write(make([]byte, 300_000))
	require.NoError(t, err)
	ended := false // the end of reading may follow a failed write
	require.NoError(t, conn.SetCallbacks(testutil.Mirror, nil, func(_ *libevent.BufferEvent, what libevent.Events) {
		if what != libevent.EventConnected && !ended {
			ended = true
			assert.NoError(t, base.LoopBreak())
		}
	}))
	require.NoError(t, conn.Enable(rd|wr))
	go b.peer.run(b.handshake)
	testutil.Dispatch(t, base)
	for range 3 {
		require.NoError(t, conn.Enable(rd|wr))
		lowest(t, base)
	}
}
