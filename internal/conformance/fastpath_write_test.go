// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestFastPathWriteCallback(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		got := testutil.ReadAll(peer)
		var seen []int
		require.NoError(t, bev.SetCallbacks(nil, func(b *libevent.BufferEvent) {
			seen = append(seen, b.Output().Len())
			switch len(seen) {
			case 1:
				_, err := b.WriteString("second")
				assert.NoError(t, err)
				assert.Equal(t, 6, b.Output().Len(), "written when the closure has returned")
			case 2:
				b.Free()
			}
		}, nil))
		require.NoError(t, base.Post(func() { _, _ = bev.WriteString("first") }))
		testutil.Dispatch(t, base)
		assert.Equal(t, []int{0, 0}, seen)
		assert.Equal(t, "firstsecond", string(testutil.Receive(t, got)))
	})
}

// Enable(EV_READ|EV_WRITE), as examples of libevent have it, makes one write callback
// though nothing was written.
func TestFastPathEnableWrite(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		writes := 0
		require.NoError(t, bev.SetCallbacks(nil, func(*libevent.BufferEvent) { writes++ }, nil))
		require.NoError(t, bev.Enable(rd|wr))
		for range 5 {
			require.NoError(t, base.Loop(libevent.LoopNonblock))
		}
		assert.Equal(t, 1, writes)

		// While writing is off nothing is sent. When writing is on again it is sent.
		require.NoError(t, bev.Disable(wr))
		testutil.OnceOnLoop(t, base, func() { _, _ = bev.WriteString("late") })
		assert.Equal(t, 4, bev.Output().Len())
		assert.Equal(t, 1, writes)
		require.NoError(t, bev.Enable(wr))
		for writes < 2 {
			require.NoError(t, base.Loop(libevent.LoopOnce))
		}
		got := make([]byte, 4)
		_, err := io.ReadFull(peer, got)
		require.NoError(t, err)
		assert.Equal(t, "late", string(got))
		testutil.OnceOnLoop(t, base, func() { _, _ = bev.WriteString("more") })
		_, err = io.ReadFull(peer, got)
		require.NoError(t, err)
		assert.Equal(t, "more", string(got))
		_, err = peer.Write([]byte("x")) // uses the fast path, for the counters of BothWays
		require.NoError(t, err)
		for bev.Input().Len() == 0 {
			require.NoError(t, base.Loop(libevent.LoopOnce))
		}
	})
}

// Enable makes that write callback also for closures that are set after it and before the
// loop's next turn.
func TestFastPathEnableBeforeSetCallbacks(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		require.NoError(t, bev.Enable(rd|wr))
		require.NoError(t, bev.SetCallbacks(nil, func(b *libevent.BufferEvent) {
			b.Free()
		}, nil))
		testutil.Dispatch(t, base)
		assert.Zero(t, base.Stats().BufferEvents)
		testutil.UseEitherWay(t, base)
		_ = peer.Close()
	})
}

// Setting and removing a limit makes libevent turn directions off and on. The closures are
// not called for that.
func TestFastPathEnableAndLimits(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		testutil.UseEitherWay(t, base)
		bev, _ := testutil.NewSocket(t, base, 0)
		writes := 0
		require.NoError(t, bev.SetCallbacks(nil, func(*libevent.BufferEvent) { writes++ }, nil))
		require.NoError(t, bev.Enable(wr))
		require.NoError(t, bev.SetMaxSingleRead(100))
		require.NoError(t, bev.SetMaxSingleRead(0))
		testutil.OnceOnLoop(t, base, func() {})
		assert.Equal(t, 1, writes)

		require.NoError(t, bev.Trigger(wr, 0))
		require.NoError(t, bev.SetMaxSingleRead(100))
		require.NoError(t, bev.SetMaxSingleRead(0))
		testutil.OnceOnLoop(t, base, func() {})
		assert.Equal(t, 2, writes)

		fd := bev.FD()
		require.NoError(t, bev.SetMaxSingleRead(100))
		testutil.OnceOnLoop(t, base, func() { assert.NoError(t, bev.SetFD(-1)) })
		assert.Equal(t, 2, writes)
		require.NoError(t, bev.SetFD(fd))
		testutil.OnceOnLoop(t, base, func() {})
		assert.Equal(t, 3, writes)
	})
}

// A write closure is not called for bytes that were written before it was set.
func TestFastPathWrittenBefore(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, _ := testutil.NewSocket(t, base, 0)
		testutil.OnceOnLoop(t, base, func() { _, _ = bev.WriteString("early") })
		require.NoError(t, bev.SetCallbacks(nil, func(*libevent.BufferEvent) {
			assert.Fail(t, "a write callback for nothing")
		}, nil))
		require.NoError(t, bev.SetMaxSingleRead(100)) // from here on libevent reads and writes
		testutil.OnceOnLoop(t, base, func() {})
		assert.Zero(t, bev.Output().Len())
	})
}

// With a low mark of writing, everything is still written at once. If it were written in
// pieces, the peer might wait long for the second one.
func TestFastPathWriteLowMark(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewUnixSocket(t, base)
		defer syscall.Close(peer)
		var seen []int
		require.NoError(t, bev.SetWatermark(wr, 10, 0))
		require.NoError(t, bev.SetCallbacks(nil, func(b *libevent.BufferEvent) {
			seen = append(seen, b.Output().Len())
		}, nil))
		testutil.OnceOnLoop(t, base, func() { _, _ = bev.Write(make([]byte, 100)) })
		assert.Equal(t, []int{0}, seen)
	})
}

func TestFastPathWriteError(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		require.NoError(t, peer.SetLinger(0))
		require.NoError(t, peer.Close())
		testutil.Eventually(t, func() bool { // until the reset has come
			var u [1]byte
			_, _, err := syscall.Recvfrom(bev.FD(), u[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			return err == nil || !errors.Is(err, syscall.EAGAIN)
		}, "the reset")
		var got libevent.Events
		require.NoError(t, bev.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			got |= what
			assert.ErrorIs(t, b.Err(), syscall.EPIPE) // the peek has taken ECONNRESET
			assert.Zero(t, b.Enabled()&wr)
		}))
		require.NoError(t, base.Post(func() { _, _ = bev.WriteString("lost") }))
		testutil.Dispatch(t, base)
		assert.Equal(t, libevent.EventWriting|libevent.EventError, got)
		assert.Equal(t, 4, bev.Output().Len(), "what was not written stays")
	})
}

func TestFastPathWritersElsewhere(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		testutil.Background(t, base)
		const writers, times = 8, 2000
		for range writers {
			go func() {
				for range times {
					_, err := bev.WriteString("0123456789abcdef")
					assert.NoError(t, err)
				}
			}()
		}
		got := make([]byte, writers*times*16)
		_, err := io.ReadFull(peer, got)
		require.NoError(t, err)
		for i := 0; i < len(got); i += 16 {
			if string(got[i:i+16]) != "0123456789abcdef" {
				require.Fail(t, "writes are mixed")
			}
		}
	})
}

// Another goroutine writes much, and the socket takes all of it, a part, or nothing.
func TestFastPathLargeWritesElsewhere(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		written := make(chan struct{}, 1)
		require.NoError(t, bev.SetCallbacks(nil, func(b *libevent.BufferEvent) {
			if b.Output().Len() == 0 {
				select {
				case written <- struct{}{}:
				default:
				}
			}
		}, nil))
		testutil.Background(t, base)
		want := testutil.Noise(24 << 20)
		var got <-chan []byte
		for done, n := 0, 1; done < len(want); n = n*7%900001 + 1 {
			n = min(n, len(want)-done)
			k, err := bev.Write(want[done : done+n])
			require.NoError(t, err)
			require.Equal(t, n, k)
			done += n
			if got == nil && done > len(want)*2/3 {
				assert.NotZero(t, bev.Output().Len(), "the kernel takes that much")
				got = testutil.ReadAll(peer)
				testutil.Receive(t, written)
			}
		}
		require.NoError(t, bev.CloseWrite())
		testutil.Same(t, want, testutil.Receive(t, got))
	})
}

// A callback of the output is told of what other goroutines write.
func TestFastPathWritesElsewhereAreCounted(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		added, deleted := 0, 0
		_, err := bev.Output().AddCallback(func(_ *libevent.Buffer, a, d int) { added, deleted = added+a, deleted+d })
		require.NoError(t, err)
		testutil.Background(t, base)
		p := make([]byte, 3000)
		for range 10 {
			_, err = bev.Write(p)
			require.NoError(t, err)
			_, err = io.ReadFull(peer, p)
			require.NoError(t, err)
		}
		testutil.Eventually(t, func() (all bool) {
			testutil.OnLoop(t, base, func() { all = added == 30000 && deleted == 30000 })
			return all
		}, "the sums are those of all writes")
	})
}

// When a write on another goroutine fails, the event has the errno of that write.
func TestFastPathWriteElsewhereFails(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		events := make(chan libevent.Events, 1)
		require.NoError(t, bev.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			assert.ErrorIs(t, b.Err(), syscall.ECONNRESET)
			events <- what
		}))
		testutil.Background(t, base)
		_, err := bev.WriteString("hello") // the first write does not fail
		require.NoError(t, err)
		p := make([]byte, 5)
		_, err = io.ReadFull(peer, p)
		require.NoError(t, err)
		assert.True(t, bytes.Equal([]byte("hello"), p))
		require.NoError(t, errors.Join(peer.SetLinger(0), peer.Close()))
		_, err = bev.WriteString("anybody?")
		require.NoError(t, err)
		assert.Equal(t, libevent.EventError|libevent.EventWriting, testutil.Receive(t, events))
		assert.Zero(t, bev.Enabled()&wr)
	})
}

func TestFastPathFreeWithDataQueued(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		got := testutil.ReadAll(peer)
		require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			_, err := b.WriteString("dropped")
			assert.NoError(t, err)
			b.Free()
		}, nil, nil))
		require.NoError(t, bev.Enable(rd))
		_, err := peer.Write([]byte("x"))
		require.NoError(t, err)
		testutil.Dispatch(t, base)
		assert.Empty(t, testutil.Receive(t, got))
	})
}

func TestFastPathFlushInClosure(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		got := testutil.ReadAll(peer)
		require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			_, err := b.Write(make([]byte, 10<<20))
			assert.NoError(t, err)
			assert.NoError(t, b.FreeAfterFlush(testutil.Patience))
		}, nil, nil))
		require.NoError(t, bev.Enable(rd))
		_, err := peer.Write([]byte("x"))
		require.NoError(t, err)
		testutil.Dispatch(t, base)
		assert.Len(t, testutil.Receive(t, got), 10<<20)
	})
}

// When a closure of any kind has returned, everything that it wrote is sent, also what it
// wrote to another bufferevent.
func TestFastPathWritesOfEveryClosure(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		from, other := testutil.NewSocket(t, base, 0)
		say := func(s string) { _, err := bev.WriteString(s); assert.NoError(t, err) }
		expect := func(s string) {
			t.Helper()
			p := make([]byte, len(s))
			_, err := io.ReadFull(peer, p)
			require.NoError(t, err)
			assert.Equal(t, s, string(p))
		}
		testutil.Background(t, base)
		require.NoError(t, base.Post(func() { say("post") }))
		expect("post")
		require.NoError(t, from.SetCallbacks(func(*libevent.BufferEvent) { say("read") },
			func(*libevent.BufferEvent) { say("written") },
			func(*libevent.BufferEvent, libevent.Events) { say("event") }))
		require.NoError(t, from.Enable(rd))
		_, err := other.Write([]byte("x"))
		require.NoError(t, err)
		expect("read")
		testutil.OnLoop(t, base, func() { _, _ = from.WriteString("y") })
		expect("written")
		timer, err := base.NewTimer(func() { say("timer") })
		require.NoError(t, err)
		require.NoError(t, timer.Add(0))
		expect("timer")
		require.NoError(t, other.Close())
		expect("event")
		lis, err := base.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{},
			func(_ *libevent.Listener, fd int, _ net.Addr) { say("accept"); _ = syscall.Close(fd) })
		require.NoError(t, err)
		conn, err := net.Dial("tcp", lis.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		expect("accept")
		buf := testutil.NewBuffer(t, "")
		_, err = buf.AddCallback(func(*libevent.Buffer, int, int) { say("callback") })
		require.NoError(t, err)
		testutil.OnLoop(t, base, func() { assert.NoError(t, buf.Add([]byte("z"))) })
		expect("callback")
	})
}
