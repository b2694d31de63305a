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
	"strconv"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/openssl"
)

const (
	maxUnsent  = 512 << 10        // unsent bytes for one side at which the proxy stops reading from the other
	flushLimit = 10 * time.Second // for which a side may read its rest
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

	host    string
	port    int
	base    *libevent.Base
	clients *openssl.Context // nil for plain TCP
	target  *openssl.Context // nil for plain TCP
}

// check refuses arguments that do not fit together.
func (p *proxy) check(rest []string) error {
	host, port, err := net.SplitHostPort(p.to)
	if err != nil {
		return fmt.Errorf("-to: %w", err)
	}
	p.host = host
	if p.port, err = strconv.Atoi(port); err != nil {
		return fmt.Errorf("-to: the port is %q", port)
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
	if p.base, err = libevent.NewBase(); err != nil {
		return err
	}
	defer p.base.Free()
	l, err := p.base.Listen("tcp", p.listen, libevent.ListenOptions{}, func(_ *libevent.Listener, fd int, _ net.Addr) { p.accept(fd) })
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w", p.listen, err)
	}
	fmt.Printf("proxy: listening on %s\n", l.Addr())
	until, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := p.base.Run(until); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// side is one of two connections between which the proxy forwards.
type side struct {
	*libevent.BufferEvent
	other *side
	ended bool // it sends no more
	freed bool
}

// newSide makes a connection, which is plain TCP if ctx is nil.
func (p *proxy) newSide(ctx *openssl.Context, fd int) (*side, error) {
	if ctx == nil {
		b, err := p.base.NewSocket(fd, libevent.OptCloseOnFree)
		if err != nil {
			return nil, err
		}
		return &side{BufferEvent: b}, nil
	}
	c, err := ctx.NewSocket(p.base, fd, libevent.OptCloseOnFree)
	if err != nil {
		return nil, err
	}
	return &side{BufferEvent: c.BufferEvent}, nil
}

func (p *proxy) accept(fd int) {
	client, err := p.newSide(p.clients, fd)
	if err != nil {
		syscall.Close(fd)
		fmt.Fprintln(os.Stderr, "proxy:", err)
		return
	}
	target, err := p.newSide(p.target, -1)
	if err != nil {
		client.Free()
		fmt.Fprintln(os.Stderr, "proxy:", err)
		return
	}
	client.other, target.other = target, client
	err = errors.Join(client.start(), target.start(), target.ConnectHostname(nil, "tcp", p.host, p.port))
	if err != nil {
		fmt.Fprintln(os.Stderr, "proxy:", err)
		client.free()
		target.free()
	}
}

func (s *side) start() error {
	// libevent calls the write closure when there is room in the output again.
	return errors.Join(
		s.SetWatermark(libevent.EvWrite, maxUnsent/2, 0),
		s.SetCallbacks(s.read, s.written, s.event),
		s.Enable(libevent.EvRead))
}

func (s *side) read(*libevent.BufferEvent) {
	if err := s.other.WriteBuffer(s.Input()); err != nil {
		s.free()
		s.other.free()
	} else if s.other.Output().Len() > maxUnsent {
		_ = s.Disable(libevent.EvRead)
	}
}

func (s *side) written(*libevent.BufferEvent) {
	if !s.other.ended && !s.other.freed {
		_ = s.other.Enable(libevent.EvRead)
	}
}

func (s *side) event(_ *libevent.BufferEvent, what libevent.Events) {
	switch {
	case what&libevent.EventConnected != 0:
	case what&libevent.EventEOF != 0:
		s.ended = true
		if !s.other.ended {
			if err := s.other.CloseWrite(); err == nil {
				return
			}
		}
		s.flush()
		s.other.flush()
	default:
		fmt.Fprintf(os.Stderr, "proxy: %v: %v\n", s.RemoteAddr(), s.Err())
		s.free()
		if s.ended { // s has sent everything, so the other side gets all of it
			s.other.flush()
		} else { // bytes of s are missing: the other side must not take this for a complete stream
			s.other.free()
		}
	}
}

// flush frees the side once its output is written.
func (s *side) flush() {
	if !s.freed {
		s.freed = true
		_ = s.FreeAfterFlush(flushLimit)
	}
}

func (s *side) free() {
	s.freed = true
	s.Free()
}
