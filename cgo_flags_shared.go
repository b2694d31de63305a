// SPDX-License-Identifier: BSD-3-Clause

//go:build !libevent_static

package libevent

// By default the program uses the system's shared libraries, and so gets their updates.

/*
#cgo LDFLAGS: -levent_core -levent_extra -levent_pthreads
*/
import "C"
