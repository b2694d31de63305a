// SPDX-License-Identifier: BSD-3-Clause

package hiredis

// This file has all compiler and linker settings of the package.
//
// hiredis's adapter needs libevent_core. Do not link libevent instead: it has a
// second copy of the core.

/*
#cgo pkg-config: hiredis libevent_core
#cgo CFLAGS: -D_GNU_SOURCE

#include <hiredis/hiredis.h>

#if HIREDIS_MAJOR == 0 && HIREDIS_MINOR < 14
#error "hiredis 0.14 or newer is needed; install libhiredis-dev (Debian, Ubuntu), hiredis-devel (Fedora), hiredis-dev (Alpine) or hiredis (Homebrew)"
#endif
*/
import "C"
