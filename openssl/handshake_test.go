// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// listen serves TLS with crypto/tls on loopback. A connection ends when handle returns.
func listen(t testing.TB, cfg *tls.Config, handle func(*tls.Conn)) *net.TCPAddr {
	t.Helper()
	return listenOn(t, "127.0.0.1", cfg, handle)
}

func listenOn(t testing.TB, host string, cfg *tls.Config, handle func(*tls.Conn)) *net.TCPAddr {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(testutil.Patience))
			go func() {
				defer conn.Close()
				handle(tls.Server(conn, cfg))
			}()
		}
	}()
	return ln.Addr().(*net.TCPAddr)
}

// sendBack is a handler that sends back what it gets.
func sendBack(conn *tls.Conn) {
	_, _ = io.Copy(conn, conn)
	_ = conn.CloseWrite()
}

// accept serves TLS with this package on loopback.
func accept(t testing.TB, base *libevent.Base, ctx *openssl.Context, serve func(*openssl.Conn)) *net.TCPAddr {
	t.Helper()
	l, err := base.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{}, func(_ *libevent.Listener, fd int, _ net.Addr) {
		conn, err := ctx.NewSocket(base, fd, libevent.OptCloseOnFree)
		if assert.NoError(t, err) {
			serve(conn)
		}
	})
	require.NoError(t, err)
	return l.Addr().(*net.TCPAddr)
}

func TestConnect(t *testing.T) {
	ca := newAuthority(t)
	addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "localhost", "127.0.0.1")}}, sendBack)
	for name, connect := range map[string]func(*openssl.Conn) error{
		"address":              func(c *openssl.Conn) error { return c.Connect("tcp", addr.String()) },
		"name":                 func(c *openssl.Conn) error { return c.ConnectHostname(nil, "tcp4", "localhost", addr.Port) },
		"address as host name": func(c *openssl.Conn) error { return c.ConnectHostname(nil, "tcp", "127.0.0.1", addr.Port) },
	} {
		t.Run(name, func(t *testing.T) {
			trust(t, ca, func(t *testing.T, cfg openssl.Config) {
				conn := newSocket(t, client(t, &cfg), newLoop(t), -1)
				read, events := watch(t, conn)
				_, err := conn.WriteString("early")
				require.NoError(t, err)
				require.NoError(t, connect(conn))
				assert.Equal(t, connected, testutil.Receive(t, events))
				assert.Equal(t, "early", take(t, read, 5))
				want := "127.0.0.1"
				if name == "name" {
					want = "localhost"
				}
				assert.Equal(t, want, conn.ConnectionState().ServerName)
			})
		})
	}
}

// Without a ServerName the certificate must be for the name or address that the client connects to.
func TestConnectToSomebodyElse(t *testing.T) {
	ca := newAuthority(t)
	addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}, sendBack)
	trust(t, ca, func(t *testing.T, cfg openssl.Config) {
		for name, connect := range map[string]func(*openssl.Conn) error{
			"127.0.0.1": func(c *openssl.Conn) error { return c.Connect("tcp", addr.String()) },
			"localhost": func(c *openssl.Conn) error { return c.ConnectHostname(nil, "tcp4", "localhost", addr.Port) },
		} {
			conn := newSocket(t, client(t, &cfg), newLoop(t), -1)
			_, events := watch(t, conn)
			require.NoError(t, connect(conn))
			assert.ErrorContains(t, testutil.Receive(t, events).err, name)
		}
		// With a ServerName the certificate must be for that.
		cfg.ServerName = "example.test"
		conn := newSocket(t, client(t, &cfg), newLoop(t), -1)
		_, events := watch(t, conn)
		require.NoError(t, conn.Connect("tcp", addr.String()))
		assert.Equal(t, connected, testutil.Receive(t, events))
	})
}

// A client that gets a socket and knows no name for the server accepts no server.
func TestConnectToNobodyKnown(t *testing.T) {
	ca := newAuthority(t)
	trust(t, ca, func(t *testing.T, cfg openssl.Config) {
		fd, peer := testutil.TCPPair(t)
		shaken := make(chan error, 1)
		go func() {
			shaken <- tls.Server(peer, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}).Handshake()
		}()
		conn := newSocket(t, client(t, &cfg), newLoop(t), -1)
		_, events := watch(t, conn)
		testutil.OnLoop(t, conn.Base(), func() { assert.NoError(t, conn.SetFD(fd)) })
		what := testutil.Receive(t, events)
		assert.NotZero(t, what.what&libevent.EventError)
		var host x509.HostnameError
		assert.ErrorAs(t, what.err, &host)
		testutil.Receive(t, shaken)
	})
}

// The fast path also reads and writes connections that were made with Connect.
func TestConnectTakesTheFastPath(t *testing.T) {
	if testutil.PlainIO {
		t.Skip("libevent reads and writes")
	}
	ca := newAuthority(t)
	addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}, sendBack)
	base := newLoop(t)
	conn := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"}), base, -1)
	read, events := watch(t, conn)
	require.NoError(t, conn.Connect("tcp", addr.String()))
	require.Equal(t, connected, testutil.Receive(t, events))
	_, err := conn.WriteString("hello")
	require.NoError(t, err)
	assert.Equal(t, "hello", take(t, read, 5))
	stats := base.Stats()
	assert.NotZero(t, stats.FastReads)
	assert.NotZero(t, stats.FastWrites)
}

func TestConnectRefused(t *testing.T) {
	addr := testutil.Refusing(t)
	for _, connect := range []func(*openssl.Conn) error{
		func(c *openssl.Conn) error { return c.Connect("tcp", addr.String()) },
		func(c *openssl.Conn) error { return c.ConnectHostname(nil, "tcp4", "localhost", addr.Port) },
	} {
		conn := newSocket(t, client(t, nil), newLoop(t), -1)
		_, events := watch(t, conn)
		require.NoError(t, connect(conn))
		what := testutil.Receive(t, events)
		assert.NotZero(t, what.what&libevent.EventError)
		assert.ErrorIs(t, what.err, syscall.ECONNREFUSED)
		assert.ErrorContains(t, what.err, "connect")
	}
}

// A connection that has failed is told what becomes of its next socket. A Unix socket is refused at once.
func TestConnectRefusedAfterAFailure(t *testing.T) {
	refusing := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "socket"), Net: "unix"}
	listener, err := net.ListenUnix("unix", refusing)
	require.NoError(t, err)
	listener.SetUnlinkOnClose(false)
	require.NoError(t, listener.Close())
	base := newLoop(t)
	fd, peer := testutil.TCPPair(t)
	conn := newSocket(t, client(t, &openssl.Config{InsecureSkipVerify: true}), base, fd)
	_, events := watch(t, conn)
	_, err = peer.Write([]byte("this is not TLS"))
	require.NoError(t, err)
	assert.NotZero(t, testutil.Receive(t, events).what&libevent.EventError)
	for range 2 {
		testutil.OnLoop(t, base, func() {
			assert.NoError(t, conn.SetFD(-1))
			assert.NoError(t, conn.Connect("unix", refusing.Name))
		})
		what := testutil.Receive(t, events)
		assert.NotZero(t, what.what&libevent.EventError)
		assert.ErrorIs(t, what.err, syscall.ECONNREFUSED)
	}
	conn.Free()
}

func TestNamed(t *testing.T) {
	ca := newAuthority(t)
	addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}, sendBack)
	ctx := client(t, &openssl.Config{RootCAs: ca.pool()})
	named, err := ctx.Named("example.test")
	require.NoError(t, err)
	conn := newSocket(t, named, newLoop(t), -1)
	_, events := watch(t, conn)
	require.NoError(t, conn.Connect("tcp", addr.String()))
	assert.Equal(t, connected, testutil.Receive(t, events))
	_, err = ctx.Named("no name")
	assert.ErrorIs(t, err, syscall.EINVAL)
}

// --- ALPN and SNI --------------------------------------------------------------------

func TestALPN(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	for _, c := range []struct {
		server, client []string
		want           string
		refused        bool
	}{
		{[]string{"h2", "http/1.1"}, []string{"http/1.1", "h2"}, "h2", false}, // the server's order
		{[]string{"http/1.1"}, []string{"h2", "http/1.1"}, "http/1.1", false},
		{nil, []string{"h2"}, "", false},
		{[]string{"h2"}, nil, "", false},
		{[]string{"a"}, []string{"b"}, "", true},
	} {
		t.Run(fmt.Sprint(c.server, c.client), func(t *testing.T) {
			t.Run("server", func(t *testing.T) {
				fd, peer := testutil.TCPPair(t)
				conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{cert}, NextProtos: c.server}), newLoop(t), fd)
				_, events := watch(t, conn)
				client := tls.Client(peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", NextProtos: c.client})
				err := client.Handshake()
				what := testutil.Receive(t, events)
				if c.refused {
					assert.ErrorContains(t, err, "no application protocol")
					assert.ErrorContains(t, what.err, "no application protocol")
					return
				}
				require.NoError(t, err)
				assert.Equal(t, connected, what)
				assert.Equal(t, c.want, client.ConnectionState().NegotiatedProtocol)
				assert.Equal(t, c.want, conn.ConnectionState().NegotiatedProtocol)
			})
			t.Run("client", func(t *testing.T) {
				conn, what, err := handshake(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", NextProtos: c.client}),
					&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: c.server})
				if c.refused {
					assert.Error(t, err)
					var alert tls.AlertError
					require.ErrorAs(t, what.err, &alert)
					assert.Equal(t, tls.AlertError(120), alert)
					return
				}
				require.NoError(t, err)
				assert.Equal(t, connected, what)
				assert.Equal(t, c.want, conn.ConnectionState().NegotiatedProtocol)
			})
		})
	}
}

func TestSNI(t *testing.T) {
	ca := newAuthority(t)
	first, second := ca.issue(t, "first.test", "also.first.test"), ca.issue(t, "second.test")
	wild, rsa := ca.issue(t, "*.wild.test"), ca.issueWith(t, rsaKey(t), nil, "second.test")
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{first, second, wild, rsa}})
	base := newLoop(t)
	for _, c := range []struct {
		name string
		want tls.Certificate
		rsa  bool // the client supports only RSA
	}{
		{"first.test", first, false}, {"FIRST.test", first, false}, {"also.first.test", first, false},
		{"second.test", second, false}, {"second.test", rsa, true}, {"a.wild.test", wild, false},
		{"unknown.test", first, false}, {"a.b.wild.test", first, false}, {"wild.test", first, false}, {"", first, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			fd, peer := testutil.TCPPair(t)
			conn := newSocket(t, ctx, base, fd)
			_, events := watch(t, conn)
			cfg := &tls.Config{InsecureSkipVerify: true, ServerName: c.name}
			if c.rsa {
				cfg.MaxVersion, cfg.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
			}
			client := tls.Client(peer, cfg)
			require.NoError(t, client.Handshake())
			assert.Equal(t, connected, testutil.Receive(t, events))
			assert.Equal(t, c.want.Leaf.Raw, client.ConnectionState().PeerCertificates[0].Raw)
			assert.Equal(t, c.name, conn.ConnectionState().ServerName)
		})
	}
}

// --- sessions ----------------------------------------------------------------------------

// A client resumes the session of a crypto/tls server, also after a cut.
func TestResumption(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}, MaxVersion: version}, sendBack)
		for _, cache := range []int{0, 1} {
			ctx := client(t, &openssl.Config{RootCAs: ca.pool(), SessionCache: cache})
			for i := range 3 {
				conn := newSocket(t, ctx, newLoop(t), -1)
				read, events := watch(t, conn)
				require.NoError(t, conn.Connect("tcp", addr.String()))
				require.Equal(t, connected, testutil.Receive(t, events))
				_, err := conn.WriteString("hello") // in TLS 1.3 the ticket comes with the answer
				require.NoError(t, err)
				assert.Equal(t, "hello", take(t, read, 5))
				state := conn.ConnectionState()
				assert.Equal(t, cache > 0 && i > 0, state.DidResume)
				require.NotEmpty(t, state.PeerCertificates)
				assert.Equal(t, []string(nil), state.PeerCertificates[0].DNSNames)
				conn.Free()
			}
			assert.EqualValues(t, cache, openssl.Live().Sessions)
			ctx.Free()
			testutil.Eventually(t, func() bool { return openssl.Live() == openssl.LiveObjects{} }, "all is given back")
		}
	})
}

// A Conn connects to one server and then to another. The session with the first server must not
// prove the identity of the second.
func TestSessionsAreNotSharedByServers(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}, MaxVersion: version}, sendBack)
		trust(t, ca, func(t *testing.T, cfg openssl.Config) {
			conn := newSocket(t, client(t, &cfg), newLoop(t), -1)
			read, events := watch(t, conn)
			require.NoError(t, conn.Connect("tcp", addr.String()))
			require.Equal(t, connected, testutil.Receive(t, events))
			_, err := conn.WriteString("hello") // in TLS 1.3 the ticket comes with the answer
			require.NoError(t, err)
			assert.Equal(t, "hello", take(t, read, 5))
			assert.ErrorIs(t, conn.ConnectHostname(nil, "tcp4", "localhost", addr.Port), syscall.EISCONN)
			assert.Equal(t, "127.0.0.1", conn.ConnectionState().ServerName)
			require.NoError(t, conn.CloseWrite())
			require.Equal(t, endOfFile, testutil.Receive(t, events))
			testutil.OnLoop(t, conn.Base(), func() { assert.NoError(t, conn.ReplaceFD(-1)) })
			require.NoError(t, conn.Enable(rd))
			require.NoError(t, conn.ConnectHostname(nil, "tcp4", "localhost", addr.Port))
			var host x509.HostnameError
			assert.ErrorAs(t, testutil.Receive(t, events).err, &host)
		})
	})
}

// crypto/tls resumes a session of the server, unless the server sends no tickets.
func TestServerResumption(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		for _, disabled := range []bool{false, true} {
			for _, auth := range []tls.ClientAuthType{tls.NoClientCert, tls.RequireAndVerifyClientCert} {
				cfg := &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")},
					MaxVersion: version, SessionTicketsDisabled: disabled, ClientAuth: auth}
				if auth != tls.NoClientCert {
					cfg.ClientCAs = ca.pool()
				}
				base, states := newLoop(t), make(chan openssl.ConnectionState, 1)
				addr := accept(t, base, server(t, cfg), func(conn *openssl.Conn) {
					echo(t, conn)
					go func() {
						testutil.Eventually(t, func() bool { return conn.ConnectionState().HandshakeComplete }, "the handshake is done")
						states <- conn.ConnectionState()
					}()
				})
				client := &tls.Config{RootCAs: ca.pool(), ClientSessionCache: tls.NewLRUClientSessionCache(1), Certificates: []tls.Certificate{ca.issue(t, "client")}}
				for i := range 3 {
					conn, err := tls.Dial("tcp", addr.String(), client)
					require.NoError(t, err)
					_, err = conn.Write([]byte("hello"))
					require.NoError(t, err)
					_, err = io.ReadFull(conn, make([]byte, 5))
					require.NoError(t, err)
					resumed := i > 0 && !disabled
					assert.Equal(t, resumed, conn.ConnectionState().DidResume, "connection %d, tickets disabled: %v", i, disabled)
					state := testutil.Receive(t, states)
					assert.Equal(t, resumed, state.DidResume)
					assert.Equal(t, auth != tls.NoClientCert, len(state.PeerCertificates) > 0)
					require.NoError(t, conn.Close())
				}
			}
		}
	})
}

// --- peers that do not speak TLS ---------------------------------------------------------------------------

func TestPlainText(t *testing.T) {
	ca := newAuthority(t)
	fd, peer := testutil.TCPPair(t)
	conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}), newLoop(t), fd)
	_, events := watch(t, conn)
	_, err := peer.Write([]byte("GET / HTTP/1.1\r\nHost: example.test\r\n\r\n"))
	require.NoError(t, err)
	what := testutil.Receive(t, events)
	assert.NotZero(t, what.what&libevent.EventError)
	var e *openssl.Error
	require.ErrorAs(t, what.err, &e)
	assert.Equal(t, "handshake", e.Op)
	assert.Equal(t, "http request", e.Reason)
	assert.NotZero(t, e.Code)
	assert.False(t, e.Timeout() || e.Temporary())
}

// A client reports a server that does not speak TLS.
func TestPlainTextServer(t *testing.T) {
	fd, peer := testutil.TCPPair(t)
	conn := newSocket(t, client(t, &openssl.Config{ServerName: "example.test"}), newLoop(t), fd)
	_, events := watch(t, conn)
	_, err := peer.Write([]byte("220 mail.example.test ESMTP\r\n"))
	require.NoError(t, err)
	assert.ErrorContains(t, testutil.Receive(t, events).err, "wrong version number")
}

// hello returns the first message of a crypto/tls client.
func hello(t testing.TB) []byte {
	t.Helper()
	a, b := net.Pipe()
	go func() { _ = tls.Client(a, &tls.Config{ServerName: "example.test"}).Handshake() }()
	defer a.Close()
	p := make([]byte, 4096)
	n, err := b.Read(p)
	require.NoError(t, err)
	return p[:n]
}

// Garbage or an end at any place of the handshake is an error, and no crash.
func TestGarbageInHandshake(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	base := newLoop(t)
	first := hello(t)
	for at := 0; at <= len(first); at += 7 {
		for _, then := range []string{"", strings.Repeat("\xff\x00garbage", 1000)} {
			fd, peer := testutil.TCPPair(t)
			conn := newSocket(t, ctx, base, fd)
			_, events := watch(t, conn)
			_, err := peer.Write(append(first[:at:at], then...))
			require.NoError(t, err)
			require.NoError(t, peer.CloseWrite())
			what := testutil.Receive(t, events)
			assert.NotZero(t, what.what&libevent.EventError, "at %d", at)
			if then == "" {
				assert.Equal(t, io.ErrUnexpectedEOF, what.err, "at %d", at)
			} else {
				assert.Error(t, what.err)
			}
			conn.Free()
			require.NoError(t, peer.Close())
		}
	}
}

// Garbage on an open connection is an error, and the bytes before it are read.
func TestGarbageLater(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		conn, read, events, peer := open(t, version)
		_, err := peer.Write([]byte("good"))
		require.NoError(t, err)
		assert.Equal(t, "good", take(t, read, 4))
		_, err = peer.NetConn().Write([]byte("\x17\x03\x03\x00\x20" + strings.Repeat("x", 32)))
		require.NoError(t, err)
		what := testutil.Receive(t, events)
		assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
		var e *openssl.Error
		require.ErrorAs(t, what.err, &e)
		assert.Equal(t, "read", e.Op)
		assert.ErrorContains(t, err2(peer.Read(make([]byte, 1))), "bad record MAC")
		assert.Equal(t, what.err, err2(conn.Read(make([]byte, 1))))
	})
}

func err2(_ int, err error) error { return err }

// A peer that sends nothing causes one timeout, and after that the loop sleeps.
func TestHandshakeTimeout(t *testing.T) {
	ca := newAuthority(t)
	for name, ctx := range map[string]*openssl.Context{
		"server": server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}),
		"client": client(t, &openssl.Config{ServerName: "example.test", RootCAs: ca.pool()}),
	} {
		t.Run(name, func(t *testing.T) {
			base := newLoop(t)
			fd, _ := testutil.TCPPair(t)
			conn := newSocket(t, ctx, base, fd)
			require.NoError(t, conn.SetTimeouts(20*time.Millisecond, 20*time.Millisecond))
			_, events := watch(t, conn)
			what := testutil.Receive(t, events)
			assert.NotZero(t, what.what&libevent.EventTimeout)
			assert.ErrorIs(t, what.err, os.ErrDeadlineExceeded)
			assert.Zero(t, conn.Enabled())
			time.Sleep(100 * time.Millisecond) // sleep: for an event that must not come
			assert.Empty(t, events)
			assert.False(t, conn.ConnectionState().HandshakeComplete)
		})
	}
}

// A socket that is connected stays with its peer, also if TLS has failed there.
func TestConnectToAnotherAfterAFailure(t *testing.T) {
	ca := newAuthority(t)
	conn := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool()}), newLoop(t), -1)
	_, events := watch(t, conn)
	bad := listen(t, &tls.Config{Certificates: []tls.Certificate{newAuthorityNamed(t, "another").issue(t, "127.0.0.1")}}, sendBack)
	good := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}}, sendBack)
	require.NoError(t, conn.Connect("tcp", bad.String()))
	refused := conn.Connect("tcp", "127.0.0.2:1")
	assert.True(t, errors.Is(refused, syscall.EISCONN) || errors.Is(refused, syscall.EALREADY), "%v", refused)
	told := testutil.Receive(t, events)
	assert.True(t, as[x509.UnknownAuthorityError](told.err), "the name that is expected has stayed: %v", told)
	assert.ErrorIs(t, conn.Connect("tcp", good.String()), syscall.EISCONN)
	assert.ErrorIs(t, conn.ConnectHostname(nil, "tcp4", "localhost", good.Port), syscall.EISCONN)
	testutil.OnLoop(t, conn.Base(), func() { assert.NoError(t, conn.ReplaceFD(-1)) })
	require.NoError(t, conn.Connect("tcp", good.String()))
	assert.Equal(t, connected, testutil.Receive(t, events))
	assert.Empty(t, events)
}

// A descriptor of the caller's stays with the host of the ConnectHostname that has connected it, also before its
// handshake begins.
func TestConnectAfterConnectHostnameOfADescriptor(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}}, sendBack)
	conn := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool()}), base, -1)
	_, events := watch(t, conn)
	fd := testutil.TCPSocket(t)
	second := make(chan error, 1)
	require.NoError(t, base.Post(func() {
		assert.NoError(t, conn.SetFD(fd))
		assert.NoError(t, conn.ConnectHostname(nil, "tcp4", "127.0.0.1", addr.Port))
		assert.NoError(t, base.Post(func() { second <- conn.Connect("tcp", "127.0.0.2:1") }))
	}))
	err := testutil.Receive(t, second)
	assert.True(t, errors.Is(err, syscall.EISCONN) || errors.Is(err, syscall.EALREADY), "%v", err)
	assert.Equal(t, connected, testutil.Receive(t, events))
	assert.Equal(t, "127.0.0.1", conn.ConnectionState().ServerName)
	conn.Free()
}

// A Connect that is refused while ConnectHostname looks a name up does not change the host.
func TestConnectDuringALookup(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}}, sendBack)
	conn := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool()}), base, -1)
	_, events := watch(t, conn)
	held, ends := make(chan struct{}), make(chan struct{})
	require.NoError(t, base.Post(func() { close(held); <-ends }))
	testutil.Receive(t, held)
	require.NoError(t, conn.ConnectHostname(nil, "tcp4", "127.0.0.1", addr.Port))
	assert.ErrorIs(t, conn.Connect("tcp", "127.0.0.2:1"), libevent.ErrWrongLoop)
	close(ends)
	assert.Equal(t, connected, testutil.Receive(t, events))
	assert.Equal(t, "127.0.0.1", conn.ConnectionState().ServerName)
	conn.Free()
}

// A connect that cannot begin does not change the host either.
func TestConnectThatCannotBegin(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	conn := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool()}), base, -1)
	_, events := watch(t, conn)
	fd, socket := testutil.TCPPair(t)
	assert.Error(t, conn.Connect("tcp", "255.255.255.255:1"))
	failed := handshakeOf(tls.Server(socket, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "255.255.255.255")}}))
	testutil.OnLoop(t, base, func() { assert.NoError(t, conn.SetFD(fd)) })
	assert.True(t, as[x509.HostnameError](testutil.Receive(t, events).err))
	conn.Free()
	assert.NoError(t, socket.Close())
	<-failed
}

// If two goroutines connect at once, one call is refused, and its host is not the name that the server's certificate
// must have.
func TestConnectAtOnce(t *testing.T) {
	ca := newAuthority(t)
	base, ctx := newLoop(t), client(t, &openssl.Config{RootCAs: ca.pool()})
	port := listenOn(t, "0.0.0.0", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}}, sendBack).Port
	for range 500 {
		conn := newSocket(t, ctx, base, -1)
		_, events := watch(t, conn)
		start, another := make(chan struct{}), make(chan error)
		go func() {
			<-start
			another <- conn.Connect("tcp", fmt.Sprintf("127.0.0.2:%d", port))
		}()
		close(start)
		err := conn.Connect("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		assert.True(t, (err == nil) != (<-another == nil), "one of them is refused")
		if err == nil {
			assert.Equal(t, connected, testutil.Receive(t, events))
		} else {
			assert.True(t, as[x509.HostnameError](testutil.Receive(t, events).err))
		}
		conn.Free()
	}
}

// A connection to a path has no name, also if there was one to a host before.
func TestConnectToAPathAfterAHost(t *testing.T) {
	ca := newAuthority(t)
	names := make(chan string, 10)
	cfg := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "localhost")}, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		names <- hello.ServerName
		return nil, nil
	}}
	path := filepath.Join(t.TempDir(), "socket")
	ln, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer ln.Close()
	go func() {
		if conn, err := ln.Accept(); err == nil {
			_ = tls.Server(conn, cfg).Handshake()
		}
	}()
	conn := newSocket(t, client(t, &openssl.Config{InsecureSkipVerify: true, SessionCache: 1}), newLoop(t), -1)
	_, events := watch(t, conn)
	require.NoError(t, conn.ConnectHostname(nil, "tcp4", "localhost", listen(t, cfg, sendBack).Port))
	require.Equal(t, connected, testutil.Receive(t, events))
	assert.Equal(t, "localhost", testutil.Receive(t, names))
	testutil.OnLoop(t, conn.Base(), func() { assert.NoError(t, conn.ReplaceFD(-1)) })
	require.NoError(t, conn.Connect("unix", path))
	require.Equal(t, connected, testutil.Receive(t, events))
	assert.Empty(t, testutil.Receive(t, names))
	assert.Empty(t, conn.ConnectionState().ServerName)
}

// gatedWrites is the connection of a client of TLS 1.3, whose second write ends its handshake.
type gatedWrites struct {
	net.Conn
	writes int
	last   func(write func())
}

func (g *gatedWrites) Write(p []byte) (n int, err error) {
	g.writes++
	if g.writes != 2 {
		return g.Conn.Write(p)
	}
	g.last(func() { n, err = g.Conn.Write(p) })
	return n, err
}

// A server whose handshake has failed may get another socket.
func TestServerGetsAnotherSocketAfterAFailure(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		for _, first := range []string{"this is no record", ""} {
			fd, socket := testutil.TCPPair(t)
			another, other := testutil.TCPPair(t)
			conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version}), newLoop(t), fd)
			_, events := watch(t, conn)
			_, err := socket.Write([]byte(first))
			require.NoError(t, err)
			require.NoError(t, socket.CloseWrite())
			assert.Equal(t, libevent.EventReading|libevent.EventError, testutil.Receive(t, events).what)
			testutil.OnLoop(t, conn.Base(), func() { assert.NoError(t, conn.ReplaceFD(another)) })
			require.NoError(t, conn.Enable(rd|wr))
			require.NoError(t, tls.Client(other, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"}).Handshake())
			assert.Equal(t, connected, testutil.Receive(t, events))
			assert.Empty(t, events)
			conn.Free()
		}
	})
}

// A handshake ends in a turn in which the connection then gets another socket. The user is not told that
// it is open, because the peer of that socket is not known yet.
func TestHandshakeOfTheSocketBefore(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	fd, socket := testutil.Socketpair(t)
	another, other := testutil.TCPPair(t)
	conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}), base, fd)
	_, events := watch(t, conn)
	near, far := testutil.Socketpair(t)
	t.Cleanup(func() { _ = syscall.Close(near); _ = syscall.Close(far) })
	replaced := make(chan struct{})
	var replace *libevent.Event
	replace, err := base.NewEvent(near, libevent.EvRead, func(int, libevent.What) {
		assert.NoError(t, replace.Del())
		assert.NoError(t, conn.ReplaceFD(another))
		close(replaced)
	})
	require.NoError(t, err)
	require.NoError(t, replace.Add(-1))
	cfg := &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"}
	first := tls.Client(&gatedWrites{Conn: fileConn(t, socket), last: func(write func()) {
		testutil.OnLoop(t, base, func() { // the loop sees both in its next turn, in this order
			write()
			_, err := syscall.Write(far, []byte("x"))
			assert.NoError(t, err)
		})
	}}, cfg)
	require.NoError(t, first.Handshake())
	testutil.Receive(t, replaced)
	require.NoError(t, tls.Client(other, cfg).Handshake())
	assert.Equal(t, connected, testutil.Receive(t, events))
	testutil.OnLoop(t, base, replace.Free)
	assert.Empty(t, events)
}
