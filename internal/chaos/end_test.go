// SPDX-License-Identifier: BSD-3-Clause

package chaos_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/inspect"
	"github.com/go-libevent/libevent/openssl"
)

// mayFail are the errors that a method may return at any time: another goroutine has freed the
// bufferevent, or has put a filter on it, or a Peek has the buffer.
var mayFail = []error{libevent.ErrClosed, libevent.ErrLent, syscall.EINVAL}

// layer is one bufferevent of a stack.
type layer struct {
	kind  string
	bev   *libevent.BufferEvent
	tls   *openssl.Conn // of kind tls or tlsfilter, else nil
	owns  bool          // a filter whose Free frees what is below
	timed atomic.Bool   // it has timeouts
}

// end is one end of a connection: a stack of bufferevents, or, if raw is set, a goroutine with a
// connection of package net.
type end struct {
	conn    *conn
	side    int
	out, in *stream
	opts    libevent.Options
	raw     *raw

	stack     atomic.Pointer[[]*layer] // from the bottom up; changed with wmu of out and rmu of in
	appetite  atomic.Int32             // what the read closure takes
	deaf      atomic.Bool              // it has no read closure
	connected atomic.Bool              // TLS has ended its handshake, or there is none
	freed     atomic.Bool              // Free or FreeAfterFlush was called
	events    atomic.Bool              // TriggerEvent was called
	timeouts  atomic.Int64             // that it was told of
	silent    atomic.Bool              // Free was called on the loop's goroutine: no closure starts

	fdMu sync.Mutex
	away atomic.Int64 // the descriptor, while it is taken away; else -1

	cbMu      sync.Mutex
	callbacks []*libevent.BufferCallback
}

// Appetites of a read closure.
const (
	all = iota
	some
	none
)

func (e *end) layers() []*layer {
	if stack := e.stack.Load(); stack != nil {
		return *stack
	}
	return nil
}

func (e *end) bottom() *layer { return e.layers()[0] }

func (e *end) top() *layer {
	layers := e.layers()
	return layers[len(layers)-1]
}

func (e *end) push(l *layer) {
	stack := append(slices.Clone(e.layers()), l)
	e.stack.Store(&stack)
}

func (e *end) pop() {
	layers := e.layers()
	stack := slices.Clone(layers[:len(layers)-1])
	e.stack.Store(&stack)
}

func (e *end) speaksTLS() bool {
	return slices.ContainsFunc(e.layers(), func(l *layer) bool { return l.tls != nil })
}

// loopOnly ends are for the loop's goroutine.
func (e *end) loopOnly() bool { return e.raw == nil && e.opts&libevent.OptLoopOnly != 0 }

func (e *end) onLoop() bool { return e.bottom().bev.Base().OnLoop() }

// start has the end read and write.
func (e *end) start(a *actor) {
	if e.raw != nil {
		e.raw.start(a)
		return
	}
	e.connected.Store(!e.speaksTLS())
	for _, l := range e.layers() {
		if l.tls != nil { // this starts the handshake
			_ = e.listen(l)
		}
	}
	if e.top().tls == nil {
		_ = e.listen(e.top())
	}
	for _, l := range e.layers() {
		e.conn.w.expect(e, "Enable", l.bev.Enable(rd|wr), mayFail...)
	}
}

// listen sets the closures of the top. It fails as long as a filter that was on top is not gone.
func (e *end) listen(l *layer) error {
	set := l.bev.SetCallbacks
	if l.tls != nil {
		set = l.tls.SetCallbacks
	}
	read := e.onRead
	if e.deaf.Load() {
		read = nil
	}
	err := set(read, e.onWrite, e.onEvent)
	e.conn.w.expect(e, "SetCallbacks", err, mayFail...)
	return err
}

// --- closures ------------------------------------------------------------------------

// enter is called first in each closure.
func (e *end) enter(b *libevent.BufferEvent) *actor {
	w := e.conn.w
	if e.silent.Load() {
		w.fail(e.conn, "side %d: a closure starts after Free has returned on the loop's goroutine", e.side)
	}
	if !b.Base().OnLoop() && !e.freed.Load() {
		w.fail(e.conn, "side %d: a closure runs outside of the loop's goroutine", e.side)
	}
	return w.loopOf(b.Base()).actor
}

// meddle acts within a closure, and may panic.
func (e *end) meddle(a *actor) {
	w := a.w
	if e.conn.calm.Load() || e.conn.over.Load() || a.depth > 1 {
		return
	}
	a.depth++
	defer func() { a.depth-- }()
	for a.chance(1, 3) {
		c := e.conn
		if a.chance(1, 4) {
			c = w.conns[a.rng.Intn(len(w.conns))].Load()
		}
		if c != nil {
			a.act(c)
		}
	}
	if w.acts["panic"] && a.chance(1, 300) {
		a.note(e, "panics in a closure")
		panic(errOnPurpose)
	}
}

func (e *end) onRead(b *libevent.BufferEvent) {
	a := e.enter(b)
	appetite := e.appetite.Load()
	if e.conn.calm.Load() {
		appetite = all
	}
	switch appetite {
	case all:
		e.takeAll(a)
	case some:
		e.take(a, 1+a.rng.Intn(3000))
	}
	e.meddle(a)
}

func (e *end) onWrite(b *libevent.BufferEvent) { e.meddle(e.enter(b)) }

func (e *end) onEvent(b *libevent.BufferEvent, what libevent.Events) {
	a, cause := e.enter(b), b.Err()
	a.note(e, "is told %v: %v", what, cause)
	if what&libevent.EventConnected != 0 {
		e.connected.Store(true)
	}
	if what&libevent.EventTimeout != 0 {
		e.timeouts.Add(1)
	}
	switch {
	case what&libevent.EventError != 0:
		e.broke(a, b, what, cause)
	case what&libevent.EventEOF != 0:
		e.endOfStream(a, b, cause)
	}
	e.meddle(a)
}

// endOfStream is called when there are no more bytes to come than those that wait in b. From then on
// no bytes are put back, and no filter is put on.
func (e *end) endOfStream(a *actor, b *libevent.BufferEvent, cause error) {
	s, w := e.in, a.w
	s.rmu.Lock()
	s.ended.Store(true)
	if b != e.top().bev {
		s.cut("a filter was put on while the end was told, and bytes wait below it")
	}
	s.rmu.Unlock()
	e.takeAll(a)
	fin, whole := s.fin.Load(), s.whole()
	switch got, sent := s.got.Load(), s.sent.Load(); {
	case !whole || w.failed():
	case !fin:
		w.fail(e.conn, "side %d: the stream has ended (%v), but was not closed", e.side, cause)
	case got != sent:
		w.fail(e.conn, "side %d: the stream has ended (%v) after %d of %d bytes", e.side, cause, got, sent)
	default:
		w.checked.Add(1)
	}
}

// broke is called for an error. It is one if nothing was done that explains it.
func (e *end) broke(a *actor, b *libevent.BufferEvent, what libevent.Events, cause error) {
	if e.in.whole() && e.out.whole() && !e.in.fin.Load() {
		a.w.fail(e.conn, "side %d: %v: %v, for no reason", e.side, what, cause)
	}
	if what&libevent.EventTimeout != 0 && what&libevent.EventWriting != 0 {
		e.in.cut("a timeout of reading and a failed write may have come as one event")
	}
	if what&libevent.EventReading != 0 {
		e.endOfStream(a, b, cause)
	}
	e.out.cut("its writer was told of an error")
	failedWrite := what&libevent.EventWriting != 0 && errors.Is(cause, syscall.EPIPE)
	if e.speaksTLS() && !failedWrite { // the end of both directions
		e.in.cut("its reader was told of an error, which is the end of TLS")
	}
}

// --- reading -------------------------------------------------------------------------

// take reads up to n bytes, in one of the ways in which that can be done, and checks them. It
// returns how many there were.
func (e *end) take(a *actor, n int) int {
	s := e.in
	s.rmu.Lock()
	defer s.rmu.Unlock()
	p := a.scratch[:min(n, len(a.scratch))]
	got, err := e.read(a, e.top().bev, p)
	if err := s.check(p[:got]); err != nil {
		a.w.fail(e.conn, "side %d: %v", e.side, err)
	}
	a.w.bytes.Add(int64(got))
	if e.in.whole() && e.out.whole() { // or else it may be the error that the event closure is told
		a.w.expect(e, "reading", err, append(mayFail, libevent.ErrWouldBlock, io.EOF)...)
	}
	return got
}

func (e *end) read(a *actor, b *libevent.BufferEvent, p []byte) (int, error) {
	switch a.rng.Intn(6) {
	case 0:
		return b.Input().Remove(p)
	case 1:
		n, err := b.Input().CopyOut(p)
		if err == nil {
			err = b.Input().Drain(n)
		}
		if err != nil {
			n = 0
		}
		return n, err
	case 2:
		return e.readAside(b, p)
	}
	return b.Read(p)
}

// readAside reads through a buffer that belongs to no bufferevent.
func (e *end) readAside(b *libevent.BufferEvent, p []byte) (int, error) {
	aside, err := libevent.NewBuffer()
	if err != nil {
		return 0, err
	}
	defer aside.Free()
	if _, err := b.Input().RemoveBuffer(aside, len(p)); err != nil {
		return 0, err
	}
	return aside.Remove(p)
}

func (e *end) takeAll(a *actor) {
	for e.take(a, len(a.scratch)) > 0 {
	}
}

// putBack returns bytes to the front of the input, which are then read again.
func (e *end) putBack(a *actor, n int) {
	s := e.in
	s.rmu.Lock()
	defer s.rmu.Unlock()
	got := s.got.Load()
	n = min(n, int(min(got, period)))
	if n == 0 || s.ended.Load() {
		return
	}
	err := e.top().bev.Input().Prepend(s.at(got-int64(n), n))
	if a.w.expect(e, "Prepend", err, mayFail...); err == nil {
		s.got.Store(got - int64(n))
	}
}

// --- writing -------------------------------------------------------------------------

// window is how many bytes may be on their way.
func (c *conn) window() int64 {
	if c.urgent.Load() {
		return 2000
	}
	return 1 << 20
}

// put writes n bytes, in one of the ways in which that can be done.
func (e *end) put(a *actor, n int) {
	s := e.out
	s.wmu.Lock()
	defer s.wmu.Unlock()
	sent := s.sent.Load()
	if s.fin.Load() || sent-s.got.Load() > e.conn.window() {
		return
	}
	returned := false
	defer func() {
		if !returned {
			s.cut("a filter function panicked while it was written to")
		}
	}()
	err := e.write(a, e.top().bev, s.at(sent, n))
	returned = true
	if err == nil {
		s.sent.Store(sent + int64(n))
	}
	if e.freed.Load() || !s.whole() {
		return
	}
	a.w.expect(e, "writing", err, mayFail...)
}

func (e *end) write(a *actor, b *libevent.BufferEvent, p []byte) (err error) {
	switch way := a.rng.Intn(12); way {
	case 0:
		_, err = b.WriteString(string(p))
	case 1:
		err = b.Output().Add(p)
	case 2:
		_, err = b.Output().AddVec([][]byte{p[:len(p)/3], p[len(p)/3:]})
	case 3, 4:
		err = e.writeAside(b, p, way == 3)
	case 5, 6:
		err = e.writeReference(a, b, p)
	case 7, 8:
		if a.w.acts["addfile"] {
			from := (int64(e.out.phase) + e.out.sent.Load()) % period
			err = b.Output().AddFile(a.w.file, from, int64(len(p)))
			break
		}
		fallthrough
	default:
		_, err = b.Write(p)
	}
	return err
}

// writeAside writes through a buffer that belongs to no bufferevent.
func (e *end) writeAside(b *libevent.BufferEvent, p []byte, whole bool) error {
	aside, err := libevent.NewBuffer()
	if err != nil {
		return err
	}
	defer aside.Free()
	if err := aside.Add(p); err != nil {
		return err
	}
	if whole {
		return b.WriteBuffer(aside)
	}
	return b.Output().AddBuffer(aside)
}

// writeReference writes bytes that C reads where they are. When C says that it has done so, they
// are made unusable.
func (e *end) writeReference(a *actor, b *libevent.BufferEvent, p []byte) error {
	if !a.w.acts["addreference"] {
		_, err := b.Write(p)
		return err
	}
	references, own := &a.w.references, slices.Clone(p)
	references.Add(1)
	err := b.Output().AddReference(own, func() {
		clear(own)
		references.Add(-1)
	})
	if err != nil {
		references.Add(-1)
	}
	return err
}

// --- reports -------------------------------------------------------------------------

func (e *end) String() string {
	if e.raw != nil {
		return fmt.Sprintf("side %d: a goroutine with a connection of package net\n", e.side)
	}
	text := fmt.Sprintf("side %d: freed %v, connected %v, appetite %d, deaf %v, descriptor away %d\n",
		e.side, e.freed.Load(), e.connected.Load(), e.appetite.Load(), e.deaf.Load(), e.away.Load())
	for _, l := range e.layers() {
		text += fmt.Sprintf(" %s (timed %v): %s\n", l.kind, l.timed.Load(), within(time.Second, func() string {
			return inspect.Record(l.bev)
		}))
		text += "  " + within(time.Second, func() string {
			low, high, _ := l.bev.Watermark(rd)
			return fmt.Sprintf("enabled %v, input %d, output %d, read marks %d %d, fd %d (%s), limits %d %d, max %d %d, priority %d, Err %v\n", l.bev.Enabled(),
				l.bev.Input().Len(), l.bev.Output().Len(), low, high, l.bev.FD(), queues(l.bev.FD()),
				l.bev.ReadLimit(), l.bev.WriteLimit(), l.bev.MaxToRead(), l.bev.MaxToWrite(), l.bev.Priority(), l.bev.Err())
		})
	}
	return text
}

// within calls a function that may hang.
func within(d time.Duration, fn func() string) string {
	answer := make(chan string, 1)
	go func() { answer <- fn() }()
	select {
	case text := <-answer:
		return text
	case <-time.After(d):
		return "no answer: a thread has the lock\n"
	}
}
