// SPDX-License-Identifier: BSD-3-Clause

// Package hiredis is the asynchronous client of the C library hiredis, on the event loop
// of a libevent.Base: hiredis puts events of its own on the same event_base, and Go
// closures get the replies.
//
// hiredis has no locks. Only the goroutine that runs the loop may use a Client, or any
// goroutine while no loop runs; other goroutines use Base.Post. Closures run on the loop's
// goroutine, in the order of the replies. They may use their client and end it.
package hiredis

/*
#include <stdlib.h>
#include "client.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/cgo"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/go-libevent/libevent"
)

var (
	// ErrClosed is the error of calls on a closed client, and of commands whose replies had
	// not come when it was closed. It matches net.ErrClosed.
	ErrClosed = fmt.Errorf("hiredis: %w", net.ErrClosed)
	// ErrSubscribed is the error of a command on a client with subscriptions, which take
	// the whole connection. Use a second client.
	ErrSubscribed = errors.New("hiredis: the client has subscriptions")
)

// Client is one connection to a server.
// Loop goroutine only, or any while no loop runs.
type Client struct {
	base      *libevent.Base
	ac        *C.redisAsyncContext
	handle    cgo.Handle // in ac.data
	onConnect func()
	onEnd     func(error)

	// pending has the calls that wait for replies. hiredis gets only the key, so a callback
	// for a call that is done would find nothing.
	pending map[uintptr]call
	last    uintptr
	subs    map[string]bool // by channel: whether Unsubscribe was called
	buf     []byte          // for the bytes of commands

	// Whether that callback of hiredis is on the stack.
	inConnect, inReply bool

	cause    error // why nothing can be sent any more
	freed    bool  // ac must not be used: hiredis has freed it or is about to
	finished bool  // hiredis calls no more, except for pending calls, which get no reply
	ended    bool  // onEnd was called, or is about to be
}

// call is a command or a subscription.
type call struct {
	reply func(value any, err error)
	stays bool // a subscription, which gets more than one reply
}

// Dial begins to connect to a literal address and port, or to the path of a Unix socket,
// which has a slash in it. connected is called once the connection is made. ended is called
// once, as the last closure: with nil after Close and Disconnect, or else with the error that
// ended the connection or kept it from being made. Both may be nil. Commands may be sent
// before the connection is made. If Dial returns an error, neither closure is called.
// Dial refuses names: hiredis would block the loop while it looks them up.
// The client must be closed before its base is freed.
// Loop goroutine only, or any while no loop runs. Wraps redisAsyncConnect and
// redisAsyncConnectUnix.
func Dial(base *libevent.Base, addr string, connected func(), ended func(error)) (*Client, error) {
	host, port, err := split(addr)
	if err != nil {
		return nil, err
	}
	native := base.Pointer()
	if native == nil {
		return nil, libevent.ErrClosed
	}
	c := &Client{
		base:      base,
		onConnect: connected,
		onEnd:     ended,
		pending:   map[uintptr]call{},
		subs:      map[string]bool{},
	}
	c.handle = cgo.NewHandle(c)
	live.Add(1)
	name := C.CString(host)
	defer C.free(unsafe.Pointer(name))
	c.ac = C.goredis_dial((*C.struct_event_base)(native), name, C.int(port), C.uintptr_t(c.handle))
	if c.ac == nil {
		c.forget()
		return nil, fmt.Errorf("hiredis: connect to %s: %w", addr, syscall.ENOMEM)
	}
	if c.ac.err != 0 {
		err := c.failure("connect to " + addr)
		C.redisAsyncFree(c.ac)
		c.forget()
		return nil, err
	}
	return c, nil
}

// Live counts the clients that have not ended.
// Safe for concurrent use.
func Live() int { return int(live.Load()) }

var live atomic.Int64

// forget deletes the handle.
func (c *Client) forget() {
	c.handle.Delete()
	live.Add(-1)
}

// split splits an address into host and port. For a path the port is 0.
func split(addr string) (host string, port uint16, err error) {
	if strings.ContainsRune(addr, 0) {
		return "", 0, fmt.Errorf("hiredis: address %q has a zero byte", addr)
	}
	if strings.Contains(addr, "/") {
		return addr, 0, nil
	}
	ap, err := netip.ParseAddrPort(addr)
	if err == nil && ap.Port() == 0 {
		err = errors.New("port is 0")
	}
	if err != nil {
		return "", 0, fmt.Errorf("hiredis: address %q is neither a literal address with a port nor a path: %w", addr, err)
	}
	return ap.Addr().String(), ap.Port(), nil
}

// Do sends a command. Its arguments may have any bytes. reply, which may be nil, is called
// once. Its value is a string, an int64, nil, or a []any of these and of Error. Its error is
// an Error if the server replied with one, ErrClosed after Close, or the error that ended the
// connection. If Do returns an error, reply is not called.
// Do refuses commands that are not answered by exactly one reply: SUBSCRIBE and similar ones,
// MONITOR, SYNC, PSYNC, HELLO, CLIENT REPLY.
// Wraps redisAsyncFormattedCommand.
func (c *Client) Do(reply func(value any, err error), args ...string) error {
	if err := check(args); err != nil {
		return err
	}
	if len(c.subs) > 0 {
		return ErrSubscribed
	}
	if reply == nil {
		reply = func(any, error) {}
	}
	return c.send(call{reply: reply}, args...)
}

// maxSpare is the size, in bytes, up to which the buffer of a command is kept for the next.
const maxSpare = 64 << 10

// send sends a command. Its replies go to call.
func (c *Client) send(call call, args ...string) error {
	if err := c.usable(); err != nil {
		return err
	}
	c.last++
	if err := c.write(c.last, args...); err != nil {
		return err
	}
	c.pending[c.last] = call
	return nil
}

// write gives a command to hiredis. The replies come with id.
func (c *Client) write(id uintptr, args ...string) error {
	c.buf = appendCommand(c.buf[:0], args)
	size := len(c.buf)
	c.buf = append(c.buf, 0) // hiredis reads one byte beyond the command
	rc := C.goredis_command(c.ac, C.uintptr_t(id), (*C.char)(unsafe.Pointer(&c.buf[0])), C.size_t(size))
	if cap(c.buf) > maxSpare {
		c.buf = nil
	}
	if rc != C.REDIS_OK {
		return fmt.Errorf("hiredis: %w", syscall.ENOMEM)
	}
	return nil
}

// usable returns an error if nothing can be sent.
func (c *Client) usable() error {
	if c.cause != nil {
		return c.cause
	}
	if c.base.Pointer() == nil {
		return libevent.ErrClosed
	}
	return nil
}

// Disconnect ends the client once the replies to all commands have come. It does not wait for
// subscriptions. After Disconnect no command can be sent.
// Wraps redisAsyncDisconnect.
func (c *Client) Disconnect() error {
	if c.freed || len(c.pending) == len(c.subs) {
		return c.Close()
	}
	if err := c.usable(); err != nil {
		return err
	}
	c.cause = ErrClosed
	C.redisAsyncDisconnect(c.ac)
	return nil
}

// Close ends the client now. Commands that wait for replies, and subscriptions, get ErrClosed
// before Close returns. If a closure of this client calls Close, they get it soon after that
// closure has returned. On a client that has ended, Close does nothing.
// Wraps redisAsyncFree.
func (c *Client) Close() error {
	if c.freed {
		return nil
	}
	c.cause = ErrClosed
	if c.base.Pointer() == nil {
		C.goredis_detach(c.ac)
	}
	if c.inConnect { // hiredis 0.14 crashes if it is freed in its connect callback
		return c.base.Post(c.free)
	}
	c.free()
	return nil
}

func (c *Client) free() {
	if c.freed {
		return
	}
	c.freed = true
	C.redisAsyncFree(c.ac)
	if !c.inReply { // in a reply's callback hiredis only notes that it is to be freed
		c.finished = true
		c.endIfDone()
	}
}

// --- what hiredis tells -------------------------------------------------------

func (c *Client) connected(ok bool) {
	if !ok {
		c.lost("connect")
		c.finished = true
		c.endIfDone()
		return
	}
	if c.onConnect != nil {
		c.inConnect = true
		defer func() { c.inConnect = false }()
		c.guard(c.onConnect)
	}
}

func (c *Client) replied(id uintptr, r *C.redisReply) {
	call, ok := c.pending[id]
	if !ok {
		return
	}
	var v any
	var err error
	if r == nil {
		c.lost("wait for the reply")
		err = c.cause
	} else if v = value(r); v != nil {
		if e, is := v.(Error); is {
			v, err = nil, e
		}
	}
	if !call.stays || r == nil {
		delete(c.pending, id)
	}
	outer := c.inReply
	c.inReply = r != nil
	c.guard(func() { call.reply(v, err) })
	c.inReply = outer
	c.endIfDone()
}

func (c *Client) disconnected() {
	c.lost("read or write")
	c.finished = true
	c.endIfDone()
}

// lost records why hiredis is about to free ac.
func (c *Client) lost(op string) {
	if c.freed {
		return
	}
	c.freed = true
	if c.ac.c.err != 0 {
		c.cause = c.failure(op)
	} else if c.cause == nil {
		c.cause = ErrClosed
	}
}

// failure returns the error that hiredis reports. hiredis sets it in the inner context first.
func (c *Client) failure(op string) error {
	text := C.GoString(&c.ac.c.errstr[0])
	if c.ac.c.err == C.REDIS_ERR_EOF {
		return fmt.Errorf("hiredis: %s: %s: %w", op, text, io.EOF)
	}
	return fmt.Errorf("hiredis: %s: %s", op, text)
}

// endIfDone ends the client once hiredis calls no more callbacks for it.
func (c *Client) endIfDone() {
	if !c.finished || len(c.pending) > 0 || c.ended {
		return
	}
	c.ended = true
	c.forget()
	if c.onEnd == nil {
		return
	}
	err := c.cause
	if err == ErrClosed {
		err = nil
	}
	c.guard(func() { c.onEnd(err) })
}

// guard runs a closure of the user. A panic must not unwind the frames of hiredis and
// libevent below. So guard raises it again from a posted function, with its stack.
func (c *Client) guard(closure func()) {
	returned := false
	defer func() {
		if returned {
			return
		}
		v := recover()
		if v == nil { // a Goexit, which nothing can stop
			c.cause, c.freed = libevent.ErrLoopAborted, true
			c.forget()
			return
		}
		p, ok := v.(*libevent.PanicError)
		if !ok {
			p = &libevent.PanicError{Value: v, Stack: debug.Stack()}
		}
		if err := c.base.Post(func() { panic(p) }); err != nil {
			slog.Error("hiredis: panic in a closure, and no loop to raise it", "panic", p, "error", err)
		}
	}()
	closure()
	returned = true
}
