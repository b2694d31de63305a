// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"crypto/x509"
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

// byName is a client on a bufferevent that connects to a name with several addresses.
type byName struct {
	*openssl.Conn
	read   <-chan string
	events <-chan told
}

// names makes a DNSBase in which example.test has the address to, after so many others that refuse the connection.
func names(t *testing.T, base *libevent.Base, to *net.TCPAddr, others int) *libevent.DNSBase {
	var hosts strings.Builder
	for i := range others {
		fmt.Fprintf(&hosts, "127.0.0.%d example.test\n", 9+i)
	}
	fmt.Fprintf(&hosts, "%s example.test\n", to.IP)
	file := filepath.Join(t.TempDir(), "hosts")
	require.NoError(t, os.WriteFile(file, []byte(hosts.String()), 0o600))
	return testutil.NewDNSBase(t, base, libevent.DNSConfig{NoSystemConfig: true, Hosts: file})
}

// connectByName makes one. The name has the address of the listener, after so many others that refuse the connection.
func connectByName(t *testing.T, ctx *openssl.Context, to *net.TCPAddr, others int, prepare ...func(under *libevent.BufferEvent)) byName {
	base := newLoop(t)
	dns := names(t, base, to, others)
	under, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	conn, err := ctx.NewFilter(under, libevent.OptCloseOnFree)
	require.NoError(t, err)
	t.Cleanup(conn.Free)
	read, events := watch(t, conn)
	for _, f := range prepare {
		f(under)
	}
	require.NoError(t, under.ConnectHostname(dns, "tcp4", "example.test", to.Port))
	return byName{conn, read, events}
}

// Addresses that refuse the connection have no effect on what comes after them.
func TestFilterOnAConnectByName(t *testing.T) {
	ca := newAuthority(t)
	ctx := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	good := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}
	for others := range 3 {
		ends := make(chan struct{})
		conn := connectByName(t, ctx, listen(t, good, func(c *tls.Conn) {
			assert.NoError(t, c.Handshake())
			<-ends
			assert.NoError(t, c.NetConn().(*net.TCPConn).SetLinger(0))
		}), others)
		assert.Equal(t, connected, testutil.Receive(t, conn.events))
		close(ends)
		end := testutil.Receive(t, conn.events)
		assert.Equal(t, libevent.EventReading|libevent.EventError, end.what)
		assert.ErrorIs(t, end.err, syscall.ECONNRESET)
	}
}

// Nor have they in a stack of several TLS.
func TestFiltersOnAConnectByName(t *testing.T) {
	ca := newAuthority(t)
	ctx := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	good := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}
	for filters := 1; filters <= 3; filters++ {
		base := newLoop(t)
		to := listen(t, good, func(c *tls.Conn) {
			for range filters {
				c = tls.Server(c, good)
			}
			sendBack(c)
		})
		bottom := newSocket(t, ctx, base, -1)
		top := bottom
		for range filters {
			filter, err := ctx.NewFilter(top.BufferEvent, libevent.OptCloseOnFree)
			require.NoError(t, err)
			top = filter
		}
		t.Cleanup(top.Free)
		read, events := watch(t, top)
		_, err := top.WriteString("hello")
		require.NoError(t, err)
		require.NoError(t, bottom.ConnectHostname(names(t, base, to, 1), "tcp4", "example.test", to.Port))
		assert.Equal(t, connected, testutil.Receive(t, events))
		assert.Equal(t, "hello", take(t, read, 5))
	}
}

// The peer of several TLS goes away before their handshakes. The program is told once, and the loop sleeps.
func TestPeerOfSeveralTLSGoesAway(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, HandshakeTimeout: 100 * time.Millisecond})
	for _, filter := range []bool{false, true} {
		base := newLoop(t)
		fd, socket := testutil.TCPPair(t)
		top, err := ctx.NewFilter(newConn(t, ctx, base, fd, filter).BufferEvent, libevent.OptCloseOnFree)
		require.NoError(t, err)
		_, events := watch(t, top)
		require.NoError(t, socket.Close())
		assert.NotZero(t, testutil.Receive(t, events).what&libevent.EventError)
		before := testutil.CPUTime()
		passes(t, base, 400*time.Millisecond)
		assert.Less(t, testutil.CPUTime()-before, 200*time.Millisecond, "the loop sleeps")
		assert.Empty(t, events)
		top.Free()
	}
}

// HandshakeTimeout also limits the handshake with a later address.
func TestFilterOnAConnectByNameTimesOut(t *testing.T) {
	ctx := client(t, &openssl.Config{InsecureSkipVerify: true, HandshakeTimeout: 100 * time.Millisecond})
	for others := range 2 {
		ends := make(chan struct{})
		conn := connectByName(t, ctx, listen(t, &tls.Config{}, func(*tls.Conn) { <-ends }), others)
		assert.Equal(t, told{libevent.EventTimeout, os.ErrDeadlineExceeded}, testutil.Receive(t, conn.events))
		close(ends)
	}
}

// The first address that takes the connection is the last one.
func TestFilterOnAConnectByNameIsRefused(t *testing.T) {
	bad := listen(t, &tls.Config{Certificates: []tls.Certificate{newAuthority(t).issue(t, "example.test")}}, sendBack)
	conn := connectByName(t, client(t, &openssl.Config{RootCAs: newAuthorityNamed(t, "another").pool(), ServerName: "example.test"}), bad, 1)
	end := testutil.Receive(t, conn.events)
	assert.Equal(t, libevent.EventReading|libevent.EventError, end.what)
	assert.True(t, as[x509.UnknownAuthorityError](end.err), "%v", end.err)
	assert.Empty(t, conn.events)
}

// Also an address that does not answer has no effect on what comes after it.
func TestFilterOnAConnectByNameWaits(t *testing.T) {
	ca := newAuthority(t)
	ctx := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}, sendBack)
	testutil.FullBacklog(t, "127.0.0.9", addr.Port)
	conn := connectByName(t, ctx, addr, 1, func(under *libevent.BufferEvent) { require.NoError(t, under.SetTimeouts(0, 100*time.Millisecond)) })
	_, err := conn.WriteString("hello")
	require.NoError(t, err)
	assert.Equal(t, connected, testutil.Receive(t, conn.events))
	assert.Equal(t, "hello", take(t, conn.read, 5))
}

// FreeAfterFlush in a handshake waits for it, also on a socket that connects by name.
func TestFlushAfterConnectHostname(t *testing.T) {
	ca := newAuthority(t)
	hello, flushing, got := make(chan struct{}), make(chan struct{}), make(chan string)
	addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		close(hello)
		<-flushing
		return nil, nil
	}}, func(c *tls.Conn) {
		all, err := io.ReadAll(c)
		assert.NoError(t, err)
		got <- string(all)
	})
	conn := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool()}), newLoop(t), -1)
	watch(t, conn)
	_, err := conn.WriteString("all of it")
	require.NoError(t, err)
	require.NoError(t, conn.ConnectHostname(nil, "tcp4", "127.0.0.1", addr.Port))
	testutil.Receive(t, hello)
	require.NoError(t, conn.FreeAfterFlush(testutil.Patience))
	close(flushing)
	assert.Equal(t, "all of it", testutil.Receive(t, got))
}

// An address does not answer. The timers of the filter and of the bufferevent below pass in one turn, and FreeAfterFlush
// goes on with the next address.
func TestFlushToTheNextAddress(t *testing.T) {
	ca := newAuthority(t)
	got := make(chan string)
	addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}, func(c *tls.Conn) {
		all, err := io.ReadAll(c)
		assert.NoError(t, err)
		got <- string(all)
	})
	testutil.FullBacklog(t, "127.0.0.9", addr.Port)
	const limit = 200 * time.Millisecond
	conn := connectByName(t, client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"}), addr, 1,
		func(under *libevent.BufferEvent) { require.NoError(t, under.SetTimeouts(0, limit)) })
	require.NoError(t, conn.SetTimeouts(0, limit))
	text := strings.Repeat("all of it", 10000)
	_, err := conn.WriteString(text)
	require.NoError(t, err)
	passes(t, conn.Base(), limit/2)
	testutil.Hold(t, conn.Base(), 2*limit, func() {
		assert.NoError(t, conn.FreeAfterFlush(testutil.Patience))
	})
	assert.Equal(t, text, testutil.Receive(t, got))
}

// TLS begins with the first connection of the bufferevent below, so that one makes no other.
func TestFilterIsForOneConnection(t *testing.T) {
	ca := newAuthority(t)
	ctx := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}, sendBack)
	for name, first := range map[string]func(under *libevent.BufferEvent) error{
		"refused": func(under *libevent.BufferEvent) error { return under.Connect("tcp", testutil.Refusing(t).String()) },
		"refused by name": func(under *libevent.BufferEvent) error {
			return under.ConnectHostname(nil, "tcp4", "127.0.0.1", testutil.Refusing(t).Port)
		},
		"connected": func(under *libevent.BufferEvent) error { return under.Connect("tcp", addr.String()) },
		"connected by name": func(under *libevent.BufferEvent) error {
			return under.ConnectHostname(nil, "tcp4", "127.0.0.1", addr.Port)
		},
	} {
		for _, between := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " ", between), func(t *testing.T) {
				base := newLoop(t)
				under, err := base.NewSocket(-1, libevent.OptCloseOnFree)
				require.NoError(t, err)
				below := under
				if between {
					below = testutil.NewFilter(t, under, nil, nil, libevent.OptCloseOnFree)
				}
				conn, err := ctx.NewFilter(below, libevent.OptCloseOnFree)
				require.NoError(t, err)
				_, events := watch(t, conn)
				require.NoError(t, first(under))
				testutil.Receive(t, events)
				testutil.OnLoop(t, base, func() {
					fd := under.FD()
					require.NoError(t, under.SetFD(-1))
					if strings.HasPrefix(name, "connected") { // the descriptor may come back
						require.NoError(t, under.SetFD(fd))
						require.NoError(t, under.ReplaceFD(-1))
						return
					}
					a, b := testutil.Socketpair(t)
					assert.ErrorIs(t, under.ReplaceFD(a), syscall.EBUSY)
					assert.ErrorIs(t, under.SetFD(a), syscall.EBUSY)
					for _, fd := range []int{a, b, fd} {
						_ = syscall.Close(fd) // after a connect by name there is none
					}
				})
				assert.ErrorIs(t, under.Connect("tcp", addr.String()), syscall.EBUSY)
				assert.ErrorIs(t, under.ConnectHostname(nil, "tcp4", "127.0.0.1", addr.Port), syscall.EBUSY)
				conn.Free()
			})
		}
	}
}

// Without the filter the bufferevent below connects again.
func TestConnectAfterTheFilter(t *testing.T) {
	ca := newAuthority(t)
	ctx := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}, sendBack)
	base := newLoop(t)
	under, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	between := testutil.NewFilter(t, under, nil, nil, 0)
	for range 2 {
		conn, err := ctx.NewFilter(between, 0)
		require.NoError(t, err)
		read, events := watch(t, conn)
		require.NoError(t, under.Connect("tcp", addr.String()))
		require.Equal(t, connected, testutil.Receive(t, events))
		_, err = conn.WriteString("hello")
		require.NoError(t, err)
		require.Equal(t, "hello", take(t, read, 5))
		freed := testutil.Freed(conn)
		conn.Free()
		testutil.Receive(t, freed) // until then it is on top
		testutil.OnLoop(t, base, func() {
			assert.NoError(t, under.ReplaceFD(-1))
			assert.NoError(t, between.Input().Drain(between.Input().Len()))
		})
	}
	between.Free()
	under.Free()
}

// The attempts of a connect by name reach TLS through a filter with a lock of its own, while another goroutine takes
// the locks of the stack.
func TestFilterOnAFilterOnAConnectByName(t *testing.T) {
	ca := newAuthority(t)
	ctx := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	addr := listen(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}, sendBack)
	base := newLoop(t)
	for range 20 {
		under, err := base.NewSocket(-1, libevent.OptCloseOnFree)
		require.NoError(t, err)
		conn, err := ctx.NewFilter(testutil.NewFilter(t, under, nil, nil, libevent.OptCloseOnFree), libevent.OptCloseOnFree)
		require.NoError(t, err)
		read, events := watch(t, conn)
		_, err = conn.WriteString("hello")
		require.NoError(t, err)
		ends, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case <-ends:
					return
				default:
					conn.FD()
				}
			}
		}()
		require.NoError(t, under.ConnectHostname(names(t, base, addr, 3), "tcp4", "example.test", addr.Port))
		assert.Equal(t, connected, testutil.Receive(t, events))
		assert.Equal(t, "hello", take(t, read, 5))
		close(ends)
		testutil.Receive(t, ended)
		conn.Free()
	}
}

// Nothing can be sent after a refused connect, so FreeAfterFlush does not wait.
func TestFlushAfterARefusedConnect(t *testing.T) {
	under, err := newLoop(t).NewSocket(-1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	conn, err := client(t, &openssl.Config{InsecureSkipVerify: true}).NewFilter(under, libevent.OptCloseOnFree)
	require.NoError(t, err)
	_, events := watch(t, conn)
	_, err = conn.WriteString("lost")
	require.NoError(t, err)
	require.NoError(t, under.Connect("tcp", testutil.Refusing(t).String()))
	assert.ErrorIs(t, testutil.Receive(t, events).err, syscall.ECONNREFUSED)
	require.NoError(t, conn.FreeAfterFlush(time.Hour))
	testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "the connection is freed")
}
