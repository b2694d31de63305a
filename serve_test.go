// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func echoHandler(*libevent.BufferEvent) libevent.Handler {
	return libevent.Handler{Read: testutil.Mirror}
}

// serving is what a Base and a Group have to serve.
type serving interface {
	testutil.Runner
	Serve(string, string, libevent.ServeOptions, func(*libevent.BufferEvent) libevent.Handler) (*libevent.Server, error)
}

// eachServer runs a test on a Base and on a Group.
func eachServer(t *testing.T, test func(t *testing.T, loop serving)) {
	t.Run("Base", func(t *testing.T) { test(t, testutil.NewBase(t)) })
	t.Run("Group", func(t *testing.T) { test(t, newGroup(t, 2)) })
}

func serve(t *testing.T, loop serving, opts libevent.ServeOptions, handler func(*libevent.BufferEvent) libevent.Handler) *libevent.Server {
	t.Helper()
	s, err := loop.Serve("tcp", "127.0.0.1:0", opts, handler)
	require.NoError(t, err)
	return s
}

func dialServer(t *testing.T, s *libevent.Server) *net.TCPConn {
	t.Helper()
	return testutil.Dial(t, s.Listener()).(*net.TCPConn)
}

func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience)
	t.Cleanup(cancel)
	return ctx
}

// A client that ends gets its rest. Shutdown waits for those that are left, while the loop runs.
func TestServe(t *testing.T) {
	eachServer(t, func(t *testing.T, loop serving) {
		s := serve(t, loop, libevent.ServeOptions{}, echoHandler)
		testutil.Background(t, loop)
		first, second := dialServer(t, s), dialServer(t, s)
		assert.Equal(t, "hello", testutil.Say(t, first, "hello"))
		assert.Equal(t, "world", testutil.Say(t, second, "world"))
		assert.Len(t, s.Conns(), 2)
		_, err := io.WriteString(first, "the rest")
		require.NoError(t, err)
		require.NoError(t, first.CloseWrite())
		rest, err := io.ReadAll(first)
		require.NoError(t, err)
		assert.Equal(t, "the rest", string(rest))

		ended := testutil.ReadAll(second)
		go func() {
			<-ended
			_ = second.Close()
		}()
		require.NoError(t, s.Shutdown(patient(t)))
		assert.Empty(t, s.Conns())
		_, err = net.Dial("tcp", s.Addr().String())
		assert.ErrorIs(t, err, syscall.ECONNREFUSED)
	})
}

// After Run has ended, Shutdown runs the loop.
func TestShutdownRunsTheLoop(t *testing.T) {
	eachServer(t, func(t *testing.T, loop serving) {
		s := serve(t, loop, libevent.ServeOptions{}, func(c *libevent.BufferEvent) libevent.Handler {
			return libevent.Handler{Read: func(c *libevent.BufferEvent) {
				_, err := c.Write(bytes.Repeat([]byte("x"), 3<<20))
				assert.NoError(t, err)
			}, MaxOutput: -1}
		})
		stop := testutil.Background(t, loop)
		conn := dialServer(t, s)
		assert.Equal(t, "x", testutil.Say(t, conn, "?"))
		stop()
		got := testutil.ReadAll(conn)
		require.NoError(t, s.Shutdown(patient(t)))
		assert.Len(t, testutil.Receive(t, got), 3<<20-1)
	})
}

func TestShutdownGivesUp(t *testing.T) {
	eachServer(t, func(t *testing.T, loop serving) {
		full := make(chan struct{}, 1)
		s := serve(t, loop, libevent.ServeOptions{}, func(c *libevent.BufferEvent) libevent.Handler {
			_, err := c.Write(make([]byte, 64<<20)) // which the peer does not read
			assert.NoError(t, err)
			full <- struct{}{}
			return libevent.Handler{}
		})
		testutil.Background(t, loop)
		dialServer(t, s)
		testutil.Receive(t, full)
		ctx, cancel := context.WithCancelCause(context.Background())
		cause := errors.New("enough")
		cancel(cause)
		assert.ErrorIs(t, s.Shutdown(ctx), cause)
		testutil.Eventually(t, func() bool { return len(s.Conns()) == 0 }, "the connection is freed")
		assert.NoError(t, s.Shutdown(patient(t)), "a second time there is nothing to do")
	})
}

// early is a context that ends some time after its deadline.
type early struct {
	context.Context
	deadline time.Time
}

func (e early) Deadline() (time.Time, bool) { return e.deadline, true }

// The loop drops what is left at the deadline, and may do so before the context ends. Shutdown tells nevertheless.
func TestShutdownTellsOfItsDeadline(t *testing.T) {
	eachServer(t, func(t *testing.T, loop serving) {
		for name, wrap := range map[string]func(*libevent.BufferEvent){
			"socket": func(*libevent.BufferEvent) {},
			"filter": func(c *libevent.BufferEvent) { testutil.NewFilter(t, c, nil, nil, libevent.OptCloseOnFree) },
		} {
			t.Run(name, func(t *testing.T) {
				full := make(chan struct{}, 1)
				s := serve(t, loop, libevent.ServeOptions{}, func(c *libevent.BufferEvent) libevent.Handler {
					_, err := c.Write(make([]byte, 64<<20)) // which the peer does not read
					assert.NoError(t, err)
					wrap(c)
					full <- struct{}{}
					return libevent.Handler{}
				})
				stop := testutil.Background(t, loop)
				defer stop()
				dialServer(t, s)
				testutil.Receive(t, full)
				enough := errors.New("enough")
				ctx, cancel := context.WithTimeoutCause(context.Background(), 200*time.Millisecond, enough)
				defer cancel()
				assert.Equal(t, enough, s.Shutdown(early{ctx, time.Now().Add(20 * time.Millisecond)}))
				assert.Empty(t, s.Conns())
				assert.NoError(t, s.Shutdown(patient(t)), "a second time there is nothing to do")
			})
		}
	})
}

func TestShutdownInAClosure(t *testing.T) {
	base := testutil.NewBase(t)
	s := serve(t, base, libevent.ServeOptions{}, echoHandler)
	defer s.Close()
	testutil.OnceOnLoop(t, base, func() { assert.ErrorIs(t, s.Shutdown(context.Background()), syscall.EINVAL) })
	var none context.Context
	assert.ErrorIs(t, s.Shutdown(none), syscall.EINVAL)
}

// A handler may refuse a connection, and a bufferevent may not be possible. The others are served.
func TestServeRefuses(t *testing.T) {
	base := testutil.NewBase(t)
	var n int
	var failures []error
	no := errors.New("no")
	s := serve(t, base, libevent.ServeOptions{
		NewSocket: func(base *libevent.Base, fd int, opts libevent.Options) (*libevent.BufferEvent, error) {
			if n++; n == 1 {
				return nil, no
			}
			return base.NewSocket(fd, opts)
		},
		Error: func(err error) { failures = append(failures, err) },
	}, func(c *libevent.BufferEvent) libevent.Handler {
		if n == 2 {
			c.Free()
		}
		return libevent.Handler{Read: testutil.Mirror}
	})
	defer s.Close()
	stop := testutil.Background(t, base)
	for range 2 {
		_, err := dialServer(t, s).Read(make([]byte, 1))
		assert.ErrorIs(t, err, io.EOF)
	}
	assert.Equal(t, "served", testutil.Say(t, dialServer(t, s), "served"))
	stop()
	assert.Equal(t, []error{no}, failures)
}

func TestServeArguments(t *testing.T) {
	base := testutil.NewBase(t)
	_, err := base.Serve("tcp", "127.0.0.1:0", libevent.ServeOptions{}, nil)
	assert.ErrorIs(t, err, syscall.EINVAL)
	_, err = base.Serve("tcp", "127.0.0.1:0", libevent.ServeOptions{ReadTimeout: -1}, echoHandler)
	assert.ErrorIs(t, err, syscall.EINVAL)
	_, err = base.Serve("tcp", "127.0.0.1", libevent.ServeOptions{}, echoHandler)
	assert.ErrorIs(t, err, syscall.EINVAL)
	s := serve(t, base, libevent.ServeOptions{Listen: libevent.ListenOptions{Disabled: true}}, echoHandler)
	s.Close()
	s.Close()
}

// A panic in the handler comes out of the loop, and leaves no connection behind.
func TestServePanic(t *testing.T) {
	base := testutil.NewBase(t)
	s := serve(t, base, libevent.ServeOptions{}, func(*libevent.BufferEvent) libevent.Handler { panic("handler") })
	defer s.Close()
	dialServer(t, s)
	assert.NotNil(t, testutil.Raises(func() { _ = base.Dispatch() }))
	testutil.OnceOnLoop(t, base, func() {})
	assert.Empty(t, s.Conns())
	assert.Zero(t, base.Stats().BufferEvents)
}

func TestServeTimeout(t *testing.T) {
	base := testutil.NewBase(t)
	s := serve(t, base, libevent.ServeOptions{ReadTimeout: time.Millisecond}, echoHandler)
	defer s.Close()
	testutil.Background(t, base)
	_, err := dialServer(t, s).Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF, "a silent client is dropped")
}
