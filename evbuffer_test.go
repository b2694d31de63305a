// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestBufferBasics(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	assert.Zero(t, b.Len())
	require.NoError(t, b.Add([]byte("world")))
	require.NoError(t, b.Prepend([]byte("hello ")))
	require.NoError(t, b.Add(nil))
	require.NoError(t, b.Prepend(nil))
	assert.Equal(t, "hello world", testutil.Content(t, b))
	p := make([]byte, 6)
	n, err := b.Remove(p)
	require.NoError(t, err)
	assert.Equal(t, "hello ", string(p[:n]))
	require.NoError(t, b.Drain(1))
	require.NoError(t, b.Drain(0))
	assert.Equal(t, "orld", testutil.Content(t, b))
	n, err = b.CopyOut(p[:2])
	require.NoError(t, err)
	assert.Equal(t, "or", string(p[:n]))
	n, err = b.Remove(p)
	require.NoError(t, err)
	assert.Equal(t, 4, n)
	n, err = b.Remove(p)
	require.NoError(t, err)
	assert.Zero(t, n)
	n, err = b.CopyOut(p)
	require.NoError(t, err)
	assert.Zero(t, n)
	require.NoError(t, b.Drain(100), "more than there is")
	assert.ErrorIs(t, b.Drain(-1), syscall.EINVAL)
}

func TestBufferMoves(t *testing.T) {
	a, b := testutil.NewBuffer(t, "one "), testutil.NewBuffer(t, "two ")
	require.NoError(t, a.AddBuffer(b))
	assert.Zero(t, b.Len())
	require.NoError(t, b.Add([]byte("zero ")))
	require.NoError(t, a.PrependBuffer(b))
	assert.Equal(t, "zero one two ", testutil.Content(t, a))
	n, err := a.RemoveBuffer(b, 5)
	require.NoError(t, err)
	assert.Equal(t, 5, n)
	assert.Equal(t, "zero ", testutil.Content(t, b))
	n, err = a.RemoveBuffer(b, math.MaxInt)
	require.NoError(t, err)
	assert.Equal(t, 8, n)
	assert.Equal(t, "zero one two ", testutil.Content(t, b))

	require.NoError(t, b.AddBuffer(b), "itself: nothing happens")
	n, err = b.RemoveBuffer(b, 3)
	require.NoError(t, err)
	assert.Zero(t, n)
	assert.Equal(t, "zero one two ", testutil.Content(t, b))
	assert.ErrorIs(t, b.AddBuffer(nil), syscall.EINVAL)
	assert.ErrorIs(t, b.PrependBuffer(nil), syscall.EINVAL)
	_, err = b.RemoveBuffer(nil, 1)
	assert.ErrorIs(t, err, syscall.EINVAL)
	_, err = b.RemoveBuffer(a, -1)
	assert.ErrorIs(t, err, syscall.EINVAL)
	freed := testutil.NewBuffer(t, "x")
	freed.Free()
	assert.ErrorIs(t, b.AddBuffer(freed), libevent.ErrClosed)
}

func TestBufferPullup(t *testing.T) {
	b := testutil.Chunks(t, "ab", "cd", "ef")
	require.NoError(t, b.Pullup(3, func(p []byte) { assert.Equal(t, "abc", string(p)) }))
	require.NoError(t, b.Pullup(0, func(p []byte) { assert.Empty(t, p) }))
	require.NoError(t, b.Pullup(-1, func(p []byte) { assert.Equal(t, "abcdef", string(p)) }))
	err := b.Pullup(7, func([]byte) { assert.Fail(t, "there are six bytes") })
	assert.ErrorIs(t, err, io.ErrShortBuffer)
	assert.ErrorIs(t, b.Pullup(1, nil), syscall.EINVAL)
	require.NoError(t, testutil.NewBuffer(t, "").Pullup(-1, func(p []byte) { assert.Empty(t, p) }))
}

func TestBufferPeek(t *testing.T) {
	parts := strings.SplitAfter(strings.Repeat("0123456789 ", 100), " ")
	b := testutil.Chunks(t, parts...)
	want := strings.Join(parts, "")
	require.NoError(t, b.Peek(func(spans [][]byte) {
		assert.Greater(t, len(spans), 16)
		assert.Equal(t, want, string(bytes.Join(spans, nil)))
	}))
	assert.Equal(t, len(want), b.Len(), "Peek takes nothing")
	require.NoError(t, testutil.NewBuffer(t, "").Peek(func(spans [][]byte) { assert.Empty(t, bytes.Join(spans, nil)) }))
	assert.ErrorIs(t, b.Peek(nil), syscall.EINVAL)
}

// While a function has the bytes in its hands, no call can move them.
func TestBufferIsLent(t *testing.T) {
	b := testutil.Chunks(t, "ab", "cd\n")
	other := testutil.NewBuffer(t, "x")
	require.NoError(t, b.Peek(func(spans [][]byte) {
		for i, err := range []error{
			b.Add([]byte("x")), b.Prepend([]byte("x")), b.Drain(1), b.AddBuffer(other), b.PrependBuffer(other),
			other.AddBuffer(b), other.PrependBuffer(b), b.Pullup(-1, func([]byte) {}),
			func() error { _, err := b.Remove(make([]byte, 1)); return err }(),
			func() error { _, err := b.RemoveBuffer(other, 1); return err }(),
			func() error { _, err := other.RemoveBuffer(b, 1); return err }(),
			func() error { _, err := b.Write([]byte("x")); return err }(),
			func() error { _, err := b.WriteTo(io.Discard); return err }(),
		} {
			assert.ErrorIs(t, err, libevent.ErrLent, "%d", i)
		}
		_, ok := b.ReadLine(libevent.EOLLF)
		assert.False(t, ok)
		assert.Equal(t, "abcd\n", testutil.Content(t, b), "looking is allowed")
		assert.Equal(t, 2, b.Search([]byte("cd"), 0))
		assert.NoError(t, b.Peek(func(inner [][]byte) { assert.Equal(t, spans, inner) }), "and twice")
		assert.ErrorIs(t, b.Drain(1), libevent.ErrLent, "still")
		b.Free()
		assert.Equal(t, "abcd\n", string(bytes.Join(spans, nil)), "Free waits")
	}))
	assert.ErrorIs(t, b.Add(nil), libevent.ErrClosed)
	assert.Equal(t, "x", testutil.Content(t, other))

	// After a panic the buffer is not lent any more.
	assert.Equal(t, "boom", testutil.Raises(func() {
		_ = other.Peek(func([][]byte) { panic("boom") })
	}))
	require.NoError(t, other.Drain(1))
}

// While no loop runs, any goroutine may act as the loop's goroutine and look at an output.
// Whatever makes the other end fetch the bytes has to wait until the function has returned.
func TestOutputIsNotFetchedWhileItIsLent(t *testing.T) {
	base := testutil.NewBase(t)
	socket, _ := testutil.NewSocket(t, base, 0)
	a, b := pairWithBytes(t, base)
	_, err := socket.WriteString("output of socket")
	require.NoError(t, err)
	for _, bev := range []*libevent.BufferEvent{socket, a} {
		require.NoError(t, bev.Output().Peek(func(spans [][]byte) {
			want := string(bytes.Join(spans, nil))
			_, err := bev.WriteString("x")
			assert.ErrorIs(t, err, libevent.ErrLent)
			assert.NoError(t, bev.Enable(wr))
			assert.NoError(t, b.Disable(rd))
			assert.NoError(t, b.Enable(rd))
			if bev == a {
				_, err = b.Flush(rd, libevent.FlushSync)
				assert.ErrorIs(t, err, libevent.ErrLent)
				_, err = a.Flush(wr, libevent.FlushFinished)
				assert.ErrorIs(t, err, libevent.ErrLent)
			}
			assert.NotZero(t, bev.Enabled()&wr)
			assert.Equal(t, want, string(bytes.Join(spans, nil)))
			assert.ErrorIs(t, base.Dispatch(), libevent.ErrRunning)
		}))
	}
	assert.Equal(t, "input of boutput of a", testutil.Content(t, b.Input()), "fetched when the function had returned")
}

// pairWithBytes makes a pair with bytes in the input of b and in the output of a.
func pairWithBytes(t *testing.T, base *libevent.Base) (a, b *libevent.BufferEvent) {
	t.Helper()
	a, b = testutil.NewPair(t, base)
	require.NoError(t, b.Enable(rd))
	_, err := a.WriteString("input of b")
	require.NoError(t, err)
	require.NoError(t, a.Disable(wr))
	_, err = a.WriteString("output of a")
	require.NoError(t, err)
	return a, b
}

func TestInputIsNotExtendedWhileItIsLent(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := pairWithBytes(t, base)
	require.NoError(t, a.Enable(wr))
	assert.Equal(t, "input of boutput of a", testutil.Content(t, b.Input()))
	require.NoError(t, b.Input().Pullup(-1, func(p []byte) {
		done := make(chan struct{})
		go func() { // another goroutine, while this one is in the function
			defer close(done)
			_, err := a.WriteString(" and more")
			assert.NoError(t, err)
			assert.ErrorIs(t, b.Input().Drain(1), libevent.ErrLent)
		}()
		<-done
		assert.Equal(t, "input of boutput of a", string(p))
		assert.Equal(t, rd|wr, b.Enabled())
	}))
	assert.Equal(t, "input of boutput of a and more", testutil.Content(t, b.Input()))
}

// While the loop runs, only its goroutine may look. The bytes stay until the function has
// returned, also when it frees the bufferevent.
func TestBufferIsLentOnTheLoopOnly(t *testing.T) {
	base := testutil.NewBase(t)
	a, b := pairWithBytes(t, base)
	stop := testutil.Background(t, base)
	testutil.OnLoop(t, base, func() {
		assert.NoError(t, b.Input().Peek(func(spans [][]byte) {
			b.Free()
			assert.Equal(t, "input of b", string(bytes.Join(spans, nil)))
		}))
	})
	testutil.OnLoop(t, base, func() {})
	err := a.Output().Peek(func([][]byte) { assert.Fail(t, "not here") })
	assert.ErrorIs(t, err, libevent.ErrWrongLoop)
	stop()
}

func TestBufferReadLine(t *testing.T) {
	for _, c := range []struct {
		eol  libevent.EOL
		want []string
		rest string
	}{
		{libevent.EOLAny, []string{"a", "b", "c\x00d"}, "e"},
		{libevent.EOLCRLF, []string{"a", "", "b\r", "c\x00d"}, "e"},
		{libevent.EOLCRLFStrict, []string{"a", "\nb\r", "c\x00d"}, "e"},
		{libevent.EOLLF, []string{"a\r", "", "b\r\r", "c\x00d\r"}, "e"},
		{libevent.EOLNUL, []string{"a\r\n\nb\r\r\nc"}, "d\r\ne"},
	} {
		t.Run(c.eol.String(), func(t *testing.T) {
			b := testutil.Chunks(t, "a\r", "\n\nb\r\r\nc\x00d\r", "\ne")
			var got []string
			for line := range b.Lines(c.eol) {
				got = append(got, string(line))
			}
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.rest, testutil.Content(t, b))
			_, ok := b.ReadLine(c.eol)
			assert.False(t, ok)
		})
	}
	b := testutil.NewBuffer(t, "x\ny\nz\n")
	for range b.Lines(libevent.EOLLF) {
		break
	}
	assert.Equal(t, "y\nz\n", testutil.Content(t, b), "a broken loop takes no more")
	_, ok := b.ReadLine(17)
	assert.False(t, ok)
}

func TestBufferSearch(t *testing.T) {
	b := testutil.Chunks(t, "abc", "abd", "abc")
	for _, c := range []struct {
		what string
		from int
		want int
	}{
		{"abc", 0, 0}, {"abc", 1, 6}, {"ca", 0, 2}, {"abcabdabc", 0, 0}, {"abcabdabcx", 0, -1},
		{"x", 0, -1}, {"c", 8, 8}, {"c", 9, -1}, {"c", 10, -1}, {"c", -1, -1},
		{"", 0, 0}, {"", 9, 9}, {"", 10, -1},
	} {
		assert.Equal(t, c.want, b.Search([]byte(c.what), c.from), "%q from %d", c.what, c.from)
	}
	assert.Equal(t, -1, testutil.NewBuffer(t, "").Search([]byte("a"), 0))
}

func TestBufferFreeze(t *testing.T) {
	b := testutil.NewBuffer(t, "middle")
	require.NoError(t, b.Freeze(true))
	assert.ErrorIs(t, b.Drain(1), libevent.ErrFrozen)
	assert.ErrorIs(t, b.Prepend([]byte("x")), libevent.ErrFrozen)
	require.NoError(t, b.Add([]byte("!")))
	require.NoError(t, b.Freeze(false))
	assert.ErrorIs(t, b.Add([]byte("!")), libevent.ErrFrozen)
	require.NoError(t, b.Peek(func([][]byte) {})) // the end of Peek must not unfreeze the buffer
	assert.ErrorIs(t, b.Add([]byte("!")), libevent.ErrFrozen)
	require.NoError(t, b.Unfreeze(true))
	require.NoError(t, b.Drain(1))
	require.NoError(t, b.Unfreeze(false))
	require.NoError(t, b.Add([]byte("?")))
	assert.Equal(t, "iddle!?", testutil.Content(t, b))
}

func TestBufferAsReaderAndWriter(t *testing.T) {
	data := testutil.Noise(300_000)
	b := testutil.NewBuffer(t, "")
	n, err := b.ReadFrom(iotest.OneByteReader(bytes.NewReader(data[:1000])))
	require.NoError(t, err)
	assert.EqualValues(t, 1000, n)
	_, err = io.Copy(b, bytes.NewReader(data[1000:]))
	require.NoError(t, err)
	var out bytes.Buffer
	m, err := b.WriteTo(&out)
	require.NoError(t, err)
	assert.EqualValues(t, len(data), m)
	testutil.Same(t, data, out.Bytes())
	assert.Zero(t, b.Len())

	require.NoError(t, b.Add(data))
	require.NoError(t, iotest.TestReader(b, data))
	_, err = b.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF)
	_, err = b.ReadByte()
	assert.ErrorIs(t, err, io.EOF)
	_, err = b.Write([]byte("z"))
	require.NoError(t, err)
	c, err := b.ReadByte()
	require.NoError(t, err)
	assert.Equal(t, byte('z'), c)

	broken := errors.New("broken")
	n, err = b.ReadFrom(io.MultiReader(strings.NewReader("kept"), iotest.ErrReader(broken)))
	assert.ErrorIs(t, err, broken)
	assert.EqualValues(t, 4, n)
	assert.Equal(t, "kept", testutil.Content(t, b))
}

func TestBufferWriteToLosesNothing(t *testing.T) {
	full := errors.New("full")
	for _, w := range []*testutil.ShortWriter{{N: 5, Err: full}, {N: 0, Err: full}, {N: 5}} {
		b := testutil.NewBuffer(t, "hello world")
		took := w.N
		n, err := b.WriteTo(w)
		assert.EqualValues(t, took, n)
		if w.Err != nil {
			assert.ErrorIs(t, err, full)
		} else {
			assert.ErrorIs(t, err, io.ErrShortWrite)
		}
		assert.Equal(t, "hello world"[took:], testutil.Content(t, b))
	}
}

func TestBufferFromManyGoroutines(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	const goroutines, each = 8, 500
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range each {
				for b.Add([]byte("line\n")) != nil {
					runtime.Gosched() // The other goroutine peeks, and the error is ErrLent.
				}
				assert.NoError(t, b.Peek(func(spans [][]byte) {
					got := bytes.Join(spans, nil)
					testutil.Same(t, bytes.Repeat([]byte("line\n"), len(got)/5), got)
				}))
			}
		})
	}
	lines := 0
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for finished := false; !finished; {
		select {
		case <-done:
			finished = true
		default:
		}
		for line := range b.Lines(libevent.EOLLF) {
			assert.Equal(t, "line", string(line))
			lines++
		}
	}
	assert.Equal(t, goroutines*each, lines)
}

func TestBufferReserve(t *testing.T) {
	b := testutil.NewBuffer(t, "<")
	require.NoError(t, b.Reserve(10_000, func(spans [][]byte) int {
		room := 0
		for _, s := range spans {
			room += len(s)
		}
		assert.GreaterOrEqual(t, room, 10_000)
		assert.ErrorIs(t, b.Add([]byte("x")), libevent.ErrLent)
		assert.ErrorIs(t, b.Reserve(1, func([][]byte) int { return 0 }), libevent.ErrLent)
		return copy(spans[0], "written in place")
	}))
	require.NoError(t, b.Add([]byte(">")))
	assert.Equal(t, "<written in place>", testutil.Content(t, b))
	for _, used := range []int{-1, 1 << 30} {
		assert.ErrorIs(t, b.Reserve(10, func([][]byte) int { return used }), syscall.EINVAL)
	}
	assert.Equal(t, "boom", testutil.Raises(func() {
		_ = b.Reserve(10, func([][]byte) int { panic("boom") })
	}))
	require.NoError(t, b.Reserve(10, func([][]byte) int { return 0 }))
	assert.Equal(t, 18, b.Len())
	assert.ErrorIs(t, b.Reserve(0, func([][]byte) int { return 0 }), syscall.EINVAL)
	assert.ErrorIs(t, b.Reserve(1, nil), syscall.EINVAL)
	if !testutil.ASan { // the address sanitizer takes such an allocation for a mistake
		assert.Error(t, b.Reserve(math.MaxInt, func([][]byte) int { return 0 }))
	}
	bev, _ := testutil.NewPair(t, testutil.NewBase(t))
	assert.ErrorIs(t, bev.Input().Reserve(1, func([][]byte) int { return 1 }), libevent.ErrFrozen)
	require.NoError(t, bev.Output().Reserve(5, func(s [][]byte) int { return copy(s[0], "hello") }))
	assert.Equal(t, "hello", testutil.Content(t, bev.Output()))
}

func TestBufferOffsets(t *testing.T) {
	b := testutil.Chunks(t, "abc", "abd\r", "\nabc")
	assert.Equal(t, 3, b.SearchRange([]byte("ab"), 1, 6))
	assert.Equal(t, -1, b.SearchRange([]byte("abd"), 1, 5))
	assert.Equal(t, 8, b.SearchRange([]byte("abc"), 1, 100))
	assert.Equal(t, -1, b.SearchRange([]byte("abc"), 5, 2))
	assert.Equal(t, 5, b.SearchRange(nil, 5, 5))
	for eol, want := range map[libevent.EOL][2]int{
		libevent.EOLAny: {6, 2}, libevent.EOLCRLF: {6, 2}, libevent.EOLCRLFStrict: {6, 2},
		libevent.EOLLF: {7, 1}, libevent.EOLNUL: {-1, 0}, libevent.EOL(9): {-1, 0},
	} {
		at, n := b.SearchEOL(0, eol)
		assert.Equal(t, want, [2]int{at, n}, "%v", eol)
	}
	at, _ := b.SearchEOL(8, libevent.EOLAny)
	assert.Equal(t, -1, at)
	at, _ = b.SearchEOL(-1, libevent.EOLAny)
	assert.Equal(t, -1, at)
	p := make([]byte, 4)
	n, err := b.CopyOutFrom(p, 2)
	require.NoError(t, err)
	assert.Equal(t, "cabd", string(p[:n]))
	n, err = b.CopyOutFrom(p, 9)
	require.NoError(t, err)
	assert.Equal(t, "bc", string(p[:n]))
	for _, from := range []int{-1, 100} {
		_, err = b.CopyOutFrom(p, from)
		assert.ErrorIs(t, err, syscall.EINVAL)
	}
}

func TestBufferVecAndRoom(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	n, err := b.AddVec([][]byte{[]byte("one "), nil, []byte("two "), {}, []byte("three")})
	require.NoError(t, err)
	assert.Equal(t, 13, n)
	assert.Equal(t, "one two three", testutil.Content(t, b))
	_, err = b.AddVec(nil)
	require.NoError(t, err)
	assert.Equal(t, 13, b.ContiguousSpace())
	require.NoError(t, b.Expand(10_000))
	if !testutil.ASan {
		assert.Error(t, b.Expand(math.MaxInt))
	}
	assert.ErrorIs(t, b.Expand(-1), syscall.EINVAL)
	assert.Equal(t, "one two three", testutil.Content(t, b))
	require.NoError(t, b.Peek(func([][]byte) {
		assert.ErrorIs(t, b.Expand(1), libevent.ErrLent)
		_, err := b.AddVec([][]byte{{1}})
		assert.ErrorIs(t, err, libevent.ErrLent)
	}))
}

func TestBufferDescriptors(t *testing.T) {
	x, y := testutil.Socketpair(t)
	require.NoError(t, syscall.SetNonblock(x, true))
	require.NoError(t, syscall.SetNonblock(y, true))
	b := testutil.NewBuffer(t, "")
	_, err := b.ReadFD(x, -1)
	assert.ErrorIs(t, err, libevent.ErrWouldBlock)
	n, err := b.WriteFD(x, -1)
	require.NoError(t, err, "nothing to write")
	assert.Zero(t, n)
	require.NoError(t, b.Add([]byte("hello world")))
	n, err = b.WriteFD(x, 5)
	require.NoError(t, err)
	assert.Equal(t, 5, n)
	n, err = b.WriteFD(x, -1)
	require.NoError(t, err)
	assert.Equal(t, 6, n)
	n, err = b.ReadFD(y, 7)
	require.NoError(t, err)
	assert.Equal(t, 7, n)
	n, err = b.ReadFD(y, 0)
	require.NoError(t, err)
	assert.Zero(t, n)
	_, err = b.ReadFD(y, -1)
	require.NoError(t, err)
	assert.Equal(t, "hello world", testutil.Content(t, b))
	for err == nil {
		require.NoError(t, b.Add(testutil.Noise(1<<16)))
		_, err = b.WriteFD(x, -1)
	}
	assert.ErrorIs(t, err, libevent.ErrWouldBlock)
	assert.ErrorContains(t, err, "no room to write")
	require.NoError(t, syscall.Close(y))
	_, err = b.WriteFD(x, -1)
	assert.ErrorIs(t, err, syscall.EPIPE)
	require.NoError(t, b.Freeze(true))
	_, err = b.WriteFD(x, -1)
	assert.ErrorIs(t, err, libevent.ErrFrozen)
	require.NoError(t, syscall.Close(x))
	_, err = testutil.NewBuffer(t, "").ReadFD(x, -1)
	assert.ErrorIs(t, err, syscall.EBADF)
}

func TestBufferIsLentToReserve(t *testing.T) {
	b, other := testutil.NewBuffer(t, "abc"), testutil.NewBuffer(t, "x")
	require.NoError(t, b.Reserve(2000, func(spans [][]byte) int {
		n := 0
		for _, span := range spans {
			n += copy(span, bytes.Repeat([]byte("d"), 2000-n))
		}
		for i, err := range []error{
			b.Add(nil), b.Drain(1), b.Prepend([]byte("x")), b.AddBuffer(other), b.Expand(100_000),
			b.Pullup(-1, func([]byte) {}), b.AddReference([]byte("x"), nil),
			b.Reserve(1, func([][]byte) int { return 1 }),
			func() error { _, err := b.AddVec([][]byte{{1}}); return err }(),
			func() error { _, err := b.ReadFD(0, 1); return err }(),
			func() error { _, err := b.WriteFD(1, 1); return err }(),
		} {
			assert.ErrorIs(t, err, libevent.ErrLent, "%d", i)
		}
		assert.NoError(t, b.Peek(func(spans [][]byte) { assert.Equal(t, "abc", string(bytes.Join(spans, nil))) }))
		return n
	}))
	assert.Equal(t, "abc"+strings.Repeat("d", 2000), testutil.Content(t, b))

	// The function freezes the back of the buffer, or frees it, while it is lent.
	err := b.Reserve(10, func([][]byte) int { assert.NoError(t, b.Freeze(false)); return 10 })
	assert.ErrorIs(t, err, libevent.ErrFrozen)
	assert.ErrorIs(t, b.Reserve(1, func([][]byte) int { return 1 }), libevent.ErrFrozen)
	require.NoError(t, b.Unfreeze(false))
	require.NoError(t, b.Reserve(10, func(spans [][]byte) int { b.Free(); spans[0][9] = 1; return 10 }))
	assert.ErrorIs(t, b.Add(nil), libevent.ErrClosed)
}

func TestBufferOfBufferEventReserve(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	got := testutil.ReadAll(peer)
	reserve := func(b *libevent.Buffer, then func()) error {
		return b.Reserve(3, func(spans [][]byte) int { then(); return copy(spans[0], "abc") })
	}
	assert.ErrorIs(t, reserve(bev.Input(), func() {}), libevent.ErrFrozen)
	require.NoError(t, reserve(bev.Output(), func() {}))
	stop := testutil.Background(t, base)
	testutil.OnLoop(t, base, func() {
		assert.NoError(t, reserve(bev.Output(), func() {
			_, err := bev.WriteString("x")
			assert.ErrorIs(t, err, libevent.ErrLent)
		}))
	})
	assert.ErrorIs(t, reserve(bev.Output(), func() {}), libevent.ErrWrongLoop)
	testutil.OnLoop(t, base, func() {
		assert.ErrorIs(t, reserve(bev.Output(), func() { assert.NoError(t, bev.CloseWrite()) }), libevent.ErrFrozen)
	})
	assert.Equal(t, "abcabc", string(testutil.Receive(t, got)))
	testutil.OnLoop(t, base, func() {
		other, err := base.NewSocket(-1, 0)
		assert.NoError(t, err)
		assert.ErrorIs(t, reserve(other.Output(), other.Free), libevent.ErrClosed)
	})
	stop()
}

func TestBufferMaxRead(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	bad := []int{0, -1}
	if strconv.IntSize > 32 {
		bad = append(bad, math.MaxInt)
	}
	for _, n := range bad {
		assert.ErrorIs(t, b.SetMaxRead(n), syscall.EINVAL)
	}
	_, err := b.MaxRead()
	if strings.HasPrefix(libevent.HeaderVersion(), "2.1") {
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		assert.ErrorIs(t, b.SetMaxRead(100), errors.ErrUnsupported)
		return
	}
	require.NoError(t, err)
	require.NoError(t, b.SetMaxRead(100))
	n, err := b.MaxRead()
	require.NoError(t, err)
	assert.Equal(t, 100, n)
}

// Calls that only look work on a frozen buffer, and find nothing in a freed one.
func TestBufferLookAt(t *testing.T) {
	b := testutil.Chunks(t, "one\n", "two\n")
	require.NoError(t, b.Freeze(true))
	require.NoError(t, b.Freeze(false))
	look := func() []any {
		p := make([]byte, 4)
		n, err1 := b.CopyOutFrom(p, 3)
		var peeked []byte
		err2 := b.PeekRange(3, 4, func(spans [][]byte) { peeked = bytes.Join(spans, nil) })
		at, length := b.SearchEOL(4, libevent.EOLLF)
		return []any{string(p[:n]), err1, string(peeked), err2, at, length,
			b.SearchRange([]byte("t"), 0, 8), b.ContiguousSpace()}
	}
	assert.Equal(t, []any{"\ntwo", error(nil), "\ntwo", error(nil), 7, 1, 4, 4}, look())
	assert.ErrorIs(t, b.Drain(1), libevent.ErrFrozen, "still")
	assert.ErrorIs(t, b.PeekRange(0, 1, nil), syscall.EINVAL)
	b.Free()
	assert.Equal(t, []any{"", libevent.ErrClosed, "", libevent.ErrClosed, -1, 0, -1, 0}, look())
}
