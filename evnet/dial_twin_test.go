// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// refusing returns an address that refuses connections until the end of the test: a socket has
// the port, so no other can get it, but does not listen.
func refusing(t testing.TB) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	syscall.CloseOnExec(fd)
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	sa, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	return (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: sa.(*syscall.SockaddrInet4).Port}).String()
}

// Dial reaches the same listeners as net.Dial, with the same addresses at both ends.
func TestDialLikeNet(t *testing.T) {
	for name, c := range map[string]struct {
		listenNetwork, listen string
		network, host         string // host of Dial; if empty, the address of the listener
		local                 net.Addr
	}{
		"tcp4 to an unspecified IPv6": {listenNetwork: "tcp", listen: ":0", network: "tcp4", host: "::"},
		"tcp4 to all addresses":       {listenNetwork: "tcp", listen: ":0", network: "tcp4"},
		"tcp to all addresses":        {listenNetwork: "tcp", listen: ":0", network: "tcp"},
		"tcp to 0.0.0.0":              {listenNetwork: "tcp", listen: "0.0.0.0:0", network: "tcp", host: "0.0.0.0"},
		"0.0.0.0 takes IPv6":          {listenNetwork: "tcp", listen: "0.0.0.0:0", network: "tcp6", host: "::1"},
		"tcp6 to ::":                  {listenNetwork: "tcp", listen: "[::]:0", network: "tcp6", host: "::"},
		"tcp6 listener, tcp4 dial":    {listenNetwork: "tcp6", listen: "[::]:0", network: "tcp4", host: "127.0.0.1"},
		"by name":                     {listenNetwork: "tcp", listen: "localhost:0", network: "tcp", host: "localhost"},
		"mapped address":              {listenNetwork: "tcp", listen: "127.0.0.1:0", network: "tcp", host: "::ffff:127.0.0.1"},
		"from an address":             {listenNetwork: "tcp", listen: "127.0.0.1:0", network: "tcp", local: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}},
		"from an unspecified address": {listenNetwork: "tcp", listen: "127.0.0.1:0", network: "tcp4", local: &net.TCPAddr{IP: net.IPv6unspecified}},
		"from the wrong family":       {listenNetwork: "tcp", listen: "127.0.0.1:0", network: "tcp", local: &net.TCPAddr{IP: net.IPv6loopback}},
		"from a unix address":         {listenNetwork: "tcp", listen: "127.0.0.1:0", network: "tcp", local: &net.UnixAddr{Name: "x", Net: "unix"}},
		"unix":                        {listenNetwork: "unix", listen: "@evnet-test-listener", network: "unix"},
		"unix from an address":        {listenNetwork: "unix", listen: "@evnet-test-listener", network: "unix", local: &net.UnixAddr{Name: "@evnet-test-client", Net: "unix"}},
	} {
		t.Run(name, func(t *testing.T) {
			likeNet(t, func(t *testing.T, n netLike, s *story) {
				l, err := n.listen(&net.ListenConfig{}, c.listenNetwork, c.listen)
				require.NoError(t, err)
				defer l.Close()
				s.tell("listener %s", kindOf(l.Addr()))
				address := l.Addr().String()
				if c.host != "" {
					_, port, _ := net.SplitHostPort(address)
					address = net.JoinHostPort(c.host, port)
				}
				client, err := n.dial(context.Background(), &net.Dialer{LocalAddr: c.local}, c.network, address)
				s.err("dial", err)
				if err != nil {
					return
				}
				server, err := l.Accept()
				require.NoError(t, err)
				s.tell("client %s, %s", kindOf(client.LocalAddr()), kindOf(client.RemoteAddr()))
				s.tell("server %s, %s", kindOf(server.LocalAddr()), kindOf(server.RemoteAddr()))
				s.err("close", client.Close())
				s.err("close", server.Close())
			})
		})
	}
}

// A call that cannot succeed has the error of net.Dial.
func TestDialErrorsLikeNet(t *testing.T) {
	for name, c := range map[string]struct {
		network, address string
		dialer           net.Dialer
	}{
		"refused":             {network: "tcp", address: refusing(t)},
		"no file":             {network: "unix", address: "/nonexistent/s"},
		"no unix address":     {network: "unix", address: ""},
		"no address":          {network: "tcp", address: ""},
		"no port":             {network: "tcp", address: "127.0.0.1"},
		"bad service":         {network: "tcp", address: "127.0.0.1:no-such-service"},
		"bad port":            {network: "tcp", address: "127.0.0.1:70000"},
		"bad brackets":        {network: "tcp", address: "[::1"},
		"wrong family":        {network: "tcp6", address: "127.0.0.1:1"},
		"no such network":     {network: "tcp5", address: "127.0.0.1:1"},
		"no such zone":        {network: "tcp", address: "[fe80::1%nowhere]:1"},
		"a deadline long ago": {network: "tcp", address: "127.0.0.1:1", dialer: net.Dialer{Deadline: time.Unix(1, 0)}},
		"a taken LocalAddr":   {network: "tcp", address: "127.0.0.1:1", dialer: net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}}},
	} {
		t.Run(name, func(t *testing.T) {
			likeNet(t, func(t *testing.T, n netLike, s *story) {
				conn, err := n.dial(context.Background(), &c.dialer, c.network, c.address)
				assert.Nil(t, conn)
				s.err("dial", err)
			})
		})
	}
}

// A Dial that is ended has the error of net.Dial.
func TestDialIsEndedLikeNet(t *testing.T) {
	address := full(t)
	likeNet(t, func(t *testing.T, n netLike, s *story) {
		ctx, cancel := context.WithCancel(context.Background())
		started := make(chan struct{})
		dialer := net.Dialer{ControlContext: func(context.Context, string, string, syscall.RawConn) error {
			close(started)
			return nil
		}}
		go func() {
			<-started
			cancel()
		}()
		_, err := n.dial(ctx, &dialer, "tcp", address)
		s.err("canceled", err)
		_, err = n.dial(ctx, &net.Dialer{}, "tcp", address)
		s.err("canceled before", err)
		_, err = n.dial(context.Background(), &net.Dialer{Timeout: time.Millisecond}, "tcp", address)
		var timeout net.Error
		s.tell("timeout %v", errors.As(err, &timeout) && timeout.Timeout())
	})
}

// Dial tells a trace of package httptrace what net.Dial tells it.
func TestDialIsTraced(t *testing.T) {
	refused := refusing(t)
	likeNet(t, func(t *testing.T, n netLike, s *story) {
		l, err := n.listen(&net.ListenConfig{}, "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		trace := &httptrace.ClientTrace{
			DNSStart:     func(i httptrace.DNSStartInfo) { s.tell("dns start %s", i.Host) },
			DNSDone:      func(i httptrace.DNSDoneInfo) { s.err("dns done", i.Err) },
			ConnectStart: func(network, addr string) { s.tell("connect start %s %s", network, addr) },
			ConnectDone: func(network, addr string, err error) {
				s.tell("connect done %s %s", network, addr)
				s.err("", err)
			},
			TLSHandshakeDone: func(tls.ConnectionState, error) {},
		}
		ctx := httptrace.WithClientTrace(context.Background(), trace)
		for _, address := range []string{net.JoinHostPort("localhost", port), l.Addr().String(), refused} {
			c, err := n.dial(ctx, &net.Dialer{FallbackDelay: -1}, "tcp4", address)
			s.err("dial", err)
			if err == nil {
				s.err("close", c.Close())
			}
		}
	})
}

// Control sees what it sees in package net, and may forbid a Dial or a Listen.
func TestControlLikeNet(t *testing.T) {
	likeNet(t, func(t *testing.T, n netLike, s *story) {
		verdict := error(nil)
		control := func(network, address string, c syscall.RawConn) error {
			s.tell("control %s %s", network, address)
			assert.NoError(t, c.Control(func(fd uintptr) {
				kind, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_TYPE)
				s.tell("type %d, %v", kind, err)
			}))
			return verdict
		}
		for _, verdict = range []error{nil, errors.New("no")} {
			l, err := n.listen(&net.ListenConfig{Control: control}, "tcp", "127.0.0.1:0")
			s.err("listen", err)
			if err != nil {
				l, err = n.listen(&net.ListenConfig{}, "tcp", "127.0.0.1:0")
				require.NoError(t, err)
			}
			c, err := n.dial(context.Background(), &net.Dialer{Control: control}, "tcp", l.Addr().String())
			s.err("dial", err)
			if err == nil {
				assert.NoError(t, c.Close())
			}
			assert.NoError(t, l.Close())
		}
	})
}

// A call that cannot listen has the error of net.Listen.
func TestListenErrorsLikeNet(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for name, c := range map[string]struct{ network, address string }{
		"taken":           {"tcp", taken.Addr().String()},
		"bad service":     {"tcp", "127.0.0.1:no-such-service"},
		"wrong family":    {"tcp6", "127.0.0.1:0"},
		"no address":      {"tcp", ""},
		"no port":         {"tcp", "127.0.0.1"},
		"bad brackets":    {"tcp", "[::1"},
		"no unix address": {"unix", ""},
		"no directory":    {"unix", "/nonexistent/s"},
		"long path":       {"unix", "/" + strings.Repeat("x", 200)},
		"no such network": {"tcp5", "127.0.0.1:0"},
		"not ours":        {"tcp", "192.0.2.1:0"},
	} {
		t.Run(name, func(t *testing.T) {
			likeNet(t, func(t *testing.T, n netLike, s *story) {
				l, err := n.listen(&net.ListenConfig{}, c.network, c.address)
				s.err("listen", err)
				if err == nil {
					s.tell("listener %T %s", l.Addr(), l.Addr().Network())
					s.err("close", l.Close())
				}
			})
		})
	}
}

// The calls of a listener have the errors of package net's, before and after Close.
func TestListenerErrorsLikeNet(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			likeNet(t, func(t *testing.T, n netLike, s *story) {
				address := "127.0.0.1:0"
				if network == "unix" {
					address = filepath.Join(t.TempDir(), "s")
					s.call(address, "path")
				}
				l, err := n.listen(&net.ListenConfig{}, network, address)
				require.NoError(t, err)
				d := l.(interface{ SetDeadline(time.Time) error })
				s.err("deadline", d.SetDeadline(time.Unix(1, 0)))
				_, err = l.Accept()
				s.err("accept", err)
				s.err("close", l.Close())
				s.err("close", l.Close())
				_, err = l.Accept()
				s.err("accept", err)
				s.err("deadline", d.SetDeadline(time.Time{}))
				s.tell("%s", kindOf(l.Addr()))
				if network == "unix" {
					_, err = os.Stat(address)
					s.err("stat", err)
				}
			})
		})
	}
}
