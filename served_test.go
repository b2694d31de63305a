// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// doubling puts a filter on a connection, on whose wire each byte stands twice.
func doubling(t *testing.T, c *libevent.BufferEvent, opts libevent.Options) *libevent.BufferEvent {
	t.Helper()
	f, err := libevent.NewFilter(c, testutil.Halve, testutil.Double, opts)
	assert.NoError(t, err)
	return f
}

// eachFilter runs a test with a filter that owns the connection, and with one that does not.
func eachFilter(t *testing.T, test func(t *testing.T, loop serving, opts libevent.Options)) {
	eachServer(t, func(t *testing.T, loop serving) {
		for _, opts := range []libevent.Options{0, libevent.OptCloseOnFree} {
			t.Run(fmt.Sprint(opts), func(t *testing.T) { test(t, loop, opts) })
		}
	})
}

// A filter that the handler puts on a connection gets the Handler. The end of the client frees both,
// and Shutdown writes what the filter still has to write.
func TestServeFilters(t *testing.T) {
	eachFilter(t, func(t *testing.T, loop serving, opts libevent.Options) {
		s := serve(t, loop, libevent.ServeOptions{}, func(c *libevent.BufferEvent) libevent.Handler {
			doubling(t, doubling(t, c, opts), opts)
			return libevent.Handler{Read: testutil.Mirror}
		})
		stop := testutil.Background(t, loop)
		conn := dialServer(t, s)
		assert.Equal(t, "aaaabbbb", testutil.Say(t, conn, "aaaabbbb"))
		require.NoError(t, conn.CloseWrite())
		_, err := conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		testutil.Eventually(t, func() bool { return len(s.Conns()) == 0 }, "the connection is freed")

		conn = dialServer(t, s)
		assert.Equal(t, "aaaa", testutil.Say(t, conn, "aaaa"))
		conns := s.Conns()
		require.Len(t, conns, 1)
		require.NotNil(t, conns[0].Underlying().Underlying(), "the upper filter")
		_, err = conns[0].WriteString(strings.Repeat("x", 1<<20))
		require.NoError(t, err)
		rest := testutil.ReadAll(conn)
		require.NoError(t, s.Shutdown(patient(t)))
		assert.Len(t, testutil.Receive(t, rest), 4<<20)
		stop()
	})
}

// The closures that the handler sets on the filter stay, and what they free is the connection.
func TestServeFilterWithClosures(t *testing.T) {
	eachFilter(t, func(t *testing.T, loop serving, opts libevent.Options) {
		s := serve(t, loop, libevent.ServeOptions{}, func(c *libevent.BufferEvent) libevent.Handler {
			f := doubling(t, c, opts)
			assert.NoError(t, f.SetCallbacks((*libevent.BufferEvent).Free, nil, nil))
			assert.NoError(t, f.Enable(rd))
			return libevent.Handler{}
		})
		testutil.Background(t, loop)
		freed, waits := dialServer(t, s), dialServer(t, s)
		_, err := io.WriteString(freed, "aa")
		require.NoError(t, err)
		_, err = freed.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		end := testutil.ReadAll(waits)
		require.NoError(t, s.Shutdown(patient(t)))
		testutil.Receive(t, end)
	})
}

// NewSocket may return a filter that it has put on the socket.
func TestServeFiltersOfNewSocket(t *testing.T) {
	eachServer(t, func(t *testing.T, loop serving) {
		opts := libevent.ServeOptions{NewSocket: func(base *libevent.Base, fd int, opts libevent.Options) (*libevent.BufferEvent, error) {
			c, err := base.NewSocket(fd, opts)
			assert.NoError(t, err)
			return libevent.NewFilter(c, testutil.Halve, testutil.Double, opts)
		}}
		s := serve(t, loop, opts, echoHandler)
		testutil.Background(t, loop)
		conn := dialServer(t, s)
		assert.Equal(t, "aabb", testutil.Say(t, conn, "aabb"))
		end := testutil.ReadAll(conn)
		require.NoError(t, s.Shutdown(patient(t)))
		testutil.Receive(t, end)
	})
}

// A filter that comes and goes, as compression does that both sides agree on. Shutdown finds the
// connection with it or without it.
func TestServeFilterForAWhile(t *testing.T) {
	for _, last := range []string{"plain", "filtered"} {
		t.Run(last, func(t *testing.T) {
			eachServer(t, func(t *testing.T, loop serving) {
				s := serve(t, loop, libevent.ServeOptions{}, func(c *libevent.BufferEvent) libevent.Handler {
					return libevent.Handler{Read: func(c *libevent.BufferEvent) {
						testutil.Mirror(c)
						assert.NoError(t, doubling(t, c, 0).Handle(libevent.Handler{Read: func(f *libevent.BufferEvent) {
							testutil.Mirror(f)
							if last == "plain" {
								f.Free()
							}
						}}))
					}}
				})
				testutil.Background(t, loop)
				conn := dialServer(t, s)
				for _, text := range []string{"up", "aa", "up", "bb"} {
					assert.Equal(t, text, testutil.Say(t, conn, text))
					if last == "filtered" && text == "aa" {
						break
					}
				}
				end := testutil.ReadAll(conn)
				require.NoError(t, s.Shutdown(patient(t)))
				testutil.Receive(t, end)
			})
		})
	}
}

// What frees the connection also frees the filter that the handler has put on it.
func TestServeFreesFilters(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		base := testutil.NewBase(t)
		s := serve(t, base, libevent.ServeOptions{}, func(c *libevent.BufferEvent) libevent.Handler {
			doubling(t, doubling(t, c, 0), 0)
			c.Free()
			return libevent.Handler{}
		})
		testutil.Background(t, base)
		_, err := dialServer(t, s).Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		testutil.Eventually(t, func() bool { return base.Stats().BufferEvents == 0 }, "all are freed")
		require.NoError(t, s.Shutdown(patient(t)))
	})
	t.Run("panic", func(t *testing.T) {
		base := testutil.NewBase(t)
		s := serve(t, base, libevent.ServeOptions{}, func(c *libevent.BufferEvent) libevent.Handler {
			doubling(t, c, 0)
			panic("handler")
		})
		defer s.Close()
		dialServer(t, s)
		assert.NotNil(t, testutil.Raises(func() { _ = base.Dispatch() }))
		testutil.OnceOnLoop(t, base, func() {})
		assert.Zero(t, base.Stats().BufferEvents)
	})
	t.Run("Close", func(t *testing.T) {
		base := testutil.NewBase(t)
		var put atomic.Int32
		s := serve(t, base, libevent.ServeOptions{}, func(c *libevent.BufferEvent) libevent.Handler {
			doubling(t, c, 0)
			put.Add(1)
			return libevent.Handler{}
		})
		testutil.Background(t, base)
		conn := dialServer(t, s)
		testutil.Eventually(t, func() bool { return put.Load() == 1 }, "the filter")
		s.Close()
		_, err := conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		testutil.Eventually(t, func() bool { return base.Stats().BufferEvents == 0 }, "all are freed")
	})
}

// The filter has the timeouts of the server: after a timeout it can go on reading.
func TestServeFilterTimeout(t *testing.T) {
	base := testutil.NewBase(t)
	passed := make(chan struct{}, 1)
	s := serve(t, base, libevent.ServeOptions{ReadTimeout: time.Millisecond}, func(c *libevent.BufferEvent) libevent.Handler {
		doubling(t, c, 0)
		return libevent.Handler{Read: testutil.Mirror, Timeout: func(c *libevent.BufferEvent, what libevent.What) {
			assert.NotNil(t, c.Underlying())
			select {
			case passed <- struct{}{}:
			default:
			}
			assert.NoError(t, c.Enable(what))
		}}
	})
	defer s.Close()
	testutil.Background(t, base)
	conn := dialServer(t, s)
	testutil.Receive(t, passed)
	assert.Equal(t, "aa", testutil.Say(t, conn, "aa"))
}

// Pipe with a filter on the side of the client: a proxy that decodes. Shutdown ends both sides.
func TestServeFilterWithPipe(t *testing.T) {
	eachFilter(t, func(t *testing.T, loop serving, opts libevent.Options) {
		backend := serve(t, loop, libevent.ServeOptions{}, echoHandler)
		s := serve(t, loop, libevent.ServeOptions{}, func(c *libevent.BufferEvent) libevent.Handler {
			target, err := c.Base().NewSocket(-1, libevent.OptCloseOnFree)
			assert.NoError(t, err)
			assert.NoError(t, libevent.Pipe(doubling(t, c, opts), target, nil))
			assert.NoError(t, target.ConnectTo(nil, "tcp", backend.Addr().String()))
			return libevent.Handler{}
		})
		testutil.Background(t, loop)
		conn := dialServer(t, s)
		assert.Equal(t, "aabb", testutil.Say(t, conn, "aabb"))
		end := testutil.ReadAll(conn)
		require.NoError(t, s.Shutdown(patient(t)))
		testutil.Receive(t, end)
		require.NoError(t, backend.Shutdown(patient(t)))
	})
}

// Two accepted connections with filters may be the two sides of a Pipe.
func TestServePipesFilters(t *testing.T) {
	base := testutil.NewBase(t)
	var sides []*libevent.BufferEvent
	s := serve(t, base, libevent.ServeOptions{}, func(c *libevent.BufferEvent) libevent.Handler {
		sides = append(sides, doubling(t, c, 0))
		if len(sides) == 2 {
			assert.NoError(t, libevent.Pipe(sides[0], sides[1], nil))
		}
		return libevent.Handler{}
	})
	testutil.Background(t, base)
	first := dialServer(t, s)
	testutil.Eventually(t, func() bool { return len(s.Conns()) == 1 }, "the first side")
	second := dialServer(t, s)
	testutil.Eventually(t, func() bool { return len(s.Conns()) == 2 }, "the second side")
	assert.True(t, slices.ContainsFunc(s.Conns(), func(c *libevent.BufferEvent) bool { return c.Underlying() != nil }))
	_, err := io.WriteString(first, "aabb")
	require.NoError(t, err)
	got := make([]byte, 4)
	_, err = io.ReadFull(second, got)
	require.NoError(t, err)
	assert.Equal(t, "aabb", string(got))
	ends := [2]<-chan []byte{testutil.ReadAll(first), testutil.ReadAll(second)}
	require.NoError(t, s.Shutdown(patient(t)))
	testutil.Receive(t, ends[0])
	testutil.Receive(t, ends[1])
}

// A peer still sends when the server ends. It gets all that was written before, also if the filter does not own the
// connection: that is freed as well.
func TestShutdownOfAFilterWhosePeerSends(t *testing.T) {
	eachFilter(t, func(t *testing.T, loop serving, opts libevent.Options) {
		const n = 1 << 20                          // the kernel takes it, but not the peer's
		written := make(chan *libevent.Base, 1000) // connections that are tried below count
		s := serve(t, loop, libevent.ServeOptions{}, func(c *libevent.BufferEvent) libevent.Handler {
			f := testutil.NewFilter(t, c, nil, nil, opts)
			_, err := f.Write(make([]byte, n))
			assert.NoError(t, err)
			written <- c.Base()
			return libevent.Handler{Read: func(b *libevent.BufferEvent) { assert.NoError(t, b.Input().Drain(b.Input().Len())) }}
		})
		testutil.Background(t, loop)
		conn := dialServer(t, s)
		base := testutil.Receive(t, written)
		ended := make(chan error, 1)
		go func() { ended <- s.Shutdown(patient(t)) }()
		testutil.Eventually(t, func() bool {
			another, err := net.Dial("tcp", conn.RemoteAddr().String())
			if err == nil {
				_ = another.Close()
			}
			return err != nil
		}, "the server accepts no more")
		for range 5 {
			testutil.OnLoop(t, base, func() {})
			_, err := conn.Write([]byte("still here"))
			require.NoError(t, err)
		}
		got, err := io.ReadAll(conn)
		require.NoError(t, err)
		assert.Len(t, got, n)
		require.NoError(t, conn.Close())
		assert.NoError(t, testutil.Receive(t, ended))
	})
}
