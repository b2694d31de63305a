// SPDX-License-Identifier: BSD-3-Clause

package main

/*
#cgo CFLAGS: -D_GNU_SOURCE
#cgo linux LDFLAGS: -ldl
*/
import "C"
