package evnet

import (
	"io"
	"os"
	"syscall"
)

const (
	sendfileLeast = 64 << 10  // bytes, for which it pays
	sendfilePiece = 512 << 10 // at a time
)

// file is an *os.File, or what io.Copy makes of one to hide its WriteTo.
type file interface {
	io.ReadSeeker
	Stat() (os.FileInfo, error)
	SyscallConn() (syscall.RawConn, error)
}

// sendFile sends up to limit bytes of a file from its offset on, and what else r has of it
// as that of any reader. r is the file, perhaps with a limit.
func (c *Conn) sendFile(f file, limit int64, r io.Reader) (sent int64, err error) {
	from, size, ok := rest(f)
	size = min(size, limit)
	if !ok || size < sendfileLeast {
		return c.readFrom(r)
	}
	src, err := reopen(f)
	if err != nil {
		return c.readFrom(r)
	}
	defer src.Close()
	for sent < size && err == nil {
		var n int64
		n, err = c.writeFile(src, from+sent, min(size-sent, sendfilePiece))
		sent += n
	}
	// As if it had been read.
	if _, e := f.Seek(sent, io.SeekCurrent); err == nil {
		err = e
	}
	if limited, ok := r.(*io.LimitedReader); ok {
		limited.N -= sent
	}
	if err != nil {
		return sent, err
	}
	n, err := c.readFrom(r) // it has grown, perhaps
	return sent + n, err
}

// reopen gives the file a descriptor of its own: it may be closed meanwhile.
func reopen(f file) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var failure error
	err = raw.Control(func(old uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if fd, failure = syscall.Dup(int(old)); failure == nil {
			syscall.CloseOnExec(fd)
		}
	})
	if err == nil {
		err = failure
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), ""), nil
}

// rest says where a file is to be read next, and how much there is; ok is false for what is
// no regular file.
func rest(f file) (from, size int64, ok bool) {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0, 0, false
	}
	from, err = f.Seek(0, io.SeekCurrent)
	return from, info.Size() - from, err == nil
}

// writeFile is Write for a part of a file. It waits until that is sent.
func (c *Conn) writeFile(f *os.File, from, size int64) (n int64, err error) {
	c.out.turn.Lock()
	defer c.out.turn.Unlock()
	err = c.drained()
	if err == nil {
		err = cause(c.bev.Output().AddFile(f, from, size))
	}
	if err == nil {
		n = size
		err = c.drained()
	}
	c.queued = c.bev.Output().Len()
	if err != nil {
		err = c.opError("write", err)
	}
	return n, err
}
