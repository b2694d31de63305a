// SPDX-License-Identifier: BSD-3-Clause

package openssl

// callbacks.go has the exported functions, which C calls. callbacks.c calls them in the middle
// of OpenSSL and with a lock of libevent, so they run no code of the user. A panic cannot
// unwind the frames of C, so they recover from it.

/*
#include "native.h"
*/
import "C"

import (
	"crypto/tls"
	"fmt"
	"runtime/cgo"
	"unsafe"
)

//export gtlsVerify
func gtlsVerify(handle C.uintptr_t, sent *C.struct_stack_st_X509) (code C.int) {
	c := cgo.Handle(handle).Value().(*Conn)
	defer func() {
		if p := recover(); p != nil {
			c.failed.Store(&tls.CertificateVerificationError{Err: fmt.Errorf("openssl: panic in a verification: %v", p)})
			code = C.X509_V_ERR_UNSPECIFIED
		}
	}()
	ders := make([][]byte, C.gtls_certs_count(sent))
	for i := range ders {
		ders[i] = derOf(sent, i)
	}
	return c.verify(ders)
}

//export gtlsPick
func gtlsPick(handle C.uintptr_t, name *C.char, picked *C.int) (n C.int) {
	defer guard()
	s := cgo.Handle(handle).Value().(*shared)
	out := unsafe.Slice(picked, C.GTLS_MAX_PICKED)
	for i, cert := range s.pick.find(C.GoString(name)) {
		out[i] = C.int(cert)
		n++
	}
	return n
}

//export gtlsSession
func gtlsSession(handle C.uintptr_t, session *C.SSL_SESSION) {
	defer guard()
	c := cgo.Handle(handle).Value().(*Conn)
	c.ctx.sessions.put(c.serverName(), session)
}

//export gtlsKey
func gtlsKey(handle C.uintptr_t, line *C.char) {
	defer guard()
	cgo.Handle(handle).Value().(*Conn).ctx.keys.add(C.GoString(line))
}

//export gtlsGone
func gtlsGone(handle C.uintptr_t) {
	defer guard()
	releaseConn(cgo.Handle(handle))
}

func guard() { _ = recover() }
