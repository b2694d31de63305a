// SPDX-License-Identifier: BSD-3-Clause

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent/internal/testutil"
	"github.com/go-libevent/libevent/openssl"
)

const workers = 8

func TestChaos(t *testing.T) {
	if duration() <= 0 {
		t.Skip("without -duration; see scripts/chaos.sh")
	}
	testutil.Quiet(t)
	descriptors, goroutines := testutil.OpenFDs(t), runtime.NumGoroutine()
	w := newWorld(t)
	w.run()
	if w.failed() {
		<-w.reported
		t.Fatal(w.failure) // objects stay behind: one of them may hang
	}
	if !t.Failed() {
		require.NoError(t, w.journal.close())
	}
	assert.Zero(t, w.references.Load(), "references whose done was not called")
	assert.Equal(t, openssl.LiveObjects{}, openssl.Live())
	testutil.Eventually(t, func() bool { return testutil.OpenFDs(t) <= descriptors }, "all descriptors are closed")
	testutil.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines }, "all goroutines have ended")
}

// world is one run.
type world struct {
	t       *testing.T
	seed    int64
	kinds   selection
	acts    selection
	table   []act // those of them that are drawn
	chances int   // of all of these together
	began   time.Time
	journal *journal
	about   []string // how this run is
	plain   bool     // the bases have no fast path

	ctx    context.Context
	cancel context.CancelFunc

	loops [2]*loop
	free  func() error // the bases
	conns []atomic.Pointer[conn]
	file  *os.File // the noise
	tls   []contexts

	drivers, conductors, workers, monitor sync.WaitGroup

	ids        atomic.Int64 // of connections
	references atomic.Int64 // that wait for their done
	checked    atomic.Int64 // streams whose whole length was checked
	bytes      atomic.Int64

	mu     sync.Mutex
	actors []*actor

	stalling atomic.Bool // the report of a stall is being made
	broken   atomic.Bool // the run has failed
	reported chan struct{}
	failure  string // the report; written before reported is closed
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, seed: *seedFlag, began: time.Now(),
		conns: make([]atomic.Pointer[conn], *slotsFlag), reported: make(chan struct{}),
	}
	if w.seed == 0 {
		w.seed = time.Now().UnixNano() % 1e9
	}
	var err error
	w.kinds, err = choose(kinds, *kindsFlag)
	require.NoError(t, err)
	require.NotEmpty(t, w.bottoms(), "-kinds needs one that can be at the bottom")
	w.acts, err = choose(actNames(), *opsFlag)
	require.NoError(t, err)
	for _, what := range actTable() {
		if w.acts[what.name] {
			w.table = append(w.table, what)
			w.chances += what.chances
		}
	}
	w.journal, err = newJournal(w.seed)
	require.NoError(t, err)
	w.file = testutil.NewFile(t, noise)
	w.tls = newContexts(t)
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// describe adds to what a failure tells of the run.
func (w *world) describe(format string, args ...any) {
	w.about = append(w.about, fmt.Sprintf(format, args...))
}

func (w *world) run() {
	require.NoError(w.t, w.startLoops(w.newActor("main")))
	// Not with t.Log: a process that crashes would not print it.
	fmt.Fprintf(os.Stderr, "chaos: -seed %d -duration %v; %s; journal %s\n", w.seed, duration(), strings.Join(w.about, "; "), w.journal.file.Name())
	over, stop := context.WithTimeout(w.ctx, duration())
	defer stop()
	for i := range w.conns {
		c := newConductor(w, i)
		w.conductors.Go(func() { c.conduct(over) })
	}
	for i := range workers {
		a := w.newActor(fmt.Sprintf("w%d", i))
		w.workers.Go(func() { w.work(over, a) })
	}
	ended := make(chan struct{})
	w.monitor.Go(func() { w.watch(ended) })
	acted := make(chan struct{})
	go func() {
		w.workers.Wait()
		w.conductors.Wait()
		close(acted)
	}()
	select {
	case <-acted:
		w.wind(ended)
	case <-w.reported: // some may hang
	}
}

// wind ends a run that has not failed.
func (w *world) wind(ended chan struct{}) {
	for _, l := range w.loops {
		if rates := l.rates.Swap(nil); rates != nil {
			rates.Free()
		}
	}
	w.eventually("all bufferevents are gone, and all posted functions have run", func() bool {
		return w.loops[0].base.Stats().BufferEvents+w.loops[1].base.Stats().BufferEvents == 0
	})
	w.cancel()
	stopped := make(chan struct{})
	go func() { w.drivers.Wait(); close(stopped) }()
	w.eventually("the loops end", func() bool {
		for _, l := range w.loops {
			_ = l.base.LoopBreak() // one that runs without a context
		}
		select {
		case <-stopped:
			return true
		case <-time.After(time.Millisecond):
			return false
		}
	})
	close(ended)
	w.monitor.Wait()
	if w.failed() {
		return
	}
	assert.NoError(w.t, w.free())
	for _, c := range w.tls {
		c.free()
	}
	assert.NoError(w.t, w.file.Close())
	w.account()
}

// account looks at what is known only when all has ended.
func (w *world) account() {
	var posted, ran int
	for _, a := range w.actors {
		posted += a.posted
		ran += a.ran
	}
	w.t.Logf("%d connections, %d streams checked to their ends, %d MB, %d posted functions; fast reads %d, fast writes %d",
		w.ids.Load(), w.checked.Load(), w.bytes.Load()>>20, posted,
		w.loops[0].base.Stats().FastReads+w.loops[1].base.Stats().FastReads,
		w.loops[0].base.Stats().FastWrites+w.loops[1].base.Stats().FastWrites)
	assert.LessOrEqual(w.t, ran, posted)
}

func (w *world) work(over context.Context, a *actor) {
	for over.Err() == nil && !w.failed() {
		if c := w.conns[a.rng.Intn(len(w.conns))].Load(); c != nil {
			a.act(c)
		}
		if a.chance(1, 3) {
			a.rest(300 * time.Microsecond)
		}
	}
}

// pause is between two looks at the same condition. It ends early when the run has failed. Dozens of
// goroutines that only yield between their looks would take the processors from the loops.
func (w *world) pause() {
	select {
	case <-w.reported:
	case <-time.After(500 * time.Microsecond):
	}
}

func (w *world) eventually(what string, cond func() bool) {
	for deadline := time.Now().Add(*patienceFlag); !cond(); w.pause() {
		if w.failed() {
			return
		}
		if time.Now().After(deadline) {
			w.stalled(nil, "never happened: %s", what)
			return
		}
	}
}

// --- failures ------------------------------------------------------------------------

func (w *world) failed() bool { return w.broken.Load() }

// fail ends the run. c is the connection that it is about, or nil.
func (w *world) fail(c *conn, format string, args ...any) {
	w.report(c, fmt.Sprintf(format, args...), "")
}

// stalled is fail with the stacks of all goroutines.
func (w *world) stalled(c *conn, format string, args ...any) {
	if w.failed() || !w.stalling.CompareAndSwap(false, true) { // one gdb at a time
		return
	}
	stacks := make([]byte, 1<<22)
	w.report(c, fmt.Sprintf(format, args...), "\n\n"+watched()+"\n"+threads()+"\n"+string(stacks[:runtime.Stack(stacks, true)]))
}

func (w *world) report(c *conn, what, more string) {
	if !w.broken.CompareAndSwap(false, true) {
		return
	}
	text := fmt.Sprintf("%s\n\n-seed %d -duration %v -kinds %q -ops %q; %s", what, w.seed, duration(), *kindsFlag, *opsFlag, strings.Join(w.about, "; "))
	if c != nil {
		text += fmt.Sprintf("\n\n%v\n\nwhat was done to it last:\n%s", c, w.journal.recent(fmt.Sprintf("c%d. ", c.id), 80))
	}
	w.failure = text + "\n\nthe loops:\n" + w.journal.recent(" the loop", 6) + more
	w.cancel()
	close(w.reported)
}

// expect fails for an error that is none of those that may be.
func (w *world) expect(e *end, what string, err error, may ...error) {
	if err == nil || slices.ContainsFunc(may, func(m error) bool { return errors.Is(err, m) }) {
		return
	}
	var c *conn
	if e != nil {
		c = e.conn
	}
	w.fail(c, "%s: unexpected error: %v", what, err)
}
