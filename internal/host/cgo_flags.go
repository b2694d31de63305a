// SPDX-License-Identifier: BSD-3-Clause

package host

/*
#cgo pkg-config: libevent_core
#cgo CFLAGS: -pthread
#cgo LDFLAGS: -pthread
*/
import "C"
