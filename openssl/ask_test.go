// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// slowly is a Config.Time that says when it is called, and returns when it may.
type slowly struct {
	called, may chan struct{}
	now, most   atomic.Int32
}

func newSlowly() *slowly {
	return &slowly{called: make(chan struct{}, 1000), may: make(chan struct{})}
}

func (s *slowly) time() time.Time {
	n := s.now.Add(1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	s.called <- struct{}{}
	<-s.may
	s.now.Add(-1)
	return time.Now()
}

// waiting starts a handshake that waits for its verification, on each side and with each version.
// The peer's handshake has its result in failed.
func waiting(t *testing.T, test func(t *testing.T, conn *openssl.Conn, slow *slowly, failed <-chan error, peer *tls.Conn)) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	versions(t, func(t *testing.T, version uint16) {
		t.Run("server", func(t *testing.T) {
			slow := newSlowly()
			fd, socket := testutil.TCPPair(t)
			conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version,
				ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(), Time: slow.time}), newLoop(t), fd)
			peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", Certificates: []tls.Certificate{cert}})
			test(t, conn, slow, handshakeOf(peer), peer)
		})
		t.Run("client", func(t *testing.T) {
			needWaitingClients(t)
			slow := newSlowly()
			fd, socket := testutil.TCPPair(t)
			conn := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", MaxVersion: version, Time: slow.time}), newLoop(t), fd)
			peer := tls.Server(socket, &tls.Config{Certificates: []tls.Certificate{cert}})
			test(t, conn, slow, handshakeOf(peer), peer)
		})
	})
}

// needWaitingClients skips a test in which a client waits for its verification and the loop does
// not. OpenSSL 1.1.1 has no SSL_set_retry_verify, so there the loop waits, too.
func needWaitingClients(t *testing.T) {
	t.Helper()
	if isOld() {
		t.Skip("the loop waits for a client's verification with ", openssl.Version())
	}
}

func handshakeOf(peer *tls.Conn) <-chan error {
	failed := make(chan error, 1)
	go func() { failed <- peer.Handshake() }()
	return failed
}

// While a verification takes its time, the loop does other things, and the connection is not
// reported. What the peer sends already waits.
func TestLoopDoesNotWait(t *testing.T) {
	waiting(t, func(t *testing.T, conn *openssl.Conn, slow *slowly, failed <-chan error, peer *tls.Conn) {
		read, events := watch(t, conn)
		testutil.Receive(t, slow.called)
		_, err := conn.WriteString("from us")
		require.NoError(t, err)
		early := make(chan error, 1)
		go func() {
			_, err := peer.Write([]byte("from the peer")) // waits for the handshake, which may be done
			early <- err
		}()
		for range 100 { // many turns of the loop
			testutil.OnLoop(t, conn.Base(), func() {})
			require.NoError(t, conn.Enable(rd|wr))
		}
		assert.Empty(t, events)
		assert.Empty(t, read)
		assert.Equal(t, openssl.ConnectionState{}, conn.ConnectionState())
		close(slow.may)
		require.Equal(t, connected, testutil.Receive(t, events))
		require.NoError(t, testutil.Receive(t, failed))
		require.NoError(t, testutil.Receive(t, early))
		assert.Equal(t, "from the peer", take(t, read, len("from the peer")))
		got := make([]byte, len("from us"))
		_, err = io.ReadFull(peer, got)
		require.NoError(t, err)
		assert.Equal(t, "from us", string(got))
	})
}

// A connection may be freed while its verification goes on. The answer that comes afterwards is
// dropped.
func TestFreeWhileVerifying(t *testing.T) {
	waiting(t, func(t *testing.T, conn *openssl.Conn, slow *slowly, failed <-chan error, peer *tls.Conn) {
		_, events := watch(t, conn)
		testutil.Receive(t, slow.called)
		conn.Free()
		testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "the connection is given back")
		close(slow.may)
		testutil.OnLoop(t, conn.Base(), func() {})
		assert.Empty(t, events)
		_ = peer.NetConn().Close()
		<-failed
	})
}

// The timeouts of a connection limit the time that it waits for a verification.
func TestTimeoutWhileVerifying(t *testing.T) {
	needWaitingClients(t)
	ca := newAuthority(t)
	slow := newSlowly()
	fd, socket := testutil.TCPPair(t)
	conn := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", Time: slow.time}), newLoop(t), fd)
	require.NoError(t, conn.SetTimeouts(3*time.Second, 0))
	_, events := watch(t, conn)
	failed := handshakeOf(tls.Server(socket, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}))
	testutil.Receive(t, slow.called)
	what := testutil.Receive(t, events)
	assert.NotZero(t, what.what&libevent.EventTimeout)
	assert.ErrorIs(t, what.err, os.ErrDeadlineExceeded)
	conn.Free()
	close(slow.may)
	testutil.Receive(t, failed)
}

// An answer that comes after SetFD is not for the new connection.
func TestNewSocketWhileVerifying(t *testing.T) {
	needWaitingClients(t)
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	slow := newSlowly()
	conn := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", Time: slow.time}), newLoop(t), -1)
	_, events := watch(t, conn)
	var handshakes []<-chan error
	for _, cert := range []tls.Certificate{newAuthority(t).issue(t, "example.test"), cert} {
		fd, socket := testutil.TCPPair(t)
		testutil.OnLoop(t, conn.Base(), func() { assert.NoError(t, conn.ReplaceFD(fd)) })
		require.NoError(t, conn.Enable(rd))
		handshakes = append(handshakes, handshakeOf(tls.Server(socket, &tls.Config{Certificates: []tls.Certificate{cert}})))
		testutil.Receive(t, slow.called)
	}
	close(slow.may)
	require.Equal(t, connected, testutil.Receive(t, events))
	assert.True(t, cert.Leaf.Equal(conn.ConnectionState().PeerCertificates[0]))
	assert.Error(t, testutil.Receive(t, handshakes[0]))
	assert.NoError(t, testutil.Receive(t, handshakes[1]))
}

// A loop that has nothing else to do runs on while a verification goes on.
func TestLoopRunsWhileVerifying(t *testing.T) {
	ca := newAuthority(t)
	slow := newSlowly()
	base := testutil.NewBase(t)
	fd, socket := testutil.TCPPair(t)
	conn := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", Time: slow.time}), base, fd)
	_, events := watch(t, conn)
	peer := tls.Server(socket, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	failed := handshakeOf(peer)
	go func() {
		<-slow.called
		close(slow.may)
	}()
	go func() {
		<-failed
		_ = peer.Close()
	}()
	require.NoError(t, base.Dispatch())
	assert.Equal(t, connected, testutil.Receive(t, events))
	assert.Equal(t, endOfFile, testutil.Receive(t, events))
	conn.Free()
}

// processors is GOMAXPROCS at the start of the program, before the flag -cpu.
var processors = runtime.GOMAXPROCS(0)

// There are as many verifications at a time as there are processors, but at least two. The others
// wait.
func TestBoundedVerifications(t *testing.T) {
	needWaitingClients(t)
	ca := newAuthority(t)
	slow := newSlowly()
	ctx := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", Time: slow.time})
	base := newLoop(t)
	most := max(processors, 2)
	var all []<-chan told
	for range 3 * most {
		fd, socket := testutil.TCPPair(t)
		_, events := watch(t, newSocket(t, ctx, base, fd))
		handshakeOf(tls.Server(socket, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}))
		all = append(all, events)
	}
	for range most {
		testutil.Receive(t, slow.called)
	}
	close(slow.may)
	for _, events := range all {
		require.Equal(t, connected, testutil.Receive(t, events))
	}
	assert.EqualValues(t, most, slow.most.Load())
}

// A connection that is freed while its verification waits for its turn does not have the next ones wait.
func TestVerificationsOfFreedConnections(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	slow := newSlowly()
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(),
		SessionTicketsDisabled: true, Time: slow.time})
	base := newLoop(t)
	connect := func() (*openssl.Conn, <-chan told) {
		fd, socket := testutil.TCPPair(t)
		conn := newSocket(t, ctx, base, fd)
		_, events := watch(t, conn)
		// In TLS 1.3 the client's handshake ends before the server asks about the client.
		peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", Certificates: []tls.Certificate{cert}})
		require.NoError(t, testutil.Receive(t, handshakeOf(peer)))
		return conn, events
	}
	most := max(processors, 2)
	var first []<-chan told
	for range most {
		_, events := connect()
		testutil.Receive(t, slow.called)
		first = append(first, events)
	}
	var freed []*openssl.Conn
	for range 10 {
		conn, _ := connect()
		freed = append(freed, conn)
	}
	for range 3 { // turns, in which the questions are asked
		testutil.OnLoop(t, base, func() {})
	}
	for _, conn := range freed {
		conn.Free()
	}
	testutil.Eventually(t, func() bool { return openssl.Live().Conns == int64(most) }, "they are given back")
	_, last := connect()
	close(slow.may)
	for _, events := range append(first, last) {
		require.Equal(t, connected, testutil.Receive(t, events))
	}
	assert.Len(t, slow.called, 1, "only the last one was verified")
}

// A panic in a function of the user is the connection's failure.
func TestPanicWhileVerifying(t *testing.T) {
	ca := newAuthority(t)
	_, what, err := handshake(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", Time: func() time.Time { panic("no time") }}),
		&tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	assert.Error(t, err)
	assert.ErrorContains(t, what.err, "no time")
}

// A function of the user may end its goroutine, as require does in a test. Then the connection fails,
// and the goroutines for other handshakes do not become fewer.
func TestFunctionsThatEndTheirGoroutine(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	base := newLoop(t)
	first := func(cfg openssl.Config) told {
		cfg.Certificates, cfg.HandshakeTimeout = []tls.Certificate{cert}, -1
		fd, socket := testutil.TCPPair(t)
		conn := newSocket(t, server(t, &cfg), base, fd)
		defer conn.Free()
		_, events := watch(t, conn)
		failed := handshakeOf(tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", Certificates: cfg.Certificates}))
		what := testutil.Receive(t, events)
		require.NoError(t, socket.Close())
		testutil.Receive(t, failed)
		return what
	}
	verifies := openssl.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool()}
	ends := map[string]openssl.Config{
		"GetConfigForClient": {GetConfigForClient: func(*tls.ClientHelloInfo) (*openssl.Context, error) { runtime.Goexit(); return nil, nil }},
		"GetCertificate":     {GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { runtime.Goexit(); return nil, nil }},
		"VerifyConnection":   {VerifyConnection: func(openssl.ConnectionState) error { runtime.Goexit(); return nil }},
	}
	cfg := verifies
	cfg.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { runtime.Goexit(); return nil }
	ends["VerifyPeerCertificate"] = cfg
	cfg.VerifyPeerCertificate, cfg.Time = nil, func() time.Time { runtime.Goexit(); return time.Time{} }
	ends["Time"] = cfg
	for name, cfg := range ends {
		for range max(processors, 2) + 1 { // more than there are goroutines for verifications
			what := first(cfg)
			assert.Equal(t, libevent.EventReading|libevent.EventError, what.what, name)
			assert.ErrorContains(t, what.err, "ended its goroutine", name)
		}
	}
	assert.Equal(t, connected, first(verifies))
}

// The peer that a server has refused learns it from an alert.
func TestAlertForAClient(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		fd, socket := testutil.TCPPair(t)
		conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool()}), newLoop(t), fd)
		_, events := watch(t, conn)
		peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test",
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				cert := newAuthority(t).issue(t, "client")
				return &cert, nil
			}})
		err := peer.Handshake()
		if version == tls.VersionTLS13 { // the client's handshake ends before the server's
			require.NoError(t, err)
			_, err = peer.Read(make([]byte, 1))
		}
		assert.ErrorContains(t, err, "handshake failure")
		assert.True(t, as[x509.UnknownAuthorityError](testutil.Receive(t, events).err))
	})
}

// What was known of one peer is not told of the next one, also if the next handshake fails.
func TestStateOfTheNextConnection(t *testing.T) {
	ca := newAuthority(t)
	conn := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"}), newLoop(t), -1)
	_, events := watch(t, conn)
	for _, cert := range []tls.Certificate{ca.issue(t, "example.test"), newAuthority(t).issue(t, "example.test"), ca.issue(t, "example.test")} {
		fd, socket := testutil.TCPPair(t)
		testutil.OnLoop(t, conn.Base(), func() { assert.NoError(t, conn.ReplaceFD(fd)) })
		assert.Equal(t, openssl.ConnectionState{}, conn.ConnectionState())
		require.NoError(t, conn.Enable(rd|wr))
		peer := tls.Server(socket, &tls.Config{Certificates: []tls.Certificate{cert}})
		failed := handshakeOf(peer)
		what := testutil.Receive(t, events)
		if testutil.Receive(t, failed) != nil || what != connected {
			assert.Error(t, what.err)
			assert.Equal(t, openssl.ConnectionState{}, conn.ConnectionState())
			continue
		}
		assert.True(t, cert.Leaf.Equal(conn.ConnectionState().PeerCertificates[0]))
		require.NoError(t, peer.Close())
		require.Equal(t, endOfFile, testutil.Receive(t, events))
	}
}

// oneRecord puts the messages that a client of TLS 1.2 writes together into one record.
type oneRecord struct{ net.Conn }

func (c *oneRecord) Write(p []byte) (int, error) {
	const header = 5
	first, rest := bytes.Clone(p[:header]), p
	var messages []byte
	for len(rest) > 0 && rest[0] == first[0] && first[0] == 22 {
		n := header + int(binary.BigEndian.Uint16(rest[3:]))
		messages = append(messages, rest[header:n]...)
		rest = rest[n:]
	}
	if len(messages) == 0 {
		return c.Conn.Write(p)
	}
	binary.BigEndian.PutUint16(first[3:], uint16(len(messages)))
	_, err := c.Conn.Write(append(append(first, messages...), rest...))
	return len(p), err
}

// A server has the client's signature in its hands while the client's certificate is verified. If
// the signature is wrong, the connection fails, and the loop goes on.
func TestSignatureComesWithTheCertificate(t *testing.T) {
	ca := newAuthority(t)
	right := ca.issue(t, "example.test")
	wrong := right
	wrong.PrivateKey = newKey(t)
	for name, cert := range map[string]tls.Certificate{"right": right, "wrong": wrong} {
		t.Run(name, func(t *testing.T) {
			slow := newSlowly()
			fd, socket := testutil.TCPPair(t)
			conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{right}, MaxVersion: tls.VersionTLS12,
				ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(), Time: slow.time}), newLoop(t), fd)
			_, events := watch(t, conn)
			failed := handshakeOf(tls.Client(&oneRecord{socket}, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", Certificates: []tls.Certificate{cert}}))
			testutil.Receive(t, slow.called)
			close(slow.may)
			what := testutil.Receive(t, events)
			err := testutil.Receive(t, failed)
			if name == "right" {
				assert.Equal(t, connected, what)
				assert.NoError(t, err)
				return
			}
			assert.Equal(t, libevent.EventReading|libevent.EventError, what.what)
			assert.Regexp(t, "bad signature|provider signature failure", what.err) // OpenSSL 3.5 says the latter
			assert.ErrorContains(t, err, "error decrypting message")
			conn.Free()
		})
	}
}
