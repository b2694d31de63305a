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
	"runtime/cgo"
	"syscall"
	"unsafe"
)

//export gtlsVerify
func gtlsVerify(handle C.uintptr_t, sent *C.struct_stack_st_X509, id C.uint, mayRest C.int) C.int {
	ders := make([][]byte, C.gtls_certs_count(sent))
	for i := range ders {
		ders[i] = derOf(sent, i)
	}
	return cgo.Handle(handle).Value().(*Conn).askVerify(ders, id, mayRest != 0)
}

//export gtlsDecide
func gtlsDecide(handle C.uintptr_t, id C.uint, mayRest C.int) (answer C.int) {
	answer = C.GTLS_NO
	defer guard()
	return cgo.Handle(handle).Value().(*Conn).askConfirm(id, mayRest != 0)
}

//export gtlsHello
func gtlsHello(handle C.uintptr_t, hello *C.struct_gtls_hello, id C.uint, mayRest C.int) (answer C.int) {
	answer = C.GTLS_NO
	defer guard()
	return cgo.Handle(handle).Value().(*Conn).askHello(hello, id, mayRest != 0)
}

//export gtlsRequest
func gtlsRequest(handle C.uintptr_t, request *C.struct_gtls_request, id C.uint, mayRest C.int) (answer C.int) {
	answer = C.GTLS_NO
	defer guard()
	return cgo.Handle(handle).Value().(*Conn).askRequest(request, id, mayRest != 0)
}

//export gtlsTicket
func gtlsTicket(handle C.uintptr_t, client *C.struct_stack_st_X509) (usable C.int) {
	defer guard()
	return cBool(cgo.Handle(handle).Value().(*Conn).rules().mayResume(client))
}

//export gtlsNow
func gtlsNow(handle C.uintptr_t) (now C.int64_t) {
	defer guard()
	return C.int64_t(cgo.Handle(handle).Value().(*shared).trust.now().Unix())
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
	c.ctx.sessions.put(c.serverName(), session, c.stapledPeer())
}

//export gtlsKey
func gtlsKey(handle C.uintptr_t, line *C.char) {
	defer guard()
	c := cgo.Handle(handle).Value().(*Conn)
	c.rules().keys.add(C.GoString(line), c.Base())
}

//export gtlsBelow
func gtlsBelow(below, above C.uintptr_t, what C.short, err C.int, codes *C.ulong, n C.int) {
	defer guard()
	copied := make([]uint64, n)
	for i, code := range unsafe.Slice(codes, n) {
		copied[i] = uint64(code)
	}
	cgo.Handle(above).Value().(*Conn).onEventBelow(cgo.Handle(below).Value().(*Conn), int(what), syscall.Errno(err), copied)
}

// There is another socket, whose peer is not known yet.
//
//export gtlsAnother
func gtlsAnother(handle C.uintptr_t) {
	defer guard()
	c := cgo.Handle(handle).Value().(*Conn)
	c.peer.Store(nil)
	c.failed.Store(nil)
	c.next.Store(nil)
	c.state.Store(nil)
}

//export gtlsGone
func gtlsGone(handle C.uintptr_t) {
	defer guard()
	releaseConn(cgo.Handle(handle))
}

func guard() { _ = recover() }
