// SPDX-License-Identifier: BSD-3-Clause

// Service is the Go part of a C program. It is built as an archive and linked into the
// program, wraps the program's event_base, and answers lines on connections that C hands
// to it.
package main

/*
#include <stdlib.h>
#include "service.h"

static void call_panicked(service_panicked fn, const char *text) { fn(text); }
static void call_returned(service_returned fn, struct bufferevent *bev, void *arg) { fn(bev, arg); }
*/
import "C"

import (
	"fmt"
	"os/signal"
	"sync"
	"syscall"
	"unsafe"

	"github.com/go-libevent/libevent"
)

// base is the host's. It is set before the loop runs.
var base *libevent.Base

func main() {} // never called in an archive

func start(event unsafe.Pointer, panicked C.service_panicked) (err error) {
	// The host ignores SIGPIPE too, but only after the Go runtime has started. The runtime
	// does not know that, and would end the process after a write to a broken stdout or stderr.
	signal.Ignore(syscall.SIGPIPE)
	base, err = libevent.WrapBase(event, libevent.WrapConfig{OnPanic: func(value any, stack []byte) {
		text := C.CString(fmt.Sprintf("%v\n%s", value, stack))
		defer C.free(unsafe.Pointer(text))
		C.call_panicked(panicked, text)
	}})
	return err
}

func stop() error { return base.Free() }

// adopt serves a bufferevent that Go owns from now on.
func adopt(native unsafe.Pointer) error {
	bev, err := base.AdoptBufferEvent(native, libevent.OptCloseOnFree)
	if err != nil {
		return err
	}
	c := &conn{bev: bev, end: bev.Free}
	if err := c.begin(); err != nil {
		bev.Free() // Go owns it already, so the host must not free it
	}
	return nil
}

// borrow serves a bufferevent of C's until the client says "back" or ends the connection.
func borrow(native unsafe.Pointer, returned func()) error {
	bev, err := base.WrapBufferEvent(native)
	if err != nil {
		return err
	}
	c := &conn{bev: bev, lent: true}
	c.end = sync.OnceFunc(func() {
		c.busy = true
		// In a posted function no closure of this bufferevent is running, so C gets it with
		// nothing under way. With both directions on, C sees an end or an error for itself.
		_ = base.Post(func() {
			_ = bev.Enable(libevent.EvRead | libevent.EvWrite)
			bev.Free()
			returned()
		})
	})
	if err := c.begin(); err != nil {
		bev.Free()
		return err
	}
	return nil
}

func giveBack(returned C.service_returned, bev *C.struct_bufferevent, arg unsafe.Pointer) {
	C.call_returned(returned, bev, arg)
}
