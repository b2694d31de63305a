// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"context"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/evnet"
)

// ListenConfig.Options reach the socket although package net makes it.
func TestListenOptions(t *testing.T) {
	base := running(t)
	option := func(o libevent.ListenOptions, address string, level, name int) int {
		t.Helper()
		l, err := (&evnet.ListenConfig{Options: o}).Listen(context.Background(), base, "tcp", address)
		require.NoError(t, err)
		defer l.Close()
		raw, err := l.(*evnet.Listener).SyscallConn()
		require.NoError(t, err)
		v := -1
		require.NoError(t, raw.Control(func(fd uintptr) { v, err = syscall.GetsockoptInt(int(fd), level, name) }))
		require.NoError(t, err)
		return v
	}
	const any4, any6 = "127.0.0.1:0", "[::]:0"
	reuse := func(o libevent.ListenOptions) int {
		return option(o, any4, syscall.SOL_SOCKET, syscall.SO_REUSEADDR)
	}
	assert.Equal(t, 1, reuse(libevent.ListenOptions{}))
	assert.Equal(t, 0, reuse(libevent.ListenOptions{NoReuseAddr: true}))
	only6 := func(o libevent.ListenOptions, address string) int {
		return option(o, address, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY)
	}
	assert.Equal(t, 1, only6(libevent.ListenOptions{IPv6Only: true}, any6))
	assert.Equal(t, 0, only6(libevent.ListenOptions{IPv4AndIPv6: true}, any6))
	reuse(libevent.ListenOptions{IPv6Only: true, IPv4AndIPv6: true}) // without a meaning there

	config := evnet.ListenConfig{Options: libevent.ListenOptions{ReusePort: true, Backlog: 1}}
	first, err := config.Listen(context.Background(), base, "tcp", any4)
	require.NoError(t, err)
	defer first.Close()
	second, err := config.Listen(context.Background(), base, "tcp", first.Addr().String())
	require.NoError(t, err)
	assert.NoError(t, second.Close())
	_, err = (&evnet.ListenConfig{Options: libevent.ListenOptions{Backlog: -1}}).Listen(context.Background(), base, "tcp", any4)
	assert.Error(t, err)
}

// MPTCP is asked for as in package net, which uses TCP where there is none.
func TestMultipathTCP(t *testing.T) {
	base := running(t)
	var d net.Dialer
	var lc net.ListenConfig
	dialer, config := evnet.Dialer{Loop: base}, evnet.ListenConfig{}
	assert.Equal(t, d.MultipathTCP(), dialer.MultipathTCP())
	assert.Equal(t, lc.MultipathTCP(), config.MultipathTCP())
	for _, use := range []bool{true, false} {
		dialer.SetMultipathTCP(use)
		config.SetMultipathTCP(use)
		assert.Equal(t, use, dialer.MultipathTCP())
		assert.Equal(t, use, config.MultipathTCP())
		l, err := config.Listen(context.Background(), base, "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		c, err := dialer.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		s, err := l.Accept()
		require.NoError(t, err)
		_, err = c.Write([]byte("x"))
		require.NoError(t, err)
		n, err := s.Read(make([]byte, 1))
		assert.Equal(t, 1, n)
		assert.NoError(t, err)
		assert.NoError(t, c.Close())
		assert.NoError(t, s.Close())
		assert.NoError(t, l.Close())
	}
}
