package openssl_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// clock is a Config.Time that can be put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) time() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

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

// A session does not outlive the certificate of its client. The client gets a full handshake.
func TestClientExpiresBeforeItsSession(t *testing.T) {
	ca := newAuthority(t)
	versions(t, func(t *testing.T, version uint16) {
		var clock clock
		events := make(chan told, 100)
		addr := accept(t, newLoop(t), server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}, MaxVersion: version,
			ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.pool(), Time: clock.time}), func(conn *openssl.Conn) {
			read, told := watch(t, conn)
			go func() {
				what := <-told
				events <- what
				if what == connected {
					_, _ = conn.WriteString(<-read)
				}
			}()
		})
		cfg := &tls.Config{RootCAs: ca.pool(), ClientSessionCache: tls.NewLRUClientSessionCache(1), Certificates: []tls.Certificate{ca.issue(t, "client")}}
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
		_, err := dial()
		assert.Error(t, err)
		what := testutil.Receive(t, events)
		assert.True(t, invalid(x509.Expired)(what.err), "%v", what)
	})
}
