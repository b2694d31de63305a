// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"strconv"
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

// These are the cases of libevent's own regression test for bufferevent_openssl. Two ends count
// in turns from 1 to 1001, one number a line. The end that reads the last number frees itself.

const lastNumber = 1001

// counting is one run of such a case.
type counting struct {
	t        *testing.T
	base     *libevent.Base
	filter   bool // TLS is on other bufferevents, not on sockets
	passes   bool // and these are filters
	version  uint16
	dirty    bool // SetAllowDirtyShutdown
	late     bool // nothing is written before the handshake is done
	renew    bool // both ends renegotiate on the way
	opts     libevent.Options
	server   *openssl.Conn
	client   *openssl.Conn
	last     int
	shaken   int
	ends     []told
	onNumber func(c *openssl.Conn, n int)
}

func (c *counting) run() {
	t := c.t
	c.base = testutil.NewBase(t)
	ca := newAuthority(t)
	accepting := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: c.version, Renegotiation: c.renew})
	connecting := client(t, &openssl.Config{ServerName: "example.test", RootCAs: ca.pool(), Renegotiation: c.renew})
	a, b := testutil.Socketpair(t)
	c.server, c.client = c.conn(accepting, a), c.conn(connecting, b)
	for _, conn := range []*openssl.Conn{c.server, c.client} {
		conn.SetAllowDirtyShutdown(c.dirty)
		require.NoError(t, conn.SetCallbacks(func(*libevent.BufferEvent) { c.read(conn) }, nil,
			func(_ *libevent.BufferEvent, what libevent.Events) { c.event(conn, what) }))
		require.NoError(t, conn.Enable(rd))
	}
	if !c.late {
		c.say(c.client, 1)
	}
	testutil.Dispatch(t, c.base)
	assert.Equal(t, lastNumber, c.last)
	if !c.renew {
		assert.Equal(t, 2, c.shaken)
	}
	testutil.Eventually(t, func() bool { require.NoError(t, c.base.Loop(libevent.LoopNonblock)); return openssl.Live().Conns == 0 }, "both ends are gone")
	assert.Zero(t, c.base.NumEvents(libevent.CountAdded))
}

func (c *counting) conn(ctx *openssl.Context, fd int) *openssl.Conn {
	if !c.filter {
		conn, err := ctx.NewSocket(c.base, fd, c.opts|libevent.OptCloseOnFree)
		require.NoError(c.t, err)
		assert.Equal(c.t, fd, conn.FD())
		return conn
	}
	under, err := c.base.NewSocket(fd, c.opts|libevent.OptCloseOnFree)
	require.NoError(c.t, err)
	if c.passes {
		under = testutil.NewFilter(c.t, under, pass, pass, c.opts|libevent.OptCloseOnFree)
	}
	conn, err := ctx.NewFilter(under, c.opts|libevent.OptCloseOnFree)
	require.NoError(c.t, err)
	assert.Same(c.t, under, conn.Underlying())
	return conn
}

func (c *counting) say(conn *openssl.Conn, n int) {
	_, err := fmt.Fprintf(conn, "%d\n", n)
	assert.NoError(c.t, err)
}

func (c *counting) read(conn *openssl.Conn) {
	for line := range conn.Input().Lines(libevent.EOLLF) {
		n, err := strconv.Atoi(string(line))
		assert.NoError(c.t, err)
		assert.Equal(c.t, c.last+1, n)
		c.last = n
		if c.renew && n == 600 {
			assert.NoError(c.t, conn.Renegotiate())
		}
		if c.onNumber != nil {
			c.onNumber(conn, n)
		}
		if n == lastNumber {
			conn.Free() // without close_notify
			return
		}
		c.say(conn, n+1)
	}
}

func (c *counting) event(conn *openssl.Conn, what libevent.Events) {
	if what == libevent.EventConnected {
		c.shaken++
		state := conn.ConnectionState()
		assert.Equal(c.t, c.version, state.Version)
		assert.Len(c.t, state.PeerCertificates, map[bool]int{true: 2, false: 0}[conn == c.client])
		if c.late && conn == c.client {
			c.say(conn, 1)
		}
		return
	}
	c.ends = append(c.ends, told{what, conn.Err()})
	conn.Free()
}

// each runs a case on sockets and on filters.
func each(t *testing.T, test func(t *testing.T, c *counting)) {
	for _, filter := range []bool{false, true} {
		t.Run(map[bool]string{false: "socketpair", true: "filter"}[filter], func(t *testing.T) {
			versions(t, func(t *testing.T, version uint16) {
				test(t, &counting{t: t, filter: filter, version: version})
			})
		})
	}
}

func TestRegressPlain(t *testing.T) {
	each(t, func(t *testing.T, c *counting) {
		c.run()
		assert.Equal(t, []told{cutOff}, c.ends)
	})
}

func TestRegressWriteAfterConnect(t *testing.T) {
	each(t, func(t *testing.T, c *counting) {
		c.late = true
		c.run()
		assert.Equal(t, []told{cutOff}, c.ends)
	})
}

func TestRegressDirtyShutdown(t *testing.T) {
	each(t, func(t *testing.T, c *counting) {
		c.dirty = true
		c.run()
		assert.Equal(t, []told{cutAllowed}, c.ends)
	})
}

func TestRegressRenegotiate(t *testing.T) {
	for _, dirty := range []bool{false, true} {
		each(t, func(t *testing.T, c *counting) {
			if c.version != tls.VersionTLS12 {
				c.onNumber = func(conn *openssl.Conn, n int) {
					if n == 600 { // TLS 1.3 has no renegotiation
						assert.ErrorIs(t, conn.Renegotiate(), syscall.ENOTSUP)
					}
				}
			} else {
				c.renew = true
			}
			c.dirty = dirty
			c.run()
			assert.Equal(t, []told{map[bool]told{false: cutOff, true: cutAllowed}[dirty]}, c.ends)
			if c.renew {
				assert.Greater(t, c.shaken, 2)
			}
		})
	}
}

// With OptLoopOnly there are no locks, and without OptDeferCallbacks the callbacks run in the
// middle of libevent.
func TestRegressLoopOnly(t *testing.T) {
	for _, opts := range []libevent.Options{libevent.OptLoopOnly, libevent.OptLoopOnly | libevent.OptDeferCallbacks} {
		each(t, func(t *testing.T, c *counting) {
			c.opts = opts
			c.run()
			assert.Equal(t, []told{cutOff}, c.ends)
		})
		// A filter below calls back in the middle of OpenSSL.
		versions(t, func(t *testing.T, version uint16) {
			c := &counting{t: t, filter: true, passes: true, version: version, opts: opts}
			c.run()
			assert.Equal(t, []told{cutOff}, c.ends)
		})
	}
}

// Also with OptLoopOnly the read closure has had the last bytes before the end is told.
func TestEndWithLoopOnly(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	for _, filter := range []bool{false, true} {
		fd, socket := testutil.TCPPair(t)
		c := &counting{t: t, base: testutil.NewBase(t), filter: filter, opts: libevent.OptLoopOnly}
		conn := c.conn(ctx, fd)
		got := ""
		require.NoError(t, conn.SetCallbacks(func(b *libevent.BufferEvent) {
			p := make([]byte, b.Input().Len())
			n, err := b.Read(p)
			assert.NoError(t, err)
			got += string(p[:n])
		}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			if what != libevent.EventConnected {
				assert.Equal(t, endOfFile, told{what, b.Err()})
				assert.Equal(t, "last words", got, "filter %v", filter)
				b.Free()
			}
		}))
		require.NoError(t, conn.Enable(rd))
		peer := tls.Client(socket, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := peer.Write([]byte("last words"))
			assert.NoError(t, err)
			assert.NoError(t, peer.Close())
		}()
		testutil.Dispatch(t, c.base)
		testutil.Receive(t, done)
	}
}

// The descriptor can be taken away in the event closure.
func TestRegressFD(t *testing.T) {
	ca := newAuthority(t)
	base := testutil.NewBase(t)
	a, b := testutil.Socketpair(t)
	conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}), base, a)
	peer := newSocket(t, client(t, &openssl.Config{ServerName: "example.test", RootCAs: ca.pool()}), base, b)
	require.NoError(t, conn.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, what libevent.Events) {
		assert.Equal(t, libevent.EventConnected, what)
		assert.Equal(t, a, conn.FD())
		assert.NoError(t, conn.SetFD(-1))
		assert.Equal(t, -1, conn.FD())
		assert.NoError(t, syscall.Close(a))
	}))
	var end told
	require.NoError(t, peer.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, what libevent.Events) {
		end = told{what, peer.Err()}
	}))
	require.NoError(t, peer.Enable(rd))
	testutil.Dispatch(t, base)
	assert.Equal(t, libevent.EventError, end.what&libevent.EventError)
	conn.Free()
	peer.Free()
}

// SetFD makes a new connection with the same Conn.
func TestRegressSetFD(t *testing.T) {
	ca := newAuthority(t)
	base := newLoop(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}})
	conn, err := ctx.NewSocket(base, -1, libevent.OptCloseOnFree)
	require.NoError(t, err)
	read, events := watch(t, conn)
	for range 3 {
		fd, peer := testutil.TCPPair(t)
		testutil.OnLoop(t, base, func() {
			assert.NoError(t, conn.ReplaceFD(fd))
			assert.NoError(t, conn.Enable(rd|wr))
		})
		client := tls.Client(peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
		_, err := client.Write([]byte("hello"))
		require.NoError(t, err)
		assert.Equal(t, connected, testutil.Receive(t, events))
		assert.Equal(t, "hello", take(t, read, 5))
		_, err = conn.WriteString("hello")
		require.NoError(t, err)
		_, err = io.ReadFull(client, make([]byte, 5))
		require.NoError(t, err)
		require.NoError(t, client.Close())
		assert.Equal(t, endOfFile, testutil.Receive(t, events))
	}
}

// While a server is slow to answer, the loop sleeps.
func TestRegressConnectSleep(t *testing.T) {
	ca := newAuthority(t)
	held := make(chan struct{})
	cfg := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		<-held
		cert := ca.issue(t, "127.0.0.1")
		return &cert, nil
	}}
	addr := listen(t, cfg, sendBack)
	base := newLoop(t)
	conn := newSocket(t, client(t, &openssl.Config{RootCAs: ca.pool()}), base, -1)
	_, events := watch(t, conn)
	require.NoError(t, conn.Connect("tcp", addr.String()))
	time.Sleep(50 * time.Millisecond) // sleep: until the connection is made and the loop sleeps
	turns := 0
	tick, err := base.NewEvent(-1, libevent.EvPersist, func(int, libevent.What) { turns++ })
	require.NoError(t, err)
	defer tick.Free()
	before := testutil.CPUTime()
	time.Sleep(200 * time.Millisecond) // sleep: a loop that spins uses CPU time meanwhile
	assert.Less(t, testutil.CPUTime()-before, 100*time.Millisecond)
	close(held)
	assert.Equal(t, connected, testutil.Receive(t, events))
}

// With a high watermark and a closure that reads a little at a time, all bytes arrive, also those
// that OpenSSL has read already.
func TestRegressWatermarks(t *testing.T) {
	for _, filter := range []bool{false, true} {
		versions(t, func(t *testing.T, version uint16) {
			for _, size := range []int{1, 5000, 20000, 200000} {
				for _, high := range []int{5, 1000, 30000} {
					if size/high > 1000 {
						continue
					}
					t.Run(fmt.Sprint(filter, size, high), func(t *testing.T) { watermarks(t, filter, version, size, high) })
				}
			}
		})
	}
}

func watermarks(t *testing.T, filter bool, version uint16, size, high int) {
	c := &counting{t: t, filter: filter, base: newLoop(t)}
	ca := newAuthority(t)
	a, b := testutil.Socketpair(t)
	accepted := c.conn(server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version}), a)
	connecting := c.conn(client(t, &openssl.Config{ServerName: "example.test", RootCAs: ca.pool()}), b)
	want := strings.Repeat("x", size)
	var got atomic.Int64
	done := make(chan struct{})
	require.NoError(t, accepted.SetWatermark(rd, 0, high))
	require.NoError(t, accepted.SetCallbacks(func(b *libevent.BufferEvent) {
		p := make([]byte, max(high/2, 1))
		n, _ := b.Read(p)
		if n > 0 && got.Add(int64(n)) == int64(size) {
			close(done)
		}
	}, nil, nil))
	require.NoError(t, accepted.Enable(rd))
	_, events := watch(t, connecting)
	require.Equal(t, connected, testutil.Receive(t, events))
	_, err := connecting.WriteString(want)
	require.NoError(t, err)
	// If less than the mark is left unread, no read callback is due, so the test triggers it.
	for deadline := time.Now().Add(testutil.Patience); ; {
		require.True(t, time.Now().Before(deadline), "it stopped at %d", got.Load())
		select {
		case <-done:
			accepted.Free()
			connecting.Free()
			return
		case <-time.After(20 * time.Millisecond):
			assert.NoError(t, accepted.Trigger(rd, libevent.TriggerIgnoreWatermarks))
		}
	}
}

// A peer that sends nothing causes one timeout and leaves no event behind.
func TestRegressTimeout(t *testing.T) {
	ca := newAuthority(t)
	base := testutil.NewBase(t)
	a, b := testutil.Socketpair(t)
	defer syscall.Close(b)
	conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}}), base, a)
	var ends []libevent.Events
	require.NoError(t, conn.SetTimeouts(time.Millisecond, time.Millisecond))
	require.NoError(t, conn.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, what libevent.Events) {
		ends = append(ends, what)
		conn.Free()
	}))
	require.NoError(t, conn.Enable(rd))
	testutil.Dispatch(t, base)
	require.Len(t, ends, 1)
	assert.NotZero(t, ends[0]&libevent.EventTimeout)
	assert.Zero(t, base.NumEvents(libevent.CountAdded))
}
