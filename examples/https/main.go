// SPDX-License-Identifier: BSD-3-Clause

// Https answers every HTTP request with a greeting, over TLS.
//
//	go run ./examples/https -addr 127.0.0.1:8443 -cert cert.pem -key key.pem
//	curl --cacert cert.pem https://localhost:8443/
//
// Without -cert the server makes a certificate for localhost, which no client trusts: use
// curl -k then. When the files of -cert and -key have changed, the next client gets the new
// certificate. SIGINT or SIGTERM ends the server.
package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/openssl"
)

const (
	maxHead     = 16 << 10 // bytes of a request's head
	idleTimeout = 30 * time.Second
	flushLimit  = 5 * time.Second
)

func main() {
	flags := flag.NewFlagSet("https", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	addr := flags.String("addr", "127.0.0.1:8443", "host and `port` to listen on")
	cert := flags.String("cert", "", "`file` with the certificate and its chain, in PEM")
	key := flags.String("key", "", "`file` with its private key, in PEM")
	err := flags.Parse(os.Args[1:])
	if err == nil && (flags.NArg() > 0 || (*cert == "") != (*key == "")) {
		err = errors.New("wanted are -cert and -key together, and nothing else")
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
	case err != nil:
		fmt.Fprintln(os.Stderr, "https:", err)
		os.Exit(2)
	default:
		if err := serve(*addr, *cert, *key); err != nil {
			fmt.Fprintln(os.Stderr, "https:", err)
			os.Exit(1)
		}
	}
}

func serve(addr, certFile, keyFile string) error {
	certs := &certificates{certFile: certFile, keyFile: keyFile}
	if _, err := certs.current(nil); err != nil {
		return err
	}
	ctx, err := openssl.NewServerContext(&openssl.Config{GetCertificate: certs.current, NextProtos: []string{"http/1.1"}})
	if err != nil {
		return err
	}
	defer ctx.Free()
	base, err := libevent.NewBase()
	if err != nil {
		return err
	}
	defer base.Free()
	// The timeouts also limit the handshake.
	opts := libevent.ServeOptions{NewSocket: ctx.Socket, ReadTimeout: idleTimeout, WriteTimeout: idleTimeout}
	server, err := base.Serve("tcp", addr, opts, func(*libevent.BufferEvent) libevent.Handler {
		return libevent.Handler{Read: answer, Error: func(c *libevent.BufferEvent, err error) {
			fmt.Fprintf(os.Stderr, "https: %v: %v\n", c.RemoteAddr(), err)
			c.Free()
		}}
	})
	if err != nil {
		return err
	}
	fmt.Printf("https: listening on %s\n", server.Addr())
	until, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := base.Run(until); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// answer takes the heads of requests from the input and answers each. Requests with a body
// are not expected.
func answer(b *libevent.BufferEvent) {
	for {
		end := b.Input().Search([]byte("\r\n\r\n"), 0)
		if end < 0 {
			if b.Input().Len() > maxHead {
				fmt.Fprint(b, "HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n")
				b.FreeAfterFlush(flushLimit)
			}
			return
		}
		head := make([]byte, end+4)
		if _, err := b.Read(head); err != nil {
			return
		}
		state := openssl.ConnOf(b).ConnectionState()
		body := fmt.Sprintf("Hello over %s with %s\n", tls.VersionName(state.Version), state.CipherSuiteName)
		last := bytes.Contains(bytes.ToLower(head), []byte("\r\nconnection: close\r\n"))
		how := "keep-alive"
		if last {
			how = "close"
		}
		fmt.Fprintf(b, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n%s", len(body), how, body)
		if last {
			b.FreeAfterFlush(flushLimit)
			return
		}
	}
}

// certificates has the certificate that is in the files now.
type certificates struct {
	certFile, keyFile string

	mu      sync.Mutex
	cert    *tls.Certificate // nil until it is loaded
	changed time.Time        // the files, when it was loaded
}

// current is the GetCertificate of the context. It may read files, because the loop does not wait
// for it. If the new files are bad, the old certificate stays.
func (c *certificates) current(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := latest(c.certFile, c.keyFile)
	if c.cert != nil && !changed.After(c.changed) {
		return c.cert, nil
	}
	cert, err := certificate(c.certFile, c.keyFile)
	switch {
	case err == nil:
		c.cert, c.changed = &cert, changed
	case c.cert == nil:
		return nil, err
	default:
		fmt.Fprintln(os.Stderr, "https: the certificate stays the same:", err)
	}
	return c.cert, nil
}

// latest returns when one of the files was changed last.
func latest(files ...string) (last time.Time) {
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last
}

// certificate loads a certificate, or makes one for a day if certFile is empty.
func certificate(certFile, keyFile string) (tls.Certificate, error) {
	if certFile != "" {
		return tls.LoadX509KeyPair(certFile, keyFile)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, 1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
