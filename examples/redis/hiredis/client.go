// Package hiredis is the asynchronous client of the C library hiredis, on the event loop
// of a libevent.Base: hiredis puts events of its own on the same event_base, and Go
// closures get the replies.
//
// hiredis knows no locks: a Client is for the goroutine that runs its loop, or for any
// while no loop runs. Others go through Base.Post. Closures run on the loop's goroutine,
// in the order of the replies; they may use the client they belong to, and end it.
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
	// ErrClosed is the error of a closed client, and of the commands whose replies it did
	// not wait for. It matches net.ErrClosed.
	ErrClosed = fmt.Errorf("hiredis: %w", net.ErrClosed)
	// ErrSubscribed is the error of a command on a client with subscriptions: those take
	// the whole connection. A second client is the way.
	ErrSubscribed = errors.New("hiredis: the client has subscriptions")
)

// Client is one connection to a server.
type Client struct {
	base      *libevent.Base
	ac        *C.redisAsyncContext
	handle    cgo.Handle // in ac.data
	onConnect func()
	onEnd     func(error)

	// pending has what waits for replies. hiredis gets the key: if it ever called for what
	// is done, nothing would be found.
	pending map[uintptr]call
	last    uintptr
	subs    map[string]bool // by channel: whether it is being ended
	buf     []byte          // of commands

	// Which of its callbacks is below on the stack.
	inConnect, inReply bool

	cause error // why nothing can be sent any more
	over  bool  // hiredis frees ac, or soon will
	gone  bool  // it has no more to say than that what is pending gets no reply
	ended bool
}

// call is a command, or a subscription, which stays.
type call struct {
	reply func(value any, err error)
	stays bool
}

// Dial begins to connect to a literal address and port, or to a Unix socket's path, which
// has a slash in it. connected is called when that has succeeded, and ended once, after
// everything else: with nil after Close and Disconnect, otherwise with what went wrong,
// also when connecting. Both may be nil. Commands may be given at once. What fails at
// once is the error, and then neither is called.
// Names are refused: hiredis would block the loop while it looks them up.
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

func (c *Client) forget() {
	c.handle.Delete()
	live.Add(-1)
}

// split gives port 0 for a path.
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

// Do sends a command; arguments may have any bytes. reply is called once: with a string,
// an int64, nil, or a []any of these and of Error, or with an error: Error when that is the
// reply, ErrClosed after Close, or what happened to the connection. It may be nil. When Do
// returns an error, reply is not called.
// Commands that are not answered by one reply are refused: SUBSCRIBE and its kin, MONITOR,
// SYNC, PSYNC, HELLO, CLIENT REPLY.
// Loop goroutine only, or any while no loop runs. Wraps redisAsyncFormattedCommand.
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

// maxSpare bounds the memory that a large command leaves behind, in bytes.
const maxSpare = 64 << 10

// send sends a command whose replies are a call's.
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

func (c *Client) write(id uintptr, args ...string) error {
	c.buf = appendCommand(c.buf[:0], args)
	size := len(c.buf)
	c.buf = append(c.buf, 0) // hiredis looks one byte too far
	rc := C.goredis_command(c.ac, C.uintptr_t(id), (*C.char)(unsafe.Pointer(&c.buf[0])), C.size_t(size))
	if cap(c.buf) > maxSpare {
		c.buf = nil
	}
	if rc != C.REDIS_OK {
		return fmt.Errorf("hiredis: %w", syscall.ENOMEM)
	}
	return nil
}

func (c *Client) usable() error {
	if c.cause != nil {
		return c.cause
	}
	if c.base.Pointer() == nil {
		return libevent.ErrClosed
	}
	return nil
}

// Disconnect ends the client when the replies to all commands have come; no more can be
// sent. It does not wait for subscriptions.
// Loop goroutine only, or any while no loop runs. Wraps redisAsyncDisconnect.
func (c *Client) Disconnect() error {
	if c.over || len(c.pending) == len(c.subs) {
		return c.Close()
	}
	if err := c.usable(); err != nil {
		return err
	}
	c.cause = ErrClosed
	C.redisAsyncDisconnect(c.ac)
	return nil
}

// Close ends the client now. Commands without a reply, and subscriptions, get ErrClosed:
// before Close returns, or, called from a closure of this client, soon after that has
// returned. Closing what has ended does nothing.
// Loop goroutine only, or any while no loop runs. Wraps redisAsyncFree.
func (c *Client) Close() error {
	if c.over {
		return nil
	}
	c.cause = ErrClosed
	if c.base.Pointer() == nil {
		C.goredis_detach(c.ac)
	}
	if c.inConnect { // where hiredis 0.14 does not survive it
		return c.base.Post(c.free)
	}
	c.free()
	return nil
}

func (c *Client) free() {
	if c.over {
		return
	}
	c.over = true
	C.redisAsyncFree(c.ac)
	if !c.inReply { // from a reply's callback it is only noted
		c.gone = true
		c.settle()
	}
}

// --- what hiredis tells -------------------------------------------------------

func (c *Client) connected(ok bool) {
	if !ok {
		c.lost("connect")
		c.gone = true
		c.settle()
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
	c.settle()
}

func (c *Client) disconnected() {
	c.lost("read or write")
	c.gone = true
	c.settle()
}

// lost takes note that hiredis is about to free ac.
func (c *Client) lost(op string) {
	if c.over {
		return
	}
	c.over = true
	if c.ac.c.err != 0 {
		c.cause = c.failure(op)
	} else if c.cause == nil {
		c.cause = ErrClosed
	}
}

// failure is what hiredis says went wrong. It is in the inner context first.
func (c *Client) failure(op string) error {
	text := C.GoString(&c.ac.c.errstr[0])
	if c.ac.c.err == C.REDIS_ERR_EOF {
		return fmt.Errorf("hiredis: %s: %s: %w", op, text, io.EOF)
	}
	return fmt.Errorf("hiredis: %s: %s", op, text)
}

// settle ends the client when hiredis has no more to say.
func (c *Client) settle() {
	if !c.gone || len(c.pending) > 0 || c.ended {
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

// guard runs a closure of the user's. A panic must not pass the frames of hiredis and
// libevent below: it is raised again from a function of the loop's, with its stack.
func (c *Client) guard(closure func()) {
	returned := false
	defer func() {
		if returned {
			return
		}
		v := recover()
		if v == nil { // a Goexit: nothing stops it
			c.cause, c.over = libevent.ErrLoopAborted, true
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
