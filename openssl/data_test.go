// SPDX-License-Identifier: BSD-3-Clause

package openssl_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

// 100 MiB go each way at the same time, with a bounded output.
func TestMuch(t *testing.T) {
	much := 100 << 20
	if testutil.Race {
		much = 32 << 20
	}
	versions(t, func(t *testing.T, version uint16) {
		conn, _, events, peer := open(t, version)
		piece := testutil.Noise(64 << 10)
		got, sent := sha256.New(), sha256.New()
		left, done := much, make(chan struct{})
		fill := func(b *libevent.BufferEvent) {
			for left > 0 && b.Output().Len() < 1<<20 {
				p := piece[:min(left, len(piece)-left%1000)]
				sent.Write(p)
				_, err := b.Write(p)
				assert.NoError(t, err)
				left -= len(p)
			}
		}
		buf := make([]byte, 64<<10)
		total := 0
		read := func(b *libevent.BufferEvent) {
			for {
				n, err := b.Read(buf)
				if err != nil {
					break
				}
				got.Write(buf[:n])
				if total += n; total == much {
					close(done)
				}
			}
		}
		require.NoError(t, conn.SetWatermark(wr, 256<<10, 0))
		require.NoError(t, conn.SetCallbacks(read, fill, func(*libevent.BufferEvent, libevent.Events) {}))
		testutil.OnLoop(t, conn.Base(), func() { fill(conn.BufferEvent) })

		there, back := sha256.New(), sha256.New()
		var both sync.WaitGroup
		both.Go(func() {
			_, err := io.CopyN(back, peer, int64(much))
			assert.NoError(t, err)
		})
		for n := 0; n < much; {
			p := piece[:min(much-n, len(piece))]
			there.Write(p)
			_, err := peer.Write(p)
			require.NoError(t, err)
			n += len(p)
		}
		testutil.Receive(t, done)
		both.Wait()
		assert.Equal(t, there.Sum(nil), got.Sum(nil))
		testutil.OnLoop(t, conn.Base(), func() { assert.Equal(t, sent.Sum(nil), back.Sum(nil)) })
		assert.Empty(t, events)
	})
}

// A thousand connections between two loops are open at once, and each is given back.
func TestManyConnections(t *testing.T) {
	many := 1000
	if testutil.Race || testutil.ASan {
		many = 300
	}
	ca := newAuthority(t)
	base := newLoop(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")}, HandshakeTimeout: -1})
	addr := accept(t, base, ctx, func(conn *openssl.Conn) { echo(t, conn) })
	clients := client(t, &openssl.Config{RootCAs: ca.pool(), HandshakeTimeout: -1})
	other := newLoop(t)
	var open, ended atomic.Int64
	done := make(chan struct{})
	var conns []*openssl.Conn
	for range many {
		conn := newSocket(t, clients, other, -1)
		require.NoError(t, conn.SetCallbacks(func(b *libevent.BufferEvent) {
			if b.Input().Len() < 1000 {
				return
			}
			// All connections are open before the first one ends.
			if int(open.Add(1)) == many {
				close(done)
			}
		}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			switch what {
			case libevent.EventConnected:
				_, err := b.Write(make([]byte, 1000))
				assert.NoError(t, err)
			default:
				assert.Equal(t, endOfFile, told{what, b.Err()})
				b.Free()
				ended.Add(1)
			}
		}))
		require.NoError(t, conn.Enable(rd))
		require.NoError(t, conn.Connect("tcp", addr.String()))
		t.Cleanup(conn.Free)
		conns = append(conns, conn)
	}
	testutil.Receive(t, done)
	for _, conn := range conns {
		go func() { assert.NoError(t, conn.CloseWrite()) }()
	}
	testutil.Eventually(t, func() bool { return int(ended.Load()) == many }, "all have ended")
	testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 }, "all are given back")
}

// --- TLS records --------------------------------------------------------------------------

// recorder counts the TLS records that are read through it.
type recorder struct {
	net.Conn
	mu   sync.Mutex
	seen bytes.Buffer
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.mu.Lock()
	r.seen.Write(p[:n])
	r.mu.Unlock()
	return n, err
}

// data returns the lengths of the records of application data since the last call.
func (r *recorder) data() (sizes []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		p := r.seen.Bytes()
		if len(p) < 5 {
			return sizes
		}
		n := int(p[3])<<8 | int(p[4])
		if len(p) < 5+n {
			return sizes
		}
		if p[0] == 23 {
			sizes = append(sizes, n)
		}
		r.seen.Next(5 + n)
	}
}

// recorded makes a connection on which the records of the server can be counted.
func recorded(t testing.TB, newConn func(base *libevent.Base, ctx *openssl.Context, fd int) *openssl.Conn) (*openssl.Conn, *tls.Conn, *recorder) {
	t.Helper()
	ca := newAuthority(t)
	base := newLoop(t)
	fd, peer := testutil.TCPPair(t)
	conn := newConn(base, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: tls.VersionTLS12}), fd)
	_, events := watch(t, conn)
	r := &recorder{Conn: peer}
	client := tls.Client(r, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	require.NoError(t, client.Handshake())
	require.Equal(t, connected, testutil.Receive(t, events))
	r.data()
	return conn, client, r
}

// All that one closure writes is sent in as few records as possible.
func TestRecords(t *testing.T) {
	if testutil.PlainIO {
		t.Skip("libevent makes a record of each chain")
	}
	conn, peer, r := recorded(t, func(base *libevent.Base, ctx *openssl.Context, fd int) *openssl.Conn {
		return newSocket(t, ctx, base, fd)
	})
	for _, c := range []struct{ pieces, size, records int }{
		{1, 10, 1}, {100, 10, 1}, {10, 1000, 1}, {1000, 16, 1}, {8, 2048, 1}, {20, 1000, 2}, {1000, 100, 7}, {1, 100000, 7}, {30, 5000, 10},
	} {
		for _, how := range []string{"Write", "WriteBuffer", "Output"} {
			var sent []byte
			testutil.OnLoop(t, conn.Base(), func() {
				for range c.pieces {
					p := testutil.Noise(c.size)
					sent = append(sent, p...)
					switch how {
					case "Write":
						_, err := conn.Write(p)
						assert.NoError(t, err)
					case "WriteBuffer":
						b, err := libevent.NewBuffer()
						assert.NoError(t, err)
						assert.NoError(t, b.Add(p))
						assert.NoError(t, conn.WriteBuffer(b))
						b.Free()
					case "Output":
						assert.NoError(t, conn.Output().Add(p))
					}
				}
			})
			got := make([]byte, len(sent))
			_, err := io.ReadFull(peer, got)
			require.NoError(t, err)
			assert.Equal(t, sent, got)
			assert.Len(t, r.data(), c.records, "%d of %d bytes by %s", c.pieces, c.size, how)
		}
	}
}

// Output that waits for a peer that reads slowly is not sent in small records either.
func TestRecordsOfABacklog(t *testing.T) {
	if testutil.PlainIO {
		t.Skip("libevent makes the records")
	}
	conn, peer, r := recorded(t, func(base *libevent.Base, ctx *openssl.Context, fd int) *openssl.Conn {
		conn := newSocket(t, ctx, base, fd)
		return conn
	})
	const total = 8 << 20
	var sent []byte
	testutil.OnLoop(t, conn.Base(), func() {
		for p := testutil.Noise(1000); len(sent) < total; {
			sent = append(sent, p...)
			_, err := conn.Write(p)
			assert.NoError(t, err)
		}
	})
	got := make([]byte, len(sent))
	_, err := io.ReadFull(peer, got)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(sent, got))
	assert.LessOrEqual(t, len(r.data()), len(sent)/16000+2)
}

// Output from before the handshake is sent in one record.
func TestRecordsBeforeHandshake(t *testing.T) {
	if testutil.PlainIO {
		t.Skip("libevent makes the records")
	}
	ca := newAuthority(t)
	fd, peer := testutil.TCPPair(t)
	conn := newSocket(t, server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: tls.VersionTLS12}), newLoop(t), fd)
	for range 100 {
		b, err := libevent.NewBuffer()
		require.NoError(t, err)
		require.NoError(t, b.Add([]byte("0123456789")))
		require.NoError(t, conn.WriteBuffer(b))
		b.Free()
	}
	_, events := watch(t, conn)
	r := &recorder{Conn: peer}
	client := tls.Client(r, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"})
	_, err := io.ReadFull(client, make([]byte, 1000))
	require.NoError(t, err)
	assert.Equal(t, connected, testutil.Receive(t, events))
	assert.Len(t, r.data(), 1)
}

// Several goroutines may write at once, and no message is lost or torn.
func TestWritesFromElsewhere(t *testing.T) {
	conn, _, _, peer := open(t, tls.VersionTLS13)
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for range 1000 {
				_, err := conn.Write(bytes.Repeat([]byte{byte(i)}, 100))
				assert.NoError(t, err)
			}
		})
	}
	var counts [8]int
	p := make([]byte, 100)
	for range 8000 {
		_, err := io.ReadFull(peer, p)
		require.NoError(t, err)
		assert.Equal(t, bytes.Repeat(p[:1], 100), p)
		counts[p[0]]++
	}
	writers.Wait()
	for _, n := range counts {
		assert.Equal(t, 1000, n)
	}
}

// Output that is written while WRITE is disabled waits until WRITE is enabled.
func TestWriteWhileDisabled(t *testing.T) {
	conn, _, _, peer := open(t, tls.VersionTLS13)
	for i := range 5 {
		require.NoError(t, conn.Disable(wr))
		_, err := conn.Write([]byte{byte(i)})
		require.NoError(t, err)
		testutil.OnLoop(t, conn.Base(), func() {})
		testutil.OnLoop(t, conn.Base(), func() { assert.Equal(t, 1, conn.Output().Len()) })
		require.NoError(t, conn.Enable(wr))
		p := make([]byte, 1)
		_, err = io.ReadFull(peer, p)
		require.NoError(t, err)
		assert.Equal(t, byte(i), p[0])
		_, err = conn.Write(testutil.Noise(1 << 20)) // more than the socket takes at once
		require.NoError(t, err)
		got := make([]byte, 1<<20)
		_, err = io.ReadFull(peer, got)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(testutil.Noise(1<<20), got))
	}
}

// A connection may leave the fast path and return to it while much data arrives. It goes on
// reading, also the bytes that the fast path has read ahead.
func TestReadGoesOnOffTheFastPath(t *testing.T) {
	limits := map[string]func(b *openssl.Conn, on bool) error{
		"a rate": func(b *openssl.Conn, on bool) error {
			if !on {
				return b.SetRateLimit(nil)
			}
			// libevent 2.2 reads all that the limit allows before it calls the closure.
			return b.SetRateLimit(&libevent.RateLimit{ReadRate: 256 << 10, ReadBurst: 256 << 10, Tick: time.Millisecond})
		},
		"one read": func(b *openssl.Conn, on bool) error {
			if !on {
				return b.SetMaxSingleRead(0)
			}
			return b.SetMaxSingleRead(8192)
		},
	}
	for name, limit := range limits {
		t.Run(name, func(t *testing.T) { readsOn(t, limit) })
	}
}

func readsOn(t *testing.T, limit func(b *openssl.Conn, on bool) error) {
	conn, _, _, peer := open(t, tls.VersionTLS13)
	const step = 256 << 10
	steps := make(chan struct{}, 1)
	total := 0
	require.NoError(t, conn.SetCallbacks(func(b *libevent.BufferEvent) {
		n := b.Input().Len()
		assert.NoError(t, b.Input().Drain(n))
		before := total / step
		if total += n; total/step > before {
			select {
			case steps <- struct{}{}:
			default:
			}
		}
	}, nil, nil))
	go func() {
		for p := testutil.Noise(16384); ; {
			if _, err := peer.Write(p); err != nil {
				return
			}
		}
	}()
	for range 100 {
		for _, on := range []bool{true, false} {
			require.NoError(t, limit(conn, on))
			for range cap(steps) + 1 { // one may be from before the change
				testutil.Receive(t, steps)
			}
		}
	}
}

// With renegotiation libevent reads, and never the fast path. A watermark or a limit may stop it
// in the middle of a record that the socket has given already. It has to go on all the same.
func TestReadGoesOnWithRenegotiation(t *testing.T) {
	ca := newAuthority(t)
	ctx := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, Renegotiation: true})
	for name, limit := range map[string]func(c *openssl.Conn) error{
		"mark": func(c *openssl.Conn) error { return c.SetWatermark(rd, 0, 1000) },
		"rate": func(c *openssl.Conn) error {
			return c.SetRateLimit(&libevent.RateLimit{ReadRate: 5000, ReadBurst: 5000, Tick: 10 * time.Millisecond})
		},
	} {
		t.Run(name, func(t *testing.T) {
			fd, peer := testutil.TCPPair(t)
			conn := newSocket(t, ctx, newLoop(t), fd)
			require.NoError(t, limit(conn))
			read, events := watch(t, conn)
			sent := testutil.Noise(100000)
			go func() {
				_, err := tls.Client(peer, &tls.Config{RootCAs: ca.pool(), ServerName: "example.test"}).Write(sent)
				assert.NoError(t, err)
			}()
			require.Equal(t, connected, testutil.Receive(t, events))
			assert.Equal(t, string(sent), take(t, read, len(sent)))
			conn.Free()
		})
	}
}

// A rate limit for one direction does not limit the other.
func TestRateLimitOfOneDirection(t *testing.T) {
	for name, limit := range map[string]libevent.RateLimit{"write": {WriteRate: 20000}, "read": {ReadRate: 20000}} {
		t.Run(name, func(t *testing.T) {
			conn, read, _, peer := open(t, tls.VersionTLS13)
			require.NoError(t, conn.SetRateLimit(&limit))
			_, err := peer.Write([]byte("hello"))
			require.NoError(t, err)
			testutil.Receive(t, read)
			_, err = conn.WriteString("hello")
			require.NoError(t, err)
			p := make([]byte, 5)
			_, err = io.ReadFull(peer, p)
			require.NoError(t, err)
			assert.Equal(t, "hello", string(p))
		})
	}
}

// libevent charges a limit with the bytes that its BIO has counted. The bytes that the fast path
// has carried in between are not charged.
func TestRateLimitIsNotChargedForTheFastPath(t *testing.T) {
	conn, _, _, peer := open(t, tls.VersionTLS13)
	base := conn.Base()
	const burst = 1 << 20
	carry := func(n int) {
		done := make(chan struct{})
		got := 0
		require.NoError(t, conn.SetCallbacks(func(b *libevent.BufferEvent) {
			got += b.Input().Len()
			assert.NoError(t, b.Input().Drain(b.Input().Len()))
			if got == n {
				close(done)
			}
		}, nil, nil))
		_, err := peer.Write(testutil.Noise(n))
		require.NoError(t, err)
		testutil.Receive(t, done)
	}
	for range 3 {
		carry(3 << 20)
		limit := &libevent.RateLimit{ReadRate: burst, ReadBurst: burst, WriteRate: burst, WriteBurst: burst, Tick: time.Hour}
		require.NoError(t, conn.SetRateLimit(limit))
		carry(1000)
		testutil.OnLoop(t, base, func() {
			assert.LessOrEqual(t, conn.ReadLimit(), burst-1000)
			assert.Greater(t, conn.ReadLimit(), burst-2000)
			assert.LessOrEqual(t, conn.WriteLimit(), burst)
		})
		require.NoError(t, conn.SetRateLimit(nil))
	}
}

// A rate limit loses no bytes.
func TestRateLimit(t *testing.T) {
	conn, _, _, peer := open(t, tls.VersionTLS13)
	require.NoError(t, conn.SetRateLimit(&libevent.RateLimit{WriteRate: 20000, WriteBurst: 20000, ReadRate: 20000, ReadBurst: 20000, Tick: 1e7}))
	want := testutil.Noise(200000)
	var in []byte
	got := make(chan []byte, 1)
	require.NoError(t, conn.SetCallbacks(func(b *libevent.BufferEvent) {
		p := make([]byte, b.Input().Len())
		n, _ := b.Read(p)
		if in = append(in, p[:n]...); len(in) == len(want) {
			got <- in
		}
	}, nil, nil))
	go func() { _, _ = peer.Write(want) }() // no other goroutine could read meanwhile
	_, err := conn.Write(want)
	require.NoError(t, err)
	out := make([]byte, len(want))
	_, err = io.ReadFull(peer, out)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want, out))
	assert.True(t, bytes.Equal(want, testutil.Receive(t, got)))
}

// --- filters -------------------------------------------------------------------------------

// TLS runs on any bufferevent that a filter can be put on.
func TestFilter(t *testing.T) {
	ca := newAuthority(t)
	for name, ends := range map[string]func(t *testing.T, base *libevent.Base) (a, b *libevent.BufferEvent){
		"sockets": socketEnds, "pair": pairEnds, "filters": filterEnds,
	} {
		t.Run(name, func(t *testing.T) {
			versions(t, func(t *testing.T, version uint16) {
				base := newLoop(t)
				under, other := ends(t, base)
				accepted, err := server(t, &openssl.Config{Certificates: []tls.Certificate{ca.issue(t, "example.test")}, MaxVersion: version}).
					NewFilter(under, libevent.OptCloseOnFree)
				require.NoError(t, err)
				connecting, err := client(t, &openssl.Config{RootCAs: ca.pool(), ServerName: "example.test"}).
					NewFilter(other, libevent.OptCloseOnFree)
				require.NoError(t, err)
				assert.Same(t, under, accepted.Underlying())
				converse(t, accepted, connecting, version)
			})
		})
	}
}

// converse has two connections exchange much both ways, and end one after the other.
func converse(t *testing.T, accepted, connecting *openssl.Conn, version uint16) {
	t.Helper()
	readA, eventsA := watch(t, accepted)
	readB, eventsB := watch(t, connecting)
	require.Equal(t, connected, testutil.Receive(t, eventsA))
	require.Equal(t, connected, testutil.Receive(t, eventsB))
	much := testutil.Noise(300000)
	_, err := accepted.Write(much)
	require.NoError(t, err)
	for p := much; len(p) > 0; p = p[min(len(p), 1000):] {
		_, err = connecting.Write(p[:min(len(p), 1000)])
		require.NoError(t, err)
	}
	assert.True(t, take(t, readB, len(much)) == string(much))
	assert.True(t, take(t, readA, len(much)) == string(much))
	assert.Equal(t, version, accepted.ConnectionState().Version)

	require.NoError(t, connecting.CloseWrite())
	require.Equal(t, endOfFile, testutil.Receive(t, eventsA))
	_, err = accepted.WriteString("last")
	require.NoError(t, err)
	require.NoError(t, accepted.FreeAfterFlush(testutil.Patience))
	assert.Equal(t, "last", take(t, readB, 4))
	assert.Equal(t, endOfFile, testutil.Receive(t, eventsB))
	connecting.Free()
	testutil.Eventually(t, func() bool { return openssl.Live().Conns == 0 && libevent.Live().BufferEvents == 0 }, "all is given back")
	assert.Empty(t, eventsB)
}

func socketEnds(t *testing.T, base *libevent.Base) (a, b *libevent.BufferEvent) {
	t.Helper()
	fda, fdb := testutil.Socketpair(t)
	a, err := base.NewSocket(fda, libevent.OptCloseOnFree)
	require.NoError(t, err)
	b, err = base.NewSocket(fdb, libevent.OptCloseOnFree)
	require.NoError(t, err)
	return a, b
}

func pairEnds(t *testing.T, base *libevent.Base) (a, b *libevent.BufferEvent) {
	t.Helper()
	return testutil.NewPair(t, base)
}

func filterEnds(t *testing.T, base *libevent.Base) (a, b *libevent.BufferEvent) {
	t.Helper()
	a, b = socketEnds(t, base)
	return testutil.NewFilter(t, a, xor, xor, libevent.OptCloseOnFree), testutil.NewFilter(t, b, xor, xor, libevent.OptCloseOnFree)
}

// xor is a filter function that undoes itself.
func xor(src, dst *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
	p := make([]byte, src.Len())
	n, err := src.Remove(p)
	for i := range p[:n] {
		p[i] ^= 0x55
	}
	return libevent.FilterOK, orAdd(err, dst, p[:n])
}

func orAdd(err error, dst *libevent.Buffer, p []byte) error {
	if err != nil {
		return err
	}
	return dst.Add(p)
}
