// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"io"
	"math"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestRateLimitArguments(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	for _, bad := range []libevent.RateLimit{
		{ReadRate: -1}, {WriteBurst: -1, WriteRate: 1}, {ReadRate: 10, ReadBurst: 9}, {WriteBurst: 5},
		{Tick: -1}, {Tick: time.Microsecond}, {Tick: time.Millisecond + 1}, {Tick: math.MaxInt64},
	} {
		assert.ErrorIs(t, bev.SetRateLimit(&bad), syscall.EINVAL, "%+v", bad)
		_, err := base.NewRateLimitGroup(bad)
		assert.ErrorIs(t, err, syscall.EINVAL, "%+v", bad)
	}
	for _, good := range []libevent.RateLimit{
		{}, {ReadRate: 1}, {WriteRate: 5, WriteBurst: 5, Tick: time.Millisecond},
		{ReadRate: math.MaxInt, WriteRate: math.MaxInt, Tick: math.MaxInt32 * time.Millisecond},
	} {
		assert.NoError(t, bev.SetRateLimit(&good), "%+v", good)
	}
	pair, _ := testutil.NewPair(t, base)
	assert.ErrorIs(t, pair.SetRateLimit(&libevent.RateLimit{ReadRate: 1}), syscall.EINVAL)
	assert.ErrorIs(t, bev.SetMaxSingleRead(-1), syscall.EINVAL)
	assert.ErrorIs(t, bev.SetMaxSingleWrite(-1), syscall.EINVAL)
}

// Libevent cuts the number of bytes that may be read to an int. Of this number nothing
// would be left.
func TestRateLimitOfManyGigabytes(t *testing.T) {
	const rate = 1 << (strconv.IntSize / 2)
	if rate < math.MaxInt32 {
		t.Skip("an int has no room for so many bytes here")
	}
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	echo(t, bev, func() {})
	require.NoError(t, bev.SetRateLimit(&libevent.RateLimit{ReadRate: rate, WriteRate: rate << 8}))
	testutil.Background(t, base)
	assert.Equal(t, "hello", testutil.Say(t, peer, "hello"))
}

func TestRateLimitLevels(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	assert.Equal(t, math.MaxInt, bev.ReadLimit(), "no limit")
	assert.ErrorIs(t, bev.TakeReadLimit(1), syscall.EINVAL, "libevent would abort")
	assert.ErrorIs(t, bev.TakeWriteLimit(-1), syscall.EINVAL)
	require.NoError(t, bev.SetRateLimit(&libevent.RateLimit{ReadRate: 100, WriteRate: 200, WriteBurst: 300}))
	assert.Equal(t, 100, bev.ReadLimit())
	assert.Equal(t, 200, bev.WriteLimit(), "a tick's worth to begin with")
	assert.Equal(t, 100, bev.MaxToRead())
	require.NoError(t, bev.TakeReadLimit(2_000_000))
	assert.Equal(t, 100-2_000_000, bev.ReadLimit())
	require.NoError(t, bev.TakeReadLimit(-2_000_000))
	assert.Equal(t, 100, bev.ReadLimit())
	require.NoError(t, bev.TakeWriteLimit(100))
	assert.Equal(t, 100, bev.WriteLimit())
	assert.Equal(t, 100, bev.MaxToWrite())
	assert.ErrorIs(t, bev.TakeReadLimit(math.MinInt), syscall.ERANGE)
	assert.ErrorIs(t, bev.TakeReadLimit(-1), syscall.ERANGE, "libevent would fill it for ever")
	require.NoError(t, bev.SetRateLimit(nil))
	require.NoError(t, bev.SetRateLimit(&libevent.RateLimit{}))
	assert.ErrorIs(t, bev.TakeReadLimit(-1), syscall.ERANGE, "unlimited is as much as there is")
	require.NoError(t, bev.SetRateLimit(nil))
	require.NoError(t, bev.SetRateLimit(nil))
	assert.Equal(t, math.MaxInt, bev.WriteLimit())

	assert.Equal(t, 16384, bev.MaxSingleRead())
	require.NoError(t, bev.SetMaxSingleRead(10))
	require.NoError(t, bev.SetMaxSingleWrite(20))
	assert.Equal(t, []int{10, 20, 10, 20}, []int{bev.MaxSingleRead(), bev.MaxSingleWrite(), bev.MaxToRead(), bev.MaxToWrite()})
	require.NoError(t, bev.SetMaxSingleWrite(0))
	assert.Equal(t, 16384, bev.MaxSingleWrite())
}

func TestMaxSingleRead(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.SetMaxSingleRead(7))
	var sizes []int
	require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		sizes = append(sizes, b.Input().Len())
		_ = b.Input().Drain(b.Input().Len())
	}, nil, func(b *libevent.BufferEvent, _ libevent.Events) { b.Free() }))
	require.NoError(t, bev.Enable(rd))
	_, err := peer.Write(testutil.Noise(20))
	require.NoError(t, err)
	require.NoError(t, peer.CloseWrite())
	testutil.Dispatch(t, base)
	assert.Equal(t, []int{7, 7, 6}, sizes)
}

// Setting and removing a limit while bytes flow loses none of them.
func TestRateLimitWhileBytesFlow(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	var got []byte
	calls := 0
	require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		p, err := io.ReadAll(b.Input())
		assert.NoError(t, err)
		got = append(got, p...)
		switch calls++; calls % 10 {
		case 1:
			assert.NoError(t, b.SetRateLimit(&libevent.RateLimit{ReadRate: 3000, WriteRate: 3000, Tick: time.Millisecond}))
		case 5:
			assert.NoError(t, b.SetRateLimit(&libevent.RateLimit{ReadRate: 5000, Tick: 2 * time.Millisecond}))
		case 8:
			assert.NoError(t, b.SetRateLimit(nil))
		}
	}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
		assert.Equal(t, libevent.EventReading|libevent.EventEOF, what)
		b.Free()
	}))
	require.NoError(t, bev.Enable(rd))
	data := testutil.Noise(1 << 20)
	go func() {
		_, _ = peer.Write(data)
		_ = peer.CloseWrite()
	}()
	testutil.Dispatch(t, base)
	testutil.Same(t, data, got)
}

func TestRateLimitGroupMembers(t *testing.T) {
	base, other := testutil.NewBase(t), testutil.NewBase(t)
	g, err := base.NewRateLimitGroup(libevent.RateLimit{ReadRate: 1000})
	require.NoError(t, err)
	h, err := base.NewRateLimitGroup(libevent.RateLimit{WriteRate: 1000})
	require.NoError(t, err)
	assert.Equal(t, 2, base.Stats().RateLimitGroups)
	bev, _ := testutil.NewSocket(t, base, 0)
	foreign, _ := testutil.NewSocket(t, other, 0)
	pair, _ := testutil.NewPair(t, base)
	require.NoError(t, g.Add(bev))
	require.NoError(t, g.Add(bev), "again")
	assert.ErrorIs(t, h.Add(bev), syscall.EINVAL)
	assert.ErrorIs(t, g.Add(foreign), syscall.EINVAL)
	assert.ErrorIs(t, g.Add(pair), syscall.EINVAL)
	assert.ErrorIs(t, g.Add(nil), syscall.EINVAL)
	assert.ErrorIs(t, g.Remove(nil), syscall.EINVAL)
	assert.ErrorIs(t, h.Remove(bev), syscall.EINVAL)
	require.NoError(t, g.Remove(bev))
	assert.ErrorIs(t, g.Remove(bev), syscall.EINVAL)
	require.NoError(t, h.Add(bev))

	assert.Equal(t, 1000, g.ReadLimit())
	require.NoError(t, g.TakeReadLimit(1500))
	assert.Equal(t, -500, g.ReadLimit())
	require.NoError(t, h.TakeWriteLimit(1))
	assert.Equal(t, 999, h.WriteLimit())
	assert.ErrorIs(t, h.TakeWriteLimit(math.MinInt), syscall.ERANGE)
	require.NoError(t, g.SetLimit(libevent.RateLimit{ReadRate: 5}))
	assert.ErrorIs(t, g.SetLimit(libevent.RateLimit{ReadRate: -5}), syscall.EINVAL)
	assert.ErrorIs(t, g.SetLimit(libevent.RateLimit{ReadRate: 5, Tick: time.Minute}), syscall.EINVAL)
	require.NoError(t, g.SetMinShare(10))
	assert.ErrorIs(t, g.SetMinShare(-1), syscall.EINVAL)
	require.NoError(t, g.ResetTotals())

	// Libevent would abort if the group were freed before its members. Here the order does
	// not matter.
	h.Free()
	h.Free()
	require.NoError(t, g.Add(bev))
	bev.Free()
	assert.ErrorIs(t, g.Add(bev), libevent.ErrClosed)
	assert.ErrorIs(t, g.Remove(bev), libevent.ErrClosed)
	g.Free()
	assert.ErrorIs(t, g.SetLimit(libevent.RateLimit{}), libevent.ErrClosed)
	assert.ErrorIs(t, g.Add(pair), libevent.ErrClosed)
	assert.Zero(t, g.ReadLimit())
	testutil.Dispatch(t, base)
	assert.Zero(t, base.Stats().RateLimitGroups)
}

// Without a loop, calls on bufferevents with OptLoopOnly take turns at acting as the loop. A
// group that takes a member in must not keep others from leaving at that moment.
func TestRateLimitGroupMembersComeAndGo(t *testing.T) {
	base := testutil.NewBase(t)
	group, err := base.NewRateLimitGroup(libevent.RateLimit{ReadRate: 1000})
	require.NoError(t, err)
	done := make(chan struct{})
	var comeAndGo sync.WaitGroup
	for i := range 4 {
		comeAndGo.Go(func() {
			for range 500 {
				bev, err := base.NewSocket(-1, libevent.OptLoopOnly)
				if !assert.NoError(t, err) {
					return
				}
				assert.NoError(t, group.Add(bev))
				if i%2 == 0 {
					assert.NoError(t, group.Remove(bev))
				}
				bev.Free()
			}
		})
	}
	go func() { comeAndGo.Wait(); close(done) }()
	testutil.Receive(t, done)
	group.Free()
	assert.Zero(t, base.Stats().RateLimitGroups)
	assert.Zero(t, base.Stats().BufferEvents)
}

// Two groups that want a bufferevent at the same moment: one of them gets it.
func TestRateLimitGroupsWantOneMember(t *testing.T) {
	base := testutil.NewBase(t)
	var groups [2]*libevent.RateLimitGroup
	for i := range groups {
		var err error
		groups[i], err = base.NewRateLimitGroup(libevent.RateLimit{ReadRate: 1000})
		require.NoError(t, err)
	}
	for range 2000 {
		bev, err := base.NewSocket(-1, 0)
		require.NoError(t, err)
		var start, added sync.WaitGroup
		var members atomic.Int32
		start.Add(len(groups))
		for _, g := range groups {
			added.Go(func() {
				start.Done()
				start.Wait()
				if err := g.Add(bev); err == nil {
					members.Add(1)
				} else {
					assert.ErrorIs(t, err, syscall.EINVAL)
				}
			})
		}
		added.Wait()
		require.EqualValues(t, 1, members.Load(), "groups that have the bufferevent")
		bev.Free()
	}
	for _, g := range groups {
		g.Free()
	}
}

// While one group lets a bufferevent go, another one takes it, and keeps it.
func TestRateLimitGroupTakesOver(t *testing.T) {
	base := testutil.NewBase(t)
	from, err := base.NewRateLimitGroup(libevent.RateLimit{ReadRate: 2000})
	require.NoError(t, err)
	to, err := base.NewRateLimitGroup(libevent.RateLimit{ReadRate: 1000})
	require.NoError(t, err)
	for range 2000 {
		bev, err := base.NewSocket(-1, 0)
		require.NoError(t, err)
		require.NoError(t, from.Add(bev))
		var both sync.WaitGroup
		both.Go(func() { assert.NoError(t, from.Remove(bev)) })
		both.Go(func() {
			for err := to.Add(bev); err != nil; err = to.Add(bev) {
				assert.ErrorIs(t, err, syscall.EINVAL)
			}
		})
		both.Wait()
		require.Equal(t, 1000, bev.MaxToRead())
		bev.Free()
	}
}

// Members come and go from many goroutines while the loop runs and bytes flow.
func TestRateLimitGroupUnderLoad(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	for range 30 {
		g, err := base.NewRateLimitGroup(libevent.RateLimit{ReadRate: 50_000, WriteRate: 50_000, Tick: time.Millisecond})
		require.NoError(t, err)
		var wg sync.WaitGroup
		for i := range 6 {
			bev, peer := testutil.NewSocket(t, base, 0)
			require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
				_ = b.WriteBuffer(b.Input())
			}, nil, nil))
			require.NoError(t, bev.Enable(rd))
			if err := g.Add(bev); err != nil { // the bufferevent may be freed below meanwhile
				require.ErrorIs(t, err, libevent.ErrClosed)
			}
			wg.Go(func() {
				_, err := peer.Write(testutil.Noise(10_000))
				assert.NoError(t, err)
				p := make([]byte, 5000)
				_, err = io.ReadFull(peer, p)
				assert.NoError(t, err)
				if i%2 == 0 {
					_ = g.Remove(bev)
				}
				if i%3 == 0 {
					g.Free()
				}
				bev.Free()
			})
		}
		wg.Wait()
		g.Free()
	}
	testutil.Eventually(t, func() bool {
		stats := base.Stats()
		return stats.RateLimitGroups == 0 && stats.BufferEvents == 0
	}, "all are gone")
}

// flood gives a base n connections that write as fast as they may. It returns how many
// bytes a second each peer got during d. The time before, settle, is not counted: the
// burst of the first tick is not the rate.
func flood(t *testing.T, n int, settle, d time.Duration, limit func(base *libevent.Base, bev *libevent.BufferEvent)) (rates []float64) {
	t.Helper()
	base := testutil.NewBase(t)
	var wg sync.WaitGroup
	counts := make([]int, n)
	var peers []*net.TCPConn
	for range n {
		bev, peer := testutil.NewSocket(t, base, 0)
		require.NoError(t, peer.SetDeadline(time.Time{}))
		limit(base, bev)
		fill := func(b *libevent.BufferEvent) { _, _ = b.Write(make([]byte, 4096)) }
		require.NoError(t, bev.SetCallbacks(nil, fill, nil))
		fill(bev)
		peers = append(peers, peer)
	}
	stop := testutil.Background(t, base)
	for i, peer := range peers {
		wg.Go(func() {
			p := make([]byte, 1<<16)
			begin := time.Now().Add(settle)
			for {
				m, err := peer.Read(p)
				if err != nil {
					return
				}
				if time.Now().After(begin) {
					counts[i] += m
				}
			}
		})
	}
	time.Sleep(settle + d) // sleep: rates are bytes over time
	for _, peer := range peers {
		_ = peer.SetReadDeadline(time.Now())
	}
	wg.Wait()
	stop()
	for _, c := range counts {
		rates = append(rates, float64(c)/d.Seconds())
	}
	return rates
}

func sum(v []float64) (s float64) {
	for _, x := range v {
		s += x
	}
	return s
}

// TestRateLimitRates measures how well the rates are kept. The ordinary run has one short
// case with wide bounds. With scripts/ratelimit.sh the bounds are those that libevent
// holds its own program to.
// The loop fills the bucket while bytes are taken and given back. A bucket above its burst would be
// filled for ever.
func TestRateLimitGroupTakesWhileItFills(t *testing.T) {
	const burst = 1000
	base := testutil.NewBase(t)
	g, err := base.NewRateLimitGroup(libevent.RateLimit{ReadRate: burst, Tick: time.Millisecond})
	require.NoError(t, err)
	testutil.Background(t, base)
	for ticks := 0; ticks < 200; {
		require.NoError(t, g.TakeReadLimit(burst))
		if g.ReadLimit() > 0 { // filled between the two calls
			ticks++
		}
		if err := g.TakeReadLimit(-burst); err != nil {
			require.ErrorIs(t, err, syscall.ERANGE)
		}
		require.LessOrEqual(t, g.ReadLimit(), burst)
	}
	g.Free()
}

func TestRateLimitRates(t *testing.T) {
	if os.Getenv("LIBEVENT_RATELIMIT") == "" {
		// A busy machine may spoil one try, but not all of them.
		testutil.Eventually(t, func() bool {
			rates := flood(t, 1, 200*time.Millisecond, time.Second, func(_ *libevent.Base, bev *libevent.BufferEvent) {
				require.NoError(t, bev.SetRateLimit(&libevent.RateLimit{WriteRate: 1000, Tick: 100 * time.Millisecond}))
			})
			return math.Abs(rates[0]-10_000) <= 3_000
		}, "10000 bytes in a second")
		return
	}
	const settle, long = 2 * time.Second, 20 * time.Second
	perTick := func(bytesPerSecond int) libevent.RateLimit {
		return libevent.RateLimit{WriteRate: bytesPerSecond / 10, Tick: 100 * time.Millisecond}
	}
	t.Run("connection", func(t *testing.T) {
		limit := perTick(1000)
		rates := flood(t, 30, settle, long, func(_ *libevent.Base, bev *libevent.BufferEvent) {
			require.NoError(t, bev.SetRateLimit(&limit))
		})
		for i, rate := range rates {
			assert.InDelta(t, 1000, rate, 50, "connection %d", i)
		}
		t.Logf("mean %.1f B/s of 1000", sum(rates)/float64(len(rates)))
	})
	t.Run("group", func(t *testing.T) {
		var g *libevent.RateLimitGroup
		rates := flood(t, 30, settle, long, func(base *libevent.Base, bev *libevent.BufferEvent) {
			if g == nil {
				var err error
				g, err = base.NewRateLimitGroup(perTick(30_000))
				require.NoError(t, err)
			}
			require.NoError(t, g.Add(bev))
		})
		assert.InDelta(t, 30_000, sum(rates), 1000)
		t.Logf("total %.1f B/s of 30000", sum(rates))
	})
	t.Run("both", func(t *testing.T) {
		limit := perTick(1000)
		var g *libevent.RateLimitGroup
		rates := flood(t, 30, settle, long, func(base *libevent.Base, bev *libevent.BufferEvent) {
			if g == nil {
				var err error
				g, err = base.NewRateLimitGroup(perTick(20_000))
				require.NoError(t, err)
			}
			require.NoError(t, g.Add(bev))
			require.NoError(t, bev.SetRateLimit(&limit))
		})
		assert.InDelta(t, 20_000, sum(rates), 1000)
		t.Logf("total %.1f B/s of 20000", sum(rates))
	})
}
