// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestReferenceIsDoneWithTheLastByte(t *testing.T) {
	p := []byte("by reference")
	for name, last := range map[string]func(b *libevent.Buffer){
		"Drain":       func(b *libevent.Buffer) { assert.NoError(t, b.Drain(100)) },
		"Remove":      func(b *libevent.Buffer) { _, _ = b.Remove(make([]byte, 100)) },
		"Read":        func(b *libevent.Buffer) { _, _ = b.Read(make([]byte, 100)) },
		"WriteTo":     func(b *libevent.Buffer) { _, _ = b.WriteTo(io.Discard) },
		"ReadLine":    func(b *libevent.Buffer) { _, _ = b.ReadLine(libevent.EOLLF) },
		"Pullup":      func(b *libevent.Buffer) { assert.NoError(t, b.Pullup(-1, func([]byte) {})) },
		"Free":        func(b *libevent.Buffer) { b.Free() },
		"Free, moved": func(b *libevent.Buffer) { other := testutil.NewBuffer(t, ""); _ = other.AddBuffer(b); other.Free() },
		"Free in Peek": func(b *libevent.Buffer) {
			assert.NoError(t, b.Peek(func([][]byte) { b.Free() }))
		},
	} {
		t.Run(name, func(t *testing.T) {
			done, calls := testutil.Counter()
			b := testutil.NewBuffer(t, "before ")
			require.NoError(t, b.AddReference(p, done))
			require.NoError(t, b.Add([]byte(" after\n")))
			assert.Equal(t, 1, libevent.Live().References)
			assert.Equal(t, "before by reference after\n", testutil.Content(t, b))
			require.NoError(t, b.Drain(7+11))
			assert.Zero(t, *calls, "one byte is left")
			last(b)
			assert.Equal(t, 1, *calls)
			b.Free()
			assert.Equal(t, 1, *calls)
			assert.Zero(t, libevent.Live().References)
		})
	}
	assert.Equal(t, "by reference", string(p))
}

func TestReferenceIsTheMemory(t *testing.T) {
	p := make([]byte, 1<<20)
	b := testutil.NewBuffer(t, "")
	require.NoError(t, b.AddReference(p, nil))
	runtime.GC()
	p[1<<19] = 'x' // against the rules, to see that it is the same memory
	require.NoError(t, b.Peek(func(spans [][]byte) {
		assert.Len(t, spans, 1)
		assert.Same(t, &p[0], &spans[0][0])
	}))
	require.NoError(t, b.Prepend([]byte("in front")))
	require.NoError(t, b.Add([]byte("behind")))
	assert.Equal(t, 8+1<<19, b.Search([]byte("x"), 0))
	assert.Zero(t, p[0], "what is prepended goes elsewhere")
}

func TestReferenceRefused(t *testing.T) {
	done, calls := testutil.Counter()
	b := testutil.NewBuffer(t, "x")
	require.NoError(t, b.Freeze(false))
	assert.ErrorIs(t, b.AddReference([]byte("p"), done), libevent.ErrFrozen)
	require.NoError(t, b.Unfreeze(false))
	require.NoError(t, b.Peek(func([][]byte) {
		assert.ErrorIs(t, b.AddReference([]byte("p"), done), libevent.ErrLent)
	}))
	b.Free()
	assert.ErrorIs(t, b.AddReference([]byte("p"), done), libevent.ErrClosed)
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	assert.ErrorIs(t, bev.Input().AddReference([]byte("p"), done), libevent.ErrFrozen)
	assert.Zero(t, libevent.Live().References)
	assert.Zero(t, *calls)
}

func TestReferenceEmpty(t *testing.T) {
	done, calls := testutil.Counter()
	b := testutil.NewBuffer(t, "")
	require.NoError(t, b.AddReference(nil, done))
	require.NoError(t, b.AddReference([]byte{}, done))
	require.NoError(t, b.AddReference([]byte{}, nil))
	assert.Zero(t, b.Len())
	require.NoError(t, b.Add([]byte("x")))
	b.Free()
	assert.Equal(t, 2, *calls)
}

// A method calls what it has made due itself, and nothing that other methods have made due
// at the same time.
func TestReferenceIsTheBusinessOfOneCall(t *testing.T) {
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	shown, drained, showing := make(chan struct{}), make(chan struct{}), make(chan struct{})
	f := testutil.NewFilter(t, bev, nil, func(src, _ *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
		assert.NoError(t, src.Drain(src.Len()))
		close(drained)
		<-showing
		return libevent.FilterOK, nil
	}, libevent.OptCloseOnFree)

	done, calls := testutil.Counter()
	other := testutil.NewBuffer(t, "x")
	go func() { // this call begins before there is a reference
		defer close(showing)
		assert.NoError(t, other.Peek(func([][]byte) { close(shown); <-drained }))
		assert.Zero(t, *calls)
	}()
	testutil.Receive(t, shown)
	require.NoError(t, f.Output().AddReference([]byte("hello"), done))
	assert.Equal(t, 1, *calls)
}

// When the loop has written the bytes it calls the function as it calls any other closure.
func TestReferenceWrittenByTheLoop(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	got := testutil.ReadAll(peer)
	data := testutil.Noise(1 << 20)
	calls := 0
	before := base.Stats().Callbacks
	require.NoError(t, bev.Output().AddReference(data, func() {
		calls++
		assert.ErrorIs(t, base.Dispatch(), libevent.ErrRunning, "on the loop")
		assert.NoError(t, bev.CloseWrite(), "no lock is held")
		assert.NoError(t, base.LoopBreak())
	}))
	testutil.Dispatch(t, base)
	assert.Equal(t, 1, calls)
	assert.Equal(t, before+1, base.Stats().Callbacks)
	testutil.Dispatch(t, base)
	testutil.Same(t, data, testutil.Receive(t, got))
}

func TestReferenceDroppedOnTheLoop(t *testing.T) {
	base := testutil.NewBase(t)
	b := testutil.NewBuffer(t, "")
	var order []string
	require.NoError(t, b.AddReference([]byte("x"), func() { order = append(order, "done") }))
	require.NoError(t, base.Post(func() {
		assert.NoError(t, b.Drain(1))
		order = append(order, "closure")
	}))
	testutil.Dispatch(t, base)
	assert.Equal(t, []string{"closure", "done"}, order)
}

func TestReferenceInOutputIsDroppedByFree(t *testing.T) {
	done, calls := testutil.Counter()
	base := testutil.NewBase(t)
	bev, _ := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.Output().AddReference([]byte("x"), done))
	bev.Free()
	assert.Equal(t, 1, *calls)
	assert.Zero(t, libevent.Live().References)
}

// referenceInInput makes a pair with a reference in the input of the bufferevent that it
// returns.
func referenceInInput(t *testing.T, base *libevent.Base, done func()) *libevent.BufferEvent {
	t.Helper()
	a, b := testutil.NewPair(t, base)
	require.NoError(t, b.Enable(rd))
	require.NoError(t, a.Output().AddReference([]byte("input of b"), done))
	assert.Equal(t, "input of b", testutil.Content(t, b.Input()))
	return b
}

func TestReferencesAreDroppedWithTheBase(t *testing.T) {
	done, calls := testutil.Counter()
	base, err := libevent.NewBase()
	require.NoError(t, err)
	bev, _ := testutil.NewSocket(t, base, 0)
	referenceInInput(t, base, done)
	require.NoError(t, bev.Output().AddReference([]byte("output"), done))
	require.NoError(t, base.Free())
	assert.Equal(t, 2, *calls)
	assert.Zero(t, libevent.Live().References)
}

func TestReferenceInInputIsDroppedByTheLoop(t *testing.T) {
	done, calls := testutil.Counter()
	base := testutil.NewBase(t)
	require.NoError(t, base.Post(referenceInInput(t, base, done).Free))
	testutil.Dispatch(t, base)
	assert.Equal(t, 1, *calls)
	assert.Zero(t, libevent.Live().References)
}

// The function is due when the base is freed: Free calls it.
func TestReferenceIsDueWhenTheBaseIsFreed(t *testing.T) {
	done, calls := testutil.Counter()
	base, err := libevent.NewBase()
	require.NoError(t, err)
	b := testutil.NewBuffer(t, "")
	require.NoError(t, b.AddReference([]byte("x"), done))
	require.NoError(t, base.Post(func() {
		assert.NoError(t, b.Drain(1))
		assert.NoError(t, base.LoopBreak())
	}))
	testutil.Dispatch(t, base)
	assert.Zero(t, *calls)
	require.NoError(t, base.Free())
	assert.Equal(t, 1, *calls)
	assert.Zero(t, libevent.Live().References)
}

func TestReferenceIsDroppedAfterAGoexit(t *testing.T) {
	if testutil.ASan {
		t.Skip("the C frames that a Goexit abandons leave their red zones in the thread's stack")
	}
	done, calls := testutil.Counter()
	base, err := libevent.NewBase()
	require.NoError(t, err)
	b := referenceInInput(t, base, done)
	_, err = b.Input().AddCallback(func(*libevent.Buffer, int, int) {})
	require.NoError(t, err)
	require.NoError(t, base.Post(runtime.Goexit))
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = base.Dispatch()
	}()
	testutil.Receive(t, exited)
	assert.ErrorIs(t, base.Free(), libevent.ErrLoopAborted)
	assert.Equal(t, 1, *calls)
	assert.Zero(t, libevent.Live().References)
}

func TestReferenceLoopOnly(t *testing.T) {
	base := testutil.NewBase(t)
	a, b, err := base.NewPair(libevent.OptLoopOnly)
	require.NoError(t, err)
	done, calls := testutil.Counter()
	require.NoError(t, b.Enable(rd))
	require.NoError(t, a.Output().AddReference([]byte("x"), done))
	require.NoError(t, b.Input().Drain(1))
	assert.Zero(t, *calls, "whoever stands in for the loop leaves it to the loop")
	testutil.Dispatch(t, base)
	assert.Equal(t, 1, *calls)
}

func TestReferencePanics(t *testing.T) {
	done, calls := testutil.Counter()
	b := testutil.NewBuffer(t, "")
	for range 3 {
		require.NoError(t, b.AddReference([]byte("x"), testutil.Explode))
		require.NoError(t, b.AddReference([]byte("x"), done))
	}
	assert.Equal(t, testutil.ErrBoom, testutil.Raises(func() { _ = b.Drain(6) }), "from the method")
	assert.Equal(t, 3, *calls, "those behind it are called nevertheless")
	require.NoError(t, b.Add(nil))

	base := testutil.NewBase(t)
	require.NoError(t, b.AddReference([]byte("x"), testutil.Explode))
	require.NoError(t, b.AddReference([]byte("x"), done))
	require.NoError(t, base.Post(func() { _ = b.Drain(2) }))
	v := testutil.Raises(func() { _ = base.Dispatch() })
	require.IsType(t, &libevent.PanicError{}, v, "from the loop")
	assert.ErrorIs(t, testutil.AsError(v), testutil.ErrBoom)
	assert.Equal(t, 3, *calls)
	testutil.Dispatch(t, base)
	assert.Equal(t, 4, *calls)

	base, err := libevent.NewBase()
	require.NoError(t, err)
	bev, _ := testutil.NewSocket(t, base, 0)
	require.NoError(t, bev.Output().AddReference([]byte("x"), testutil.Explode))
	assert.Equal(t, testutil.ErrBoom, testutil.Raises(func() { _ = base.Free() }), "from Free")
	require.NoError(t, base.Free())
}

// The function may change and free the buffer.
func TestReferenceChain(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	left := 100
	var again func()
	again = func() {
		if left--; left > 0 {
			assert.NoError(t, b.AddReference([]byte("x"), again))
			assert.NoError(t, b.Drain(1))
		} else {
			b.Free()
		}
	}
	require.NoError(t, b.AddReference([]byte("x"), again))
	require.NoError(t, b.Drain(1))
	assert.Zero(t, left)
	assert.ErrorIs(t, b.Add(nil), libevent.ErrClosed)
}

// The function of a reference runs on the goroutine whose call dropped the last byte,
// before that call returns. The race detector watches the memory.
func TestReferencesFromManyGoroutines(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			b := testutil.NewBuffer(t, "")
			p := make([]byte, 64)
			for i := range 500 {
				p[0] = byte(i)
				calls := 0
				assert.NoError(t, b.AddReference(p, func() { p[0] = 0; calls++ }))
				assert.NoError(t, b.Drain(len(p)))
				assert.Equal(t, 1, calls)
			}
		})
	}
	wg.Wait()
}

func TestReferencesAcrossALoop(t *testing.T) {
	base := testutil.NewBase(t)
	bev, peer := testutil.NewSocket(t, base, 0)
	received := make(chan int)
	go func() {
		n, _ := io.Copy(io.Discard, peer)
		received <- int(n)
	}()
	stop := testutil.Background(t, base)
	const goroutines, each, size = 4, 200, 4096
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			p := make([]byte, size)
			free := make(chan struct{}, 1)
			for range each {
				for i := range p {
					p[i]++
				}
				assert.NoError(t, bev.Output().AddReference(p, func() { free <- struct{}{} }))
				<-free
			}
		})
	}
	wg.Wait()
	require.NoError(t, bev.FreeAfterFlush(testutil.Patience))
	assert.Equal(t, goroutines*each*size, testutil.Receive(t, received))
	stop()
}

// A filter function runs under a lock. A reference that it drops is told afterwards.
func TestReferenceDroppedInAFilter(t *testing.T) {
	base := testutil.NewBase(t)
	below, _ := testutil.NewPair(t, base)
	done, calls := testutil.Counter()
	filter, err := libevent.NewFilter(below, nil, func(src, dst *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
		assert.NoError(t, src.Drain(src.Len()))
		assert.Zero(t, *calls, "not under the lock")
		return libevent.FilterOK, nil
	}, 0)
	require.NoError(t, err)
	require.NoError(t, filter.Enable(wr))
	require.NoError(t, filter.Output().AddReference([]byte("x"), done))
	assert.Equal(t, 1, *calls)
}

func TestReferenceThroughPeekAndGC(t *testing.T) {
	b := testutil.NewBuffer(t, "")
	for range 200 {
		p := bytes.Repeat([]byte("y"), 1000)
		require.NoError(t, b.AddReference(p, nil))
		require.NoError(t, b.Peek(func(spans [][]byte) {
			assert.Equal(t, strings.Repeat("y", 1000), string(bytes.Join(spans, nil)))
		}))
		require.NoError(t, b.Drain(1000))
	}
	runtime.GC()
}
