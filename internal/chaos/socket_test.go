// SPDX-License-Identifier: BSD-3-Clause

package chaos_test

import (
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// sockets makes two descriptors that are connected.
func (w *world) sockets(kind string) (fds [2]int, err error) {
	if kind == "unix" {
		return testutil.Sockets()
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fds, err
	}
	defer ln.Close()
	dialled, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return fds, err
	}
	defer dialled.Close()
	accepted, err := ln.Accept()
	if err != nil {
		return fds, err
	}
	defer accepted.Close()
	fds[0], err = duplicate(dialled)
	if err != nil {
		return fds, err
	}
	fds[1], err = duplicate(accepted)
	return fds, err
}

// duplicate returns another descriptor for a connection of package net.
func duplicate(conn net.Conn) (fd int, err error) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return -1, err
	}
	err = errors.Join(raw.Control(func(own uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if fd, err = syscall.Dup(int(own)); err == nil {
			syscall.CloseOnExec(fd)
		}
	}), err)
	return fd, err
}

// contexts are for the two ends of a TLS connection.
type contexts struct {
	server, client *openssl.Context
	goServer       *tls.Config // for an end that uses crypto/tls
	goClient       *tls.Config
}

func newContexts(t testing.TB) (all []contexts) {
	t.Helper()
	certFile, keyFile, pool := testutil.Certificate(t)
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		server, err := openssl.NewServerContext(&openssl.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version, HandshakeTimeout: patient})
		require.NoError(t, err)
		client, err := openssl.NewClientContext(&openssl.Config{RootCAs: pool, ServerName: "localhost", MaxVersion: version, HandshakeTimeout: patient})
		require.NoError(t, err)
		all = append(all, contexts{
			server, client,
			&tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version},
			&tls.Config{RootCAs: pool, ServerName: "localhost", MaxVersion: version},
		})
	}
	return all
}

// side returns the context of an end.
func (c contexts) side(side int) *openssl.Context {
	if side == 0 {
		return c.server
	}
	return c.client
}

func (c contexts) free() {
	c.server.Free()
	c.client.Free()
}
