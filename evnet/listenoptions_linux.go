// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"runtime"
	"strings"
	"syscall"
)

const tcpDeferAccept = syscall.TCP_DEFER_ACCEPT

// soReusePort is SO_REUSEPORT, which package syscall does not have on all architectures.
var soReusePort = func() int {
	if strings.HasPrefix(runtime.GOARCH, "mips") {
		return 0x200
	}
	return 0xf
}()
