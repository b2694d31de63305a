package openssl

/*
#include "native.h"
*/
import "C"

import (
	"crypto/tls"
	"fmt"
)

// Error is an error of OpenSSL. It implements net.Error.
type Error struct {
	Op     string // what failed: "handshake", "read" and "write" for an event
	Code   uint64 // as ERR_get_error gives it
	Lib    string // the part of OpenSSL
	Reason string // its words for it
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
// Safe for concurrent use.
func (e *Error) Alert() (tls.AlertError, bool) {
	reason := C.gtls_reason(C.ulong(e.Code)) - C.SSL_AD_REASON_OFFSET
	if C.gtls_lib(C.ulong(e.Code)) != C.ERR_LIB_SSL || reason < 0 || reason > 255 {
		return 0, false
	}
	return tls.AlertError(reason), true
}

// Unwrap gives the alert that the peer has sent, a tls.AlertError, or nil.
func (e *Error) Unwrap() error {
	if alert, ok := e.Alert(); ok {
		return alert
	}
	return nil
}

// Timeout is false: timeouts are events of their own.
func (e *Error) Timeout() bool { return false }

// Temporary is false: a TLS connection that failed has ended.
func (e *Error) Temporary() bool { return false }
