// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/go-libevent/libevent"
)

// ErrOnLoop is the error of a call on the loop's own goroutine that would have to wait for
// the loop. The loop cannot run while the call waits, so the call would wait for ever.
var ErrOnLoop = errors.New("evnet: called in a closure of the loop that it would wait for")

// netError turns an error of package libevent into the form that package net uses.
func netError(err error) error {
	if err == nil {
		return nil
	}
	var e *libevent.Error
	var errno syscall.Errno
	switch {
	case errors.Is(err, net.ErrClosed):
		return net.ErrClosed
	case errors.As(err, &e) && errors.As(e.Err, &errno):
		return os.NewSyscallError(e.Op, errno)
	}
	return err
}

// connError is netError for the error of a call that stands for one system call.
func connError(call string, err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return os.NewSyscallError(call, errno)
	}
	return err
}

// opError wraps the cause of a failed call, as package net does. It does not wrap the end of
// a stream: that is no failure, and readers compare io.EOF with ==.
func (c *Conn) opError(op string, cause error) error {
	if cause == nil || cause == io.EOF || cause == io.ErrUnexpectedEOF {
		return cause
	}
	local, remote := c.addrs()
	return &net.OpError{Op: op, Net: local.Network(), Source: local, Addr: remote, Err: cause}
}

// localError is opError for the calls whose errors name only this end in package net.
func (c *Conn) localError(op string, cause error) error {
	if cause == nil {
		return nil
	}
	local := c.LocalAddr()
	return &net.OpError{Op: op, Net: local.Network(), Addr: local, Err: cause}
}

// errCanceled and errTimeout have package net's texts for the two ways in which a context
// ends, and match the errors of the context, as package net's do.
var (
	errCanceled error = &contextError{"operation was canceled", context.Canceled, false}
	errTimeout  error = &contextError{"i/o timeout", context.DeadlineExceeded, true}
)

// errHandshakeTimeout says that a handshake of TLS has taken too long. The connection has failed,
// so the error does not match os.ErrDeadlineExceeded, after which a new deadline would help. It
// matches the error that tls.Conn.HandshakeContext returns.
var errHandshakeTimeout error = handshakeTimeout{}

type handshakeTimeout struct{}

func (handshakeTimeout) Error() string   { return "TLS handshake timeout" }
func (handshakeTimeout) Unwrap() error   { return context.DeadlineExceeded }
func (handshakeTimeout) Timeout() bool   { return true }
func (handshakeTimeout) Temporary() bool { return false }

type contextError struct {
	text    string
	is      error
	timeout bool
}

func (e *contextError) Error() string   { return e.text }
func (e *contextError) Unwrap() error   { return e.is }
func (e *contextError) Timeout() bool   { return e.timeout }
func (e *contextError) Temporary() bool { return e.timeout }

// contextErr returns the error of a context that has ended.
func contextErr(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errTimeout
	}
	return errCanceled
}
