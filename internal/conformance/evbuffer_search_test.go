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

func TestConformanceBufferSearch(t *testing.T) {
	for name, test := range map[string]func(t *testing.T){
		"readln":        conformReadLine,
		"search_eol":    conformSearchEOL,
		"find":          conformFind,
		"ptr_set":       conformPtrSet,
		"search":        conformSearch,
		"peek":          conformPeek,
		"peek_first_gt": conformPeekFirst,
	} {
		t.Run(name, test)
	}
}

func conformReadLine(t *testing.T) {
	for name, c := range map[string]struct {
		eol   libevent.EOL
		steps []readLine
	}{
		"any": {libevent.EOLAny, []readLine{
			{"a strange newline\r\n\n\r\n\n\rmore\x00\n", []string{"a strange newline", "more\x00"}, ""},
			{"\nno newline", []string{""}, "no newline"},
		}},
		"crlf": {libevent.EOLCRLF, []readLine{
			{"a\rwithin\na good crlf\r\n\nlast\n", []string{"a\rwithin", "a good crlf", "", "last"}, ""},
			{"x", nil, "x"},
		}},
		"crlf strict": {libevent.EOLCRLFStrict, []readLine{
			{"x a bad crlf\nand a good one\r\n\r\nMore\r", []string{"x a bad crlf\nand a good one", ""}, "More\r"},
			{"\n", []string{"More"}, ""},
			{"a CR\r does not end it\r\nnor does nothing", []string{"a CR\r does not end it"}, "nor does nothing"},
			{"\r\n", []string{"nor does nothing"}, ""},
		}},
		"lf": {libevent.EOLLF, []readLine{
			{"a\rand a newline\n\ntext", []string{"a\rand a newline", ""}, "text"},
			{"\n", []string{"text"}, ""},
		}},
		"nul": {libevent.EOLNUL, []readLine{
			{"NUL\n\x00\x00another\x00not yet", []string{"NUL\n", "", "another"}, "not yet"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := testutil.NewBuffer(t, "")
			for _, step := range c.steps {
				add(t, b, step.add)
				step.run(t, b, c.eol)
			}
		})
	}
	t.Run("crlf strict, across chunks", func(t *testing.T) {
		b := testutil.Chunks(t, " a bad crlf\nand a good one\r", "\n\r", "\nMore\r")
		readLine{want: []string{" a bad crlf\nand a good one", ""}, rest: "More\r"}.run(t, b, libevent.EOLCRLFStrict)
		add(t, b, "\n")
		readLine{want: []string{"More"}}.run(t, b, libevent.EOLCRLFStrict)
	})
}

// readLine is what is added to a buffer, the lines that are whole then, and the rest.
type readLine struct {
	add  string
	want []string
	rest string
}

func (r readLine) run(t *testing.T, b *libevent.Buffer, eol libevent.EOL) {
	t.Helper()
	for _, want := range r.want {
		line, ok := b.ReadLine(eol)
		assert.True(t, ok)
		assert.Equal(t, want, string(line))
	}
	_, ok := b.ReadLine(eol)
	assert.False(t, ok)
	holds(t, r.rest, b)
}

func conformSearchEOL(t *testing.T) {
	b := testutil.NewBuffer(t, "string! \r\n\r\nx\n")
	for _, c := range []struct {
		from       int
		eol        libevent.EOL
		at, length int
	}{
		{0, libevent.EOLCRLF, 8, 2}, {8, libevent.EOLCRLF, 8, 2}, {9, libevent.EOLCRLF, 9, 1},
		{9, libevent.EOLCRLFStrict, 10, 2}, {0, libevent.EOLLF, 9, 1}, {9, libevent.EOLLF, 9, 1},
		{10, libevent.EOLLF, 11, 1}, {b.Len(), libevent.EOLLF, -1, 0}, {0, libevent.EOLAny, 8, 4},
		{0, libevent.EOLNUL, -1, 0}, {b.Len() + 1, libevent.EOLLF, -1, 0}, {-1, libevent.EOLLF, -1, 0},
		{0, libevent.EOL(17), -1, 0},
	} {
		at, length := b.SearchEOL(c.from, c.eol)
		assert.Equal(t, []int{c.at, c.length}, []int{at, length}, "%v", c)
	}
}

func conformFind(t *testing.T) {
	b := testutil.NewBuffer(t, "1234567890\r\n")
	require.NoError(t, b.Drain(12))
	add(t, b, "1234567890\r")
	assert.Equal(t, -1, b.Search([]byte("\r\n"), 0), "not what lay behind the end before")
	require.NoError(t, b.Drain(11))
	add(t, b, strings.Repeat("a", 255)+"x")
	assert.Equal(t, -1, b.Search([]byte("xy"), 0))
	assert.Equal(t, 254, b.Search([]byte("ax"), 0))
}

// Positions are offsets here. CopyOutFrom and PeekRange show where an offset leads.
func conformPtrSet(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	at := func(from int) (string, error) {
		p := make([]byte, 1)
		n, err := b.CopyOutFrom(p, from)
		return string(p[:n]), err
	}
	got, err := at(0)
	require.NoError(t, err)
	assert.Empty(t, got)
	_, err = at(1)
	assert.ErrorIs(t, err, syscall.EINVAL)
	require.NoError(t, b.AddBuffer(testutil.Chunks(t,
		strings.Repeat("1", 5000), strings.Repeat("2", 4000), strings.Repeat("3", 3000))))
	require.Equal(t, 12000, b.Len())
	for from, want := range map[int]string{
		0: "1", 2500: "1", 4999: "1", 5000: "2", 8999: "2", 9000: "3", 11999: "3", 12000: "",
	} {
		got, err := at(from)
		require.NoError(t, err)
		assert.Equal(t, want, got, from)
		require.NoError(t, b.PeekRange(from, 1, func(spans [][]byte) {
			assert.Equal(t, want, string(bytes.Join(spans, nil)), from)
		}))
	}
	for _, from := range []int{-1, 12001, 13000, math.MaxInt} {
		_, err := at(from)
		assert.ErrorIs(t, err, syscall.EINVAL)
		err = b.PeekRange(from, 1, func([][]byte) { assert.Fail(t, "there is nothing") })
		assert.ErrorIs(t, err, syscall.EINVAL)
	}
}

func conformSearch(t *testing.T) {
	b := testutil.Chunks(t, "hello", "foocat", "attack")
	for _, c := range []struct {
		what     string
		from, to int
		want     int
	}{
		{"attack", 0, 17, 11}, {"attacker", 0, 17, -1}, {"oc", 0, 17, 7}, {"cat", 7, 17, 8}, {"tacking", 8, 17, -1},
		{"foo", 5, 17, 5}, {"tat", 7, 17, 10}, {"foo", 0, 12, 5}, {"foocata", 0, 12, 5}, {"foocatat", 0, 12, -1},
		{"ack", 0, 12, -1}, {"attack", 11, 17, 11}, {"attack", 17, 17, -1}, {"attack", 0, 1000, 11},
		{"", 3, 3, 3}, {"", 18, 20, -1}, {"h", 1, 0, -1}, {"h", -1, 3, -1}, {"h", 0, -1, -1},
	} {
		assert.Equal(t, c.want, b.SearchRange([]byte(c.what), c.from, c.to), "%v", c)
		if c.to == 17 {
			assert.Equal(t, c.want, b.Search([]byte(c.what), c.from), "%v", c)
		}
	}
	assert.Equal(t, -1, testutil.NewBuffer(t, "").SearchRange([]byte("a"), 0, 10))
}

// peeks returns the pieces that PeekRange shows.
func peeks(t testing.TB, b *libevent.Buffer, from, n int) (got []string) {
	t.Helper()
	require.NoError(t, b.PeekRange(from, n, func(spans [][]byte) {
		for _, span := range spans {
			got = append(got, string(span))
		}
	}))
	return got
}

func conformPeek(t *testing.T) {
	var parts []string
	for c := 'a'; c < 'a'+16; c++ {
		parts = append(parts, strings.Repeat(string(c), 20))
	}
	b := testutil.Chunks(t, parts...)
	assert.Equal(t, parts, peeks(t, b, 0, -1))
	assert.Equal(t, parts, peeks(t, b, 0, 65536), "more than there is")
	assert.Equal(t, parts[:1], peeks(t, b, 0, 20))
	assert.Equal(t, parts[:2], peeks(t, b, 0, 40))
	assert.Equal(t, []string{parts[0], parts[1], "c"}, peeks(t, b, 0, 41), "no more than asked for")
	assert.Len(t, peeks(t, b, 0, 100), 5)
	assert.Equal(t, []string{parts[1][:10], parts[2], parts[3], parts[4][:5]}, peeks(t, b, 30, 55))
	assert.Equal(t, []string{parts[2], parts[3], "eeee"}, peeks(t, b, 40, 44), "from the start of a chunk")
	assert.Empty(t, strings.Join(peeks(t, b, 30, 0), ""))
	assert.Empty(t, peeks(t, b, b.Len(), 44))
	for _, n := range []int{-1, 0, 50} {
		assert.Empty(t, peeks(t, testutil.NewBuffer(t, ""), 0, n))
	}
}

func conformPeekFirst(t *testing.T) {
	b := testutil.Chunks(t, "a first chunk that is longer\n", "than the second\n")
	assert.Len(t, peeks(t, b, 0, -1), 2)
	assert.Equal(t, []string{"\n", "than the second\n"}, peeks(t, b, 28, -1))
	assert.Equal(t, []string{"r\n"}, peeks(t, b, 27, 2))
	assert.Equal(t, []string{"r\n", "t"}, peeks(t, b, 27, 3))
}
