// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// What is written to a pair is below the filter at once, and so is its end. Reading from the
// filter is turned off before the filter takes the bytes. The end comes after the bytes,
// when reading is on again.
func TestEndOfAPairBelowAFilterThatDoesNotRead(t *testing.T) {
	want := testutil.Noise(50000)
	for _, filters := range []int{1, 2} {
		for _, high := range []int{0, 1000} {
			t.Run(fmt.Sprintf("%d filters, high mark %d", filters, high), func(t *testing.T) {
				base := testutil.NewBase(t)
				a, b := testutil.NewPair(t, base)
				f := b
				for range filters {
					f = testutil.NewFilter(t, f, nil, nil, libevent.OptCloseOnFree)
				}
				require.NoError(t, f.SetWatermark(rd, 0, high))
				var got []byte
				require.NoError(t, f.SetCallbacks(func(b *libevent.BufferEvent) {
					p := make([]byte, b.Input().Len())
					n, _ := b.Input().Remove(p)
					got = append(got, p[:n]...)
				}, nil, func(_ *libevent.BufferEvent, what libevent.Events) {
					assert.Equal(t, libevent.EventReading|libevent.EventEOF, what)
					testutil.Same(t, want, got)
					assert.NoError(t, base.LoopBreak())
				}))
				require.NoError(t, f.Enable(rd))
				_, err := a.Write(want)
				require.NoError(t, err)
				require.NoError(t, f.Disable(rd))
				require.NoError(t, a.CloseWrite())
				for range 20 {
					require.NoError(t, base.Loop(libevent.LoopNonblock))
				}
				assert.Empty(t, got)
				require.NoError(t, f.Enable(rd))
				testutil.Dispatch(t, base)
				testutil.Same(t, want, got)
				a.Free()
				f.Free()
			})
		}
	}
}
