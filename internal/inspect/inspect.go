// SPDX-License-Identifier: BSD-3-Clause

// Package inspect shows tests of other packages the C record behind a bufferevent, for the
// report of a failure. The root package sets Record when it is initialized. Its types are
// passed as any, because this package cannot import it.
package inspect

// Record returns the state of the C record behind bev, a *libevent.BufferEvent, in words. It
// takes no lock, so that it also works when a thread hangs with the lock; while other threads
// use the bufferevent, parts of the answer may not fit together.
var Record func(bev any) string
