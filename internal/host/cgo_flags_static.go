// SPDX-License-Identifier: BSD-3-Clause

//go:build libevent_static

package host

/*
#cgo LDFLAGS: -l:libevent_pthreads.a -l:libevent_core.a -Wl,--as-needed
*/
import "C"
