package openssl

/*
#include <errno.h>
#include "native.h"
*/
import "C"

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"runtime/cgo"
	"strings"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/adopt"
)

// Conn is a bufferevent that speaks TLS. All of [libevent.BufferEvent] is there, with this
// meaning:
//
//   - EventConnected is the end of the handshake. What is written before waits for it. The
//     timeouts are those of the handshake before it.
//   - EventEOF is the peer's close_notify; see the package's doc for other ends.
//   - CloseWrite and FreeAfterFlush send close_notify after the last byte.
//   - SetFD begins a new connection on another socket.
type Conn struct {
	*libevent.BufferEvent
	c    *C.struct_gtls_conn
	ctx  *shared
	name atomic.Pointer[string] // that the peer is to have, or ""

	named     bool // by its context
	begun     atomic.Bool
	connected atomic.Bool
	ended     atomic.Bool // io.EOF was told
	dirty     atomic.Bool
	failed    atomic.Pointer[tls.CertificateVerificationError]
	chains    atomic.Pointer[[][]*x509.Certificate]
	state     atomic.Pointer[ConnectionState]
}

// NewSocket makes a TLS connection on a stream socket, which accepts if c is a server's
// context and connects if it is a client's. The handshake begins with SetCallbacks, or with
// Enable if that comes first. With fd -1 it begins when Connect, ConnectHostname or SetFD
// has brought a socket.
//
// A client expects the ServerName of its context, or, if that is empty, what it is told to
// connect to. It is an error if there is neither, as with SetFD, where the handshake fails,
// unless InsecureSkipVerify is set.
//
// If err is nil, fd was made non-blocking; with OptCloseOnFree it is the connection's,
// without that it stays the caller's, who closes it after Free. If err is not nil, it stays
// the caller's.
// Safe for concurrent use. Wraps bufferevent_openssl_socket_new.
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

// readAhead is how many bytes a filter lets wait below it: some records.
const readAhead = 64 << 10

// NewFilter puts TLS on another bufferevent: it accepts if c is a server's context and
// connects if it is a client's. The handshake begins with SetCallbacks, or when what is
// below is connected after that. What is below belongs to the connection until that is
// freed, and has a read watermark of 64 KiB from then on; with OptCloseOnFree it is freed with it.
// Safe for concurrent use. Wraps bufferevent_openssl_filter_new.
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
	// libevent takes the mark away, and a pair would move there whatever there is.
	if err := under.SetWatermark(libevent.EvRead, 0, readAhead); err != nil {
		conn.Free()
		return nil, err
	}
	return conn, nil
}

// checkName refuses to connect to somebody nobody knows.
func (c *Context) checkName(op string) error {
	if !c.server && c.name == "" && c.verify != C.GTLS_VERIFY_NOTHING {
		return badArgument(op, "no ServerName is known: set it, or InsecureSkipVerify")
	}
	return nil
}

func (c *Context) newConn(op string, base *libevent.Base, opts libevent.Options, under *libevent.BufferEvent) (*Conn, error) {
	if !c.enter() {
		return nil, &libevent.Error{Op: op, Err: libevent.ErrClosed}
	}
	conn := &Conn{ctx: c.shared}
	handle := cgo.NewHandle(conn)
	live.conns.Add(1)
	var code C.ulong
	conn.c = C.gtls_conn_new(c.c, c.verify, C.uintptr_t(handle), &code)
	if conn.c == nil {
		gone(handle)
		return nil, newError(op, code)
	}
	conn.named = c.name != ""
	if err := conn.setName(op, c.name); err != nil {
		C.gtls_conn_free(conn.c)
		gone(handle)
		return nil, err
	}
	kind := &adopt.Kind{
		Make:     unsafe.Pointer(C.gtls_make),
		Arg:      unsafe.Pointer(conn.c),
		Gone:     unsafe.Pointer(C.gtls_gone),
		Codes:    unsafe.Pointer(C.gtls_codes),
		Shutdown: unsafe.Pointer(C.gtls_shutdown),
		Event:    conn.happened,
		Socket:   unsafe.Pointer(C.gtls_socket),
		Begin:    unsafe.Pointer(C.gtls_begin),
		End:      unsafe.Pointer(C.gtls_end),
		Recv:     unsafe.Pointer(C.gtls_recv),
		Pending:  unsafe.Pointer(C.gtls_pending),
		Send:     unsafe.Pointer(C.gtls_send),
	}
	var below any
	if under != nil {
		below = under
	}
	bev, err := adopt.New(base, uint32(opts), below, kind)
	if err != nil {
		C.gtls_conn_free(conn.c)
		gone(handle)
		return nil, err
	}
	conn.BufferEvent = bev.(*libevent.BufferEvent)
	return conn, nil
}

// gone is the end of a connection.
func gone(handle cgo.Handle) {
	conn := handle.Value().(*Conn)
	handle.Delete()
	conn.ctx.leave()
	live.conns.Add(-1)
}

// SetCallbacks is that of BufferEvent. The first call begins the handshake.
// Safe for concurrent use. Wraps bufferevent_setcb.
func (c *Conn) SetCallbacks(read, write func(*libevent.BufferEvent), event func(*libevent.BufferEvent, libevent.Events)) error {
	if err := c.BufferEvent.SetCallbacks(read, write, event); err != nil {
		return err
	}
	if c.begun.Swap(true) {
		return nil
	}
	if under := c.Underlying(); under != nil {
		if err := under.Enable(libevent.EvRead | libevent.EvWrite); err != nil {
			return err
		}
	}
	_, err := adopt.Call(c.BufferEvent, "bufferevent_setcb", func() int64 { return int64(C.gtls_conn_begin(c.c)) })
	return err
}

// serverName is the name that the peer is to have, or "".
func (c *Conn) serverName() string {
	if name := c.name.Load(); name != nil {
		return *name
	}
	return ""
}

// setName says whom the handshake expects, and what session it may resume. It is called
// before the handshake.
func (c *Conn) setName(op, name string) error {
	if c.ctx.server || name == "" {
		return nil
	}
	c.name.Store(&name)
	host, ip := isIP(name)
	if !ip {
		host = strings.TrimSuffix(name, ".") // which is for resolvers
	}
	cName := C.CString(host)
	defer free(cName)
	if code := C.gtls_conn_set_name(c.c, cName, cBool(ip)); code != 0 {
		return newError(op, code)
	}
	C.gtls_conn_set_session(c.c, c.ctx.sessions.get(name))
	return nil
}

// expect is for what is about to connect to host: that is whom to expect, unless the
// context has a name.
func (c *Conn) expect(op, host string) error {
	if c.ctx.server || c.named {
		return nil
	}
	if host == "" && c.ctx.verify != C.GTLS_VERIFY_NOTHING {
		return badArgument(op, "no ServerName is known: set it, or InsecureSkipVerify")
	}
	if err := checkServerName(op, host); err != nil {
		return err
	}
	var err error
	if _, refused := adopt.Call(c.BufferEvent, op, func() int64 {
		rc := int64(C.gtls_conn_may_connect(c.c))
		if rc == 0 {
			err = c.setName(op, host)
		}
		return rc
	}); refused != nil {
		return refused
	}
	return err
}

// Connect is that of BufferEvent, with the handshake after it: EventConnected is its end.
// Without a ServerName the server is expected to have a certificate for the IP address.
// Safe for concurrent use. Wraps bufferevent_socket_connect.
func (c *Conn) Connect(network, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil || network == "unix" {
		host = ""
	}
	if err := c.expect("bufferevent_socket_connect", host); err != nil {
		return err
	}
	return c.BufferEvent.Connect(network, address)
}

// ConnectHostname is that of BufferEvent, with the handshake after it: EventConnected is
// its end, and an address with which it fails is one that does not take the connection.
// Without a ServerName the server is expected to have a certificate for host.
// Safe for concurrent use. Wraps bufferevent_socket_connect_hostname.
func (c *Conn) ConnectHostname(dns *libevent.DNSBase, network, host string, port int) error {
	if err := c.expect("bufferevent_socket_connect_hostname", host); err != nil {
		return err
	}
	return c.BufferEvent.ConnectHostname(dns, network, host, port)
}

// --- events ---------------------------------------------------------------------

const directions = libevent.EventReading | libevent.EventWriting

// happened turns what libevent says into what is so.
func (c *Conn) happened(native int, errno syscall.Errno, codes []uint64) (int, error) {
	said := C.gtls_conn_event(c.c, C.short(native))
	what := libevent.Events(native)
	switch {
	case what&libevent.EventConnected != 0:
		c.state.Store(nil)
		c.ended.Store(false)
		c.connected.Store(true)
		return native, nil
	case what&libevent.EventTimeout != 0:
		return native, os.ErrDeadlineExceeded
	case said.close_notify != 0 && what&libevent.EventEOF != 0:
		// With writing it is a write that has failed, now that there is nobody.
		told := libevent.Events(0)
		if what&libevent.EventWriting != 0 {
			told = libevent.EventWriting | libevent.EventError
		}
		if c.ended.Swap(true) && what&libevent.EventReading == 0 {
			return int(told), &libevent.Error{Op: "write", Err: syscall.EPIPE}
		}
		return int(told | libevent.EventReading | libevent.EventEOF), io.EOF
	case what&(libevent.EventEOF|libevent.EventError) == 0:
		return native, nil
	case said.failed_before != 0:
		return 0, nil // a connection fails once, whoever enables it again
	}
	err := c.causeOf(what, errno, codes, said)
	if err != io.ErrUnexpectedEOF {
		return native, err
	}
	if c.dirty.Load() {
		return int(libevent.EventReading | libevent.EventEOF), err
	}
	return int(libevent.EventReading | libevent.EventError), err
}

// causeOf says why the connection failed. Of OpenSSL's errors libevent gives the last one
// first, and after the first the class, one of SSL_ERROR_. Of the end of what is below it
// says no more than that it is an error, and errno is anything then.
func (c *Conn) causeOf(what libevent.Events, errno syscall.Errno, codes []uint64, said C.struct_gtls_event) error {
	if failed := c.failed.Swap(nil); failed != nil {
		return failed
	}
	if failed := c.storeFailure(); failed != nil {
		return failed
	}
	op := "read"
	switch {
	case said.nothing_received != 0:
		op = "connect"
	case !c.connected.Load():
		op = "handshake"
	case what&libevent.EventWriting != 0:
		op = "write"
	}
	var first C.ulong
	for _, code := range codes {
		if C.gtls_lib(C.ulong(code)) != 0 {
			first = C.ulong(code)
		}
	}
	switch {
	case C.gtls_is_unexpected_eof(first) != 0:
		return io.ErrUnexpectedEOF
	case first != 0:
		return newError(op, first)
	case said.socket_eof != 0 && said.nothing_received == 0 && what&libevent.EventReading != 0:
		return io.ErrUnexpectedEOF
	case errno == 0 || errno == syscall.EAGAIN || errno == syscall.EINPROGRESS || what == libevent.EventError && said.nothing_received == 0:
		return io.ErrUnexpectedEOF
	}
	return &libevent.Error{Op: op, Err: errno}
}

// --- renegotiation and the end ------------------------------------------------------

// Renegotiate begins a new handshake on an open connection of TLS 1.2 or below, if the
// context allows it: at once on the loop's goroutine, and from elsewhere in the next turn
// of the loop, for libevent aborts when another thread begins it. EventConnected is told again at its end, and EventError
// if it fails. With TLS 1.3, or when the context does not allow it, the error matches
// errors.ErrUnsupported.
// Safe for concurrent use. Wraps bufferevent_ssl_renegotiate.
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
	// What fails then is told as an event, or it has been freed meanwhile.
	return c.Base().Post(func() { _ = renegotiate(1) })
}

// SetAllowDirtyShutdown has an end without close_notify told as EventEOF, in place of
// EventError. The cause stays io.ErrUnexpectedEOF, and a reset stays an error.
// Safe for concurrent use. Stands for bufferevent_openssl_set_allow_dirty_shutdown, which
// takes a reset for an end, and has no effect with OpenSSL 3.
func (c *Conn) SetAllowDirtyShutdown(allow bool) { c.dirty.Store(allow) }

// AllowDirtyShutdown returns what SetAllowDirtyShutdown was told.
// Safe for concurrent use. Stands for bufferevent_openssl_get_allow_dirty_shutdown.
func (c *Conn) AllowDirtyShutdown() bool { return c.dirty.Load() }

// SSL returns the native SSL, for C code on the loop's thread. It lives until Free. nil
// when the connection is freed.
// Safe for concurrent use. Wraps bufferevent_openssl_get_ssl.
func (c *Conn) SSL() unsafe.Pointer {
	var ssl unsafe.Pointer
	_, _ = adopt.Call(c.BufferEvent, "bufferevent_openssl_get_ssl", func() int64 {
		ssl = unsafe.Pointer(C.gtls_conn_ssl(c.c))
		return 0
	})
	return ssl
}
