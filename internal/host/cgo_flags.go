package host

/*
#cgo pkg-config: libevent_core
#cgo CFLAGS: -pthread
#cgo LDFLAGS: -levent_core -levent_pthreads -pthread
*/
import "C"
