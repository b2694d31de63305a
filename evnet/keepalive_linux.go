// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"net"
	"syscall"
	"time"
)

// setKeepAliveTimes sets the times of keep-alive. As in package net, 0 means package net's
// default, and a negative value leaves the system's setting unchanged.
func setKeepAliveTimes(fd int, config net.KeepAliveConfig) error {
	const defaultCount = 9
	if config.Count == 0 {
		config.Count = defaultCount
	}
	for _, option := range []struct{ name, value int }{
		{syscall.TCP_KEEPIDLE, keepAliveSeconds(config.Idle)},
		{syscall.TCP_KEEPINTVL, keepAliveSeconds(config.Interval)},
		{syscall.TCP_KEEPCNT, config.Count},
	} {
		if option.value < 0 {
			continue
		}
		if err := setTCP(fd, option.name, option.value); err != nil {
			return err
		}
	}
	return nil
}

// keepAliveSeconds rounds up, because the system refuses 0 seconds.
func keepAliveSeconds(d time.Duration) int {
	switch {
	case d < 0:
		return -1
	case d == 0:
		d = defaultKeepAlive
	}
	return int((d + time.Second - 1) / time.Second)
}
