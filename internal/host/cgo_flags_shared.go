// SPDX-License-Identifier: BSD-3-Clause

//go:build !libevent_static

package host

/*
#cgo LDFLAGS: -levent_core -levent_pthreads
*/
import "C"
