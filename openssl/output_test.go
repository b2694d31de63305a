// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// writers calls test with a server whose handshake is done, in all modes.
func writers(t *testing.T, test func(t *testing.T, conn *openssl.Conn, peer *tls.Conn)) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	for _, mode := range []string{"fast", "plain", "filter"} {
		t.Run(mode, func(t *testing.T) {
			fd, socket := testutil.TCPPair(t)
			conn := connIn(t, ctx, newLoop(t), fd, mode)
			_, events := watch(t, conn)
			peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
			require.NoError(t, peer.Handshake())
			require.Equal(t, connected, testutil.Receive(t, events))
			test(t, conn, peer)
			assert.Empty(t, events)
			conn.Free()
		})
	}
}

func reads(t *testing.T, peer *tls.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	_, err := io.ReadFull(peer, got)
	require.NoError(t, err)
	assert.True(t, want == string(got), "the peer gets what was written")
}

// What OpenSSL has begun to write cannot be taken back, nor can anything be put before it. Afterwards OpenSSL would
// write something else in the middle of a record.
func TestOutputThatIsBeingWritten(t *testing.T) {
	writers(t, func(t *testing.T, conn *openssl.Conn, peer *tls.Conn) {
		first, second := "a line\n"+strings.Repeat("a", 10_000_000), strings.Repeat("b", 200_000)
		if under := conn.Underlying(); under != nil { // libevent writes 64 KiB with one SSL_write, and has room for a part
			require.NoError(t, under.SetWatermark(libevent.EvWrite, 0, 30000))
			require.NoError(t, under.Disable(libevent.EvWrite))
			first = first[:1<<16]
		}
		_, err := conn.WriteString(first)
		require.NoError(t, err)
		takesNoMore(t, conn.BufferEvent)
		out := conn.Output()
		assert.ErrorIs(t, out.Drain(out.Len()), libevent.ErrFrozen)
		assert.ErrorIs(t, out.Prepend([]byte("x")), libevent.ErrFrozen)
		assert.ErrorIs(t, testutil.NewBuffer(t, "").AddBuffer(out), libevent.ErrFrozen)
		_, err = out.RemoveBuffer(testutil.NewBuffer(t, ""), 1)
		assert.ErrorIs(t, err, libevent.ErrFrozen)
		_, found := out.ReadLine(libevent.EOLAny)
		assert.False(t, found)
		_, err = out.Read(make([]byte, 1))
		assert.ErrorIs(t, err, libevent.ErrFrozen)
		require.NoError(t, out.Unfreeze(true))
		testutil.OnLoop(t, conn.Base(), func() { assert.NoError(t, out.Peek(func([][]byte) {})) })
		assert.ErrorIs(t, out.Drain(1), libevent.ErrFrozen)
		_, err = conn.WriteString(second)
		require.NoError(t, err)
		if under := conn.Underlying(); under != nil {
			require.NoError(t, under.Enable(libevent.EvWrite))
		}
		reads(t, peer, first+second)
	})
}

// A front that the user freezes is written all the same, and once.
func TestOutputThatTheUserFreezes(t *testing.T) {
	writers(t, func(t *testing.T, conn *openssl.Conn, peer *tls.Conn) {
		require.NoError(t, conn.Output().Freeze(true))
		for range 3 {
			for _, s := range []string{"hello", strings.Repeat("x", 100_000)} {
				_, err := conn.WriteString(s)
				require.NoError(t, err)
				reads(t, peer, s)
			}
		}
	})
}

// A short record waits, and what is written meanwhile comes into the same chain. Then the next record waits.
func TestOutputThatGrowsWhileItIsBeingWritten(t *testing.T) {
	writers(t, func(t *testing.T, conn *openssl.Conn, peer *tls.Conn) {
		under := conn.Underlying()
		if under == nil {
			return
		}
		room := func(n int) { require.NoError(t, under.SetWatermark(libevent.EvWrite, 0, n)) }
		room(100)
		require.NoError(t, under.Disable(libevent.EvWrite))
		first, second, third := strings.Repeat("a", 200), strings.Repeat("b", 100_000), strings.Repeat("c", 10)
		_, err := conn.WriteString(first)
		require.NoError(t, err)
		_, err = conn.WriteString(second)
		require.NoError(t, err)
		room(5000)
		require.NoError(t, conn.Disable(libevent.EvWrite))
		require.NoError(t, conn.Enable(libevent.EvWrite))
		takesNoMore(t, conn.BufferEvent)
		assert.Equal(t, 5000, under.Output().Len())
		assert.ErrorIs(t, conn.Output().Drain(conn.Output().Len()), libevent.ErrFrozen)
		_, err = conn.WriteString(third)
		require.NoError(t, err)
		require.NoError(t, under.Enable(libevent.EvWrite))
		reads(t, peer, first+second+third)
	})
}

// The socket takes parts of records, of what a read closure writes and of what another goroutine does.
func TestSocketTakesParts(t *testing.T) {
	for _, how := range []string{"moves", "copies"} {
		t.Run(how, func(t *testing.T) {
			ca := newAuthority(t)
			ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
			fd, socket := testutil.Socketpair(t)
			require.NoError(t, syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 9000))
			conn := newSocket(t, ctx, newLoop(t), fd)
			p := make([]byte, 32<<10)
			require.NoError(t, conn.SetCallbacks(func(b *libevent.BufferEvent) {
				if how == "moves" {
					assert.NoError(t, b.WriteBuffer(b.Input()))
					return
				}
				n, err := b.Read(p)
				assert.NoError(t, err)
				for part := p[:n]; len(part) > 0; part = part[min(len(part), 5000):] {
					_, err = b.Write(part[:min(len(part), 5000)])
					assert.NoError(t, err)
				}
			}, nil, nil))
			require.NoError(t, conn.Enable(rd))
			peer := tls.Client(fileConn(t, socket), &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
			require.NoError(t, peer.Handshake())
			noise := testutil.Noise(30 << 10)
			for range 200 {
				testutil.OnLoop(t, conn.Base(), func() { // so that all is read at once
					_, err := peer.Write(noise)
					assert.NoError(t, err)
				})
				reads(t, peer, string(noise))
				go func() { _, _ = conn.Write(noise) }()
				reads(t, peer, string(noise))
			}
			if !testutil.PlainIO {
				assert.Greater(t, conn.Base().Stats().FastSpills, uint64(100), "writes of which the socket took a part")
			}
		})
	}
}
