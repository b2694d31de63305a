// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"net"
	"os"
	"syscall"
)

// SyscallConn returns the socket for system calls, as in package net. Control runs its
// function at any time. Read and Write run theirs once and do not wait: the loop has perhaps
// read already what has come, so if the function wants to be called again when there is more,
// the error matches errors.ErrUnsupported. On a connection without a socket all three return
// such an error. Close waits for a function that runs.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return (*rawConn)(c), nil }

// File returns a duplicate of the socket, as in package net. What the loop has read already
// cannot be read from it.
func (c *Conn) File() (f *os.File, err error) {
	err = c.useSocket(func(fd int) error {
		f, err = newFile(fd, c.LocalAddr(), c.RemoteAddr())
		return err
	})
	return f, c.opError("file", err)
}

// newFile duplicates a socket, and names the file as package net does. remote may be nil.
func newFile(fd int, local, remote net.Addr) (*os.File, error) {
	other, err := dup(fd)
	if err != nil {
		return nil, err
	}
	name := local.Network() + ":" + local.String() + "->"
	if remote != nil {
		name += remote.String()
	}
	return os.NewFile(uintptr(other), name), nil
}

// useSocket runs fn with the descriptor, which stays the connection's until fn returns. Unlike
// whileOpen it lets fn call other methods.
func (c *Conn) useSocket(fn func(fd int) error) error {
	c.using.RLock()
	defer c.using.RUnlock()
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	fd := bottom(c.bev).FD()
	if fd < 0 {
		return &unsupported{"no socket"}
	}
	return fn(fd)
}

// rawConn is the syscall.RawConn of a connection.
type rawConn Conn

func (r *rawConn) Control(fn func(fd uintptr)) error {
	c := (*Conn)(r)
	err := c.useSocket(func(fd int) error {
		fn(uintptr(fd))
		return nil
	})
	return c.localError("raw-control", err)
}

func (r *rawConn) Read(fn func(fd uintptr) bool) error {
	c := (*Conn)(r)
	return c.opError("raw-read", c.once(&c.in, fn))
}

func (r *rawConn) Write(fn func(fd uintptr) bool) error {
	c := (*Conn)(r)
	return c.opError("raw-write", c.once(&c.out, fn))
}

// once runs fn, unless the deadline of the side has passed.
func (c *Conn) once(s *side, fn func(fd uintptr) bool) error {
	return c.useSocket(func(fd int) error {
		c.mu.Lock()
		expired := s.expired
		c.mu.Unlock()
		if expired {
			return os.ErrDeadlineExceeded
		}
		if !fn(uintptr(fd)) {
			return &unsupported{"to wait in a RawConn, for the loop reads and writes the socket"}
		}
		return nil
	})
}

// rawListener is the syscall.RawConn of a listener.
type rawListener Listener

func (r *rawListener) Control(fn func(fd uintptr)) error {
	l := (*Listener)(r)
	err := l.useSocket(func(fd int) error {
		fn(uintptr(fd))
		return nil
	})
	if err != nil {
		return l.opError("raw-control", err)
	}
	return nil
}

// Read fails, as in package net.
func (r *rawListener) Read(func(fd uintptr) bool) error { return syscall.EINVAL }

// Write fails, as in package net.
func (r *rawListener) Write(func(fd uintptr) bool) error { return syscall.EINVAL }

// SyscallConn returns the socket for system calls, as in package net.
func (l *Listener) SyscallConn() (syscall.RawConn, error) { return (*rawListener)(l), nil }

// File returns a duplicate of the socket, as in package net.
func (l *Listener) File() (f *os.File, err error) {
	err = l.useSocket(func(fd int) error {
		f, err = newFile(fd, l.addr, nil)
		return err
	})
	if err != nil {
		return nil, l.opError("file", err)
	}
	return f, nil
}

func (l *Listener) useSocket(fn func(fd int) error) error {
	l.using.RLock()
	defer l.using.RUnlock()
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	return fn(l.native.FD())
}
