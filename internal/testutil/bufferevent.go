// SPDX-License-Identifier: BSD-3-Clause

package testutil

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
)

// NewSocket makes a bufferevent on one end of a TCP connection. The other end is peer.
func NewSocket(t testing.TB, base *libevent.Base, opts libevent.Options) (bev *libevent.BufferEvent, peer *net.TCPConn) {
	t.Helper()
	fd, peer := TCPPair(t)
	bev, err := base.NewSocket(fd, opts|libevent.OptCloseOnFree)
	require.NoError(t, err)
	return bev, peer
}

// NewUnixSocket makes a bufferevent on a socket that takes much at once. The other end is
// the descriptor peer, which the caller closes.
func NewUnixSocket(t testing.TB, base *libevent.Base) (bev *libevent.BufferEvent, peer int) {
	t.Helper()
	fd, peer := Socketpair(t)
	bev, err := base.NewSocket(fd, libevent.OptCloseOnFree)
	require.NoError(t, err)
	return bev, peer
}

// NewPair makes a pair of bufferevents without sockets.
func NewPair(t testing.TB, base *libevent.Base) (a, b *libevent.BufferEvent) {
	t.Helper()
	a, b, err := base.NewPair(0)
	require.NoError(t, err)
	return a, b
}

// NewFilter makes a filter on a bufferevent.
func NewFilter(t testing.TB, under *libevent.BufferEvent, in, out libevent.FilterFunc, opts libevent.Options) *libevent.BufferEvent {
	t.Helper()
	f, err := libevent.NewFilter(under, in, out, opts)
	require.NoError(t, err)
	return f
}

// Freed returns a channel that is closed when the memory of a bufferevent has been given back. A
// bufferevent takes another filter only after that of the filter on top.
func Freed(bev interface{ AfterFree(func()) func() bool }) <-chan struct{} {
	freed := make(chan struct{})
	bev.AfterFree(func() { close(freed) })
	return freed
}

// Happening runs the loop until the first event of a bufferevent and returns that event.
func Happening(t testing.TB, bev *libevent.BufferEvent) libevent.Events {
	t.Helper()
	var got libevent.Events
	require.NoError(t, bev.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
		assert.Zero(t, got, "one event")
		got = what
		assert.NoError(t, b.Base().LoopBreak())
	}))
	Dispatch(t, bev.Base())
	return got
}

// Mirror is a read closure that sends back what it reads.
func Mirror(b *libevent.BufferEvent) { _ = b.Output().AddBuffer(b.Input()) }
