// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"os"
	"syscall"

	"github.com/go-libevent/libevent"
)

// setListenOptions sets the options of a new socket that package net does not know. network is
// "tcp4", "tcp6" or "unix".
func setListenOptions(fd int, network string, o libevent.ListenOptions) error {
	if network == "unix" {
		return nil
	}
	for _, option := range []struct {
		on                 bool
		level, name, value int
	}{
		{o.NoReuseAddr, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0},
		{o.ReusePort, syscall.SOL_SOCKET, soReusePort, 1},
		{o.IPv6Only && network == "tcp6", syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 1},
		{o.IPv4AndIPv6 && network == "tcp6", syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 0},
		{o.DeferredAccept && tcpDeferAccept != 0, syscall.IPPROTO_TCP, tcpDeferAccept, 1},
	} {
		if !option.on {
			continue
		}
		if err := syscall.SetsockoptInt(fd, option.level, option.name, option.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}
