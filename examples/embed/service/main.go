// Service is the Go part of a C program. Built as an archive it is linked into that,
// wraps its event_base, and answers lines on connections that the program hands to it.
package main

/*
#include <stdlib.h>
#include "service.h"

static void call_panicked(service_panicked fn, const char *text) { fn(text); }
static void call_returned(service_returned fn, struct bufferevent *bev, void *arg) { fn(bev, arg); }
*/
import "C"

import (
	"errors"
	"fmt"
	"os/signal"
	"sync"
	"syscall"
	"unsafe"

	"github.com/go-libevent/libevent"
)

// base is the host's. It is set before the loop runs.
var base *libevent.Base

func main() {} // of an archive is never called

func start(event unsafe.Pointer, panicked C.service_panicked) (err error) {
	// The host ignores SIGPIPE by itself. But it did so after the Go runtime had looked,
	// which would end the process when Go writes to a broken stdout or stderr.
	signal.Ignore(syscall.SIGPIPE)
	base, err = libevent.WrapBase(event, libevent.WrapConfig{OnPanic: func(value any, stack []byte) {
		text := C.CString(fmt.Sprintf("%v\n%s", value, stack))
		defer C.free(unsafe.Pointer(text))
		C.call_panicked(panicked, text)
	}})
	return err
}

func stop() error { return base.Free() }

// adopt answers on a bufferevent that is Go's from now on, to its end.
func adopt(native unsafe.Pointer) error {
	bev, err := base.AdoptBufferEvent(native, libevent.OptCloseOnFree)
	if err != nil {
		return err
	}
	c := &conn{bev: bev, end: bev.Free}
	if err := c.begin(); err != nil {
		bev.Free() // the host need not know
	}
	return nil
}

// borrow answers on a bufferevent of C's until the client wants C back, or is gone.
func borrow(native unsafe.Pointer, returned func()) error {
	bev, err := base.WrapBufferEvent(native)
	if err != nil {
		return err
	}
	c := &conn{bev: bev, lent: true}
	c.end = sync.OnceFunc(func() {
		c.busy = true
		// C's callbacks are in place again when no closure of this bufferevent runs any
		// more. With both directions on, C meets an end or an error of the connection itself.
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
	return base.Post(c.next) // C may have read more than it used
}

func giveBack(returned C.service_returned, bev *C.struct_bufferevent, arg unsafe.Pointer) {
	C.call_returned(returned, bev, arg)
}

// begin has the closures called.
func (c *conn) begin() error {
	return errors.Join(
		c.bev.SetCallbacks(c.read, c.written, c.event),
		c.bev.Enable(libevent.EvRead|libevent.EvWrite))
}
