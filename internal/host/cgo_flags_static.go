// SPDX-License-Identifier: BSD-3-Clause

//go:build libevent_static

package host

/*
#cgo LDFLAGS: -Wl,-Bstatic -levent_pthreads -levent_core -Wl,-Bdynamic -Wl,--as-needed
*/
import "C"
