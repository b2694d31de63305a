// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/host"
	"github.com/go-libevent/libevent/internal/testutil"
)

// borrow has a C program make a bufferevent that echoes. On the loop of C's it wraps the
// bufferevent and calls fn. It returns the bufferevent of C's and the other end of the
// connection. At the end of the test C frees the bufferevent.
func borrow(t *testing.T, h *host.Host, base *libevent.Base, fn func(native unsafe.Pointer, bev *libevent.BufferEvent)) (unsafe.Pointer, *net.TCPConn) {
	t.Helper()
	fd, peer := testutil.TCPPair(t)
	var native unsafe.Pointer
	h.Call(func() {
		native = h.Echo(fd, host.CloseOnFree)
		bev, err := base.WrapBufferEvent(native)
		if assert.NoError(t, err) {
			fn(native, bev)
		}
	})
	t.Cleanup(func() { h.Call(func() { host.FreeBufferEvent(native) }) })
	return native, peer
}

// gone waits until all bufferevents are given back to C.
func gone(t *testing.T, base *libevent.Base) {
	t.Helper()
	testutil.Eventually(t, func() bool { return base.Stats().BufferEvents == 0 }, "all are given back")
}

func TestWrapBufferEventGivesBackEachCallback(t *testing.T) {
	testutil.WithAndWithoutLocks(t, func(t *testing.T, cfg libevent.WrapConfig) {
		h, base := testutil.NewHost(t, cfg)
		h.Start()
		for _, which := range []int{0, host.OnRead, host.OnWrite, host.OnEvent, host.OnRead | host.OnWrite | host.OnEvent} {
			h.Call(func() {
				native := h.Echo(-1, 0)
				h.SetCallbacks(native, which)
				before := host.Callbacks(native)
				for range 2 {
					bev, err := base.WrapBufferEvent(native)
					if !assert.NoError(t, err) {
						break
					}
					assert.NoError(t, bev.SetCallbacks(testutil.Mirror, testutil.Mirror, nil))
					assert.NotEqual(t, before, host.Callbacks(native))
					bev.Free()
					bev.Free()
					assert.Equal(t, before, host.Callbacks(native))
				}
				host.FreeBufferEvent(native)
			})
		}
		gone(t, base)
	})
}

// A closure leaves the input at its high mark and gives the bufferevent back. Reading is
// on after that.
func TestWrapBufferEventGivenBackAtTheHighMark(t *testing.T) {
	h, base := testutil.NewHost(t, libevent.WrapConfig{})
	h.Start()
	read := make(chan struct{})
	native, peer := borrow(t, h, base, func(_ unsafe.Pointer, bev *libevent.BufferEvent) {
		assert.NoError(t, bev.SetWatermark(rd, 0, 8))
		assert.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
			b.Free()
			close(read)
		}, nil, nil))
	})
	_, err := io.WriteString(peer, "0123456789")
	require.NoError(t, err)
	testutil.Receive(t, read)
	gone(t, base)
	h.Call(func() { assert.Equal(t, int(rd|wr), host.Enabled(native)) })
}

// A rate limit is memory of Go's, so it is taken off when the bufferevent is given back.
func TestWrapBufferEventGivesBackTheRateLimit(t *testing.T) {
	for name, limited := range map[string]bool{"none": false, "of C's": true} {
		t.Run(name, func(t *testing.T) {
			h, base := testutil.NewHost(t, libevent.WrapConfig{})
			h.Start()
			var before unsafe.Pointer
			free := func() {}
			native, peer := borrow(t, h, base, func(native unsafe.Pointer, bev *libevent.BufferEvent) {
				bev.Free()
				if limited {
					before, free = host.Limit(native)
				}
				bev, err := base.WrapBufferEvent(native)
				if assert.NoError(t, err) {
					limit := libevent.RateLimit{ReadRate: 1 << 20, WriteRate: 1 << 20, Tick: time.Minute}
					assert.NoError(t, bev.SetRateLimit(&limit))
					bev.Free()
				}
			})
			gone(t, base)
			h.Call(func() { assert.Equal(t, before, host.Limited(native)) })
			assert.Equal(t, "C again", testutil.Say(t, peer, "C again"))
			h.Call(func() { host.Unlimit(native); free() })
		})
	}
}

func TestWrapBufferEventGivenBackBelowAFilter(t *testing.T) {
	for name, opts := range map[string]libevent.Options{"by the filter": libevent.OptCloseOnFree, "by its user": 0} {
		t.Run(name, func(t *testing.T) {
			h, base := testutil.NewHost(t, libevent.WrapConfig{})
			h.Start()
			var before [4]uintptr
			var f *libevent.BufferEvent
			var lower *libevent.BufferEvent
			native, peer := borrow(t, h, base, func(native unsafe.Pointer, bev *libevent.BufferEvent) {
				bev.Free()
				before = host.Callbacks(native)
				var err error
				lower, err = base.WrapBufferEvent(native)
				assert.NoError(t, err)
				f, err = libevent.NewFilter(lower, nil, nil, opts|libevent.OptLoopOnly)
				if assert.NoError(t, err) {
					assert.NoError(t, f.SetCallbacks(testutil.Mirror, nil, nil))
					assert.NoError(t, f.Enable(rd))
				}
			})
			assert.Equal(t, "filtered", testutil.Say(t, peer, "filtered"))
			h.Call(func() {
				f.Free()
				if opts == 0 {
					lower.Free()
				}
			})
			gone(t, base)
			h.Call(func() { assert.Equal(t, before, host.Callbacks(native)) })
			assert.Equal(t, "C again", testutil.Say(t, peer, "C again"))
		})
	}
}

func TestWrapBufferEventGivenBackWhileItDials(t *testing.T) {
	h, base := testutil.NewHost(t, libevent.WrapConfig{})
	h.Start()
	var dns *libevent.DNSBase
	h.Call(func() {
		var err error
		dns, err = base.NewDNSBase(libevent.DNSConfig{})
		assert.NoError(t, err)
		_ = dns.AddNameserver("127.0.0.1:9") // no server answers there
		native := h.Echo(-1, host.CloseOnFree)
		bev, err := base.WrapBufferEvent(native)
		if assert.NoError(t, err) {
			assert.NoError(t, bev.ConnectHostname(dns, "tcp", "nobody.invalid", 1))
			bev.Free()
			assert.Equal(t, int(rd|wr), host.Enabled(native), "as it was")
		}
		dns.Free()
		host.FreeBufferEvent(native)
	})
	gone(t, base)
}

// The outcome of a connect may be known at once. What watches the output for that must not stay
// in C's bufferevent: C writes to it after the record is freed.
func TestWrapBufferEventGivenBackAfterAConnect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, ln.Close()) })
	for name, connect := range map[string]func(bev *libevent.BufferEvent) error{
		"that succeeds": func(bev *libevent.BufferEvent) error { return bev.Connect("unix", path) },
		"that fails":    func(bev *libevent.BufferEvent) error { return bev.Connect("unix", path+" is not there") },
		"by name":       func(bev *libevent.BufferEvent) error { return bev.ConnectHostname(nil, "tcp", "127.0.0.1", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			testutil.WithAndWithoutLocks(t, func(t *testing.T, cfg libevent.WrapConfig) {
				h, base := testutil.NewHost(t, cfg)
				h.Start()
				var native unsafe.Pointer
				told := make(chan struct{}, 1)
				h.Call(func() {
					native = h.Echo(-1, host.CloseOnFree)
					bev, err := base.WrapBufferEvent(native)
					if !assert.NoError(t, err) {
						return
					}
					assert.NoError(t, bev.SetCallbacks(nil, testutil.Mirror, func(b *libevent.BufferEvent, _ libevent.Events) {
						b.Free()
						told <- struct{}{}
					}))
					if connect(bev) != nil {
						bev.Free()
						told <- struct{}{}
					}
				})
				testutil.Receive(t, told)
				gone(t, base)
				h.Call(func() {
					host.Write(native, "C again")
					assert.NotZero(t, host.Callbacks(native)[0])
				})
				h.Call(func() { host.FreeBufferEvent(native) })
			})
		})
	}
}

// Output that Go has written is sent also after the bufferevent was given back.
func TestWrapBufferEventGivenBackWithOutput(t *testing.T) {
	testutil.WithAndWithoutLocks(t, func(t *testing.T, cfg libevent.WrapConfig) {
		h, base := testutil.NewHost(t, cfg)
		h.Start()
		text := strings.Repeat("all of it ", 1<<19)
		_, peer := borrow(t, h, base, func(_ unsafe.Pointer, bev *libevent.BufferEvent) {
			_, err := bev.WriteString(text)
			assert.NoError(t, err)
			bev.Free()
			_, err = bev.WriteString("no more")
			assert.ErrorIs(t, err, libevent.ErrClosed)
		})
		got := make([]byte, len(text))
		_, err := io.ReadFull(peer, got)
		require.NoError(t, err)
		testutil.Same(t, []byte(text), got)
	})
}

// Several goroutines give the bufferevent back at the same time, while its closures run.
func TestWrapBufferEventFreedByMany(t *testing.T) {
	testutil.WithAndWithoutLocks(t, func(t *testing.T, cfg libevent.WrapConfig) {
		h, base := testutil.NewHost(t, cfg)
		h.Start()
		for range 20 {
			var bev *libevent.BufferEvent
			var reads atomic.Int32
			native, peer := borrow(t, h, base, func(_ unsafe.Pointer, b *libevent.BufferEvent) {
				bev = b
				assert.NoError(t, b.SetCallbacks(func(b *libevent.BufferEvent) {
					reads.Add(1)
					testutil.Mirror(b)
				}, nil, nil))
			})
			assert.Equal(t, "Go", testutil.Say(t, peer, "Go"))
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(bev.Free)
			}
			assert.Equal(t, "one or the other", testutil.Say(t, peer, "one or the other"))
			wg.Wait()
			gone(t, base)
			before := reads.Load()
			assert.Equal(t, "C", testutil.Say(t, peer, "C"))
			assert.Equal(t, before, reads.Load())
			h.Call(func() { assert.NotZero(t, host.Callbacks(native)[0]) })
		}
	})
}

// C frees its bufferevent with bytes in both buffers and callbacks due. Then Go uses it.
func TestWrapBufferEventThatCFreesInUse(t *testing.T) {
	ends := map[string]func(t *testing.T, base *libevent.Base, bev *libevent.BufferEvent){
		"Free":            func(_ *testing.T, _ *libevent.Base, bev *libevent.BufferEvent) { bev.Free() },
		"of the base too": func(t *testing.T, base *libevent.Base, _ *libevent.BufferEvent) { assert.NoError(t, base.Free()) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			testutil.WithAndWithoutLocks(t, func(t *testing.T, cfg libevent.WrapConfig) {
				h, base := testutil.NewHost(t, cfg)
				h.Start()
				for _, options := range []int{0, host.Shared} {
					if cfg.NoLocks && options != 0 || base.Pointer() == nil {
						continue
					}
					fd, peer := testutil.TCPPair(t)
					var native unsafe.Pointer
					var bev *libevent.BufferEvent
					freed := make(chan struct{})
					h.Call(func() {
						native = h.Echo(fd, options|host.CloseOnFree)
						var err error
						bev, err = base.WrapBufferEvent(native)
						if !assert.NoError(t, err) {
							return
						}
						assert.NoError(t, bev.SetWatermark(rd, 0, 4))
						limit := libevent.RateLimit{ReadRate: 1 << 20}
						assert.NoError(t, bev.SetRateLimit(&limit))
						assert.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
							_, err := b.WriteString(strings.Repeat("x", 1<<20))
							assert.NoError(t, err)
							assert.NoError(t, b.Trigger(rd|wr, 0))
							assert.NoError(t, b.TriggerEvent(libevent.EventEOF))
							host.FreeBufferEvent(native)
							_, _ = b.WriteString("to nobody")
							_ = b.Enable(rd | wr)
							_ = b.Input().Len()
							close(freed)
						}, testutil.Mirror, nil))
					})
					_, err := io.WriteString(peer, "0123456789")
					require.NoError(t, err)
					testutil.Receive(t, freed)
					h.Call(func() {})
					h.Call(func() { end(t, base, bev) })
					h.Call(func() {})
				}
			})
		})
	}
}

// After a Goexit the loop is lost. The bufferevent is given back to C nevertheless.
func TestWrapBufferEventAfterGoexit(t *testing.T) {
	if testutil.ASan {
		t.Skip("the C frames that a Goexit abandons leave their red zones in the thread's stack")
	}
	h := host.New(true)
	base, err := libevent.WrapBase(h.Base(), libevent.WrapConfig{})
	require.NoError(t, err)
	fd, peer := testutil.TCPPair(t)
	native := h.Echo(fd, host.CloseOnFree)
	before := host.Callbacks(native)
	bev, err := base.WrapBufferEvent(native)
	require.NoError(t, err)
	require.NoError(t, bev.SetCallbacks(func(*libevent.BufferEvent) { runtime.Goexit() }, nil, nil))
	_, err = io.WriteString(peer, "unread")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = base.Dispatch()
		assert.Fail(t, "Dispatch returned")
	}()
	testutil.Receive(t, done)
	assert.ErrorIs(t, bev.Enable(rd), libevent.ErrLoopAborted)
	assert.ErrorIs(t, base.Free(), libevent.ErrLoopAborted)
	assert.Equal(t, before, host.Callbacks(native))
	assert.Equal(t, len("unread"), host.Input(native))
	host.FreeBufferEvent(native)
}
