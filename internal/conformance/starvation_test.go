// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// The tests of this file let one peer or one closure do as much as it can, and look at how
// much of that the loop does before it polls again. That is a number, so these tests do not
// depend on how fast the machine is. How late the timer of another object comes is logged.

// The most closures of one kind in a turn, with room for the limits of libevent and of the
// binding, which are both 32.
const mostCalls = 100

// starve makes the offender work while a loop runs, and fails the test if the loop is
// starved.
func starve(t *testing.T, base *libevent.Base, allowed int, offend func(turns *testutil.Turns)) {
	t.Helper()
	turns := testutil.CountTurns(base, allowed)
	offend(turns)
	turns.Run(t)
}

// flood sends as much as the peer takes until the connection is closed.
func flood(conn net.Conn) {
	p := make([]byte, 256<<10)
	for {
		if _, err := conn.Write(p); err != nil {
			return
		}
	}
}

// discard reads as much as comes until the connection is closed.
func discard(conn net.Conn) {
	p := make([]byte, 256<<10)
	for {
		if _, err := conn.Read(p); err != nil {
			return
		}
	}
}

// drain has a bufferevent read, and drop what it reads.
func drain(t *testing.T, bev *libevent.BufferEvent) {
	t.Helper()
	require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		assert.NoError(t, b.Input().Drain(b.Input().Len()))
	}, nil, nil))
	require.NoError(t, bev.Enable(rd))
}

func TestStarveByInput(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		starve(t, base, 512<<10, func(turns *testutil.Turns) {
			require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
				turns.Did(b.Input().Len())
				assert.NoError(t, b.Input().Drain(b.Input().Len()))
			}, nil, nil))
			require.NoError(t, bev.Enable(rd))
			go flood(peer)
		})
		bev.Free()
	})
}

// A receiver may ask for more as long as there is more.
func TestStarveByReceiver(t *testing.T) {
	for _, size := range []int{64, 64 << 10} {
		base, err := libevent.NewBase() // with libevent's reading no receiver is called
		require.NoError(t, err)
		bev, peer := testutil.NewSocket(t, base, 0)
		p := make([]byte, size)
		starve(t, base, 512<<10, func(turns *testutil.Turns) {
			require.NoError(t, bev.SetReceiver(func(b *libevent.BufferEvent) {
				for n := 1; n > 0 && !turns.Over(); {
					n, _ = b.Receive(p)
					turns.Did(n)
				}
			}))
			drain(t, bev)
			go flood(peer)
		})
		bev.Free()
		require.NoError(t, base.Free())
	}
}

// The peer takes whatever is written, as fast as it is written.
func TestStarveByOutput(t *testing.T) {
	const much = 64 << 20
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		starve(t, base, 2<<20, func(turns *testutil.Turns) {
			had := 0
			turns.Each = func() {
				left := bev.Output().Len()
				turns.Did(had - left)
				if had = left; left == 0 {
					assert.NoError(t, bev.Output().AddReference(make([]byte, much), nil))
					had = much
				}
			}
			go discard(peer)
		})
		bev.Free()
	})
}

// A file that is sent without being read.
func TestStarveByFile(t *testing.T) {
	const much = 1 << 30
	f, err := os.Create(filepath.Join(t.TempDir(), "much"))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Truncate(much))
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		starve(t, base, 4<<20, func(turns *testutil.Turns) {
			had := 0
			turns.Each = func() {
				left := bev.Output().Len()
				turns.Did(had - left)
				if had = left; left == 0 {
					assert.NoError(t, bev.Output().AddFile(f, 0, much))
					had = much
				}
			}
			go discard(peer)
		})
		bev.Free()
	})
}

// A filter function that takes a byte each time is called again as long as there are more.
func TestStarveByFilter(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	var filter *libevent.BufferEvent
	starve(t, base, mostCalls, func(turns *testutil.Turns) {
		var p [1]byte
		filter = testutil.NewFilter(t, bev, func(src, dst *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
			if n, _ := src.Remove(p[:]); n == 0 {
				return libevent.FilterNeedMore, nil
			}
			turns.Did(1)
			return libevent.FilterOK, dst.Add(p[:])
		}, nil, 0)
		drain(t, filter)
		go flood(peer)
	})
	filter.Free()
	bev.Free()
}

// A filter function whose output has no end, as that of a small archive.
func TestStarveByExpansion(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	var filter *libevent.BufferEvent
	starve(t, base, mostCalls, func(turns *testutil.Turns) {
		filter = testutil.NewFilter(t, bev, func(_, dst *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
			turns.Did(1)
			if turns.Over() {
				return libevent.FilterNeedMore, nil
			}
			return libevent.FilterOK, dst.Add([]byte("more"))
		}, nil, 0)
		drain(t, filter)
		_, err := peer.Write([]byte("x"))
		require.NoError(t, err)
	})
	filter.Free()
	bev.Free()
}

// A filter function that rests after some calls loses nothing, and the end of the stream
// comes behind all bytes.
func TestAFilterThatRestsLosesNothing(t *testing.T) {
	want := testutil.Noise(20000)
	step := func(src, dst *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
		p := make([]byte, 3)
		n, _ := src.Remove(p)
		if n == 0 {
			return libevent.FilterNeedMore, nil
		}
		return libevent.FilterOK, dst.Add(p[:n])
	}
	for name, use := range map[string]struct {
		filters, high int
		toggle        bool
	}{
		"one filter":     {filters: 1},
		"two filters":    {filters: 2},
		"high mark":      {filters: 1, high: 200},
		"small mark":     {filters: 2, high: 5},
		"off and on":     {filters: 1, toggle: true},
		"off, on, marks": {filters: 2, high: 300, toggle: true},
	} {
		for _, opts := range []libevent.Options{0, libevent.OptLoopOnly | libevent.OptDeferCallbacks} {
			t.Run(name+"/"+opts.String(), func(t *testing.T) {
				base := testutil.NewBase(t)
				bottom, peer := testutil.NewSocket(t, base, opts)
				bev := bottom
				for range use.filters {
					bev = testutil.NewFilter(t, bev, step, nil, opts|libevent.OptCloseOnFree)
					require.NoError(t, bev.SetWatermark(rd, 0, use.high))
				}
				var got []byte
				require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
					p := make([]byte, b.Input().Len())
					n, _ := b.Input().Remove(p)
					got = append(got, p[:n]...)
					if use.toggle {
						assert.NoError(t, b.Disable(rd))
						assert.NoError(t, base.Post(func() { assert.NoError(t, b.Enable(rd)) }))
					}
				}, nil, func(_ *libevent.BufferEvent, what libevent.Events) {
					assert.Equal(t, libevent.EventEOF|libevent.EventReading, what)
					testutil.Same(t, want, got)
					assert.NoError(t, base.LoopBreak())
				}))
				require.NoError(t, bev.Enable(rd))
				go func() {
					_, _ = peer.Write(want)
					_ = peer.Close()
				}()
				testutil.Dispatch(t, base)
				bev.Free()
			})
		}
	}
}

// The closures of a pair answer each other.
func TestStarveByPair(t *testing.T) {
	for _, opts := range []libevent.Options{0, libevent.OptLoopOnly} {
		base := testutil.NewBase(t)
		var ends [2]*libevent.BufferEvent
		starve(t, base, mostCalls, func(turns *testutil.Turns) {
			require.NoError(t, base.Post(func() {
				a, b, err := base.NewPair(opts)
				assert.NoError(t, err)
				ends = [2]*libevent.BufferEvent{a, b}
				for _, end := range ends {
					assert.NoError(t, end.SetCallbacks(func(b *libevent.BufferEvent) {
						turns.Did(1)
						if !turns.Over() {
							testutil.Mirror(b)
						}
					}, nil, nil))
					assert.NoError(t, end.Enable(rd))
				}
				_, err = a.WriteString("ping")
				assert.NoError(t, err)
			}))
		})
		ends[0].Free()
		ends[1].Free()
	}
}

// Peers connect faster than connections are accepted.
func TestStarveByAccept(t *testing.T) {
	base := testutil.NewBase(t)
	var l *libevent.Listener
	starve(t, base, mostCalls, func(turns *testutil.Turns) {
		l = testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
			turns.Did(1)
			testutil.Drop(l, fd, nil)
			if !turns.Over() {
				connect(t, l) // the backlog never becomes empty
			}
		})
		for range 2 * mostCalls {
			connect(t, l)
		}
	})
	l.Free()
}

// connect connects to a listener, and closes the connection at once.
func connect(t *testing.T, l *libevent.Listener) {
	addr := l.Addr().(*net.TCPAddr)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if assert.NoError(t, err) {
		assert.NoError(t, syscall.Connect(fd, &syscall.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())}))
		assert.NoError(t, syscall.Close(fd))
	}
}

// Functions post themselves again, few or more than can run in a turn.
func TestStarveByPost(t *testing.T) {
	for _, n := range []int{10, 100 * mostCalls} {
		base := testutil.NewBase(t)
		starve(t, base, mostCalls, func(turns *testutil.Turns) {
			var again func()
			again = func() {
				turns.Did(1)
				if !turns.Over() {
					assert.NoError(t, base.Post(again))
				}
			}
			for range n {
				require.NoError(t, base.Post(again))
			}
		})
	}
}

// Very many references end at once, and each has a function to be called.
func TestStarveByReferences(t *testing.T) {
	base := testutil.NewBase(t)
	starve(t, base, mostCalls, func(turns *testutil.Turns) {
		buf := testutil.NewBuffer(t, "")
		for range 100 * mostCalls {
			require.NoError(t, buf.AddReference([]byte("x"), func() { turns.Did(1) }))
		}
		require.NoError(t, base.Post(func() { assert.NoError(t, buf.Drain(buf.Len())) }))
	})
}

// A closure triggers itself.
func TestStarveByTrigger(t *testing.T) {
	for name, closures := range map[string]func(turns *testutil.Turns, t *testing.T, b *libevent.BufferEvent){
		"read": func(turns *testutil.Turns, t *testing.T, b *libevent.BufferEvent) {
			assert.NoError(t, b.SetCallbacks(func(b *libevent.BufferEvent) {
				if turns.Did(1); !turns.Over() {
					assert.NoError(t, b.Trigger(rd, 0))
				}
			}, nil, nil))
			assert.NoError(t, b.Trigger(rd, 0))
		},
		"write": func(turns *testutil.Turns, t *testing.T, b *libevent.BufferEvent) {
			assert.NoError(t, b.SetCallbacks(nil, func(b *libevent.BufferEvent) {
				if turns.Did(1); !turns.Over() {
					assert.NoError(t, b.Trigger(wr, 0))
				}
			}, nil))
			assert.NoError(t, b.Trigger(wr, 0))
		},
		"event": func(turns *testutil.Turns, t *testing.T, b *libevent.BufferEvent) {
			assert.NoError(t, b.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, _ libevent.Events) {
				if turns.Did(1); !turns.Over() {
					assert.NoError(t, b.TriggerEvent(libevent.EventReading))
				}
			}))
			assert.NoError(t, b.TriggerEvent(libevent.EventReading))
		},
	} {
		for _, opts := range []libevent.Options{0, libevent.OptLoopOnly, libevent.OptPlainIO} {
			t.Run(name+"/"+opts.String(), func(t *testing.T) {
				base := testutil.NewBase(t)
				var bev *libevent.BufferEvent
				starve(t, base, mostCalls, func(turns *testutil.Turns) {
					bev, _ = testutil.NewSocket(t, base, opts)
					require.NoError(t, base.Post(func() { closures(turns, t, bev) }))
				})
				bev.Free()
			})
		}
	}
}

// A read closure takes a byte each time, and leaves as much as its high mark.
func TestStarveAtTheHighMark(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		starve(t, base, mostCalls, func(turns *testutil.Turns) {
			require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
				if b.Input().Len() < 1<<20 {
					return
				}
				assert.NoError(t, b.SetCallbacks(func(b *libevent.BufferEvent) {
					if turns.Did(1); !turns.Over() {
						assert.NoError(t, b.Input().Drain(1))
					}
				}, nil, nil))
				assert.NoError(t, b.SetWatermark(rd, 0, 1<<10))
				assert.NoError(t, b.Trigger(rd, 0))
			}, nil, nil))
			require.NoError(t, bev.Enable(rd))
			go flood(peer)
		})
		bev.Free()
	})
}

// Closures of events make events active: each its own, or the next one in a ring. With priorities
// they starve only events of lower ones, which is what priorities are for: the timer that counts
// the turns is as urgent as they are.
func TestStarveByActive(t *testing.T) {
	for _, n := range []int{1, 2, 10} {
		starveByActive(t, n, 0, 0)
		starveByActive(t, n, 3, 1)
	}
}

func starveByActive(t *testing.T, n, priorities, priority int) {
	t.Run(fmt.Sprintf("%d events, priority %d of %d", n, priority, priorities), func(t *testing.T) {
		base, err := libevent.NewBaseConfig(libevent.Config{Priorities: priorities})
		require.NoError(t, err)
		var events []*libevent.Event
		starve(t, base, mostCalls, func(turns *testutil.Turns) {
			for i := range n {
				ev, err := base.NewEvent(-1, 0, func(int, libevent.What) {
					if turns.Did(1); !turns.Over() {
						assert.NoError(t, events[(i+1)%n].Active(rd))
					}
				})
				require.NoError(t, err)
				require.NoError(t, ev.SetPriority(priority))
				events = append(events, ev)
			}
			for _, ev := range events {
				require.NoError(t, ev.Active(rd))
			}
		})
		for _, ev := range events {
			ev.Free()
		}
		require.NoError(t, base.Free())
	})
}

// The closure of a buffer's callback changes that buffer.
func TestStarveByBufferCallback(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	starve(t, base, mostCalls, func(turns *testutil.Turns) {
		require.NoError(t, bev.Disable(wr))
		_, err := bev.Output().AddCallback(func(b *libevent.Buffer, _, _ int) {
			if turns.Did(1); !turns.Over() {
				assert.NoError(t, b.Add([]byte("x")))
			}
		})
		require.NoError(t, err)
		require.NoError(t, bev.Output().Add([]byte("x")))
	})
	bev.Free()
}

// After LoopBreak in an accept closure the rest of the backlog waits for the next run.
func TestLoopBreakInAccept(t *testing.T) {
	base := testutil.NewBase(t)
	var accepted atomic.Int32
	l := testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
		accepted.Add(1)
		testutil.Drop(l, fd, nil)
		assert.NoError(t, base.LoopBreak())
	})
	conns := []net.Conn{testutil.Dial(t, l), testutil.Dial(t, l), testutil.Dial(t, l)}
	for i := range conns {
		testutil.Dispatch(t, base)
		assert.EqualValues(t, i+1, accepted.Load())
	}
	l.Free()
	for _, conn := range conns {
		assert.Empty(t, testutil.Receive(t, testutil.ReadAll(conn)))
	}
}

// What a panic leaves in the backlog waits for the next run.
func TestPanicInAcceptLeavesTheBacklog(t *testing.T) {
	base := testutil.NewBase(t)
	accepted := 0
	l := testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
		testutil.Drop(l, fd, nil)
		if accepted++; accepted == 1 {
			panic("accept")
		}
		if accepted == 3 {
			l.Free()
		}
	})
	for range 3 {
		testutil.Dial(t, l)
	}
	assert.Panics(t, func() { _ = base.Dispatch() })
	assert.Equal(t, 1, accepted)
	testutil.Dispatch(t, base)
	assert.Equal(t, 3, accepted)
}

// However many wait, all are accepted, whether the loop or a closure pauses accepting.
func TestEveryConnectionOfALongBacklogIsAccepted(t *testing.T) {
	const n = 5*mostCalls + 1
	base := testutil.NewBase(t)
	accepted := 0
	l := testutil.Listen(t, base, func(l *libevent.Listener, fd int, _ net.Addr) {
		testutil.Drop(l, fd, nil)
		switch accepted++; {
		case accepted%7 == 0: // the listener is enabled before its time
			assert.NoError(t, l.Disable())
			assert.NoError(t, l.Enable())
		case accepted%50 == 0:
			assert.NoError(t, l.Disable())
			assert.NoError(t, base.Post(func() { assert.NoError(t, l.Enable()) }))
		case accepted == n:
			l.Free()
		}
	})
	for range n {
		connect(t, l)
	}
	testutil.Dispatch(t, base)
	assert.Equal(t, n, accepted)
}

// An event that is active and waits for the next turn is pending, and Del and Free take it
// back.
func TestActiveInALaterTurn(t *testing.T) {
	base := testutil.NewBase(t)
	var fired bytes.Buffer
	var events []*libevent.Event
	for i := range mostCalls {
		ev, err := base.NewEvent(-1, 0, func(_ int, what libevent.What) {
			assert.Equal(t, rd, what)
			fired.WriteByte(byte(i))
		})
		require.NoError(t, err)
		events = append(events, ev)
	}
	require.NoError(t, base.Post(func() {
		for _, ev := range events {
			assert.NoError(t, ev.Active(rd))
			assert.Equal(t, rd, ev.Pending(rd|wr))
			assert.NoError(t, ev.Active(rd))
		}
		assert.NoError(t, events[0].Del())
		assert.NoError(t, events[mostCalls-3].Del())
		assert.Zero(t, events[mostCalls-3].Pending(rd|wr))
		events[mostCalls-2].Free()
	}))
	testutil.Dispatch(t, base)
	var want []byte
	for i := range mostCalls {
		if i != 0 && i != mostCalls-3 && i != mostCalls-2 {
			want = append(want, byte(i))
		}
	}
	assert.Equal(t, want, fired.Bytes())
	for _, ev := range events {
		ev.Free()
	}
}
