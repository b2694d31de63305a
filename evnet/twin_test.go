// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/evnet"
	"github.com/go-libevent/libevent/internal/testutil"
)

// netLike is package net or this package, with the functions that both have.
type netLike struct {
	name   string
	listen func(lc *net.ListenConfig, network, address string) (net.Listener, error)
	dial   func(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error)
}

var goNet = netLike{
	"net",
	func(lc *net.ListenConfig, network, address string) (net.Listener, error) {
		return lc.Listen(context.Background(), network, address)
	},
	func(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
		return d.DialContext(ctx, network, address)
	},
}

// onLoop is this package on a loop.
func onLoop(loop libevent.Loop) netLike {
	return netLike{
		"evnet",
		func(lc *net.ListenConfig, network, address string) (net.Listener, error) {
			ours := evnet.ListenConfig{KeepAlive: lc.KeepAlive, KeepAliveConfig: lc.KeepAliveConfig, Control: lc.Control}
			return ours.Listen(context.Background(), loop, network, address)
		},
		func(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
			ours := evnet.Dialer{Loop: loop, Timeout: d.Timeout, Deadline: d.Deadline, LocalAddr: d.LocalAddr,
				FallbackDelay: d.FallbackDelay, KeepAlive: d.KeepAlive, KeepAliveConfig: d.KeepAliveConfig,
				Resolver: d.Resolver, Control: d.Control, ControlContext: d.ControlContext}
			return ours.DialContext(ctx, network, address)
		},
	}
}

// story is what a test saw, in words that are the same each time.
type story struct {
	lines []string
	known []string // texts and their names, in turn
}

// call hides what differs from run to run, such as a path, behind a name.
func (s *story) call(text, name string) { s.known = append(s.known, text, name) }

func (s *story) tell(format string, args ...any) {
	line := strings.NewReplacer(s.known...).Replace(fmt.Sprintf(format, args...))
	s.lines = append(s.lines, aPort.ReplaceAllString(line, ":port"))
}

var aPort = regexp.MustCompile(`:[0-9]{4,5}\b`)

// err tells everything about an error that a program can find out.
func (s *story) err(what string, err error) {
	s.tell("%s: %v", what, err)
	for e := err; e != nil; e = errors.Unwrap(e) {
		line := "  " + publicType(e)
		if op, ok := e.(*net.OpError); ok {
			line += fmt.Sprintf(" op %s net %s source %s addr %s", op.Op, op.Net, kindOf(op.Source), kindOf(op.Addr))
		}
		s.tell("%s", line)
	}
	for _, is := range []error{net.ErrClosed, os.ErrDeadlineExceeded, context.DeadlineExceeded, context.Canceled, io.EOF, os.ErrNotExist} {
		if errors.Is(err, is) {
			s.tell("  is %v", is)
		}
	}
	var n net.Error
	if errors.As(err, &n) {
		//lint:ignore SA1019 programs still ask
		s.tell("  timeout %v temporary %v", n.Timeout(), n.Temporary())
	}
}

func kindOf(a net.Addr) string {
	if a == nil {
		return "nil"
	}
	return fmt.Sprintf("%T %v", a, a)
}

// publicType names a type if a program could name it.
func publicType(v any) string {
	t := reflect.TypeOf(v)
	name := t.String()
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if first := t.Name(); first == "" || strings.ToUpper(first[:1]) != first[:1] {
		return "a private type"
	}
	return name
}

// likeNet runs a test on package net first, and demands that it sees the same on this package.
func likeNet(t *testing.T, test func(t *testing.T, n netLike, s *story)) {
	t.Helper()
	want, got := &story{}, &story{}
	if !t.Run("net", func(t *testing.T) { test(t, goNet, want) }) {
		return
	}
	t.Run("evnet", func(t *testing.T) {
		base := running(t)
		t.Cleanup(func() { nothingLeft(t, base) }) // when the test's connections are closed
		test(t, onLoop(base), got)
		assert.Equal(t, strings.Join(want.lines, "\n"), strings.Join(got.lines, "\n"))
	})
}

// twin is a connection with the methods that those of both packages have.
type twin interface {
	net.Conn
	CloseRead() error
	CloseWrite() error
}

// connect makes two connections that are each other's peers and are closed at the end of the test.
func (n netLike) connect(t testing.TB, network, address string) (client, server twin) {
	t.Helper()
	return connectOver(t, n, n, network, address)
}

// connectOver is connect for a client and a server of different packages.
func connectOver(t testing.TB, clients, servers netLike, network, address string) (client, server twin) {
	t.Helper()
	l, err := servers.listen(&net.ListenConfig{}, network, address)
	require.NoError(t, err)
	defer l.Close()
	c, err := clients.dial(context.Background(), &net.Dialer{}, network, l.Addr().String())
	require.NoError(t, err)
	s, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = c.Close(), s.Close() })
	patient := time.Now().Add(testutil.Patience)
	require.NoError(t, c.SetDeadline(patient))
	require.NoError(t, s.SetDeadline(patient))
	return c.(twin), s.(twin)
}
