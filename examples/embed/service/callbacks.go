package main

// #include "service.h"
import "C"

import (
	"fmt"
	"os"
	"unsafe"
)

// What C calls, all of it on the thread of its loop, or before that runs.

//export serviceStart
func serviceStart(base unsafe.Pointer, panicked C.service_panicked) C.int {
	return status(start(base, panicked))
}

// serviceStop leaves nothing of Go's on the base. What was lent has C's callbacks again.
//
//export serviceStop
func serviceStop() C.int { return status(stop()) }

// serviceAdopt takes a bufferevent over, or fails and leaves it to the caller.
//
//export serviceAdopt
func serviceAdopt(bev *C.struct_bufferevent) C.int {
	return status(adopt(unsafe.Pointer(bev)))
}

// serviceLend borrows one. C leaves it alone until returned was called with it and arg, or
// serviceStop.
//
//export serviceLend
func serviceLend(bev *C.struct_bufferevent, returned C.service_returned, arg unsafe.Pointer) C.int {
	return status(borrow(unsafe.Pointer(bev), func() { giveBack(returned, bev, arg) }))
}

// status is 0, or -1 for an error, which is printed.
func status(err error) C.int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "embed: Go:", err)
		return -1
	}
	return 0
}
