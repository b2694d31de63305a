// SPDX-License-Identifier: BSD-3-Clause

//go:build !linux

package evnet

import "syscall"

const (
	tcpDeferAccept = 0 // the system has no such option
	soReusePort    = syscall.SO_REUSEPORT
)
