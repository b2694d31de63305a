// SPDX-License-Identifier: BSD-3-Clause

package chaos_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

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

// threads has gdb, if that is there, show where threads are in C. As long as gdb works it stops
// this process, which can neither read from a pipe nor watch the time meanwhile.
func threads() string {
	file, err := os.CreateTemp("", "threads")
	if err != nil {
		return err.Error()
	}
	defer os.Remove(file.Name())
	defer file.Close()
	cmd := exec.Command("timeout", "-s", "KILL", "60", "gdb", "-p", strconv.Itoa(os.Getpid()), "-batch", "-ex", "thread apply all backtrace 24")
	cmd.Stdout = file
	if err := cmd.Run(); err != nil {
		return fmt.Sprintf("gdb shows no threads: %v\n", err)
	}
	out, err := os.ReadFile(file.Name())
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	for _, thread := range strings.Split(string(out), "\n\n") {
		if inLibevent.MatchString(thread) {
			text.WriteString(thread + "\n")
		}
	}
	return text.String()
}
