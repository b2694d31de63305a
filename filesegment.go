package libevent

/*
#include "native.h"
*/
import "C"

import (
	"os"
	"syscall"
)

// FileSegmentOptions says how the bytes of a file come into a buffer. The zero value
// sends them from the file where that is possible, to a socket, and otherwise reads
// them into memory once.
type FileSegmentOptions struct {
	NoSendfile bool // read into memory at once, whatever the buffer
	Mmap       bool // map instead of reading; a file that is then cut short kills the process
}

// FileSegment is a part of a file that can be put into several buffers, without
// reading it for each.
type FileSegment struct {
	usage
	c        *C.struct_evbuffer_file_segment
	length   int64
	sendfile bool
}

// NewFileSegment makes a segment of length bytes of f from offset on; a negative length
// is up to the end. It duplicates f, which the caller may close. Free lets go of it.
// Safe for concurrent use. Wraps evbuffer_file_segment_new.
func NewFileSegment(f *os.File, offset, length int64, opts FileSegmentOptions) (*FileSegment, error) {
	const op = "evbuffer_file_segment_new"
	if f == nil {
		return nil, badArgument(op, "f is nil")
	}
	if err := useThreads(); err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, &Error{op, err}
	}
	if !st.Mode().IsRegular() {
		return nil, badArgument(op, "%s is not a regular file", f.Name())
	}
	if offset < 0 || offset > st.Size() || length > st.Size()-offset {
		return nil, badArgument(op, "offset %d, length %d: the file has %d bytes", offset, length, st.Size())
	}
	if length < 0 {
		length = st.Size() - offset
	}
	fd, err := duplicate(f)
	if err != nil {
		return nil, &Error{op, err}
	}
	how := C.int(0)
	if opts.Mmap {
		how |= C.GLEV_MMAP
	}
	if !opts.NoSendfile || length == 0 { // nothing cannot be read or mapped
		how |= C.GLEV_SENDFILE
	}
	s := &FileSegment{length: length, sendfile: how&C.GLEV_SENDFILE != 0}
	var errno C.int
	s.c = C.glev_seg_new(C.int(fd), C.int64_t(offset), C.int64_t(length), how, &errno)
	if s.c == nil {
		return nil, &Error{op, syscall.Errno(errno)}
	}
	live.objects[kindFileSegment].Add(1)
	s.open()
	return s, nil
}

// duplicate makes a descriptor of the same file that other programs do not inherit.
func duplicate(f *os.File) (fd int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	cerr := conn.Control(func(of uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if fd, err = syscall.Dup(int(of)); err == nil {
			syscall.CloseOnExec(fd)
		}
	})
	if cerr != nil {
		return -1, cerr
	}
	return fd, err
}

// Free lets go of the segment; what buffers have of it they keep.
// Safe for concurrent use. Wraps evbuffer_file_segment_free.
func (s *FileSegment) Free() {
	if s.close() {
		s.leave()
	}
}

func (s *FileSegment) leave() {
	if s.exit() {
		C.evbuffer_file_segment_free(s.c)
		live.objects[kindFileSegment].Add(-1)
	}
}

// AddFileSegment appends length bytes of the segment from offset on; a negative length
// is up to its end. In the output of a socket they may stay in the file until they are
// sent with sendfile(2): Peek, Pullup and CopyOut of it then return an error that
// matches errors.ErrUnsupported, and Search finds nothing.
// Safe for concurrent use. Wraps evbuffer_add_file_segment.
func (b *Buffer) AddFileSegment(seg *FileSegment, offset, length int64) error {
	const op = "evbuffer_add_file_segment"
	if seg == nil {
		return badArgument(op, "seg is nil")
	}
	if !seg.enter() {
		return ErrClosed
	}
	defer seg.leave()
	if offset < 0 || offset > seg.length || length > seg.length-offset {
		return badArgument(op, "offset %d, length %d: the segment has %d bytes", offset, length, seg.length)
	}
	if length < 0 {
		length = seg.length - offset
	}
	if length == 0 {
		return nil
	}
	_, err := b.do(op, func() C.int64_t {
		return C.glev_buf_add_segment(b.c, seg.c, C.int64_t(offset), C.int64_t(length), cBool(seg.sendfile))
	})
	return err
}

// AddFile appends length bytes of f from offset on; a negative length is up to the end.
// It duplicates f, which the caller may close. See AddFileSegment.
// Safe for concurrent use. Wraps evbuffer_add_file.
func (b *Buffer) AddFile(f *os.File, offset, length int64) error {
	seg, err := NewFileSegment(f, offset, length, FileSegmentOptions{})
	if err != nil {
		return err
	}
	defer seg.Free()
	return b.AddFileSegment(seg, 0, -1)
}
