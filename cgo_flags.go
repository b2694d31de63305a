// SPDX-License-Identifier: BSD-3-Clause

package libevent

// The compiler and linker settings of the package are here and in the two files beside
// this one, and nowhere else. pkg-config finds the headers and the folder of the
// libraries; set PKG_CONFIG_PATH to use a libevent in another place.
//
// pkg-config is asked about libevent_core only. On Debian and its relatives the .pc
// files of libevent_pthreads and libevent_openssl also pull in -levent, which would be
// a second full copy of the core in the same process.
//
// The requirement is a comparison of versions that no libevent fails. If pkg-config does
// not find libevent, go build prints the requirement, and so the packages to install.

/*
#cgo pkg-config: "libevent_core != INSTALL/apt:libevent-dev/dnf:libevent-devel/apk:libevent-dev/brew:libevent"
#cgo CFLAGS: -D_GNU_SOURCE -pthread
#cgo LDFLAGS: -pthread

#ifdef __has_include
#if !__has_include(<event2/event.h>)
#error "libevent's headers are not there; install libevent-dev (apt), libevent-devel (dnf), libevent-dev (apk) or libevent (brew)"
#endif
#endif
#include <event2/event.h>

#if LIBEVENT_VERSION_NUMBER < 0x02010c00
#error "libevent 2.1.12 or newer is needed; install a newer libevent-dev (apt), libevent-devel (dnf), libevent-dev (apk) or libevent (brew)"
#endif
*/
import "C"
