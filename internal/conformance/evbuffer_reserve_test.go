// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"math"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestConformanceBufferReserve(t *testing.T) {
	for name, test := range map[string]func(t *testing.T){
		"reserve2":                        conformReserve2,
		"reserve_many":                    func(t *testing.T) { conformReserveMany(t, 0, false) },
		"reserve_many2":                   func(t *testing.T) { conformReserveMany(t, 1, false) },
		"reserve_many3":                   func(t *testing.T) { conformReserveMany(t, 0, true) },
		"reserve_with_empty":              conformReserveWithEmpty,
		"reserve_invalid_last_with_datap": conformReserveInvalidLast,
		"expand":                          conformExpand,
		"expand_overflow":                 conformExpandOverflow,
	} {
		t.Run(name, test)
	}
}

// pieces reserves n bytes and copies each string of fill into one piece. It returns how
// long the pieces were and where they began.
func pieces(t testing.TB, b *libevent.Buffer, n int, fill ...string) (lengths []int, starts []*byte) {
	t.Helper()
	require.NoError(t, b.Reserve(n, func(spans [][]byte) (used int) {
		total := 0
		for i, span := range spans {
			lengths = append(lengths, len(span))
			starts = append(starts, &span[0])
			total += len(span)
			if i < len(fill) {
				used += copy(span, fill[i])
				assert.True(t, i == len(fill)-1 || len(fill[i]) == len(span), "Reserve uses bytes in order")
			}
		}
		assert.GreaterOrEqual(t, total, n)
		return used
	}))
	return lengths, starts
}

func conformReserve2(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	x, y, z := strings.Repeat("x", 512), strings.Repeat("y", 8), "z"
	lengths, starts := pieces(t, b, 1024, x)
	require.Len(t, lengths, 1, "the first is one chunk")
	first, room := starts[0], lengths[0]-512
	assert.Equal(t, 512, b.Len())

	lengths, _ = pieces(t, b, 32, y)
	assert.Equal(t, []int{room}, lengths, "the same chunk, where it was left")
	room -= 8
	lengths, starts = pieces(t, b, room+64, z)
	require.Len(t, lengths, 2, "the rest of it, and a new one")
	assert.Equal(t, room, lengths[0])
	assert.GreaterOrEqual(t, lengths[1], 64)
	second := starts[1]
	room--

	w, v := strings.Repeat("w", room), strings.Repeat("v", 60)
	lengths, starts = pieces(t, b, room+64, w, v)
	require.Len(t, lengths, 2)
	assert.Equal(t, room, lengths[0])
	assert.Same(t, second, starts[1])
	require.NoError(t, b.Peek(func(spans [][]byte) {
		assert.Len(t, spans, 2)
		assert.Same(t, first, &spans[0][0])
		assert.Same(t, second, &spans[1][0])
		assert.Equal(t, x+y+z+w, string(spans[0]))
		assert.Equal(t, v, string(spans[1]))
	}))
	holds(t, x+y+z+w+v, b)
}

func conformReserveMany(t *testing.T, used int, fill bool) {
	b := testutil.NewBuffer(t, "")
	lengths, starts := pieces(t, b, 128, strings.Repeat("x", used))
	require.Len(t, lengths, 1)
	size, start := lengths[0]-used, starts[0]
	if fill {
		pieces(t, b, 128, strings.Repeat("x", size))
		lengths, starts = pieces(t, b, 128)
		require.Len(t, lengths, 1)
		assert.NotSame(t, start, starts[0], "the first is full")
		size, start = lengths[0], starts[0]
	}
	before := testutil.Content(t, b)

	lengths, starts = pieces(t, b, size+128)
	require.Len(t, lengths, 2, "one more")
	assert.Equal(t, size, lengths[0])
	assert.GreaterOrEqual(t, lengths[1], 128)
	if used == 0 {
		assert.Same(t, start, starts[0])
	}
	again, starts2 := pieces(t, b, size+128)
	assert.Equal(t, lengths, again, "what was not used is there again")
	assert.Equal(t, starts, starts2)

	more, starts3 := pieces(t, b, lengths[0]+lengths[1]+128)
	if used > 0 {
		require.Len(t, more, 2, "the empty one made way for a larger one")
		assert.Same(t, starts[0], starts3[0])
	} else {
		assert.Len(t, more, 1, "the empty ones made way for one")
	}
	holds(t, before, b)
}

func conformReserveWithEmpty(t *testing.T) {
	b := testutil.NewBuffer(t, "a")
	lengths, _ := pieces(t, b, 1<<12, "b")
	assert.Len(t, lengths, 2)
	add(t, b, "c")
	holds(t, "abc", b)
}

func conformReserveInvalidLast(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	addEmpty(t, b)
	prepend(t, b, "foo")
	require.NoError(t, b.Add(nil))
	pieces(t, b, 1<<12)
	pieces(t, b, 1<<13)
	holds(t, "foo", b)
}

func conformExpand(t *testing.T) {
	data := strings.Repeat("x", 4096)
	b := testutil.NewBuffer(t, "")
	require.NoError(t, b.Expand(20000))
	assert.Zero(t, b.Len())
	lengths, starts := pieces(t, b, 20000, data[:1024])
	require.Len(t, lengths, 1, "there is room in one piece")
	require.NoError(t, b.Expand(1024))
	require.NoError(t, b.Peek(func(spans [][]byte) {
		assert.Len(t, spans, 1)
		assert.Same(t, starts[0], &spans[0][0], "there was room enough, so nothing moved")
	}))

	// One byte at the end of a chunk moves to its front.
	b = testutil.NewBuffer(t, data[:400])
	lengths, _ = pieces(t, b, 1)
	add(t, b, data[:lengths[0]-1])
	require.NoError(t, b.Peek(func(spans [][]byte) { starts[0] = &spans[0][0] }))
	require.NoError(t, b.Drain(b.Len()-1))
	require.NoError(t, b.Expand(40))
	require.NoError(t, b.Peek(func(spans [][]byte) {
		assert.Len(t, spans, 1)
		assert.Same(t, starts[0], &spans[0][0])
	}))
	holds(t, "x", b)

	b = testutil.NewBuffer(t, data)
	add(t, b, data)
	add(t, b, data)
	require.NoError(t, b.Expand(1024))
	holds(t, data+data+data, b)
}

func conformExpandOverflow(t *testing.T) {
	b := testutil.NewBuffer(t, "1")
	assert.ErrorIs(t, b.Expand(math.MaxInt), syscall.ENOMEM)
	assert.ErrorIs(t, b.Expand(-1), syscall.EINVAL, "the largest size_t")
	holds(t, "1", b)
	add(t, b, "2")
	holds(t, "12", b)
}
