// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// frames is a function for the input that takes frames, each a byte with its length and as many
// bytes, and passes their contents on.
func frames(src, dst *libevent.Buffer, _ int, mode libevent.FlushMode) (libevent.FilterResult, error) {
	head := make([]byte, 1)
	moved := false
	for {
		n, err := src.CopyOut(head)
		if err != nil {
			return libevent.FilterError, err
		}
		if n == 0 || src.Len() < 1+int(head[0]) {
			break
		}
		frame := make([]byte, 1+int(head[0]))
		if _, err := src.Remove(frame); err != nil {
			return libevent.FilterError, err
		}
		if err := dst.Add(frame[1:]); err != nil {
			return libevent.FilterError, err
		}
		moved = true
	}
	if mode == libevent.FlushFinished && src.Len() > 0 {
		return libevent.FilterError, io.ErrUnexpectedEOF
	}
	if !moved {
		return libevent.FilterNeedMore, nil
	}
	return libevent.FilterOK, nil
}

// holding returns a function for the input that passes nothing on before the end.
func holding() libevent.FilterFunc {
	var held strings.Builder
	return func(src, dst *libevent.Buffer, _ int, mode libevent.FlushMode) (libevent.FilterResult, error) {
		if _, err := src.WriteTo(&held); err != nil {
			return libevent.FilterError, err
		}
		if mode != libevent.FlushFinished || held.Len() == 0 {
			return libevent.FilterNeedMore, nil
		}
		defer held.Reset()
		return libevent.FilterOK, dst.Add([]byte(held.String()))
	}
}

// endOf sends text through filters for the input, the lowest one first, ends the stream, and
// returns all that was read before the event, and the event with its cause.
func endOf(t *testing.T, base *libevent.Base, pair bool, text string, low int, filters ...libevent.FilterFunc) (string, libevent.Events, error) {
	t.Helper()
	var top *libevent.BufferEvent
	if pair {
		a, b := testutil.NewPair(t, base)
		_, err := a.WriteString(text)
		require.NoError(t, err)
		require.NoError(t, a.CloseWrite())
		top = b
	} else {
		bev, peer := testutil.NewSocket(t, base, 0)
		_, err := io.WriteString(peer, text)
		require.NoError(t, err)
		require.NoError(t, peer.CloseWrite())
		top = bev
	}
	for _, in := range filters {
		top = testutil.NewFilter(t, top, in, nil, libevent.OptCloseOnFree)
	}
	var got strings.Builder
	var event libevent.Events
	require.NoError(t, top.SetWatermark(rd, low, 0))
	require.NoError(t, top.SetCallbacks(func(b *libevent.BufferEvent) {
		_, err := b.Input().WriteTo(&got)
		assert.NoError(t, err)
	}, nil, func(b *libevent.BufferEvent, what libevent.Events) {
		assert.Zero(t, event, "one event")
		event = what
		assert.NoError(t, base.LoopBreak())
	}))
	require.NoError(t, top.Enable(rd))
	testutil.Dispatch(t, base)
	_, err := top.Input().WriteTo(&got)
	require.NoError(t, err)
	err = top.Err()
	top.Free()
	return got.String(), event, err
}

func TestFilterLearnsOfTheEnd(t *testing.T) {
	const end, failed = libevent.EventReading | libevent.EventEOF, libevent.EventReading | libevent.EventError
	for _, c := range []struct {
		name, text, want string
		filters          []libevent.FilterFunc
		event            libevent.Events
		err              error
	}{
		{"whole frames", "\x03abc\x02de", "abcde", []libevent.FilterFunc{frames}, end, io.EOF},
		{"a cut frame", "\x03abc\x02d", "abc", []libevent.FilterFunc{frames}, failed, io.ErrUnexpectedEOF},
		{"held to the end", "all of it", "all of it", []libevent.FilterFunc{holding()}, end, io.EOF},
		{"frames in frames", "\x05\x03abc\x02\x01\x01d", "abc", []libevent.FilterFunc{frames, frames}, failed, io.ErrUnexpectedEOF},
		{"held, then frames", "\x03abc\x01d", "abcd", []libevent.FilterFunc{holding(), frames}, end, io.EOF},
		{"held, then a cut frame", "\x03abc\x02d", "abc", []libevent.FilterFunc{holding(), frames}, failed, io.ErrUnexpectedEOF},
		{"below a nil function", "\x03abc\x02d", "abc", []libevent.FilterFunc{frames, nil}, failed, io.ErrUnexpectedEOF},
		{"nothing", "", "", []libevent.FilterFunc{holding(), frames}, end, io.EOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, pair := range []bool{false, true} {
				for _, low := range []int{0, 100} {
					got, event, err := endOf(t, testutil.NewBase(t), pair, c.text, low, c.filters...)
					assert.Equal(t, c.want, got)
					assert.Equal(t, c.event.String(), event.String())
					assert.ErrorIs(t, err, c.err)
				}
			}
		})
	}
}

// A panic at the end comes out of the loop like any other.
func TestFilterPanicsAtTheEnd(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	f := testutil.NewFilter(t, bev, func(_, _ *libevent.Buffer, _ int, mode libevent.FlushMode) (libevent.FilterResult, error) {
		if mode == libevent.FlushFinished {
			panic("at the end")
		}
		return libevent.FilterNeedMore, nil
	}, nil, libevent.OptCloseOnFree)
	require.NoError(t, f.Enable(rd))
	require.NoError(t, peer.CloseWrite())
	raised := testutil.Raises(func() { _ = base.Dispatch() })
	var p *libevent.PanicError
	if assert.True(t, errors.As(raised.(error), &p)) {
		assert.Equal(t, "at the end", p.Value)
	}
}
