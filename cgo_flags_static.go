// SPDX-License-Identifier: BSD-3-Clause

//go:build libevent_static

package libevent

// With the build tag libevent_static libevent becomes part of the program, which then
// needs no libevent library on the machine where it runs. The C library and OpenSSL
// stay shared, unless -extldflags=-static makes the whole program static. The linkers of Linux and
// the BSDs take a library with a colon for the name of a file. An option for what follows, -Bdynamic
// say, would undo -static.
//
// The core comes last because the other libraries need it. cgo puts pkg-config's
// -levent_core after all of this, where nothing needs it any more.

/*
#cgo LDFLAGS: -l:libevent_pthreads.a -l:libevent_extra.a -l:libevent_core.a -Wl,--as-needed
*/
import "C"
