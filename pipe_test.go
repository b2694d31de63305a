// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

// What is on its way is written when the program frees one side, and when the server shuts down.
func TestPipeEndsWithOneSide(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, s *libevent.Server, client *libevent.BufferEvent){
		"free": func(t *testing.T, _ *libevent.Server, client *libevent.BufferEvent) { client.Free() },
		"shutdown": func(t *testing.T, s *libevent.Server, _ *libevent.BufferEvent) {
			assert.NoError(t, s.Shutdown(patient(t)))
			assert.Zero(t, s.Listener().Base().Stats().BufferEvents, "Shutdown has waited for both sides")
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := testutil.NewBase(t)
			target, right := testutil.NewSocket(t, base, 0)
			require.NoError(t, syscall.SetsockoptInt(target.FD(), syscall.SOL_SOCKET, syscall.SO_SNDBUF, 16<<10))
			require.NoError(t, right.SetReadBuffer(16<<10))
			piped := make(chan *libevent.BufferEvent, 1)
			s := serve(t, base, libevent.ServeOptions{}, func(client *libevent.BufferEvent) libevent.Handler {
				assert.NoError(t, libevent.Pipe(client, target, nil))
				piped <- client
				return libevent.Handler{}
			})
			defer s.Close()
			testutil.Background(t, base)
			left := dialServer(t, s)
			client := testutil.Receive(t, piped)
			assert.Equal(t, []*libevent.BufferEvent{client}, s.Conns(), "the target is not one of them")
			var forwarded atomic.Int64
			_, err := target.Output().AddCallback(func(_ *libevent.Buffer, added, _ int) { forwarded.Add(int64(added)) })
			require.NoError(t, err)
			data := testutil.Noise(256 << 10) // more than the kernel takes
			_, err = left.Write(data)
			require.NoError(t, err)
			testutil.Eventually(t, func() bool { return forwarded.Load() == int64(len(data)) }, "all is forwarded")
			require.NotZero(t, target.Output().Len())
			got := testutil.ReadAll(right)
			end(t, s, client)
			testutil.Same(t, data, testutil.Receive(t, got))
			testutil.Eventually(t, func() bool { return base.Stats().BufferEvents == 0 }, "both sides are freed")
		})
	}
}

// Close of a server also ends the side of a Pipe that is not a connection of the server.
func TestPipeAndClose(t *testing.T) {
	base := testutil.NewBase(t)
	target, right := testutil.NewSocket(t, base, 0)
	piped := make(chan struct{})
	s := serve(t, base, libevent.ServeOptions{}, func(client *libevent.BufferEvent) libevent.Handler {
		assert.NoError(t, libevent.Pipe(target, client, nil))
		close(piped)
		return libevent.Handler{}
	})
	testutil.Background(t, base)
	dialServer(t, s)
	testutil.Receive(t, piped)
	s.Close()
	_, err := right.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF)
}

// Silence in one direction is no failure while something moves in the other direction.
func TestPipeTimeout(t *testing.T) {
	base := testutil.NewBase(t)
	a, left := testutil.NewPair(t, base)
	b, right := testutil.NewPair(t, base)
	var failed []error
	require.NoError(t, libevent.Pipe(a, b, func(side *libevent.BufferEvent, err error) {
		assert.Same(t, a, side)
		failed = append(failed, err)
	}))
	timeout := func() {
		require.NoError(t, a.Disable(rd)) // as libevent does
		require.NoError(t, a.TriggerEvent(libevent.EventTimeout|libevent.EventReading))
		testutil.Dispatch(t, base)
	}
	_, err := right.Write(make([]byte, 1000)) // left does not read it
	require.NoError(t, err)
	testutil.Dispatch(t, base)
	require.Equal(t, 1000, a.Output().Len())
	timeout()
	assert.NotZero(t, a.Enabled()&rd, "right has sent something")

	require.NoError(t, left.SetWatermark(rd, 0, 400))
	require.NoError(t, left.Enable(rd))
	testutil.Dispatch(t, base)
	require.Less(t, a.Output().Len(), 1000)
	timeout()
	assert.NotZero(t, a.Enabled()&rd, "left has taken something")

	timeout()
	assert.Equal(t, []error{os.ErrDeadlineExceeded}, failed)
	_, err = b.Write(nil)
	assert.ErrorIs(t, err, libevent.ErrClosed)
}

// The timeouts are those of the two sides.
func TestPipeIsSilent(t *testing.T) {
	base := testutil.NewBase(t)
	a, left := testutil.NewSocket(t, base, 0)
	b, right := testutil.NewSocket(t, base, 0)
	require.NoError(t, a.SetTimeouts(time.Millisecond, 0))
	require.NoError(t, libevent.Pipe(a, b, nil))
	testutil.Dispatch(t, base)
	_, err := left.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF)
	_, err = right.Read(make([]byte, 1))
	assert.ErrorIs(t, err, syscall.ECONNRESET, "the stream of left has not ended")
}

// Any goroutine may call Pipe, while bytes come on both sides already.
func TestPipeFromAnotherGoroutine(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	for range 50 {
		a, left := testutil.NewSocket(t, base, 0)
		b, right := testutil.NewSocket(t, base, 0)
		there, back := testutil.Noise(1<<20), testutil.Noise(1<<20+1)
		atRight, atLeft := testutil.ReadAll(right), testutil.ReadAll(left)
		for conn, data := range map[*net.TCPConn][]byte{left: there, right: back} {
			go func() {
				_, err := conn.Write(data)
				assert.NoError(t, err)
				assert.NoError(t, conn.CloseWrite())
			}()
		}
		require.NoError(t, libevent.Pipe(a, b, nil))
		testutil.Same(t, there, testutil.Receive(t, atRight))
		testutil.Same(t, back, testutil.Receive(t, atLeft))
	}
}

// The end of one side may come while another goroutine calls Pipe. What is in the input comes before it.
func TestPipeFromAnotherGoroutineBeforeTheEnd(t *testing.T) {
	base := testutil.NewBase(t)
	testutil.Background(t, base)
	for range 100 {
		a, left := testutil.NewSocket(t, base, libevent.OptCloseOnFree)
		b, right := testutil.NewSocket(t, base, libevent.OptCloseOnFree)
		require.NoError(t, a.Enable(rd))
		_, err := io.WriteString(left, "hello")
		require.NoError(t, err)
		testutil.Eventually(t, func() bool { return a.Input().Len() == 5 }, "it has come")
		closed := make(chan error, 1)
		go func() { closed <- left.Close() }()
		require.NoError(t, libevent.Pipe(a, b, nil))
		got, err := io.ReadAll(right)
		require.NoError(t, err)
		assert.Equal(t, "hello", string(got))
		require.NoError(t, testutil.Receive(t, closed))
		require.NoError(t, right.Close())
		a.Free()
		b.Free()
	}
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
