// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// setsockopt sets an option of the socket below the connection. Close waits meanwhile:
// otherwise set could meet another socket that got the same descriptor.
func (c *Conn) setsockopt(set func(fd int) error) error {
	return c.whileOpen("set", func() error {
		fd := bottom(c.bev).FD()
		if fd < 0 {
			return &unsupported{"no socket"}
		}
		return set(fd)
	})
}

// SetNoDelay says whether small writes are sent at once or may wait until the peer has
// acknowledged earlier ones. TCP connections that Listen and Dial make send at once. On a
// connection that is not TCP the error matches errors.ErrUnsupported.
func (c *Conn) SetNoDelay(on bool) error {
	return c.setsockopt(func(fd int) error { return setNoDelay(fd, on) })
}

// SetKeepAlive says whether the system probes a silent peer. TCP connections that Listen and
// Dial make have it on, unless their configuration says otherwise. On a connection that is
// not TCP the error matches errors.ErrUnsupported.
func (c *Conn) SetKeepAlive(on bool) error {
	return c.setsockopt(func(fd int) error { return setKeepAlive(fd, on) })
}

// SetKeepAlivePeriod sets how long the peer may be silent before the system probes it. On
// systems other than Linux, and on a connection that is not TCP, the error matches
// errors.ErrUnsupported.
func (c *Conn) SetKeepAlivePeriod(d time.Duration) error {
	return c.setsockopt(func(fd int) error {
		return setKeepAliveTimes(fd, net.KeepAliveConfig{Idle: d, Interval: -1, Count: -1})
	})
}

// SetKeepAliveConfig sets all keep-alive options, as its namesake in package net does.
func (c *Conn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	return c.setsockopt(func(fd int) error { return setKeepAliveConfig(fd, config) })
}

// SetReadBuffer sets the size, in bytes, of the system's buffer for what the peer sends. The
// connection has an input of its own in addition; see Memory above.
func (c *Conn) SetReadBuffer(bytes int) error { return c.setBuffer(syscall.SO_RCVBUF, bytes) }

// SetWriteBuffer sets the size, in bytes, of the system's buffer for what is sent. The
// connection has an output of its own in addition; see Memory above.
func (c *Conn) SetWriteBuffer(bytes int) error { return c.setBuffer(syscall.SO_SNDBUF, bytes) }

func (c *Conn) setBuffer(option, bytes int) error {
	return c.localError("set", c.useSocket(func(fd int) error {
		return os.NewSyscallError("setsockopt", syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, option, bytes))
	}))
}

// SetLinger sets for how many seconds after Close the loop goes on sending what was written.
// With 0, Close drops unsent data and resets a TCP connection. A negative sec means the
// default, 30 seconds.
func (c *Conn) SetLinger(sec int) error {
	return c.whileOpen("set", func() error {
		c.linger = flushLimit
		if sec >= 0 {
			c.linger = time.Duration(sec) * time.Second
		}
		fd := bottom(c.bev).FD()
		if fd < 0 {
			return nil
		}
		l := syscall.Linger{}
		if sec == 0 {
			l.Onoff = 1
		}
		return os.NewSyscallError("setsockopt", syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &l))
	})
}

// unsupported is the error of a call that this kind of connection does not support.
type unsupported struct{ why string }

func (e *unsupported) Error() string { return "not supported: " + e.why }
func (e *unsupported) Unwrap() error { return errors.ErrUnsupported }

// defaultKeepAlive is package net's default.
const defaultKeepAlive = 15 * time.Second

// tune sets the options that package net sets on a new TCP connection. It ignores errors,
// because the connection works without these options.
func tune(fd int, keepAlive time.Duration, config net.KeepAliveConfig) {
	_ = setNoDelay(fd, true)
	switch {
	case config.Enable:
		_ = setKeepAliveConfig(fd, config)
	case keepAlive >= 0:
		_ = setKeepAliveConfig(fd, net.KeepAliveConfig{Enable: true, Idle: keepAlive})
	}
}

func setNoDelay(fd int, on bool) error { return setTCP(fd, syscall.TCP_NODELAY, boolInt(on)) }

func setKeepAlive(fd int, on bool) error {
	if !isTCP(fd) { // Linux accepts the option on a unix socket, and ignores it
		return errNoTCP
	}
	return os.NewSyscallError("setsockopt",
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, boolInt(on)))
}

func setKeepAliveConfig(fd int, config net.KeepAliveConfig) error {
	err := setKeepAlive(fd, config.Enable)
	if err == nil && config.Enable {
		err = setKeepAliveTimes(fd, config)
	}
	return err
}

var errNoTCP = &unsupported{"not a TCP connection"}

func setTCP(fd, option, value int) error {
	err := syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, option, value)
	if err != nil && !isTCP(fd) {
		return errNoTCP
	}
	return os.NewSyscallError("setsockopt", err)
}

func isTCP(fd int) bool {
	_, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY)
	return err == nil
}

func boolInt(v bool) int {
	if v {
		return 1
	}
	return 0
}
