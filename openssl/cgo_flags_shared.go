//go:build !libevent_static

package openssl

/*
#cgo LDFLAGS: -levent_openssl -levent_core -lssl -lcrypto
*/
import "C"
