// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"fmt"
	"math/rand"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// kinds are the kinds of acts. Each one is drawn with its chances of the sum of all
// chances.
var kinds = []struct {
	chances int
	act     func(drawn) act
}{
	{4, drawn.peerWrites}, {4, drawn.write}, {1, drawn.writeTooMuch}, {1, drawn.appendChains}, {1, drawn.addFile},
	{3, drawn.enable}, {2, drawn.disable}, {1, drawn.readMarks}, {1, drawn.writeMark}, {1, drawn.closures}, {1, drawn.drains},
	{1, drawn.anotherDescriptor}, {1, drawn.descriptorAway}, {1, drawn.rateLimit}, {1, drawn.singleLimit}, {1, drawn.priority},
	{1, drawn.trigger}, {1, drawn.prepend}, {1, drawn.takeOrTimeOut}, {1, drawn.longTimeouts}, {1, drawn.loopBreak}, {1, drawn.lastAct},
}

// drawn is what was drawn for one act.
type drawn struct {
	rng  *rand.Rand
	what libevent.What
	data []byte
}

// draw picks an act of one of the kinds.
func draw(rng *rand.Rand) act {
	d := drawn{rng, pick(rng, rd, wr, rd|wr), testutil.Noise(pick(rng, 1, 10, 100, 1000, 3000))}
	all := 0
	for _, kind := range kinds {
		all += kind.chances
	}
	n := rng.Intn(all)
	i := 0
	for ; n >= kinds[i].chances; i++ {
		n -= kinds[i].chances
	}
	return kinds[i].act(d)
}

// --- bytes -----------------------------------------------------------------------

func (d drawn) peerWrites() act {
	return act{name: fmt.Sprint("the peer writes ", len(d.data)), where: outside, do: func(w *twin) {
		// If libevent has not read everything yet, chance decides how much it reads at
		// once.
		if w.sent == len(w.in)+w.bev.Input().Len() {
			n, _ := syscall.Write(w.peer, d.data)
			w.sent += max(n, 0)
		}
	}}
}

func (d drawn) write() act {
	return act{name: fmt.Sprint("Write ", len(d.data)), do: func(w *twin) {
		_, err := w.bev.Write(d.data)
		w.note("Write", err)
	}}
}

func (d drawn) writeTooMuch() act {
	return act{name: "Write more than the socket takes", alone: true, do: func(w *twin) {
		_, err := w.bev.Write(make([]byte, 2<<20))
		w.note("Write", err)
	}}
}

func (d drawn) appendChains() act {
	return act{name: "append in chains", do: func(w *twin) {
		w.note("WriteBuffer", w.bev.WriteBuffer(testutil.NewBuffer(w.t, "moved")))
		w.note("AddReference", w.bev.Output().AddReference(d.data, nil))
	}}
}

func (d drawn) addFile() act {
	return act{name: "AddFile", do: func(w *twin) { w.note("AddFile", w.bev.Output().AddFile(w.file, 5, 5000)) }}
}

func (d drawn) prepend() act {
	return act{name: "Prepend", alone: true, do: func(w *twin) {
		if err := w.bev.Input().Prepend(make([]byte, 40)); err == nil {
			w.sent += 40
		}
	}}
}

// --- directions, closures and marks -------------------------------------------------

func (d drawn) enable() act {
	return act{name: fmt.Sprint("Enable ", d.what), do: func(w *twin) { w.note("Enable", w.bev.Enable(d.what)) }}
}

func (d drawn) disable() act {
	return act{name: fmt.Sprint("Disable ", d.what), alone: true, do: func(w *twin) { w.note("Disable", w.bev.Disable(d.what)) }}
}

func (d drawn) readMarks() act {
	low, high := pick(d.rng, 0, 0, 50, 500), pick(d.rng, 0, 0, 600, 2000)
	return act{name: fmt.Sprint("read marks ", low, high), do: func(w *twin) { w.note("SetWatermark", w.bev.SetWatermark(rd, low, high)) }}
}

func (d drawn) writeMark() act {
	low := pick(d.rng, 0, 10, 5000)
	return act{name: fmt.Sprint("write mark ", low), do: func(w *twin) { w.note("SetWatermark", w.bev.SetWatermark(wr, low, 0)) }}
}

func (d drawn) closures() act {
	read, write := pick(d.rng, true, false), pick(d.rng, true, false)
	return act{name: fmt.Sprint("closures ", read, write), alone: true, do: func(w *twin) { w.setClosures(read, write) }}
}

func (d drawn) drains() act {
	drains := pick(d.rng, true, false)
	return act{name: fmt.Sprint("drains ", drains), alone: true, do: func(w *twin) { w.drains = drains }}
}

func (d drawn) trigger() act {
	return act{name: fmt.Sprint("Trigger ", d.what), do: func(w *twin) { w.note("Trigger", w.bev.Trigger(d.what, 0)) }}
}

// --- descriptors ---------------------------------------------------------------------

func (d drawn) anotherDescriptor() act {
	return act{name: "the same socket by another descriptor", alone: true, do: func(w *twin) {
		if old := w.bev.FD(); old >= 0 {
			fd, err := syscall.Dup(old)
			require.NoError(w.t, err)
			require.NoError(w.t, w.bev.ReplaceFD(fd))
		}
	}}
}

func (d drawn) descriptorAway() act {
	return act{name: "descriptor away, or back", alone: true, do: func(w *twin) {
		if w.fd >= 0 {
			if w.bev.SetFD(w.fd) == nil {
				w.fd = -1
			}
		} else if fd := w.bev.FD(); w.bev.SetFD(-1) == nil {
			w.fd = fd
		}
	}}
}

// --- limits, priorities and the loop ---------------------------------------------------

func (d drawn) rateLimit() act {
	limit := pick(d.rng, nil, &libevent.RateLimit{ReadRate: 1 << 30, ReadBurst: 1 << 30, WriteRate: 1 << 30, WriteBurst: 1 << 30})
	return act{name: fmt.Sprint("rate limit ", limit != nil), alone: true, do: func(w *twin) {
		w.note("SetRateLimit", w.bev.SetRateLimit(limit))
		// libevent calls the write callback here without a reason. The fast path does not.
		next := w.next
		w.next = nil
		w.settle()
		w.next, w.writes = next, false
	}}
}

func (d drawn) singleLimit() act {
	n := pick(d.rng, 0, 0, 500)
	return act{name: fmt.Sprint("single limit ", d.what, n), do: func(w *twin) {
		if d.what&rd != 0 {
			w.note("SetMaxSingleRead", w.bev.SetMaxSingleRead(n))
		}
		if d.what&wr != 0 {
			w.note("SetMaxSingleWrite", w.bev.SetMaxSingleWrite(10*n))
		}
	}}
}

func (d drawn) priority() act {
	n := d.rng.Intn(3)
	return act{name: fmt.Sprint("priority ", n), do: func(w *twin) { _ = w.bev.SetPriority(n) }}
}

func (d drawn) takeOrTimeOut() act {
	if d.rng.Intn(4) > 0 {
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
}

func (d drawn) longTimeouts() act {
	return act{name: "long timeouts", do: func(w *twin) { w.note("SetTimeouts", w.bev.SetTimeouts(time.Hour, time.Hour)) }}
}

func (d drawn) loopBreak() act {
	return act{name: "LoopBreak", do: func(w *twin) { w.note("LoopBreak", w.base.LoopBreak()) }}
}

// --- ends ------------------------------------------------------------------------------

// lastAct is an act after which little happens any more.
func (d drawn) lastAct() act {
	return pick(d.rng,
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

// act is what is done to both twins.
type act struct {
	name   string
	do     func(w *twin)
	where  string // "" is outside of the loop; else "loop", or the closure that does it
	panics bool   // after the act
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
	a := draw(rng)
	if !a.alone && a.where == "" {
		a.where = []string{"", "", "loop", "loop", "read", "write", "event"}[rng.Intn(7)]
	} else {
		a.where = ""
	}
	if a.where == "event" && strings.HasPrefix(a.name, "Enable") {
		a.where = "loop" // a bufferevent that has ended would end again and again
	}
	a.panics = a.where != "" && rng.Intn(12) == 0
	return a
}

// outside is the place of acts that may not be done in the loop.
const outside = "outside"

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.Intn(len(of))] }
