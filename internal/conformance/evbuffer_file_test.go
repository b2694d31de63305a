// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"io"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestConformanceBufferFile(t *testing.T) {
	t.Run("file_segment_add_cleanup_cb", conformSegmentCleanup)
	t.Run("add_file_leak1", conformAddFileLeak)

	// The cases of one name differ in how the bytes get from the file to the socket.
	for name, c := range map[string]fileCase{
		"add_file":         {size: 34},
		"add_big_file":     {size: 512 << 10},
		"add_file_offset":  {size: 512 << 10, partOfFile: true},
		"add_file_offset2": {size: 512 << 10, partOfSegment: true},
		"add_file_offset3": {size: 512 << 10, partOfFile: true, partOfSegment: true},
	} {
		for how, opts := range map[string]*libevent.FileSegmentOptions{
			"sendfile": {}, "mmap": {Mmap: true, DisableSendfile: true},
			"linear": {DisableSendfile: true}, "nosegment": nil,
		} {
			if opts == nil && c.partOfSegment {
				continue // libevent has no such case
			}
			t.Run(name+"_"+how, func(t *testing.T) { conformAddFile(t, c, opts) })
		}
	}
}

type fileCase struct {
	size                      int
	partOfFile, partOfSegment bool
}

func conformAddFile(t *testing.T, c fileCase, opts *libevent.FileSegmentOptions) {
	data := testutil.Noise(c.size)
	f := testutil.NewFile(t, data)
	offset, length := int64(0), int64(-1)
	if c.partOfFile {
		offset, length = int64(c.size/4+1), int64(c.size/2-1)
		data = data[offset : offset+length]
	}
	base := testutil.NewBase(t)
	x, y := testutil.Socketpair(t)
	bev, err := base.NewSocket(x, libevent.OptCloseOnFree)
	require.NoError(t, err)
	if opts == nil {
		require.NoError(t, bev.Output().AddFile(f, offset, length))
	} else {
		s, err := libevent.NewFileSegment(f, offset, length, *opts)
		require.NoError(t, err)
		from, n := int64(0), int64(-1)
		if c.partOfSegment {
			from, n = int64(len(data)/3), int64(len(data)/2)
			data = data[from : from+n]
		}
		require.NoError(t, bev.Output().AddFileSegment(s, from, n))
		s.Free()
	}
	assert.Equal(t, len(data), bev.Output().Len())

	// The reader is an event on the same loop, which reads with ReadFD.
	got := testutil.NewBuffer(t, "")
	require.NoError(t, syscall.SetNonblock(y, true))
	e, err := base.NewEvent(y, rd|libevent.EvPersist, func(fd int, _ libevent.What) {
		for {
			switch _, err := got.ReadFD(fd, 1024); err {
			case nil:
			case libevent.ErrWouldBlock:
				return
			case io.EOF:
				assert.NoError(t, base.LoopBreak())
				return
			default:
				assert.NoError(t, err)
				assert.NoError(t, base.LoopBreak())
				return
			}
		}
	})
	require.NoError(t, err)
	require.NoError(t, e.Add(-1))
	require.NoError(t, bev.CloseWrite())
	testutil.Dispatch(t, base)
	e.Free()
	require.NoError(t, syscall.Close(y))
	testutil.Same(t, data, []byte(testutil.Content(t, got)))
}

func conformSegmentCleanup(t *testing.T) {
	f := testutil.NewFile(t, []byte("contents of the file"))
	s, err := libevent.NewFileSegment(f, 0, -1, libevent.FileSegmentOptions{Mmap: true})
	require.NoError(t, err)
	done, calls := testutil.Counter()
	require.NoError(t, s.SetCleanup(done))
	b := testutil.NewBuffer(t, "")
	require.NoError(t, b.AddFileSegment(s, 0, -1))
	assert.Zero(t, *calls)
	s.Free()
	assert.Zero(t, *calls)
	holds(t, "contents of the file", b)
	b.Free()
	assert.Equal(t, 1, *calls)
}

func conformAddFileLeak(t *testing.T) {
	f := testutil.NewFile(t, nil)
	require.NoError(t, f.Close())
	b := testutil.NewBuffer(t, "")
	before := testutil.OpenFDs(t)
	assert.Error(t, b.AddFile(f, 0, 0))
	assert.Equal(t, before, testutil.OpenFDs(t))
	assert.Zero(t, b.Len())
}
