// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// The handshake waits for SetCallbacks or Enable, also while a filter is put on the connection.
// libevent enables the connection then for a moment, and the loop may run meanwhile.
func TestFilterDoesNotStartTheHandshake(t *testing.T) {
	base := newLoop(t)
	ctx := client(t, &openssl.Config{InsecureSkipVerify: true})
	spin := func() {}
	stop := make(chan struct{})
	spin = func() {
		select {
		case <-stop:
		default:
			assert.NoError(t, base.Post(spin))
		}
	}
	require.NoError(t, base.Post(spin)) // so that the loop polls all the time
	defer close(stop)
	fd, peer := testutil.Socketpair(t)
	require.NoError(t, syscall.SetNonblock(peer, true))
	conn := newSocket(t, ctx, base, fd)
	for range 5000 {
		filter, err := libevent.NewFilter(conn.BufferEvent, pass, pass, 0)
		require.NoError(t, err)
		filter.Free()
		_, err = syscall.Read(peer, make([]byte, 1))
		require.Equal(t, syscall.EAGAIN, err, "no byte of a handshake has come")
		testutil.OnLoop(t, base, func() {}) // the filter is gone
	}
	conn.Free()
	require.NoError(t, syscall.Close(peer))
}
