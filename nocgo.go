//go:build !cgo

// Package libevent binds the system's libevent and so needs cgo.
package libevent

// Without cgo nothing of this package can exist. The undefined name below is
// the remedy, spelled where the compiler will print it.
var _ = libevent_needs_cgo__set_CGO_ENABLED_1_and_install_a_C_compiler_and_the_libevent_headers
