// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include "native.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

// These errors are matched with errors.Is.
var (
	// ErrClosed is the error of a method on a freed object. It matches
	// net.ErrClosed.
	ErrClosed error = &sentinel{"libevent: object is freed", net.ErrClosed}
	// ErrWouldBlock is the error of BufferEvent.Read, Receive and ReadFD when there is
	// nothing to read yet, and of WriteFD when the descriptor takes nothing now. It
	// matches syscall.EAGAIN.
	ErrWouldBlock error = &sentinel{"libevent: nothing to read yet, or no room to write", syscall.EAGAIN}
	// ErrWrongLoop is the error of a call that another goroutine has made while the loop
	// runs, and that only the loop's goroutine may make then. It usually comes inside
	// an *Error that names the call.
	ErrWrongLoop = errors.New("libevent: only the loop's goroutine may make this call while the loop runs (Base.Post brings it there)")
	// ErrRunning is the error of a call that is not possible while the loop runs, and so
	// not in a closure either: starting the loop, and freeing the base.
	ErrRunning = errors.New("libevent: the loop is running")
	// ErrLoopAborted is the error of every use of a loop after one of its closures, or a
	// FilterFunc on any goroutine, has called runtime.Goexit, as t.FailNow does. Goexit
	// removes libevent's frames from the stack, so the base cannot run again.
	ErrLoopAborted = errors.New("libevent: a closure called runtime.Goexit (t.FailNow, perhaps); the base cannot run again")
	// ErrLent is the error of a change to a buffer while a function of Peek, Pullup
	// or Reserve sees its bytes.
	ErrLent = errors.New("libevent: buffer is lent to a Peek, Pullup or Reserve")
	// ErrFrozen is the error of a change at a frozen end of a buffer. The ends that only
	// libevent may change are frozen: the back of the input of a bufferevent, and the
	// front of its output.
	ErrFrozen = errors.New("libevent: that end of the buffer is frozen")
)

// errFailed stands for a failure that libevent gives no reason for.
var errFailed = errors.New("failed")

// done is the error of a libevent function that returns 0 or -1.
func done(op string, rc C.int) error {
	if rc != 0 {
		return &Error{Op: op, Err: errFailed}
	}
	return nil
}

type sentinel struct {
	text string
	is   error
}

func (s *sentinel) Error() string { return s.text }
func (s *sentinel) Unwrap() error { return s.is }

// Error is the error of a call into libevent, or the cause of an EventError. Err is most often
// a syscall.Errno. For a refused argument, Err says which one and why, and matches
// syscall.EINVAL. For a failed lookup, Err is most often a *DNSError or a *net.DNSError. Error
// implements net.Error. If it is about a connection or a listener, it has the addresses, and
// its text is like that of a net.OpError.
type Error struct {
	Op  string // the libevent function, or "read", "write", "connect", "lookup", "listen", "accept", "filter"
	Err error  // the cause

	Net    string   // "tcp" or "unix", or "" if the error is not about an address
	Source net.Addr // the address of this end, or nil
	Addr   net.Addr // the address of the peer, or the one to listen on; or nil
}

// Error returns the operation, the addresses if there are any, and the text of Err.
func (e *Error) Error() string {
	// What Err says of itself is not said twice.
	err := strings.TrimPrefix(e.Err.Error(), "libevent: ")
	if e.Net == "" {
		if strings.HasPrefix(err, e.Op+" ") {
			return "libevent: " + err
		}
		return "libevent: " + e.Op + ": " + err
	}
	where := e.Op + " " + e.Net
	if e.Source != nil {
		where += " " + e.Source.String()
	}
	if e.Addr != nil {
		where += map[bool]string{true: "->", false: " "}[e.Source != nil] + e.Addr.String()
	}
	return where + ": " + err
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether the cause was a timeout.
func (e *Error) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.Is(e.Err, os.ErrDeadlineExceeded) || errors.As(e.Err, &t) && t.Timeout()
}

// Temporary reports whether the same call may succeed later.
func (e *Error) Temporary() bool {
	var t interface{ Temporary() bool }
	return errors.As(e.Err, &t) && t.Temporary()
}

// PanicError is the value with which Dispatch, Loop and Run panic after a closure has
// panicked. A trace of that second panic does not show the closure, so Stack has its stack.
type PanicError struct {
	Value any    // the value of the closure's panic
	Stack []byte // as runtime/debug.Stack returns it
}

// Error returns the value of the panic and the stack of the closure.
func (e *PanicError) Error() string {
	return fmt.Sprintf("libevent: panic in a closure: %v\n\n%s", e.Value, e.Stack)
}

// Unwrap returns Value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// badArgument is the error of an argument that libevent would not survive, or would
// take for something else without an error.
func badArgument(op, format string, args ...any) error {
	return &Error{Op: op, Err: &sentinel{fmt.Sprintf(format, args...), syscall.EINVAL}}
}

// named says which call ErrWrongLoop is about.
func named(op string, err error) error {
	if err == ErrWrongLoop {
		return &Error{Op: op, Err: err}
	}
	return err
}

// loopAborted is Go's own among the codes that C functions return.
const loopAborted C.int64_t = -2000000

// isInvalid reports whether a call has returned EINVAL, which has no words of its own yet.
func isInvalid(err error) bool {
	e, ok := err.(*Error)
	return ok && e.Err == syscall.EINVAL
}

// result converts the result of a C function of the binding.
func result(op string, rc C.int64_t) (int, error) {
	switch {
	case rc >= 0:
		return int(rc), nil
	case rc == C.GLEV_WRONG_LOOP:
		return 0, named(op, ErrWrongLoop)
	case rc == C.GLEV_RUNNING:
		return 0, ErrRunning
	case rc == C.GLEV_CLOSED:
		return 0, ErrClosed
	case rc == loopAborted:
		return 0, ErrLoopAborted
	case rc == C.GLEV_IN_FILE:
		return 0, &Error{Op: op, Err: &sentinel{"bytes that are still in a file cannot be looked at", errors.ErrUnsupported}}
	case rc == C.GLEV_LENT:
		return 0, ErrLent
	case rc == C.GLEV_FROZEN:
		return 0, ErrFrozen
	case rc == C.GLEV_SHUT:
		return 0, &Error{Op: op, Err: syscall.EPIPE}
	case rc == C.GLEV_FILTERED:
		return 0, badArgument(op, "a filter is on top of this bufferevent: use the filter")
	case rc == C.GLEV_NO_LIMIT:
		return 0, badArgument(op, "no rate limit is set")
	case rc == C.GLEV_LIMITED:
		return 0, badArgument(op, "it has or had a rate limit, whose timer stays on its base")
	case rc == C.GLEV_NO_STREAM:
		return 0, badArgument(op, "fd is a socket of datagrams or packets: a bufferevent needs a stream")
	case rc == C.GLEV_LISTENS:
		return 0, badArgument(op, "fd is a listening socket: ListenFD takes it")
	case rc == C.GLEV_NO_SOCKET:
		return 0, badArgument(op, "not a socket, but one end of a pair or a filter")
	}
	return 0, &Error{Op: op, Err: syscall.Errno(-rc)}
}
