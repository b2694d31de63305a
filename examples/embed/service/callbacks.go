// SPDX-License-Identifier: BSD-3-Clause

package main

// #include "service.h"
import "C"

import (
	"fmt"
	"os"
	"unsafe"
)

// The functions that C calls. It calls them on the loop's thread, or before the loop runs.

//export serviceStart
func serviceStart(base unsafe.Pointer, panicked C.service_panicked) C.int {
	return status(start(base, panicked))
}

// serviceStop frees all of Go's objects on the base, and restores C's callbacks on
// bufferevents that were lent.
//
//export serviceStop
func serviceStop() C.int { return status(stop()) }

// serviceAdopt takes a bufferevent over. If it fails, the caller still has to free it.
//
//export serviceAdopt
func serviceAdopt(bev *C.struct_bufferevent) C.int {
	return status(adopt(unsafe.Pointer(bev)))
}

// serviceLend borrows a bufferevent. C must not use it until Go calls returned with it and
// arg, or until serviceStop.
//
//export serviceLend
func serviceLend(bev *C.struct_bufferevent, returned C.service_returned, arg unsafe.Pointer) C.int {
	return status(borrow(unsafe.Pointer(bev), func() { giveBack(returned, bev, arg) }))
}

// status returns 0, or prints an error and returns -1.
func status(err error) C.int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "embed: Go:", err)
		return -1
	}
	return 0
}
