// SPDX-License-Identifier: BSD-3-Clause

package openssl

/*
#include <errno.h>
#include "native.h"
*/
import "C"

import (
	"errors"
	"io"
	"os"
	"runtime/cgo"
	"strings"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/adopt"
)

// Conn is a bufferevent that speaks TLS. It has all methods of [libevent.BufferEvent], with
// these meanings:
//
//   - The handshake starts with SetCallbacks or Enable, also of a filter on the connection, if
//     there is a socket. Otherwise it starts when Connect, ConnectHostname or SetFD has brought
//     one.
//   - EventConnected is the end of the handshake. What is written before that waits for it,
//     and the timeouts limit the handshake.
//   - If the context of a client has no ServerName, the certificate of the server must be for
//     the host that ConnectHostname is called with, or for the IP address that Connect is called
//     with. An address with which the handshake fails counts for ConnectHostname as one that does
//     not take the connection.
//   - EventEOF is the peer's close_notify. The package's doc tells of other ends.
//   - CloseWrite and FreeAfterFlush send close_notify after the last byte. In the handshake
//     FreeAfterFlush frees at once if there is nothing to write, and the peer's handshake fails.
//   - With OptLoopOnly it has OptDeferCallbacks as well.
//   - SetFD starts a new connection on another socket. In the middle of a renegotiation, and
//     after one that has failed, OpenSSL cannot do that: SetFD and Connect return an error that
//     matches syscall.EBUSY, and the program makes another Conn.
//
// Its own methods are safe for concurrent use unless it was made with libevent.OptLoopOnly. Then
// they are for the loop's goroutine, or for any goroutine while no loop runs.
type Conn struct {
	*libevent.BufferEvent
	c    *C.struct_gtls_conn
	ctx  *shared
	name atomic.Pointer[string] // that the server must have; nil if none is known

	followed atomic.Pointer[shared] // what GetConfigForClient has chosen in this handshake, or nil
	held     []*shared              // the contexts that it has chosen and OpenSSL may still use
	missed   bool                   // the last one that it has chosen was freed before the handshake could follow it

	named bool        // the context has a ServerName
	ended atomic.Bool // the event closure was told io.EOF
	dirty atomic.Bool // SetAllowDirtyShutdown
	gone  atomic.Bool // its memory in C is given back

	failed  atomic.Pointer[error]           // of Go; the next error event takes it
	peer    atomic.Pointer[peer]            // that the handshake has found
	offered atomic.Pointer[peer]            // of the session that the handshake tries to resume
	next    atomic.Pointer[ConnectionState] // of a handshake that is done, before EventConnected
	state   atomic.Pointer[ConnectionState] // since EventConnected
}

// NewSocket makes a TLS connection on a stream socket. It accepts if c is the context of a
// server, and connects if c is the context of a client.
//
// A client expects the ServerName of its context or, if that is empty, the name that Connect
// or ConnectHostname is called with. If no name is known and InsecureSkipVerify is not set,
// NewSocket with a descriptor, Connect and ConnectHostname return an error, and after SetFD
// the handshake fails.
//
// If err is nil, fd was made non-blocking. With OptCloseOnFree the connection owns fd. Without
// it the caller does, who closes fd after Free. If err is not nil, fd stays the caller's.
// Loop goroutine only with OptLoopOnly, or any goroutine while no loop runs. Wraps
// bufferevent_openssl_socket_new.
func (c *Context) NewSocket(base *libevent.Base, fd int, opts libevent.Options) (*Conn, error) {
	const op = "bufferevent_openssl_socket_new"
	if base == nil {
		return nil, badArgument(op, "base is nil")
	}
	if fd < -1 {
		return nil, badArgument(op, "fd is %d", fd)
	}
	if fd >= 0 {
		if err := c.checkName(op); err != nil {
			return nil, err
		}
		if rc := C.gtls_check_fd(C.int(fd)); rc != 0 {
			return nil, &libevent.Error{Op: op, Err: syscall.Errno(rc)}
		}
	}
	conn, err := c.newConn(op, base, opts, nil)
	if err != nil || fd < 0 {
		return conn, err
	}
	_, err = adopt.Call(conn.BufferEvent, op, func() int64 {
		return int64(C.gtls_conn_set_fd(conn.c, C.int(fd)))
	})
	if err != nil {
		conn.Free()
		return nil, err
	}
	return conn, nil
}

// readAhead is how many bytes may wait in the input of the bufferevent below a filter: some
// TLS records.
const readAhead = 64 << 10

// NewFilter puts TLS on another bufferevent. It accepts if c is the context of a server, and
// connects if c is the context of a client. If under is not connected yet, the handshake waits for
// that, and a ConnectHostname of under ends with the first address that takes the connection. Under
// connects once: after that, also if it was refused, Connect and ConnectHostname of under return an error
// that matches syscall.EBUSY, unless the connection has been freed before. SetFD of under may take
// the descriptor away and give it back. The
// connection owns under until the connection is freed, and gives it a read watermark of 64 KiB,
// which under keeps. With OptCloseOnFree under is freed with the connection.
// Loop goroutine only with OptLoopOnly, or any goroutine while no loop runs. Wraps
// bufferevent_openssl_filter_new.
func (c *Context) NewFilter(under *libevent.BufferEvent, opts libevent.Options) (*Conn, error) {
	const op = "bufferevent_openssl_filter_new"
	if under == nil {
		return nil, badArgument(op, "under is nil")
	}
	if err := c.checkName(op); err != nil {
		return nil, err
	}
	conn, err := c.newConn(op, under.Base(), opts, under)
	if err != nil {
		return nil, err
	}
	// libevent has removed the watermark of under. Without one a pair would move all bytes
	// there at once, however many.
	if err := under.SetWatermark(libevent.EvRead, 0, readAhead); err != nil {
		conn.Free()
		return nil, err
	}
	return conn, nil
}

// checkName refuses a client that verifies and does not know the server's name.
func (c *Context) checkName(op string) error {
	if !c.server && c.name == "" && c.trust.verified {
		return badArgument(op, "the server's name is not known: set ServerName or InsecureSkipVerify")
	}
	return nil
}

func (c *Context) newConn(op string, base *libevent.Base, opts libevent.Options, under *libevent.BufferEvent) (*Conn, error) {
	if !c.enter() {
		return nil, errFreed(op)
	}
	conn := &Conn{ctx: c.shared}
	handle := cgo.NewHandle(conn)
	live.conns.Add(1)
	defer func() {
		if conn.BufferEvent == nil { // also if Config.Time has panicked
			if conn.c != nil {
				C.gtls_conn_free(conn.c)
			}
			releaseConn(handle)
		}
	}()
	var code C.ulong
	conn.c = C.gtls_conn_new(c.c, C.int64_t(c.timeout.Microseconds()), C.uintptr_t(handle), &code)
	if conn.c == nil {
		return nil, newError(op, code)
	}
	conn.named = c.name != ""
	if err := conn.setName(op, c.name); err != nil {
		return nil, err
	}
	var below any
	if under != nil {
		below = under
	}
	// Otherwise, with OptLoopOnly, libevent would call the event closure for an end in the middle of its reading,
	// before the read closure has had the last bytes.
	bev, err := adopt.New(base, uint32(opts|libevent.OptDeferCallbacks), below, conn.kind())
	if err != nil {
		return nil, err
	}
	conn.BufferEvent = bev.(*libevent.BufferEvent)
	return conn, nil
}

// kind has the functions by which the root package uses the connection.
func (c *Conn) kind() *adopt.Kind {
	return &adopt.Kind{
		Make:     unsafe.Pointer(C.gtls_make),
		Arg:      unsafe.Pointer(c.c),
		Quiet:    unsafe.Pointer(C.gtls_quiet),
		Gone:     unsafe.Pointer(C.gtls_gone),
		Codes:    unsafe.Pointer(C.gtls_codes),
		Shutdown: unsafe.Pointer(C.gtls_shutdown),
		Start:    unsafe.Pointer(C.gtls_start),
		IsLinked: unsafe.Pointer(C.gtls_is_linked),
		IsOpen:   unsafe.Pointer(C.gtls_is_open),
		Sent:     unsafe.Pointer(C.gtls_sent),
		Owner:    c,
		Dial:     c.expect,
		Event:    c.onEvent,
		Socket:   unsafe.Pointer(C.gtls_socket),
		Begin:    unsafe.Pointer(C.gtls_begin),
		End:      unsafe.Pointer(C.gtls_end),
		Recv:     unsafe.Pointer(C.gtls_recv),
		Pending:  unsafe.Pointer(C.gtls_pending),
		Send:     unsafe.Pointer(C.gtls_send),
	}
}

// releaseConn gives back what a connection holds in Go, after its memory in C was freed.
func releaseConn(handle cgo.Handle) {
	conn := handle.Value().(*Conn)
	handle.Delete()
	conn.gone.Store(true)
	conn.ctx.leave()
	conn.leaveAllBut(nil)
	live.conns.Add(-1)
}

// ConnOf returns the connection whose bufferevent b is, in a closure for example. If b is a filter
// on a connection, it returns that connection, and if there is none, nil.
func ConnOf(b *libevent.BufferEvent) *Conn {
	if b == nil {
		return nil
	}
	conn, _ := adopt.OwnerOf(b).(*Conn)
	return conn
}

// rules returns the context that the handshake follows.
func (c *Conn) rules() *shared {
	if followed := c.followed.Load(); followed != nil {
		return followed
	}
	return c.ctx
}

// serverName returns the name that the server must have, or "" if none is known.
func (c *Conn) serverName() string {
	if name := c.name.Load(); name != nil {
		return *name
	}
	return ""
}

// setName sets the name that the server must have, and the session that the handshake tries to
// resume. Call it before the handshake.
func (c *Conn) setName(op, name string) error {
	if c.ctx.server || name == "" && c.name.Load() == nil {
		return nil
	}
	c.name.Store(&name)
	asked := strings.TrimRight(name, ".") // only resolvers use the dot
	if isIP(name) {
		asked = ""
	}
	if code := C.gtls_conn_set_name(c.c, cStringOrNil(asked)); code != 0 {
		return newError(op, code)
	}
	session, p := c.ctx.sessions.get(name, &c.ctx.trust)
	c.offered.Store(p)
	C.gtls_conn_set_session(c.c, session)
	return nil
}

// expect makes host the name that the server must have, unless the context has a ServerName. The
// root package calls it before it connects to host, and undo if it cannot connect.
func (c *Conn) expect(op, host string) (undo func(), err error) {
	if c.ctx.server || c.named {
		return func() {}, nil
	}
	if host == "" && c.ctx.trust.verified {
		return nil, badArgument(op, "the server's name is not known: set ServerName or InsecureSkipVerify")
	}
	if err := checkServerName(op, host); err != nil {
		return nil, err
	}
	before := c.name.Load()
	if _, refused := adopt.Call(c.BufferEvent, op, func() int64 {
		rc := int64(C.gtls_conn_may_connect(c.c))
		if rc == 0 {
			err = c.setName(op, host)
		}
		return rc
	}); refused != nil {
		return nil, refused
	}
	undo = func() { c.restoreName(op, before) }
	if err != nil {
		undo()
	}
	return undo, err
}

func (c *Conn) restoreName(op string, name *string) {
	if name != nil {
		_ = c.setName(op, *name) // as it was set before
		return
	}
	_ = c.setName(op, "")
	c.name.Store(nil)
}

// --- events ---------------------------------------------------------------------

const directions = libevent.EventReading | libevent.EventWriting

// onEvent corrects what libevent reports of TLS, and finds the cause.
func (c *Conn) onEvent(native int, errno syscall.Errno, codes []uint64) (int, error) {
	return c.learn(native, errno, codes, false)
}

// onEventBelow is called for an event of the connection below c, which tells the program nothing itself.
// Its failure is the cause of that of c.
func (c *Conn) onEventBelow(below *Conn, native int, errno syscall.Errno, codes []uint64) {
	what, err := below.learn(native, errno, codes, true)
	if libevent.Events(what)&libevent.EventError != 0 && err != io.ErrUnexpectedEOF {
		c.failed.CompareAndSwap(nil, &err)
	}
}

// learn takes an event of libevent's. It returns what that is for the program, and the cause.
func (c *Conn) learn(native int, errno syscall.Errno, codes []uint64, below bool) (int, error) {
	first := firstOf(codes)
	if C.gtls_lib(first) == C.ERR_LIB_SYS { // OpenSSL 3.5 and newer report the errno of a write this way
		errno, first = syscall.Errno(C.gtls_reason(first)), 0
	}
	state := C.gtls_conn_event(c.c, C.short(native), C.int(errno), cBool(below))
	if state.lost_end != 0 {
		native |= int(libevent.EventReading)
	}
	what := libevent.Events(native)
	if state.open == 0 && state.begun != 0 && what&(libevent.EventEOF|libevent.EventError) != 0 && !c.ctx.server {
		c.ctx.sessions.forget(c.serverName(), c.offered.Swap(nil))
		C.gtls_conn_set_session(c.c, nil)
	}
	// A timeout may come together with an end or an error, which is then the cause.
	timeout := what & libevent.EventTimeout
	switch {
	case what&libevent.EventConnected != 0:
		if state.refused != 0 { // EventError follows
			return 0, nil
		}
		// On a filter libevent reports a renegotiation as done that OpenSSL puts off, because the peer is in the
		// middle of a record.
		if s := c.next.Swap(nil); s != nil {
			c.state.Store(s)
		}
		c.ended.Store(false)
		return native, nil
	case what == libevent.EventTimeout && state.open != 0: // the limit of the handshake, which has just ended
		return 0, nil
	case what&(libevent.EventEOF|libevent.EventError) == 0:
		if timeout != 0 {
			return native, os.ErrDeadlineExceeded
		}
		return native, nil
	case state.refused != 0 && state.failed_before == 0: // OpenSSL's own end of it means nothing
		return int(timeout | libevent.EventReading | libevent.EventError), c.causeOf(what, errno, first, state)
	case state.close_notify != 0 && state.refused == 0 && what&libevent.EventEOF != 0:
		// EventWriting says that a write has failed as well, because the peer has gone, or
		// that the timeout is one of writing.
		report := timeout
		if what&libevent.EventWriting != 0 {
			report |= libevent.EventWriting
			if timeout == 0 {
				report |= libevent.EventError
			}
		}
		if c.ended.Swap(true) && what&libevent.EventReading == 0 {
			return int(report), &libevent.Error{Op: "write", Err: syscall.EPIPE}
		}
		return int(report | libevent.EventReading | libevent.EventEOF), io.EOF
	case state.failed_before != 0:
		// A failure is reported once, even if the user enables the connection again.
		if timeout == 0 {
			return 0, nil
		}
		return native &^ int(libevent.EventEOF|libevent.EventError), os.ErrDeadlineExceeded
	}
	err := c.causeOf(what, errno, first, state)
	if err != io.ErrUnexpectedEOF {
		if what&libevent.EventEOF != 0 { // not close_notify, but what libevent makes of a fatal alert
			what = what&^libevent.EventEOF | libevent.EventError
		}
		return int(what), err
	}
	if c.dirty.Load() {
		return int(timeout | libevent.EventReading | libevent.EventEOF), err
	}
	return int(timeout | libevent.EventReading | libevent.EventError), err
}

// What a peer has done that the connection does not bear. errFlood has the words of crypto/tls.
var (
	errFlood  = errors.New("openssl: read: too many non-advancing records")
	errHalt   = errors.New("openssl: write: the peer has sent only a part of a handshake message")
	errOffers = errors.New("openssl: handshake: the client offers more than 16 key shares or tickets, 1000 cipher suites, or 256 authorities in 16 KiB")
	errNames  = errors.New("openssl: handshake: the server names more than 1000 authorities, or one in more than 4096 bytes, or their names have more than 8192 parts")
	errChain  = errors.New("openssl: handshake: the peer has sent more than 10 certificates")
	errKey    = errors.New("openssl: handshake: a certificate of the peer cannot be parsed, or has a kind of key that is not accepted, or a name of more than 4096 bytes")
	errParts  = errors.New("openssl: handshake: the names and extensions of the peer's certificates have more than 4096 parts")
)

func gaveUp(why C.int) error {
	switch why {
	case C.GTLS_FLOODED:
		return errFlood
	case C.GTLS_HALTED:
		return errHalt
	case C.GTLS_TOO_MANY_OFFERS:
		return errOffers
	case C.GTLS_TOO_MANY_NAMES:
		return errNames
	case C.GTLS_TOO_MANY_CERTS:
		return errChain
	case C.GTLS_TOO_MANY_PARTS:
		return errParts
	case C.GTLS_BAD_KEY:
		return errKey
	case C.GTLS_TIMED_OUT:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// firstOf returns OpenSSL's first error. libevent gives OpenSSL's codes in reverse order, and then their
// class, an SSL_ERROR_, which belongs to no library.
func firstOf(codes []uint64) (first C.ulong) {
	for _, code := range codes {
		if C.gtls_lib(C.ulong(code)) != 0 {
			first = C.ulong(code)
		}
	}
	return first
}

// causeOf returns why the connection failed; first is OpenSSL's first error, or 0. When the bufferevent
// below a filter ends, libevent reports only EventError, and errno has no meaning then. Nor has it if
// a timeout has come with a failed write.
func (c *Conn) causeOf(what libevent.Events, errno syscall.Errno, first C.ulong, state C.struct_gtls_event) error {
	if failed := c.failed.Swap(nil); failed != nil {
		return *failed
	}
	if err := gaveUp(state.gave_up); err != nil {
		return err
	}
	op := "read"
	switch {
	case state.nothing_received != 0:
		op = "connect"
	case state.open == 0:
		op = "handshake"
	case what&libevent.EventWriting != 0:
		op = "write"
	}
	switch {
	case C.gtls_is_unexpected_eof(first) != 0:
		return io.ErrUnexpectedEOF
	case first != 0:
		return newError(op, first)
	case state.socket_eof != 0 && state.nothing_received == 0 && what&libevent.EventReading != 0:
		return io.ErrUnexpectedEOF
	case op == "write" && (errno == 0 || errno == syscall.EAGAIN):
		errno = syscall.EPIPE
	case errno == 0 || errno == syscall.EAGAIN || errno == syscall.EINPROGRESS || what == libevent.EventError && state.nothing_received == 0:
		return io.ErrUnexpectedEOF
	}
	return &libevent.Error{Op: op, Err: errno}
}

// --- renegotiation and the end ------------------------------------------------------

// Renegotiate starts a new handshake on an open connection of TLS 1.2 or below, if the context
// allows it. On the loop's goroutine it starts at once, and elsewhere in the loop's next turn. If a
// record has come only in part, it starts after that record. If a handshake of the peer is under way
// already, that one counts. What is written meanwhile waits for the end of the handshake. The event
// closure is told EventConnected again at the end of the handshake, or EventError if it fails. With
// TLS 1.3, or if the context does not allow it, the error matches errors.ErrUnsupported.
//
// On a filter, libevent does the handshake. There OpenSSL ends the connection with "unexpected record"
// if the peer is sending data, so the peer has to stop before, and a server is told EventConnected
// when it has asked its client for a handshake.
// Stands for bufferevent_ssl_renegotiate.
func (c *Conn) Renegotiate() error {
	const op = "bufferevent_ssl_renegotiate"
	renegotiate := func(begin C.int) error {
		_, err := adopt.Call(c.BufferEvent, op, func() int64 { return int64(C.gtls_conn_renegotiate(c.c, begin)) })
		return err
	}
	if adopt.OnLoop(c.BufferEvent) {
		return renegotiate(1)
	}
	if err := renegotiate(0); err != nil {
		return err
	}
	// A failure in the next turn is an event, or the connection was freed before.
	return c.Base().Post(func() { _ = renegotiate(1) })
}

// SetAllowDirtyShutdown chooses whether an end without close_notify is reported as EventEOF
// instead of EventError. The cause stays io.ErrUnexpectedEOF, and a reset stays EventError.
// Stands for bufferevent_openssl_set_allow_dirty_shutdown, which also takes a reset for an end,
// and which has no effect with OpenSSL 3.
func (c *Conn) SetAllowDirtyShutdown(allow bool) { c.dirty.Store(allow) }

// AllowDirtyShutdown returns what SetAllowDirtyShutdown has chosen.
// Stands for bufferevent_openssl_get_allow_dirty_shutdown.
func (c *Conn) AllowDirtyShutdown() bool { return c.dirty.Load() }

// SSL returns the native SSL, for C code on the loop's thread. It may be used until Free. If
// the connection is freed, SSL returns nil.
// Wraps bufferevent_openssl_get_ssl.
func (c *Conn) SSL() unsafe.Pointer {
	var ssl unsafe.Pointer
	_, _ = adopt.Call(c.BufferEvent, "bufferevent_openssl_get_ssl", func() int64 {
		ssl = unsafe.Pointer(C.gtls_conn_ssl(c.c))
		return 0
	})
	return ssl
}
