// SPDX-License-Identifier: BSD-3-Clause

package chaos_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
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

var inLibevent = regexp.MustCompile(`glev_|gtls_|event_base_loop|evbuffer_|bufferevent_`)

// threads has gdb, if that is there, show where threads are in C.
func threads() string {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "gdb", "-p", strconv.Itoa(os.Getpid()), "-batch", "-ex", "thread apply all backtrace 24").Output()
	if err != nil {
		return fmt.Sprintf("gdb shows no threads: %v\n", err)
	}
	var text strings.Builder
	for _, thread := range strings.Split(string(out), "\n\n") {
		if inLibevent.MatchString(thread) {
			text.WriteString(thread + "\n")
		}
	}
	return text.String()
}
