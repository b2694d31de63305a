// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// build compiles everything into dir.
func build(dir string) error {
	for _, name := range []string{"evnet", "libevent", "net", "netpoll", "nbio"} {
		if err := goBuild(dir, name, "./contestants/"+name, ""); err != nil {
			return err
		}
	}
	// gnet's own benchmarks use this tag.
	if err := goBuild(dir, "gnet", "./contestants/gnet", "poll_opt"); err != nil {
		return err
	}
	if err := goBuild(dir, "libevent-pair", "./pairs/libevent", ""); err != nil {
		return err
	}
	flags, err := output("pkg-config", "--cflags", "--libs", "libevent_core")
	if err != nil {
		return fmt.Errorf("libevent's flags: %w", err)
	}
	libevent := strings.Fields(flags)
	openssl := []string{"-lssl", "-lcrypto"}
	for name, flags := range map[string][]string{"c-book": append(openssl, "-levent_openssl"), "c-epoll": openssl} {
		flags = append(flags, libevent...)
		if err := cBuild(dir, name, flags, "contestants/c/server.c", "contestants/c/tls.c", "contestants/"+name+"/main.c"); err != nil {
			return err
		}
	}
	if err := cBuild(dir, "c-pair", append(libevent, "-levent_pthreads"), "pairs/c/main.c"); err != nil {
		return err
	}
	load, err := filepath.Glob("load/*.c")
	if err != nil {
		return err
	}
	return cBuild(dir, "load", openssl, load...)
}

func goBuild(dir, name, pkg, tags string) error {
	_, err := output("go", "build", "-tags", tags, "-o", filepath.Join(dir, name), pkg)
	return err
}

func cBuild(dir, name string, flags []string, sources ...string) error {
	cc, err := output("go", "env", "CC")
	if err != nil {
		return err
	}
	words := strings.Fields(cc) // CC may be a command with options
	args := append(words[1:], "-O2", "-Wall", "-Wextra", "-o", filepath.Join(dir, name))
	args = append(append(append(args, sources...), flags...), "-pthread")
	_, err = output(words[0], args...)
	return err
}

// output runs a command and returns its stdout. An error also has its stderr.
func output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, stderr.String(), out)
	}
	return strings.TrimSpace(string(out)), nil
}

// checkTools reports a missing program before anything is built.
func checkTools() error {
	if _, err := os.Stat("plan.go"); err != nil {
		return fmt.Errorf("run this in the folder benchmarks: %w", err)
	}
	for _, tool := range []string{"taskset", "pkg-config"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is not installed: %w", tool, err)
		}
	}
	return nil
}
