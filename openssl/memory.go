// SPDX-License-Identifier: BSD-3-Clause

package openssl

/*
#include "native.h"
*/
import "C"

import (
	"fmt"
	"runtime"
	"unsafe"
)

// pinned is memory of Go that C uses during one call.
type pinned struct{ runtime.Pinner }

func newPinned() *pinned { return &pinned{} }

func (p *pinned) bytes(b []byte) C.struct_gtls_bytes {
	data := unsafe.SliceData(b)
	if data != nil {
		p.Pin(data)
	}
	return C.struct_gtls_bytes{(*C.uchar)(data), C.size_t(len(b))}
}

// cString is s for a C function that does not keep it. C.CString would end the process if
// there is no memory.
func cString(s string) *C.char {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(s + "\x00")))
}

func cStringOrNil(s string) *C.char {
	if s == "" {
		return nil
	}
	return cString(s)
}

func cBool(v bool) C.int {
	if v {
		return 1
	}
	return 0
}

func sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// derOf returns a copy of the DER of certificate i.
func derOf(stack *C.struct_stack_st_X509, i int) []byte {
	var n C.int
	der := C.gtls_certs_der(stack, C.int(i), &n)
	defer C.gtls_der_free(der)
	return C.GoBytes(unsafe.Pointer(der), max(n, 0))
}
