// SPDX-License-Identifier: BSD-3-Clause

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

// BufferEvent is a socket, or one end of a pair, with an input and an output buffer.
// libevent reads from the socket to the input and writes from the output to the socket.
// Closures are called when there is something to do.
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
//
// Its methods are safe for concurrent use unless their doc says otherwise. A
// bufferevent with [OptLoopOnly] has no lock: its methods are for the loop's goroutine,
// or any goroutine while no loop runs, and return ErrWrongLoop elsewhere, or a zero
// value if they have no error result. Free, AfterFree, Err, Base, Input, Output,
// Partner and Underlying may be called from any goroutine even then.
type BufferEvent struct {
	object
	c       *C.struct_glev_bev
	in, out Buffer
	bypass  *C.struct_glev_bypass

	closures atomic.Pointer[closures]
	receiver atomic.Pointer[func(*BufferEvent)]
	cause    atomic.Pointer[error] // the cause of the last event
	ended    atomic.Pointer[error] // what Read returns once the input is empty
	flushing atomic.Bool           // FreeAfterFlush was called and has not ended
	late     atomic.Bool           // the limit of FreeAfterFlush has passed, of this one or of a filter on it
	group    atomic.Pointer[RateLimitGroup]
	loopOnly bool
	wrapped  bool         // made by WrapBufferEvent: it stays C's
	partner  *BufferEvent // the other end of a pair, or nil
	filter   *filter      // nil unless this is a filter
	door     *adopt.Kind  // set if another package made it, see internal/adopt

	endpoints atomic.Pointer[endpoints] // the addresses of a socket that is, or was, connected, or connects
	served    *served                   // a connection of a Server, or a filter on one; else nil
	dialing   sync.Mutex
	dial      *dial // a ConnectHostname that is under way, or nil
}

type closures struct {
	read, write func(*BufferEvent)
	event       func(*BufferEvent, Events)
}

var noClosures closures

// set says which of the closures for data there are.
func (c *closures) set() (set C.int) {
	if c.read != nil {
		set |= C.GLEV_CB_READ
	}
	if c.write != nil {
		set |= C.GLEV_CB_WRITE
	}
	return set
}

// NewSocket makes a bufferevent for a connected stream socket or a pipe, or, with fd -1, for
// a socket that Connect makes or SetFD brings. Datagram sockets and listening sockets are
// refused. If err is nil, NewSocket has made fd non-blocking. With OptCloseOnFree the
// bufferevent then owns fd; without it fd stays the caller's, who closes it after Free. If err
// is not nil, fd stays the caller's.
// Wraps bufferevent_socket_new.
func (b *Base) NewSocket(fd int, opts Options) (*BufferEvent, error) {
	const op = "bufferevent_socket_new"
	if fd < -1 {
		return nil, badArgument(op, "fd is %d", fd)
	}
	flags, loopOnly, err := b.options(opts)
	if err != nil {
		return nil, badArgument(op, "%v", err)
	}
	var endpoints *endpoints
	if fd >= 0 {
		if endpoints, err = endpointsOfFD(op, fd); err != nil {
			return nil, err
		}
	}
	if err := b.enterAlive(op); err != nil {
		return nil, err
	}
	defer b.leave()
	bev := newBufferEvent(b, loopOnly)
	bev.endpoints.Store(endpoints)
	var errno C.int
	plain := b.plainIO || opts&OptPlainIO != 0
	bev.c = C.glev_bev_new(b.c, C.int(fd), flags, cBool(loopOnly), cBool(plain), bev.handle.forC(), &errno)
	if bev.c == nil {
		bev.handle.release()
		_, err := result(op, -C.int64_t(errno))
		return nil, err
	}
	bev.complete(opts)
	b.debug.given(bev, fd)
	return bev, nil
}

// NewPair makes two bufferevents that are connected to each other: what one writes the
// other reads. They have no descriptor. If one end is freed, the other end gets no EOF,
// unless a filter or TLS is on it; after CloseWrite it gets one.
// Wraps bufferevent_pair_new.
func (b *Base) NewPair(opts Options) (*BufferEvent, *BufferEvent, error) {
	const op = "bufferevent_pair_new"
	flags, loopOnly, err := b.options(opts)
	if err != nil {
		return nil, nil, badArgument(op, "%v", err)
	}
	if err := b.enterAlive(op); err != nil {
		return nil, nil, err
	}
	defer b.leave()
	ends := [2]*BufferEvent{newBufferEvent(b, loopOnly), newBufferEvent(b, loopOnly)}
	handles := [2]C.uintptr_t{ends[0].handle.forC(), ends[1].handle.forC()}
	var records [2]*C.struct_glev_bev
	rc := C.glev_bev_new_pair(b.c, flags, cBool(loopOnly), &handles[0], &records[0])
	for i, end := range ends {
		if rc != 0 {
			end.handle.release()
			continue
		}
		end.c, end.partner = records[i], ends[1-i]
		end.complete(opts)
	}
	if rc != 0 {
		return nil, nil, &Error{Op: op, Err: syscall.Errno(-rc)}
	}
	return ends[0], ends[1], nil
}

func newBufferEvent(b *Base, loopOnly bool) *BufferEvent {
	bev := &BufferEvent{object: object{base: b, kind: kindBufferEvent}, loopOnly: loopOnly}
	bev.handle = newHandle(bev)
	bev.closures.Store(&noClosures)
	return bev
}

// complete completes a bufferevent whose record (c) has been made, and puts it on its
// base.
func (b *BufferEvent) complete(opts Options) {
	if opts&OptNagle != 0 {
		C.glev_bev_keep_nagle(b.c)
	}
	b.native = unsafe.Pointer(C.glev_bev_native(b.c))
	b.free = func() {
		if g := b.group.Load(); g != nil {
			g.drop(b)
		}
		C.glev_bev_free(b.c)
	}
	b.abandon = func() { C.glev_bev_abandon(b.c) }
	b.bypass = C.glev_bev_bypass(b.c)
	b.in = Buffer{c: C.glev_bev_input(b.c), owner: b}
	b.out = Buffer{c: C.glev_bev_output(b.c), owner: b}
	if b.below != nil {
		b.served = b.below.served
	}
	b.base.register(&b.object, b)
	C.glev_bev_set_known(b.c)
	if b.served != nil {
		b.served.put(b)
	}
}

// Pointer returns the struct bufferevent, for C code on the loop's thread, or nil after
// Free. It is valid until Free. C must not free it or replace its callbacks. From the
// first call on libevent does all reading and writing of this bufferevent, without the
// fast path, because C may see and change everything in it.
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

// SetCallbacks sets the closures; nil means none. libevent calls read when the input
// has at least the low watermark of reading, write when the output, after something was
// written, has at most the low watermark of writing, and event for everything else. A
// callback that was queued for the old closures goes to the new ones.
// Wraps bufferevent_setcb.
func (b *BufferEvent) SetCallbacks(read, write func(*BufferEvent), event func(*BufferEvent, Events)) error {
	_, err := b.do("bufferevent_setcb", func() C.int64_t {
		if rc := C.glev_bev_check(b.c); rc != 0 {
			return rc
		}
		// Before C learns of them: libevent may call them at once.
		b.closures.Store(&closures{read, write, event})
		if read != nil {
			b.base.debug.watchReading(b)
		}
		return b.tellClosures()
	})
	return err
}

// tellClosures tells C which closures there are. If another goroutine has set other ones
// meanwhile, C may have learned of those first, and is told again.
func (b *BufferEvent) tellClosures() C.int64_t {
	for {
		told := b.closures.Load()
		rc := C.glev_bev_set_closures(b.c, told.set())
		if b.closures.Load() == told {
			return rc
		}
	}
}

// number is the record as C's glev_quick functions take it.
func (b *BufferEvent) number() C.uintptr_t { return C.uintptr_t(uintptr(unsafe.Pointer(b.c))) }

// call runs a closure that the loop asked for. It reports true if a panic is on its way
// out of the loop, so that the closure has to wait for the next run.
func (b *BufferEvent) call(fn func(*BufferEvent)) (again bool) {
	if fn == nil || b.base.panicked.Load() != nil {
		b.leave()
		return fn != nil
	}
	returned := false
	if b.base.enterUser() {
		defer b.base.leaveUser()
	}
	defer b.ran(&returned)
	b.base.count()
	fn(b)
	returned = true
	return false
}

// happened is told of an event. codes are what the library of the package that made the
// bufferevent has to say of an error.
func (b *BufferEvent) happened(what Events, errno syscall.Errno, connecting bool, codes []uint64) (again bool) {
	if b.base.panicked.Load() != nil {
		b.leave()
		return true
	}
	returned := false
	if b.base.enterUser() {
		defer b.base.leaveUser()
	}
	defer b.ran(&returned)
	if what&EventConnected != 0 {
		b.bottom().keepEndpoints()
	}
	cause := b.causeOf(what, errno, connecting)
	what, cause = b.explained(what, errno, cause, codes)
	cause = b.located(cause)
	if what, cause = b.bottom().dialled(what, cause); what != 0 {
		b.note(what, cause)
		if fn := b.closures.Load().event; fn != nil {
			b.base.count()
			fn(b, what)
		} else {
			b.base.debug.unheard(b, what, cause)
		}
	}
	returned = true
	return false
}

// note keeps what Err and Read return after an event.
func (b *BufferEvent) note(what Events, cause error) {
	if what&EventError != 0 || what&EventEOF != 0 && what&EventWriting == 0 {
		b.ended.Store(&cause)
	}
	b.cause.Store(&cause)
}

func (b *BufferEvent) causeOf(what Events, errno syscall.Errno, connecting bool) error {
	if what&EventError != 0 {
		if failure := b.filterFailure(); failure != nil {
			return failure
		}
	}
	switch {
	case what&EventError != 0:
		op := "read"
		if connecting {
			op = "connect"
		} else if what&EventWriting != 0 {
			op = "write"
		}
		if errno == 0 {
			return &Error{Op: op, Err: errFailed}
		}
		return &Error{Op: op, Err: errno}
	case what&EventEOF != 0:
		return io.EOF
	case what&EventTimeout != 0:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// Err returns the cause of the last event: io.EOF, os.ErrDeadlineExceeded, an *Error
// with the errno, or nil after EventConnected or before any event. The cause stays
// after Free.
// Stands for EVUTIL_SOCKET_ERROR in an event callback.
func (b *BufferEvent) Err() error {
	if cause := b.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

// --- enabling ------------------------------------------------------------------

// Enable turns reading, writing or both on. Writing is on in a new bufferevent;
// enabling it again calls the write closure once although nothing was written, as
// libevent does.
// Wraps bufferevent_enable.
func (b *BufferEvent) Enable(what What) error {
	const op = "bufferevent_enable"
	if err := direction(op, what); err != nil {
		return err
	}
	_, err := b.do(op, func() C.int64_t {
		b.base.debug.enabled(b, what)
		return C.glev_bev_enable(b.c, C.short(what))
	})
	return err
}

// Disable turns reading, writing or both off. A closure that is due already may still
// be called.
// Wraps bufferevent_disable.
func (b *BufferEvent) Disable(what What) error {
	const op = "bufferevent_disable"
	if err := direction(op, what); err != nil {
		return err
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_bev_disable(b.c, C.short(what)) })
	return err
}

// Enabled returns the directions that are on. libevent turns a direction off after EOF,
// an error or a timeout in it.
// Wraps bufferevent_get_enabled.
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

// SetTimeouts sets how long reading and writing may go without progress while they are
// enabled and, for writing, while there is something to write. 0 means no timeout. When
// a timeout passes, libevent turns that direction off and calls the event closure with
// EventTimeout. Timeouts are rounded up to microseconds.
//
// The write timeout also limits Connect of this bufferevent. That of a filter does not limit a connect of the
// bufferevent below while nothing is written to the filter, and never a connect by name. The write timeout of
// a filter passes if nothing leaves the bufferevents below it while something is left in
// their outputs or in its own, and is told after up to twice its time. The read timeout of a filter passes if
// the filter passes nothing on, so a record of TLS that takes longer to arrive is no progress before its end.
// Wraps bufferevent_set_timeouts.
func (b *BufferEvent) SetTimeouts(read, write time.Duration) error {
	const op = "bufferevent_set_timeouts"
	if read < 0 || write < 0 {
		return badArgument(op, "a timeout is negative: %v, %v", read, write)
	}
	_, err := b.do(op, func() C.int64_t {
		return C.glev_bev_set_timeouts(b.c, C.int64_t(microseconds(read)), C.int64_t(microseconds(write)))
	})
	return err
}

// SetWatermark sets the watermarks, in bytes, of EvRead, EvWrite or both. A high mark of 0 means
// none. For EvRead, a low mark above the high mark is refused.
//
// Reading: the read closure is called only while the input has at least low bytes. Fewer bytes
// may be left when the stream ends; the event closure finds them in the input. While the input
// has high bytes or more, the loop does not read from the socket, and this costs no CPU time. A
// read closure that leaves fewer bytes than it found, but high bytes or more, is called again.
// One that leaves as many or more, for example because it puts back what it took, is called
// again only after the input has been below the mark; libevent alone would call it again and
// again, at the cost of a whole core. (With TLS, taking something counts, even if the closure
// puts it back.)
//
// Writing: the write closure is called after a write that leaves low bytes or fewer in the
// output. The high mark bounds only what filters on top of the bufferevent write to it; Write
// does not stop at it. To bound the output, use Handler.MaxOutput, or stop reading while
// Output().Len() is large.
// Wraps bufferevent_setwatermark.
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
		return C.glev_bev_set_watermark(b.c, C.short(what), C.size_t(low), C.size_t(high))
	})
	return err
}

// Watermark returns the watermarks, in bytes, of EvRead or of EvWrite.
// Wraps bufferevent_getwatermark.
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
// Wraps bufferevent_get_input.
func (b *BufferEvent) Input() *Buffer { return &b.in }

// Output returns the output buffer, the same one each time. It lives as long as the
// bufferevent. libevent writes what is appended to it, and only libevent drains it.
// Wraps bufferevent_get_output.
func (b *BufferEvent) Output() *Buffer { return &b.out }

// Write appends a copy of p to the output: all of it, or nothing if there is an error. The
// bytes go to the socket at once or in a later turn of the loop. A failure of that is reported
// as EventError.
// Wraps bufferevent_write.
func (b *BufferEvent) Write(p []byte) (int, error) {
	return b.write(unsafe.SliceData(p), len(p))
}

// WriteString is Write for a string.
// Wraps bufferevent_write.
func (b *BufferEvent) WriteString(s string) (int, error) {
	return b.write(unsafe.StringData(s), len(s))
}

func (b *BufferEvent) write(p *byte, n int) (int, error) {
	_, err := b.quickly("bufferevent_write", func() C.int64_t {
		return C.glev_quick_write(b.number(), (*C.char)(unsafe.Pointer(p)), C.size_t(n))
	})
	if err != nil {
		return 0, err
	}
	raceReads(p, n)
	return n, nil
}

// WriteBuffer moves all of src to the end of the output, without a copy.
// Wraps bufferevent_write_buffer.
func (b *BufferEvent) WriteBuffer(src *Buffer) error {
	const op = "bufferevent_write_buffer"
	if src == nil {
		return badArgument(op, "src is nil")
	}
	if src.owner == b {
		_, err := b.quickly(op, func() C.int64_t { return C.glev_quick_write_buffer(b.number(), src.number()) })
		return err
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

// Read moves up to len(p) bytes from the input to p. If the input is empty it returns
// io.EOF after EventEOF, Err after EventError, and ErrWouldBlock otherwise.
// Wraps bufferevent_read.
func (b *BufferEvent) Read(p []byte) (int, error) {
	// Loaded before the input is read: the end of the stream comes after its last
	// byte.
	ended := b.ended.Load()
	if n := b.readPast(p); n > 0 {
		raceWrites(p, n)
		return n, nil
	}
	at, size := bytesOf(p)
	n, err := b.quickly("bufferevent_read", func() C.int64_t { return C.glev_bev_read(b.c, at, size) })
	raceWrites(p, n)
	if n > 0 || err != nil || len(p) == 0 {
		return n, err
	}
	if ended != nil {
		return 0, *ended
	}
	return 0, ErrWouldBlock
}

// readPast reads what passes the input by, as glev_bypass_read does, without a call into C. It
// returns 0 if there is none.
func (b *BufferEvent) readPast(p []byte) (n int) {
	if !b.quick() {
		return 0
	}
	y := b.bypass
	state := (*uint32)(unsafe.Pointer(&y.state))
	if atomic.LoadUint32(state) == C.GLEV_BYPASS_OPEN && atomic.CompareAndSwapUint32(state, C.GLEV_BYPASS_OPEN, C.GLEV_BYPASS_USED) {
		n = copy(p, unsafe.Slice((*byte)(unsafe.Pointer(y.in)), y.nin))
		y.in = (*C.char)(unsafe.Add(unsafe.Pointer(y.in), n))
		y.nin -= C.size_t(n)
		atomic.StoreUint32(state, C.GLEV_BYPASS_OPEN)
	}
	b.leave()
	return n
}

// ReadBuffer moves all of the input to the end of dst, without a copy.
// Wraps bufferevent_read_buffer.
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

// Flush makes libevent move buffered bytes on. On a socket it does nothing. On a pair it
// moves them even if reading or writing is disabled. With FlushFinished the other end of a
// pair gets EOF at once; if the input there is at a high mark, bytes may come after that
// EOF. The result is true if a filter produced something. The read closure of a filter is
// called for what Flush has brought to its input.
// Wraps bufferevent_flush.
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

// SetReceiver sets a function that the loop calls before it reads from the socket while
// the input is empty. In it fn may call Receive and take the bytes straight to where
// they belong, which saves a copy. The bytes that fn leaves go to the input and to the
// read closure. A read closure is needed in any case, because fn is not called where
// libevent does the reading (see Config.PlainIO). nil removes the function.
func (b *BufferEvent) SetReceiver(fn func(*BufferEvent)) error {
	_, err := b.do("SetReceiver", func() C.int64_t {
		if fn != nil { // the old one stays otherwise: C may be about to call it
			b.receiver.Store(&fn)
		}
		return C.glev_bev_set_receiver(b.c, cBool(fn != nil))
	})
	return err
}

// Receive reads from the socket to p, inside the function that SetReceiver set. It
// restarts the read timeout. Watermarks do not count these bytes, which never were in
// the input. It returns ErrWouldBlock when there is nothing to read, when the input is
// not empty, outside of that function, and when that function has received so much that
// the loop has to serve others first. The end of the stream, or an error, comes as an
// event.
// Loop goroutine only.
// Stands for recv.
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
	raceWrites(p, n)
	if n == 0 && err == nil {
		err = ErrWouldBlock
	}
	return n, err
}

// Trigger makes the loop call the read closure, the write closure or both as if bytes
// had been read or written, provided that the watermarks allow it.
// Wraps bufferevent_trigger.
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

// TriggerEvent makes the loop call the event closure with what. After an EventError
// that came this way Err has no errno.
// Wraps bufferevent_trigger_event.
func (b *BufferEvent) TriggerEvent(what Events) error {
	const op = "bufferevent_trigger_event"
	if what == 0 {
		return badArgument(op, "what is 0")
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_bev_trigger_event(b.c, C.short(what)) })
	return err
}

// Partner returns the other end of a pair. It returns nil when either end is freed, and
// for a bufferevent that is not an end of a pair.
// Wraps bufferevent_pair_get_partner.
func (b *BufferEvent) Partner() *BufferEvent {
	if b.partner == nil || !b.partner.isOpen() || !b.isOpen() {
		return nil
	}
	return b.partner
}

// SetPriority sets the priority of a socket's events, from 0 (first) to
// Config.Priorities minus one. Call it on a new bufferevent. Once the bufferevent has
// been enabled, SetPriority fails with EBUSY while anything is due in the loop, because
// libevent does not tell whether a callback of this bufferevent is among it.
// Loop goroutine only, or any goroutine while no loop runs, or, without OptPlainIO,
// until the bufferevent is first enabled or written to.
// Wraps bufferevent_priority_set.
func (b *BufferEvent) SetPriority(priority int) error {
	const op = "bufferevent_priority_set"
	if err := b.Base().checkPriority(op, priority); err != nil {
		return err
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_bev_set_priority(b.c, C.int(priority)) })
	return err
}

// Priority returns the priority. A pair or a filter always has the middle one.
// Wraps bufferevent_get_priority.
func (b *BufferEvent) Priority() int {
	n, _ := b.do("bufferevent_get_priority", func() C.int64_t { return C.glev_bev_priority(b.c) })
	return n
}

// enter also lets the functions of a filter in, while they run, when the filter is
// closed to all others because FreeAfterFlush is flushing it.
func (b *BufferEvent) enter() bool {
	return b.usage.enter() || b.filter != nil && b.filter.running.Load() && b.join()
}

func cBool(v bool) C.int {
	if v {
		return 1
	}
	return 0
}
