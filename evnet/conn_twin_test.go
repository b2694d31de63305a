// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent/evnet"
	"github.com/go-libevent/libevent/internal/testutil"
)

// tcpLike is a connection with the methods of a *net.TCPConn.
type tcpLike interface {
	twin
	io.ReaderFrom
	io.WriterTo
	syscall.Conn
	File() (*os.File, error)
	SetNoDelay(bool) error
	SetLinger(int) error
	SetKeepAlive(bool) error
	SetKeepAlivePeriod(time.Duration) error
	SetKeepAliveConfig(net.KeepAliveConfig) error
	SetReadBuffer(int) error
	SetWriteBuffer(int) error
}

// states bring a connection into a state that calls can meet.
var states = map[string]func(t *testing.T, c, peer twin){
	"open": func(t *testing.T, c, peer twin) {},
	"the peer has ended": func(t *testing.T, c, peer twin) {
		require.NoError(t, peer.CloseWrite())
		_, err := c.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
	},
	"the peer has reset": func(t *testing.T, c, peer twin) {
		require.NoError(t, peer.(tcpLike).SetLinger(0))
		require.NoError(t, peer.Close())
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	},
	"reading is closed":  func(t *testing.T, c, peer twin) { require.NoError(t, c.CloseRead()) },
	"writing is closed":  func(t *testing.T, c, peer twin) { require.NoError(t, c.CloseWrite()) },
	"closed":             func(t *testing.T, c, peer twin) { require.NoError(t, c.Close()) },
	"the deadline is by": func(t *testing.T, c, peer twin) { require.NoError(t, c.SetDeadline(time.Unix(1, 0))) },
	"both sides are ended": func(t *testing.T, c, peer twin) {
		require.NoError(t, peer.CloseWrite())
		_, err := c.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		require.NoError(t, c.CloseWrite())
		_, err = peer.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
	},
}

// calls are the calls to make in each state.
var calls = map[string]func(s *story, c, peer tcpLike){
	"Read": func(s *story, c, peer tcpLike) {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // where nothing else ends Read
		n, err := c.Read(make([]byte, 1))
		s.tell("%d", n)
		s.err("read", err)
	},
	"Read nothing": func(s *story, c, peer tcpLike) {
		n, err := c.Read(nil)
		s.tell("%d", n)
		s.err("read", err)
	},
	"Write": func(s *story, c, peer tcpLike) {
		n, err := c.Write([]byte("x"))
		s.tell("%d", n)
		s.err("write", err)
		n, err = c.Write([]byte("y"))
		s.tell("%d", n)
		s.err("write", err)
	},
	"CloseRead": func(s *story, c, peer tcpLike) {
		s.err("close", c.CloseRead())
		s.err("close", c.CloseRead())
	},
	"CloseWrite": func(s *story, c, peer tcpLike) {
		s.err("close", c.CloseWrite())
		s.err("close", c.CloseWrite())
	},
	"Close": func(s *story, c, peer tcpLike) {
		s.err("close", c.Close())
		s.err("close", c.Close())
		s.err("close", c.CloseWrite())
		s.err("close", c.CloseRead())
		s.tell("%s, %s", kindOf(c.LocalAddr()), kindOf(c.RemoteAddr()))
		_, err := peer.Read(make([]byte, 1))
		s.err("peer reads", err)
	},
	"deadlines": func(s *story, c, peer tcpLike) {
		s.err("deadline", c.SetDeadline(time.Time{}))
		s.err("read deadline", c.SetReadDeadline(time.Time{}))
		s.err("write deadline", c.SetWriteDeadline(time.Time{}))
	},
	"options": func(s *story, c, peer tcpLike) {
		s.err("no delay", c.SetNoDelay(false))
		s.err("keep alive", c.SetKeepAlive(false))
		s.err("period", c.SetKeepAlivePeriod(time.Minute))
		s.err("config", c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Minute, Count: 5}))
		s.err("linger", c.SetLinger(-1))
		s.err("read buffer", c.SetReadBuffer(100_000))
		s.err("write buffer", c.SetWriteBuffer(100_000))
		raw, err := c.SyscallConn()
		s.err("raw", err)
		s.err("control", raw.Control(func(fd uintptr) { s.options(int(fd)) }))
	},
	"SyscallConn": func(s *story, c, peer tcpLike) {
		raw, err := c.SyscallConn()
		s.err("raw", err)
		ran := func(uintptr) bool {
			s.tell("ran")
			return true
		}
		s.err("control", raw.Control(func(uintptr) { s.tell("ran") }))
		s.err("raw read", raw.Read(ran))
		s.err("raw write", raw.Write(ran))
	},
	"File": func(s *story, c, peer tcpLike) {
		f, err := c.File()
		s.err("file", err)
		if err == nil {
			s.tell("%s", f.Name())
			s.err("close", f.Close())
		}
	},
	"ReadFrom": func(s *story, c, peer tcpLike) {
		n, err := c.ReadFrom(strings.NewReader(""))
		s.tell("%d", n)
		s.err("read from", err)
		n, err = c.ReadFrom(io.MultiReader(strings.NewReader(""), failing{}))
		s.tell("%d", n)
		s.err("read from", err)
	},
	"WriteTo": func(s *story, c, peer tcpLike) {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // where nothing else ends it
		n, err := c.WriteTo(io.Discard)
		s.tell("%d", n)
		s.err("write to", err)
	},
}

// failing is a reader and a writer that fails.
type failing struct{}

func (failing) Read([]byte) (int, error)  { return 0, errors.New("failing") }
func (failing) Write([]byte) (int, error) { return 0, errors.New("failing") }

// options tells the options of a TCP socket.
func (s *story) options(fd int) {
	for _, o := range append([][2]int{
		{syscall.IPPROTO_TCP, syscall.TCP_NODELAY}, {syscall.SOL_SOCKET, syscall.SO_KEEPALIVE},
		{syscall.SOL_SOCKET, syscall.SO_RCVBUF}, {syscall.SOL_SOCKET, syscall.SO_SNDBUF},
		{syscall.SOL_SOCKET, syscall.SO_REUSEADDR},
	}, keepAliveOptions...) {
		v, err := syscall.GetsockoptInt(fd, o[0], o[1])
		s.tell("option %v is %d, %v", o, v, err)
	}
}

// Each call does in each state what it does on a *net.TCPConn.
func TestCallsLikeNet(t *testing.T) {
	for state, enter := range states {
		for name, call := range calls {
			t.Run(state+"/"+name, func(t *testing.T) {
				likeNet(t, func(t *testing.T, n netLike, s *story) {
					c, peer := n.connect(t, "tcp", "127.0.0.1:0")
					enter(t, c, peer)
					call(s, c.(tcpLike), peer.(tcpLike))
				})
			})
		}
	}
}

// The same for unix sockets, with what a *net.UnixConn has.
func TestUnixCallsLikeNet(t *testing.T) {
	for state, enter := range states {
		if state == "the peer has reset" {
			continue // a unix socket cannot be reset
		}
		t.Run(state, func(t *testing.T) {
			likeNet(t, func(t *testing.T, n netLike, s *story) {
				c, peer := n.connect(t, "unix", "@evnet-test-calls")
				enter(t, c, peer)
				read, err := c.Read(nil)
				s.tell("%d", read)
				s.err("read nothing", err)
				s.err("close", c.CloseWrite())
				s.err("close", c.CloseRead())
				s.err("close", c.Close())
				s.err("close", c.Close())
				s.tell("%s, %s", kindOf(c.LocalAddr()), kindOf(c.RemoteAddr()))
				_, err = peer.Read(make([]byte, 1))
				s.err("peer reads", err)
			})
		})
	}
}

// New connections have the options of package net's, whatever the configuration.
func TestOptionsLikeNet(t *testing.T) {
	for name, c := range map[string]struct {
		period time.Duration
		config net.KeepAliveConfig
	}{
		"default": {},
		"period":  {period: time.Minute},
		"off":     {period: -1},
		"config":  {period: -1, config: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 2 * time.Second, Count: 3}},
		"zero":    {config: net.KeepAliveConfig{Enable: true}},
		"keep":    {config: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			likeNet(t, func(t *testing.T, n netLike, s *story) {
				l, err := n.listen(&net.ListenConfig{KeepAlive: c.period, KeepAliveConfig: c.config}, "tcp", "127.0.0.1:0")
				require.NoError(t, err)
				defer l.Close()
				client, err := n.dial(context.Background(), &net.Dialer{KeepAlive: c.period, KeepAliveConfig: c.config}, "tcp", l.Addr().String())
				require.NoError(t, err)
				server, err := l.Accept()
				require.NoError(t, err)
				for _, c := range []any{client, server, l} {
					raw, err := c.(syscall.Conn).SyscallConn()
					require.NoError(t, err)
					require.NoError(t, raw.Control(func(fd uintptr) { s.options(int(fd)) }))
				}
				s.err("close", client.Close())
				s.err("close", server.Close())
			})
		})
	}
}

// What the peer sees of an end, after all that was written.
func TestEndsLikeNet(t *testing.T) {
	read := func(t *testing.T, c twin) {
		_, err := io.ReadFull(c, make([]byte, 1))
		require.NoError(t, err)
	}
	for name, end := range map[string]func(t *testing.T, c, peer twin){
		"Close": func(t *testing.T, c, peer twin) { require.NoError(t, c.Close()) },
		"Close with unread input": func(t *testing.T, c, peer twin) {
			_, err := peer.Write([]byte("xy"))
			require.NoError(t, err)
			read(t, c)
			require.NoError(t, c.Close())
		},
		"Close after CloseRead with input": func(t *testing.T, c, peer twin) {
			require.NoError(t, c.CloseRead())
			_, err := peer.Write([]byte("xy"))
			require.NoError(t, err)
			arrived(t, c)
			require.NoError(t, c.Close())
		},
		"SetLinger(0)": func(t *testing.T, c, peer twin) {
			require.NoError(t, c.(tcpLike).SetLinger(0))
			require.NoError(t, c.Close())
		},
		"CloseWrite": func(t *testing.T, c, peer twin) { require.NoError(t, c.CloseWrite()) },
		"CloseWrite, unread input, Close": func(t *testing.T, c, peer twin) {
			_, err := peer.Write([]byte("xy"))
			require.NoError(t, err)
			read(t, c)
			require.NoError(t, c.CloseWrite())
			require.NoError(t, c.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			likeNet(t, func(t *testing.T, n netLike, s *story) {
				c, peer := n.connect(t, "tcp", "127.0.0.1:0")
				_, err := c.Write([]byte("before"))
				require.NoError(t, err)
				_, err = io.ReadFull(peer, make([]byte, 6))
				require.NoError(t, err)
				end(t, c, peer)
				got, err := io.ReadAll(peer)
				s.tell("%q", got)
				s.err("peer reads", err)
				testutil.Eventually(t, func() bool { _, err = peer.Write([]byte("x")); return name == "CloseWrite" || err != nil }, "a write fails")
				s.tell("%v, broken pipe or reset %v", err != nil, errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET))
			})
		})
	}
}

// arrived waits until the system, or the loop, has what the peer sent.
func arrived(t *testing.T, c twin) {
	t.Helper()
	if c, ok := c.(*evnet.Conn); ok {
		testutil.Eventually(t, func() bool { return evnet.Dropped(c) }, "input is dropped")
		return
	}
	raw, err := c.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		testutil.Eventually(t, func() bool {
			n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			return err == nil && n == 1
		}, "input is there")
	}))
}

// A duplicate of a listening socket goes on listening after Close.
func TestListenerFileLikeNet(t *testing.T) {
	likeNet(t, func(t *testing.T, n netLike, s *story) {
		path := t.TempDir() + "/s"
		s.call(path, "path")
		l, err := n.listen(&net.ListenConfig{}, "unix", path)
		require.NoError(t, err)
		u := l.(interface {
			net.Listener
			syscall.Conn
			File() (*os.File, error)
			SetUnlinkOnClose(bool)
		})
		f, err := u.File()
		require.NoError(t, err)
		s.tell("%s", f.Name())
		u.SetUnlinkOnClose(false)
		raw, err := u.SyscallConn()
		require.NoError(t, err)
		s.err("control", raw.Control(func(uintptr) {}))
		s.err("read", raw.Read(func(uintptr) bool { return true }))
		s.err("write", raw.Write(func(uintptr) bool { return true }))
		s.err("close", u.Close())
		s.err("control", raw.Control(func(uintptr) {}))
		_, err = u.File()
		s.err("file", err)
		_, err = os.Stat(path)
		s.err("stat", err)
		again, err := net.FileListener(f) // the duplicate listens on
		require.NoError(t, err)
		assert.NoError(t, f.Close())
		c, err := net.Dial("unix", path)
		s.err("dial", err)
		assert.NoError(t, c.Close())
		assert.NoError(t, again.Close())
	})
}

// When bytes that Write took cannot be sent, the caller learns of it, and the peer does not take
// a part for all. The peer of a *net.TCPConn, whose Write has told the caller, reads an end.
func TestLostWrite(t *testing.T) {
	for name, next := range map[string]func(c *evnet.Conn) error{
		"Write":      func(c *evnet.Conn) error { _, err := c.Write([]byte("y")); return err },
		"CloseWrite": func(c *evnet.Conn) error { return c.CloseWrite() },
		"Read after CloseWrite": func(c *evnet.Conn) error {
			if err := c.CloseWrite(); err != nil {
				return err
			}
			_, err := c.Read(make([]byte, 1))
			return err
		},
		"Close": func(c *evnet.Conn) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			c, peer := connectOver(t, onLoop(running(t)), goNet, "tcp", "127.0.0.1:0")
			broken(t, c, func() {
				_, err := c.Write([]byte("lost"))
				if err == nil && name != "Close" {
					testutil.Eventually(t, func() bool { err = next(c.(*evnet.Conn)); return err != nil }, "a call fails")
					assert.ErrorIs(t, err, syscall.EINVAL)
				}
				testutil.Eventually(t, func() bool { return evnet.Lost(c.(*evnet.Conn)) }, "the write has failed")
			})
			require.NoError(t, c.Close())
			_, err := peer.Read(make([]byte, 1))
			assert.ErrorIs(t, err, syscall.ECONNRESET)
		})
	}
}

// broken runs fn while the system refuses to send on a TCP connection, with EINVAL.
func broken(t *testing.T, c twin, fn func()) {
	t.Helper()
	const tcpRepair, off = 19, -1
	raw, err := c.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	repair := func(v int) {
		require.NoError(t, raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpRepair, v) }))
	}
	if repair(1); err != nil {
		t.Skipf("no TCP_REPAIR: %v", err)
	}
	fn()
	repair(off)
	require.NoError(t, err)
}
