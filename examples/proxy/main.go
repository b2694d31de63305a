// SPDX-License-Identifier: BSD-3-Clause

// Proxy forwards connections to another address, in both directions, with plain TCP or TLS
// on either side.
//
//	go run ./examples/proxy -listen 127.0.0.1:8443 -cert cert.pem -key key.pem -to 127.0.0.1:8080
//	go run ./examples/proxy -listen 127.0.0.1:8080 -to example.com:443 -tls
//
// With -cert and -key clients speak TLS, and with -clients only those that have a certificate
// which leads to the roots in that file. With -tls the target does: its certificate must
// lead to the roots in -ca, or to the system's, and be for the host of -to. While one side
// does not read, the proxy holds a bounded amount for it and stops reading from the other.
// When one side ends, the proxy first forwards everything that came before, and then the
// end. SIGINT or SIGTERM ends the proxy.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/openssl"
)

func main() {
	flags := flag.NewFlagSet("proxy", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	p := &proxy{}
	flags.StringVar(&p.listen, "listen", "127.0.0.1:8443", "host and `port` to listen on")
	flags.StringVar(&p.to, "to", "", "host and `port` to connect to")
	flags.StringVar(&p.cert, "cert", "", "`file` with the certificate to show clients, in PEM; without one they speak plain TCP")
	flags.StringVar(&p.key, "key", "", "`file` with its private key, in PEM")
	flags.StringVar(&p.roots, "clients", "", "`file` with the roots that the clients' certificates must lead to, in PEM; without one they need none")
	flags.BoolVar(&p.tls, "tls", false, "speak TLS to the target")
	flags.StringVar(&p.ca, "ca", "", "`file` with the roots that the target's certificate must lead to, in PEM; the system's without")
	err := flags.Parse(os.Args[1:])
	if err == nil {
		err = p.check(flags.Args())
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
	case err != nil:
		fmt.Fprintln(os.Stderr, "proxy:", err)
		os.Exit(2)
	default:
		if err := p.run(); err != nil {
			fmt.Fprintln(os.Stderr, "proxy:", err)
			os.Exit(1)
		}
	}
}

type proxy struct {
	listen, to, cert, key, ca, roots string
	tls                              bool

	clients *openssl.Context // nil for plain TCP
	target  *openssl.Context // nil for plain TCP
}

// check refuses arguments that do not fit together.
func (p *proxy) check(rest []string) error {
	_, port, err := net.SplitHostPort(p.to)
	if err != nil {
		return fmt.Errorf("-to: %w", err)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("-to: %w", err)
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case (p.cert == "") != (p.key == ""):
		return errors.New("-cert and -key go together")
	case p.roots != "" && p.cert == "":
		return errors.New("-clients is for -cert and -key")
	case p.ca != "" && !p.tls:
		return errors.New("-ca is for -tls")
	}
	return nil
}

// run makes the contexts and serves until a signal comes.
func (p *proxy) run() (err error) {
	if p.cert != "" {
		if p.clients, err = p.clientsContext(); err != nil {
			return err
		}
		defer p.clients.Free()
	}
	if p.tls {
		if p.target, err = p.targetContext(); err != nil {
			return err
		}
		defer p.target.Free()
	}
	return p.serve()
}

func (p *proxy) clientsContext() (*openssl.Context, error) {
	cert, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		return nil, err
	}
	cfg := &openssl.Config{Certificates: []tls.Certificate{cert}}
	if p.roots != "" {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
		if cfg.ClientCACertificates, err = openssl.LoadCertificates(p.roots); err != nil {
			return nil, err
		}
	}
	return openssl.NewServerContext(cfg)
}

func (p *proxy) targetContext() (_ *openssl.Context, err error) {
	cfg := &openssl.Config{SessionCache: 1}
	if p.ca != "" {
		if cfg.RootCertificates, err = openssl.LoadCertificates(p.ca); err != nil {
			return nil, err
		}
	}
	return openssl.NewClientContext(cfg)
}

func (p *proxy) serve() (err error) {
	base, err := libevent.NewBase()
	if err != nil {
		return err
	}
	defer base.Free()
	var opts libevent.ServeOptions
	if p.clients != nil {
		opts.NewSocket = p.clients.Socket
	}
	server, err := base.Serve("tcp", p.listen, opts, func(client *libevent.BufferEvent) libevent.Handler {
		if err := p.connect(client); err != nil {
			fmt.Fprintln(os.Stderr, "proxy:", err)
			client.Free()
		}
		return libevent.Handler{}
	})
	if err != nil {
		return err
	}
	fmt.Printf("proxy: listening on %s\n", server.Addr())
	until, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := base.Run(until); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// connect connects a client to the target.
func (p *proxy) connect(client *libevent.BufferEvent) error {
	newSocket := (*libevent.Base).NewSocket
	if p.target != nil {
		newSocket = p.target.Socket
	}
	target, err := newSocket(client.Base(), -1, libevent.OptCloseOnFree)
	if err != nil {
		return err
	}
	err = libevent.Pipe(client, target, func(side *libevent.BufferEvent, err error) {
		fmt.Fprintln(os.Stderr, "proxy:", err)
	})
	if err = errors.Join(err, target.ConnectTo(nil, "tcp", p.to)); err != nil {
		target.Free()
	}
	return err
}
