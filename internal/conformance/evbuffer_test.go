// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"bytes"
	"math"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// The cases of libevent's own regression tests for evbuffers, under libevent's names.
// Those tests also look at libevent's chains. Here the length, the bytes in their chunks
// and the bytes in one piece must agree.

func TestConformanceBuffer(t *testing.T) {
	for name, test := range map[string]func(t *testing.T){
		"evbuffer":                                        conformBuffer,
		"remove_buffer_with_empty":                        conformRemoveWithEmpty,
		"remove_buffer_with_empty2":                       conformRemoveWithEmpty2,
		"remove_buffer_with_empty3":                       conformRemoveWithEmpty3,
		"remove_buffer_with_empty_front":                  conformRemoveWithEmptyFront,
		"remove_buffer_adjust_last_with_datap_with_empty": conformRemoveAdjustLast,
		"add_buffer_with_empty":                           func(t *testing.T) { conformAddWithEmpty(t, "abc") },
		"add_buffer_with_empty2":                          func(t *testing.T) { conformAddWithEmpty(t, "") },
		"add1":                                            conformAdd1,
		"add2":                                            func(t *testing.T) { conformAdd2(t, (*libevent.Buffer).Add) },
		"reference":                                       conformReference,
		"reference2":                                      func(t *testing.T) { conformAdd2(t, addReference) },
		"add_reference":                                   conformAddReference,
		"add_reference_with_offset":                       conformReferenceOffset,
		"iterative":                                       conformIterative,
		"callbacks":                                       conformCallbacks,
		"prepend":                                         conformPrepend,
		"empty_reference_prepend":                         conformEmptyPrepend,
		"empty_reference_prepend_buffer":                  conformEmptyPrependBuffer,
		"pullup_with_empty":                               conformPullupWithEmpty,
		"freeze_start":                                    func(t *testing.T) { conformFreeze(t, true) },
		"freeze_end":                                      func(t *testing.T) { conformFreeze(t, false) },
		"add_iovec":                                       conformAddVec,
		"copyout":                                         conformCopyOut,
	} {
		t.Run(name, test)
	}
}

// holds expects a buffer to have exactly these bytes, and looks at it in every way.
func holds(t testing.TB, want string, b *libevent.Buffer) {
	t.Helper()
	assert.Equal(t, len(want), b.Len())
	assert.NoError(t, b.Peek(func(spans [][]byte) { assert.Equal(t, want, string(bytes.Join(spans, nil))) }))
	assert.Equal(t, want, testutil.Content(t, b))
	assert.NoError(t, b.Pullup(-1, func(p []byte) { assert.Equal(t, want, string(p)) }))
	assert.GreaterOrEqual(t, b.ContiguousSpace(), len(want))
}

func addReference(b *libevent.Buffer, p []byte) error { return b.AddReference(p, nil) }

// addEmpty adds a chain without bytes.
func addEmpty(t testing.TB, b *libevent.Buffer) {
	t.Helper()
	require.NoError(t, b.AddReference(nil, nil))
}

func add(t testing.TB, b *libevent.Buffer, text string) {
	t.Helper()
	require.NoError(t, b.Add([]byte(text)))
}

func prepend(t testing.TB, b *libevent.Buffer, text string) {
	t.Helper()
	require.NoError(t, b.Prepend([]byte(text)))
}

// take removes the first n bytes, or all if there are fewer.
func take(t testing.TB, b *libevent.Buffer, n int) string {
	t.Helper()
	p := make([]byte, n)
	n, err := b.Remove(p)
	require.NoError(t, err)
	return string(p[:n])
}

func conformBuffer(t *testing.T) {
	a, b := testutil.NewBuffer(t, "first/1"), testutil.NewBuffer(t, "")
	holds(t, "first/1", a)
	require.NoError(t, a.AddBuffer(b))
	require.NoError(t, a.Drain(len("first/")))
	holds(t, "1", a)
	add(t, b, "/second")
	require.NoError(t, a.AddBuffer(b))
	holds(t, "", b)
	holds(t, "1/second", a)
	zeros := string(make([]byte, 512))
	add(t, a, zeros)
	holds(t, "1/second"+zeros, a)
	prepend(t, a, "in front ")
	prepend(t, a, "even more ")
	holds(t, "even more in front 1/second"+zeros, a)
	require.NoError(t, a.Drain(math.MaxInt))
	require.NoError(t, b.Drain(math.MaxInt))
	holds(t, "", a)

	for range 3 {
		add(t, b, zeros)
		require.NoError(t, a.AddBuffer(b))
	}
	holds(t, "", b)
	n, err := a.RemoveBuffer(b, 512*5/2)
	require.NoError(t, err)
	assert.Equal(t, 512*5/2, n)
	holds(t, zeros[:256], a)
	holds(t, zeros+zeros+zeros[:256], b)

	text := strings.Repeat("0123456789", 1000)
	for range 3 {
		pieces(t, a, len(text), text)
		assert.GreaterOrEqual(t, a.Len(), 1)
		require.NoError(t, a.Drain(a.Len()/2))
	}
}

func conformRemoveWithEmpty(t *testing.T) {
	src, dst := testutil.NewBuffer(t, ""), testutil.NewBuffer(t, "AA")
	require.NoError(t, addReference(src, []byte("AA")))
	require.NoError(t, addReference(src, []byte("AA")))
	addEmpty(t, dst)
	holds(t, "AAAA", src)
	holds(t, "AA", dst)
	n, err := src.RemoveBuffer(dst, 3)
	require.NoError(t, err)
	assert.Equal(t, 3, n)
	holds(t, "A", src)
	holds(t, "AAAAA", dst)
}

func conformRemoveWithEmpty2(t *testing.T) {
	src, dst, other := testutil.NewBuffer(t, ""), testutil.NewBuffer(t, ""), testutil.NewBuffer(t, "")
	for _, b := range []*libevent.Buffer{src, dst} {
		add(t, other, "abc")
		require.NoError(t, addReference(other, []byte("def")))
		require.NoError(t, addReference(b, []byte("xyz")))
		addEmpty(t, b)
		require.NoError(t, b.AddBuffer(other))
		assert.Equal(t, "xyzabcdef", testutil.Content(t, b))
	}
	n, err := src.RemoveBuffer(dst, 8)
	require.NoError(t, err)
	assert.Equal(t, 8, n)
	holds(t, "f", src)
	holds(t, "xyzabcdefxyzabcde", dst)
}

func conformRemoveWithEmpty3(t *testing.T) {
	src, dst, other := testutil.NewBuffer(t, ""), testutil.NewBuffer(t, ""), testutil.NewBuffer(t, "")
	for _, b := range []*libevent.Buffer{src, dst} {
		add(t, other, "abc")
		addEmpty(t, other)
		require.NoError(t, addReference(b, []byte("xyz")))
		addEmpty(t, b)
		require.NoError(t, b.PrependBuffer(other))
		holds(t, "abcxyz", b)
	}
	n, err := src.RemoveBuffer(dst, 5)
	require.NoError(t, err)
	assert.Equal(t, 5, n)
	holds(t, "z", src)
	holds(t, "abcxyzabcxy", dst)
}

func conformRemoveWithEmptyFront(t *testing.T) {
	a, b := testutil.NewBuffer(t, ""), testutil.NewBuffer(t, "")
	require.NoError(t, addReference(a, []byte("abc")))
	require.NoError(t, a.Prepend(nil))
	n, err := a.RemoveBuffer(b, 1)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	add(t, a, "def")
	holds(t, "bcdef", a)
	holds(t, "a", b)
}

func conformRemoveAdjustLast(t *testing.T) {
	a, b := testutil.NewBuffer(t, "aaaaaa"), testutil.NewBuffer(t, "cc")
	lengths, _ := pieces(t, a, 971, "b")
	assert.Len(t, lengths, 2, "one of them stays empty")
	prepend(t, b, "ddd")
	require.NoError(t, b.PrependBuffer(a))
	assert.Equal(t, "aaaaaabdddcc", testutil.Content(t, b))
	require.NoError(t, a.AddBuffer(b))
	assert.Equal(t, "aaaaaabdddcc", testutil.Content(t, a))
	n, err := a.RemoveBuffer(b, 11)
	require.NoError(t, err)
	assert.Equal(t, 11, n)
	holds(t, "aaaaaabdddc", b)
	holds(t, "c", a)
}

func conformAddWithEmpty(t *testing.T, first string) {
	a, b, other := testutil.NewBuffer(t, ""), testutil.NewBuffer(t, ""), testutil.NewBuffer(t, "")
	for _, b := range []*libevent.Buffer{a, b} {
		add(t, other, "def")
		if first != "" {
			require.NoError(t, addReference(b, []byte(first)))
		}
		addEmpty(t, b)
		require.NoError(t, b.AddBuffer(other))
		holds(t, first+"def", b)
	}
}

func conformAdd1(t *testing.T) {
	b := testutil.NewBuffer(t, "1")
	require.NoError(t, b.Expand(2048))
	add(t, b, "2")
	add(t, b, "3")
	holds(t, "123", b)
}

// conformAdd2 appends to a buffer whose first chunk has almost no room left.
func conformAdd2(t *testing.T, second func(*libevent.Buffer, []byte) error) {
	b := testutil.NewBuffer(t, "")
	lengths, _ := pieces(t, b, 1)
	full := strings.Repeat("p", lengths[0]-10)
	add(t, b, full)
	require.NoError(t, b.Expand(100))
	require.NoError(t, second(b, []byte("2")))
	add(t, b, "3")
	holds(t, full+"23", b)
}

func conformReference(t *testing.T) {
	const data = "memory that nobody may change"
	done, calls := testutil.Counter()
	src, dst := testutil.NewBuffer(t, ""), testutil.NewBuffer(t, "")
	p := []byte(data)
	require.NoError(t, src.AddReference(p, done))
	require.NoError(t, dst.Reserve(len(data), func(spans [][]byte) int {
		n, err := src.Remove(spans[0][:10])
		assert.NoError(t, err)
		assert.Equal(t, 10, n)
		assert.NoError(t, src.Prepend([]byte("aaaaa")))
		assert.NoError(t, src.Drain(5))
		assert.Zero(t, *calls)
		n, err = src.Remove(spans[0][10:len(data)])
		assert.NoError(t, err)
		return 10 + n
	}))
	assert.Equal(t, 1, *calls)
	assert.Equal(t, data, string(p))
	holds(t, data, dst)
	holds(t, "", src)
}

func conformIterative(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	abc := []byte(strings.Repeat("abcdefghijklmnopqrstvuwxyz", 4))
	sum := 0
	for range 1000 {
		for j := 1; j < len(abc); j++ {
			require.NoError(t, b.Add(abc[:j]))
			sum += j
		}
	}
	assert.Equal(t, sum, b.Len())
	require.NoError(t, b.Peek(func(spans [][]byte) {
		// The chunks have 4 KiB, and no more than an eighth of the memory is unused.
		assert.Less(t, len(spans)*4096, sum*8/7)
		at := 0
		for _, span := range spans {
			at += len(span)
		}
		assert.Equal(t, sum, at)
	}))
}

func conformCallbacks(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	first, changes1 := testutil.Watch(t, b)
	second, changes2 := testutil.Watch(t, b)
	add(t, b, strings.Repeat("x", 36))
	require.NoError(t, second.Disable())
	require.NoError(t, b.Drain(10))
	prepend(t, b, "hello")
	require.NoError(t, second.Enable())
	require.NoError(t, addReference(b, []byte("goodbye")))
	first.Remove()
	require.NoError(t, b.Drain(b.Len()))
	first.Remove()
	add(t, b, "x")
	second.Remove()
	add(t, b, "unseen")
	assert.Equal(t, []testutil.Change{{36, 0}, {0, 10}, {5, 0}, {7, 0}}, *changes1)
	assert.Equal(t, []testutil.Change{{36, 0}, {7, 0}, {0, 38}, {1, 0}}, *changes2)

	b = testutil.NewBuffer(t, "")
	drain, err := b.AddCallback(func(b *libevent.Buffer, added, deleted int) {
		if added > deleted {
			assert.NoError(t, b.Drain(added))
		}
	})
	require.NoError(t, err)
	add(t, b, "drained right away")
	assert.Zero(t, b.Len())
	drain.Remove()
	add(t, b, "not this")
	holds(t, "not this", b)
}

func conformAddReference(t *testing.T) {
	const one, two = "If you find a solution to such a problem", "you should publish it"
	done1, calls1 := testutil.Counter()
	done2, calls2 := testutil.Counter()
	a, b := testutil.NewBuffer(t, ""), testutil.NewBuffer(t, "I ")
	p := []byte(one)
	require.NoError(t, a.AddReference(p, done1))
	add(t, a, ", ")
	require.NoError(t, a.AddReference([]byte(two), done2))
	assert.Equal(t, len(one)+2+len(two), a.Len())
	assert.Equal(t, "If you", take(t, a, 6))
	assert.Equal(t, " find", take(t, a, 5))
	prepend(t, a, "We have ")
	assert.Equal(t, one, string(p))
	require.NoError(t, a.Drain(8))
	require.NoError(t, a.Drain(len(one)-11-1))
	assert.Zero(t, *calls1)
	assert.Equal(t, "m", take(t, a, 1))
	assert.Equal(t, 1, *calls1)

	require.NoError(t, a.Drain(len(", you ")))
	require.NoError(t, b.AddBuffer(a))
	assert.Zero(t, *calls2)
	assert.Equal(t, "I should publish", take(t, b, 16))
	require.NoError(t, b.Drain(b.Len()))
	assert.Equal(t, 1, *calls2)

	add(t, a, "before ")
	require.NoError(t, a.AddReference([]byte("within"), done1))
	add(t, a, " after")
	a.Free()
	assert.Equal(t, 2, *calls1)
}

func conformPrepend(t *testing.T) {
	a, b := testutil.NewBuffer(t, ""), testutil.NewBuffer(t, "")
	prepend(t, a, "A text of some 32 characters ...")
	prepend(t, a, "Short.")
	require.NoError(t, a.Drain(6+7))
	prepend(t, a, "it is ")
	require.NoError(t, a.Peek(func(spans [][]byte) {
		assert.Equal(t, "it is of some", string(spans[0][:13]), "in the room that was drained")
	}))
	prepend(t, a, "It is no longer true to say that ")
	assert.Equal(t, "It is no longer true to say that it is of some 32 characters ...", take(t, a, 128))

	add(t, a, "string 999. ")
	require.NoError(t, b.PrependBuffer(a))
	add(t, a, "string 1000. ")
	require.NoError(t, b.PrependBuffer(a))
	holds(t, "", a)
	holds(t, "string 1000. string 999. ", b)

	b = testutil.NewBuffer(t, "")
	prepend(t, b, "foo")
	cb, changes := testutil.Watch(t, b)
	long := strings.Repeat("A", 8096)
	prepend(t, b, long)
	cb.Remove()
	assert.Equal(t, []testutil.Change{{8096, 0}}, *changes)
	holds(t, long+"foo", b)
	require.NoError(t, b.Drain(8096))
	holds(t, "foo", b)
}

func conformEmptyPrepend(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	addEmpty(t, b)
	prepend(t, b, "foo")
	holds(t, "foo", b)
}

func conformEmptyPrependBuffer(t *testing.T) {
	a, b := testutil.NewBuffer(t, ""), testutil.NewBuffer(t, "foo")
	addEmpty(t, a)
	require.NoError(t, b.PrependBuffer(a))
	holds(t, "foo", b)
	holds(t, "", a)
}

func conformPullupWithEmpty(t *testing.T) {
	b := testutil.NewBuffer(t, "foo")
	addEmpty(t, b)
	holds(t, "foo", b)
	holds(t, "", testutil.NewBuffer(t, ""))
	b = testutil.NewBuffer(t, "foo")
	addEmpty(t, b)
	require.NoError(t, b.Pullup(3, func(p []byte) { assert.Equal(t, "foo", string(p)) }))
}

func conformFreeze(t *testing.T, front bool) {
	t.Run("appending", func(t *testing.T) { conformFreezeAppending(t, front) })
	t.Run("taking", func(t *testing.T) { conformFreezeTaking(t, front) })
	t.Run("writing", func(t *testing.T) { conformFreezeWriting(t, front) })
}

const frozenText = "frozen where it fell\nand held in ice\nall winter long"

// frozenBuffer makes a buffer with one end frozen.
func frozenBuffer(t *testing.T, content string, front bool) *libevent.Buffer {
	t.Helper()
	b := testutil.NewBuffer(t, content)
	require.NoError(t, b.Freeze(front))
	return b
}

// works expects an operation to work, or to fail because the end that it changes is frozen.
func works(t *testing.T, does bool, op string, err error) {
	t.Helper()
	if does {
		assert.NoError(t, err, op)
	} else {
		assert.ErrorIs(t, err, libevent.ErrFrozen, op)
	}
}

func conformFreezeAppending(t *testing.T, front bool) {
	b, other := frozenBuffer(t, frozenText, front), testutil.NewBuffer(t, "xyz")
	f := testutil.NewFile(t, []byte("a file"))
	x, y := testutil.Socketpair(t)
	defer syscall.Close(x)
	defer syscall.Close(y)
	works(t, front, "Add", b.Add(nil))
	works(t, front, "Add", b.Add([]byte("abc")))
	works(t, front, "Reserve", b.Reserve(10, func(spans [][]byte) int { return copy(spans[0], "0123456789") }))
	works(t, front, "AddReference", addReference(b, []byte(frozenText[:5])))
	_, err := b.AddVec([][]byte{[]byte("a"), []byte("b")})
	works(t, front, "AddVec", err)
	works(t, front, "AddBuffer", b.AddBuffer(other))
	works(t, front, "AddFile", b.AddFile(f, 0, -1))
	_, err = syscall.Write(x, []byte("from the socket"))
	require.NoError(t, err)
	_, err = b.ReadFD(y, -1)
	works(t, front, "ReadFD", err)
	if front {
		assert.Equal(t, frozenText+"abc"+"0123456789"+frozenText[:5]+"ab"+"xyz"+"a file"+"from the socket", testutil.Content(t, b))
	} else {
		assert.Equal(t, frozenText, testutil.Content(t, b))
		_, err = other.ReadFD(y, -1)
		require.NoError(t, err, "the bytes are still there")
		assert.Equal(t, "xyzfrom the socket", testutil.Content(t, other))
	}
}

func conformFreezeTaking(t *testing.T, front bool) {
	b, other := frozenBuffer(t, frozenText, front), testutil.NewBuffer(t, "xyz")
	_, err := b.Remove(make([]byte, 1))
	works(t, !front, "Remove", err)
	works(t, !front, "Drain", b.Drain(3))
	works(t, !front, "Prepend", b.Prepend([]byte("dummy")))
	_, ok := b.ReadLine(libevent.EOLLF)
	assert.Equal(t, !front, ok)
	_, err = b.RemoveBuffer(other, 3)
	works(t, !front, "RemoveBuffer", err)
	works(t, !front, "PrependBuffer", b.PrependBuffer(other))
	if front {
		assert.Equal(t, frozenText, testutil.Content(t, b))
		assert.Equal(t, "xyz", testutil.Content(t, other))
	} else {
		assert.Equal(t, "xyzand held in ice\nall winter long", testutil.Content(t, b))
	}
}

func conformFreezeWriting(t *testing.T, front bool) {
	x, y := testutil.Socketpair(t)
	defer syscall.Close(x)
	defer syscall.Close(y)
	for _, content := range []string{frozenText, "abc"} {
		b := frozenBuffer(t, content, front)
		n, err := b.WriteFD(y, -1)
		works(t, !front, "WriteFD", err)
		if front {
			assert.Equal(t, content, testutil.Content(t, b))
		} else {
			assert.Equal(t, len(content), n)
		}
	}
}

func conformAddVec(t *testing.T) {
	spans := [][]byte{[]byte("a sword with "), nil, []byte("two edges "), {}, []byte("cuts "), []byte("twice")}
	b := testutil.NewBuffer(t, "")
	n, err := b.AddVec(spans)
	require.NoError(t, err)
	assert.Equal(t, b.Len(), n)
	for _, span := range spans {
		assert.Equal(t, string(span), take(t, b, len(span)))
	}
	assert.Zero(t, b.Len())
	n, err = b.AddVec(nil)
	require.NoError(t, err)
	assert.Zero(t, n)
}

func conformCopyOut(t *testing.T) {
	text := string(testutil.Noise(206))
	b := testutil.NewBuffer(t, "")
	require.NoError(t, addReference(b, []byte(text[:80])))
	require.NoError(t, addReference(b, []byte(text[80:160])))
	add(t, b, text[160:])
	for _, n := range []int{0, 10, 100, 206, 230} {
		p := make([]byte, n)
		got, err := b.CopyOut(p)
		require.NoError(t, err)
		assert.Equal(t, text[:min(n, 206)], string(p[:got]))
	}
	for _, n := range []int{0, 10, 65, 90, 160, 999} {
		p := make([]byte, n)
		got, err := b.CopyOutFrom(p, 15)
		require.NoError(t, err)
		assert.Equal(t, text[15:min(15+n, 206)], string(p[:got]))
	}
	holds(t, text, b)
}

func conformReferenceOffset(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	done := 0
	whole := []byte("0123456789")
	require.NoError(t, b.AddReference(whole[3:], func() { done++ }))
	holds(t, "3456789", b)
	assert.Equal(t, "3456", take(t, b, 4))
	assert.Zero(t, done)
	assert.Equal(t, "789", take(t, b, 4))
	assert.Equal(t, 1, done)
}
