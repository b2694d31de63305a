// SPDX-License-Identifier: BSD-3-Clause

package chaos_test

import (
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// actor is a goroutine that acts, or the loop of a base. What it has is its own: actors that share
// something would hide races of the package that is tested.
type actor struct {
	w    *world
	name string
	rng  *rand.Rand

	lines, line []byte // a part of the journal, and the line that is being made
	next        int

	busy    atomic.Int64 // when the act that is in progress began, in ns of the run; 0: none
	scratch []byte
	depth   int // of acts within acts
	posted  int // functions that it has posted
	ran     int // posted functions that it has run
}

// journal is a file that is mapped into memory, and so survives a crash of the process. Each actor
// writes to lines of its own.
type journal struct {
	file *os.File
	mem  []byte

	mu   sync.Mutex
	used int
}

const (
	lineLength   = 128
	journalLines = 1 << 20
	journalSize  = lineLength * journalLines
	actorLines   = 1 << 13
	loopLines    = 1 << 16
)

func newJournal(seed int64) (*journal, error) {
	file, err := os.CreateTemp("", fmt.Sprintf("chaos-%d-*.journal", seed))
	if err != nil {
		return nil, err
	}
	if err := file.Truncate(journalSize); err != nil {
		return nil, err
	}
	mem, err := syscall.Mmap(int(file.Fd()), 0, journalSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	return &journal{file: file, mem: mem}, err
}

func (j *journal) close() error {
	_ = os.Remove(j.file.Name())
	if err := syscall.Munmap(j.mem); err != nil {
		return err
	}
	return j.file.Close()
}

// part returns lines for another actor.
func (j *journal) part(lines int) []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.used+lines > journalLines {
		j.used = 0
	}
	at := j.used * lineLength
	j.used += lines
	return j.mem[at : at+lines*lineLength : at+lines*lineLength]
}

// recent returns the last lines that have a word, in the order of time.
func (j *journal) recent(word string, most int) string {
	var lines []string
	for i := 0; i+lineLength <= len(j.mem); i += lineLength {
		if line := string(j.mem[i : i+lineLength]); strings.Contains(line, word) {
			lines = append(lines, strings.TrimRight(line, " \n\x00"))
		}
	}
	sort.Strings(lines)
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

func (w *world) newActor(name string) *actor {
	seed := w.seed
	for _, c := range name {
		seed = seed*31 + int64(c)
	}
	lines := actorLines
	if strings.HasPrefix(name, "loop") {
		lines = loopLines
	}
	a := &actor{w: w, name: name, rng: rand.New(rand.NewSource(seed)), lines: w.journal.part(lines), scratch: make([]byte, 1<<16)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.actors = append(w.actors, a)
	return a
}

// note writes a line to the journal. e may be nil.
func (a *actor) note(e *end, format string, args ...any) {
	line := fmt.Appendf(a.line[:0], "%12d %-5s ", time.Since(a.w.began).Microseconds(), a.name)
	if e != nil {
		line = fmt.Appendf(line, "c%d. side %d ", e.conn.id, e.side)
	}
	line = fmt.Appendf(line, format, args...)
	a.line = line
	to := a.lines[a.next*lineLength:][:lineLength]
	n := copy(to[:lineLength-1], line)
	for i := n; i < lineLength-1; i++ {
		to[i] = ' '
	}
	to[lineLength-1] = '\n'
	a.next = (a.next + 1) % (len(a.lines) / lineLength)
}

func (a *actor) chance(one, of int) bool { return a.rng.Intn(of) < one }

// size draws a number of bytes, more often a small one.
func (a *actor) size() int {
	switch a.rng.Intn(8) {
	case 0, 1, 2:
		return 1 + a.rng.Intn(100)
	case 3, 4, 5:
		return 1 + a.rng.Intn(5000)
	case 6:
		return 1 + a.rng.Intn(70000)
	}
	return 1 + a.rng.Intn(300000)
}

// rest lets others go on.
func (a *actor) rest(most time.Duration) {
	time.Sleep(time.Duration(a.rng.Int63n(int64(most)))) // sleep: acts come at random times
}

func pick[T any](a *actor, of ...T) T { return of[a.rng.Intn(len(of))] }
