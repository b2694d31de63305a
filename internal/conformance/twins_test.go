// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

var (
	// Only one goroutine is used, so the race detector finds little here, and it is slow.
	twinLives = flag.Int("twins", map[bool]int{false: 80, true: 10}[testutil.Race], "how many lives TestFastPathTwins leads")
	twinSeed  = flag.Int64("twinseed", 1, "the seed of the first of them")
)

// Two bufferevents, one with the fast path and one without, lead the same random life, and
// what can be seen of them is the same. The order in which the closures of one turn are
// called is not promised, so these lives do not depend on it.
func TestFastPathTwins(t *testing.T) {
	testutil.Quiet(t)
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer file.Close()
	_, err = file.Write(testutil.Noise(10000))
	require.NoError(t, err)
	for seed := *twinSeed; seed < *twinSeed+int64(*twinLives) && !t.Failed(); seed++ {
		leadLife(t, file, rand.New(rand.NewSource(seed)), seed)
	}
}

func leadLife(t *testing.T, file *os.File, rng *rand.Rand, seed int64) {
	fast, plain := newTwin(t, false, file), newTwin(t, true, file)
	defer fast.end()
	defer plain.end()
	var life []string
	for range 40 {
		var acts []act
		for range 1 + rng.Intn(3) {
			a := randomAct(rng)
			if a.alone {
				acts = nil
			}
			acts = append(acts, a)
			life = append(life, a.String())
			if a.alone {
				break
			}
		}
		collect := rng.Intn(3) == 0
		f, p := fast.live(acts, collect), plain.live(acts, collect)
		if fast.slow || plain.slow {
			return
		}
		life = append(life, "\t"+f)
		if f != p && !fast.endWaited(f, plain, p) {
			t.Errorf("life %d:\n%s\nfast:  %s\nplain: %s", seed, strings.Join(life, "\n"), f, p)
			return
		}
	}
}

// endWaited reports whether two reports differ only in that the end waited for the event of a
// write that failed in the same turns, so that its errno is kept. If reading was enabled once more
// meanwhile, plain libevent tells the end again, and the fast path tells both in one. An end that
// is lost, or told too often, is none of that.
func (w *twin) endWaited(report string, plain *twin, want string) bool {
	const failed = libevent.EventError | libevent.EventWriting
	ends := func(n int) string { return fmt.Sprintf(", %d ends,", n) }
	return w.told&failed == failed && w.ends > 0 && w.ends < plain.ends &&
		report == strings.Replace(want, ends(plain.ends), ends(w.ends), 1)
}

// An end is told at once, whatever has become of the output, so if reading is enabled once more in
// that turn it is told again.
func TestFastPathTwinsEnd(t *testing.T) {
	testutil.Quiet(t)
	enable := func(what libevent.What) act {
		return act{do: func(w *twin) { w.note("Enable", w.bev.Enable(what)) }}
	}
	disable := act{do: func(w *twin) { w.note("Disable", w.bev.Disable(rd|wr)) }}
	away := drawn{}.descriptorAway()
	breaks := act{do: func(w *twin) {
		assert.NoError(w.t, syscall.Shutdown(w.bev.FD(), syscall.SHUT_WR))
		for n := 1; n > 0; { // the socket can be written to, which fails
			n, _ = syscall.Read(w.peer, make([]byte, 1<<20))
		}
	}}
	for name, before := range map[string][]act{
		"nothing to write":         {},
		"the socket is full":       {enable(wr)},
		"WRITE was disabled":       {enable(wr), disable},
		"WRITE was never enabled":  {},
		"the descriptor was away":  {enable(wr), away, away},
		"disabled and away":        {enable(wr), disable, away, away},
		"a write has failed":       {enable(wr), breaks},
		"a write has failed twice": {enable(wr), breaks, enable(wr)},
	} {
		t.Run(name, func(t *testing.T) {
			fast, plain := newTwin(t, false, nil), newTwin(t, true, nil)
			defer fast.end()
			defer plain.end()
			both := func(acts ...act) string {
				f, p := fast.live(acts, false), plain.live(acts, false)
				assert.Equal(t, p, f)
				return f
			}
			both(disable)
			if name != "nothing to write" {
				both(drawn{}.writeTooMuch())
			}
			seen := ""
			for _, a := range before {
				seen = both(a)
			}
			assert.Equal(t, strings.Contains(name, "failed"), strings.Contains(seen, "BEV_EVENT_WRITING|BEV_EVENT_ERROR"))
			shutdown := act{do: func(w *twin) { _ = syscall.Shutdown(w.peer, syscall.SHUT_WR) }}
			posted := enable(rd)
			posted.where = "loop"
			assert.Contains(t, both(shutdown, posted, enable(rd)), "2 ends")
			assert.Contains(t, both(), "0 ends")
		})
	}
}

// twin is a bufferevent, and what was seen of it.
type twin struct {
	t    testing.TB
	base *libevent.Base
	bev  *libevent.BufferEvent
	peer int // the other end, or -1
	fd   int // the bufferevent's descriptor while that is taken away, or -1
	file *os.File

	next   map[string]act // what a closure does when it is called next
	drains bool           // the read closure takes what there is
	sent   int            // bytes that the peer sent, or that were put into the input
	in     []byte         // what was taken from the input
	out    [256]int       // what the peer got, in whatever order it was written
	cut    bool           // not all of the output goes to the peer
	slow   bool           // the machine was so slow that a timeout may differ

	// Since the last report.
	seen          []string
	events        libevent.Events
	eofs          int
	reads, writes bool

	// In the last report.
	told libevent.Events
	ends int
}

func newTwin(t testing.TB, plain bool, file *os.File) *twin {
	t.Helper()
	base, err := libevent.NewBaseConfig(libevent.Config{PlainIO: plain, Priorities: 3})
	require.NoError(t, err)
	fd, peer := testutil.Socketpair(t)
	require.NoError(t, syscall.SetNonblock(peer, true))
	bev, err := base.NewSocket(fd, libevent.OptCloseOnFree)
	require.NoError(t, err)
	w := &twin{t: t, base: base, bev: bev, peer: peer, fd: -1, file: file, drains: true, next: map[string]act{}}
	w.setClosures(true, true)
	return w
}

func (w *twin) end() {
	w.bev.Free()
	require.NoError(w.t, w.base.Free())
	for _, fd := range []int{w.peer, w.fd} {
		if fd >= 0 {
			_ = syscall.Close(fd)
		}
	}
}

func (w *twin) setClosures(read, write bool) {
	var onRead, onWrite func(*libevent.BufferEvent)
	if read {
		onRead = func(b *libevent.BufferEvent) {
			w.reads = true
			defer w.called("read")
			if w.drains {
				w.take(b.Input().Len())
			}
		}
	}
	if write {
		onWrite = func(*libevent.BufferEvent) {
			w.writes = true
			w.called("write")
		}
	}
	w.note("SetCallbacks", w.bev.SetCallbacks(onRead, onWrite, func(_ *libevent.BufferEvent, what libevent.Events) {
		w.events |= what
		if what&libevent.EventEOF != 0 {
			w.eofs++
		}
		w.called("event")
	}))
}

func (w *twin) called(closure string) {
	if a, ok := w.next[closure]; ok {
		delete(w.next, closure)
		a.perform(w)
	}
}

func (w *twin) note(op string, err error) {
	if err != nil {
		w.seen = append(w.seen, op+": "+err.Error())
	}
}

func (w *twin) take(n int) {
	p := make([]byte, n)
	n, _ = w.bev.Read(p)
	w.in = append(w.in, p[:n]...)
}

// live does the acts and returns what could be seen of them.
func (w *twin) live(acts []act, collect bool) string {
	for _, a := range acts {
		switch a.where {
		case "":
			a.do(w)
		case "loop":
			_ = w.base.Post(func() { a.perform(w) })
		default:
			w.next[a.where] = a
		}
	}
	w.settle()
	if collect && w.peer >= 0 {
		w.collect()
	}
	left := w.bev.Output().Len() > 0
	var got [256]int
	if collect && w.peer >= 0 && !w.cut && !left {
		got = w.out
	}
	slices.Sort(w.seen)
	s := fmt.Sprintf("%v, %d ends, enabled %v, input %d, output %v, reads %v, writes %v, in %x, out %x; %s",
		w.events, w.eofs, w.bev.Enabled(), w.bev.Input().Len(), left, w.reads, w.writes && w.events&libevent.EventError == 0,
		crc32.ChecksumIEEE(w.in), crc32.ChecksumIEEE(fmt.Append(nil, got)), strings.Join(w.seen, "; "))
	w.told, w.ends = w.events, w.eofs
	w.seen, w.events, w.eofs, w.reads, w.writes = nil, 0, 0, false, false
	return s
}

// settle runs the loop until nothing changes any more.
func (w *twin) settle() {
	const most = 5000
	state := func() [3]int {
		return [3]int{int(w.base.Stats().Callbacks), w.bev.Input().Len(), w.bev.Output().Len()}
	}
	for calm, turns := 0, 0; calm < 4; turns++ {
		before := state()
		_ = testutil.Raises(func() { require.NoError(w.t, w.base.Loop(libevent.LoopNonblock)) })
		if calm++; before != state() {
			calm = 0
		}
		if turns == most {
			w.seen = append(w.seen, "never calm")
			return
		}
	}
}

// collect has the peer read until no more bytes come.
func (w *twin) collect() {
	p := make([]byte, 1<<16)
	for idle := 0; idle < 3; idle++ {
		n, err := syscall.Read(w.peer, p)
		if n > 0 {
			for _, c := range p[:n] {
				w.out[c]++
			}
			idle = -1
		} else if !errors.Is(err, syscall.EAGAIN) {
			return
		}
		w.settle()
	}
}
