package libevent

// The compiler and linker settings of the package are here and in the two files beside
// this one, and nowhere else. pkg-config finds the headers and the folder of the
// libraries; set PKG_CONFIG_PATH to use a libevent in another place.
//
// pkg-config is asked about libevent_core only. On Debian and its relatives the .pc
// files of libevent_pthreads and libevent_openssl also pull in -levent, which would be
// a second full copy of the core in the same process.

/*
#cgo pkg-config: libevent_core
#cgo CFLAGS: -D_GNU_SOURCE -pthread
#cgo LDFLAGS: -pthread

#include <event2/event.h>

#if LIBEVENT_VERSION_NUMBER < 0x02010c00
#error "libevent 2.1.12 or newer is needed; install a newer libevent-dev (Debian, Ubuntu), libevent-devel (Fedora) or libevent (Alpine: libevent-dev, Homebrew: libevent)"
#endif
*/
import "C"
