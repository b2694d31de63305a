// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import "syscall"

var keepAliveOptions = [][2]int{
	{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE}, {syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL},
	{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT},
}
