// SPDX-License-Identifier: BSD-3-Clause

package hiredis_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/examples/redis/hiredis"
	"github.com/go-libevent/libevent/examples/redis/internal/redistest"
)

func TestReplies(t *testing.T) {
	eachWay(t, func(t *testing.T, _ *redistest.Server, addr string) {
		s := dial(t, newBase(t), addr)
		binary := "\x00\r\n$-1\r\n\xff" + strings.Repeat("\x00", 100_000)
		for _, test := range []struct {
			args string
			want any
		}{
			{"SET k v", "OK"},
			{"GET k", "v"},
			{"get nothing", nil},
			{"INCR n", int64(1)},
			{"DECRBY n 3", int64(-2)},
			{"INCR k", hiredis.Error("ERR value is not an integer or out of range")},
			{"RPUSH l a b c", int64(3)},
			{"LRANGE l 0 -1", []any{"a", "b", "c"}},
			{"LRANGE nothing 0 -1", []any{}},
			{"MGET k nothing n", []any{"v", nil, "-2"}},
			{"MULTI", "OK"},
			{"LRANGE l 0 1", "QUEUED"},
			{"INCR k", "QUEUED"},
			{"GET nothing", "QUEUED"},
			{"EVAL return{1,{'x',{}}} 0", "QUEUED"},
			{"EXEC", []any{
				[]any{"a", "b"},
				hiredis.Error("ERR value is not an integer or out of range"),
				nil,
				[]any{int64(1), []any{"x", []any{}}}}},
			{"SET b " + binary, "OK"},
			{"GET b", binary},
			{"STRLEN b", int64(len(binary))},
		} {
			want := answer{value: test.want}
			if err, ok := test.want.(hiredis.Error); ok {
				want = answer{err: err}
			}
			a := s.do(t, strings.Split(test.args, " ")...)
			t.Cleanup(func() { assert.Equal(t, want, *a, "%.40q", test.args) })
		}
		empty := s.do(t, "ECHO", "")
		require.NoError(t, s.Do(nil, "INCR", "n"), "a reply that nobody wants")
		after := s.do(t, "GET", "n")
		s.finish(t)
		assert.Equal(t, answer{value: ""}, *empty)
		assert.Equal(t, answer{value: "-1"}, *after)
	})
}

func TestPipeline(t *testing.T) {
	const n = 10_000
	eachWay(t, func(t *testing.T, _ *redistest.Server, addr string) {
		s := dial(t, newBase(t), addr)
		var got []int64
		for range n {
			require.NoError(t, s.Do(func(value any, err error) {
				assert.NoError(t, err)
				got = append(got, value.(int64))
			}, "INCR", "n"))
		}
		s.finish(t)
		require.Len(t, got, n)
		for i, v := range got {
			require.EqualValues(t, i+1, v, "in order")
		}
	})
}

// A closure sends the next command; other goroutines send through Post.
func TestChainAndPost(t *testing.T) {
	const n, goroutines = 1000, 4
	base := newBase(t)
	s := dial(t, base, redistest.Start(t).TCP)
	left := goroutines
	for g := range goroutines {
		key := fmt.Sprint("k", g)
		count := 0
		var next func(any, error)
		next = func(value any, err error) {
			count++
			assert.NoError(t, err)
			assert.EqualValues(t, count, value)
			if count < n {
				assert.NoError(t, s.Do(next, "INCR", key))
			} else if left--; left == 0 {
				assert.NoError(t, s.Disconnect())
			}
		}
		go func() {
			assert.NoError(t, base.Post(func() { assert.NoError(t, s.Do(next, "INCR", key)) }))
		}()
	}
	dispatch(t, base)
	assert.Zero(t, left)
	assert.Equal(t, []error{nil}, s.ends)
}

func TestRefused(t *testing.T) {
	s := dial(t, newBase(t), redistest.Start(t).TCP)
	never := func(any, error) { assert.Fail(t, "called") }
	for _, args := range []string{
		"SUBSCRIBE c", "psubscribe c", "SSubscribe c", "unsubscribe", "punsubscribe", "sunsubscribe",
		"MONITOR", "sync", "PSYNC ? -1", "hello 3", "client Reply off",
	} {
		assert.ErrorContains(t, s.Do(never, strings.Split(args, " ")...), "not for Do", args)
	}
	assert.Error(t, s.Do(never))
	assert.Error(t, s.Subscribe(nil, "c"))
	assert.Error(t, s.Unsubscribe("c"))
	unknown, nameless := s.do(t, "NOSUCH"), s.do(t, "")
	pong := s.do(t, "PING")
	s.finish(t)
	assert.ErrorContains(t, unknown.err, "ERR unknown command")
	assert.ErrorContains(t, nameless.err, "ERR unknown command")
	assert.Equal(t, answer{value: "PONG"}, *pong)
	for _, addr := range []string{"", "localhost:6379", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "/a\x00b"} {
		_, err := hiredis.Dial(s.base, addr, nil, nil)
		assert.Error(t, err, addr)
	}
}

func TestConnectFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	base := newBase(t)
	for _, commands := range []int{0, 3} {
		s := dial(t, base, l.Addr().String())
		var answers []*answer
		for range commands {
			answers = append(answers, s.do(t, "PING"))
		}
		dispatch(t, base)
		require.Len(t, s.ends, 1)
		assert.ErrorContains(t, s.ends[0], "Connection refused")
		for _, a := range answers {
			assert.ErrorContains(t, a.err, "Connection refused")
		}
		assert.ErrorContains(t, s.Do(nil, "PING"), "Connection refused", "from now on")
	}
	_, err = hiredis.Dial(base, "/nowhere/socket", nil, func(error) { assert.Fail(t, "called") })
	assert.ErrorContains(t, err, "No such file")
}

// When the server dies, pending commands get an error, and the client ends once. The loop
// writes after the server's death, and the process survives the SIGPIPE.
func TestServerDies(t *testing.T) {
	eachWay(t, func(t *testing.T, server *redistest.Server, addr string) {
		base := newBase(t)
		s := dial(t, base, addr)
		var answers []*answer
		require.NoError(t, s.Do(func(value any, err error) {
			assert.NoError(t, err)
			for range 100 {
				answers = append(answers, s.do(t, "BLPOP", "nothing", "0"))
			}
			server.Kill(t)
		}, "PING"))
		dispatch(t, base)
		require.Len(t, s.ends, 1)
		require.Error(t, s.ends[0])
		t.Log(s.ends[0])
		require.Len(t, answers, 100)
		for _, a := range answers {
			assert.Equal(t, s.ends[0], a.err)
		}
		assert.Equal(t, s.ends[0], s.Do(nil, "PING"))
		assert.NoError(t, s.Disconnect())
		assert.NoError(t, s.Close())
		assert.Len(t, s.ends, 1)
	})
}

// The server dies while one client waits for a reply and another for messages.
func TestServerDiesIdle(t *testing.T) {
	server := redistest.Start(t)
	base := newBase(t)
	s, subscriber := dial(t, base, server.TCP), dial(t, base, server.Unix)
	var blocked *answer
	var got error
	require.NoError(t, subscriber.Subscribe(func(m hiredis.Message, err error) {
		if m.Kind == "subscribe" {
			blocked = s.do(t, "BLPOP", "nothing", "0")
			go server.Kill(t)
		} else {
			got = err
		}
	}, "c"))
	dispatch(t, base)
	assert.Equal(t, s.ends[0], blocked.err)
	assert.Error(t, blocked.err, "a reset when the server has not read it")
	assert.ErrorIs(t, got, io.EOF)
	assert.Len(t, s.ends, 1)
	assert.Len(t, subscriber.ends, 1)
}

func TestSubscribe(t *testing.T) {
	server := redistest.Start(t)
	base := newBase(t)
	publisher, s := dial(t, base, server.TCP), dial(t, base, server.Unix)
	const n = 1000
	before := s.do(t, "PING")
	var got []hiredis.Message
	require.NoError(t, s.Subscribe(func(m hiredis.Message, err error) {
		assert.NoError(t, err)
		got = append(got, m)
		switch {
		case m.Kind == "subscribe":
			assert.ErrorIs(t, s.Do(nil, "PING"), hiredis.ErrSubscribed)
			for i := range n {
				assert.NoError(t, publisher.Do(nil, "PUBLISH", "c", fmt.Sprint(i, "\x00")))
			}
			assert.NoError(t, publisher.Disconnect())
		case len(got) == n+1:
			assert.NoError(t, s.Unsubscribe("c"))
			assert.Error(t, s.Unsubscribe("c"), "twice")
			assert.Error(t, s.Subscribe(func(hiredis.Message, error) {}, "c"), "before it has ended")
		case m.Kind == "unsubscribe":
			assert.NoError(t, s.Do(func(value any, err error) {
				assert.Equal(t, "PONG", value)
				assert.NoError(t, s.Subscribe(func(m hiredis.Message, err error) {
					if err == nil {
						assert.Equal(t, "subscribe", m.Kind)
						assert.NoError(t, s.Disconnect())
					} else {
						assert.ErrorIs(t, err, hiredis.ErrClosed)
						got = append(got, hiredis.Message{Kind: "end"})
					}
				}, "c"))
			}, "PING"))
		}
	}, "c"))
	assert.Error(t, s.Subscribe(func(hiredis.Message, error) {}, "c"), "twice")
	dispatch(t, base)
	assert.Equal(t, answer{value: "PONG"}, *before)
	require.Len(t, got, n+3)
	assert.Equal(t, hiredis.Message{Kind: "subscribe", Channel: "c"}, got[0])
	for i, m := range got[1 : n+1] {
		require.Equal(t, hiredis.Message{Kind: "message", Channel: "c", Payload: fmt.Sprint(i, "\x00")}, m)
	}
	assert.Equal(t, hiredis.Message{Kind: "unsubscribe", Channel: "c"}, got[n+1])
	assert.Equal(t, "end", got[n+2].Kind)
	assert.Equal(t, []error{nil}, s.ends)
}

// A subscription may be ended before it has begun, while another one goes on.
func TestSubscribeAndLeave(t *testing.T) {
	s := dial(t, newBase(t), redistest.Start(t).TCP)
	var kinds []string
	note := func(m hiredis.Message, err error) {
		assert.NoError(t, err)
		kinds = append(kinds, m.Kind+" "+m.Channel)
		if m.Kind == "unsubscribe" && m.Channel == "b" {
			assert.NoError(t, s.Disconnect())
		}
	}
	require.NoError(t, s.Subscribe(note, "a"))
	require.NoError(t, s.Unsubscribe("a"))
	require.NoError(t, s.Subscribe(note, "b"))
	require.NoError(t, s.Unsubscribe("b"))
	dispatch(t, s.base)
	assert.Equal(t, []string{"subscribe a", "unsubscribe a", "subscribe b", "unsubscribe b"}, kinds)
}

// If the server answers SUBSCRIBE with an error, the client ends.
func TestSubscriptionDenied(t *testing.T) {
	s := dial(t, newBase(t), redistest.Start(t, "--requirepass", "secret").TCP)
	denied := s.do(t, "PING")
	var got error
	require.NoError(t, s.Subscribe(func(_ hiredis.Message, err error) { got = err }, "c"))
	dispatch(t, s.base)
	assert.ErrorContains(t, denied.err, "NOAUTH")
	assert.ErrorContains(t, got, "NOAUTH")
	require.Len(t, s.ends, 1)
	assert.ErrorContains(t, s.ends[0], "NOAUTH")
}

// Close and Disconnect work before, inside and after every kind of closure.
func TestClose(t *testing.T) {
	server := redistest.Start(t)
	check := func(t *testing.T, s *session, answers ...*answer) {
		t.Helper()
		assert.Equal(t, []error{nil}, s.ends)
		for _, a := range answers {
			assert.Equal(t, answer{err: hiredis.ErrClosed}, *a)
			assert.ErrorIs(t, a.err, net.ErrClosed)
		}
		assert.ErrorIs(t, s.Do(nil, "PING"), hiredis.ErrClosed)
		assert.ErrorIs(t, s.Unsubscribe("c"), hiredis.ErrClosed)
		assert.NoError(t, s.Close())
		assert.NoError(t, s.Disconnect())
		dispatch(t, s.base)
	}
	t.Run("before it is connected", func(t *testing.T) {
		s := dial(t, newBase(t), server.TCP)
		a, b := s.do(t, "PING"), s.do(t, "PING")
		require.NoError(t, s.Close())
		check(t, s, a, b)
	})
	t.Run("disconnect before it is connected", func(t *testing.T) {
		s := dial(t, newBase(t), server.TCP)
		require.NoError(t, s.Disconnect())
		check(t, s)
	})
	t.Run("after disconnect", func(t *testing.T) {
		s := dial(t, newBase(t), server.TCP)
		a := s.do(t, "PING")
		require.NoError(t, s.Disconnect())
		require.NoError(t, s.Close())
		check(t, s, a)
	})
	t.Run("in the connect closure", func(t *testing.T) {
		for _, commands := range []int{0, 2} {
			s := &session{base: newBase(t)}
			var err error
			s.Client, err = hiredis.Dial(s.base, server.TCP,
				func() { assert.NoError(t, s.Close()); assert.Empty(t, s.ends) },
				func(err error) { s.ends = append(s.ends, err) })
			require.NoError(t, err)
			var answers []*answer
			for range commands {
				answers = append(answers, s.do(t, "BLPOP", "nothing", "0"))
			}
			dispatch(t, s.base)
			check(t, s, answers...)
		}
	})
	t.Run("disconnect in the connect closure", func(t *testing.T) {
		s := &session{base: newBase(t)}
		var err error
		s.Client, err = hiredis.Dial(s.base, server.TCP,
			func() { assert.NoError(t, s.Disconnect()) },
			func(err error) { s.ends = append(s.ends, err) })
		require.NoError(t, err)
		dispatch(t, s.base)
		check(t, s)
	})
	t.Run("in a reply", func(t *testing.T) {
		s := dial(t, newBase(t), server.TCP)
		require.NoError(t, s.Do(func(any, error) {
			assert.NoError(t, s.Close())
			assert.NoError(t, s.Close())
		}, "PING"))
		a, b := s.do(t, "PING"), s.do(t, "PING")
		dispatch(t, s.base)
		check(t, s, a, b)
	})
	t.Run("and end the loop", func(t *testing.T) {
		s := dial(t, newBase(t), server.TCP)
		require.NoError(t, s.Do(func(any, error) {
			assert.NoError(t, s.Close())
			assert.NoError(t, s.base.LoopBreak())
		}, "PING"))
		dispatch(t, s.base)
		check(t, s)
	})
	t.Run("in what Close makes of a reply", func(t *testing.T) {
		s := dial(t, newBase(t), server.TCP)
		require.NoError(t, s.Do(func(_ any, err error) {
			assert.ErrorIs(t, err, hiredis.ErrClosed)
			assert.NoError(t, s.Close())
			assert.NoError(t, s.Disconnect())
			assert.ErrorIs(t, s.Do(nil, "PING"), hiredis.ErrClosed)
		}, "PING"))
		a := s.do(t, "PING")
		require.NoError(t, s.Close())
		check(t, s, a)
	})
	t.Run("in a subscription, beside another", func(t *testing.T) {
		s := dial(t, newBase(t), server.TCP)
		ends := 0
		note := func(_ hiredis.Message, err error) {
			if err == nil {
				assert.NoError(t, s.Close())
			} else {
				assert.ErrorIs(t, err, hiredis.ErrClosed)
				ends++
			}
		}
		require.NoError(t, s.Subscribe(note, "a"))
		require.NoError(t, s.Subscribe(note, "b"))
		dispatch(t, s.base)
		assert.Equal(t, 2, ends)
		check(t, s)
	})
	t.Run("another's client", func(t *testing.T) {
		base := newBase(t)
		s, other := dial(t, base, server.TCP), dial(t, base, server.Unix)
		a := other.do(t, "BLPOP", "nothing", "0")
		require.NoError(t, s.Do(func(any, error) {
			assert.NoError(t, other.Close())
			assert.Len(t, other.ends, 1)
			assert.NoError(t, s.Close())
		}, "PING"))
		dispatch(t, base)
		check(t, s)
		check(t, other, a)
	})
	t.Run("after the base is freed", func(t *testing.T) {
		base, err := libevent.NewBase()
		require.NoError(t, err)
		s := dial(t, base, server.TCP)
		a := s.do(t, "BLPOP", "nothing", "0") // has no reply when Free runs the events that are due
		require.NoError(t, base.Free())
		assert.ErrorIs(t, s.Do(nil, "PING"), libevent.ErrClosed)
		assert.ErrorIs(t, s.Subscribe(func(hiredis.Message, error) {}, "c"), libevent.ErrClosed)
		assert.ErrorIs(t, s.Disconnect(), libevent.ErrClosed)
		require.NoError(t, s.Close())
		assert.Equal(t, answer{err: hiredis.ErrClosed}, *a)
		assert.Equal(t, []error{nil}, s.ends)
		_, err = hiredis.Dial(base, server.TCP, nil, nil)
		assert.ErrorIs(t, err, libevent.ErrClosed)
	})
}

var errBoom = errors.New("boom")

func explode() { panic(errBoom) }

// Dispatch raises a panic of any closure, and the client works on afterwards.
func TestPanic(t *testing.T) {
	server := redistest.Start(t)
	for name, arrange := range map[string]func(t *testing.T, base *libevent.Base) *hiredis.Client{
		"connected": func(t *testing.T, base *libevent.Base) *hiredis.Client {
			c, err := hiredis.Dial(base, server.TCP, explode, nil)
			require.NoError(t, err)
			return c
		},
		"reply": func(t *testing.T, base *libevent.Base) *hiredis.Client {
			s := dial(t, base, server.TCP)
			require.NoError(t, s.Do(func(any, error) { explode() }, "PING"))
			return s.Client
		},
		"message": func(t *testing.T, base *libevent.Base) *hiredis.Client {
			s := dial(t, base, server.TCP)
			require.NoError(t, s.Subscribe(func(m hiredis.Message, err error) {
				if m.Kind == "unsubscribe" {
					explode()
				}
			}, "c"))
			require.NoError(t, s.Unsubscribe("c"))
			return s.Client
		},
		"lost reply": func(t *testing.T, base *libevent.Base) *hiredis.Client {
			s := dial(t, base, server.TCP)
			require.NoError(t, s.Do(func(any, error) { explode() }, "PING"))
			require.NoError(t, s.Close())
			return nil
		},
		"ended": func(t *testing.T, base *libevent.Base) *hiredis.Client {
			c, err := hiredis.Dial(base, server.TCP, nil, func(error) { explode() })
			require.NoError(t, err)
			require.NoError(t, c.Do(nil, "PING"))
			require.NoError(t, c.Disconnect())
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := newBase(t)
			c := arrange(t, base)
			var p *libevent.PanicError
			func() {
				defer func() {
					err, _ := recover().(error)
					require.ErrorAs(t, err, &p)
				}()
				dispatch(t, base)
			}()
			assert.Equal(t, errBoom, p.Value)
			assert.Contains(t, string(p.Stack), "hiredis_test.explode", "the stack is the closure's")
			if c == nil {
				dispatch(t, base)
				return
			}
			pong := any(nil)
			require.NoError(t, c.Do(func(value any, err error) { pong = value }, "PING"))
			require.NoError(t, c.Disconnect())
			dispatch(t, base)
			assert.Equal(t, "PONG", pong)
		})
	}
}

// A Goexit in a closure ends the loop for ever, and nothing else.
func TestGoexit(t *testing.T) {
	server := redistest.Start(t)
	base, err := libevent.NewBase()
	require.NoError(t, err)
	s := dial(t, base, server.TCP)
	require.NoError(t, s.Do(func(any, error) { runtime.Goexit() }, "PING"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = base.Dispatch()
		assert.Fail(t, "Dispatch returned")
	}()
	<-done
	assert.ErrorIs(t, s.Do(nil, "PING"), libevent.ErrLoopAborted)
	assert.NoError(t, s.Close())
	assert.ErrorIs(t, base.Free(), libevent.ErrLoopAborted)
}

func TestNoDescriptorLeaks(t *testing.T) {
	server := redistest.Start(t)
	base := newBase(t)
	round := func() {
		s := dial(t, base, server.Unix)
		a := s.do(t, "PING")
		s.finish(t)
		assert.Equal(t, answer{value: "PONG"}, *a)
	}
	round()
	before := openFDs(t)
	for range 200 {
		round()
	}
	assert.Equal(t, before, openFDs(t))
}

func openFDs(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/dev/fd")
	require.NoError(t, err)
	return len(entries)
}

// When the server dies with thousands of commands pending, each closure is called once: first
// those of the commands that the server has answered, then all others with an error.
func TestServerDiesInThePipeline(t *testing.T) {
	const n = 10_000
	eachWay(t, func(t *testing.T, server *redistest.Server, addr string) {
		s := dial(t, newBase(t), addr)
		done, lost := 0, 0
		for range n {
			require.NoError(t, s.Do(func(_ any, err error) {
				if err == nil {
					assert.Zero(t, lost, "in order")
					if done++; done == 1 {
						server.Kill(t)
					}
					return
				}
				lost++
			}, "INCR", "n"))
		}
		// This command blocks, so the server cannot have answered all of them before it dies.
		blocked := s.do(t, "BLPOP", "nothing", "0")
		dispatch(t, s.base)
		require.Len(t, s.ends, 1)
		require.Error(t, s.ends[0])
		assert.Equal(t, s.ends[0], blocked.err)
		assert.Equal(t, n, done+lost)
		assert.Positive(t, done)
	})
}

// A client may be closed before, while and after it connects.
func TestGivenUp(t *testing.T) {
	server := redistest.Start(t)
	base := newBase(t)
	for i := range 300 {
		s := dial(t, base, server.Unix)
		if i%3 > 0 {
			require.NoError(t, s.Do(func(any, error) {}, "PING"))
		}
		for range i % 5 {
			require.NoError(t, base.Loop(libevent.LoopOnce|libevent.LoopNonblock))
		}
		if i%2 == 0 {
			require.NoError(t, s.Disconnect())
		}
		require.NoError(t, s.Close())
	}
	dispatch(t, base)
	assert.Zero(t, hiredis.Live())
}
