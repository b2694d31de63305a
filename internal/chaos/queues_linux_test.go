// SPDX-License-Identifier: BSD-3-Clause

package chaos_test

import (
	"fmt"
	"syscall"
	"unsafe"
)

// queues says what the kernel has of a socket: bytes to read, and bytes that the peer has not taken.
func queues(fd int) string {
	ask := func(what uintptr) (n int32) {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), what, uintptr(unsafe.Pointer(&n))); errno != 0 {
			return -1
		}
		return n
	}
	return fmt.Sprintf("%d in, %d out", ask(syscall.TIOCINQ), ask(syscall.TIOCOUTQ))
}
