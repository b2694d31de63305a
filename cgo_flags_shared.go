//go:build !libevent_static

package libevent

// The system's shared libraries, with whatever patches they get.

/*
#cgo LDFLAGS: -levent_core -levent_extra -levent_pthreads
*/
import "C"
