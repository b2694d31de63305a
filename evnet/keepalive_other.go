// SPDX-License-Identifier: BSD-3-Clause

//go:build !linux

package evnet

import "net"

// setKeepAliveTimes is not implemented for this system, which keeps its own times.
func setKeepAliveTimes(int, net.KeepAliveConfig) error {
	return &unsupported{"the times of keep-alive on this system"}
}
