// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"os"
	"syscall"
)

// dup returns another descriptor of a socket, which programs that this process starts do not
// inherit.
func dup(fd int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	other, err := syscall.Dup(fd)
	if err != nil {
		return -1, os.NewSyscallError("dup", err)
	}
	syscall.CloseOnExec(other)
	return other, nil
}
