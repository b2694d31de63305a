// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/openssl"
)

func init() {
	scenarios["tls server"] = func(s *scene) error { return tlsServer(s, 0) }
	scenarios["tls server, plain"] = func(s *scene) error { return tlsServer(s, libevent.OptPlainIO) }
	scenarios["tls client"] = tlsClient
	scenarios["tls filter"] = tlsFilter
	scenarios["tls contexts"] = tlsContexts
}

// certificate is for localhost, signed by itself.
var certificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(err)
	cert, err := x509.ParseCertificate(der)
	check(err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
})

func (s *scene) serverContext() (*openssl.Context, error) {
	cert, _ := certificate()
	ctx, err := openssl.NewServerContext(&openssl.Config{Certificates: []tls.Certificate{cert}})
	if err == nil {
		s.later(ctx.Free)
	}
	return ctx, err
}

func (s *scene) clientContext() (*openssl.Context, error) {
	_, pool := certificate()
	ctx, err := openssl.NewClientContext(&openssl.Config{RootCAs: pool, ServerName: "localhost"})
	if err == nil {
		s.later(ctx.Free)
	}
	return ctx, err
}

func tlsContexts(s *scene) error {
	if _, err := s.serverContext(); err != nil {
		return err
	}
	_, err := s.clientContext()
	return err
}

// tlsSocket makes a connection that speaks TLS, and its bare peer. It is freed at the end.
func (s *scene) tlsSocket(context func() (*openssl.Context, error), opts libevent.Options) (*openssl.Conn, net.Conn, error) {
	if err := s.start(libevent.Config{}); err != nil {
		return nil, nil, err
	}
	ctx, err := context()
	if err != nil {
		return nil, nil, err
	}
	fd, peer := s.tcp()
	conn, err := ctx.NewSocket(s.base, fd, opts|libevent.OptCloseOnFree)
	if err != nil {
		check(syscall.Close(fd))
		return nil, nil, err
	}
	s.later(conn.Free)
	return conn, peer, nil
}

func tlsServer(s *scene, opts libevent.Options) error {
	conn, peer, err := s.tlsSocket(s.serverContext, opts)
	if err != nil {
		return err
	}
	_, pool := certificate()
	return s.echoes(conn, tls.Client(peer, &tls.Config{RootCAs: pool, ServerName: "localhost"}), 200_000)
}

func tlsClient(s *scene) error {
	conn, peer, err := s.tlsSocket(s.clientContext, 0)
	if err != nil {
		return err
	}
	cert, _ := certificate()
	return s.echoes(conn, tls.Server(peer, &tls.Config{Certificates: []tls.Certificate{cert}}), 50_000)
}

// tlsFilter has TLS on both ends of a pair.
func tlsFilter(s *scene) error {
	if err := s.start(libevent.Config{}); err != nil {
		return err
	}
	server, err := s.serverContext()
	if err != nil {
		return err
	}
	client, err := s.clientContext()
	if err != nil {
		return err
	}
	a, b, err := s.pair()
	if err != nil {
		return err
	}
	serving, err := server.NewFilter(b, 0)
	if err != nil {
		return err
	}
	s.later(serving.Free)
	asking, err := client.NewFilter(a, 0)
	if err != nil {
		return err
	}
	s.later(asking.Free)
	if err := s.reads(serving, s.echo); err != nil {
		return err
	}
	return s.exchange(asking, noise(50_000))
}
