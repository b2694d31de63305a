// SPDX-License-Identifier: BSD-3-Clause

package openssl

// All compiler and linker settings of the package are in this file and in the two files
// cgo_flags_shared.go and cgo_flags_static.go.
//
// pkg-config is asked for libevent_core and openssl only. On Debian and its relatives the .pc
// file of libevent_openssl adds -levent, which is a second full copy of the core in the same
// process. cgo_flags.go of the root says what the comparison after openssl is for.

/*
#cgo pkg-config: libevent_core "openssl != INSTALL/apt:libssl-dev/dnf:openssl-devel/apk:openssl-dev/brew:openssl@3"
#cgo CFLAGS: -D_GNU_SOURCE -pthread
#cgo LDFLAGS: -pthread

#include <event2/event.h>
#include <openssl/opensslv.h>

#if LIBEVENT_VERSION_NUMBER < 0x02010c00
#error "libevent 2.1.12 or newer is needed; install a newer libevent-dev (apt), libevent-devel (dnf), libevent-dev (apk) or libevent (brew)"
#endif
#if OPENSSL_VERSION_NUMBER < 0x10101000L || defined(LIBRESSL_VERSION_NUMBER)
#error "OpenSSL 1.1.1 or newer is needed; install a newer libssl-dev (apt), openssl-devel (dnf), openssl-dev (apk) or openssl@3 (brew)"
#endif
*/
import "C"
