package libevent

/*
#include <stdlib.h>
#include "native.h"
*/
import "C"

import (
	"errors"
	"io"
	"iter"
	"runtime"
	"sync"
	"syscall"
	"unsafe"
)

// Buffer is a queue of bytes in C memory, in chunks that can be moved to another
// Buffer without a copy. A bufferevent has two, and NewBuffer makes one alone.
type Buffer struct {
	usage // of a buffer alone
	c     *C.struct_glev_buf
	owner *BufferEvent // whose input or output it is, or nil
}

var (
	_ io.ReadWriter = (*Buffer)(nil)
	_ io.ByteReader = (*Buffer)(nil)
	_ io.ReaderFrom = (*Buffer)(nil)
	_ io.WriterTo   = (*Buffer)(nil)
)

// NewBuffer makes an empty buffer. Free gives its memory back.
// Safe for concurrent use. Wraps evbuffer_new.
func NewBuffer() (*Buffer, error) {
	if err := useThreads(); err != nil {
		return nil, err
	}
	b := &Buffer{c: C.glev_buf_new()}
	if b.c == nil {
		return nil, &Error{"evbuffer_new", syscall.ENOMEM}
	}
	live.objects[kindBuffer].Add(1)
	b.open()
	return b, nil
}

// Free gives the memory back, once a Peek or Pullup in progress has ended. On the
// input or output of a bufferevent it does nothing.
// Safe for concurrent use. Wraps evbuffer_free.
func (b *Buffer) Free() {
	if b.owner == nil && b.close() {
		b.leave()
	}
}

// leave is the counterpart of enter for a buffer alone.
func (b *Buffer) leave() {
	if b.exit() {
		C.glev_buf_free(b.c)
		live.objects[kindBuffer].Add(-1)
		runDone()
	}
}

// with keeps the buffer in being while fn runs.
func (b *Buffer) with(fn func() error) error {
	if b.owner != nil {
		if !b.owner.enter() {
			return ErrClosed
		}
		defer b.owner.leave()
	} else {
		if !b.enter() {
			return ErrClosed
		}
		defer b.leave()
	}
	return fn()
}

// do makes one C call on the buffer.
func (b *Buffer) do(op string, call func() C.int64_t) (int, error) {
	if b.owner != nil {
		return b.owner.do(op, call)
	}
	if !b.enter() {
		return 0, ErrClosed
	}
	rc := call()
	b.leave()
	runDone()
	return result(op, rc)
}

// do2 makes one C call on the buffer and another one. If both belong to bufferevents
// for their loops alone, these must be on the same base.
func (b *Buffer) do2(op, name string, other *Buffer, call func() C.int64_t) (n int, err error) {
	if other == nil {
		return 0, badArgument(op, "%s is nil", name)
	}
	err = other.with(func() (err error) {
		n, err = b.do(op, func() C.int64_t {
			rc := call()
			if rc != C.GLEV_WRONG_LOOP || other.owner == nil || !other.owner.loopOnly ||
				b.owner != nil && b.owner.loopOnly {
				return rc // do tries again as b's loop
			}
			return other.owner.base.asLoop(call)
		})
		return err
	})
	return n, err
}

func bytesOf(p []byte) (*C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(unsafe.SliceData(p))), C.size_t(len(p))
}

// Len returns the number of bytes in the buffer.
// Safe for concurrent use. Wraps evbuffer_get_length.
func (b *Buffer) Len() int {
	n, _ := b.do("evbuffer_get_length", func() C.int64_t { return C.glev_buf_len(b.c) })
	return n
}

// Add appends a copy of p.
// Safe for concurrent use. Wraps evbuffer_add.
func (b *Buffer) Add(p []byte) error {
	_, err := b.do("evbuffer_add", func() C.int64_t {
		c, n := bytesOf(p)
		return C.glev_buf_add(b.c, c, n)
	})
	return err
}

// AddBuffer moves all of src to the end, without a copy.
// Safe for concurrent use. Wraps evbuffer_add_buffer.
func (b *Buffer) AddBuffer(src *Buffer) error {
	_, err := b.do2("evbuffer_add_buffer", "src", src, func() C.int64_t {
		return C.glev_buf_add_buffer(b.c, src.c)
	})
	return err
}

// Prepend puts a copy of p before the first byte.
// Safe for concurrent use. Wraps evbuffer_prepend.
func (b *Buffer) Prepend(p []byte) error {
	_, err := b.do("evbuffer_prepend", func() C.int64_t {
		c, n := bytesOf(p)
		return C.glev_buf_prepend(b.c, c, n)
	})
	return err
}

// PrependBuffer moves all of src before the first byte, without a copy.
// Safe for concurrent use. Wraps evbuffer_prepend_buffer.
func (b *Buffer) PrependBuffer(src *Buffer) error {
	_, err := b.do2("evbuffer_prepend_buffer", "src", src, func() C.int64_t {
		return C.glev_buf_prepend_buffer(b.c, src.c)
	})
	return err
}

// Remove moves up to len(p) bytes from the front to p. It returns 0 when the
// buffer is empty.
// Safe for concurrent use. Wraps evbuffer_remove.
func (b *Buffer) Remove(p []byte) (int, error) {
	return b.do("evbuffer_remove", func() C.int64_t {
		c, n := bytesOf(p)
		return C.glev_buf_remove(b.c, c, n)
	})
}

// RemoveBuffer moves up to n bytes from the front to the end of dst, without
// copying whole chunks, and returns how many.
// Safe for concurrent use. Wraps evbuffer_remove_buffer.
func (b *Buffer) RemoveBuffer(dst *Buffer, n int) (int, error) {
	const op = "evbuffer_remove_buffer"
	if n < 0 {
		return 0, badArgument(op, "n is negative: %d", n)
	}
	n = min(n, 1<<31-1) // the result is an int in C
	return b.do2(op, "dst", dst, func() C.int64_t {
		return C.glev_buf_remove_buffer(b.c, dst.c, C.size_t(n))
	})
}

// Drain drops n bytes from the front, or all if there are fewer.
// Safe for concurrent use. Wraps evbuffer_drain.
func (b *Buffer) Drain(n int) error {
	const op = "evbuffer_drain"
	if n < 0 {
		return badArgument(op, "n is negative: %d", n)
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_buf_drain(b.c, C.size_t(n)) })
	return err
}

// CopyOut copies up to len(p) bytes from the front to p and leaves them where they
// are.
// Safe for concurrent use. Wraps evbuffer_copyout.
func (b *Buffer) CopyOut(p []byte) (int, error) {
	return b.do("evbuffer_copyout", func() C.int64_t {
		c, n := bytesOf(p)
		return C.glev_buf_copyout(b.c, c, n)
	})
}

// Search returns the offset of what at or after the offset from, or -1.
// Safe for concurrent use. Wraps evbuffer_search.
func (b *Buffer) Search(what []byte, from int) int {
	if from < 0 {
		return -1
	}
	return b.find("evbuffer_search", func() C.int64_t {
		c, n := bytesOf(what)
		return C.glev_buf_search(b.c, c, n, C.size_t(from))
	})
}

// ReadLine removes the first line and its ending, and returns the line without the
// ending, in memory of its own. ok is false when there is no whole line.
// Safe for concurrent use. Wraps evbuffer_readln.
func (b *Buffer) ReadLine(eol EOL) (line []byte, ok bool) {
	if eol < EOLAny || eol > EOLNUL {
		return nil, false
	}
	_, err := b.do("evbuffer_readln", func() C.int64_t {
		var c *C.char
		n := C.glev_buf_readln(b.c, C.int(eol), &c)
		if c != nil {
			line, ok = make([]byte, n), true
			copy(line, unsafe.Slice((*byte)(unsafe.Pointer(c)), n))
			C.free(unsafe.Pointer(c))
		}
		return n
	})
	return line, ok && err == nil
}

// Lines removes and yields one line after the other, as ReadLine does, until there
// is no whole line.
// Safe for concurrent use. Wraps evbuffer_readln.
func (b *Buffer) Lines(eol EOL) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for {
			line, ok := b.ReadLine(eol)
			if !ok || !yield(line) {
				return
			}
		}
	}
}

// SearchRange is Search that looks at no byte at or after the offset to.
// Safe for concurrent use. Wraps evbuffer_search_range.
func (b *Buffer) SearchRange(what []byte, from, to int) int {
	if from < 0 || to < from {
		return -1
	}
	return b.find("evbuffer_search_range", func() C.int64_t {
		c, n := bytesOf(what)
		return C.glev_buf_search_range(b.c, c, n, C.size_t(from), C.size_t(to))
	})
}

// SearchEOL returns the offset of the first line ending at or after the offset from, and
// how many bytes it has; -1 when there is none.
// Safe for concurrent use. Wraps evbuffer_search_eol.
func (b *Buffer) SearchEOL(from int, eol EOL) (at, length int) {
	if from < 0 || eol < EOLAny || eol > EOLNUL {
		return -1, 0
	}
	var n C.size_t
	at = b.find("evbuffer_search_eol", func() C.int64_t {
		return C.glev_buf_search_eol(b.c, C.size_t(from), C.int(eol), &n)
	})
	if at < 0 {
		return -1, 0
	}
	return at, int(n)
}

// find makes a C call that returns an offset, or -1.
func (b *Buffer) find(op string, call func() C.int64_t) int {
	at := C.int64_t(-1)
	_, err := b.do(op, func() C.int64_t {
		at = call()
		if at == -1 {
			return 0
		}
		return at
	})
	if err != nil {
		return -1
	}
	return int(at)
}

// CopyOutFrom is CopyOut from an offset on.
// Safe for concurrent use. Wraps evbuffer_copyout_from.
func (b *Buffer) CopyOutFrom(p []byte, from int) (int, error) {
	const op = "evbuffer_copyout_from"
	if from < 0 {
		return 0, badArgument(op, "from is negative: %d", from)
	}
	return b.do(op, func() C.int64_t {
		c, n := bytesOf(p)
		return C.glev_buf_copyout_from(b.c, c, n, C.size_t(from))
	})
}

// AddVec appends copies of several slices in one go.
// Safe for concurrent use. Wraps evbuffer_add_iovec.
func (b *Buffer) AddVec(spans [][]byte) error {
	var pinner runtime.Pinner // C gets a list of them, which Go does not see through
	defer pinner.Unpin()
	vec := make([]C.struct_evbuffer_iovec, 0, len(spans)+1)
	for _, p := range spans {
		if len(p) > 0 {
			pinner.Pin(&p[0])
			vec = append(vec, C.struct_evbuffer_iovec{iov_base: unsafe.Pointer(&p[0]), iov_len: C.size_t(len(p))})
		}
	}
	if len(vec) == 0 {
		return b.Add(nil)
	}
	_, err := b.do("evbuffer_add_iovec", func() C.int64_t {
		return C.glev_buf_add_iovec(b.c, &vec[0], C.int(len(vec)))
	})
	return err
}

// Expand makes room for n more bytes in one piece at the end.
// Safe for concurrent use. Wraps evbuffer_expand.
func (b *Buffer) Expand(n int) error {
	const op = "evbuffer_expand"
	if n < 0 {
		return badArgument(op, "n is negative: %d", n)
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_buf_expand(b.c, C.size_t(n)) })
	return err
}

// ContiguousSpace returns how many bytes from the front are in one piece.
// Safe for concurrent use. Wraps evbuffer_get_contiguous_space.
func (b *Buffer) ContiguousSpace() int {
	n, _ := b.do("evbuffer_get_contiguous_space", func() C.int64_t { return C.glev_buf_contiguous_space(b.c) })
	return n
}

// ReadFD appends what one read(2) of fd gives, at most n bytes, or with a negative n as
// much as libevent reads at once. It returns io.EOF at the end, and ErrWouldBlock when
// there is nothing yet; with a blocking descriptor it blocks, holding the buffer's lock.
// Safe for concurrent use. Wraps evbuffer_read.
func (b *Buffer) ReadFD(fd, n int) (int, error) {
	const op = "evbuffer_read"
	if n == 0 {
		return 0, nil // libevent would take it for the end
	}
	got, err := b.do(op, func() C.int64_t { return C.glev_buf_read(b.c, C.int(fd), C.int(min(n, 1<<30))) })
	if errors.Is(err, syscall.EAGAIN) {
		return 0, ErrWouldBlock
	}
	if got == 0 && err == nil {
		return 0, io.EOF
	}
	return got, err
}

// WriteFD writes from the front to fd with one writev(2) or sendfile(2), at most n
// bytes, or with a negative n as much as libevent writes at once, and removes what was
// written. It returns ErrWouldBlock when fd takes nothing now; with a blocking
// descriptor it blocks, holding the buffer's lock.
// Safe for concurrent use. Wraps evbuffer_write_atmost.
func (b *Buffer) WriteFD(fd, n int) (int, error) {
	if n < 0 {
		n = -1
	}
	put, err := b.do("evbuffer_write_atmost", func() C.int64_t { return C.glev_buf_write(b.c, C.int(fd), C.int64_t(n)) })
	if errors.Is(err, syscall.EAGAIN) {
		return 0, ErrWouldBlock
	}
	return put, err
}

// Freeze makes changes at the front, or else at the back, fail with ErrFrozen.
// libevent freezes the back of an input and the front of an output itself, and does
// so again after each read and write.
// Safe for concurrent use. Wraps evbuffer_freeze.
func (b *Buffer) Freeze(front bool) error { return b.freeze("evbuffer_freeze", front, 1) }

// Unfreeze undoes Freeze.
// Safe for concurrent use. Wraps evbuffer_unfreeze.
func (b *Buffer) Unfreeze(front bool) error { return b.freeze("evbuffer_unfreeze", front, 0) }

func (b *Buffer) freeze(op string, front bool, on C.int) error {
	end := C.int(C.GLEV_BACK)
	if front {
		end = C.GLEV_FRONT
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_buf_freeze(b.c, end, on) })
	return err
}

// --- without a copy -----------------------------------------------------------------

// loan is what a Peek needs besides the buffer. Loans are pooled: Peek allocates
// nothing.
type loan struct {
	vec   []C.struct_evbuffer_iovec
	spans [][]byte
}

var loans = sync.Pool{New: func() any { return &loan{vec: make([]C.struct_evbuffer_iovec, 16)} }}

// Peek shows fn all bytes of the buffer, in its chunks, without a copy. The slices
// are C memory: they must not be changed, and die when fn returns. Until then the
// buffer is lent: a change to it returns ErrLent, and Free takes effect afterwards.
// A buffer of a bufferevent: loop goroutine only. One alone: safe for concurrent
// use. Wraps evbuffer_peek.
func (b *Buffer) Peek(fn func(spans [][]byte)) error {
	if fn == nil {
		return badArgument("evbuffer_peek", "fn is nil")
	}
	return b.lend("evbuffer_peek", C.GLEV_PEEK, fn, nil)
}

// Pullup makes the first n bytes contiguous, all if n < 0, and shows them to fn
// under the rules of Peek. More than there are is an error that matches
// io.ErrShortBuffer.
// A buffer of a bufferevent: loop goroutine only. One alone: safe for concurrent
// use. Wraps evbuffer_pullup.
func (b *Buffer) Pullup(n int, fn func(p []byte)) error {
	if fn == nil {
		return badArgument("evbuffer_pullup", "fn is nil")
	}
	pull := C.int64_t(n)
	if n < 0 {
		pull = C.GLEV_PULL_ALL
	}
	err := b.lend("evbuffer_pullup", pull, nil, fn)
	if errors.Is(err, syscall.EINVAL) {
		return &Error{"evbuffer_pullup", io.ErrShortBuffer}
	}
	return err
}

// Reserve lends fn room for n bytes at the end, in one or two pieces, and makes the
// first bytes of it, as many as fn returns, part of the buffer. The rules of Peek hold,
// but that fn writes to the slices. If it returns more than n or less than 0, nothing is
// added.
// A buffer of a bufferevent: loop goroutine only. One alone: safe for concurrent
// use. Wraps evbuffer_reserve_space, evbuffer_commit_space.
func (b *Buffer) Reserve(n int, fn func(spans [][]byte) (used int)) error {
	const op = "evbuffer_reserve_space"
	if fn == nil {
		return badArgument(op, "fn is nil")
	}
	if n <= 0 {
		return badArgument(op, "n is %d", n)
	}
	return b.atLoop(op, func() C.int64_t { return b.reserve(n, fn) })
}

func (b *Buffer) reserve(n int, fn func([][]byte) int) (rc C.int64_t) {
	vec := make([]C.struct_evbuffer_iovec, 2)
	pieces := C.glev_buf_reserve(b.c, C.size_t(n), &vec[0])
	if pieces < 0 {
		return pieces
	}
	used := 0
	defer func() { // also after a panic, with nothing used
		if done := C.glev_buf_commit(b.c, C.size_t(used), &vec[0], C.int(pieces)); rc == 0 {
			rc = done
		}
	}()
	var spans [][]byte
	room := n
	for _, v := range vec[:pieces] {
		span := unsafe.Slice((*byte)(v.iov_base), min(room, int(v.iov_len)))
		room -= len(span)
		spans = append(spans, span)
	}
	if got := fn(spans); got >= 0 && got <= n {
		used = got
		return 0
	}
	return -C.int64_t(syscall.EINVAL)
}

// lend runs one of peek and pullup, whichever is there, on the bytes.
func (b *Buffer) lend(op string, pull C.int64_t, peek func([][]byte), pullup func([]byte)) error {
	return b.atLoop(op, func() C.int64_t { return b.lent(pull, peek, pullup) })
}

// atLoop makes a call that lends the buffer to a function of the user's.
func (b *Buffer) atLoop(op string, call func() C.int64_t) error {
	if b.owner == nil {
		if !b.enter() {
			return ErrClosed
		}
		defer b.leave()
		_, err := result(op, call())
		return err
	}
	if !b.owner.enter() {
		return ErrClosed
	}
	defer b.owner.leave()
	if b.owner.base.dead.Load() {
		return ErrLoopAborted
	}
	rc := call()
	if rc == C.GLEV_WRONG_LOOP {
		rc = b.owner.base.borrow(call)
	}
	_, err := result(op, rc)
	return err
}

func (b *Buffer) lent(pull C.int64_t, peek func([][]byte), pullup func([]byte)) C.int64_t {
	l := loans.Get().(*loan)
	n := C.glev_buf_lend(b.c, pull, &l.vec[0], C.int(len(l.vec)))
	for int(n) > len(l.vec) {
		l.vec = make([]C.struct_evbuffer_iovec, 2*int(n))
		n = C.glev_buf_lend(b.c, pull, &l.vec[0], C.int(len(l.vec)))
	}
	if n < 0 {
		loans.Put(l)
		return n
	}
	defer func() {
		C.glev_buf_unlend(b.c)
		clear(l.spans)
		l.spans = l.spans[:0]
		loans.Put(l)
	}()
	for _, v := range l.vec[:n] {
		l.spans = append(l.spans, unsafe.Slice((*byte)(v.iov_base), int(v.iov_len)))
	}
	if peek != nil {
		peek(l.spans)
	} else {
		pullup(l.spans[0])
	}
	return 0
}

// --- package io ----------------------------------------------------------------------

// Read is Remove in the form of io.Reader: io.EOF when the buffer is empty.
// Safe for concurrent use. Wraps evbuffer_remove.
func (b *Buffer) Read(p []byte) (int, error) {
	n, err := b.Remove(p)
	if n == 0 && err == nil && len(p) > 0 {
		return 0, io.EOF
	}
	return n, err
}

// Write is Add in the form of io.Writer.
// Safe for concurrent use. Wraps evbuffer_add.
func (b *Buffer) Write(p []byte) (int, error) {
	if err := b.Add(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ReadByte removes the first byte; io.EOF when there is none.
// Safe for concurrent use. Wraps evbuffer_remove.
func (b *Buffer) ReadByte() (byte, error) {
	var p [1]byte
	_, err := b.Read(p[:])
	return p[0], err
}

const copySize = 32 << 10

// ReadFrom appends what r gives until io.EOF. It blocks while r does.
// Safe for concurrent use. Wraps evbuffer_add.
func (b *Buffer) ReadFrom(r io.Reader) (int64, error) {
	var total int64
	p := make([]byte, copySize)
	for {
		n, err := r.Read(p)
		if n > 0 {
			if err := b.Add(p[:n]); err != nil {
				return total, err
			}
			total += int64(n)
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// WriteTo removes all bytes and gives them to w. What w does not take is put back.
// It blocks while w does.
// Safe for concurrent use. Wraps evbuffer_remove.
func (b *Buffer) WriteTo(w io.Writer) (int64, error) {
	var total int64
	p := make([]byte, copySize)
	for {
		n, err := b.Remove(p)
		if n == 0 || err != nil {
			return total, err
		}
		m, err := b.giveTo(w, p[:n])
		total += int64(m)
		if err != nil {
			return total, err
		}
	}
}

// giveTo writes p, and puts back what w did not take, also when w panics.
func (b *Buffer) giveTo(w io.Writer, p []byte) (n int, err error) {
	defer func() {
		if n < len(p) {
			err = errors.Join(err, b.Prepend(p[n:]))
		}
	}()
	m, err := w.Write(p)
	if m < 0 || m > len(p) {
		return 0, errors.New("libevent: invalid count from Write")
	}
	if m < len(p) && err == nil {
		err = io.ErrShortWrite
	}
	return m, err
}
