// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"fmt"
	"net"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// wantEnds expects the two addresses of a connection, as the peer sees them.
func wantEnds(t *testing.T, bev *libevent.BufferEvent, peer net.Conn) {
	t.Helper()
	if assert.NotNil(t, bev.LocalAddr()) && assert.NotNil(t, bev.RemoteAddr()) {
		assert.Equal(t, peer.RemoteAddr().String(), bev.LocalAddr().String())
		assert.Equal(t, peer.LocalAddr().String(), bev.RemoteAddr().String())
	}
}

// The system forgets the address of the peer when the peer resets the connection.
func TestAddressesAfterAReset(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		wantEnds(t, bev, peer)
		require.NoError(t, bev.Enable(rd))
		require.NoError(t, peer.SetLinger(0))
		require.NoError(t, peer.Close())
		require.NoError(t, bev.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			assert.Equal(t, libevent.EventError|libevent.EventReading, what)
			wantEnds(t, b, peer)
			b.Free()
			assert.NoError(t, base.LoopBreak())
		}))
		testutil.Dispatch(t, base)
		wantEnds(t, bev, peer)
		assert.ErrorIs(t, bev.Err(), syscall.ECONNRESET)
		assert.Equal(t, fmt.Sprintf("read tcp %v->%v: connection reset by peer", peer.RemoteAddr(), peer.LocalAddr()), bev.Err().Error())
	})
}

func TestAddressesOfAFilter(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	filter := testutil.NewFilter(t, bev, nil, nil, libevent.OptCloseOnFree)
	wantEnds(t, filter, peer)
	filter.Free()
	wantEnds(t, filter, peer)
}

func TestAddressesWhileConnecting(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	base := testutil.NewBase(t)
	bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	assert.Nil(t, bev.RemoteAddr())
	assert.Nil(t, bev.LocalAddr())
	require.NoError(t, bev.Connect("tcp", ln.Addr().String()))
	assert.Equal(t, ln.Addr().String(), bev.RemoteAddr().String())
	require.Equal(t, libevent.EventConnected, testutil.Happening(t, bev))
	peer, err := ln.Accept()
	require.NoError(t, err)
	defer peer.Close()
	wantEnds(t, bev, peer)
	bev.Free()
	wantEnds(t, bev, peer)
}

func TestAddressesOfAnotherDescriptor(t *testing.T) {
	base := testutil.NewBase(t)
	bev, first := testutil.NewSocket(t, base, 0)
	wantEnds(t, bev, first)
	fd, second := testutil.TCPPair(t)
	require.NoError(t, bev.ReplaceFD(fd))
	wantEnds(t, bev, second)
	require.NoError(t, bev.ReplaceFD(-1))
	assert.Nil(t, bev.LocalAddr())
	assert.Nil(t, bev.RemoteAddr())
}

func TestErrorsOfConnecting(t *testing.T) {
	base := testutil.NewBase(t)
	refusing := testutil.Refusing(t).String()
	address, err := net.ResolveTCPAddr("tcp", refusing)
	require.NoError(t, err)
	for _, connect := range []func(*libevent.BufferEvent) error{
		func(b *libevent.BufferEvent) error { return b.Connect("tcp", refusing) },
		func(b *libevent.BufferEvent) error { return b.ConnectHostname(nil, "tcp", "127.0.0.1", address.Port) },
	} {
		bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
		require.NoError(t, err)
		require.NoError(t, connect(bev))
		assert.Equal(t, libevent.EventError, testutil.Happening(t, bev))
		assert.EqualError(t, bev.Err(), "connect tcp "+refusing+": connection refused")
		assert.Equal(t, refusing, bev.RemoteAddr().String())
		bev.Free()
	}
	bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "sock")
	assert.EqualError(t, bev.Connect("unix", path), "connect unix "+path+": no such file or directory")
	assert.ErrorContains(t, bev.Connect("tcp", "localhost:80"), "ConnectHostname takes host names")
}

func TestErrorOfListening(t *testing.T) {
	base := testutil.NewBase(t)
	l := testutil.Listen(t, base, testutil.Drop)
	defer l.Free()
	_, err := base.Listen("tcp", l.Addr().String(), libevent.ListenOptions{}, testutil.Drop)
	assert.ErrorIs(t, err, syscall.EADDRINUSE)
	assert.EqualError(t, err, "listen tcp "+l.Addr().String()+": address already in use")
	_, err = base.Listen("tcp", "no-such-name.invalid:80", libevent.ListenOptions{}, testutil.Drop)
	var lookup *net.DNSError
	require.ErrorAs(t, err, &lookup)
	assert.Contains(t, err.Error(), "listen tcp: lookup no-such-name.invalid")
}

func TestErrorsDoNotStutter(t *testing.T) {
	lookup := &libevent.Error{Op: "lookup", Err: &net.DNSError{Err: "no such host", Name: "example.invalid"}}
	assert.EqualError(t, lookup, "libevent: lookup example.invalid: no such host")
	wrong := &libevent.Error{Op: "bufferevent_enable", Err: libevent.ErrWrongLoop}
	assert.EqualError(t, wrong, "libevent: bufferevent_enable: only the loop's goroutine may make this call while the loop runs (Base.Post brings it there)")
}

// A call on the wrong goroutine names itself.
func TestWrongLoopNamesTheCall(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, libevent.OptLoopOnly)
	stop := testutil.Background(t, base)
	err := bev.Enable(rd)
	assert.ErrorIs(t, err, libevent.ErrWrongLoop)
	assert.ErrorContains(t, err, "libevent: bufferevent_enable: ")
	stop()
}
