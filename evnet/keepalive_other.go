//go:build !linux

package evnet

import "net"

// setKeepAliveTimes is not written for this system: the times are the system's own.
func setKeepAliveTimes(int, net.KeepAliveConfig) error {
	return &unsupported{"the times of keep-alive on this system"}
}
