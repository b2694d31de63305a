// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"context"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/evnet"
	"github.com/go-libevent/libevent/internal/host"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// transport makes two connections on a loop that are each other's peers.
type transport struct {
	name    string
	connect func(t testing.TB, loop libevent.Loop) (a, b net.Conn, err error)
}

var transports = []transport{
	{"tcp", func(t testing.TB, loop libevent.Loop) (a, b net.Conn, err error) {
		return overListener(loop, "tcp", "127.0.0.1:0")
	}},
	{"unix", func(t testing.TB, loop libevent.Loop) (a, b net.Conn, err error) {
		return overListener(loop, "unix", filepath.Join(t.TempDir(), "s"))
	}},
	{"pair", func(t testing.TB, loop libevent.Loop) (a, b net.Conn, err error) {
		x, y, err := loop.Next().NewPair(0)
		if err != nil {
			return nil, nil, err
		}
		if a, err = evnet.NewConn(x); err == nil {
			b, err = evnet.NewConn(y)
		}
		return a, b, err
	}},
	{"filter", func(t testing.TB, loop libevent.Loop) (a, b net.Conn, err error) {
		fds, err := testutil.Sockets()
		if err != nil {
			return nil, nil, err
		}
		if a, err = overFilter(loop.Next(), fds[0]); err == nil {
			b, err = overFilter(loop.Next(), fds[1])
		}
		return a, b, err
	}},
	{"tls on sockets", func(t testing.TB, loop libevent.Loop) (a, b net.Conn, err error) {
		fds, err := testutil.Sockets()
		if err != nil {
			return nil, nil, err
		}
		x, err := loop.Next().NewSocket(fds[0], libevent.OptCloseOnFree)
		if err != nil {
			return nil, nil, err
		}
		y, err := loop.Next().NewSocket(fds[1], libevent.OptCloseOnFree)
		if err != nil {
			return nil, nil, err
		}
		return overTLSFilters(t, x, y)
	}},
	{"tls on a pair", func(t testing.TB, loop libevent.Loop) (a, b net.Conn, err error) {
		x, y, err := loop.Next().NewPair(0)
		if err != nil {
			return nil, nil, err
		}
		return overTLSFilters(t, x, y)
	}},
	{"tls", overTLS},
}

func (tr transport) secure() bool { return strings.HasPrefix(tr.name, "tls") }

// overTLS makes connections over the bufferevents of package openssl.
func overTLS(t testing.TB, loop libevent.Loop) (a, b net.Conn, err error) {
	fds, err := testutil.Sockets()
	if err != nil {
		return nil, nil, err
	}
	server, client := tlsContexts(t)
	if a, err = overConn(client.NewSocket(loop.Next(), fds[0], libevent.OptCloseOnFree)); err == nil {
		b, err = overConn(server.NewSocket(loop.Next(), fds[1], libevent.OptCloseOnFree))
	}
	return a, b, err
}

// tlsContexts makes contexts that are freed at the end of the test.
func tlsContexts(t testing.TB) (server, client *openssl.Context) {
	certs := certificates()
	server, err := openssl.NewServerContext(&openssl.Config{
		Certificates: certs.TLS.Certificates, HandshakeTimeout: testutil.Patience})
	if err == nil {
		client, err = openssl.NewClientContext(&openssl.Config{
			ServerName: "example.com", RootCertificates: []*x509.Certificate{certs.Certificate()},
			HandshakeTimeout: testutil.Patience})
	}
	if err != nil {
		t.Error(err)
	}
	t.Cleanup(func() {
		server.Free()
		client.Free()
	})
	return server, client
}

// certificates returns a server whose certificate is for example.com.
var certificates = sync.OnceValue(func() *httptest.Server {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	s.Close()
	return s
})

// overTLSFilters makes connections over TLS on top of other bufferevents.
func overTLSFilters(t testing.TB, x, y *libevent.BufferEvent) (a, b net.Conn, err error) {
	server, client := tlsContexts(t)
	if a, err = overConn(client.NewFilter(x, libevent.OptCloseOnFree)); err == nil {
		b, err = overConn(server.NewFilter(y, libevent.OptCloseOnFree))
	}
	return a, b, err
}

func overConn(bev *openssl.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return evnet.NewConn(bev.BufferEvent)
}

func overListener(loop libevent.Loop, network, address string) (a, b net.Conn, err error) {
	l, err := evnet.Listen(loop, network, address)
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	d := evnet.Dialer{Loop: loop}
	if a, err = d.Dial(network, l.Addr().String()); err != nil {
		return nil, nil, err
	}
	if b, err = l.Accept(); err != nil {
		_ = a.Close()
		return nil, nil, err
	}
	return a, b, nil
}

// invert is a filter function that inverts every bit.
func invert(src, dst *libevent.Buffer, limit int, _ libevent.FlushMode) (libevent.FilterResult, error) {
	size := src.Len()
	if limit >= 0 {
		size = min(size, limit)
	}
	if size == 0 {
		return libevent.FilterNeedMore, nil
	}
	p := make([]byte, size)
	if _, err := src.Remove(p); err != nil {
		return libevent.FilterError, err
	}
	for i := range p {
		p[i] = ^p[i]
	}
	return libevent.FilterOK, dst.Add(p)
}

// overFilter makes a connection over a filter.
func overFilter(base *libevent.Base, fd int) (net.Conn, error) {
	under, err := base.NewSocket(fd, libevent.OptCloseOnFree)
	if err != nil {
		return nil, err
	}
	bev, err := libevent.NewFilter(under, invert, invert, libevent.OptCloseOnFree)
	if err != nil {
		return nil, err
	}
	return evnet.NewConn(bev)
}

// foreign is a wrapped base whose loop a C thread runs.
type foreign struct {
	*libevent.Base
	host *host.Host
}

func newHost(t testing.TB) runner {
	signal.Ignore(syscall.SIGPIPE) // as C programs do: a C thread writes to the sockets
	t.Cleanup(func() { signal.Reset(syscall.SIGPIPE) })
	h := host.New(true)
	base, err := libevent.WrapBase(h.Base(), libevent.WrapConfig{})
	require.NoError(t, err)
	return &foreign{base, h}
}

func (f *foreign) Run(ctx context.Context) error {
	f.host.Start()
	<-ctx.Done()
	return ctx.Err()
}

func (f *foreign) Free() error {
	err := f.Base.Free()
	f.host.Stop()
	f.host.Free()
	return err
}

// loopKinds are the loops that connections can be on.
var loopKinds = []struct {
	name string
	loop func(testing.TB) runner
}{
	{"base", func(t testing.TB) runner { return newBase(t) }},
	{"group", func(t testing.TB) runner { return newGroup(t) }},
	{"C", newHost},
}

func TestConformance(t *testing.T) {
	for _, tr := range transports {
		for _, kind := range loopKinds {
			t.Run(tr.name+"/"+kind.name, func(t *testing.T) {
				loop := kind.loop(t)
				background(t, loop)
				nettest.TestConn(t, func() (a, b net.Conn, stop func(), err error) {
					a, b, err = tr.connect(t, loop)
					// Two ends of TLS that are closed while all buffers are full cannot
					// send each other their close_notify. Both would wait for 30 seconds.
					for _, c := range []net.Conn{a, b} {
						if c != nil && tr.secure() {
							assert.NoError(t, c.(*evnet.Conn).SetLinger(5))
						}
					}
					return a, b, func() {
						_ = a.Close()
						_ = b.Close()
					}, err
				})
				nothingLeft(t, loop)
			})
		}
	}
}
