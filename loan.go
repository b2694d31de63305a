// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include "native.h"
*/
import "C"

import (
	"io"
	"math"
	"sync"
	"syscall"
	"unsafe"
)

// loan holds the memory of a buffer while a function of the user's sees it. Loans are
// pooled, so Peek allocates nothing.
type loan struct {
	vec   []C.struct_evbuffer_iovec
	used  int // how many of vec are in use
	spans [][]byte
}

var loans = sync.Pool{New: func() any { return &loan{vec: make([]C.struct_evbuffer_iovec, 16)} }}

// show makes the memory that was lent visible to Go, up to limit bytes.
func (l *loan) show(n C.int64_t, limit int) [][]byte {
	raceAcquire()
	l.used = int(n)
	for _, v := range l.vec[:l.used] {
		size := min(int(v.iov_len), limit)
		limit -= size
		l.spans = append(l.spans, unsafe.Slice((*byte)(v.iov_base), size))
	}
	return l.spans
}

// forget is called before the buffer takes its memory back. The memory of a reference
// (see AddReference) is Go's, and C put the pointers here without the garbage
// collector's knowledge, so none may stay after that memory is no longer pinned.
func (l *loan) forget() {
	clear(l.vec[:l.used])
	clear(l.spans)
	l.spans = l.spans[:0]
}

// lend is begin for a call that shows the buffer to a function of the user's.
func (b *Buffer) lend() nativeCall {
	c := b.begin()
	c.filters, c.shows = false, true
	return c
}

// Peek shows fn all bytes of the buffer, in its chunks, without a copy. The slices are
// C memory: fn must not change them, or use them after it has returned. Until then the
// buffer is lent: a change to it returns ErrLent, and Free takes effect afterwards.
//
// For the buffers of a bufferevent:
// Loop goroutine only, or any goroutine while no loop runs.
// Wraps evbuffer_peek.
func (b *Buffer) Peek(fn func(spans [][]byte)) error { return b.PeekRange(0, -1, fn) }

// PeekRange is Peek for up to n bytes from an offset; n < 0 means all. An offset beyond
// the end is an error.
//
// For the buffers of a bufferevent:
// Loop goroutine only, or any goroutine while no loop runs.
// Wraps evbuffer_peek.
func (b *Buffer) PeekRange(from, n int, fn func(spans [][]byte)) error {
	const op = "evbuffer_peek"
	if fn == nil {
		return badArgument(op, "fn is nil")
	}
	if from < 0 {
		return badArgument(op, "from is negative: %d", from)
	}
	c := b.lend()
	defer c.end()
	for c.next() {
		c.rc = b.peek(from, n, fn)
	}
	_, err := c.result(op)
	return beyondEnd(op, from, err)
}

func (b *Buffer) peek(from, n int, fn func([][]byte)) C.int64_t {
	if n < 0 {
		n = math.MaxInt
	}
	l := loans.Get().(*loan)
	got := C.glev_buf_peek(b.c, C.size_t(from), C.int64_t(n), &l.vec[0], C.int(len(l.vec)))
	for int(got) > len(l.vec) {
		l.vec = make([]C.struct_evbuffer_iovec, 2*int(got))
		got = C.glev_buf_peek(b.c, C.size_t(from), C.int64_t(n), &l.vec[0], C.int(len(l.vec)))
	}
	if got < 0 {
		loans.Put(l)
		return got
	}
	defer b.takeBack(l)
	fn(l.show(got, n))
	return 0
}

func (b *Buffer) takeBack(l *loan) {
	l.forget()
	C.glev_buf_unlend(b.c)
	loans.Put(l)
}

// Pullup makes the first n bytes contiguous, all if n < 0, and shows them to fn under
// the rules of Peek. If there are fewer bytes, the error matches io.ErrShortBuffer.
//
// For the buffers of a bufferevent:
// Loop goroutine only, or any goroutine while no loop runs.
// Wraps evbuffer_pullup.
func (b *Buffer) Pullup(n int, fn func(p []byte)) error {
	const op = "evbuffer_pullup"
	if fn == nil {
		return badArgument(op, "fn is nil")
	}
	c := b.lend()
	defer c.end()
	for c.next() {
		c.rc = b.pullup(n, fn)
	}
	_, err := c.result(op)
	if isInvalid(err) {
		return &Error{Op: op, Err: io.ErrShortBuffer}
	}
	return err
}

func (b *Buffer) pullup(n int, fn func([]byte)) C.int64_t {
	l := loans.Get().(*loan)
	got := C.glev_buf_pullup(b.c, C.int64_t(n), &l.vec[0])
	if got < 0 {
		loans.Put(l)
		return got
	}
	defer b.takeBack(l)
	fn(l.show(got, math.MaxInt)[0])
	return 0
}

// Reserve gives fn room for n bytes or more at the end of the buffer, in one or two
// pieces. fn writes to them, under the other rules of Peek, and returns how many bytes
// it used; these become part of the buffer. A number that is negative, or larger than
// the room, is an error. After an error, or if fn panics, the buffer is as it was
// before.
//
// For the buffers of a bufferevent:
// Loop goroutine only, or any goroutine while no loop runs.
// Wraps evbuffer_reserve_space, evbuffer_commit_space.
func (b *Buffer) Reserve(n int, fn func(spans [][]byte) (used int)) error {
	const op = "evbuffer_reserve_space"
	if fn == nil {
		return badArgument(op, "fn is nil")
	}
	if n <= 0 {
		return badArgument(op, "n is not positive: %d", n)
	}
	c := b.lend()
	defer c.end()
	for c.next() {
		c.rc = b.reserve(n, fn)
	}
	_, err := c.result(op)
	if isInvalid(err) {
		return badArgument(op, "used is negative, or more than there is room for")
	}
	return err
}

func (b *Buffer) reserve(n int, fn func([][]byte) int) (rc C.int64_t) {
	l := loans.Get().(*loan)
	pieces := C.glev_buf_reserve(b.c, C.size_t(n), &l.vec[0])
	if pieces < 0 {
		loans.Put(l)
		return pieces
	}
	used := -1
	defer func() { // also when fn panics
		if rc = -C.int64_t(syscall.EINVAL); used >= 0 {
			rc = C.glev_buf_commit(b.c, &l.vec[0], C.int(pieces), C.size_t(used))
			l.forget()
			loans.Put(l)
		} else {
			b.takeBack(l)
		}
	}()
	spans := l.show(pieces, math.MaxInt)
	room := 0
	for _, span := range spans {
		room += len(span)
	}
	if got := fn(spans); got <= room {
		used = got
	}
	return 0
}
