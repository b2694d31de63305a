package libevent

/*
#include "native.h"
*/
import "C"

import "sync/atomic"

// EnableLockDebugging makes libevent check that every lock is released by the
// thread that holds it, and abort the process otherwise. It must be called before
// the first base or buffer exists, and is meant for tests.
// Wraps evthread_enable_lock_debugging.
func EnableLockDebugging() {
	if useThreads() == nil {
		C.glev_enable_lock_debugging()
	}
}

// EnableDebugMode makes libevent check that events are used in an order that makes
// sense, and abort the process otherwise. It must be called once, before the first
// base exists, and is meant for tests: libevent itself has races in it.
// Wraps event_enable_debug_mode.
func EnableDebugMode() error {
	if live.objects[kindBase].Load() != 0 || debugMode.Swap(true) {
		return badArgument("event_enable_debug_mode", "only once, before the first base")
	}
	C.event_enable_debug_mode()
	return nil
}

var debugMode atomic.Bool
