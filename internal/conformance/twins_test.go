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
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

var (
	// One goroutine leads them: the race detector has few to find there, and is slow.
	twinLives = flag.Int("twins", map[bool]int{false: 80, true: 10}[testutil.Race], "how many lives TestFastPathTwins leads")
	twinSeed  = flag.Int64("twinseed", 1, "the seed of the first of them")
)

// Two bufferevents, one with the fast path and one without, lead the same random life, and
// what can be seen of them is the same. What hangs on the order in which closures of one
// turn are called, which nobody promises, is kept out of these lives.
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
		if f != p {
			t.Errorf("life %d:\n%s\nfast:  %s\nplain: %s", seed, strings.Join(life, "\n"), f, p)
			return
		}
	}
}

// twin is a bufferevent, and what was seen of it.
type twin struct {
	t    testing.TB
	base *libevent.Base
	bev  *libevent.BufferEvent
	peer int // the other end, or -1
	fd   int // the bufferevent's own while it has none
	file *os.File

	next   map[string]act // what a closure does when it is called next
	drains bool           // the read closure takes what there is
	sent   int            // by the peer, or put into the input
	in     []byte         // what was taken from the input
	out    [256]int       // what the peer got, in whatever order it was written
	cut    bool           // not all of the output goes to the peer
	slow   bool           // a timeout came before its time, seen from here

	// Since the last report.
	seen          []string
	events        libevent.Events
	eofs          int
	reads, writes bool
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

// live does what is to be done and reports what could be seen of it.
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
	w.seen, w.events, w.eofs, w.reads, w.writes = nil, 0, 0, false, false
	return s
}

// settle runs the loop until nothing moves any more.
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

// collect has the peer read until there is no more to come.
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

// act is something to be done to both twins.
type act struct {
	name   string
	do     func(w *twin)
	where  string // outside of the loop; "loop", or the closure that does it
	panics bool   // afterwards
	alone  bool   // with nothing beside it in its turn, outside of the loop
}

func (a act) String() string {
	return fmt.Sprintf("%s %s %v", a.name, a.where, a.panics)
}

func (a act) perform(w *twin) {
	a.do(w)
	if a.panics {
		panic("on purpose")
	}
}

func randomAct(rng *rand.Rand) act {
	a := acts(rng)
	if !a.alone && a.where == "" {
		a.where = []string{"", "", "loop", "loop", "read", "write", "event"}[rng.Intn(7)]
	} else {
		a.where = ""
	}
	if a.where == "event" && strings.HasPrefix(a.name, "Enable") {
		a.where = "loop" // what ended ends again
	}
	a.panics = a.where != "" && rng.Intn(12) == 0
	return a
}

// outside is where alone some acts may be done: not in the loop.
const outside = "outside"

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.Intn(len(of))] }

func acts(rng *rand.Rand) act {
	what := pick(rng, rd, wr, rd|wr)
	data := testutil.Noise(pick(rng, 1, 10, 100, 1000, 3000))
	switch rng.Intn(31) {
	case 0, 1, 2, 3:
		return act{name: fmt.Sprint("the peer writes ", len(data)), where: outside, do: func(w *twin) {
			// How much of several writes libevent reads at once depends.
			if w.sent == len(w.in)+w.bev.Input().Len() {
				n, _ := syscall.Write(w.peer, data)
				w.sent += max(n, 0)
			}
		}}
	case 4, 5, 6, 7:
		return act{name: fmt.Sprint("Write ", len(data)), do: func(w *twin) {
			_, err := w.bev.Write(data)
			w.note("Write", err)
		}}
	case 8:
		return act{name: "Write more than the socket takes", alone: true, do: func(w *twin) {
			_, err := w.bev.Write(make([]byte, 2<<20))
			w.note("Write", err)
		}}
	case 9:
		return act{name: "append in chains", do: func(w *twin) {
			w.note("WriteBuffer", w.bev.WriteBuffer(testutil.NewBuffer(w.t, "moved")))
			w.note("AddReference", w.bev.Output().AddReference(data, nil))
		}}
	case 10:
		return act{name: "AddFile", do: func(w *twin) { w.note("AddFile", w.bev.Output().AddFile(w.file, 5, 5000)) }}
	case 11, 12, 13:
		return act{name: fmt.Sprint("Enable ", what), do: func(w *twin) { w.note("Enable", w.bev.Enable(what)) }}
	case 14, 15:
		return act{name: fmt.Sprint("Disable ", what), alone: true, do: func(w *twin) { w.note("Disable", w.bev.Disable(what)) }}
	case 16:
		low, high := pick(rng, 0, 0, 50, 500), pick(rng, 0, 0, 600, 2000)
		return act{name: fmt.Sprint("read marks ", low, high), do: func(w *twin) { w.note("SetWatermark", w.bev.SetWatermark(rd, low, high)) }}
	case 17:
		low := pick(rng, 0, 10, 5000)
		return act{name: fmt.Sprint("write mark ", low), do: func(w *twin) { w.note("SetWatermark", w.bev.SetWatermark(wr, low, 0)) }}
	case 18:
		read, write := pick(rng, true, false), pick(rng, true, false)
		return act{name: fmt.Sprint("closures ", read, write), alone: true, do: func(w *twin) { w.setClosures(read, write) }}
	case 19:
		drains := pick(rng, true, false)
		return act{name: fmt.Sprint("drains ", drains), alone: true, do: func(w *twin) { w.drains = drains }}
	case 20:
		return act{name: "the same socket by another descriptor", alone: true, do: func(w *twin) {
			if old := w.bev.FD(); old >= 0 {
				fd, err := syscall.Dup(old)
				require.NoError(w.t, err)
				require.NoError(w.t, w.bev.ReplaceFD(fd))
			}
		}}
	case 21:
		return act{name: "descriptor away, or back", alone: true, do: func(w *twin) {
			if w.fd >= 0 {
				if w.bev.SetFD(w.fd) == nil {
					w.fd = -1
				}
			} else if fd := w.bev.FD(); w.bev.SetFD(-1) == nil {
				w.fd = fd
			}
		}}
	case 22:
		limit := pick(rng, nil, &libevent.RateLimit{ReadRate: 1 << 30, ReadBurst: 1 << 30, WriteRate: 1 << 30, WriteBurst: 1 << 30})
		return act{name: fmt.Sprint("rate limit ", limit != nil), alone: true, do: func(w *twin) {
			w.note("SetRateLimit", w.bev.SetRateLimit(limit))
			// libevent makes write callbacks for nothing, but not for the fast path.
			next := w.next
			w.next = nil
			w.settle()
			w.next, w.writes = next, false
		}}
	case 23:
		n := pick(rng, 0, 0, 500)
		return act{name: fmt.Sprint("single limit ", what, n), do: func(w *twin) {
			if what&rd != 0 {
				w.note("SetMaxSingleRead", w.bev.SetMaxSingleRead(n))
			}
			if what&wr != 0 {
				w.note("SetMaxSingleWrite", w.bev.SetMaxSingleWrite(10*n))
			}
		}}
	case 24:
		n := rng.Intn(3)
		return act{name: fmt.Sprint("priority ", n), do: func(w *twin) { _ = w.bev.SetPriority(n) }}
	case 25:
		return act{name: fmt.Sprint("Trigger ", what), do: func(w *twin) { w.note("Trigger", w.bev.Trigger(what, 0)) }}
	case 26:
		return act{name: "Prepend", alone: true, do: func(w *twin) {
			if err := w.bev.Input().Prepend(make([]byte, 40)); err == nil {
				w.sent += 40
			}
		}}
	case 27:
		if rng.Intn(4) > 0 {
			return act{name: "take", do: func(w *twin) { w.take(30) }}
		}
		return act{name: "read timeout", alone: true, do: func(w *twin) {
			const limit = 10 * time.Millisecond
			begin := time.Now()
			w.note("SetTimeouts", w.bev.SetTimeouts(limit, 0))
			w.slow = w.slow || time.Since(begin) > limit/2
			time.Sleep(limit + limit/2) // sleep: the timeout itself
			begin = time.Now()
			w.settle()
			w.note("SetTimeouts", w.bev.SetTimeouts(0, 0))
			w.slow = w.slow || time.Since(begin) > limit/2
		}}
	case 28:
		return act{name: "long timeouts", do: func(w *twin) { w.note("SetTimeouts", w.bev.SetTimeouts(time.Hour, time.Hour)) }}
	case 29:
		return act{name: "LoopBreak", do: func(w *twin) { w.note("LoopBreak", w.base.LoopBreak()) }}
	}
	return lastActs(rng)
}

// lastActs are those after which little happens any more.
func lastActs(rng *rand.Rand) act {
	return pick(rng,
		act{name: "the peer's end", alone: true, do: func(w *twin) { _ = syscall.Shutdown(w.peer, syscall.SHUT_WR) }},
		act{name: "the peer closes", alone: true, do: func(w *twin) { _ = syscall.Close(w.peer); w.peer = -1 }},
		act{name: "CloseWrite", alone: true, do: func(w *twin) { w.note("CloseWrite", w.bev.CloseWrite()) }},
		act{name: "Pointer", do: func(w *twin) { w.bev.Pointer() }},
		act{name: "FreeAfterFlush", alone: true, do: func(w *twin) {
			w.cut = w.cut || w.bev.FD() < 0
			w.note("FreeAfterFlush", w.bev.FreeAfterFlush(time.Hour))
		}},
		act{name: "Free", alone: true, do: func(w *twin) { w.cut = true; w.bev.Free() }})
}
