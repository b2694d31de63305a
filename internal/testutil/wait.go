// SPDX-License-Identifier: BSD-3-Clause

// Package testutil has the helpers that tests of several files and packages need: for
// waiting, loops, bufferevents, buffers, sockets, panics, and for programs that are built
// and run.
package testutil

import (
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Patience bounds every wait; it is never what a passing test waits.
const Patience = 30 * time.Second

// PlainIO says whether tests that do not choose run without the fast path.
var PlainIO = os.Getenv("LIBEVENT_PLAIN_IO") != ""

// oneDump is taken by the first of many goroutines that wait in vain: the stacks of a thousand, a
// thousand times, fill a disk.
var oneDump sync.Once

// Receive waits for a value from a channel.
func Receive[T any](t testing.TB, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(Patience):
		oneDump.Do(func() {
			buf := make([]byte, 1<<20)
			t.Logf("%s", buf[:runtime.Stack(buf, true)])
		})
		require.Fail(t, "waited too long")
	}
	return v
}

// Eventually waits until cond is true. In a failure what says in words what cond is.
func Eventually(t testing.TB, cond func() bool, what string) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !cond(); runtime.Gosched() {
		if time.Now().After(deadline) {
			require.Fail(t, "never happened: "+what)
		}
	}
}

// Noise makes n random bytes, the same for each n.
func Noise(n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}).Read(p)
	return p
}

// CPUTime is the processor time that the process has used.
func CPUTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
