// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"context"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// closureKinds are functions that have the loop call one closure of a kind, once. The
// closure calls fail.
var closureKinds = map[string]func(t *testing.T, base *libevent.Base, fail func()){
	"read": func(t *testing.T, base *libevent.Base, fail func()) {
		bev, peer := testutil.NewSocket(t, base, 0)
		require.NoError(t, bev.SetCallbacks(func(*libevent.BufferEvent) { fail() }, nil, nil))
		require.NoError(t, bev.Enable(rd))
		_, err := peer.Write([]byte("x"))
		require.NoError(t, err)
	},
	"read, loop only": func(t *testing.T, base *libevent.Base, fail func()) {
		bev, peer := testutil.NewSocket(t, base, libevent.OptLoopOnly)
		require.NoError(t, bev.SetCallbacks(func(*libevent.BufferEvent) { fail() }, nil, nil))
		require.NoError(t, bev.SetWatermark(rd, 0, 1))
		require.NoError(t, bev.Enable(rd))
		_, err := peer.Write([]byte("x"))
		require.NoError(t, err)
	},
	"write": func(t *testing.T, base *libevent.Base, fail func()) {
		bev, _ := testutil.NewSocket(t, base, 0)
		require.NoError(t, bev.SetCallbacks(nil, func(*libevent.BufferEvent) { fail() }, nil))
		_, err := bev.WriteString("x")
		require.NoError(t, err)
	},
	"event": func(t *testing.T, base *libevent.Base, fail func()) {
		bev, peer := testutil.NewSocket(t, base, 0)
		require.NoError(t, bev.SetCallbacks(nil, nil, func(*libevent.BufferEvent, libevent.Events) { fail() }))
		require.NoError(t, bev.Enable(rd))
		require.NoError(t, peer.Close())
	},
	"fd event": func(t *testing.T, base *libevent.Base, fail func()) {
		bev, _ := testutil.NewSocket(t, base, 0)
		e, err := base.NewEvent(bev.FD(), wr, func(int, libevent.What) { fail() })
		require.NoError(t, err)
		require.NoError(t, e.Add(-1))
	},
	"timer": func(t *testing.T, base *libevent.Base, fail func()) {
		e, err := base.NewTimer(fail)
		require.NoError(t, err)
		require.NoError(t, e.Add(0))
	},
	"signal": func(t *testing.T, base *libevent.Base, fail func()) {
		var e *libevent.Event
		e, err := base.NewSignal(syscall.SIGUSR1, func(os.Signal) { e.Free(); fail() })
		require.NoError(t, err)
		require.NoError(t, e.Add(-1))
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGUSR1))
	},
	"accept": func(t *testing.T, base *libevent.Base, fail func()) {
		l := testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
			testutil.Drop(l, fd, nil)
			l.Free()
			fail()
		})
		testutil.Dial(t, l)
	},
	"accept error": func(t *testing.T, base *libevent.Base, fail func()) {
		l := testutil.Listen(t, base, testutil.Drop)
		var limit syscall.Rlimit
		require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
		l.SetErrorFunc(func(l *libevent.Listener, err error) {
			assert.ErrorIs(t, err, syscall.EMFILE)
			_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
			l.Free()
			fail()
		})
		testutil.Dial(t, l)
		low := limit
		low.Cur = 0
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	},
	"connect by name": func(t *testing.T, base *libevent.Base, fail func()) {
		bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
		require.NoError(t, err)
		require.NoError(t, bev.SetCallbacks(nil, nil, func(*libevent.BufferEvent, libevent.Events) { fail() }))
		require.NoError(t, bev.ConnectHostname(testutil.NewDNSBase(t, base, libevent.DNSConfig{NoSystemConfig: true}), "tcp", "127.0.0.2", 1))
	},
	"lookup": func(t *testing.T, base *libevent.Base, fail func()) {
		_, err := testutil.NewDNSBase(t, base, libevent.DNSConfig{NoSystemConfig: true}).Lookup("ip", "127.0.0.1", func([]netip.Addr, error) { fail() })
		require.NoError(t, err)
	},
	"post": func(t *testing.T, base *libevent.Base, fail func()) {
		require.NoError(t, base.Post(fail))
	},
	"peek": func(t *testing.T, base *libevent.Base, fail func()) {
		require.NoError(t, base.Post(func() {
			bev, err := base.NewSocket(-1, 0)
			assert.NoError(t, err)
			_ = bev.Output().Peek(func([][]byte) { fail() })
		}))
	},
}

func TestPanicInEveryKindOfClosure(t *testing.T) {
	for name, arrange := range closureKinds {
		t.Run(name, func(t *testing.T) {
			base := testutil.NewBase(t)
			arrange(t, base, testutil.Explode)
			v := testutil.Raises(func() { _ = base.Dispatch() })
			var p *libevent.PanicError
			require.ErrorAs(t, testutil.AsError(v), &p)
			assert.Equal(t, testutil.ErrBoom, p.Value)
			assert.ErrorIs(t, p, testutil.ErrBoom)
			assert.Contains(t, string(p.Stack), "testutil.Explode", "the stack is the closure's")
			assert.Contains(t, p.Error(), "boom")

			// The base works as before.
			ran := false
			require.NoError(t, base.Post(func() { ran = true }))
			bev, peer := testutil.NewSocket(t, base, 0)
			require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
				assert.NoError(t, b.WriteBuffer(b.Input()))
				assert.NoError(t, b.FreeAfterFlush(testutil.Patience))
				assert.NoError(t, base.LoopExit(20*time.Millisecond))
			}, nil, nil))
			require.NoError(t, bev.Enable(rd))
			_, err := peer.Write([]byte("echo"))
			require.NoError(t, err)
			testutil.Dispatch(t, base)
			assert.True(t, ran)
			got, err := io.ReadAll(peer)
			require.NoError(t, err)
			assert.Equal(t, "echo", string(got))
		})
	}
}

// What is pending when a closure panics is delivered by a later run, once. The first call of
// some closures panics.
func TestPanicKeepsWhatIsPending(t *testing.T) {
	for name, c := range map[string]struct {
		panics  int
		arrange []func(t *testing.T, base *libevent.Base, called calls) (want calls)
	}{
		"callbacks of one bufferevent": {1, []func(*testing.T, *libevent.Base, calls) calls{pendingCallbacks}},
		"accepted connections":         {1, []func(*testing.T, *libevent.Base, calls) calls{pendingAccepts}},
		"posted functions":             {1, []func(*testing.T, *libevent.Base, calls) calls{pendingPosts}},
		"all of these and other sockets": {3, []func(*testing.T, *libevent.Base, calls) calls{
			pendingCallbacks, pendingSockets, pendingAccepts, pendingPosts}},
	} {
		t.Run(name, func(t *testing.T) {
			base := testutil.NewBase(t)
			called, want := calls{}, calls{}
			for _, arrange := range c.arrange {
				maps.Copy(want, arrange(t, base, called))
			}
			for range c.panics {
				v := testutil.Raises(func() { testutil.Dispatch(t, base) })
				require.ErrorIs(t, testutil.AsError(v), testutil.ErrBoom)
			}
			assert.Nil(t, testutil.Raises(func() { testutil.Dispatch(t, base) }))
			assert.Equal(t, want, called)
		})
	}
}

// calls counts the calls of closures.
type calls map[string]int

// note counts a call. The first call of a closure that panics does so.
func (c calls) note(name string, panics bool) {
	if c[name]++; panics && c[name] == 1 {
		testutil.Explode()
	}
}

// pendingCallbacks has one bufferevent with all three kinds of callbacks due at once: the
// other end reads and writes and finishes before the loop first runs.
func pendingCallbacks(t *testing.T, base *libevent.Base, called calls) (want calls) {
	a, b := testutil.NewPair(t, base)
	require.NoError(t, a.SetCallbacks(
		func(*libevent.BufferEvent) { called.note("read", true) },
		func(*libevent.BufferEvent) { called.note("write", false) },
		func(_ *libevent.BufferEvent, what libevent.Events) {
			assert.Equal(t, libevent.EventReading|libevent.EventEOF, what)
			called.note("event", false)
		}))
	require.NoError(t, a.Enable(rd))
	require.NoError(t, b.Enable(rd))
	_, err := a.WriteString("to b")
	require.NoError(t, err)
	_, err = b.WriteString("to a")
	require.NoError(t, err)
	_, err = b.Flush(wr, libevent.FlushFinished)
	require.NoError(t, err)
	return calls{"read": 1, "write": 1, "event": 1}
}

func pendingSockets(t *testing.T, base *libevent.Base, called calls) (want calls) {
	for range 5 {
		bev, peer := testutil.NewSocket(t, base, 0)
		require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			called.note("socket", false)
			b.Free()
		}, nil, nil))
		require.NoError(t, bev.Enable(rd))
		_, err := peer.Write([]byte("x"))
		require.NoError(t, err)
	}
	return calls{"socket": 5}
}

func pendingAccepts(t *testing.T, base *libevent.Base, called calls) (want calls) {
	l := testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
		testutil.Drop(l, fd, nil)
		if called["accept"] == 2 {
			l.Free()
		}
		called.note("accept", true)
	})
	for range 3 {
		testutil.Dial(t, l)
	}
	return calls{"accept": 3}
}

func pendingPosts(t *testing.T, base *libevent.Base, called calls) (want calls) {
	for range 3 {
		require.NoError(t, base.Post(func() { called.note("post", true) }))
	}
	return calls{"post": 3}
}

// A panic passes through the loop of another base, and keeps the stack of its closure.
func TestPanicThroughTwoLoops(t *testing.T) {
	outer, inner := testutil.NewBase(t), testutil.NewBase(t)
	require.NoError(t, inner.Post(testutil.Explode))
	require.NoError(t, outer.Post(func() { _ = inner.Dispatch() }))
	v := testutil.Raises(func() { _ = outer.Dispatch() })
	var p *libevent.PanicError
	require.ErrorAs(t, testutil.AsError(v), &p)
	assert.Equal(t, testutil.ErrBoom, p.Value)
	assert.Contains(t, string(p.Stack), "testutil.Explode")
	testutil.Dispatch(t, inner)
	testutil.Dispatch(t, outer)
}

func TestPanicWithOtherValues(t *testing.T) {
	base := testutil.NewBase(t)
	require.NoError(t, base.Post(func() { panic("text") }))
	v := testutil.Raises(func() { _ = base.Dispatch() })
	require.IsType(t, &libevent.PanicError{}, v)
	assert.Equal(t, "text", v.(*libevent.PanicError).Value)
	assert.NoError(t, v.(*libevent.PanicError).Unwrap())
	require.NoError(t, base.Post(func() {
		var nobody *libevent.BufferEvent
		nobody.Free() // a nil dereference is a panic like any other
	}))
	assert.NotNil(t, testutil.Raises(func() { _ = base.Dispatch() }))
	testutil.Dispatch(t, base)
}

// A Goexit abandons the C frames of libevent's loop. From then on the calls of the base
// say so, and what can be given back is.
func TestGoexitInEveryKindOfClosure(t *testing.T) {
	if testutil.ASan {
		t.Skip("the C frames that a Goexit abandons leave their red zones in the thread's stack")
	}
	for name, arrange := range closureKinds {
		t.Run(name, func(t *testing.T) {
			base, err := libevent.NewBase()
			require.NoError(t, err)
			l := testutil.Listen(t, base, testutil.Drop)
			bev, peer := testutil.NewSocket(t, base, 0)
			arrange(t, base, runtime.Goexit)
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = base.Dispatch()
				assert.Fail(t, "Dispatch returned")
			}()
			testutil.Receive(t, done)
			assert.ErrorIs(t, base.Dispatch(), libevent.ErrLoopAborted)
			assert.ErrorIs(t, base.Post(func() {}), libevent.ErrLoopAborted)
			assert.ErrorIs(t, base.LoopBreak(), libevent.ErrLoopAborted)
			_, err = bev.WriteString("still no crash")
			assert.ErrorIs(t, err, libevent.ErrLoopAborted)
			assert.ErrorIs(t, bev.Enable(rd), libevent.ErrLoopAborted)
			_, err = base.NewSocket(-1, 0)
			assert.ErrorIs(t, err, libevent.ErrLoopAborted)
			other, _ := testutil.NewSocket(t, testutil.NewBase(t), 0)
			assert.NoError(t, other.Enable(rd), "other bases have nothing to do with it")
			disabled := make(chan error, 1)
			go func() { disabled <- l.Disable() }()
			assert.ErrorIs(t, testutil.Receive(t, disabled), libevent.ErrLoopAborted)
			assert.ErrorIs(t, base.Free(), libevent.ErrLoopAborted)
			assert.NoError(t, base.Free())
			_, err = peer.Read(make([]byte, 1))
			assert.ErrorIs(t, err, io.EOF, "descriptors are closed")
			_, err = net.Dial("tcp", l.Addr().String())
			assert.ErrorIs(t, err, syscall.ECONNREFUSED)
		})
	}
}

// libevent holds locks while a function of a filter runs. A Goexit there must not leave them
// locked, whichever goroutine it ends.
func TestGoexitInAFilterFunction(t *testing.T) {
	if testutil.ASan {
		t.Skip("the C frames that a Goexit abandons leave their red zones in the thread's stack")
	}
	if os.Getenv("LIBEVENT_LOCK_DEBUGGING") != "" {
		t.Skip("libevent would abort when what is locked is unlocked more often than it was locked")
	}
	ends := func(_, _ *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
		runtime.Goexit()
		return libevent.FilterOK, nil
	}
	for name, call := range map[string]func(f *libevent.BufferEvent, src *libevent.Buffer) error{
		"write":            func(f *libevent.BufferEvent, _ *libevent.Buffer) error { _, err := f.WriteString("hello"); return err },
		"write buffer":     func(f *libevent.BufferEvent, src *libevent.Buffer) error { return f.WriteBuffer(src) },
		"add buffer":       func(f *libevent.BufferEvent, src *libevent.Buffer) error { return f.Output().AddBuffer(src) },
		"close write":      func(f *libevent.BufferEvent, _ *libevent.Buffer) error { return f.CloseWrite() },
		"free after flush": func(f *libevent.BufferEvent, _ *libevent.Buffer) error { return f.FreeAfterFlush(testutil.Patience) },
	} {
		for _, where := range []string{"on the loop", "elsewhere", "without a loop"} {
			t.Run(name+" "+where, func(t *testing.T) {
				base, err := libevent.NewBase()
				require.NoError(t, err)
				bev, peer := testutil.NewSocket(t, base, 0)
				lower := testutil.NewFilter(t, bev, nil, ends, libevent.OptCloseOnFree)
				f := testutil.NewFilter(t, lower, nil, nil, libevent.OptCloseOnFree)
				src := testutil.NewBuffer(t, "hello")
				ctx, cancel := context.WithCancel(context.Background()) // which keeps the loop running
				defer cancel()
				ran := make(chan error, 1)
				if where != "without a loop" {
					go func() {
						err := libevent.ErrLoopAborted
						defer func() { ran <- err }()
						err = base.Run(ctx)
					}()
					ready := make(chan struct{})
					require.NoError(t, base.Post(func() { close(ready) }))
					testutil.Receive(t, ready)
				}
				act := func() { assert.Fail(t, "it returned", "%v", call(f, src)) }
				if where == "on the loop" {
					require.NoError(t, base.Post(act))
				} else {
					done := make(chan struct{})
					go func() { defer close(done); act() }()
					testutil.Receive(t, done)
				}
				if where != "without a loop" {
					assert.ErrorIs(t, testutil.Receive(t, ran), libevent.ErrLoopAborted)
				}
				freed := make(chan error, 1)
				go func() {
					assert.ErrorIs(t, base.Dispatch(), libevent.ErrLoopAborted)
					assert.ErrorIs(t, base.Post(func() {}), libevent.ErrLoopAborted)
					assert.Error(t, f.Enable(libevent.EvRead))
					_ = src.Len()
					freed <- base.Free()
				}()
				assert.ErrorIs(t, testutil.Receive(t, freed), libevent.ErrLoopAborted)
				_, err = peer.Read(make([]byte, 1))
				assert.Error(t, err, "descriptors are closed")
			})
		}
	}
}
