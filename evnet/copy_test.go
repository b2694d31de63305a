// SPDX-License-Identifier: BSD-3-Clause

package evnet_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent/evnet"
	"github.com/go-libevent/libevent/internal/testutil"
)

// io.Copy carries everything from one connection to another, between all transports.
func TestRelay(t *testing.T) {
	base := running(t)
	for _, from := range transports {
		for _, to := range transports {
			for _, size := range []int{10, 5000, 1 << 20} { // the last is more than two connections hold
				a, b := from.pair(t, base)
				x, y := to.pair(t, base)
				want := testutil.Noise(size)
				relayed := async(func() (int64, error) {
					n, err := io.Copy(x, b)
					assert.NoError(t, x.CloseWrite())
					return n, err
				})
				got := readAll(y)
				_, err := a.Write(want)
				require.NoError(t, err)
				require.NoError(t, a.Close())
				assert.Equal(t, result[int64]{int64(size), nil}, testutil.Receive(t, relayed), "from %s to %s", from.name, to.name)
				same(t, want, testutil.Receive(t, got).v)
			}
		}
	}
}

func TestRelayErrors(t *testing.T) {
	base := running(t)
	a, b := tcpPair(t, base)
	x, _ := tcpPair(t, base)
	require.NoError(t, b.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	_, err := io.Copy(x, b)
	assert.True(t, timedOut(err), "%v", err)
	require.NoError(t, b.SetReadDeadline(time.Time{}))
	require.NoError(t, x.Close())
	_, err = a.Write(testutil.Noise(100_000))
	require.NoError(t, err)
	_, err = io.Copy(x, b)
	assert.True(t, isClosed(err), "%v", err)
}

func TestCopyToAndFromOthers(t *testing.T) {
	eachTransport(t, func(t *testing.T, a, b *evnet.Conn) {
		want := testutil.Noise(1 << 20)
		go func() {
			n, err := io.Copy(a, bytes.NewReader(want))
			assert.NoError(t, err)
			assert.EqualValues(t, len(want), n)
			assert.NoError(t, a.CloseWrite())
		}()
		var got bytes.Buffer
		n, err := io.Copy(&got, b)
		assert.NoError(t, err)
		assert.EqualValues(t, len(want), n)
		same(t, want, got.Bytes())
	})
}

// Neither reading nor writing allocates.
func TestAllocations(t *testing.T) {
	eachTransport(t, func(t *testing.T, a, b *evnet.Conn) {
		p := make([]byte, 1000)
		n := testing.AllocsPerRun(200, func() {
			_, err := a.Write(p)
			assert.NoError(t, err)
			_, err = io.ReadFull(b, p)
			assert.NoError(t, err)
			assert.NoError(t, b.SetReadDeadline(time.Now().Add(testutil.Patience)))
		})
		if evnet.OverFilter(a) || testutil.Race {
			return // the filter of these tests allocates, and so does the race detector
		}
		assert.LessOrEqual(t, n, 0.1)
	})
}
