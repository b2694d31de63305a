// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/benchmarks/report"
)

// machine returns the facts on which the figures depend.
func machine(r *runner, rounds rounds, command string) []report.Fact {
	var memory syscall.Sysinfo_t
	_ = syscall.Sysinfo(&memory)
	return []report.Fact{
		{Name: "CPU", Value: cpuModel()},
		{Name: "cores", Value: fmt.Sprint(runtime.NumCPU())},
		{Name: "memory", Value: fmt.Sprintf("%.0f GiB", float64(memory.Totalram)*float64(memory.Unit)/(1<<30))},
		{Name: "kernel", Value: firstLine("/proc/sys/kernel/osrelease")},
		{Name: "Go", Value: strings.TrimPrefix(runtime.Version(), "go")},
		{Name: "libevent", Value: libevent.Version()},
		{Name: "peers", Value: peers()},
		{Name: "server on CPU", Value: fmt.Sprintf("%s, with two loops %s", r.server, r.server2)},
		{Name: "load on CPU", Value: fmt.Sprintf("%s, with two loops %s", r.load, r.load2)},
		{Name: "rounds", Value: fmt.Sprintf("%d; %d of what the charts show", rounds.all, rounds.most())},
		{Name: "warm-up and window", Value: fmt.Sprintf("%v, %v", r.warm, r.window)},
		{Name: "date", Value: time.Now().UTC().Format("2006-01-02")},
		{Name: "command", Value: command},
	}
}

func cpuModel() string {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// peers returns the versions of the peers in go.mod.
func peers() string {
	out, err := output("go", "list", "-m", "github.com/panjf2000/gnet/v2", "github.com/cloudwego/netpoll", "github.com/lesismal/nbio")
	if err != nil {
		return "unknown"
	}
	return strings.ReplaceAll(strings.ReplaceAll(out, "github.com/", ""), "\n", ", ")
}
