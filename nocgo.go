// SPDX-License-Identifier: BSD-3-Clause

//go:build !cgo

// Package libevent binds the system's libevent and so needs cgo.
package libevent

// Without cgo nothing of this package can exist. The compiler prints the undefined name
// below, which says what to do.
var _ = libevent_needs_cgo__set_CGO_ENABLED_1_and_install_a_C_compiler_and_pkg_config_and_libevent_with_its_headers
