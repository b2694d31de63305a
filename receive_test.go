// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// plainly says whether libevent itself reads for all bufferevents of the base.
func plainly(t *testing.T, base *libevent.Base) bool {
	t.Helper()
	return base.Stats().FastReads == 0
}

// What a receiver takes and what it leaves to the input is everything that came, in order.
func TestReceiver(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		bev, peer := testutil.NewSocket(t, base, 0)
		want := testutil.Noise(8 << 20)
		var got []byte
		asked, taken := 0, 0
		all := make(chan struct{})
		check := func() {
			if len(got) == len(want) && all != nil {
				close(all)
				all = nil
			}
		}
		done := all
		p := make([]byte, 100<<10)
		require.NoError(t, bev.SetReceiver(func(b *libevent.BufferEvent) {
			if asked++; asked%3 == 0 {
				return // the bytes go to the input
			}
			assert.Zero(t, b.Input().Len())
			n, err := b.Receive(p[:1+asked*997%len(p)])
			if err != nil {
				assert.Equal(t, libevent.ErrWouldBlock, err)
				return
			}
			got = append(got, p[:n]...)
			taken += n
			check()
		}))
		require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			n, err := b.Read(p[:min(b.Input().Len()*2/3+1, len(p))])
			assert.NoError(t, err)
			got = append(got, p[:n]...)
			if b.Input().Len() > 0 {
				assert.NoError(t, b.Trigger(rd, 0))
			}
			check()
		}, nil, nil))
		require.NoError(t, bev.Enable(rd))
		testutil.Background(t, base)
		go func() {
			for rest, n := want, 1; len(rest) > 0; n = n*3%70001 + 1 {
				n = min(n, len(rest))
				if _, err := peer.Write(rest[:n]); err != nil {
					return
				}
				rest = rest[n:]
			}
		}()
		testutil.Receive(t, done)
		testutil.Same(t, want, got)
		testutil.OnLoop(t, base, func() {
			assert.Equal(t, plainly(t, base), taken == 0)
			assert.Equal(t, plainly(t, base), asked == 0)
		})
	})
}

// The end of the stream is told after the last byte, whether the receiver or the read
// closure has taken that byte.
func TestReceiverBeforeTheEnd(t *testing.T) {
	for _, end := range []struct {
		what  libevent.Events
		cause error
		of    func(*net.TCPConn) error
	}{
		{libevent.EventEOF, io.EOF, (*net.TCPConn).Close},
		{libevent.EventError, syscall.ECONNRESET, func(c *net.TCPConn) error {
			return errors.Join(c.SetLinger(0), c.Close())
		}},
	} {
		testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
			bev, peer := testutil.NewSocket(t, base, 0)
			p := make([]byte, 4)
			var got []byte
			events := make(chan libevent.Events, 2)
			full := make(chan struct{})
			took := func(n int) {
				if got = append(got, p[:n]...); n > 0 && len(got) == 5 {
					close(full)
				}
			}
			require.NoError(t, bev.SetReceiver(func(b *libevent.BufferEvent) {
				n, _ := b.Receive(p)
				took(n)
			}))
			require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
				for n := 1; n > 0; {
					n, _ = b.Read(p)
					took(n)
				}
			}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
				assert.ErrorIs(t, b.Err(), end.cause)
				events <- what
			}))
			require.NoError(t, bev.Enable(rd))
			testutil.Background(t, base)
			_, err := peer.Write([]byte("hello"))
			require.NoError(t, err)
			testutil.Receive(t, full)
			require.NoError(t, end.of(peer))
			assert.Equal(t, end.what|libevent.EventReading, testutil.Receive(t, events))
			assert.Equal(t, "hello", string(got))
		})
	}
}

// A receiver may free its bufferevent, or turn reading off.
func TestReceiverEndsIt(t *testing.T) {
	for name, fn := range map[string]func(*libevent.BufferEvent){
		"frees":    func(b *libevent.BufferEvent) { b.Free() },
		"disables": func(b *libevent.BufferEvent) { _ = b.Disable(rd) },
	} {
		t.Run(name, func(t *testing.T) {
			base := testutil.NewBase(t)
			if testutil.PlainIO {
				t.Skip("libevent reads")
			}
			bev, peer := testutil.NewSocket(t, base, 0)
			asked := make(chan error, 2)
			require.NoError(t, bev.SetReceiver(func(b *libevent.BufferEvent) {
				fn(b)
				_, err := b.Receive(make([]byte, 1))
				asked <- err
			}))
			require.NoError(t, bev.SetCallbacks(func(*libevent.BufferEvent) {
				assert.Fail(t, "it is read from")
			}, nil, nil))
			require.NoError(t, bev.Enable(rd))
			testutil.Background(t, base)
			_, err := peer.Write([]byte("hello"))
			require.NoError(t, err)
			err = testutil.Receive(t, asked)
			if name == "frees" {
				assert.ErrorIs(t, err, libevent.ErrClosed)
				return
			}
			assert.Equal(t, libevent.ErrWouldBlock, err)
			read := make(chan string, 1)
			require.NoError(t, bev.SetReceiver(nil))
			require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) { read <- testutil.Content(t, b.Input()) }, nil, nil))
			require.NoError(t, bev.Enable(rd))
			assert.Equal(t, "hello", testutil.Receive(t, read))
		})
	}
}

// A panic in a receiver comes out of the loop, as in any closure, and no byte is lost.
func TestReceiverPanics(t *testing.T) {
	if testutil.PlainIO {
		t.Skip("libevent reads")
	}
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.SetReceiver(func(*libevent.BufferEvent) { panic("no room") }))
	var got []byte
	require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		got = append(got, testutil.Content(t, b.Input())...)
		assert.NoError(t, base.LoopBreak())
	}, nil, nil))
	require.NoError(t, bev.Enable(rd))
	_, err := peer.Write([]byte("hello"))
	require.NoError(t, err)
	var panicked *libevent.PanicError
	p, _ := testutil.Raises(func() { _ = base.Dispatch() }).(error)
	require.ErrorAs(t, p, &panicked)
	assert.Equal(t, "no room", panicked.Value)
	assert.Empty(t, got)
	testutil.Dispatch(t, base)
	assert.Equal(t, "hello", string(got))
}

func TestReceiveElsewhere(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	testutil.Background(t, base)
	_, err := peer.Write([]byte("hello"))
	require.NoError(t, err)
	p := make([]byte, 1)
	_, err = bev.Receive(p)
	assert.ErrorIs(t, err, libevent.ErrWrongLoop)
	testutil.OnLoop(t, base, func() { // on the loop, but not in a receiver
		_, err := bev.Receive(p)
		assert.Equal(t, libevent.ErrWouldBlock, err)
		n, err := bev.Receive(nil)
		assert.Zero(t, n)
		assert.NoError(t, err)
	})
	bev.Free()
	_, err = bev.Receive(p)
	assert.ErrorIs(t, err, libevent.ErrClosed)
	assert.ErrorIs(t, bev.SetReceiver(nil), libevent.ErrClosed)
}
