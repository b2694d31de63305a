// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include <stdlib.h>
#include "native.h"
*/
import "C"

import (
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// FileSegment is a part of a file that can be added to many buffers. Its methods are
// safe for concurrent use.
//
// In the output of a socket bufferevent, sendfile moves the bytes from the file to the
// socket, without a copy in this process. Until that output has become empty again, its
// front is frozen, even after Unfreeze, and its bytes cannot be looked at: Peek, Pullup and
// CopyOut return an error that matches errors.ErrUnsupported, and Search finds nothing. If
// the file has become shorter meanwhile, the bufferevent gets EventEOF|EventWriting. A rate
// limit cannot divide a piece of a segment, which is 1 MiB, or a 1024th of a larger file.
//
// For any other buffer, AddFileSegment reads the file and appends a copy.
type FileSegment struct {
	usage
	c       *C.struct_glev_file
	handle  handle
	offset  int64
	length  int64
	cleanup atomic.Pointer[func()]
}

// FileSegmentOptions says how a FileSegment gets its bytes. The zero value is right for
// most files.
type FileSegmentOptions struct {
	// DisableSendfile makes libevent read the file for sockets, too.
	DisableSendfile bool
	// Mmap makes libevent map the file instead of reading it. The file must not become
	// shorter while the segment is in use, because SIGBUS would end the process.
	Mmap bool
}

// NewFileSegment makes a segment of length bytes of f from offset on. A negative length
// means up to the present end of f. It is an error if f does not have that range or is
// not a regular file. f is duplicated: the caller may close it, and its file offset
// does not matter.
// Wraps evbuffer_file_segment_new.
func NewFileSegment(f *os.File, offset, length int64, opts FileSegmentOptions) (*FileSegment, error) {
	const op = "evbuffer_file_segment_new"
	if err := useThreads(); err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, &Error{Op: op, Err: err}
	}
	if !info.Mode().IsRegular() {
		return nil, badArgument(op, "f is not a regular file: %v", info.Mode())
	}
	length, err = within(op, offset, length, info.Size())
	if err != nil {
		return nil, err
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, &Error{Op: op, Err: err}
	}
	s := &FileSegment{offset: offset, length: length}
	s.handle = newHandle(s)
	var errno C.int
	err = conn.Control(func(fd uintptr) {
		s.c = C.glev_file_new(C.int(fd), cBool(opts.Mmap), cBool(opts.DisableSendfile), s.handle.forC(), &errno)
	})
	if s.c == nil {
		s.handle.release()
		if err == nil {
			err = syscall.Errno(errno)
		}
		return nil, &Error{Op: op, Err: err}
	}
	live.objects[kindFileSegment].Add(1)
	s.open()
	return s, nil
}

// within returns the length of a range in size bytes, or an error if the range is not
// there.
func within(op string, offset, length, size int64) (int64, error) {
	if offset < 0 || offset > size {
		return 0, badArgument(op, "offset is %d, and there are %d bytes", offset, size)
	}
	if length < 0 {
		return size - offset, nil
	}
	if length > size-offset {
		return 0, badArgument(op, "length is %d at offset %d, and there are %d bytes", length, offset, size)
	}
	return length, nil
}

// SetCleanup sets a function that is called once, after the segment has been freed, no buffer
// has a part of it any more, and its descriptor is closed. It runs where the done function of
// AddReference would run.
// Wraps evbuffer_file_segment_add_cleanup_cb.
func (s *FileSegment) SetCleanup(fn func()) error {
	if !s.enter() {
		return ErrClosed
	}
	s.cleanup.Store(&fn)
	s.leave()
	return nil
}

// Free frees the segment. Buffers to which it was added keep their bytes of it.
// Wraps evbuffer_file_segment_free.
func (s *FileSegment) Free() {
	if s.close() {
		s.leave()
	}
}

func (s *FileSegment) leave() {
	if s.usage.leave() {
		defer collect().end()
		C.glev_file_release(s.c)
	}
}

func (s *FileSegment) ready() func() {
	s.handle.release()
	C.free(unsafe.Pointer(s.c))
	live.objects[kindFileSegment].Add(-1)
	if fn := s.cleanup.Load(); fn != nil {
		return *fn
	}
	return nil
}

// AddFileSegment appends length bytes of s from offset on. A negative length means up
// to the end of s.
// Wraps evbuffer_add_file_segment.
func (b *Buffer) AddFileSegment(s *FileSegment, offset, length int64) error {
	const op = "evbuffer_add_file_segment"
	if s == nil {
		return badArgument(op, "s is nil")
	}
	length, err := within(op, offset, length, s.length)
	if err != nil {
		return err
	}
	if !s.enter() {
		return ErrClosed
	}
	defer s.leave()
	if length == 0 {
		return b.check(op)
	}
	_, err = b.do(op, func() C.int64_t {
		return C.glev_buf_add_file(b.c, s.c, C.int64_t(s.offset+offset), C.int64_t(length))
	})
	return err
}

// AddFile appends length bytes of f from offset on, as a FileSegment of its own. A
// negative length means up to the present end of f. f is duplicated: the caller may
// close it, and its file offset does not matter.
// Wraps evbuffer_file_segment_new, evbuffer_add_file_segment.
func (b *Buffer) AddFile(f *os.File, offset, length int64) error {
	s, err := NewFileSegment(f, offset, length, FileSegmentOptions{})
	if err != nil {
		return err
	}
	defer s.Free()
	return b.AddFileSegment(s, 0, -1)
}
