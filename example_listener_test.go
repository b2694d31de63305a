// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/go-libevent/libevent"
)

// The accept closure owns the descriptor: it closes it, or gives it to NewSocket.
func ExampleBase_Listen() {
	base, _ := libevent.NewBase()
	defer base.Free()
	dir, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(dir)

	l, err := base.Listen("unix", filepath.Join(dir, "socket"), libevent.ListenOptions{},
		func(l *libevent.Listener, fd int, remote net.Addr) {
			fmt.Println("accepted on", l.Addr().Network())
			_ = syscall.Close(fd)
			l.Free()
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	_ = base.Dispatch()
	// Output: accepted on unix
}

// Accept on a socket that listens already, which may come from a service manager or from
// package net.
func ExampleBase_ListenFD() {
	base, _ := libevent.NewBase()
	defer base.Free()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	file, _ := ln.(*net.TCPListener).File()
	fd, _ := syscall.Dup(int(file.Fd())) // the listener has a descriptor of its own
	_ = file.Close()
	_ = ln.Close()

	l, err := base.ListenFD(fd, libevent.ListenOptions{}, func(l *libevent.Listener, fd int, _ net.Addr) {
		fmt.Println("accepted")
		_ = syscall.Close(fd)
		l.Free()
	})
	if err != nil {
		fmt.Println(err)
		_ = syscall.Close(fd)
		return
	}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	_ = base.Dispatch()
	// Output: accepted
}
