// SPDX-License-Identifier: BSD-3-Clause

package hiredis

// The exported trampolines, which client.c calls.

/*
#include "client.h"
*/
import "C"

import (
	"runtime/cgo"
	"unsafe"
)

func client(handle C.uintptr_t) *Client { return cgo.Handle(handle).Value().(*Client) }

//export goredisConnected
func goredisConnected(handle C.uintptr_t, ok C.int) {
	client(handle).connected(ok != 0)
}

//export goredisDisconnected
func goredisDisconnected(handle C.uintptr_t) {
	client(handle).disconnected()
}

//export goredisReply
func goredisReply(handle, command C.uintptr_t, reply unsafe.Pointer) {
	client(handle).replied(uintptr(command), (*C.redisReply)(reply))
}
