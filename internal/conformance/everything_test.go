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

// What a program may do to a socket, done to it all at once: by its closures, by two
// goroutines, and by its peer. Nothing may crash, hang, or stay behind.
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
	if rand.Intn(2) == 0 {
		_ = bev.FreeAfterFlush(10 * time.Millisecond)
	} else {
		bev.Free()
	}
}

// talk is the peer.
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

// hunt does something; errors are no matter.
func (h *hunted) hunt(onLoop bool) {
	b := h.bev
	what := oneOf(rd, wr, rd|wr)
	few := func(of int) time.Duration { return time.Duration(rand.Intn(of)) * time.Millisecond }
	switch rand.Intn(27) {
	case 0, 1, 2, 3:
		_, _ = b.Write(make([]byte, 1+rand.Intn(5000)))
	case 4:
		_, _ = b.Write(make([]byte, 1+rand.Intn(300000)))
	case 5:
		_ = b.Output().AddFile(h.file, int64(rand.Intn(1000)), int64(1+rand.Intn(100000)))
	case 6:
		_ = b.Output().AddReference(make([]byte, 1+rand.Intn(50000)), nil)
	case 7, 8:
		_ = b.Enable(what)
	case 9:
		_ = b.Disable(what)
	case 10:
		_ = b.SetWatermark(rd, 0, rand.Intn(3)*5000)
	case 11:
		_ = b.SetWatermark(wr, rand.Intn(2)*5000, 0)
	case 12:
		_ = b.SetTimeouts(few(3), few(3))
	case 13:
		_ = b.SetRateLimit(oneOf(nil, &libevent.RateLimit{ReadRate: 1 << 30, ReadBurst: 1 << 30}))
	case 14:
		_ = b.SetMaxSingleRead(rand.Intn(2) * 1000)
	case 15:
		_ = b.SetMaxSingleWrite(rand.Intn(2) * 1000)
	case 16:
		_ = b.SetPriority(rand.Intn(3))
	case 17:
		_ = b.Trigger(rd|wr, 0)
	case 18:
		_ = b.Input().Prepend(make([]byte, rand.Intn(1000)))
	case 19:
		_ = b.Input().Drain(rand.Intn(100000))
	case 20:
		_ = b.Base().Post(func() { _ = b.SetBase(h.bases[rand.Intn(2)]) })
	case 21:
		if onLoop {
			_ = b.Output().Peek(func([][]byte) { _, _ = b.Write([]byte("x")); _ = b.Enable(rd | wr) })
			_ = b.Input().Peek(func([][]byte) { _ = b.Enable(rd | wr) })
		}
	case 22:
		if !onLoop {
			return
		}
		if fd, err := syscall.Dup(b.FD()); err == nil && b.ReplaceFD(fd) != nil {
			_ = syscall.Close(fd)
		}
	case 23:
		if !onLoop || rand.Intn(10) > 0 {
			return
		}
		if top, err := libevent.NewFilter(b, nil, nil, 0); err == nil {
			_ = top.Enable(rd | wr)
			_ = b.Base().Post(top.Free)
		}
	default:
		h.seldom()
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
