// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent/evnet"
)

// network is package net or evnet: the same benchmark runs over both. The clients always use
// package net, on goroutines of the same process.
type network struct {
	name   string
	listen func(b *testing.B) net.Listener
}

var networks = []network{
	{"net", func(b *testing.B) net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(b, err)
		b.Cleanup(func() { _ = l.Close() })
		return l
	}},
	{"evnet", func(b *testing.B) net.Listener { return listen(b, running(b), "tcp", "127.0.0.1:0") }},
}

func echo(c net.Conn) {
	p := make([]byte, 64<<10)
	for {
		n, err := c.Read(p)
		if err != nil {
			return
		}
		if _, err := c.Write(p[:n]); err != nil {
			return
		}
	}
}

func BenchmarkEcho(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		for _, conns := range []int{1, 10, 100} {
			for _, n := range networks {
				b.Run(fmt.Sprintf("%d/%d/%s", size, conns, n.name), func(b *testing.B) {
					l := n.listen(b)
					go serve(l, echo)
					talk(b, l.Addr().String(), conns, size)
				})
			}
		}
	}
}

// talk sends b.N messages over some connections and reads them back.
func talk(b *testing.B, address string, conns, size int) {
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan error, conns)
	var clients []net.Conn
	for range conns {
		c, err := net.Dial("tcp", address)
		require.NoError(b, err)
		defer c.Close()
		clients = append(clients, c)
	}
	b.SetBytes(int64(2 * size))
	b.ReportAllocs()
	b.ResetTimer()
	for _, c := range clients {
		go func() {
			p := make([]byte, size)
			for left.Add(-1) >= 0 {
				if _, err := c.Write(p); err != nil {
					done <- err
					return
				}
				if _, err := io.ReadFull(c, p); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range conns {
		require.NoError(b, <-done)
	}
}

// BenchmarkProxy measures io.Copy both ways between two connections.
func BenchmarkProxy(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		for _, name := range []string{"net", "evnet"} {
			b.Run(fmt.Sprintf("%d/%s", size, name), func(b *testing.B) {
				back := networks[0].listen(b)
				go serve(back, echo)
				front, dial := networks[0].listen(b), net.Dial
				if name != "net" {
					base := running(b)
					front, dial = listen(b, base, "tcp", "127.0.0.1:0"), (&evnet.Dialer{Loop: base}).Dial
				}
				go serve(front, func(in net.Conn) {
					out, err := dial("tcp", back.Addr().String())
					if err != nil {
						return
					}
					defer out.Close()
					go func() { _, _ = io.Copy(in, out) }()
					_, _ = io.Copy(out, in)
				})
				talk(b, front.Addr().String(), 10, size)
			})
		}
	}
}
