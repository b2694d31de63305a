package libevent

/*
#include "native.h"
*/
import "C"

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/go-libevent/libevent/internal/adopt"
)

// BufferEvent is a socket, or one end of a pair, with an input and an output
// buffer. libevent reads into the input and writes from the output; closures are
// told when there is something to do.
//
//	NewSocket(-1) ── Connect, ConnectHostname ── EventConnected ► open
//	NewSocket(fd), NewPair ─────────────────────────────────────► open
//
//	open ── peer's end: EventEOF ──► reading is off, writing goes on
//	     ── CloseWrite ────────────► output written, then shut down; reading goes on
//	     ── EventError, EventTimeout ► the direction that failed is off
//	     ── FreeAfterFlush ────────► output written ──► freed
//	     ── Free ──────────────────► freed
//
// A new bufferevent has writing enabled and reading disabled, as in libevent.
type BufferEvent struct {
	object
	c       *C.struct_glev_bev
	in, out Buffer

	closures atomic.Pointer[closures]
	receiver atomic.Pointer[func(*BufferEvent)]
	cause    atomic.Pointer[error] // of the last event
	ended    atomic.Pointer[error] // what Read returns once the input is empty
	flushing atomic.Bool           // FreeAfterFlush waits
	group    atomic.Pointer[RateLimitGroup]
	loopOnly bool
	wrapped  bool         // C's
	partner  *BufferEvent // of an end of a pair
	filter   *filter      // of a filter
	door     *adopt.Kind  // of a kind that another package made
	codes    []uint64     // what its library said of the error that is being told

	dialing sync.Mutex
	dial    *dial // ConnectHostname is under way
}

type closures struct {
	read, write func(*BufferEvent)
	event       func(*BufferEvent, Events)
}

var noClosures closures

// NewSocket makes a bufferevent for a stream socket or a pipe, or with fd -1 for
// a socket that Connect or SetFD brings. If err is nil, fd was made non-blocking;
// with OptCloseOnFree the bufferevent owns it, without that it stays the caller's,
// who closes it after Free. If err is not nil, fd stays the caller's.
// Safe for concurrent use. Wraps bufferevent_socket_new.
func (b *Base) NewSocket(fd int, opts Options) (*BufferEvent, error) {
	const op = "bufferevent_socket_new"
	if fd < -1 {
		return nil, badArgument(op, "fd is %d", fd)
	}
	flags, loopOnly, err := b.options(opts)
	if err != nil {
		return nil, badArgument(op, "%v", err)
	}
	if err := b.enterAlive(); err != nil {
		return nil, err
	}
	defer b.leave()
	bev := newBufferEvent(b, loopOnly)
	var errno C.int
	plain := b.plainIO || opts&OptPlainIO != 0
	bev.c = C.glev_bev_new(b.c, C.int(fd), flags, cBool(loopOnly), cBool(plain), bev.handle.p, &errno)
	if bev.c == nil {
		bev.handle.release()
		return nil, &Error{op, syscall.Errno(errno)}
	}
	bev.hasRecord()
	return bev, nil
}

// NewPair makes two bufferevents that are connected to each other: what one
// writes the other reads. They have no descriptor. Freeing one gives the other no
// EOF, but to a filter or TLS on it; CloseWrite does.
// Safe for concurrent use. Wraps bufferevent_pair_new.
func (b *Base) NewPair(opts Options) (*BufferEvent, *BufferEvent, error) {
	const op = "bufferevent_pair_new"
	flags, loopOnly, err := b.options(opts)
	if err != nil {
		return nil, nil, badArgument(op, "%v", err)
	}
	if err := b.enterAlive(); err != nil {
		return nil, nil, err
	}
	defer b.leave()
	ends := [2]*BufferEvent{newBufferEvent(b, loopOnly), newBufferEvent(b, loopOnly)}
	handles := [2]unsafe.Pointer{ends[0].handle.p, ends[1].handle.p}
	var records [2]*C.struct_glev_bev
	rc := C.glev_bev_new_pair(b.c, flags, cBool(loopOnly), &handles[0], &records[0])
	for i, end := range ends {
		if rc != 0 {
			end.handle.release()
			continue
		}
		end.c, end.partner = records[i], ends[1-i]
		end.hasRecord()
	}
	if rc != 0 {
		return nil, nil, &Error{op, syscall.Errno(-rc)}
	}
	return ends[0], ends[1], nil
}

func newBufferEvent(b *Base, loopOnly bool) *BufferEvent {
	bev := &BufferEvent{object: object{base: b, kind: kindBufferEvent}, loopOnly: loopOnly}
	bev.handle = newHandle(bev)
	bev.closures.Store(&noClosures)
	return bev
}

func (b *BufferEvent) hasRecord() {
	b.native = unsafe.Pointer(b.c.bev)
	b.free = func() {
		if g := b.group.Load(); g != nil {
			g.drop(b)
		}
		C.glev_bev_free(b.c)
	}
	b.abandon = func() { C.glev_bev_abandon(b.c) }
	b.in = Buffer{c: &b.c.in, owner: b}
	b.out = Buffer{c: &b.c.out, owner: b}
	b.base.register(&b.object, b)
}

// Pointer returns the native struct bufferevent, for C code on the loop's thread. It
// lives until Free; C must not free it, or take its callbacks. From the first call on
// the fast path is off for this bufferevent: C may see and change all of it. nil when
// it is freed.
// Safe for concurrent use.
func (b *BufferEvent) Pointer() unsafe.Pointer {
	var p unsafe.Pointer
	b.do("Pointer", func() C.int64_t {
		if rc := C.glev_bev_check(b.c); rc != 0 {
			return rc
		}
		p = unsafe.Pointer(C.glev_bev_expose(b.c))
		return 0
	})
	return p
}

// --- callbacks ---------------------------------------------------------------

// SetCallbacks sets the closures; nil is none. read is called when the input has
// at least the low watermark of reading, write when the output has at most the low
// watermark of writing after something was written, event for everything else.
// What was queued for the closures before is delivered to the new ones.
// Safe for concurrent use. Wraps bufferevent_setcb.
func (b *BufferEvent) SetCallbacks(read, write func(*BufferEvent), event func(*BufferEvent, Events)) error {
	set := C.int(0)
	if read != nil {
		set |= C.GLEV_CB_READ
	}
	if write != nil {
		set |= C.GLEV_CB_WRITE
	}
	_, err := b.do("bufferevent_setcb", func() C.int64_t {
		if rc := C.glev_bev_check(b.c); rc != 0 {
			return rc
		}
		// The closures first: libevent may call as soon as it knows of them.
		b.closures.Store(&closures{read, write, event})
		return C.glev_bev_closures(b.c, set)
	})
	return err
}

// call runs a closure that the loop asked for. It reports true if that has to wait
// for the next run.
func (b *BufferEvent) call(fn func(*BufferEvent)) (again bool) {
	if fn == nil || b.base.panicked.Load() != nil {
		b.leave()
		return fn != nil
	}
	returned := false
	defer b.ran(&returned)
	b.base.callbacks.Add(1)
	fn(b)
	returned = true
	return false
}

func (b *BufferEvent) happened(what Events, errno syscall.Errno, connecting bool) (again bool) {
	if b.base.panicked.Load() != nil {
		b.leave()
		return true
	}
	returned := false
	defer b.ran(&returned)
	cause := b.causeOf(what, errno, connecting)
	what, cause = b.explained(what, errno, cause)
	if what, cause = b.bottom().dialled(what, cause); what != 0 {
		b.note(what, cause)
		if fn := b.closures.Load().event; fn != nil {
			b.base.callbacks.Add(1)
			fn(b, what)
		}
	}
	returned = true
	return false
}

// note keeps what Err and Read tell of an event.
func (b *BufferEvent) note(what Events, cause error) {
	if what&EventError != 0 || what&EventEOF != 0 && what&EventWriting == 0 {
		b.ended.Store(&cause)
	}
	b.cause.Store(&cause)
}

func (b *BufferEvent) causeOf(what Events, errno syscall.Errno, connecting bool) error {
	switch {
	case what&EventError != 0 && b.filter != nil && b.filter.err.Load() != nil:
		return *b.filter.err.Swap(nil)
	case what&EventError != 0:
		op := "read"
		if connecting {
			op = "connect"
		} else if what&EventWriting != 0 {
			op = "write"
		}
		if errno == 0 {
			return &Error{op, errFailed}
		}
		return &Error{op, errno}
	case what&EventEOF != 0:
		return io.EOF
	case what&EventTimeout != 0:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// Err returns the cause of the last event: io.EOF, os.ErrDeadlineExceeded, an
// *Error with the errno, or nil after EventConnected or before any. It stays after
// Free. Safe for concurrent use.
func (b *BufferEvent) Err() error {
	if cause := b.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

// --- enabling ------------------------------------------------------------------

// Enable turns reading, writing or both on. Writing is on in a new bufferevent;
// enabling it again calls the write closure once for nothing, as libevent does.
// Safe for concurrent use. Wraps bufferevent_enable.
func (b *BufferEvent) Enable(what What) error {
	const op = "bufferevent_enable"
	if err := direction(op, what); err != nil {
		return err
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_bev_enable(b.c, C.short(what)) })
	return err
}

// Disable turns reading, writing or both off. A closure that is already due may
// still be called.
// Safe for concurrent use. Wraps bufferevent_disable.
func (b *BufferEvent) Disable(what What) error {
	const op = "bufferevent_disable"
	if err := direction(op, what); err != nil {
		return err
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_bev_disable(b.c, C.short(what)) })
	return err
}

// Enabled returns the directions that are on. libevent turns one off after EOF, an
// error or a timeout in it.
// Safe for concurrent use. Wraps bufferevent_get_enabled.
func (b *BufferEvent) Enabled() What {
	what, _ := b.do("bufferevent_get_enabled", func() C.int64_t { return C.glev_bev_enabled(b.c) })
	return What(what)
}

func direction(op string, what What) error {
	if what&^(EvRead|EvWrite) != 0 {
		return badArgument(op, "what is %v, not a set of EV_READ and EV_WRITE", what)
	}
	return nil
}

// SetTimeouts sets how long reading and writing may wait without progress while
// they are enabled and, for writing, while there is something to write; 0 is for
// ever. On expiry that direction is turned off and the event closure gets
// EventTimeout. The write timeout also limits Connect.
// Safe for concurrent use. Wraps bufferevent_set_timeouts.
func (b *BufferEvent) SetTimeouts(read, write time.Duration) error {
	const op = "bufferevent_set_timeouts"
	if read < 0 || write < 0 {
		return badArgument(op, "a timeout is negative: %v, %v", read, write)
	}
	_, err := b.do(op, func() C.int64_t {
		return C.glev_bev_timeouts(b.c, C.int64_t(microseconds(read)), C.int64_t(microseconds(write)))
	})
	return err
}

// SetWatermark sets the marks, in bytes, of EvRead, EvWrite or both; a high mark
// of 0 is none.
//
// Reading: the read closure is called only when the input has at least low, and
// reading stops while it has high or more. There it costs nothing: a read closure
// that drained something and left high or more is called again, one that drained
// nothing is called when the input has been below the mark.
//
// Writing: the write closure is called when the output has low or less. libevent
// keeps the high mark for filters on top and does not stop Write at it: to bound
// the output, stop reading while Output().Len() is large.
// Safe for concurrent use. Wraps bufferevent_setwatermark.
func (b *BufferEvent) SetWatermark(what What, low, high int) error {
	const op = "bufferevent_setwatermark"
	if err := direction(op, what); err != nil {
		return err
	}
	if low < 0 || high < 0 {
		return badArgument(op, "a mark is negative: low %d, high %d", low, high)
	}
	if what&EvRead != 0 && high > 0 && low > high {
		return badArgument(op, "low %d is above high %d: the read closure would never be called", low, high)
	}
	_, err := b.do(op, func() C.int64_t {
		return C.glev_bev_watermark(b.c, C.short(what), C.size_t(low), C.size_t(high))
	})
	return err
}

// Watermark returns the marks of EvRead or of EvWrite.
// Safe for concurrent use. Wraps bufferevent_getwatermark.
func (b *BufferEvent) Watermark(what What) (low, high int, err error) {
	const op = "bufferevent_getwatermark"
	if what != EvRead && what != EvWrite {
		return 0, 0, badArgument(op, "what is %v, not EV_READ or EV_WRITE", what)
	}
	var l, h C.size_t
	_, err = b.do(op, func() C.int64_t { return C.glev_bev_get_watermark(b.c, C.short(what), &l, &h) })
	return int(l), int(h), err
}

// --- data ------------------------------------------------------------------------

// Input returns the input buffer, the same one each time. It lives as long as the
// bufferevent. Only libevent appends to it.
// Safe for concurrent use. Wraps bufferevent_get_input.
func (b *BufferEvent) Input() *Buffer { return &b.in }

// Output returns the output buffer, the same one each time. It lives as long as
// the bufferevent. What is appended to it is written; only libevent drains it.
// Safe for concurrent use. Wraps bufferevent_get_output.
func (b *BufferEvent) Output() *Buffer { return &b.out }

// Write appends a copy of p to the output, all of it or, with an error, nothing.
// The loop writes it to the socket; errors of that come as EventError.
// Safe for concurrent use. Wraps bufferevent_write.
func (b *BufferEvent) Write(p []byte) (int, error) {
	return b.write(unsafe.SliceData(p), len(p))
}

// WriteString is Write for a string.
// Safe for concurrent use. Wraps bufferevent_write.
func (b *BufferEvent) WriteString(s string) (int, error) {
	return b.write(unsafe.StringData(s), len(s))
}

func (b *BufferEvent) write(p *byte, n int) (int, error) {
	c := b.begin()
	defer c.end()
	for c.next() {
		c.rc = C.glev_bev_write(b.c, (*C.char)(unsafe.Pointer(p)), C.size_t(n))
	}
	if _, err := c.result("bufferevent_write"); err != nil {
		return 0, err
	}
	return n, nil
}

// WriteBuffer moves all of src to the end of the output, without a copy.
// Safe for concurrent use. Wraps bufferevent_write_buffer.
func (b *BufferEvent) WriteBuffer(src *Buffer) error {
	const op = "bufferevent_write_buffer"
	if src == nil {
		return badArgument(op, "src is nil")
	}
	c := b.begin()
	defer c.end()
	c.with(src)
	for c.next() {
		c.rc = C.glev_bev_write_buffer(b.c, src.c)
	}
	_, err := c.result(op)
	return err
}

// Read moves up to len(p) bytes from the input to p. When the input is empty it
// returns io.EOF after EventEOF, Err after EventError, and ErrWouldBlock otherwise.
// Safe for concurrent use. Wraps bufferevent_read.
func (b *BufferEvent) Read(p []byte) (int, error) {
	// Looked at before the input: the end comes after the last byte.
	ended := b.ended.Load()
	at, size := bytesOf(p)
	c := b.begin()
	defer c.end()
	for c.next() {
		c.rc = C.glev_bev_read(b.c, at, size)
	}
	n, err := c.result("bufferevent_read")
	if n > 0 || err != nil || len(p) == 0 {
		return n, err
	}
	if ended != nil {
		return 0, *ended
	}
	return 0, ErrWouldBlock
}

// ReadBuffer moves all of the input to the end of dst, without a copy.
// Safe for concurrent use. Wraps bufferevent_read_buffer.
func (b *BufferEvent) ReadBuffer(dst *Buffer) error {
	const op = "bufferevent_read_buffer"
	if dst == nil {
		return badArgument(op, "dst is nil")
	}
	c := b.begin()
	defer c.end()
	c.with(dst)
	for c.next() {
		c.rc = C.glev_bev_read_buffer(b.c, dst.c)
	}
	_, err := c.result(op)
	return err
}

// Flush asks for buffered bytes to be moved on. On a socket it does nothing. On a
// pair it moves them whatever is enabled, and FlushFinished gives the other end
// EOF. It reports whether anything was produced by a filter below.
// Safe for concurrent use. Wraps bufferevent_flush.
func (b *BufferEvent) Flush(what What, mode FlushMode) (bool, error) {
	const op = "bufferevent_flush"
	if err := direction(op, what); err != nil {
		return false, err
	}
	if mode < FlushNormal || mode > FlushFinished {
		return false, badArgument(op, "mode is %v", mode)
	}
	n, err := b.do(op, func() C.int64_t { return C.glev_bev_flush(b.c, C.short(what), C.int(mode)) })
	return n > 0, err
}

// SetReceiver sets what the loop calls before it reads from the socket while the input is
// empty: fn may take what came with Receive, straight to where it belongs, which saves a
// copy. What fn leaves goes to the input, and on to the read closure. That is needed all the
// same: fn is not called where libevent does the reading (see Config.PlainIO). nil is none.
// Safe for concurrent use.
func (b *BufferEvent) SetReceiver(fn func(*BufferEvent)) error {
	_, err := b.do("SetReceiver", func() C.int64_t {
		if fn != nil { // C may be about to call the old one
			b.receiver.Store(&fn)
		}
		return C.glev_bev_receiver(b.c, cBool(fn != nil))
	})
	return err
}

// Receive reads from the socket to p, within the function of SetReceiver; the read timeout
// begins anew, but watermarks do not count what never was in the input. When there is nothing
// to read, or the input is not empty, it returns ErrWouldBlock. An end or an error of the
// stream comes as an event.
// Loop goroutine only.
func (b *BufferEvent) Receive(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	at, size := bytesOf(p)
	c := b.begin()
	defer c.end()
	for c.next() {
		c.rc = C.glev_bev_receive(b.c, at, size)
	}
	n, err := c.result("Receive")
	if n == 0 && err == nil {
		err = ErrWouldBlock
	}
	return n, err
}

// Trigger has the read closure, the write closure or both called by the loop as if
// bytes had come or gone, if the watermarks allow it.
// Safe for concurrent use. Wraps bufferevent_trigger.
func (b *BufferEvent) Trigger(what What, flags TriggerFlags) error {
	const op = "bufferevent_trigger"
	if err := direction(op, what); err != nil {
		return err
	}
	if unknown := flags &^ TriggerIgnoreWatermarks; unknown != 0 {
		return badArgument(op, "flags: unknown bits %v", unknown)
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_bev_trigger(b.c, C.short(what), C.int(flags)) })
	return err
}

// TriggerEvent has the event closure called by the loop with what. Err then tells of
// no cause for an EventError.
// Safe for concurrent use. Wraps bufferevent_trigger_event.
func (b *BufferEvent) TriggerEvent(what Events) error {
	const op = "bufferevent_trigger_event"
	if what == 0 {
		return badArgument(op, "what is 0")
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_bev_trigger_event(b.c, C.short(what)) })
	return err
}

// Partner returns the other end of a pair, or nil when that is freed, or this is not
// an end of a pair. Safe for concurrent use. Wraps bufferevent_pair_get_partner.
func (b *BufferEvent) Partner() *BufferEvent {
	if b.partner == nil || !b.partner.isOpen() || !b.isOpen() {
		return nil
	}
	return b.partner
}

// SetPriority sets the priority of a socket's events, 0 (first) to one less than
// Config.Priorities. Best on a new bufferevent: once it has been enabled it fails with
// EBUSY while anything is due in the loop, for libevent does not tell whether that is
// a callback of this one.
// Loop goroutine only, or any goroutine while no loop runs, or while it was never
// enabled or written to (but with OptPlainIO). Wraps bufferevent_priority_set.
func (b *BufferEvent) SetPriority(priority int) error {
	const op = "bufferevent_priority_set"
	if err := b.Base().checkPriority(op, priority); err != nil {
		return err
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_bev_set_priority(b.c, C.int(priority)) })
	return err
}

// Priority returns the priority; that of a pair or a filter is always the middle one.
// Safe for concurrent use. Wraps bufferevent_get_priority.
func (b *BufferEvent) Priority() int {
	n, _ := b.do("bufferevent_get_priority", func() C.int64_t { return C.glev_bev_priority(b.c) })
	return n
}

// enter lets the functions of a filter in while they run, also when the filter
// lingers and is closed to all others.
func (b *BufferEvent) enter() bool {
	return b.usage.enter() || b.filter != nil && b.filter.running.Load() && b.join()
}

func cBool(v bool) C.int {
	if v {
		return 1
	}
	return 0
}
