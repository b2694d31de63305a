package evnet

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// setsockopt is for what is a socket at its bottom, and not to be mixed up with another
// one that has its number after Close.
func (c *Conn) setsockopt(set func(fd int) error) error {
	return c.whileOpen("set", func() error {
		fd := bottom(c.bev).FD()
		if fd < 0 {
			return &unsupported{"no socket"}
		}
		return set(fd)
	})
}

// SetNoDelay says whether small writes are sent at once, as is set on connections that
// Listen and Dial make, or wait for what was sent before. Without TCP the error
// matches errors.ErrUnsupported.
// Safe for concurrent use.
func (c *Conn) SetNoDelay(on bool) error {
	return c.setsockopt(func(fd int) error { return setNoDelay(fd, on) })
}

// SetKeepAlive says whether the system asks a silent peer for a sign of life, as is set on
// connections that Listen and Dial make. Without TCP the error matches
// errors.ErrUnsupported.
// Safe for concurrent use.
func (c *Conn) SetKeepAlive(on bool) error {
	return c.setsockopt(func(fd int) error { return setKeepAlive(fd, on) })
}

// SetKeepAlivePeriod sets how long the peer may be silent before it is asked, and the time
// from one question to the next. Where that is not known how to do, the error
// matches errors.ErrUnsupported.
// Safe for concurrent use.
func (c *Conn) SetKeepAlivePeriod(d time.Duration) error {
	return c.setsockopt(func(fd int) error {
		return setKeepAliveTimes(fd, net.KeepAliveConfig{Idle: d, Interval: d, Count: -1})
	})
}

// SetKeepAliveConfig is SetKeepAlive with all that can be set, as of package net.
// Safe for concurrent use.
func (c *Conn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	return c.setsockopt(func(fd int) error { return setKeepAliveConfig(fd, config) })
}

// SetLinger sets for how many seconds after Close what was written is still sent, at most:
// with 0 it is dropped, and a TCP peer's connection is reset; a negative sec is 30 seconds.
// Safe for concurrent use.
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

// unsupported is what a connection of this kind cannot do.
type unsupported struct{ why string }

func (e *unsupported) Error() string { return "not supported: " + e.why }
func (e *unsupported) Unwrap() error { return errors.ErrUnsupported }

// defaultKeepAlive is what package net does, too.
const defaultKeepAlive = 15 * time.Second

// tune is what package net does with a new connection of TCP. What fails there does not
// matter: the connection works without it.
func tune(fd int, keepAlive time.Duration, config net.KeepAliveConfig) {
	_ = setNoDelay(fd, true)
	switch {
	case config.Enable:
		_ = setKeepAliveConfig(fd, config)
	case keepAlive >= 0:
		if keepAlive == 0 {
			keepAlive = defaultKeepAlive
		}
		_ = setKeepAlive(fd, true)
		_ = setKeepAliveTimes(fd, net.KeepAliveConfig{Idle: keepAlive, Interval: keepAlive, Count: -1})
	}
}

func setNoDelay(fd int, on bool) error { return setTCP(fd, syscall.TCP_NODELAY, boolInt(on)) }

func setKeepAlive(fd int, on bool) error {
	if !isTCP(fd) { // of a unix socket Linux takes it, and does nothing
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
