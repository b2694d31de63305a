// SPDX-License-Identifier: BSD-3-Clause

//go:build ignore

// Package hook makes package net listen and dial on a loop. The environment variable EVNET
// says on which: "base", "group", or "tls" for a base with TLS on every TCP connection.
package hook

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/evnet"
	"github.com/go-libevent/libevent/openssl"
)

// endless is the context of the loops, and never ends. With a context that cannot end, a loop
// would return as soon as it has nothing to wait for, so this one has a cancel function.
var endless, _ = context.WithCancel(context.Background())

func init() {
	switch mode := os.Getenv("EVNET"); mode {
	case "":
	case "base", "tls":
		base, err := libevent.NewBase()
		check(err)
		go func() { check(base.Run(endless)) }()
		on(base)
		if mode == "tls" {
			withTLS(base)
		}
	case "group":
		group, err := libevent.NewGroup(2, libevent.Config{})
		check(err)
		go func() { check(group.Run(endless)) }()
		on(group)
	default:
		panic("EVNET is " + mode)
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func isOurs(network string) bool {
	return network == "unix" || network == "tcp" || network == "tcp4" || network == "tcp6"
}

// on has everything listen and dial on a loop.
func on(loop libevent.Loop) {
	net.Hook.Listen = func(ctx context.Context, lc *net.ListenConfig, network, address string) (net.Listener, error) {
		if !isOurs(network) {
			return lc.UnhookedListen(ctx, network, address)
		}
		ours := evnet.ListenConfig{KeepAlive: lc.KeepAlive, KeepAliveConfig: lc.KeepAliveConfig, Control: lc.Control}
		return ours.Listen(ctx, loop, network, address)
	}
	net.Hook.Dial = func(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
		if !isOurs(network) {
			return d.UnhookedDialContext(ctx, network, address)
		}
		ours := evnet.Dialer{Loop: loop, Timeout: d.Timeout, Deadline: d.Deadline, LocalAddr: d.LocalAddr,
			FallbackDelay: d.FallbackDelay, KeepAlive: d.KeepAlive, KeepAliveConfig: d.KeepAliveConfig,
			Resolver: d.Resolver, Control: d.Control, ControlContext: d.ControlContext}
		return ours.DialContext(ctx, network, address)
	}
}

// withTLS puts TLS on TCP connections. Both ends have to be in this process.
func withTLS(base *libevent.Base) {
	server, client := contexts()
	listen, dial := net.Hook.Listen, net.Hook.Dial
	net.Hook.Listen = func(ctx context.Context, lc *net.ListenConfig, network, address string) (net.Listener, error) {
		if !strings.HasPrefix(network, "tcp") {
			return listen(ctx, lc, network, address)
		}
		l, err := lc.UnhookedListen(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &listener{l.(*net.TCPListener), base, server}, nil
	}
	net.Hook.Dial = func(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
		if !strings.HasPrefix(network, "tcp") {
			return dial(ctx, d, network, address)
		}
		c, err := d.UnhookedDialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return secure(client, base, c)
	}
}

// contexts makes the contexts of both sides, with a certificate of their own.
func contexts() (server, client *openssl.Context) {
	const name = "evnet.test"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(err)
	cert, err := x509.ParseCertificate(der)
	check(err)
	server, err = openssl.NewServerContext(&openssl.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	check(err)
	client, err = openssl.NewClientContext(&openssl.Config{ServerName: name, RootCertificates: []*x509.Certificate{cert}})
	check(err)
	return server, client
}

// listener has TLS on what it accepts. A *net.TCPListener would not show whether a test demands
// one, so the type is another and has the methods of *evnet.Listener.
type listener struct {
	l      *net.TCPListener
	base   *libevent.Base
	server *openssl.Context
}

func (l *listener) Addr() net.Addr                        { return l.l.Addr() }
func (l *listener) Close() error                          { return l.l.Close() }
func (l *listener) SetDeadline(t time.Time) error         { return l.l.SetDeadline(t) }
func (l *listener) SyscallConn() (syscall.RawConn, error) { return l.l.SyscallConn() }

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.l.Accept()
	if err != nil {
		return nil, err
	}
	return secure(l.server, l.base, c)
}

// secure gives the socket of a connection to the loop, with TLS.
func secure(context *openssl.Context, base *libevent.Base, c net.Conn) (net.Conn, error) {
	defer c.Close()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	check(raw.Control(func(old uintptr) { fd, err = syscall.Dup(int(old)) }))
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(fd)
	bev, err := context.NewSocket(base, fd, libevent.OptCloseOnFree)
	if err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	return evnet.NewConn(bev.BufferEvent)
}
