// SPDX-License-Identifier: BSD-3-Clause

//go:build cgo && race

package libevent

import (
	"runtime"
	"syscall"
	"unsafe"
)

// The race detector does not see what C does. Bytes that go through a socket, a pair or a
// buffer order what goroutines do: what came before writing them happens before what comes
// after reading them. Package syscall tells the race detector so in Read and Write, with one
// variable for all descriptors. These functions use the same variable, by way of package
// syscall, because the other end of a connection may be one of package net.

var devNull, _ = syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)

// raceRelease orders what this goroutine did before what follows a raceAcquire.
func raceRelease() { _, _ = syscall.Write(-1, nil) }

// raceAcquire orders what other goroutines did before a raceRelease before what this
// goroutine does next.
func raceAcquire() { _, _ = syscall.Read(devNull, nil) }

// raceReads says that C has read n bytes at p.
func raceReads(p *byte, n int) {
	if n > 0 {
		runtime.RaceReadRange(unsafe.Pointer(p), n)
	}
}

// raceWrites says that C has written n bytes at p, which another goroutine may have sent.
func raceWrites(p []byte, n int) {
	raceAcquire()
	if n > 0 {
		runtime.RaceWriteRange(unsafe.Pointer(unsafe.SliceData(p)), n)
	}
}
