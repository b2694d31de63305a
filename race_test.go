// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// What a goroutine did before it wrote a byte happens before what follows reading that byte,
// also when the other end of the connection is package net's. The race detector proves it.
func TestBytesOrderGoroutines(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		stop := testutil.Background(t, base)
		defer stop()
		for name, write := range map[string]func(*libevent.BufferEvent, *libevent.Buffer) error{
			"Write":  func(b *libevent.BufferEvent, _ *libevent.Buffer) error { _, err := b.Write([]byte("x")); return err },
			"Output": func(b *libevent.BufferEvent, _ *libevent.Buffer) error { return b.Output().Add([]byte("x")) },
			"WriteBuffer": func(b *libevent.BufferEvent, chunk *libevent.Buffer) error {
				if err := chunk.Add([]byte("x")); err != nil {
					return err
				}
				return b.WriteBuffer(chunk)
			},
		} {
			t.Run(name, func(t *testing.T) {
				bev, peer := testutil.NewSocket(t, base, 0)
				chunk := testutil.NewBuffer(t, "")
				ball := 0
				done := make(chan struct{})
				require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
					ball++
					assert.NoError(t, b.Input().Drain(b.Input().Len()))
					assert.NoError(t, write(b, chunk))
				}, nil, nil))
				require.NoError(t, bev.Enable(libevent.EvRead))
				go func(peer net.Conn) {
					defer close(done)
					for range 20 {
						ball++
						_, err := peer.Write([]byte("x"))
						assert.NoError(t, err)
						_, err = peer.Read(make([]byte, 1))
						assert.NoError(t, err)
					}
				}(peer)
				testutil.Receive(t, done)
				assert.Equal(t, 40, ball)
			})
		}
	})
}
