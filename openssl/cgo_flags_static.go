// SPDX-License-Identifier: BSD-3-Clause

//go:build libevent_static

package openssl

// As in the root package's cgo_flags_static.go. OpenSSL is linked as a shared library.

/*
#cgo LDFLAGS: -l:libevent_openssl.a -l:libevent_core.a -Wl,--as-needed -lssl -lcrypto
*/
import "C"
