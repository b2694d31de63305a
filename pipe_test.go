// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"io"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// Each side sends much, ends, and gets all of the other's.
func TestPipe(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		a, left := testutil.NewSocket(t, base, 0)
		b, right := testutil.NewSocket(t, base, 0)
		require.NoError(t, libevent.Pipe(a, b, func(_ *libevent.BufferEvent, err error) { assert.NoError(t, err) }))
		there, back := testutil.Noise(8<<20), testutil.Noise(8<<20+1)
		atRight := testutil.ReadAll(right)
		go func() {
			_, err := left.Write(there)
			assert.NoError(t, err)
			assert.NoError(t, left.CloseWrite())
		}()
		stop := testutil.Background(t, base)
		testutil.Same(t, there, testutil.Receive(t, atRight))
		atLeft := testutil.ReadAll(left) // the other direction goes on
		_, err := right.Write(back)
		require.NoError(t, err)
		require.NoError(t, right.CloseWrite())
		testutil.Same(t, back, testutil.Receive(t, atLeft))
		testutil.Eventually(t, func() bool { return base.Stats().BufferEvents == 0 }, "both sides are freed")
		stop()
	})
}

// The side that does not read bounds what is read for it.
func TestPipeHoldsABoundedAmount(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		a, left := testutil.NewSocket(t, base, 0)
		b, right := testutil.NewSocket(t, base, 0)
		require.NoError(t, libevent.Pipe(a, b, nil))
		stop := testutil.Background(t, base)
		data := testutil.Noise(32 << 20)
		go func() {
			_, _ = left.Write(data)
			_ = left.CloseWrite()
		}()
		testutil.Eventually(t, func() bool { return a.Enabled()&rd == 0 }, "reading pauses")
		assert.Less(t, b.Output().Len(), 4<<20)
		testutil.Same(t, data, testutil.Receive(t, testutil.ReadAll(right)))
		stop()
		a.Free()
		b.Free()
	})
}

// When one side is cut, the other side must not take what came for all there is.
func TestPipeFails(t *testing.T) {
	base := testutil.NewBase(t)
	a, left := testutil.NewSocket(t, base, 0)
	b, right := testutil.NewSocket(t, base, 0)
	require.NoError(t, b.SetLinger(0))
	var failed error
	require.NoError(t, libevent.Pipe(a, b, func(side *libevent.BufferEvent, err error) {
		assert.Same(t, a, side)
		failed = err
	}))
	require.NoError(t, left.SetLinger(0))
	require.NoError(t, left.Close())
	testutil.Dispatch(t, base)
	assert.ErrorIs(t, failed, syscall.ECONNRESET)
	_, err := right.Read(make([]byte, 1))
	assert.ErrorIs(t, err, syscall.ECONNRESET)
	assert.Zero(t, base.Stats().BufferEvents)
}

// What the input has already is forwarded, too: a proxy has read the head of a request by then.
func TestPipeForwardsTheInput(t *testing.T) {
	base := testutil.NewBase(t)
	a, left := testutil.NewSocket(t, base, 0)
	b, right := testutil.NewSocket(t, base, 0)
	require.NoError(t, a.SetCallbacks(func(*libevent.BufferEvent) { assert.NoError(t, libevent.Pipe(a, b, nil)) }, nil, nil))
	require.NoError(t, a.Enable(rd))
	stop := testutil.Background(t, base)
	_, err := io.WriteString(left, "head")
	require.NoError(t, err)
	got := make([]byte, 4)
	_, err = io.ReadFull(right, got)
	require.NoError(t, err)
	assert.Equal(t, "head", string(got))
	stop()
	a.Free()
	b.Free()
}

func TestPipeArguments(t *testing.T) {
	base, other := testutil.NewBase(t), testutil.NewBase(t)
	a, _ := testutil.NewSocket(t, base, 0)
	b, _ := testutil.NewSocket(t, other, 0)
	assert.ErrorIs(t, libevent.Pipe(a, b, nil), syscall.EINVAL)
	assert.ErrorIs(t, libevent.Pipe(a, a, nil), syscall.EINVAL)
	assert.ErrorIs(t, libevent.Pipe(a, nil, nil), syscall.EINVAL)
	c, _ := testutil.NewSocket(t, base, 0)
	c.Free()
	assert.ErrorIs(t, libevent.Pipe(a, c, nil), libevent.ErrClosed)
}
