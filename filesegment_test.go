package libevent_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
)

func newFile(t *testing.T, data []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// Parts of a file arrive at the other end of a socket, a pair, or out of a buffer, by
// sendfile, by mmap and by reading.
func TestAddFile(t *testing.T) {
	data := noise(3 << 20)
	f := newFile(t, data)
	fds := openFDs(t)
	for name, opts := range map[string]libevent.FileSegmentOptions{
		"sendfile": {}, "read": {NoSendfile: true}, "mmap": {NoSendfile: true, Mmap: true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, part := range [][2]int64{{0, -1}, {4097, 100_000}, {1 << 20, -1}, {3<<20 - 1, 1}} {
				want := data[part[0]:]
				if part[1] >= 0 {
					want = want[:part[1]]
				}
				seg, err := libevent.NewFileSegment(f, part[0], part[1], opts)
				require.NoError(t, err)

				base := newBase(t)
				bev, peer := newSocket(t, base, 0)
				_, err = bev.WriteString("before ")
				require.NoError(t, err)
				require.NoError(t, bev.Output().AddFileSegment(seg, 0, -1))
				_, err = bev.WriteString(" after")
				require.NoError(t, err)
				got := readAll(peer)
				require.NoError(t, bev.FreeAfterFlush(patience))
				dispatch(t, base)
				same(t, append(append([]byte("before "), want...), " after"...), receive(t, got))

				a, b := newPair(t, base)
				require.NoError(t, b.Enable(rd))
				require.NoError(t, a.Output().AddFileSegment(seg, 0, -1))
				same(t, want, []byte(content(t, b.Input())))

				alone := newBuffer(t, "")
				require.NoError(t, alone.AddFileSegment(seg, 0, -1))
				seg.Free()
				seg.Free()
				assert.ErrorIs(t, alone.AddFileSegment(seg, 0, 1), libevent.ErrClosed)
				same(t, want, []byte(content(t, alone)))
				alone.Free()
				require.NoError(t, base.Free())
			}
		})
	}
	assert.Zero(t, libevent.Live().FileSegments)
	assert.LessOrEqual(t, openFDs(t), fds+24, "the duplicates are closed")
}

// Bytes that are still in a file have no memory to look at; asking is an error.
func TestLookingAtSentFiles(t *testing.T) {
	f := newFile(t, noise(1000))
	base := newBase(t)
	bev, peer := newSocket(t, base, 0)
	out := bev.Output()
	require.NoError(t, out.AddFile(f, 0, -1))
	require.NoError(t, f.Close(), "the caller may")
	assert.Equal(t, 1000, out.Len())
	_, err := out.CopyOut(make([]byte, 10))
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = out.CopyOutFrom(make([]byte, 10), 5)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	assert.ErrorIs(t, out.Peek(func([][]byte) {}), errors.ErrUnsupported)
	assert.ErrorIs(t, out.Pullup(-1, func([]byte) {}), errors.ErrUnsupported)
	assert.Equal(t, -1, out.Search([]byte("x"), 0))
	at, _ := out.SearchEOL(0, libevent.EOLLF)
	assert.Equal(t, -1, at)
	p := make([]byte, 1000)
	go func() { _ = base.Dispatch() }()
	_, err = io.ReadFull(peer, p)
	require.NoError(t, err)
	same(t, noise(1000), p)
	eventually(t, func() bool { return out.Len() == 0 }, "all is sent")
	_, err = out.CopyOut(p)
	assert.NoError(t, err, "nothing is in a file any more")
	eventually(t, func() bool { return base.Loop(libevent.LoopNonblock) == nil }, "the loop ends")
}

// A file that gets shorter is an event, not a busy loop.
func TestFileThatGetsShorter(t *testing.T) {
	f := newFile(t, noise(1<<20))
	base := newBase(t)
	bev, peer := newSocket(t, base, 0)
	go func() { _, _ = io.Copy(io.Discard, peer) }()
	require.NoError(t, bev.Output().AddFile(f, 0, -1))
	require.NoError(t, os.Truncate(f.Name(), 1000))
	assert.Equal(t, libevent.EventWriting|libevent.EventEOF, happening(t, bev))
}

func TestAddFileArguments(t *testing.T) {
	f := newFile(t, noise(100))
	b := newBuffer(t, "")
	for _, c := range [][2]int64{{-1, 1}, {101, 0}, {101, -1}, {0, 101}, {50, 51}, {1 << 62, 1 << 62}} {
		assert.ErrorIs(t, b.AddFile(f, c[0], c[1]), syscall.EINVAL, "%v", c)
	}
	assert.ErrorIs(t, b.AddFile(nil, 0, 0), syscall.EINVAL)
	assert.ErrorIs(t, b.AddFileSegment(nil, 0, 0), syscall.EINVAL)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	assert.ErrorIs(t, b.AddFile(r, 0, -1), syscall.EINVAL)
	require.NoError(t, b.AddFile(newFile(t, nil), 0, -1), "an empty file adds nothing")
	require.NoError(t, b.AddFile(f, 100, -1))
	assert.Zero(t, b.Len())
	require.NoError(t, b.Freeze(false))
	assert.ErrorIs(t, b.AddFile(f, 0, -1), libevent.ErrFrozen)
	require.NoError(t, f.Close())
	assert.Error(t, b.AddFile(f, 0, -1))
	assert.Zero(t, libevent.Live().FileSegments)
}
