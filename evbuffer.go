// SPDX-License-Identifier: BSD-3-Clause

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
	"math"
	"runtime"
	"syscall"
	"unsafe"
)

// Buffer is a queue of bytes in C memory, in chunks that can move to another Buffer
// without a copy. A bufferevent has two, and NewBuffer makes one that stands alone.
//
// Its methods are safe for concurrent use unless their doc says otherwise. The buffers
// of a bufferevent with OptLoopOnly are an exception, as that bufferevent is.
type Buffer struct {
	usage // only of a buffer that stands alone
	c     *C.struct_glev_buf
	owner *BufferEvent // the bufferevent whose input or output it is, or nil
}

var (
	_ io.ReadWriter = (*Buffer)(nil)
	_ io.ByteReader = (*Buffer)(nil)
	_ io.ReaderFrom = (*Buffer)(nil)
	_ io.WriterTo   = (*Buffer)(nil)
)

// NewBuffer makes an empty buffer. Free frees its memory.
// Wraps evbuffer_new.
func NewBuffer() (*Buffer, error) {
	if err := useThreads(); err != nil {
		return nil, err
	}
	b := &Buffer{c: C.glev_buf_new()}
	if b.c == nil {
		return nil, &Error{Op: "evbuffer_new", Err: syscall.ENOMEM}
	}
	live.objects[kindBuffer].Add(1)
	b.open()
	return b, nil
}

// Free frees the memory, when a Peek, Pullup or Reserve that is in progress has ended.
// On the input or output of a bufferevent it does nothing.
// Wraps evbuffer_free.
func (b *Buffer) Free() {
	if b.owner == nil && b.close() {
		b.leave()
	}
}

// enter enters the bufferevent that the buffer belongs to, or else the buffer.
func (b *Buffer) enter() bool {
	if b.owner != nil {
		return b.owner.enter()
	}
	return b.usage.enter()
}

// leave undoes enter.
func (b *Buffer) leave() {
	if b.owner != nil {
		b.owner.leave()
	} else if b.usage.leave() {
		defer collect().end()
		C.glev_buf_free(b.c)
		live.objects[kindBuffer].Add(-1)
	}
}

func bytesOf(p []byte) (*C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(unsafe.SliceData(p))), C.size_t(len(p))
}

// number is the record as C's glev_quick functions take it.
func (b *Buffer) number() C.uintptr_t { return C.uintptr_t(uintptr(unsafe.Pointer(b.c))) }

// Len returns the number of bytes in the buffer.
// Wraps evbuffer_get_length.
func (b *Buffer) Len() int {
	c := b.begin()
	defer c.end()
	for c.next() {
		c.rc = C.glev_buf_len(b.c)
	}
	n, _ := c.result("evbuffer_get_length")
	return n
}

// Add appends a copy of p.
// Wraps evbuffer_add.
func (b *Buffer) Add(p []byte) error {
	at, size := bytesOf(p)
	c := b.begin()
	defer c.end()
	for c.next() {
		c.rc = C.glev_buf_add(b.c, at, size)
	}
	raceReads(unsafe.SliceData(p), len(p))
	_, err := c.result("evbuffer_add")
	return err
}

// AddBuffer moves all of src to the end, without a copy.
// Wraps evbuffer_add_buffer.
func (b *Buffer) AddBuffer(src *Buffer) error {
	const op = "evbuffer_add_buffer"
	if src == nil {
		return badArgument(op, "src is nil")
	}
	c := b.begin()
	defer c.end()
	c.with(src)
	for c.next() {
		c.rc = C.glev_buf_add_buffer(b.c, src.c)
	}
	_, err := c.result(op)
	return err
}

// Prepend puts a copy of p before the first byte.
// Wraps evbuffer_prepend.
func (b *Buffer) Prepend(p []byte) error {
	at, size := bytesOf(p)
	_, err := b.do("evbuffer_prepend", func() C.int64_t { return C.glev_buf_prepend(b.c, at, size) })
	return err
}

// PrependBuffer moves all of src before the first byte, without a copy.
// Wraps evbuffer_prepend_buffer.
func (b *Buffer) PrependBuffer(src *Buffer) error {
	const op = "evbuffer_prepend_buffer"
	if src == nil {
		return badArgument(op, "src is nil")
	}
	c := b.begin()
	defer c.end()
	c.with(src)
	for c.next() {
		c.rc = C.glev_buf_prepend_buffer(b.c, src.c)
	}
	_, err := c.result(op)
	return err
}

// Remove moves up to len(p) bytes from the front to p. It returns 0 if the buffer is
// empty.
// Wraps evbuffer_remove.
func (b *Buffer) Remove(p []byte) (int, error) {
	at, size := bytesOf(p)
	c := b.begin()
	defer c.end()
	for c.next() {
		c.rc = C.glev_buf_remove(b.c, at, size)
	}
	n, err := c.result("evbuffer_remove")
	raceWrites(p, n)
	return n, err
}

// RemoveBuffer moves up to n bytes from the front to the end of dst, and returns how
// many. It copies no whole chunks.
// Wraps evbuffer_remove_buffer.
func (b *Buffer) RemoveBuffer(dst *Buffer, n int) (int, error) {
	const op = "evbuffer_remove_buffer"
	if n < 0 {
		return 0, badArgument(op, "n is negative: %d", n)
	}
	if dst == nil {
		return 0, badArgument(op, "dst is nil")
	}
	n = min(n, 1<<31-1) // the result is an int in C
	c := b.begin()
	defer c.end()
	c.with(dst)
	for c.next() {
		c.rc = C.glev_buf_remove_buffer(b.c, dst.c, C.size_t(n))
	}
	return c.result(op)
}

// Drain removes n bytes from the front, or all if there are fewer.
// Wraps evbuffer_drain.
func (b *Buffer) Drain(n int) error {
	const op = "evbuffer_drain"
	if n < 0 {
		return badArgument(op, "n is negative: %d", n)
	}
	c := b.begin()
	defer c.end()
	for c.next() {
		c.rc = C.glev_buf_drain(b.c, C.size_t(n))
	}
	_, err := c.result(op)
	return err
}

// CopyOut copies up to len(p) bytes from the front to p. They stay in the buffer.
// Wraps evbuffer_copyout.
func (b *Buffer) CopyOut(p []byte) (int, error) {
	at, size := bytesOf(p)
	c := b.begin()
	defer c.end()
	for c.next() {
		c.rc = C.glev_buf_copyout(b.c, at, size)
	}
	n, err := c.result("evbuffer_copyout")
	raceWrites(p, n)
	return n, err
}

// CopyOutFrom is CopyOut from an offset. An offset beyond the end is an error.
// Wraps evbuffer_copyout_from.
func (b *Buffer) CopyOutFrom(p []byte, from int) (int, error) {
	const op = "evbuffer_copyout_from"
	if from < 0 {
		return 0, badArgument(op, "from is negative: %d", from)
	}
	at, size := bytesOf(p)
	n, err := b.do(op, func() C.int64_t { return C.glev_buf_copyout_from(b.c, at, size, C.size_t(from)) })
	raceWrites(p, n)
	return n, beyondEnd(op, from, err)
}

func beyondEnd(op string, from int, err error) error {
	if isInvalid(err) {
		return badArgument(op, "from is beyond the end: %d", from)
	}
	return err
}

// Search returns the offset of what, at or after the offset from, or -1.
// Wraps evbuffer_search.
func (b *Buffer) Search(what []byte, from int) int {
	return b.SearchRange(what, from, math.MaxInt)
}

// SearchRange is Search in the bytes before the offset to.
// Wraps evbuffer_search_range.
func (b *Buffer) SearchRange(what []byte, from, to int) int {
	if from < 0 || to < from {
		return -1
	}
	at, size := bytesOf(what)
	return b.find(func() C.int64_t {
		return C.glev_buf_search(b.c, at, size, C.size_t(from), C.size_t(to))
	})
}

// SearchEOL returns the offset and the length of the first line ending at or after the
// offset from, or -1 and 0 if there is none.
// Wraps evbuffer_search_eol.
func (b *Buffer) SearchEOL(from int, eol EOL) (at, length int) {
	if from < 0 || eol < EOLAny || eol > EOLNUL {
		return -1, 0
	}
	var n C.size_t
	at = b.find(func() C.int64_t {
		return C.glev_buf_search_eol(b.c, C.size_t(from), C.int(eol), &n)
	})
	if at < 0 {
		return -1, 0
	}
	return at, int(n)
}

// find makes a C call that returns an offset, or -1.
func (b *Buffer) find(function func() C.int64_t) int {
	c := b.begin()
	defer c.end()
	for c.next() {
		c.rc = function()
	}
	return max(int(c.rc), -1)
}

// ReadLine removes the first line and its ending, and returns the line without the
// ending, in a slice of the caller's. ok is false if there is no whole line.
// Wraps evbuffer_readln.
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
	raceAcquire()
	return line, ok && err == nil
}

// Lines removes and yields one line after the other, as ReadLine does, until there is
// no whole line.
// Wraps evbuffer_readln.
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

// ErrLineTooLong is the error of BoundedLines.
var ErrLineTooLong = errors.New("libevent: a line is too long")

// BoundedLines is Lines for a peer that is not trusted, and that could make the input grow with
// a line that has no end. If a line has more than limit bytes, or if more than limit bytes have
// come without a line ending, BoundedLines yields ErrLineTooLong and ends.
// Wraps evbuffer_readln.
func (b *Buffer) BoundedLines(eol EOL, limit int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			end, _ := b.SearchEOL(0, eol)
			if end > limit || end < 0 && b.Len() > limit+len("\r") {
				yield(nil, ErrLineTooLong)
				return
			}
			line, ok := b.ReadLine(eol)
			if !ok || !yield(line, nil) {
				return
			}
		}
	}
}

// Freeze makes changes at the front, or else at the back, fail with ErrFrozen. libevent
// itself freezes the back of an input and the front of an output, and restores that
// after each read and write. A TLS connection that libevent reads, with OptPlainIO, a rate limit or
// a filter on it, reads nothing while the back of its input is frozen.
// Wraps evbuffer_freeze.
func (b *Buffer) Freeze(front bool) error { return b.freeze("evbuffer_freeze", front, 1) }

// Unfreeze undoes Freeze. The front of the output of a TLS connection stays frozen: what is there,
// OpenSSL has perhaps begun to write.
// Wraps evbuffer_unfreeze.
func (b *Buffer) Unfreeze(front bool) error { return b.freeze("evbuffer_unfreeze", front, 0) }

func (b *Buffer) freeze(op string, front bool, on C.int) error {
	end := C.int(C.GLEV_BACK)
	if front {
		end = C.GLEV_FRONT
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_buf_freeze(b.c, end, on) })
	return err
}

// --- memory ----------------------------------------------------------------------------

// AddVec appends copies of all spans, in order, and returns how many bytes it added:
// all of them, or fewer and an error if there is no memory.
// Wraps evbuffer_add_iovec.
func (b *Buffer) AddVec(spans [][]byte) (int, error) {
	const op = "evbuffer_add_iovec"
	var pin runtime.Pinner // the array below hides the slices from cgo
	defer pin.Unpin()
	vec := make([]C.struct_evbuffer_iovec, 0, len(spans)+1)
	total := 0
	for _, p := range spans {
		if len(p) > 0 {
			pin.Pin(&p[0])
			vec = append(vec, C.struct_evbuffer_iovec{iov_base: unsafe.Pointer(&p[0]), iov_len: C.size_t(len(p))})
			total += len(p)
		}
	}
	if len(vec) > math.MaxInt32 {
		return 0, badArgument(op, "%d spans are too many", len(vec))
	}
	n, err := b.do(op, func() C.int64_t {
		return C.glev_buf_add_iovec(b.c, unsafe.SliceData(vec), C.int(len(vec)))
	})
	if err == nil && n < total {
		err = &Error{Op: op, Err: syscall.ENOMEM}
	}
	return n, err
}

// Expand makes room for n more bytes in one piece at the end.
// Wraps evbuffer_expand.
func (b *Buffer) Expand(n int) error {
	const op = "evbuffer_expand"
	if n < 0 {
		return badArgument(op, "n is negative: %d", n)
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_buf_expand(b.c, C.size_t(n)) })
	return err
}

// ContiguousSpace returns how many bytes at the front are in one piece, so that Pullup
// of them copies nothing.
// Wraps evbuffer_get_contiguous_space.
func (b *Buffer) ContiguousSpace() int {
	n, _ := b.do("evbuffer_get_contiguous_space", func() C.int64_t { return C.glev_buf_contiguous_space(b.c) })
	return n
}

// --- descriptors -----------------------------------------------------------------------

// ReadFD appends what one read of fd returns: at most n bytes, or, with a negative n,
// as many as libevent reads at a time. It returns io.EOF at the end, and ErrWouldBlock
// if there is nothing yet. If fd blocks, ReadFD blocks, and so does every other use of
// the buffer.
// Wraps evbuffer_read.
func (b *Buffer) ReadFD(fd, n int) (int, error) {
	const op = "evbuffer_read"
	if n == 0 {
		return 0, b.check(op) // libevent would report the end
	}
	n, err := b.transfer(op, fd, n, func(n C.int) C.int64_t { return C.glev_buf_read(b.c, C.int(fd), n) })
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// WriteFD writes bytes from the front to fd in one write: at most n, or, with a
// negative n, as many as libevent writes at a time. It removes what it has written. It
// returns ErrWouldBlock if fd takes nothing now. If fd blocks, WriteFD blocks, and so
// does every other use of the buffer.
// Wraps evbuffer_write_atmost.
func (b *Buffer) WriteFD(fd, n int) (int, error) {
	return b.transfer("evbuffer_write_atmost", fd, n, func(n C.int) C.int64_t {
		return C.glev_buf_write(b.c, C.int(fd), C.int64_t(n))
	})
}

func (b *Buffer) transfer(op string, fd, n int, function func(n C.int) C.int64_t) (int, error) {
	if fd < 0 {
		return 0, badArgument(op, "fd is %d", fd)
	}
	most := C.int(max(min(n, math.MaxInt32), -1))
	n, err := b.do(op, func() C.int64_t { return function(most) })
	if errors.Is(err, syscall.EAGAIN) {
		err = ErrWouldBlock
	}
	return n, err
}

// SetMaxRead sets how many bytes ReadFD, or the bufferevent, reads at a time at most.
// libevent 2.1 has a fixed number, and the error then matches errors.ErrUnsupported.
// Wraps evbuffer_set_max_read.
func (b *Buffer) SetMaxRead(n int) error {
	const op = "evbuffer_set_max_read"
	if n <= 0 || n > math.MaxInt32 {
		return badArgument(op, "n is %d, not 1 to %d", n, math.MaxInt32)
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_buf_set_max_read(b.c, C.size_t(n)) })
	return err
}

// MaxRead returns what SetMaxRead set, with the same error in libevent 2.1.
// Wraps evbuffer_get_max_read.
func (b *Buffer) MaxRead() (int, error) {
	return b.do("evbuffer_get_max_read", func() C.int64_t { return C.glev_buf_max_read(b.c) })
}

// check returns the error of a call that has nothing to do in C.
func (b *Buffer) check(op string) error {
	_, err := b.do(op, func() C.int64_t { return C.glev_buf_check(b.c) })
	return err
}

// --- package io ----------------------------------------------------------------------

// Read is Remove in the form of io.Reader: it returns io.EOF if the buffer is empty.
// Wraps evbuffer_remove.
func (b *Buffer) Read(p []byte) (int, error) {
	n, err := b.Remove(p)
	if n == 0 && err == nil && len(p) > 0 {
		return 0, io.EOF
	}
	return n, err
}

// Write is Add in the form of io.Writer.
// Wraps evbuffer_add.
func (b *Buffer) Write(p []byte) (int, error) {
	if err := b.Add(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ReadByte removes the first byte. It returns io.EOF if there is none.
// Wraps evbuffer_remove.
func (b *Buffer) ReadByte() (byte, error) {
	var p [1]byte
	_, err := b.Read(p[:])
	return p[0], err
}

const copySize = 32 << 10

// ReadFrom appends what r returns, until io.EOF. It blocks while r does.
// Wraps evbuffer_add.
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

// WriteTo removes all bytes and writes them to w. It puts back what w does not take. It
// blocks while w does.
// Wraps evbuffer_remove.
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

// giveTo writes p to w, and puts back what w did not take, also if w panics.
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
