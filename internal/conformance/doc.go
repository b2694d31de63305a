// SPDX-License-Identifier: BSD-3-Clause

// Package conformance has no code of its own, only tests of the whole system: what
// libevent's own regression tests ask, the fast path beside plain libevent, goroutines that
// race with the loop, panics, and C programs that run the loop. The tests of one type stand
// beside that type in package libevent.
package conformance
