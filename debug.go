// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include "native.h"
*/
import "C"

import "sync/atomic"

// EnableLockDebugging makes libevent check that the thread that holds a lock releases
// it, and abort the process otherwise. Call it before the first base or buffer exists,
// and only in tests.
// Wraps evthread_enable_lock_debugging.
func EnableLockDebugging() {
	if useThreads() == nil {
		C.glev_enable_lock_debugging()
	}
}

// EnableDebugMode makes libevent check that events are used in a valid order, and abort
// the process otherwise. Call it once, before the first base exists, and only in tests:
// the checks have data races of their own in libevent.
// Wraps event_enable_debug_mode.
func EnableDebugMode() error {
	if live.objects[kindBase].Load() != 0 || debugMode.Swap(true) {
		return badArgument("event_enable_debug_mode", "only once, before the first base")
	}
	C.event_enable_debug_mode()
	return nil
}

var debugMode atomic.Bool
