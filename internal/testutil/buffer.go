// SPDX-License-Identifier: BSD-3-Clause

package testutil

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
)

// NewBuffer makes a buffer that is freed at the end of the test.
func NewBuffer(t testing.TB, content string) *libevent.Buffer {
	t.Helper()
	b, err := libevent.NewBuffer()
	require.NoError(t, err)
	t.Cleanup(b.Free)
	if content != "" { // libevent makes a chunk also when there is nothing to add
		require.NoError(t, b.Add([]byte(content)))
	}
	return b
}

// Chunks makes a buffer with one chunk for each part, to test what crosses from chunk to
// chunk.
func Chunks(t testing.TB, parts ...string) *libevent.Buffer {
	t.Helper()
	b := NewBuffer(t, "")
	for _, part := range parts {
		require.NoError(t, b.AddBuffer(NewBuffer(t, part)))
	}
	return b
}

// Content copies what is in a buffer.
func Content(t testing.TB, b *libevent.Buffer) string {
	t.Helper()
	p := make([]byte, b.Len())
	n, err := b.CopyOut(p)
	assert.NoError(t, err)
	return string(p[:n])
}

// Same compares long contents without printing them.
func Same(t testing.TB, want, got []byte) {
	t.Helper()
	if !bytes.Equal(want, got) {
		assert.Fail(t, "bytes differ", "want %d bytes, got %d", len(want), len(got))
	}
}

// Change is what a buffer callback is told: the numbers of added and of deleted bytes.
type Change [2]int

// Watch notes the changes of a buffer.
func Watch(t testing.TB, b *libevent.Buffer) (*libevent.BufferCallback, *[]Change) {
	t.Helper()
	changes := &[]Change{}
	cb, err := b.AddCallback(func(which *libevent.Buffer, added, deleted int) {
		assert.Same(t, b, which)
		*changes = append(*changes, Change{added, deleted})
	})
	require.NoError(t, err)
	return cb, changes
}

// ShortWriter takes N bytes and then fails with Err.
type ShortWriter struct {
	N   int
	Err error
}

// Write takes as much of p as there is room for.
func (w *ShortWriter) Write(p []byte) (int, error) {
	n := min(w.N, len(p))
	w.N -= n
	if n < len(p) {
		return n, w.Err
	}
	return n, nil
}

// NewFile makes a file that is open for reading and writing.
func NewFile(t testing.TB, data []byte) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	_, err = f.Write(data)
	require.NoError(t, err)
	return f
}

// Counter returns a function and the number of its calls.
func Counter() (fn func(), calls *int) {
	calls = new(int)
	return func() { *calls++ }, calls
}
