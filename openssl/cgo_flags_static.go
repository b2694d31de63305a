//go:build libevent_static

package openssl

// See the root package's: OpenSSL stays shared.

/*
#cgo LDFLAGS: -Wl,-Bstatic -levent_openssl -levent_core -Wl,-Bdynamic -Wl,--as-needed -lssl -lcrypto
*/
import "C"
