// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// A bufferevent behaves the same with the fast path and without it. Each test here runs
// both ways.

// echoes has bev send back what it reads.
func echoes(t testing.TB, bev *libevent.BufferEvent) {
	t.Helper()
	require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		assert.NoError(t, b.Output().AddBuffer(b.Input()))
	}, nil, nil))
	require.NoError(t, bev.Enable(rd))
}

// exchange sends data to an echo in pieces of many sizes, and checks what comes back.
func exchange(t testing.TB, peer *net.TCPConn, data []byte) {
	t.Helper()
	go func() {
		for rest, n := data, 1; len(rest) > 0; n = n*3%70001 + 1 {
			n = min(n, len(rest))
			if _, err := peer.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
	}()
	got := make([]byte, len(data))
	_, err := io.ReadFull(peer, got)
	require.NoError(t, err)
	testutil.Same(t, data, got)
}

func TestFastPathOrderAndCount(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		echoes(t, bev)
		testutil.Background(t, base)
		exchange(t, peer, testutil.Noise(8<<20))
	})
}

func TestFastPathLoopOnly(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, libevent.OptLoopOnly)
		echoes(t, bev)
		testutil.Background(t, base)
		exchange(t, peer, testutil.Noise(1<<20))
	})
}

// Bytes that are appended in any way, on the loop or on another goroutine, are sent in
// order.
func TestFastPathAppends(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer file.Close()
	_, err = file.WriteString("file.")
	require.NoError(t, err)
	appends := []func(bev *libevent.BufferEvent) error{
		func(bev *libevent.BufferEvent) error { _, err := bev.Write([]byte("write.")); return err },
		func(bev *libevent.BufferEvent) error { _, err := bev.WriteString("string."); return err },
		func(bev *libevent.BufferEvent) error { return bev.WriteBuffer(testutil.NewBuffer(t, "buffer.")) },
		func(bev *libevent.BufferEvent) error { return bev.Output().Add([]byte("add.")) },
		func(bev *libevent.BufferEvent) error { return bev.Output().AddBuffer(testutil.NewBuffer(t, "moved.")) },
		func(bev *libevent.BufferEvent) error {
			_, err := testutil.NewBuffer(t, "part.").RemoveBuffer(bev.Output(), 5)
			return err
		},
		func(bev *libevent.BufferEvent) error { return bev.Output().AddFile(file, 0, 5) },
		func(bev *libevent.BufferEvent) error {
			return bev.Output().AddReference([]byte("reference."), nil)
		},
		func(bev *libevent.BufferEvent) error { _, err := bev.Write([]byte("end.")); return err },
	}
	const want = "write.string.buffer.add.moved.part.file.reference.end."
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		for _, where := range []string{"loop", "elsewhere", "before"} {
			bev, peer := testutil.NewSocket(t, base, 0)
			all := func() {
				for i, fn := range appends {
					assert.NoError(t, fn(bev), i)
				}
			}
			stop := func() {}
			switch where {
			case "loop":
				stop = testutil.Background(t, base)
				testutil.OnLoop(t, base, all)
			case "elsewhere":
				stop = testutil.Background(t, base)
				all()
			case "before":
				all()
				assert.NotZero(t, bev.Output().Len(), "nothing is written while no loop runs")
				stop = testutil.Background(t, base)
			}
			got := make([]byte, len(want))
			_, err := io.ReadFull(peer, got)
			require.NoError(t, err, where)
			assert.Equal(t, want, string(got), where)
			stop()
			bev.Free()
		}
	})
}

func TestFastPathEnabled(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		assert.Equal(t, wr, bev.Enabled())
		require.NoError(t, bev.Enable(rd))
		assert.Equal(t, rd|wr, bev.Enabled())
		require.NoError(t, bev.Disable(wr))
		assert.Equal(t, rd, bev.Enabled())
		require.NoError(t, bev.Enable(wr))
		assert.Equal(t, rd|wr, bev.Enabled())
		ended := false
		require.NoError(t, bev.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			ended = true
			assert.Equal(t, libevent.EventReading|libevent.EventEOF, what)
			assert.Equal(t, wr, b.Enabled(), "reading is off after the end")
		}))
		require.NoError(t, peer.CloseWrite())
		for !ended {
			require.NoError(t, base.Loop(libevent.LoopOnce))
		}
	})
}

func TestFastPathTimeouts(t *testing.T) {
	const limit = 50 * time.Millisecond
	t.Run("peer never writes", func(t *testing.T) {
		testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
			bev, peer := testutil.NewSocket(t, base, 0)
			require.NoError(t, bev.SetTimeouts(limit, 0))
			_, err := peer.Write([]byte("x")) // restarts the timeout
			require.NoError(t, err)
			var events []libevent.Events
			reads := 0
			begin := time.Now()
			require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) { reads++ }, nil,
				func(b *libevent.BufferEvent, what libevent.Events) {
					events = append(events, what)
					assert.ErrorIs(t, b.Err(), os.ErrDeadlineExceeded)
					assert.Equal(t, wr, b.Enabled())
				}))
			require.NoError(t, bev.Enable(rd))
			testutil.Dispatch(t, base) // returns when reading is off
			assert.Equal(t, []libevent.Events{libevent.EventReading | libevent.EventTimeout}, events)
			assert.Equal(t, 1, reads)
			assert.GreaterOrEqual(t, time.Since(begin), limit)

			// Without the timeout no event comes.
			require.NoError(t, bev.Enable(rd))
			require.NoError(t, bev.SetTimeouts(0, 0))
			testutil.Idle(t, base, 2*limit)
			assert.Len(t, events, 1)
		})
	})
	t.Run("peer never reads", func(t *testing.T) {
		testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
			bev, _ := testutil.NewSocket(t, base, 0)
			require.NoError(t, bev.SetTimeouts(0, limit))
			var events []libevent.Events
			require.NoError(t, bev.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
				events = append(events, what)
				assert.Zero(t, b.Enabled()&wr)
			}))
			require.NoError(t, base.Post(func() { _, _ = bev.Write(make([]byte, 16<<20)) }))
			testutil.Dispatch(t, base)
			assert.Equal(t, []libevent.Events{libevent.EventWriting | libevent.EventTimeout}, events)
			assert.NotZero(t, bev.Output().Len())
		})
	})
}

// A timeout that was removed does not come back, also if neither direction was enabled
// when it was removed.
func TestFastPathNoTimeoutAnyMore(t *testing.T) {
	const limit = 20 * time.Millisecond
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewUnixSocket(t, base)
		defer syscall.Close(peer)
		require.NoError(t, bev.SetTimeouts(limit, limit))
		require.NoError(t, bev.SetCallbacks(nil, nil, func(_ *libevent.BufferEvent, what libevent.Events) {
			assert.Fail(t, "there is no timeout", "%v", what)
		}))
		require.NoError(t, bev.Enable(rd|wr))
		require.NoError(t, bev.Disable(rd|wr))
		require.NoError(t, bev.SetTimeouts(0, 0))
		require.NoError(t, bev.Enable(rd|wr))
		_, err := bev.Write(make([]byte, 4<<20)) // more than the socket takes
		require.NoError(t, err)
		_, err = syscall.Write(peer, []byte("x"))
		require.NoError(t, err)
		testutil.Idle(t, base, 3*limit)
		assert.Equal(t, rd|wr, bev.Enabled())
		assert.Equal(t, 1, bev.Input().Len())
		assert.NotZero(t, bev.Output().Len())
	})
}

// If there is a high mark, libevent restarts the read timeout with every change of the
// input.
func TestFastPathTimeoutBeginsAnew(t *testing.T) {
	const limit, times = 200 * time.Millisecond, 3
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		testutil.UseEitherWay(t, base)
		bev, peer := testutil.NewSocket(t, base, 0)
		defer peer.Close()
		require.NoError(t, bev.Input().Prepend(make([]byte, 10)))
		require.NoError(t, bev.SetWatermark(rd, 0, 100))
		require.NoError(t, bev.SetTimeouts(limit, 0))
		drained := 0
		var timer *libevent.Event
		timer, err := base.NewTimer(func() {
			assert.NoError(t, bev.Input().Drain(1))
			if drained++; drained < times {
				assert.NoError(t, timer.Add(limit/2))
			}
		})
		require.NoError(t, err)
		require.NoError(t, bev.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, _ libevent.Events) {
			assert.Equal(t, times, drained)
			b.Free()
			timer.Free()
		}))
		require.NoError(t, timer.Add(limit/2))
		require.NoError(t, bev.Enable(rd))
		testutil.Dispatch(t, base)
	})
}

func TestFastPathReadWatermarks(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		const low, high, total = 3000, 10000, 100000
		data := testutil.Noise(total)
		var got []byte
		require.NoError(t, bev.SetWatermark(rd, low, high))
		require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			n := b.Input().Len()
			assert.GreaterOrEqual(t, n, low)
			assert.LessOrEqual(t, n, high)
			p := make([]byte, min(n, 4321))
			_, err := b.Read(p)
			assert.NoError(t, err)
			got = append(got, p...)
		}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			rest := make([]byte, b.Input().Len())
			_, _ = b.Read(rest)
			got = append(got, rest...)
			b.Free()
		}))
		require.NoError(t, bev.Enable(rd))
		go func() { _, _ = peer.Write(data); _ = peer.Close() }()
		testutil.Dispatch(t, base)
		testutil.Same(t, data, got)
	})
}

func TestFastPathEnds(t *testing.T) {
	type end struct {
		what  libevent.Events
		cause error
	}
	for name, test := range map[string]struct {
		peer func(*net.TCPConn)
		want end
	}{
		"close": {func(c *net.TCPConn) { _ = c.Close() },
			end{libevent.EventReading | libevent.EventEOF, io.EOF}},
		"half-close": {func(c *net.TCPConn) { _ = c.CloseWrite() },
			end{libevent.EventReading | libevent.EventEOF, io.EOF}},
		"bytes, then close": {func(c *net.TCPConn) { _, _ = c.Write([]byte("bytes")); _ = c.Close() },
			end{libevent.EventReading | libevent.EventEOF, io.EOF}},
		"reset": {func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() },
			end{libevent.EventReading | libevent.EventError, syscall.ECONNRESET}},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
				bev, peer := testutil.NewSocket(t, base, 0)
				var ends []end
				reads := 0
				require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
					assert.Empty(t, ends, "the bytes come before the end")
					reads += b.Input().Len()
					assert.NoError(t, b.Input().Drain(b.Input().Len()))
				}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
					ends = append(ends, end{what, b.Err()})
					_, err := b.Read(make([]byte, 1))
					assert.ErrorIs(t, err, test.want.cause)
				}))
				require.NoError(t, bev.Enable(rd))
				test.peer(peer)
				testutil.Dispatch(t, base) // returns, because no event is left
				require.Len(t, ends, 1)
				assert.Equal(t, test.want.what, ends[0].what)
				assert.ErrorIs(t, ends[0].cause, test.want.cause)
				assert.Equal(t, wr, bev.Enabled())
				if name == "bytes, then close" {
					assert.Equal(t, 5, reads)
				}
			})
		})
	}
}

// oneRead is the most that one call reads.
const oneRead = 128 << 10

// Another owner of the same socket may have made it blocking.
func TestFastPathNeverWaits(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewUnixSocket(t, base)
		defer syscall.Close(peer)
		require.NoError(t, syscall.SetNonblock(bev.FD(), false))
		_, err := syscall.Write(peer, make([]byte, oneRead))
		require.NoError(t, err)
		require.NoError(t, bev.Enable(rd))
		watchdog := time.AfterFunc(testutil.Patience, func() {
			t.Error("the loop stands in a read")
			_ = syscall.Shutdown(peer, syscall.SHUT_WR)
		})
		defer watchdog.Stop()
		for bev.Input().Len() < oneRead {
			require.NoError(t, base.Loop(libevent.LoopOnce))
		}
	})
}

// The end comes after the last bytes. If the read closure turns reading off, the end is
// told when reading is on again. If the read closure turns reading on, the end is told
// only once.
func TestFastPathEndBehindBytes(t *testing.T) {
	for name, test := range map[string]struct {
		unread string // what the peer leaves unread: then its close is a reset
		cause  error
	}{"EOF": {"", io.EOF}, "reset": {"x", syscall.ECONNRESET}} {
		for _, off := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, reading off %v", name, off), func(t *testing.T) {
				testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
					bev, peer := testutil.NewUnixSocket(t, base)
					_, err := syscall.Write(bev.FD(), []byte(test.unread))
					require.NoError(t, err)
					_, err = syscall.Write(peer, make([]byte, oneRead))
					require.NoError(t, err)
					require.NoError(t, syscall.Close(peer))
					var ends []error
					require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
						assert.Equal(t, rd|wr, b.Enabled())
						assert.NoError(t, b.Enable(rd))
						if off && b.Input().Len() == oneRead {
							assert.NoError(t, b.Disable(rd))
						}
					}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
						ends = append(ends, b.Err())
						assert.Equal(t, wr, b.Enabled())
					}))
					require.NoError(t, bev.Enable(rd))
					testutil.Dispatch(t, base)
					assert.Equal(t, oneRead, bev.Input().Len())
					if off {
						assert.Empty(t, ends)
						require.NoError(t, bev.Enable(rd))
						testutil.Dispatch(t, base)
					}
					require.Len(t, ends, 1)
					assert.ErrorIs(t, ends[0], test.cause)
				})
			})
		}
	}
}

func TestFastPathConnecting(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
		require.NoError(t, err)
		_, err = bev.WriteString("hello")
		require.NoError(t, err)
		var order []string
		require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			order = append(order, "read")
			b.Free()
		}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
			order = append(order, what.String())
		}))
		require.NoError(t, bev.Enable(rd))
		require.NoError(t, bev.Connect("tcp", ln.Addr().String()))
		go func() {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = io.CopyN(conn, conn, 5)
			_, _ = conn.Read(make([]byte, 1))
		}()
		testutil.Dispatch(t, base)
		assert.Equal(t, []string{libevent.EventConnected.String(), "read"}, order)
	})
}

// A connect that succeeds at once is told like any other. No write callback comes with it.
func TestFastPathConnectingAtOnce(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
		require.NoError(t, err)
		defer ln.Close()
		bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
		require.NoError(t, err)
		var order []string
		require.NoError(t, bev.SetCallbacks(nil, func(*libevent.BufferEvent) {
			order = append(order, "write")
		}, func(_ *libevent.BufferEvent, what libevent.Events) {
			order = append(order, what.String())
		}))
		require.NoError(t, bev.Connect("unix", ln.Addr().String()))
		testutil.Dispatch(t, base)
		assert.Equal(t, []string{libevent.EventConnected.String()}, order)
		testutil.OnceOnLoop(t, base, func() { _, _ = bev.WriteString("hello") })
		assert.Equal(t, []string{libevent.EventConnected.String(), "write"}, order)
	})
}

// While bytes flow through an echo, the test does something to it again and again, on the
// loop or on another goroutine. Not one byte may be lost, doubled or out of order.
func TestFastPathDisturbed(t *testing.T) {
	for name, test := range disturbances {
		t.Run(name, func(t *testing.T) {
			testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
				bev, peer := testutil.NewSocket(t, base, libevent.OptCloseOnFree)
				echoes(t, bev)
				testutil.Background(t, base)
				exchange(t, peer, testutil.Noise(100000))
				var wg sync.WaitGroup
				wg.Go(func() {
					for i := range test.times {
						if test.onLoop {
							testutil.OnLoop(t, base, func() { test.fn(t, bev, i) })
						} else {
							test.fn(t, bev, i)
						}
					}
				})
				exchange(t, peer, testutil.Noise(4<<20))
				wg.Wait()
				exchange(t, peer, testutil.Noise(100001))
			})
		})
	}
}

// disturbances are what is done, how many times, and where. i counts the times.
var disturbances = map[string]struct {
	times  int
	onLoop bool
	fn     func(t *testing.T, bev *libevent.BufferEvent, i int)
}{
	"Disable and Enable": {20000, false, func(t *testing.T, bev *libevent.BufferEvent, i int) {
		what := []libevent.What{rd, wr, rd | wr}[i%3]
		assert.NoError(t, bev.Disable(what))
		assert.NoError(t, bev.Enable(what))
	}},
	"rate limit": {200, false, func(t *testing.T, bev *libevent.BufferEvent, i int) {
		limit := &libevent.RateLimit{ReadRate: 50 << 20, ReadBurst: 50 << 20, WriteRate: 50 << 20,
			WriteBurst: 50 << 20, Tick: 20 * time.Millisecond}
		assert.NoError(t, bev.SetRateLimit([]*libevent.RateLimit{limit, nil}[i%2]))
	}},
	"single limits": {1000, false, func(t *testing.T, bev *libevent.BufferEvent, i int) {
		assert.NoError(t, bev.SetMaxSingleRead([]int{100, 0}[i%2]))
		assert.NoError(t, bev.SetMaxSingleWrite([]int{200, 0, 0}[i%3]))
	}},
	"watermarks": {1000, false, func(t *testing.T, bev *libevent.BufferEvent, i int) {
		assert.NoError(t, bev.SetWatermark(rd, 0, []int{0, 100, 5000}[i%3]))
		assert.NoError(t, bev.SetWatermark(wr, []int{0, 3000}[i%2], 0))
	}},
	"timeouts": {1000, false, func(t *testing.T, bev *libevent.BufferEvent, i int) {
		assert.NoError(t, bev.SetTimeouts(time.Duration(i%2)*time.Hour, time.Duration(i%3)*time.Hour))
	}},
	"closures": {1000, false, func(t *testing.T, bev *libevent.BufferEvent, i int) {
		assert.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			assert.NoError(t, b.Output().AddBuffer(b.Input()))
		}, []func(*libevent.BufferEvent){nil, func(*libevent.BufferEvent) {}}[i%2], nil))
	}},
	"priority": {1000, true, func(t *testing.T, bev *libevent.BufferEvent, i int) {
		if err := bev.SetPriority(i % 3); err != nil {
			assert.ErrorIs(t, err, syscall.EBUSY)
		}
	}},
	"another descriptor": {300, true, func(t *testing.T, bev *libevent.BufferEvent, i int) {
		old := bev.FD()
		fd, err := syscall.Dup(old)
		if !assert.NoError(t, err) {
			return
		}
		assert.NoError(t, bev.SetFD(fd))
		assert.NoError(t, syscall.Close(old))
	}},
	"filter": {1, false, func(t *testing.T, bev *libevent.BufferEvent, _ int) {
		assert.NoError(t, bev.Base().Post(func() {
			top, err := libevent.NewFilter(bev, passThrough, passThrough, 0)
			if assert.NoError(t, err) {
				echoes(t, top)
				t.Cleanup(top.Free)
			}
		}))
	}},
	"Pointer": {1, false, func(t *testing.T, bev *libevent.BufferEvent, _ int) {
		assert.NotNil(t, bev.Pointer())
	}},
}

// passThrough is a filter function that changes nothing.
func passThrough(src, dst *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
	if src.Len() == 0 {
		return libevent.FilterNeedMore, nil
	}
	return libevent.FilterOK, dst.AddBuffer(src)
}

// When a limit or a filter is removed, the fast path is used again. After Pointer it is
// not.
func TestFastPathComesBack(t *testing.T) {
	base, err := libevent.NewBase()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, base.Free()) })
	bev, peer := testutil.NewSocket(t, base, 0)
	echoes(t, bev)
	testutil.Background(t, base)
	fast := func() bool {
		before := base.Stats()
		exchange(t, peer, testutil.Noise(1000))
		after := base.Stats()
		assert.Equal(t, after.FastReads > before.FastReads, after.FastWrites > before.FastWrites)
		return after.FastReads > before.FastReads
	}
	assert.True(t, fast())
	limit := &libevent.RateLimit{ReadRate: 1 << 30, ReadBurst: 1 << 30}
	require.NoError(t, bev.SetRateLimit(limit))
	assert.False(t, fast())
	require.NoError(t, bev.SetRateLimit(nil))
	assert.True(t, fast())

	group, err := base.NewRateLimitGroup(*limit)
	require.NoError(t, err)
	require.NoError(t, group.Add(bev))
	testutil.OnLoop(t, base, func() {})
	assert.False(t, fast())
	require.NoError(t, group.Remove(bev))
	testutil.OnLoop(t, base, func() {})
	assert.True(t, fast())
	group.Free()

	require.NoError(t, bev.SetMaxSingleRead(10))
	assert.False(t, fast())
	require.NoError(t, bev.SetMaxSingleRead(0))
	assert.True(t, fast())

	var top *libevent.BufferEvent
	testutil.OnLoop(t, base, func() {
		var err error
		top, err = libevent.NewFilter(bev, nil, nil, 0)
		assert.NoError(t, err)
		echoes(t, top)
	})
	assert.False(t, fast())
	testutil.OnLoop(t, base, top.Free)
	testutil.OnLoop(t, base, func() {})
	require.NoError(t, bev.Enable(rd))
	assert.True(t, fast())

	require.NotNil(t, bev.Pointer())
	assert.False(t, fast())
}

// SetMaxRead of the input limits how much the bufferevent reads at once.
func TestFastPathMaxRead(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		testutil.UseEitherWay(t, base)
		bev, peer := testutil.NewUnixSocket(t, base)
		defer syscall.Close(peer)
		if err := bev.Input().SetMaxRead(100); err != nil {
			assert.ErrorIs(t, err, errors.ErrUnsupported)
			return
		}
		seen := 0
		require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			seen++
			assert.Equal(t, 100, b.Input().Len())
			assert.NoError(t, b.Input().Drain(100))
		}, nil, nil))
		require.NoError(t, bev.Enable(rd))
		_, err := syscall.Write(peer, make([]byte, 300))
		require.NoError(t, err)
		testutil.OnceOnLoop(t, base, func() {})
		assert.Equal(t, 3, seen)
	})
}

func TestFastPathSwitchedOff(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, libevent.OptPlainIO)
	echoes(t, bev)
	testutil.Background(t, base)
	exchange(t, peer, testutil.Noise(100000))
	assert.Zero(t, base.Stats().FastReads+base.Stats().FastWrites)
}

// A connection that always has bytes to read does not keep others waiting: in one turn the
// loop reads from it no more than a limit.
func TestFastPathIsFair(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		greedy, flood := testutil.NewSocket(t, base, 0)
		modest, peer := testutil.NewSocket(t, base, 0)
		const bound = 512 << 10
		sent := 0
		testutil.Eventually(t, func() bool { // more than a turn may read
			require.NoError(t, flood.SetWriteDeadline(time.Now().Add(10*time.Millisecond)))
			n, _ := flood.Write(make([]byte, bound))
			sent += n
			return sent > bound
		}, "the kernel takes that much")
		_, err := peer.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, greedy.Enable(rd))
		require.NoError(t, modest.Enable(rd))
		require.NoError(t, base.Loop(libevent.LoopOnce)) // one turn
		assert.Equal(t, 1, modest.Input().Len())
		assert.NotZero(t, greedy.Input().Len())
		assert.LessOrEqual(t, greedy.Input().Len(), bound)
	})
}
