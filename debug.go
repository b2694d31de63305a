// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include "native.h"
*/
import "C"

import "sync/atomic"

// EnableLockDebugging makes libevent check that a lock is released by the thread that holds
// it, and abort the process if not. Call it before the first base or buffer exists, and only
// in tests.
// Wraps evthread_enable_lock_debugging.
func EnableLockDebugging() {
	if useThreads() == nil {
		C.glev_enable_lock_debugging()
	}
}

// EnableDebugMode makes libevent check that each event is set up before it is used, and abort
// the process if not. Call it once, before the first base exists, and only in tests, because
// these checks of libevent have data races. It is not Config.Debug, which looks for mistakes
// in the use of this package.
// Wraps event_enable_debug_mode.
func EnableDebugMode() error {
	if live.objects[kindBase].Load() != 0 || debugMode.Swap(true) {
		return badArgument("event_enable_debug_mode", "only once, before the first base")
	}
	C.event_enable_debug_mode()
	return nil
}

var debugMode atomic.Bool
