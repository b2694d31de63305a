// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include <event2/event.h>
#include "native.h"
*/
import "C"

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"
)

var (
	logMu   sync.Mutex
	logging atomic.Pointer[slog.Logger] // nil: libevent writes to stderr itself
)

// SetLogger sends libevent's messages to l, and the warnings of this package, which go to
// slog's default logger otherwise. With nil libevent writes its messages to standard error, as
// it does by default. libevent's messages reach l on a goroutine of their own, because libevent
// logs while it holds its locks. If more than 256 of them wait, the rest is dropped and
// counted.
// Wraps event_set_log_callback.
func SetLogger(l *slog.Logger) error {
	logMu.Lock()
	defer logMu.Unlock()
	was := logging.Swap(l)
	switch {
	case was == nil && l != nil:
		fd := C.glev_log_start()
		if fd < 0 {
			logging.Store(nil)
			_, err := result("event_set_log_callback", C.int64_t(fd))
			return err
		}
		go readLog(os.NewFile(uintptr(fd), "libevent log"), l)
	case was != nil && l == nil:
		C.glev_log_stop()
	}
	return nil
}

// logger returns where the binding's own messages go.
func logger() *slog.Logger {
	if l := logging.Load(); l != nil {
		return l
	}
	return slog.Default()
}

// readLog passes on what is in the ring. The pipe wakes it, until the pipe is closed;
// the messages that are left then go to the last logger.
func readLog(wake *os.File, to *slog.Logger) {
	defer wake.Close()
	text := make([]byte, 512)
	for drain := make([]byte, 512); ; {
		_, err := wake.Read(drain)
		if l := logging.Load(); l != nil {
			to = l
		}
		for logOne(to, text) {
		}
		if err != nil {
			return
		}
	}
}

func logOne(to *slog.Logger, text []byte) bool {
	var severity C.int
	var lost C.uint64_t
	n := C.glev_log_next((*C.char)(unsafe.Pointer(&text[0])), C.int(len(text)), &severity, &lost)
	if lost > 0 {
		to.Warn("libevent: messages lost", slog.Uint64("count", uint64(lost)))
	}
	if n < 0 {
		return false
	}
	level := slog.LevelError
	switch severity {
	case C.EVENT_LOG_DEBUG:
		level = slog.LevelDebug
	case C.EVENT_LOG_MSG:
		level = slog.LevelInfo
	case C.EVENT_LOG_WARN:
		level = slog.LevelWarn
	}
	to.Log(context.Background(), level, string(text[:n]))
	return true
}
