// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/evnet"
)

// Connections and listeners work in a bubble of package synctest, made there or outside, while
// the loop runs outside of the bubble or in it.
func TestBubble(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, n netLike, s *story){
		"echo": func(t *testing.T, n netLike, s *story) {
			client, server := n.connect(t, "tcp", "127.0.0.1:0")
			go func() { _, _ = io.Copy(server, server) }()
			const size = 1 << 20
			go func() {
				_, err := client.Write(make([]byte, size))
				assert.NoError(t, err)
			}()
			got, err := io.ReadFull(client, make([]byte, size))
			s.err("read", err)
			s.tell("%d bytes", got)
			s.err("close", client.Close())
		},
		"close": func(t *testing.T, n netLike, s *story) {
			client, _ := n.connect(t, "tcp", "127.0.0.1:0")
			read := async(func() (int, error) { return client.Read(make([]byte, 1)) })
			s.err("close", client.Close())
			s.err("read", (<-read).err)
		},
		"deadline": func(t *testing.T, n netLike, s *story) {
			client, _ := n.connect(t, "tcp", "127.0.0.1:0")
			for range 3 { // of the real clock, as the bubble's stands still meanwhile
				require.NoError(t, client.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
				_, err := client.Read(make([]byte, 1))
				s.err("read", err)
			}
			require.NoError(t, client.SetReadDeadline(time.Now().Add(time.Hour)))
			require.NoError(t, client.SetReadDeadline(time.Time{}))
			require.NoError(t, client.SetReadDeadline(time.Now().Add(-1)))
			_, err := client.Read(make([]byte, 1))
			s.err("read", err)
		},
		"accept": func(t *testing.T, n netLike, s *story) {
			l, err := n.listen(&net.ListenConfig{}, "tcp", "127.0.0.1:0")
			require.NoError(t, err)
			d := l.(interface{ SetDeadline(time.Time) error })
			require.NoError(t, d.SetDeadline(time.Now().Add(10*time.Millisecond)))
			_, err = l.Accept()
			s.err("accept", err)
			require.NoError(t, d.SetDeadline(time.Time{}))
			accept := async(l.Accept)
			s.err("close", l.Close())
			s.err("accept", (<-accept).err)
		},
		"flush": func(t *testing.T, n netLike, s *story) {
			client, server := n.connect(t, "tcp", "127.0.0.1:0")
			wrote := async(func() (int, error) {
				defer client.Close()
				return client.Write(make([]byte, 8<<20))
			})
			got, err := io.Copy(io.Discard, server)
			s.err("read", err)
			s.tell("%d bytes", got)
			s.err("write", (<-wrote).err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			likeNet(t, func(t *testing.T, n netLike, s *story) {
				synctest.Test(t, func(t *testing.T) { test(t, n, s) })
			})
		})
	}
}

// The loop's goroutine may be in the bubble, too.
func TestLoopInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, err := libevent.NewBase()
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		done := async(func() (struct{}, error) { return struct{}{}, base.Run(ctx) })
		n := onLoop(base)
		client, server := n.connect(t, "tcp", "127.0.0.1:0")
		_, err = client.Write([]byte("x"))
		require.NoError(t, err)
		_, err = io.ReadFull(server, make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, server.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
		_, err = server.Read(make([]byte, 1))
		assert.True(t, timedOut(err), "%v", err)
		assert.NoError(t, client.Close())
		assert.NoError(t, server.Close())
		stop()
		assert.ErrorIs(t, (<-done).err, context.Canceled)
		assert.NoError(t, base.Free())
	})
}

// A connection that was made outside of a bubble may be used in one, and the other way round.
func TestIntoABubbleAndOut(t *testing.T) {
	base := running(t)
	a, b := tcpPair(t, base)
	require.NoError(t, a.SetReadDeadline(time.Now().Add(time.Hour)))
	var inside *evnet.Conn
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, a.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
		_, err := a.Read(make([]byte, 1))
		assert.True(t, timedOut(err), "%v", err)
		inside = b
		require.NoError(t, inside.SetReadDeadline(time.Now().Add(time.Hour)))
	})
	require.NoError(t, inside.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	_, err := inside.Read(make([]byte, 1))
	assert.True(t, timedOut(err), "%v", err)
}
