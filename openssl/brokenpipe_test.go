// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// A write fails because the peer has closed the connection. What the peer had sent before is still read,
// and then the end, whatever it is.
func TestReadingGoesOnAfterAFailedWrite(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	for _, way := range []string{"fast", "plain", "filter"} {
		for _, orderly := range []bool{true, false} {
			t.Run(fmt.Sprint(way, " ", orderly), func(t *testing.T) {
				base, err := libevent.NewBaseConfig(libevent.Config{PlainIO: testutil.PlainIO || way == "plain"})
				require.NoError(t, err)
				t.Cleanup(func() { assert.NoError(t, base.Free()) })
				testutil.Background(t, base)
				fd, other := testutil.Socketpair(t)
				conn := newConn(t, ctx, base, fd, way == "filter")
				defer conn.Free()
				require.NoError(t, conn.SetWatermark(rd, 0, 5)) // the input is full until the write has failed
				input, events := make(chan []byte, 1), make(chan told, 10)
				full := make(chan struct{}, 10)
				require.NoError(t, conn.SetCallbacks(func(*libevent.BufferEvent) { full <- struct{}{} }, nil,
					func(b *libevent.BufferEvent, what libevent.Events) {
						events <- told{what, b.Err()}
						if what&libevent.EventReading != 0 {
							p, err := io.ReadAll(b.Input())
							assert.NoError(t, err)
							input <- p
						}
					}))
				require.NoError(t, conn.Enable(rd))
				socket := fileConn(t, other)
				// With TLS 1.3 there would be tickets, and a unix socket that is closed with bytes unread is reset.
				peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", MaxVersion: tls.VersionTLS12})
				want := testutil.Noise(60_000)
				_, err = peer.Write(want)
				require.NoError(t, err)
				assert.Equal(t, connected, testutil.Receive(t, events))
				testutil.Receive(t, full)
				if orderly {
					require.NoError(t, peer.Close())
				} else {
					require.NoError(t, socket.Close())
				}

				_, err = conn.WriteString("too late")
				require.NoError(t, err)
				failed := testutil.Receive(t, events)
				assert.Equal(t, libevent.EventWriting|libevent.EventError, failed.what)
				assert.ErrorIs(t, failed.err, syscall.EPIPE)
				assert.Equal(t, rd, conn.Enabled())
				require.NoError(t, conn.SetWatermark(rd, 0, 0))
				end := testutil.Receive(t, events)
				testutil.Same(t, want, testutil.Receive(t, input))
				if orderly {
					assert.Equal(t, endOfFile, end)
				} else {
					assert.Equal(t, cutOff, end)
				}
			})
		}
	}
}
