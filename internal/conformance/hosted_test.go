// SPDX-License-Identifier: BSD-3-Clause

package conformance_test

import (
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/host"
	"github.com/go-libevent/libevent/internal/testutil"
)

// Without OnPanic the panic is in Err, and C's loop goes on.
func TestWrapBasePanicInEveryKindOfClosure(t *testing.T) {
	testutil.Quiet(t)
	for name, arrange := range closureKinds {
		t.Run(name, func(t *testing.T) {
			h, base := testutil.NewHost(t, libevent.WrapConfig{})
			arrange(t, base, testutil.Explode)
			h.Start()
			testutil.Eventually(t, func() bool { return base.Err() != nil }, "a panic")
			assert.ErrorIs(t, base.Err(), testutil.ErrBoom)
			testutil.OnLoop(t, base, func() {})
		})
	}
}

func TestWrapBasePanicOnALoopThatGoRuns(t *testing.T) {
	for name, arrange := range closureKinds {
		t.Run(name, func(t *testing.T) {
			_, base := testutil.NewHost(t, libevent.WrapConfig{})
			arrange(t, base, testutil.Explode)
			v := testutil.Raises(func() { _ = base.Dispatch() })
			assert.ErrorIs(t, testutil.AsError(v), testutil.ErrBoom)
			assert.NoError(t, base.Err())
		})
	}
}

func TestWrapBaseFreeInEveryKindOfClosure(t *testing.T) {
	for name, arrange := range closureKinds {
		t.Run(name, func(t *testing.T) {
			h, base := testutil.NewHost(t, libevent.WrapConfig{})
			freed := make(chan error, 1)
			var once sync.Once
			arrange(t, base, func() { once.Do(func() { freed <- base.Free() }) })
			h.Start()
			assert.NoError(t, testutil.Receive(t, freed))
			assert.NoError(t, base.Free(), "again")
			testutil.Eventually(t, func() bool { return libevent.Live() == libevent.LiveObjects{} }, "all is gone")
			h.Call(func() {})
		})
	}
}

// Dispatch is refused while C runs the loop, and the loop is not disturbed.
func TestWrapBaseDispatchWhileCRunsTheLoop(t *testing.T) {
	testutil.Quiet(t)
	h, base := testutil.NewHost(t, libevent.WrapConfig{})
	h.Start()
	testutil.OnLoop(t, base, func() {
		refused := make(chan error)
		go func() { refused <- base.Dispatch() }()
		assert.ErrorIs(t, testutil.Receive(t, refused), libevent.ErrRunning)
		assert.True(t, base.OnLoop())
		bev, err := base.NewSocket(-1, libevent.OptLoopOnly)
		if assert.NoError(t, err) {
			assert.NoError(t, bev.Enable(rd))
			elsewhere := make(chan error)
			go func() { elsewhere <- bev.Enable(wr) }()
			assert.ErrorIs(t, testutil.Receive(t, elsewhere), libevent.ErrWrongLoop)
			bev.Free()
		}
	})
	testutil.OnLoop(t, base, func() {})
}

// LoopBreak ends one run. C may run its loop again.
func TestWrapBaseLoopBreakEndsOneRun(t *testing.T) {
	ways := map[string]func(t *testing.T, base *libevent.Base){
		"from a closure": func(t *testing.T, base *libevent.Base) {
			require.NoError(t, base.Post(func() { assert.NoError(t, base.LoopBreak()) }))
		},
		"from another goroutine": func(t *testing.T, base *libevent.Base) {
			testutil.OnLoop(t, base, func() {})
			require.NoError(t, base.LoopBreak())
		},
	}
	for name, end := range ways {
		t.Run(name, func(t *testing.T) {
			h, base := testutil.NewHost(t, libevent.WrapConfig{})
			for range 3 {
				h.Start()
				end(t, base)
				h.Join()
			}
			h.Start()
			for range 3 {
				testutil.OnLoop(t, base, func() {})
			}
		})
	}
}

// The function of a reference is called when its last byte was sent, though C runs the
// loop and no other Go code is called.
func TestWrapBaseCallsForReferences(t *testing.T) {
	h, base := testutil.NewHost(t, libevent.WrapConfig{})
	h.Start()
	fd, peer := testutil.TCPPair(t)
	done := make(chan bool, 1)
	testutil.OnLoop(t, base, func() {
		bev, err := base.NewSocket(fd, libevent.OptCloseOnFree)
		if assert.NoError(t, err) {
			assert.NoError(t, bev.Output().AddReference([]byte("mine"), func() { done <- base.OnLoop() }))
		}
	})
	p := make([]byte, 4)
	_, err := io.ReadFull(peer, p)
	require.NoError(t, err)
	assert.Equal(t, "mine", string(p))
	assert.True(t, testutil.Receive(t, done), "on the loop")
}

// Free calls the functions of references and file segments that were still in buffers, though
// libevent destroys pairs and filters some turns later, when the Base is no longer there.
func TestWrapBaseFreeCallsForReferences(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte("segment"), 0o600))
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	for _, started := range []bool{false, true} {
		testutil.WithAndWithoutLocks(t, func(t *testing.T, cfg libevent.WrapConfig) {
			h, base := testutil.NewHost(t, cfg)
			a, b, err := base.NewPair(0)
			require.NoError(t, err)
			under, _, err := base.NewPair(0)
			require.NoError(t, err)
			hold := func(_, _ *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
				return libevent.FilterNeedMore, nil
			}
			f := testutil.NewFilter(t, under, hold, hold, 0)
			done := make(chan struct{}, 6)
			for _, bev := range []*libevent.BufferEvent{a, b, f} {
				require.NoError(t, bev.Output().AddReference([]byte("mine"), func() { done <- struct{}{} }))
				s, err := libevent.NewFileSegment(file, 0, -1, libevent.FileSegmentOptions{})
				require.NoError(t, err)
				require.NoError(t, s.SetCleanup(func() { done <- struct{}{} }))
				require.NoError(t, bev.Output().AddFileSegment(s, 0, -1))
				s.Free()
			}
			if started { // and the binding knows it
				h.Start()
				testutil.OnLoop(t, base, func() {})
			}
			require.NoError(t, base.Free())
			for range cap(done) {
				testutil.Receive(t, done)
			}
			assert.Zero(t, libevent.Live().References)
			assert.Zero(t, libevent.Live().FileSegments)
		})
	}
}

// C runs its loop on one thread, waits for the end of the loop, and goes on with another
// thread.
func TestWrapBaseFreeAfterTheLoopOfC(t *testing.T) {
	testutil.WithAndWithoutLocks(t, func(t *testing.T, cfg libevent.WrapConfig) {
		h := host.New(!cfg.NoLocks)
		base, err := libevent.WrapBase(h.Base(), cfg)
		require.NoError(t, err)
		h.Start()
		mine, peer := testutil.TCPPair(t)
		testutil.OnLoop(t, base, func() {
			bev, err := base.NewSocket(mine, libevent.OptCloseOnFree)
			if assert.NoError(t, err) {
				assert.NoError(t, bev.Enable(rd))
			}
			timer, err := base.NewTimer(func() {})
			if assert.NoError(t, err) {
				assert.NoError(t, timer.Add(time.Hour))
			}
		})
		h.Stop()
		assert.NoError(t, base.Free())
		h.Turn()
		assert.Equal(t, libevent.LiveObjects{}, libevent.Live())
		_, err = peer.Read(make([]byte, 1))
		assert.ErrorIs(t, err, io.EOF)
		h.Free()
	})
}
