// SPDX-License-Identifier: BSD-3-Clause

package openssl

/*
#include "native.h"
*/
import "C"

import (
	"crypto/tls"
	"fmt"
)

// Error is an error of OpenSSL. It implements net.Error. Its methods are safe for concurrent
// use.
type Error struct {
	Op     string // what failed; for an event "connect", "handshake", "read" or "write"
	Code   uint64 // the code that ERR_get_error returns
	Lib    string // the part of OpenSSL that failed
	Reason string // OpenSSL's text for it
}

func newError(op string, code C.ulong) *Error {
	e := &Error{Op: op, Code: uint64(code), Lib: "OpenSSL", Reason: fmt.Sprintf("error %X", uint64(code))}
	if s := C.ERR_lib_error_string(code); s != nil {
		e.Lib = C.GoString(s)
	}
	if s := C.ERR_reason_error_string(code); s != nil {
		e.Reason = C.GoString(s)
	}
	return e
}

func newErrorIf(op string, code C.ulong) error {
	if code == 0 {
		return nil
	}
	return newError(op, code)
}

func (e *Error) Error() string {
	return fmt.Sprintf("openssl: %s: %s (%s, %08X)", e.Op, e.Reason, e.Lib, e.Code)
}

// Alert returns the alert that the peer has sent, if that is the error.
func (e *Error) Alert() (tls.AlertError, bool) {
	reason := C.gtls_reason(C.ulong(e.Code)) - C.SSL_AD_REASON_OFFSET
	if C.gtls_lib(C.ulong(e.Code)) != C.ERR_LIB_SSL || reason < 0 || reason > 255 {
		return 0, false
	}
	return tls.AlertError(reason), true
}

// Unwrap returns the alert that the peer has sent, a tls.AlertError, or nil.
func (e *Error) Unwrap() error {
	if alert, ok := e.Alert(); ok {
		return alert
	}
	return nil
}

// Timeout returns false. A timeout is not an Error but an event with its own cause.
func (e *Error) Timeout() bool { return false }

// Temporary returns false. A TLS connection that has failed cannot go on.
func (e *Error) Temporary() bool { return false }
