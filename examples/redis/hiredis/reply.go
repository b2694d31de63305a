// SPDX-License-Identifier: BSD-3-Clause

package hiredis

/*
#include "client.h"
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// Error is an error reply of the server, for example "WRONGTYPE Operation against a key ...".
type Error string

func (e Error) Error() string { return string(e) }

// value copies a reply, which hiredis frees when the callback returns.
func value(r *C.redisReply) any {
	switch r._type {
	case C.REDIS_REPLY_STRING, C.REDIS_REPLY_STATUS:
		return text(r)
	case C.REDIS_REPLY_ERROR:
		return Error(text(r))
	case C.REDIS_REPLY_INTEGER:
		return int64(r.integer)
	case C.REDIS_REPLY_NIL:
		return nil
	case C.REDIS_REPLY_ARRAY:
		values := make([]any, r.elements)
		for i, element := range unsafe.Slice(r.element, r.elements) {
			values[i] = value(element)
		}
		return values
	}
	// Other types come only with RESP3, which Do cannot switch on.
	return Error(fmt.Sprintf("hiredis: reply of type %d", r._type))
}

// text copies the text of a reply. C.GoStringN would limit its length to an int of C.
func text(r *C.redisReply) string {
	return string(unsafe.Slice((*byte)(unsafe.Pointer(r.str)), r.len))
}
