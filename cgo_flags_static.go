// SPDX-License-Identifier: BSD-3-Clause

//go:build libevent_static

package libevent

// With the build tag libevent_static libevent becomes part of the program, which then
// needs no libevent library on the machine where it runs. The C library and OpenSSL
// stay shared. The linkers of Linux and the BSDs know these options.
//
// The core comes last because the other libraries need it. cgo puts pkg-config's
// -levent_core after all of this, where nothing needs it any more.

/*
#cgo LDFLAGS: -Wl,-Bstatic -levent_pthreads -levent_extra -levent_core -Wl,-Bdynamic -Wl,--as-needed
*/
import "C"
