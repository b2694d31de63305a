package hiredis

// Every compiler and linker setting of the package stands here, and nowhere
// else.
//
// libevent_core alone is asked for, for hiredis's adapter: libevent as a whole
// would be a second full copy of the core in the same process.

/*
#cgo pkg-config: hiredis libevent_core
#cgo CFLAGS: -D_GNU_SOURCE

#include <hiredis/hiredis.h>

#if HIREDIS_MAJOR == 0 && HIREDIS_MINOR < 14
#error "hiredis 0.14 or newer is needed; install libhiredis-dev (Debian, Ubuntu), hiredis-devel (Fedora), hiredis-dev (Alpine) or hiredis (Homebrew)"
#endif
*/
import "C"
