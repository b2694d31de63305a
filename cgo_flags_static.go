//go:build libevent_static

package libevent

// With the build tag libevent_static libevent becomes part of the program, and needs no
// library where that runs. The C library and OpenSSL stay shared. The linkers that know
// these options are those of Linux and the BSDs.
//
// The core comes last for what the others need of it; and pkg-config's
// -levent_core, which cgo puts after all this, is then needed by nothing.

/*
#cgo LDFLAGS: -Wl,-Bstatic -levent_pthreads -levent_extra -levent_core -Wl,-Bdynamic -Wl,--as-needed
*/
import "C"
