// SPDX-License-Identifier: BSD-3-Clause

//go:build !libevent_static

package openssl

/*
#cgo LDFLAGS: -levent_openssl -levent_core -lssl -lcrypto
*/
import "C"
