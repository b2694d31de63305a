// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include "native.h"
*/
import "C"

import (
	"unsafe"

	"github.com/go-libevent/libevent/internal/inspect"
)

func init() {
	inspect.Record = func(bev any) string { return bev.(*BufferEvent).record() }
}

func (b *BufferEvent) record() string {
	if !b.enter() && !(b.flushing.Load() && b.join()) {
		return "freed"
	}
	defer b.leave()
	var text [1024]byte
	C.glev_bev_describe(b.c, (*C.char)(unsafe.Pointer(&text[0])), C.int(len(text)))
	return C.GoString((*C.char)(unsafe.Pointer(&text[0])))
}
