// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/host"
	"github.com/go-libevent/libevent/internal/testutil"
)

func TestWrapBaseHasItsLoopRunByC(t *testing.T) {
	testutil.WithAndWithoutLocks(t, func(t *testing.T, cfg libevent.WrapConfig) {
		h, base := testutil.NewHost(t, cfg)
		h.Start()

		posted := make(chan int, 3)
		for i := range 3 {
			require.NoError(t, base.Post(func() { posted <- i }))
		}
		for i := range 3 {
			assert.Equal(t, i, testutil.Receive(t, posted))
		}

		fd, peer := testutil.TCPPair(t)
		fired := make(chan struct{})
		testutil.OnLoop(t, base, func() {
			bev, err := base.NewSocket(fd, libevent.OptCloseOnFree)
			if assert.NoError(t, err) {
				assert.NoError(t, bev.SetCallbacks(testutil.Mirror, nil, nil))
				assert.NoError(t, bev.Enable(rd))
			}
			timer, err := base.NewTimer(func() { close(fired) })
			if assert.NoError(t, err) {
				assert.NoError(t, timer.Add(time.Millisecond))
			}
		})
		testutil.Receive(t, fired)
		assert.Equal(t, "from Go, on a thread of C", testutil.Say(t, peer, "from Go, on a thread of C"))
	})
}

func TestWrapBaseHasItsLoopRunByGo(t *testing.T) {
	h, base := testutil.NewHost(t, libevent.WrapConfig{})
	fd, peer := testutil.TCPPair(t)
	bev := h.Echo(fd, host.CloseOnFree)
	testutil.Background(t, base)
	assert.Equal(t, "from C, on a goroutine", testutil.Say(t, peer, "from C, on a goroutine"))
	testutil.OnLoop(t, base, func() { host.FreeBufferEvent(bev) })
}

func TestWrapBaseWithoutLocksIsForItsLoop(t *testing.T) {
	h, base := testutil.NewHost(t, libevent.WrapConfig{NoLocks: true})
	timer, err := base.NewTimer(func() {})
	require.NoError(t, err, "no loop runs yet")
	h.Start()
	testutil.OnLoop(t, base, func() {})

	_, err = base.NewSocket(-1, 0)
	assert.ErrorIs(t, err, libevent.ErrWrongLoop)
	_, err = base.NewTimer(func() {})
	assert.ErrorIs(t, err, libevent.ErrWrongLoop)
	assert.ErrorIs(t, timer.Add(time.Second), libevent.ErrWrongLoop)
	assert.ErrorIs(t, base.LoopBreak(), libevent.ErrWrongLoop)
	testutil.OnLoop(t, base, func() { assert.NoError(t, timer.Add(time.Hour)) })
	timer.Free()
}

// A signal comes on a goroutine that is not the loop's.
func TestWrapBaseSignal(t *testing.T) {
	testutil.WithAndWithoutLocks(t, func(t *testing.T, cfg libevent.WrapConfig) {
		h, base := testutil.NewHost(t, cfg)
		fired := make(chan os.Signal, 1)
		e, err := base.NewSignal(syscall.SIGUSR1, func(sig os.Signal) { fired <- sig })
		require.NoError(t, err)
		require.NoError(t, e.Add(-1))
		h.Start()
		testutil.OnLoop(t, base, func() {})
		for range 3 {
			require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGUSR1))
			assert.Equal(t, syscall.SIGUSR1, testutil.Receive(t, fired))
		}
		testutil.OnLoop(t, base, func() { assert.NoError(t, e.Del()); assert.NoError(t, e.Add(-1)) })
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGUSR1))
		testutil.Receive(t, fired)
		e.Free()
	})
}

// Closures, Go code that a C callback calls, and other goroutines: each of them is told
// correctly whether it is on the loop.
func TestWrapBaseKnowsItsThread(t *testing.T) {
	testutil.WithAndWithoutLocks(t, func(t *testing.T, cfg libevent.WrapConfig) {
		h, base := testutil.NewHost(t, cfg)
		h.Start()
		for range 3 {
			fd, peer := testutil.TCPPair(t)
			var bev *libevent.BufferEvent
			h.Call(func() {
				var err error
				bev, err = base.NewSocket(fd, libevent.OptLoopOnly|libevent.OptCloseOnFree)
				if assert.NoError(t, err) {
					assert.NoError(t, bev.SetCallbacks(testutil.Mirror, nil, nil))
					assert.NoError(t, bev.Enable(rd))
				}
			})
			assert.Equal(t, "hello", testutil.Say(t, peer, "hello"))
			assert.ErrorIs(t, bev.Enable(wr), libevent.ErrWrongLoop)
			h.Call(func() { assert.NoError(t, bev.Enable(wr)) })
		}
	})
}

func TestWrapBaseSurvivesPanics(t *testing.T) {
	type panicked struct {
		value any
		stack string
	}
	seen := make(chan panicked, 1)
	boom := errors.New("boom")
	h, base := testutil.NewHost(t, libevent.WrapConfig{OnPanic: func(value any, stack []byte) {
		seen <- panicked{value, string(stack)}
	}})
	h.Start()
	assert.NoError(t, base.Err())

	fd, peer := testutil.TCPPair(t)
	testutil.OnLoop(t, base, func() {
		bev, err := base.NewSocket(fd, libevent.OptCloseOnFree)
		if assert.NoError(t, err) {
			assert.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
				testutil.Mirror(b)
				panic(boom)
			}, nil, nil))
			assert.NoError(t, bev.Enable(rd))
		}
	})
	for range 2 {
		assert.Equal(t, "x", testutil.Say(t, peer, "x"), "the loop goes on")
		p := testutil.Receive(t, seen)
		assert.Equal(t, boom, p.value)
		assert.Contains(t, p.stack, "wrap_test.go")
	}
	assert.ErrorIs(t, base.Err(), boom)

	require.NoError(t, base.Post(func() { panic("from Post") }))
	assert.Equal(t, "from Post", testutil.Receive(t, seen).value)
	assert.ErrorIs(t, base.Err(), boom, "the first")
}

func TestConfigOnPanic(t *testing.T) {
	seen := make(chan any, 1)
	base, err := libevent.NewBaseConfig(libevent.Config{OnPanic: func(value any, _ []byte) {
		seen <- value
		panic("and so does OnPanic")
	}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, base.Free()) })
	testutil.Background(t, base)
	require.NoError(t, base.Post(func() { panic("first") }))
	assert.Equal(t, "first", testutil.Receive(t, seen))
	testutil.OnLoop(t, base, func() {})
	assert.ErrorContains(t, base.Err(), "first")
}

// C may start its loop at any moment, and the first callback may be that of an object that Free
// was called for on another thread. So the memory stays until the loop has turned.
func TestWrapBaseFreesInTheLoop(t *testing.T) {
	testutil.WithAndWithoutLocks(t, func(t *testing.T, cfg libevent.WrapConfig) {
		h, base := testutil.NewHost(t, cfg)
		bev, _ := testutil.NewSocket(t, base, 0)
		alone, _ := testutil.NewSocket(t, base, libevent.OptLoopOnly)
		timer, err := base.NewTimer(func() { assert.Fail(t, "freed") })
		require.NoError(t, err)
		require.NoError(t, timer.Add(0))
		bev.Free()
		alone.Free()
		timer.Free()
		assert.Equal(t, 2, base.Stats().BufferEvents)
		assert.Equal(t, 1, base.Stats().Events)
		h.Start()
		testutil.OnLoop(t, base, func() {})
		assert.Zero(t, base.Stats().BufferEvents)
		assert.Zero(t, base.Stats().Events)
	})
}

func TestWrapBaseFree(t *testing.T) {
	ways := map[string]func(t *testing.T, h *host.Host, base *libevent.Base){
		"before the loop runs": func(t *testing.T, h *host.Host, base *libevent.Base) {
			require.NoError(t, base.Free())
			h.Start()
		},
		"from another goroutine": func(t *testing.T, h *host.Host, base *libevent.Base) {
			h.Start()
			testutil.OnLoop(t, base, func() {})
			require.NoError(t, base.Free())
			require.NoError(t, base.Free(), "again")
		},
		"from a closure": func(t *testing.T, h *host.Host, base *libevent.Base) {
			h.Start()
			testutil.OnLoop(t, base, func() { assert.NoError(t, base.Free()) })
		},
		"from a C callback": func(t *testing.T, h *host.Host, base *libevent.Base) {
			h.Start()
			testutil.OnLoop(t, base, func() {})
			h.Call(func() { assert.NoError(t, base.Free()) })
			assert.Zero(t, base.Stats().BufferEvents)
		},
	}
	for name, free := range ways {
		t.Run(name, func(t *testing.T) {
			testutil.WithAndWithoutLocks(t, func(t *testing.T, cfg libevent.WrapConfig) {
				h := host.New(!cfg.NoLocks)
				t.Cleanup(func() { h.Stop(); h.Free() })
				base, err := libevent.WrapBase(h.Base(), cfg)
				require.NoError(t, err)
				mine, peer := testutil.TCPPair(t)
				bev, err := base.NewSocket(mine, libevent.OptCloseOnFree)
				require.NoError(t, err)
				require.NoError(t, bev.Enable(rd))
				timer, err := base.NewTimer(func() {})
				require.NoError(t, err)
				require.NoError(t, timer.Add(time.Hour))

				free(t, h, base)
				_, err = peer.Read(make([]byte, 1))
				assert.ErrorIs(t, err, io.EOF, "the bufferevent is closed")
				assert.ErrorIs(t, bev.Enable(rd), libevent.ErrClosed)
				assert.ErrorIs(t, base.Post(func() {}), libevent.ErrClosed)
				assert.Nil(t, base.Pointer())

				ran := false
				h.Call(func() { ran = true })
				assert.True(t, ran, "the loop of C goes on")
				testutil.Eventually(t, func() bool { return libevent.Live() == libevent.LiveObjects{} }, "all is gone")
			})
		})
	}
}

func TestWrapBaseRefuses(t *testing.T) {
	_, err := libevent.WrapBase(nil, libevent.WrapConfig{})
	assert.ErrorContains(t, err, "base is nil")
	base := testutil.NewBase(t)
	for name, wrap := range map[string]func(unsafe.Pointer) (*libevent.BufferEvent, error){
		"wrap":  base.WrapBufferEvent,
		"adopt": func(p unsafe.Pointer) (*libevent.BufferEvent, error) { return base.AdoptBufferEvent(p, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := wrap(nil)
			assert.ErrorContains(t, err, "bev is nil")
			bev, err := base.NewSocket(-1, 0)
			require.NoError(t, err)
			defer bev.Free()
			_, err = wrap(bev.Pointer())
			assert.ErrorContains(t, err, "has its BufferEvent already")
			h := host.New(true)
			defer h.Free()
			foreign := h.BufferEvent(-1, host.Shared)
			defer host.FreeBufferEvent(foreign)
			_, err = wrap(foreign)
			assert.ErrorContains(t, err, "another base")
		})
	}
}

func TestWrapBufferEventGivesBack(t *testing.T) {
	testutil.WithAndWithoutLocks(t, func(t *testing.T, cfg libevent.WrapConfig) {
		for _, options := range []int{0, host.Shared} {
			if cfg.NoLocks && options != 0 {
				continue
			}
			h, base := testutil.NewHost(t, cfg)
			h.Start()
			fd, peer := testutil.TCPPair(t)
			var native unsafe.Pointer
			h.Call(func() { native = h.Echo(fd, options|host.CloseOnFree) })
			assert.Equal(t, "C", testutil.Say(t, peer, "C"))
			byC := 0
			h.Call(func() { byC = h.Calls() })
			assert.NotZero(t, byC)

			var bev *libevent.BufferEvent
			var reads atomic.Int32
			h.Call(func() {
				var err error
				bev, err = base.WrapBufferEvent(native)
				if assert.NoError(t, err) {
					assert.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
						reads.Add(1)
						testutil.Mirror(b)
					}, nil, nil))
					assert.NoError(t, bev.SetWatermark(rd, 0, 4096))
				}
				_, err = base.WrapBufferEvent(native)
				assert.ErrorContains(t, err, "already")
			})
			assert.Equal(t, "Go", testutil.Say(t, peer, "Go"))
			assert.NotZero(t, reads.Load())
			assert.ErrorIs(t, bev.Enable(rd), libevent.ErrWrongLoop)
			h.Call(func() {
				assert.Equal(t, byC, h.Calls(), "callbacks of C are put aside")
				assert.ErrorContains(t, bev.FreeAfterFlush(time.Second), "it is C's")
			})

			before := reads.Load()
			bev.Free()
			testutil.OnLoop(t, base, func() {})
			assert.Equal(t, "C again", testutil.Say(t, peer, "C again"))
			assert.Equal(t, before, reads.Load())
			h.Call(func() {
				assert.Greater(t, h.Calls(), byC)
				host.FreeBufferEvent(native)
			})
			_, err := peer.Read(make([]byte, 1))
			assert.ErrorIs(t, err, io.EOF)
		}
	})
}

// When a bufferevent whose reading is paused at the high watermark is given back to C,
// reading is on again.
func TestWrapBufferEventGivesBackWhatItHeld(t *testing.T) {
	h, base := testutil.NewHost(t, libevent.WrapConfig{})
	h.Start()
	fd, peer := testutil.TCPPair(t)
	var bev *libevent.BufferEvent
	var native unsafe.Pointer
	read := make(chan struct{}, 16)
	h.Call(func() {
		native = h.Echo(fd, host.CloseOnFree)
		var err error
		bev, err = base.WrapBufferEvent(native)
		if assert.NoError(t, err) {
			assert.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) { read <- struct{}{} }, nil, nil))
			assert.NoError(t, bev.SetWatermark(rd, 0, 8))
		}
	})
	_, err := io.WriteString(peer, "0123456789")
	require.NoError(t, err)
	testutil.Receive(t, read)
	h.Call(func() {
		assert.NoError(t, bev.SetWatermark(rd, 0, 0))
		bev.Free()
	})
	answer := make([]byte, 10)
	_, err = io.ReadFull(peer, answer)
	require.NoError(t, err)
	assert.Equal(t, "0123456789", string(answer))
	h.Call(func() { host.FreeBufferEvent(native) })
}

func TestWrapBufferEventThatCFrees(t *testing.T) {
	h, base := testutil.NewHost(t, libevent.WrapConfig{})
	h.Start()
	fd, _ := testutil.TCPPair(t)
	h.Call(func() {
		native := h.Echo(fd, host.CloseOnFree)
		bev, err := base.WrapBufferEvent(native)
		if assert.NoError(t, err) {
			host.FreeBufferEvent(native)
			assert.Equal(t, fd, bev.FD(), "its memory is still there")
			bev.Free()
		}
	})
	testutil.OnLoop(t, base, func() {})
}

func TestAdoptBufferEvent(t *testing.T) {
	for name, opts := range map[string]libevent.Options{"shared": 0, "loop only": libevent.OptLoopOnly} {
		t.Run(name, func(t *testing.T) {
			native := map[libevent.Options]int{0: host.Shared, libevent.OptLoopOnly: 0}[opts]
			h, base := testutil.NewHost(t, libevent.WrapConfig{})
			h.Start()
			fd, peer := testutil.TCPPair(t)
			var bev *libevent.BufferEvent
			h.Call(func() {
				var err error
				bev, err = base.AdoptBufferEvent(h.Echo(fd, native|host.CloseOnFree), opts|libevent.OptCloseOnFree)
				if assert.NoError(t, err) {
					assert.NoError(t, bev.SetCallbacks(testutil.Mirror, nil, nil))
				}
			})
			assert.Equal(t, "adopted", testutil.Say(t, peer, "adopted"))
			assert.Equal(t, opts == 0, bev.Disable(wr) == nil)
			testutil.OnLoop(t, base, func() {
				assert.NoError(t, bev.Enable(wr))
				assert.Zero(t, h.Calls())
				_, err := bev.WriteString("last words")
				assert.NoError(t, err)
				assert.NoError(t, bev.FreeAfterFlush(testutil.Patience))
			})
			rest, err := io.ReadAll(peer)
			require.NoError(t, err)
			assert.Equal(t, "last words", string(rest))
		})
	}
}

// The options of the adoption say whether Free closes the descriptor.
func TestAdoptBufferEventKeepsTheDescriptor(t *testing.T) {
	h, base := testutil.NewHost(t, libevent.WrapConfig{})
	fd, peer := testutil.TCPPair(t)
	bev, err := base.AdoptBufferEvent(h.BufferEvent(fd, host.Shared|host.CloseOnFree), 0)
	require.NoError(t, err)
	bev.Free()
	require.NoError(t, base.Free())
	h.Start()
	h.Call(func() {})
	_, err = syscall.Write(fd, []byte("still here"))
	require.NoError(t, err)
	require.NoError(t, syscall.Close(fd))
	rest, err := io.ReadAll(peer)
	require.NoError(t, err)
	assert.Equal(t, "still here", string(rest))
}

// FreeAfterFlush sends everything through whatever C has built.
func TestAdoptBufferEventOfEachKind(t *testing.T) {
	kinds := map[string]func(h *host.Host, fd int) (near, far unsafe.Pointer){
		"pair": func(h *host.Host, _ int) (near, far unsafe.Pointer) { return h.Pair(host.Shared) },
		"filter on a pair": func(h *host.Host, _ int) (near, far unsafe.Pointer) {
			a, b := h.Pair(host.Shared)
			return h.Filter(a, host.Shared|host.CloseOnFree), b
		},
		"filter on a socket": func(h *host.Host, fd int) (near, far unsafe.Pointer) {
			under := h.BufferEvent(fd, host.Shared|host.CloseOnFree)
			return h.Filter(under, host.Shared|host.CloseOnFree), nil
		},
	}
	for name, build := range kinds {
		t.Run(name, func(t *testing.T) {
			h, base := testutil.NewHost(t, libevent.WrapConfig{})
			testutil.Background(t, base)
			fd, peer := testutil.TCPPair(t)
			got := make(chan string, 1)
			testutil.OnLoop(t, base, func() {
				native, other := build(h, fd)
				if other != nil {
					far := adopted(t, base, other)
					assert.NoError(t, far.SetCallbacks(nil, nil, func(b *libevent.BufferEvent, what libevent.Events) {
						assert.NotZero(t, what&libevent.EventEOF)
						got <- testutil.Content(t, b.Input())
						b.Free()
					}))
					assert.NoError(t, far.Enable(rd))
				}
				near := adopted(t, base, native)
				assert.NoError(t, near.Enable(rd|wr))
				_, err := near.WriteString("through it all")
				assert.NoError(t, err)
				assert.NoError(t, near.FreeAfterFlush(testutil.Patience))
			})
			if name == "filter on a socket" {
				rest, err := io.ReadAll(peer)
				require.NoError(t, err)
				got <- string(rest)
			} else {
				require.NoError(t, syscall.Close(fd))
			}
			assert.Equal(t, "through it all", testutil.Receive(t, got))
		})
	}
}

func adopted(t *testing.T, base *libevent.Base, native unsafe.Pointer) *libevent.BufferEvent {
	bev, err := base.AdoptBufferEvent(native, libevent.OptCloseOnFree)
	assert.NoError(t, err)
	return bev
}

// C has events on a base of Go's, and calls Go from their callbacks. What Go writes there
// is sent, though no callback of the binding follows.
func TestPointerWriteInACallbackOfC(t *testing.T) {
	base := testutil.NewBase(t)
	h := host.On(base.Pointer())
	t.Cleanup(h.Free)
	testutil.Background(t, base)
	bev, peer := testutil.NewSocket(t, base, 0)
	for range 3 {
		h.Call(func() {
			_, err := bev.WriteString("hello")
			assert.NoError(t, err)
		})
		p := make([]byte, 5)
		_, err := io.ReadFull(peer, p)
		require.NoError(t, err)
		assert.Equal(t, "hello", string(p))
	}
	h.Call(func() { assert.NoError(t, bev.FreeAfterFlush(testutil.Patience)) })
	_, err := peer.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF)
}
