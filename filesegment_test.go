// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"errors"
	"io"
	"math"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// silent makes a bufferevent that does not write what is in its output.
func silent(t testing.TB, base *libevent.Base) *libevent.BufferEvent {
	t.Helper()
	bev, _ := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.Disable(wr))
	return bev
}

func TestAddFile(t *testing.T) {
	data := testutil.Noise(3 << 20)
	f := testutil.NewFile(t, data)
	for _, c := range []struct{ offset, length, want int64 }{
		{0, -1, 3 << 20}, {0, 3 << 20, 3 << 20}, {12345, 100, 100}, {1 << 20, -1, 2 << 20},
		{0, 0, 0}, {3 << 20, 0, 0}, {3 << 20, -1, 0},
	} {
		b := testutil.NewBuffer(t, "")
		require.NoError(t, b.AddFile(f, c.offset, c.length), c)
		testutil.Same(t, data[c.offset:c.offset+c.want], []byte(testutil.Content(t, b)))
	}
	at, err := f.Seek(0, io.SeekCurrent)
	require.NoError(t, err)
	assert.EqualValues(t, len(data), at, "the offset of the file is left alone")

	b := testutil.NewBuffer(t, "")
	for _, c := range []struct{ offset, length int64 }{
		{-1, 1}, {3<<20 + 1, 0}, {3<<20 + 1, -1}, {3 << 20, 1}, {1, 3 << 20}, {1, math.MaxInt64}, {math.MaxInt64, 1},
	} {
		assert.ErrorIs(t, b.AddFile(f, c.offset, c.length), syscall.EINVAL, "%v", c)
	}
	assert.Zero(t, b.Len())
	require.NoError(t, b.AddFile(testutil.NewFile(t, nil), 0, -1), "an empty file")
	assert.Zero(t, b.Len())
}

func TestAddFileIsSent(t *testing.T) {
	base := testutil.NewBase(t)
	data := testutil.Noise(3 << 20)
	f := testutil.NewFile(t, data)
	bev, peer := testutil.NewSocket(t, base, 0)
	got := testutil.ReadAll(peer)
	for _, text := range []string{"before", "between", "after"} {
		_, err := bev.WriteString(text)
		require.NoError(t, err)
		if text != "after" {
			require.NoError(t, bev.Output().AddFile(f, 1000, -1))
		}
	}
	require.NoError(t, f.Close())
	require.NoError(t, bev.CloseWrite())
	testutil.Dispatch(t, base)
	want := append([]byte("before"), data[1000:]...)
	want = append(append(want, "between"...), data[1000:]...)
	testutil.Same(t, append(want, "after"...), testutil.Receive(t, got))
	assert.Zero(t, libevent.Live().FileSegments)
}

func TestAddFileFails(t *testing.T) {
	base := testutil.NewBase(t)
	b, out := testutil.NewBuffer(t, ""), silent(t, base).Output()
	f := testutil.NewFile(t, []byte("0123456789"))
	fds := testutil.OpenFDs(t)
	closed := testutil.NewFile(t, nil)
	require.NoError(t, closed.Close())
	r, w, err := os.Pipe()
	require.NoError(t, err)
	dir, err := os.Open(t.TempDir())
	require.NoError(t, err)
	for _, bad := range []*os.File{r, w, dir} {
		assert.ErrorIs(t, b.AddFile(bad, 0, -1), syscall.EINVAL)
		require.NoError(t, bad.Close())
	}
	assert.ErrorIs(t, b.AddFile(closed, 0, -1), os.ErrClosed)
	assert.ErrorIs(t, b.AddFile(nil, 0, -1), os.ErrInvalid)
	for _, b := range []*libevent.Buffer{b, out} {
		require.NoError(t, b.Freeze(false))
		assert.ErrorIs(t, b.AddFile(f, 0, -1), libevent.ErrFrozen)
		require.NoError(t, b.Unfreeze(false))
		require.NoError(t, b.Peek(func([][]byte) {
			assert.ErrorIs(t, b.AddFile(f, 0, -1), libevent.ErrLent)
		}))
		assert.Zero(t, b.Len())
	}
	b.Free()
	assert.ErrorIs(t, b.AddFile(f, 0, -1), libevent.ErrClosed)
	assert.ErrorIs(t, b.AddFile(f, 0, 0), libevent.ErrClosed)
	assert.Equal(t, fds, testutil.OpenFDs(t))
	testutil.Dispatch(t, base) // the Peek acted as the loop, and left work for the loop
	assert.Zero(t, libevent.Live().FileSegments)
}

// A write-only file cannot be read. The error comes when libevent reads it.
func TestAddFileThatCannotBeRead(t *testing.T) {
	path := testutil.NewFile(t, []byte("data")).Name()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer f.Close()
	b := testutil.NewBuffer(t, "kept")
	assert.ErrorIs(t, b.AddFile(f, 0, -1), syscall.EBADF)
	assert.Equal(t, "kept", testutil.Content(t, b))

	testutil.Quiet(t)
	s, err := libevent.NewFileSegment(f, 0, -1, libevent.FileSegmentOptions{Mmap: true})
	require.NoError(t, err)
	defer s.Free()
	assert.Error(t, b.AddFileSegment(s, 0, -1))
	assert.Equal(t, "kept", testutil.Content(t, b))
	base := testutil.NewBase(t)
	out := silent(t, base).Output()
	s, err = libevent.NewFileSegment(f, 0, -1, libevent.FileSegmentOptions{Mmap: true, DisableSendfile: true})
	require.NoError(t, err)
	defer s.Free()
	assert.Error(t, out.AddFileSegment(s, 0, -1))
	require.NoError(t, out.Add([]byte("x")))
	assert.Equal(t, "x", testutil.Content(t, out), "and no file is in it")
}

// The bytes of a file that is in an output are not in memory, and libevent would look at
// them without a check.
func TestFileInAnOutputCannotBeLookedAt(t *testing.T) {
	base := testutil.NewBase(t)
	f := testutil.NewFile(t, testutil.Noise(100_000))
	bev := silent(t, base)
	out, other := bev.Output(), testutil.NewBuffer(t, "x")
	_, err := bev.WriteString("line\nthen ")
	require.NoError(t, err)
	require.NoError(t, out.Unfreeze(true))
	require.NoError(t, out.AddFile(f, 0, -1))
	_, err = bev.WriteString("at last")
	require.NoError(t, err)
	require.NoError(t, out.Unfreeze(true))
	length := out.Len()
	assert.Equal(t, 10+100_000+7, length)
	p := make([]byte, length)

	for name, err := range map[string]error{
		"Peek":        out.Peek(func([][]byte) { assert.Fail(t, "peek") }),
		"PeekRange":   out.PeekRange(3, 1, func([][]byte) { assert.Fail(t, "peek") }),
		"Pullup":      out.Pullup(-1, func([]byte) { assert.Fail(t, "pullup") }),
		"Pullup 3":    out.Pullup(3, func([]byte) { assert.Fail(t, "pullup") }),
		"CopyOut":     func() error { _, err := out.CopyOut(p); return err }(),
		"CopyOutFrom": func() error { _, err := out.CopyOutFrom(p, 5); return err }(),
	} {
		assert.ErrorIs(t, err, errors.ErrUnsupported, name)
	}
	for name, err := range map[string]error{
		"Drain":              out.Drain(1),
		"Prepend":            out.Prepend([]byte("x")),
		"PrependBuffer":      out.PrependBuffer(other),
		"WriteFD":            func() error { _, err := out.WriteFD(1, -1); return err }(),
		"Remove":             func() error { _, err := out.Remove(p); return err }(),
		"Read":               func() error { _, err := out.Read(p); return err }(),
		"ReadByte":           func() error { _, err := out.ReadByte(); return err }(),
		"WriteTo":            func() error { _, err := out.WriteTo(io.Discard); return err }(),
		"RemoveBuffer":       func() error { _, err := out.RemoveBuffer(other, 20); return err }(),
		"AddBuffer from":     other.AddBuffer(out),
		"PrependBuffer from": other.PrependBuffer(out),
		"WriteBuffer from":   silent(t, base).WriteBuffer(out),
	} {
		assert.ErrorIs(t, err, libevent.ErrFrozen, name)
	}
	assert.Equal(t, -1, out.Search([]byte("last"), 0))
	assert.Equal(t, -1, out.SearchRange([]byte("last"), 0, length))
	at, _ := out.SearchEOL(0, libevent.EOLLF)
	assert.Equal(t, -1, at)
	_, ok := out.ReadLine(libevent.EOLLF)
	assert.False(t, ok)
	require.NoError(t, out.Expand(10))
	require.NoError(t, out.Reserve(10, func(spans [][]byte) int { return copy(spans[0], "!") }))
	assert.Equal(t, 10, out.ContiguousSpace())
	assert.Equal(t, length+1, out.Len())
	assert.Equal(t, "x", testutil.Content(t, other))
}

func TestFileInAnOutputHasLeft(t *testing.T) {
	base := testutil.NewBase(t)
	f := testutil.NewFile(t, testutil.Noise(100_000))
	bev, peer := testutil.NewSocket(t, base, 0)
	out := bev.Output()
	received := make(chan int)
	go func() {
		n, _ := io.Copy(io.Discard, peer)
		received <- int(n)
	}()
	require.NoError(t, bev.SetCallbacks(nil, func(bev *libevent.BufferEvent) {
		assert.NoError(t, bev.Disable(wr))
		assert.NoError(t, base.LoopBreak())
	}, nil))
	for range 3 {
		require.NoError(t, out.AddFile(f, 0, -1))
		assert.ErrorIs(t, out.Peek(func([][]byte) {}), errors.ErrUnsupported)
		require.NoError(t, bev.Enable(wr))
		testutil.Dispatch(t, base)
		assert.Zero(t, out.Len())
		require.NoError(t, out.Add([]byte("abc")))
		assert.Equal(t, "abc", testutil.Content(t, out))
		require.NoError(t, out.Unfreeze(true))
		require.NoError(t, out.Drain(1))
		require.NoError(t, out.Freeze(true))
		assert.ErrorIs(t, out.Drain(1), libevent.ErrFrozen)
	}
	bev.Free()
	assert.Equal(t, 3*100_000+2*2, testutil.Receive(t, received))
}

// A file that has become shorter ends the writing, without a crash.
func TestAddFileTruncated(t *testing.T) {
	base := testutil.NewBase(t)
	f := testutil.NewFile(t, testutil.Noise(100_000))
	bev, peer := testutil.NewSocket(t, base, 0)
	got := testutil.ReadAll(peer)
	require.NoError(t, bev.Output().AddFile(f, 0, -1))
	s, err := libevent.NewFileSegment(f, 0, -1, libevent.FileSegmentOptions{})
	require.NoError(t, err)
	defer s.Free()
	require.NoError(t, f.Truncate(50_000))
	events := libevent.Events(0)
	require.NoError(t, bev.SetCallbacks(nil, nil, func(bev *libevent.BufferEvent, what libevent.Events) {
		events |= what
		bev.Free()
	}))
	testutil.Dispatch(t, base)
	assert.Equal(t, libevent.EventEOF|libevent.EventWriting, events)
	assert.Len(t, testutil.Receive(t, got), 50_000)

	b := testutil.NewBuffer(t, "kept")
	assert.ErrorIs(t, b.AddFileSegment(s, 0, -1), syscall.EIO)
	require.NoError(t, b.AddFileSegment(s, 0, 3))
	assert.Equal(t, 7, b.Len())
}

// Libevent itself would allocate as much memory as the file is long when bytes are
// appended.
func TestAddAfterAnEnormousFile(t *testing.T) {
	if testutil.ASan {
		t.Skip("the address sanitizer ends the process when malloc fails")
	}
	if strconv.IntSize < 64 {
		t.Skip("the address space has no room for such a file here")
	}
	base := testutil.NewBase(t)
	f := testutil.NewFile(t, nil)
	if err := f.Truncate(1 << 42); err != nil {
		t.Skip("no sparse files here: ", err)
	}
	bev := silent(t, base)
	require.NoError(t, bev.Output().AddFile(f, 1<<42-5, -1))
	_, err := bev.WriteString("behind it")
	require.NoError(t, err)
	require.NoError(t, bev.Output().Add([]byte("!")))
	assert.Equal(t, 5+9+1, bev.Output().Len())
	require.NoError(t, bev.Output().AddFile(f, 0, -1), "four terabytes")
}

func TestFileSegment(t *testing.T) {
	data := testutil.Noise(100_000)
	for name, opts := range map[string]libevent.FileSegmentOptions{
		"sendfile or copy": {}, "copy": {DisableSendfile: true},
		"sendfile or mmap": {Mmap: true}, "mmap": {Mmap: true, DisableSendfile: true},
	} {
		t.Run(name, func(t *testing.T) {
			base := testutil.NewBase(t)
			f := testutil.NewFile(t, data)
			s, err := libevent.NewFileSegment(f, 5000, 90_000, opts)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			done, calls := testutil.Counter()
			require.NoError(t, s.SetCleanup(done))
			fds := testutil.OpenFDs(t)

			bev, peer := testutil.NewSocket(t, base, 0)
			got := testutil.ReadAll(peer)
			b := testutil.NewBuffer(t, "")
			for _, b := range []*libevent.Buffer{b, bev.Output()} {
				require.NoError(t, b.AddFileSegment(s, 0, -1))
				require.NoError(t, b.AddFileSegment(s, 10_000, 10_001))
				require.NoError(t, b.AddFileSegment(s, 7, 0))
				require.NoError(t, b.AddFileSegment(s, 90_000, -1))
				for _, c := range []struct{ offset, length int64 }{{-1, 1}, {90_001, 0}, {1, 90_000}} {
					assert.ErrorIs(t, b.AddFileSegment(s, c.offset, c.length), syscall.EINVAL)
				}
			}
			assert.ErrorIs(t, b.AddFileSegment(nil, 0, -1), syscall.EINVAL)
			s.Free()
			s.Free()
			assert.ErrorIs(t, b.AddFileSegment(s, 0, -1), libevent.ErrClosed)
			assert.ErrorIs(t, s.SetCleanup(done), libevent.ErrClosed)
			want := append(append([]byte{}, data[5000:95_000]...), data[15_000:25_001]...)
			testutil.Same(t, want, []byte(testutil.Content(t, b)))

			require.NoError(t, bev.CloseWrite())
			testutil.Dispatch(t, base)
			testutil.Same(t, want, testutil.Receive(t, got))
			if opts.Mmap {
				assert.Zero(t, *calls, "what is mapped is still in a buffer")
			}
			require.NoError(t, b.Drain(b.Len()))
			assert.Equal(t, 1, *calls)
			assert.Zero(t, libevent.Live().FileSegments)
			bev.Free()
			require.NoError(t, peer.Close())
			assert.Equal(t, fds-1, testutil.OpenFDs(t))
		})
	}
}

func TestFileSegmentCleanup(t *testing.T) {
	f := testutil.NewFile(t, []byte("0123456789"))
	done, calls := testutil.Counter()
	newSegment := func() *libevent.FileSegment {
		s, err := libevent.NewFileSegment(f, 0, -1, libevent.FileSegmentOptions{Mmap: true})
		require.NoError(t, err)
		require.NoError(t, s.SetCleanup(done))
		return s
	}
	newSegment().Free()
	assert.Equal(t, 1, *calls, "by Free")

	b := testutil.NewBuffer(t, "")
	s := newSegment()
	require.NoError(t, b.AddFileSegment(s, 0, -1))
	require.NoError(t, b.Drain(100))
	assert.Equal(t, 1, *calls)
	s.Free()
	assert.Equal(t, 2, *calls)

	base, err := libevent.NewBase()
	require.NoError(t, err)
	s = newSegment()
	require.NoError(t, silent(t, base).Output().AddFileSegment(s, 0, -1))
	s.Free()
	assert.Equal(t, 2, *calls)
	require.NoError(t, base.Free())
	assert.Equal(t, 3, *calls, "with its base")

	s = newSegment()
	require.NoError(t, s.SetCleanup(testutil.Explode))
	assert.Equal(t, testutil.ErrBoom, testutil.Raises(s.Free))
	assert.Zero(t, libevent.Live().FileSegments)
}

// Many goroutines send the same file. Its offset is neither used nor moved.
func TestAddFileFromManyGoroutines(t *testing.T) {
	data := testutil.Noise(200_000)
	f := testutil.NewFile(t, data)
	s, err := libevent.NewFileSegment(f, 0, -1, libevent.FileSegmentOptions{})
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				b := testutil.NewBuffer(t, "")
				if i%2 == 0 {
					assert.NoError(t, b.AddFile(f, 0, -1))
				} else {
					assert.NoError(t, b.AddFileSegment(s, 0, -1))
				}
				testutil.Same(t, data, []byte(testutil.Content(t, b)))
				b.Free()
			}
		})
	}
	wg.Wait()
	s.Free()
}
