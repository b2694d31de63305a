// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/evnet"
	"github.com/go-libevent/libevent/internal/testutil"
)

// TestMixedProgram does at once, on one loop, what evnet is used for: HTTP, TLS, connections on
// which other goroutines set deadlines and call Close while Read and Write wait, and beside them
// closures of the root package. It is meant for the race detector, for minutes with -count.
func TestMixedProgram(t *testing.T) {
	for _, kind := range loopKinds {
		t.Run(kind.name, func(t *testing.T) {
			loop := kind.loop(t)
			background(t, loop)
			t.Cleanup(func() { nothingLeft(t, loop) }) // when everything is closed
			var wg sync.WaitGroup
			browse(t, &wg, loop)
			closures, goroutines := echoes(t, loop)
			for seed := range uint64(3) {
				wg.Go(func() { rootClient(t, loop.Next(), goroutines) })
				for _, address := range []net.Addr{closures, goroutines} {
					a, err := (&evnet.Dialer{Loop: loop}).Dial("tcp", address.String())
					require.NoError(t, err)
					wg.Go(func() { unruly(t, a.(*evnet.Conn), seed) })
				}
				for _, tr := range transports {
					a, b := tr.pair(t, loop)
					wg.Go(func() { echo(b); _ = b.Close() })
					wg.Go(func() { unruly(t, a, seed) })
				}
			}
			wg.Wait()
		})
	}
}

// browse visits servers of HTTP.
func browse(t *testing.T, wg *sync.WaitGroup, loop libevent.Loop) {
	t.Helper()
	for proto, change := range map[string]func(*httptest.Server){
		"HTTP/1.1": nil,
		"HTTP/2.0": func(s *httptest.Server) {
			s.EnableHTTP2 = true
			s.StartTLS()
		},
	} {
		url, client := serveHTTP(t, loop, change)
		for i := range 2 {
			wg.Go(func() { visit(t, client, url, proto, i) })
		}
	}
}

// echoes makes two servers that send back what they read: by closures of the root package, and
// by goroutines.
func echoes(t *testing.T, loop runner) (closures, goroutines net.Addr) {
	serveRoot := loop.Next().Serve
	if group, ok := loop.(*libevent.Group); ok {
		serveRoot = group.Serve
	}
	server, err := serveRoot("tcp", "127.0.0.1:0", libevent.ServeOptions{}, func(*libevent.BufferEvent) libevent.Handler {
		return libevent.Handler{Read: testutil.Mirror}
	})
	require.NoError(t, err)
	t.Cleanup(server.Close)
	l, err := evnet.Listen(loop, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.Close()) })
	go serve(l, echo)
	return server.Addr(), l.Addr()
}

// rootClient has a bufferevent of the root package talk to a server: its closure counts, and
// this goroutine writes. The variable belongs to the goroutine before it writes, and to the
// closure when the bytes have come back.
func rootClient(t *testing.T, base *libevent.Base, address net.Addr) {
	const rounds = 50
	bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
	if !assert.NoError(t, err) {
		return
	}
	defer bev.Free()
	turns, back := 0, make(chan int, 1)
	assert.NoError(t, bev.SetCallbacks(func(bev *libevent.BufferEvent) {
		turns++
		assert.NoError(t, bev.Input().Drain(bev.Input().Len()))
		back <- turns
	}, nil, nil))
	assert.NoError(t, bev.Enable(libevent.EvRead|libevent.EvWrite))
	assert.NoError(t, bev.ConnectTo(nil, "tcp", address.String()))
	for i := range rounds {
		turns++
		_, err := bev.Write([]byte("x"))
		assert.NoError(t, err)
		assert.Equal(t, 2*i+2, testutil.Receive(t, back))
	}
}

// unruly sends data to a peer that sends it back, and reads it. Meanwhile a third goroutine sets
// deadlines. The seed says how the connection ends: in order, or by Close in the middle.
func unruly(t *testing.T, c *evnet.Conn, seed uint64) {
	data := testutil.Noise(100_000)
	inOrder := seed%3 == 0
	half := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := writePatiently(c, data); inOrder {
			assert.NoError(t, err)
			assert.NoError(t, c.CloseWrite())
		}
	})
	wg.Go(func() {
		err := readPatiently(t, c, data, half)
		if inOrder {
			assert.Equal(t, io.EOF, err)
		}
	})
	wg.Go(func() {
		for i := range 50 {
			_ = []func(time.Time) error{c.SetDeadline, c.SetReadDeadline, c.SetWriteDeadline}[i%3](soon())
			runtime.Gosched()
		}
		_ = c.SetDeadline(time.Time{})
	})
	if !inOrder {
		testutil.Receive(t, half)
		if seed%3 == 1 {
			_ = c.SetLinger(0)
		}
		_ = c.LocalAddr()
		assert.NoError(t, c.Close())
	}
	wg.Wait()
	if inOrder {
		assert.NoError(t, c.Close())
	}
}

// soon returns a deadline that has passed, or that passes within 20 ms.
func soon() time.Time { return time.Now().Add(time.Duration(rand.IntN(20)-1) * time.Millisecond) }

// writePatiently writes all data in pieces, whatever deadlines pass meanwhile.
func writePatiently(c net.Conn, data []byte) error {
	for len(data) > 0 {
		n, err := c.Write(data[:min(len(data), 1+rand.IntN(20_000))])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			_ = c.SetWriteDeadline(soon())
		} else if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// readPatiently reads up to an end, whatever deadlines pass meanwhile, and returns the error of
// the end. The bytes have to be those of data. It closes half when it has half of them, or none
// will come.
func readPatiently(t *testing.T, c net.Conn, data []byte, half chan<- struct{}) error {
	tell := sync.OnceFunc(func() { close(half) })
	defer tell()
	total := len(data)
	p := make([]byte, 30_000)
	for {
		n, err := c.Read(p[:1+rand.IntN(len(p))])
		if !assert.LessOrEqual(t, n, len(data)) {
			return err
		}
		same(t, data[:n], p[:n])
		if data = data[n:]; len(data) < total/2 {
			tell()
		}
		if err == io.EOF {
			assert.Zero(t, len(data), "bytes are missing")
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			_ = c.SetReadDeadline(soon())
		} else if err != nil {
			return err
		}
	}
}
