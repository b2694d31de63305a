// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// clock is a Config.Time that can be put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) time() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// A client that resumes a session knows what the server has sent along with its certificate.
func TestStapleOfAResumedSession(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "127.0.0.1")
	cert.OCSPStaple = ocspResponse(t, "a response")
	cert.SignedCertificateTimestamps = [][]byte{[]byte("one"), []byte("another")}
	versions(t, func(t *testing.T, version uint16) {
		addr := listen(t, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version}, sendBack)
		ctx := client(t, &openssl.Config{RootCAs: ca.pool(), SessionCache: 1})
		for i := range 3 {
			conn := newSocket(t, ctx, newLoop(t), -1)
			read, events := watch(t, conn)
			require.NoError(t, conn.Connect("tcp", addr.String()))
			require.Equal(t, connected, testutil.Receive(t, events))
			_, err := conn.WriteString("hello") // in TLS 1.3 the ticket comes with the answer
			require.NoError(t, err)
			assert.Equal(t, "hello", take(t, read, 5))
			state := conn.ConnectionState()
			assert.Equal(t, i > 0, state.DidResume)
			assert.Equal(t, cert.OCSPStaple, state.OCSPResponse)
			assert.Equal(t, cert.SignedCertificateTimestamps, state.SignedCertificateTimestamps)
			conn.Free()
		}
	})
}

// A server may send many tickets, and they do not cost the client as many looks at the server's certificates.
func TestManyTickets(t *testing.T) {
	ca := newAuthority(t)
	large := ca.issueWith(t, newKey(t), func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: make([]byte, 90<<10)}}
	}, "example.test")
	ctx := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", SessionCache: 1})
	allocated := func(tickets int) int64 {
		var before, after runtime.MemStats
		ours, theirs := testutil.Socketpair(t)
		base := newLoop(t)
		conn := newSocket(t, ctx, base, ours)
		read, events := watch(t, conn)
		peer := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{large}, SessionTickets: tickets}), base, theirs)
		_, connects := watch(t, peer)
		runtime.ReadMemStats(&before)
		require.Equal(t, connected, testutil.Receive(t, events))
		require.Equal(t, connected, testutil.Receive(t, connects))
		_, err := peer.WriteString("after the tickets")
		require.NoError(t, err)
		take(t, read, len("after the tickets"))
		runtime.ReadMemStats(&after)
		conn.Free()
		peer.Free()
		return int64(after.TotalAlloc - before.TotalAlloc)
	}
	assert.Less(t, allocated(16)-allocated(1), int64(10*90<<10))
}

// The tickets of a server contain the client's certificate, and may not fit into the socket.
func TestTicketsWithoutRoom(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, ClientAuth: tls.RequireAndVerifyClientCert,
		ClientCAs: ca.pool(), SessionTickets: 16})
	cert := ca.issueWith(t, newKey(t), large, "client")
	for _, mode := range []string{"fast", "plain", "filter"} {
		t.Run(mode, func(t *testing.T) {
			a, b := testutil.Socketpair(t)
			require.NoError(t, syscall.SetsockoptInt(a, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 8<<10))
			conn := connIn(t, ctx, newLoop(t), a, mode)
			_, events := watch(t, conn)
			peer := tls.Client(fileConn(t, b), &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", Certificates: []tls.Certificate{cert}})
			require.NoError(t, peer.Handshake()) // it has read no ticket
			echo := make(chan error, 1)
			go func() {
				_, err := io.ReadFull(peer, make([]byte, len("after the tickets")))
				echo <- err
			}()
			require.Equal(t, connected, testutil.Receive(t, events))
			_, err := conn.WriteString("after the tickets")
			require.NoError(t, err)
			assert.NoError(t, testutil.Receive(t, echo))
			conn.Free()
		})
	}
}

// A client keeps no session if it must not ask for tickets.
func TestClientWithoutTickets(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}, MaxVersion: version}, sendBack)
		ctx := client(t, &openssl.Config{RootCAs: ca.pool(), SessionCache: 1, SessionTicketsDisabled: true})
		for range 2 {
			conn := newSocket(t, ctx, newLoop(t), -1)
			read, events := watch(t, conn)
			require.NoError(t, conn.Connect("tcp", addr.String()))
			require.Equal(t, connected, testutil.Receive(t, events))
			_, err := conn.WriteString("hello") // in TLS 1.3 the ticket comes with the answer
			require.NoError(t, err)
			assert.Equal(t, "hello", take(t, read, 5))
			assert.False(t, conn.ConnectionState().DidResume)
			assert.Zero(t, openssl.Live().Sessions)
			conn.Free()
		}
	})
}

// once is the cache of a client that uses each session once, as browsers do.
type once struct{ sessions []*tls.ClientSessionState }

func (o *once) Get(string) (*tls.ClientSessionState, bool) {
	if len(o.sessions) == 0 {
		return nil, false
	}
	last := len(o.sessions) - 1
	session := o.sessions[last]
	o.sessions = o.sessions[:last]
	return session, true
}

func (o *once) Put(_ string, session *tls.ClientSessionState) {
	if session != nil {
		o.sessions = append(o.sessions, session)
	}
}

// With TLS 1.3 a server sends a new ticket also when it resumes a session.
func TestTicketsThatAreUsedOnce(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, SessionTickets: 1})
	cache := new(once)
	for i := range 4 {
		fd, socket := testutil.TCPPair(t)
		conn := newSocket(t, ctx, newLoop(t), fd)
		_, events := watch(t, conn)
		peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test", ClientSessionCache: cache})
		require.NoError(t, peer.Handshake())
		require.Equal(t, connected, testutil.Receive(t, events))
		_, err := conn.WriteString("x") // the ticket comes before it
		require.NoError(t, err)
		_, err = io.ReadFull(peer, make([]byte, 1))
		require.NoError(t, err)
		assert.Equal(t, i > 0, peer.ConnectionState().DidResume)
		assert.Len(t, cache.sessions, 1)
		conn.Free()
	}
}

// A client takes as many tickets as a server may be told to send, also a client of crypto/tls.
func TestMostTickets(t *testing.T) {
	ca := newAuthority(t)
	_, err := openssl.NewServerContext(&openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, SessionTickets: 17})
	require.ErrorContains(t, err, "SessionTickets is 17: it must be 0 to 16")
	fd, socket := testutil.TCPPair(t)
	conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, SessionTickets: 16}), newLoop(t), fd)
	_, events := watch(t, conn)
	peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	require.NoError(t, peer.Handshake())
	require.Equal(t, connected, testutil.Receive(t, events))
	_, err = conn.WriteString("x")
	require.NoError(t, err)
	_, err = io.ReadFull(peer, make([]byte, 1))
	assert.NoError(t, err)
	conn.Free()
}

// A client refuses timestamps that are no list.
func TestTimestampsThatAreNoList(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "example.test")
	cert.SignedCertificateTimestamps = [][]byte{[]byte("one"), {}} // crypto/tls sends it as it is
	versions(t, func(t *testing.T, version uint16) {
		conn, what, err := handshake(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", MaxVersion: version}),
			&tls.Config{Certificates: []tls.Certificate{cert}})
		assert.Error(t, err)
		assert.ErrorContains(t, what.err, "bad extension")
		conn.Free()
	})
}

// A session does not outlive the certificate of its server.
func TestServerExpiresBeforeItsSession(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}, MaxVersion: version}, sendBack)
		var clock clock
		ctx := client(t, &openssl.Config{RootCAs: ca.pool(), SessionCache: 1, Time: clock.time})
		dial := func() (*openssl.Conn, <-chan string, told) {
			conn := newSocket(t, ctx, newLoop(t), -1)
			read, events := watch(t, conn)
			require.NoError(t, conn.Connect("tcp", addr.String()))
			return conn, read, testutil.Receive(t, events)
		}
		for i := range 3 {
			conn, read, what := dial()
			require.Equal(t, connected, what)
			_, err := conn.WriteString("hello") // in TLS 1.3 the ticket comes with the answer
			require.NoError(t, err)
			assert.Equal(t, "hello", take(t, read, 5))
			state := conn.ConnectionState()
			assert.Equal(t, i > 0, state.DidResume)
			assert.Len(t, state.PeerCertificates, 2)
			assert.NotEmpty(t, state.VerifiedChains)
			conn.Free()
		}
		clock.ahead.Store(int64(2 * time.Hour))
		conn, _, what := dial()
		assert.True(t, invalid(x509.Expired)(what.err), "%v", what)
		conn.Free()
	})
}

// A session with which a handshake fails is not tried again.
func TestSessionThatIsNotAccepted(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}, MaxVersion: version}, sendBack)
		ctx := client(t, &openssl.Config{RootCAs: ca.pool(), SessionCache: 1, VerifyConnection: func(s openssl.ConnectionState) error {
			if s.DidResume {
				return errUnwanted
			}
			return nil
		}})
		for i := range 4 {
			conn := newSocket(t, ctx, newLoop(t), -1)
			read, events := watch(t, conn)
			require.NoError(t, conn.Connect("tcp", addr.String()))
			what := testutil.Receive(t, events)
			if i%2 == 1 {
				assert.ErrorIs(t, what.err, errUnwanted)
			} else if assert.Equal(t, connected, what) {
				_, err := conn.WriteString("hello") // in TLS 1.3 the ticket comes with the answer
				require.NoError(t, err)
				assert.Equal(t, "hello", take(t, read, 5))
			}
			conn.Free()
		}
	})
}

// One of the chains to a server has an intermediate that has expired. The list of the authority of the
// other chain is too old, or not. Only a chain that is valid altogether lets a session be resumed.
func TestChainsOfASession(t *testing.T) {
	one, another := newAuthorityNamed(t, "one root"), newAuthorityNamed(t, "another root")
	below := one.below(t)
	crossed := template("test intermediate")
	crossed.IsCA, crossed.BasicConstraintsValid, crossed.KeyUsage = true, true, x509.KeyUsageCertSign
	crossed.NotAfter = time.Now().Add(10 * time.Minute)
	cert := withRoot(below.issue(t, "127.0.0.1"), one)
	cert.Certificate = append(cert.Certificate, sign(t, crossed, another.cert, &below.key.PublicKey, another.key).Raw)
	addr := listen(t, &tls.Config{Certificates: []tls.Certificate{cert}}, sendBack)
	for _, old := range []bool{false, true} {
		list, clock := one.revoke(t), new(clock)
		if old {
			list.NextUpdate = crossed.NotAfter // the signature is of the bytes, which stay
		}
		ctx := client(t, &openssl.Config{RootCertificates: []*x509.Certificate{one.cert, another.cert}, SessionCache: 1, Time: clock.time, CRLs: []*x509.RevocationList{list}})
		for ahead, chains := range []int{2, 1} {
			clock.ahead.Store(int64(time.Duration(ahead) * 30 * time.Minute))
			conn := newSocket(t, ctx, newLoop(t), -1)
			read, events := watch(t, conn)
			require.NoError(t, conn.Connect("tcp", addr.String()))
			what := testutil.Receive(t, events)
			if old && ahead > 0 {
				assert.True(t, as[*tls.CertificateVerificationError](what.err), "%v", what)
				conn.Free()
				continue
			}
			require.Equal(t, connected, what)
			_, err := conn.WriteString("hello") // in TLS 1.3 the ticket comes with the answer
			require.NoError(t, err)
			assert.Equal(t, "hello", take(t, read, 5))
			assert.Equal(t, ahead > 0, conn.ConnectionState().DidResume)
			assert.Len(t, conn.ConnectionState().VerifiedChains, chains)
			conn.Free()
		}
	}
}

// A session does not outlive the certificate of its client. The client gets a full handshake, which
// refuses the certificate if it is verified.
func TestClientExpiresBeforeItsSession(t *testing.T) {
	for _, auth := range []tls.ClientAuthType{tls.VerifyClientCertIfGiven, tls.RequestClientCert, tls.RequireAnyClientCert} {
		t.Run(auth.String(), func(t *testing.T) {
			versions(t, func(t *testing.T, version uint16) {
				ca := newAuthority(t)
				accepting := &openssl.Config{ClientAuth: auth}
				var refuses func(error) bool
				if auth == tls.VerifyClientCertIfGiven {
					accepting.ClientCAs = ca.pool()
					refuses = invalid(x509.Expired)
				}
				clientExpires(t, version, accepting, ca.issue(t, "client"), refuses)
			})
		})
	}
}

// lasting makes a certificate for an authority that is good for a day.
func lasting(t *testing.T, name string, by *authority) *authority {
	t.Helper()
	key, cert := newKey(t), template(name)
	cert.IsCA, cert.BasicConstraintsValid, cert.KeyUsage = true, true, x509.KeyUsageCertSign
	cert.NotAfter = time.Now().Add(24 * time.Hour)
	if by == nil {
		by = &authority{cert, key}
	}
	return &authority{sign(t, cert, by.cert, &key.PublicKey, by.key), key}
}

// Nor does it outlive the certificate of an intermediate, or the revocation list of one.
func TestChainOfAClientExpiresBeforeItsSession(t *testing.T) {
	root := lasting(t, "root", nil)
	byList := func(err error) bool { return err != nil && strings.Contains(err.Error(), "revocation list") }
	for name, c := range map[string]struct {
		by      *authority
		lists   []*x509.RevocationList
		refuses func(error) bool
	}{
		"intermediate": {by: root.below(t), refuses: invalid(x509.Expired)},
		"list":         {by: lasting(t, "intermediate", root), lists: []*x509.RevocationList{root.revoke(t)}, refuses: byList},
	} {
		t.Run(name, func(t *testing.T) {
			versions(t, func(t *testing.T, version uint16) {
				cert := c.by.issueWith(t, newKey(t), func(cert *x509.Certificate) { cert.NotAfter = time.Now().Add(12 * time.Hour) }, "client")
				clientExpires(t, version, &openssl.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: root.pool(), CRLs: c.lists}, cert, c.refuses)
			})
		})
	}
}

// clientExpires connects until a session is resumed, and again after two hours. Then the client gets a full handshake,
// which refuses it unless refuses is nil.
func clientExpires(t *testing.T, version uint16, accepting *openssl.Config, cert tls.Certificate, refuses func(error) bool) {
	ca := newAuthority(t)
	var clock clock
	events := make(chan told, 100)
	accepting.Certificates, accepting.MaxVersion, accepting.Time = []tls.Certificate{ca.issue(t, "127.0.0.1")}, version, clock.time
	addr := accept(t, newLoop(t), server(t, accepting), func(conn *openssl.Conn) {
		read, told := watch(t, conn)
		go func() {
			what := <-told
			events <- what
			if what == connected {
				_, _ = conn.WriteString(<-read)
			}
		}()
	})
	cfg := &tls.Config{RootCAs: ca.pool(), ClientSessionCache: tls.NewLRUClientSessionCache(1), Certificates: []tls.Certificate{cert}}
	dial := func() (*tls.Conn, error) {
		conn, err := tls.Dial("tcp", addr.String(), cfg)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err = conn.Write([]byte("hello")); err != nil {
			return nil, err
		}
		_, err = io.ReadFull(conn, make([]byte, 5))
		return conn, err
	}
	for i := range 3 {
		conn, err := dial()
		require.NoError(t, err)
		assert.Equal(t, i > 0, conn.ConnectionState().DidResume)
		require.Equal(t, connected, testutil.Receive(t, events))
	}
	clock.ahead.Store(int64(2 * time.Hour))
	conn, err := dial()
	what := testutil.Receive(t, events)
	if refuses != nil {
		assert.Error(t, err)
		assert.True(t, refuses(what.err), "%v", what)
		return
	}
	require.NoError(t, err)
	assert.False(t, conn.ConnectionState().DidResume)
	assert.Equal(t, connected, what)
}

// resumes reports whether a client of crypto/tls resumes its session with a server.
func resumes(t *testing.T, addr string, cfg *tls.Config) bool {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, cfg)
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("hello"))
	require.NoError(t, err)
	_, err = io.ReadFull(conn, make([]byte, 5)) // in TLS 1.3 the ticket comes before the answer
	require.NoError(t, err)
	return conn.ConnectionState().DidResume
}

// A server changes the key of its tickets every day, and opens a ticket for a week.
func TestTicketKeysRotate(t *testing.T) {
	ca := newAuthority(t)
	const day = 24 * time.Hour
	versions(t, func(t *testing.T, version uint16) {
		var clock clock
		addr := accept(t, newLoop(t), server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}, MaxVersion: version,
			Time: clock.time}), func(conn *openssl.Conn) { echo(t, conn) }).String()
		fresh := func() *tls.Config {
			return &tls.Config{RootCAs: ca.pool(), ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		}
		old, renewed, middle := fresh(), fresh(), fresh()
		assert.False(t, resumes(t, addr, old))
		assert.False(t, resumes(t, addr, renewed))
		clock.ahead.Store(int64(4 * day))
		assert.True(t, resumes(t, addr, renewed))
		assert.False(t, resumes(t, addr, middle))
		clock.ahead.Store(int64(8 * day))
		assert.False(t, resumes(t, addr, old))
		assert.True(t, resumes(t, addr, renewed)) // had another ticket after four days
		assert.True(t, resumes(t, addr, middle))
	})
}

// Servers that share keys resume each other's sessions. A key that was taken away opens no ticket.
func TestSetSessionTicketKeys(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		serve := func(auth tls.ClientAuthType, keys ...[32]byte) (*openssl.Context, string) {
			ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}, MaxVersion: version, ClientAuth: auth})
			if keys != nil {
				require.NoError(t, ctx.SetSessionTicketKeys(keys))
			}
			return ctx, accept(t, newLoop(t), ctx, func(conn *openssl.Conn) { echo(t, conn) }).String()
		}
		first, second := [32]byte{1}, [32]byte{2}
		one, a := serve(tls.NoClientCert, first)
		_, b := serve(tls.NoClientCert, second, first)
		_, alone := serve(tls.NoClientCert)
		_, demanding := serve(tls.RequestClientCert, first)
		cfg := &tls.Config{RootCAs: ca.pool(), ServerName: "127.0.0.1", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		assert.False(t, resumes(t, a, cfg))
		assert.True(t, resumes(t, a, cfg))
		assert.True(t, resumes(t, b, cfg)) // the ticket from b has the second key
		assert.False(t, resumes(t, a, cfg))
		assert.False(t, resumes(t, demanding, cfg))
		assert.False(t, resumes(t, a, cfg))
		assert.False(t, resumes(t, alone, cfg))
		assert.False(t, resumes(t, a, cfg))
		require.NoError(t, one.SetSessionTicketKeys([][32]byte{second}))
		assert.False(t, resumes(t, a, cfg))
		assert.True(t, resumes(t, a, cfg))
		assert.ErrorIs(t, one.SetSessionTicketKeys(nil), syscall.EINVAL)
		assert.ErrorIs(t, one.SetSessionTicketKeys(make([][32]byte, 65)), syscall.EINVAL)
	})
	ctx := client(t, nil)
	assert.ErrorIs(t, ctx.SetSessionTicketKeys([][32]byte{{}}), syscall.EINVAL)
	freed := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}})
	freed.Free()
	assert.ErrorIs(t, freed.SetSessionTicketKeys([][32]byte{{}}), libevent.ErrClosed)
}

// tickets counts those that a client of crypto/tls gets.
type tickets struct{ n atomic.Int32 }

func (c *tickets) Get(string) (*tls.ClientSessionState, bool)    { return nil, false }
func (c *tickets) Put(_ string, session *tls.ClientSessionState) { c.n.Add(1) }

// A ticket contains the certificate of the client, which OpenSSL decodes for each.
func TestTicketsOfAClientWithManyParts(t *testing.T) {
	ca := newAuthority(t)
	addr := accept(t, newLoop(t), server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")},
		SessionTickets: 16, ClientAuth: tls.RequireAnyClientCert}), func(conn *openssl.Conn) { echo(t, conn) }).String()
	for parts, want := range map[int]int32{10: 16, 200: 2} {
		cert := ca.issueWith(t, newKey(t), func(c *x509.Certificate) {
			for i := range parts {
				c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 128 + i}})
			}
		}, "client")
		got := &tickets{}
		assert.False(t, resumes(t, addr, &tls.Config{RootCAs: ca.pool(), Certificates: []tls.Certificate{cert}, ClientSessionCache: got}))
		assert.Equal(t, want, got.n.Load())
	}
}

// A session of TLS 1.2 is resumed only with a cipher that the server has, also if another server has made it.
func TestCipherOfASession(t *testing.T) {
	ca := newAuthority(t)
	serve := func(suites ...uint16) string {
		return sharing(t, ca, &openssl.Config{MaxVersion: tls.VersionTLS12, CipherSuites: suites})
	}
	const narrow, wide = tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
	one, another, strict := serve(wide), serve(narrow, wide), serve(narrow)
	cfg := &tls.Config{RootCAs: ca.pool(), MaxVersion: tls.VersionTLS12, ServerName: "127.0.0.1", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	assert.False(t, resumes(t, one, cfg))
	assert.True(t, resumes(t, another, cfg))
	assert.False(t, resumes(t, strict, cfg))
	assert.True(t, resumes(t, strict, cfg))
	assert.False(t, resumes(t, one, cfg))
}

// sharing starts a server whose ticket keys other servers have as well.
func sharing(t *testing.T, ca *authority, cfg *openssl.Config) (addr string) {
	t.Helper()
	cfg.Certificates = []tls.Certificate{ca.issue(t, "127.0.0.1")}
	ctx := server(t, cfg)
	require.NoError(t, ctx.SetSessionTicketKeys([][32]byte{{1}}))
	return accept(t, newLoop(t), ctx, func(conn *openssl.Conn) { echo(t, conn) }).String()
}

// Two servers share keys, and their authorities have the same name. A server resumes the session of
// a client that another server has verified only after it has verified the client itself.
func TestSessionOfAnotherAuthority(t *testing.T) {
	ca, namesake := newAuthority(t), newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		serve := func(by *authority) string {
			return sharing(t, ca, &openssl.Config{MaxVersion: version, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: by.pool()})
		}
		one, other, strange := serve(ca), serve(ca), serve(namesake)
		cfg := &tls.Config{RootCAs: ca.pool(), ServerName: "127.0.0.1", ClientSessionCache: tls.NewLRUClientSessionCache(1),
			Certificates: []tls.Certificate{ca.issue(t, "client")}}
		assert.False(t, resumes(t, one, cfg))
		assert.True(t, resumes(t, one, cfg))
		assert.False(t, resumes(t, other, cfg))
		assert.True(t, resumes(t, one, cfg))
		assert.True(t, resumes(t, other, cfg))
		assert.Error(t, refusedBy(strange, cfg))
	})
}

// Two servers share keys, and VerifyPeerCertificate is all that they verify. A server resumes the session
// of a client that the other one has accepted only after it has accepted the client itself.
func TestSessionThatVerifyPeerCertificateHasNotSeen(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		serve := func(result error) string {
			return sharing(t, ca, &openssl.Config{MaxVersion: version, ClientAuth: tls.RequireAnyClientCert,
				VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error { return result }})
		}
		one, other, refusing := serve(nil), serve(nil), serve(errUnwanted)
		cfg := &tls.Config{RootCAs: ca.pool(), ServerName: "127.0.0.1", ClientSessionCache: tls.NewLRUClientSessionCache(1),
			Certificates: []tls.Certificate{ca.issue(t, "client")}}
		assert.False(t, resumes(t, one, cfg))
		assert.True(t, resumes(t, one, cfg))
		assert.False(t, resumes(t, other, cfg))
		assert.True(t, resumes(t, other, cfg))
		assert.Error(t, refusedBy(refusing, cfg))
	})
}

// refusedBy returns the error with which a server ends the connection of a client, or nil.
func refusedBy(addr string, cfg *tls.Config) error {
	conn, err := tls.Dial("tcp", addr, cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("x"))      // a server that accepts the client sends it back
	_, err = conn.Read(make([]byte, 1)) // in TLS 1.3 the refusal comes after the client's handshake
	return err
}

// NewSocket asks Time whether a session can still be resumed. A panic in Time comes out of NewSocket, and leaves
// nothing behind.
func TestTimePanicsInNewSocket(t *testing.T) {
	ca := newAuthority(t)
	var panics atomic.Bool
	ctx := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test", MaxVersion: tls.VersionTLS12, SessionCache: 1, Time: func() time.Time {
		if panics.Load() {
			testutil.Explode()
		}
		return time.Now()
	}})
	conn, what, err := handshake(t, ctx, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	require.NoError(t, err)
	require.Equal(t, connected, what)
	conn.Free()
	testutil.Eventually(t, func() bool { return openssl.Live() == openssl.LiveObjects{Contexts: 1, Sessions: 1} }, "the connection is freed")
	base := newLoop(t)
	panics.Store(true)
	assert.ErrorIs(t, testutil.AsError(testutil.Raises(func() { _, _ = ctx.NewSocket(base, -1, 0) })), testutil.ErrBoom)
	assert.Zero(t, openssl.Live().Conns)
	panics.Store(false)
	newSocket(t, ctx, base, -1).Free()
}
