package libevent_test

import (
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
)

func TestReference(t *testing.T) {
	b := newBuffer(t, "<")
	p := noise(100_000)
	done := 0
	require.NoError(t, b.AddReference(p, func() { done++ }))
	require.NoError(t, b.Add([]byte(">")))
	assert.Equal(t, 1, libevent.Live().References)
	assert.Equal(t, len(p)+2, b.Len())
	require.NoError(t, b.Drain(1+len(p)-1))
	assert.Zero(t, done, "one byte is left")
	require.NoError(t, b.Drain(1))
	assert.Equal(t, 1, done, "before the call returns")
	assert.Equal(t, ">", content(t, b))
	assert.Zero(t, libevent.Live().References)

	require.NoError(t, b.AddReference(p, nil))
	require.NoError(t, b.AddReference(nil, func() { done++ }))
	other := newBuffer(t, "")
	require.NoError(t, other.AddBuffer(b))
	other.Free()
	assert.Equal(t, 2, done)

	require.NoError(t, b.Freeze(false))
	assert.ErrorIs(t, b.AddReference(p, func() { done++ }), libevent.ErrFrozen)
	b.Free()
	assert.ErrorIs(t, b.AddReference(p, func() { done++ }), libevent.ErrClosed)
	assert.Equal(t, 2, done)
	assert.Zero(t, libevent.Live().References)
}

// The memory is the caller's, seen where it is, and stays through collections.
func TestReferenceIsNoCopy(t *testing.T) {
	b := newBuffer(t, "")
	func() {
		p := noise(1 << 16)
		require.NoError(t, b.AddReference(p, nil))
		require.NoError(t, b.Peek(func(spans [][]byte) { assert.Same(t, &p[0], &spans[0][0]) }))
	}()
	for range 5 {
		runtime.GC()
	}
	same(t, noise(1<<16), []byte(content(t, b)))
}

// Written by a loop, the reference is let go there, and done runs there, once.
func TestReferenceOnLoop(t *testing.T) {
	base := newBase(t)
	bev, peer := newSocket(t, base, 0)
	p := noise(1 << 20)
	var done atomic.Int32
	for range 4 {
		require.NoError(t, bev.Output().AddReference(p, func() { done.Add(1) }))
	}
	got := readAll(peer)
	require.NoError(t, bev.FreeAfterFlush(patience))
	dispatch(t, base)
	dispatch(t, base)
	assert.EqualValues(t, 4, done.Load())
	assert.Len(t, receive(t, got), 4<<20)
	assert.Zero(t, libevent.Live().References)
}

// However a buffer ends, done runs once: freed, dropped with its base, after a panic.
func TestReferenceIsAlwaysLetGo(t *testing.T) {
	var done atomic.Int32
	count := func() { done.Add(1) }
	base, err := libevent.NewBase()
	require.NoError(t, err)
	for _, how := range []func(a, b *libevent.BufferEvent){
		func(a, _ *libevent.BufferEvent) { a.Free() },
		func(a, b *libevent.BufferEvent) {
			_ = b.Enable(rd)
			_ = b.Input().Drain(1 << 20)
		},
		func(a, b *libevent.BufferEvent) {},
	} {
		a, b, err := base.NewPair(0)
		require.NoError(t, err)
		require.NoError(t, a.Output().AddReference(noise(1000), count))
		how(a, b)
	}
	socket, _ := newSocket(t, base, 0)
	require.NoError(t, socket.Output().AddReference(noise(1000), func() {
		count()
		explode()
	}))
	assert.ErrorIs(t, asError(raises(func() { _ = base.Dispatch() })), errBoom)
	require.NoError(t, base.Free())
	assert.EqualValues(t, 4, done.Load())
	assert.Zero(t, libevent.Live().References)

	b := newBuffer(t, "")
	require.NoError(t, b.AddReference([]byte("x"), explode))
	assert.Equal(t, errBoom, raises(func() { _ = b.Drain(1) }), "out of the call that took the last byte")
}

func TestReferencesFromManyGoroutines(t *testing.T) {
	base := newBase(t)
	background(t, base)
	var added, done atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				bev, peer := newSocket(t, base, 0)
				go func() { _, _ = io.Copy(io.Discard, peer) }()
				for range 5 {
					if bev.Output().AddReference(make([]byte, 10_000), func() { done.Add(1) }) == nil {
						added.Add(1)
					}
				}
				bev.Free()
			}
		})
	}
	wg.Wait()
	eventually(t, func() bool { return done.Load() == added.Load() }, "each is let go once")
	assert.EqualValues(t, 2000, added.Load())
}
