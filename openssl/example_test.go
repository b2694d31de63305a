// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"math/big"
	"net"
	"time"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/openssl"
)

// This example has a server and a client on one loop.
func Example() {
	cert, root := selfSigned("example.test")
	base, err := libevent.NewBase()
	if err != nil {
		log.Fatal(err)
	}
	defer base.Free()

	server, err := openssl.NewServerContext(&openssl.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Free()
	listener, err := base.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{}, func(l *libevent.Listener, fd int, _ net.Addr) {
		conn, err := server.NewSocket(base, fd, libevent.OptCloseOnFree)
		if err != nil {
			log.Panic(err) // Dispatch passes the panic on
		}
		conn.SetCallbacks(
			func(b *libevent.BufferEvent) { b.WriteBuffer(b.Input()) },
			nil,
			func(b *libevent.BufferEvent, what libevent.Events) {
				if what != libevent.EventConnected { // the end, or an error
					b.FreeAfterFlush(time.Second)
				}
			})
		conn.Enable(libevent.EvRead)
		l.Free()
	})
	if err != nil {
		log.Fatal(err)
	}

	client, err := openssl.NewClientContext(&openssl.Config{ServerName: "example.test", RootCertificates: []*x509.Certificate{root}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Free()
	conn, err := client.NewSocket(base, -1, libevent.OptCloseOnFree)
	if err != nil {
		log.Fatal(err)
	}
	conn.SetCallbacks(
		func(b *libevent.BufferEvent) {
			line, ok := b.Input().ReadLine(libevent.EOLLF)
			if ok {
				fmt.Printf("%s\n", line)
				b.CloseWrite() // the server sends close_notify, too
			}
		},
		nil,
		func(b *libevent.BufferEvent, what libevent.Events) {
			switch what {
			case libevent.EventConnected:
				state := conn.ConnectionState()
				fmt.Println(tls.VersionName(state.Version), "with", state.PeerCertificates[0].DNSNames)
				b.WriteString("hello\n")
			default:
				fmt.Println(b.Err())
				b.Free()
			}
		})
	conn.Enable(libevent.EvRead)
	conn.Connect("tcp", listener.Addr().String())
	if err := base.Dispatch(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// TLS 1.3 with [example.test]
	// hello
	// EOF
}

// This example puts TLS on bufferevents that are connected already, here the ends of a pair. The
// client refuses the server, whose certificate is for another name.
func ExampleContext_NewFilter() {
	cert, root := selfSigned("example.test")
	base, err := libevent.NewBase()
	if err != nil {
		log.Fatal(err)
	}
	defer base.Free()
	a, b, err := base.NewPair(0)
	if err != nil {
		log.Fatal(err)
	}
	server, err := openssl.NewServerContext(&openssl.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Free()
	client, err := openssl.NewClientContext(&openssl.Config{ServerName: "other.test", RootCertificates: []*x509.Certificate{root}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Free()
	accepting, err := server.NewFilter(a, libevent.OptCloseOnFree)
	if err != nil {
		log.Fatal(err)
	}
	connecting, err := client.NewFilter(b, libevent.OptCloseOnFree)
	if err != nil {
		log.Fatal(err)
	}
	accepting.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
		var alert tls.AlertError
		fmt.Println("server:", errors.As(b.Err(), &alert), alert)
		b.Free()
	})
	connecting.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
		var host x509.HostnameError
		fmt.Println("client:", errors.As(b.Err(), &host), host.Host)
		b.FreeAfterFlush(time.Second)
	})
	if err := base.Dispatch(); err != nil {
		log.Fatal(err)
	}
	// Unordered output:
	// server: true tls: bad certificate
	// client: true other.test
}

// selfSigned makes a certificate that is its own root.
func selfSigned(name string) (tls.Certificate, *x509.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		log.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		log.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, root
}
