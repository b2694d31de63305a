package chaos_test

import (
	"fmt"
	"os"
	"strings"
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

// watched lists the descriptors for which the loops wait, where Linux tells of that.
func watched() string {
	var text strings.Builder
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		if link, _ := os.Readlink("/proc/self/fd/" + fd.Name()); link != "anon_inode:[eventpoll]" {
			continue
		}
		info, _ := os.ReadFile("/proc/self/fdinfo/" + fd.Name())
		fmt.Fprintf(&text, "epoll %s waits for:", fd.Name())
		for line := range strings.Lines(string(info)) {
			if f := strings.Fields(line); len(f) > 3 && f[0] == "tfd:" {
				fmt.Fprintf(&text, " %s (%s)", f[1], f[3])
			}
		}
		text.WriteString("\n")
	}
	return text.String()
}
