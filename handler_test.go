// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// called collects the names of the closures that are called, and breaks the loop after each.
type called struct {
	names []string
	err   error
}

func (c *called) did(name string) func(*libevent.BufferEvent) {
	return func(b *libevent.BufferEvent) {
		c.names = append(c.names, name)
		_ = b.Base().LoopBreak()
	}
}

func (c *called) handler() libevent.Handler {
	return libevent.Handler{
		Connected: c.did("connected"), Read: func(b *libevent.BufferEvent) { testutil.Mirror(b); c.did("read")(b) }, End: c.did("end"),
		Error:   func(b *libevent.BufferEvent, err error) { c.err = err; c.did("error")(b) },
		Timeout: func(b *libevent.BufferEvent, what libevent.What) { c.did("timeout " + what.String())(b) },
	}
}

func TestHandler(t *testing.T) {
	testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		bev, err := base.NewSocket(-1, libevent.OptCloseOnFree)
		require.NoError(t, err)
		c := &called{}
		require.NoError(t, bev.Handle(c.handler()))
		require.NoError(t, bev.ConnectTo(nil, "tcp", ln.Addr().String()))
		testutil.Dispatch(t, base)
		peer, err := ln.Accept()
		require.NoError(t, err)
		_, err = io.WriteString(peer, "bytes")
		require.NoError(t, err)
		testutil.Dispatch(t, base)
		require.NoError(t, bev.SetTimeouts(time.Millisecond, 0))
		testutil.Dispatch(t, base)
		require.NoError(t, bev.SetTimeouts(0, 0))
		require.NoError(t, bev.Enable(rd))
		require.NoError(t, peer.(*net.TCPConn).CloseWrite())
		testutil.Dispatch(t, base)
		assert.Equal(t, []string{"connected", "read", "timeout EV_READ", "end"}, c.names)
		require.NoError(t, peer.Close())
	})
}

// With the error of a write the end that came before it does not matter.
func TestHandlerOfMergedEvents(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	c := &called{}
	require.NoError(t, bev.Handle(c.handler()))
	require.NoError(t, bev.TriggerEvent(libevent.EventEOF|libevent.EventReading|libevent.EventError|libevent.EventWriting))
	testutil.Dispatch(t, base)
	assert.Equal(t, []string{"error"}, c.names)
	assert.Equal(t, bev.Err(), c.err)
}

// A missing closure frees the connection.
func TestHandlerWithoutClosures(t *testing.T) {
	for name, happens := range map[string]func(t *testing.T, bev *libevent.BufferEvent, peer *net.TCPConn){
		"end": func(t *testing.T, _ *libevent.BufferEvent, peer *net.TCPConn) {
			_, err := io.WriteString(peer, "dropped")
			assert.NoError(t, err)
			assert.NoError(t, peer.CloseWrite())
		},
		"error": func(t *testing.T, _ *libevent.BufferEvent, peer *net.TCPConn) {
			assert.NoError(t, peer.SetLinger(0))
			assert.NoError(t, peer.Close())
		},
		"timeout": func(t *testing.T, bev *libevent.BufferEvent, _ *net.TCPConn) {
			assert.NoError(t, bev.SetTimeouts(time.Millisecond, 0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := testutil.NewBase(t)
			bev, peer := testutil.NewSocket(t, base, 0)
			require.NoError(t, bev.Handle(libevent.Handler{}))
			happens(t, bev, peer)
			testutil.Dispatch(t, base) // the loop ends when nothing is left
			assert.Zero(t, base.Stats().BufferEvents)
		})
	}
}

func TestHandlerTimeoutIsAnError(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	c := &called{}
	h := c.handler()
	h.Timeout = nil
	require.NoError(t, bev.Handle(h))
	require.NoError(t, bev.SetTimeouts(time.Millisecond, 0))
	testutil.Dispatch(t, base)
	assert.Equal(t, os.ErrDeadlineExceeded, c.err)
}

// What came before Handle goes to Read.
func TestHandleWithInput(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		assert.NoError(t, b.Handle(libevent.Handler{Read: testutil.Mirror}))
	}, nil, nil))
	require.NoError(t, bev.Enable(rd))
	testutil.Background(t, base)
	assert.Equal(t, "upgrade", testutil.Say(t, peer, "upgrade"))
	assert.Equal(t, "again", testutil.Say(t, peer, "again"))
	bev.Free()
	assert.ErrorIs(t, bev.Handle(libevent.Handler{}), libevent.ErrClosed)
}

// A peer that does not read is not read from, and all it has sent is answered in the end.
func TestHandlerBoundsTheOutput(t *testing.T) {
	for name, change := range map[string]func(h *libevent.Handler){
		"alone":        func(*libevent.Handler) {},
		"with Written": func(h *libevent.Handler) { h.Written = func(*libevent.BufferEvent) {} },
	} {
		t.Run(name, func(t *testing.T) {
			testutil.BothWays(t, func(t *testing.T, base *libevent.Base) {
				const most, total = 1 << 20, 48 << 20
				bev, peer := testutil.NewSocket(t, base, 0)
				var longest int
				paused := make(chan struct{}, 1)
				h := libevent.Handler{MaxOutput: most, Read: func(b *libevent.BufferEvent) {
					testutil.Mirror(b)
					longest = max(longest, b.Output().Len())
					if longest > most {
						select {
						case paused <- struct{}{}:
						default:
						}
					}
				}}
				change(&h)
				require.NoError(t, bev.Handle(h))
				stop := testutil.Background(t, base)
				data := testutil.Noise(total)
				sent := make(chan error, 1)
				go func() {
					_, err := peer.Write(data)
					sent <- err
				}()
				testutil.Receive(t, paused)
				got := make([]byte, total)
				_, err := io.ReadFull(peer, got)
				require.NoError(t, err)
				require.NoError(t, testutil.Receive(t, sent))
				testutil.Same(t, data, got)
				stop()
				assert.Less(t, longest, 4*most)
				bev.Free()
			})
		})
	}
}

// A Read that passes the connection on may leave more output than MaxOutput. Its Handler does not come back.
func TestHandlerPassesTheConnectionOn(t *testing.T) {
	for name, pass := range map[string]func(t *testing.T, b *libevent.BufferEvent){
		"to a Handler": func(t *testing.T, b *libevent.BufferEvent) {
			assert.NoError(t, b.Handle(libevent.Handler{Read: testutil.Mirror}))
		},
		"to closures": func(t *testing.T, b *libevent.BufferEvent) {
			assert.NoError(t, b.SetCallbacks(testutil.Mirror, nil, nil))
		},
		"to a filter": func(t *testing.T, b *libevent.BufferEvent) {
			filter, err := libevent.NewFilter(b, nil, nil, libevent.OptCloseOnFree)
			assert.NoError(t, err)
			assert.NoError(t, filter.Handle(libevent.Handler{Read: testutil.Mirror}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := testutil.NewBase(t)
			bev, peer := testutil.NewSocket(t, base, 0)
			answer := testutil.Noise(8 << 20)
			require.NoError(t, bev.Handle(libevent.Handler{Read: func(b *libevent.BufferEvent) {
				assert.NoError(t, b.Input().Drain(1))
				_, err := b.Write(answer)
				assert.NoError(t, err)
				pass(t, b)
			}}))
			testutil.Background(t, base)
			_, err := peer.Write([]byte("x"))
			require.NoError(t, err)
			got := make([]byte, len(answer))
			_, err = io.ReadFull(peer, got)
			require.NoError(t, err)
			testutil.Same(t, answer, got)
			assert.Equal(t, "next", testutil.Say(t, peer, "next"))
		})
	}
}

// So may a Written, while reading is off because of MaxOutput.
func TestHandlerPassesTheConnectionOnInWritten(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	answer := testutil.Noise(8 << 20)
	require.NoError(t, bev.Handle(libevent.Handler{
		Read: func(b *libevent.BufferEvent) {
			assert.NoError(t, b.Input().Drain(1))
			_, err := b.Write(answer)
			assert.NoError(t, err)
		},
		Written: func(b *libevent.BufferEvent) { assert.NoError(t, b.SetCallbacks(testutil.Mirror, nil, nil)) },
	}))
	testutil.Background(t, base)
	_, err := peer.Write([]byte("x"))
	require.NoError(t, err)
	_, err = io.ReadFull(peer, make([]byte, len(answer)))
	require.NoError(t, err)
	assert.Equal(t, "next", testutil.Say(t, peer, "next"))
}

// A Read that turns reading off, with more output than MaxOutput, turns it on again itself.
func TestHandlerLeavesReadingOff(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	answer := testutil.Noise(8 << 20)
	require.NoError(t, bev.Handle(libevent.Handler{Read: func(b *libevent.BufferEvent) {
		assert.NoError(t, b.Input().Drain(1))
		assert.NoError(t, b.Disable(rd))
		_, err := b.Write(answer)
		assert.NoError(t, err)
	}}))
	testutil.Background(t, base)
	_, err := peer.Write([]byte("x"))
	require.NoError(t, err)
	_, err = io.ReadFull(peer, make([]byte, len(answer)))
	require.NoError(t, err)
	testutil.OnLoop(t, base, func() {})
	assert.Equal(t, wr, bev.Enabled())
}

// The output of a filter does not grow in the bufferevents below either.
func TestHandlerBoundsTheOutputOfAFilter(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	for range 2 {
		bev = testutil.NewFilter(t, bev, nil, nil, libevent.OptCloseOnFree)
	}
	const total = 32 << 20
	require.NoError(t, bev.Handle(libevent.Handler{Read: testutil.Mirror}))
	testutil.Background(t, base)
	data := testutil.Noise(total)
	sent := make(chan error, 1)
	go func() {
		_, err := peer.Write(data)
		sent <- err
	}()
	testutil.Eventually(t, func() bool { return bev.Enabled() == wr }, "the loop stops reading")
	output := 0
	for b := bev; b != nil; b = b.Underlying() {
		output += b.Output().Len()
	}
	assert.Less(t, output, 4<<20)
	got := make([]byte, total)
	_, err := io.ReadFull(peer, got)
	require.NoError(t, err)
	require.NoError(t, testutil.Receive(t, sent))
	testutil.Same(t, data, got)
	bev.Free()
}

func TestBoundedLines(t *testing.T) {
	for _, c := range []struct {
		in, rest string
		want     []string
		err      error
	}{
		{"ab\r\ncde\r\nf", "f", []string{"ab", "cde"}, nil},
		{"abcd\r\n", "", []string{"abcd"}, nil},
		{"ab\r\nabcde\r\n", "abcde\r\n", []string{"ab"}, libevent.ErrLineTooLong},
		{"abcd\r", "abcd\r", nil, nil},
		{"abcdef", "abcdef", nil, libevent.ErrLineTooLong},
		{"", "", nil, nil},
	} {
		b := testutil.NewBuffer(t, c.in)
		var lines []string
		var failed error
		for line, err := range b.BoundedLines(libevent.EOLCRLF, 4) {
			if err != nil {
				failed = err
				break
			}
			lines = append(lines, string(line))
		}
		assert.Equal(t, c.want, lines, c.in)
		assert.Equal(t, c.err, failed, c.in)
		assert.Equal(t, c.rest, testutil.Content(t, b), c.in)
	}
}

func TestAfterAndEvery(t *testing.T) {
	base := testutil.NewBase(t)
	var order []string
	never, err := base.After(0, func() { assert.Fail(t, "it was freed") })
	require.NoError(t, err)
	never.Free()
	_, err = base.After(time.Millisecond, func() { order = append(order, "once") })
	require.NoError(t, err)
	n := 0
	var ticker *libevent.Event
	ticker, err = base.Every(time.Millisecond, func() {
		if n++; n == 3 {
			ticker.Free()
		}
	})
	require.NoError(t, err)
	testutil.Dispatch(t, base)
	assert.Equal(t, []string{"once"}, order)
	assert.Equal(t, 3, n)
	assert.Zero(t, base.Stats().Events, "the timers are freed")
	for _, make := range []func(time.Duration, func()) (*libevent.Event, error){base.After, base.Every} {
		_, err := make(time.Second, nil)
		assert.ErrorIs(t, err, syscall.EINVAL)
		_, err = make(-1, func() {})
		assert.ErrorIs(t, err, syscall.EINVAL)
	}
	_, err = base.Every(0, func() {})
	assert.ErrorIs(t, err, syscall.EINVAL)
}

func TestConnectToArguments(t *testing.T) {
	base := testutil.NewBase(t)
	bev, err := base.NewSocket(-1, 0)
	require.NoError(t, err)
	for _, address := range []string{"host", "host:no-such-port", "[::1]", ":80"} {
		assert.ErrorIs(t, bev.ConnectTo(nil, "tcp", address), syscall.EINVAL, address)
	}
	assert.ErrorIs(t, bev.ConnectTo(nil, "udp", "127.0.0.1:1"), syscall.EINVAL)
	assert.ErrorIs(t, bev.ConnectTo(nil, "unix", t.TempDir()+"/none"), syscall.ENOENT)
}
