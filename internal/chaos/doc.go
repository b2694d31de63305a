// SPDX-License-Identifier: BSD-3-Clause

// Package chaos has one test, which does to connections everything that a program may do, all at
// once and at random, on two loops and from eight goroutines. It checks each byte that arrives,
// each end of a stream, that nothing stands still, and that nothing stays behind.
//
// A run is described by a seed and a duration. Threads decide what happens when, so the same seed
// does not give the same run, only the same choices. A failure prints the seed and what was last
// done to the connection. To find the smallest program that fails, leave kinds of connections and
// of acts out:
//
//	go test ./internal/chaos -seed 7 -duration 1m -kinds tcp,xor -ops write,read,closewrite
//	go test ./internal/chaos -ops -free,-panic
//
// A crash of the process leaves a journal of what all goroutines did last, in the file that the
// run has named in its first line: sort it.
package chaos
