package evnet

import (
	"net"
	"syscall"
	"time"
)

// setKeepAliveTimes takes 0 for what package net has as its own, and leaves what is negative as it is.
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

// keepAliveSeconds rounds up: 0 seconds would be refused.
func keepAliveSeconds(d time.Duration) int {
	switch {
	case d < 0:
		return -1
	case d == 0:
		d = defaultKeepAlive
	}
	return int((d + time.Second - 1) / time.Second)
}
