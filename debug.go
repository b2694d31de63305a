package libevent

/*
#include "native.h"
*/
import "C"

// EnableLockDebugging makes libevent check that every lock is released by the
// thread that holds it, and abort the process otherwise. It must be called before
// the first base or buffer exists, and is meant for tests.
// Wraps evthread_enable_lock_debugging.
func EnableLockDebugging() {
	if useThreads() == nil {
		C.glev_enable_lock_debugging()
	}
}
