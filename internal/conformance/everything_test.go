// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"math/rand"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// Closures, two goroutines and the peer do to a socket everything that a program may do,
// all at once. Nothing may crash, hang, or stay behind.
func TestEverythingAtOnce(t *testing.T) {
	const lives, workers = 150, 4
	testutil.Quiet(t)
	var bases [2]*libevent.Base
	for i := range bases {
		base, err := libevent.NewBaseConfig(libevent.Config{Priorities: 3, PlainIO: testutil.PlainIO})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, base.Free()) })
		testutil.Background(t, base)
		bases[i] = base
	}
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer file.Close()
	_, err = file.Write(testutil.Noise(200000))
	require.NoError(t, err)

	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range lives {
				(&hunted{bases: bases, file: file}).live(t)
			}
		})
	}
	wg.Wait()
	for _, base := range bases {
		testutil.Eventually(t, func() bool { return base.Stats().BufferEvents == 0 }, "all are gone")
	}
}

type hunted struct {
	bases [2]*libevent.Base
	file  *os.File
	bev   *libevent.BufferEvent
	peer  int
}

func (h *hunted) live(t *testing.T) {
	fd, peer := testutil.Socketpair(t)
	h.peer = peer
	assert.NoError(t, syscall.SetNonblock(peer, true))
	bev, err := h.bases[rand.Intn(2)].NewSocket(fd, libevent.OptCloseOnFree)
	if !assert.NoError(t, err) {
		return
	}
	h.bev = bev
	assert.NoError(t, bev.SetCallbacks(func(b *libevent.BufferEvent) {
		h.hunt(true)
		_ = oneOf(b.Output().AddBuffer, func(in *libevent.Buffer) error { return in.Drain(in.Len()) })(b.Input())
		h.hunt(true)
	}, func(*libevent.BufferEvent) {
		if rand.Intn(4) == 0 {
			h.hunt(true)
		}
	}, func(*libevent.BufferEvent, libevent.Events) { h.hunt(true) }))
	_ = bev.Enable(rd | wr)
	var wg sync.WaitGroup
	wg.Go(h.talk)
	for range 2 {
		wg.Go(func() {
			for range 60 {
				h.hunt(false)
			}
		})
	}
	wg.Wait()
	if rand.Intn(2) == 0 && bev.FreeAfterFlush(10*time.Millisecond) == nil {
		return
	}
	bev.Free() // also if a filter that is on top, or was, is not gone yet
}

// talk is what the peer does.
func (h *hunted) talk() {
	p := make([]byte, 100000)
	for range 60 {
		switch rand.Intn(3) {
		case 0:
			_, _ = syscall.Write(h.peer, p[:1+rand.Intn(len(p))])
		case 1:
			for n := 1; n > 0; n, _ = syscall.Read(h.peer, p) {
			}
		}
	}
	_ = syscall.Close(h.peer)
}

// hunt does something. Errors do not matter.
func (h *hunted) hunt(onLoop bool) {
	if n := rand.Intn(len(hunts) + len(huntsOnLoop)); n < len(hunts) {
		hunts[n](h)
	} else if onLoop {
		huntsOnLoop[n-len(hunts)](h)
	}
}

// huntsOnLoop are for the loop's goroutine only.
var huntsOnLoop = []func(h *hunted){(*hunted).peek, (*hunted).replaceDescriptor, (*hunted).putFilterOnTop}

// hunts may be done on any goroutine. An entry that stands here more often is done more
// often.
var hunts = []func(h *hunted){
	(*hunted).write, (*hunted).write, (*hunted).write, (*hunted).write,
	func(h *hunted) { _, _ = h.bev.Write(make([]byte, 1+rand.Intn(300000))) },
	func(h *hunted) {
		_ = h.bev.Output().AddFile(h.file, int64(rand.Intn(1000)), int64(1+rand.Intn(100000)))
	},
	func(h *hunted) { _ = h.bev.Output().AddReference(make([]byte, 1+rand.Intn(50000)), nil) },
	(*hunted).enable, (*hunted).enable,
	func(h *hunted) { _ = h.bev.Disable(oneOf(rd, wr, rd|wr)) },
	func(h *hunted) { _ = h.bev.SetWatermark(rd, 0, rand.Intn(3)*5000) },
	func(h *hunted) { _ = h.bev.SetWatermark(wr, rand.Intn(2)*5000, 0) },
	func(h *hunted) { _ = h.bev.SetTimeouts(fewMilliseconds(), fewMilliseconds()) },
	func(h *hunted) {
		_ = h.bev.SetRateLimit(oneOf(nil, &libevent.RateLimit{ReadRate: 1 << 30, ReadBurst: 1 << 30}))
	},
	func(h *hunted) { _ = h.bev.SetMaxSingleRead(rand.Intn(2) * 1000) },
	func(h *hunted) { _ = h.bev.SetMaxSingleWrite(rand.Intn(2) * 1000) },
	func(h *hunted) { _ = h.bev.SetPriority(rand.Intn(3)) },
	func(h *hunted) { _ = h.bev.Trigger(rd|wr, 0) },
	func(h *hunted) { _ = h.bev.Input().Prepend(make([]byte, rand.Intn(1000))) },
	func(h *hunted) { _ = h.bev.Input().Drain(rand.Intn(100000)) },
	func(h *hunted) {
		_ = h.bev.Base().Post(func() { _ = h.bev.SetBase(h.bases[rand.Intn(2)]) })
	},
	(*hunted).seldom, (*hunted).seldom, (*hunted).seldom,
}

func (h *hunted) write() { _, _ = h.bev.Write(make([]byte, 1+rand.Intn(5000))) }

func (h *hunted) enable() { _ = h.bev.Enable(oneOf(rd, wr, rd|wr)) }

func fewMilliseconds() time.Duration { return time.Duration(rand.Intn(3)) * time.Millisecond }

func (h *hunted) peek() {
	b := h.bev
	_ = b.Output().Peek(func([][]byte) { _, _ = b.Write([]byte("x")); _ = b.Enable(rd | wr) })
	_ = b.Input().Peek(func([][]byte) { _ = b.Enable(rd | wr) })
}

func (h *hunted) replaceDescriptor() {
	if fd, err := syscall.Dup(h.bev.FD()); err == nil && h.bev.ReplaceFD(fd) != nil {
		_ = syscall.Close(fd)
	}
}

func (h *hunted) putFilterOnTop() {
	if rand.Intn(10) > 0 {
		return
	}
	if top, err := libevent.NewFilter(h.bev, nil, nil, 0); err == nil {
		_ = top.Enable(rd | wr)
		_ = h.bev.Base().Post(top.Free)
	}
}

func (h *hunted) seldom() {
	switch rand.Intn(80) {
	case 0:
		_ = h.bev.CloseWrite()
	case 1:
		_ = h.bev.FreeAfterFlush(5 * time.Millisecond)
	case 2:
		h.bev.Free()
	case 3:
		h.bev.Pointer()
	}
}

func oneOf[T any](of ...T) T { return of[rand.Intn(len(of))] }
