// SPDX-License-Identifier: BSD-3-Clause

package libevent_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-libevent/libevent"
	"github.com/go-libevent/libevent/internal/testutil"
)

// The hot path allocates nothing in Go.
func TestNoAllocations(t *testing.T) {
	if testutil.ASan || testutil.Race {
		t.Skip("the instrumentation allocates")
	}
	base := testutil.NewBase(t)
	a, b := testutil.NewPair(t, base)
	fd, peer := testutil.Socketpair(t)
	defer syscall.Close(peer)
	socket, err := base.NewSocket(fd, libevent.OptCloseOnFree)
	require.NoError(t, err)
	buf := testutil.NewBuffer(t, "")
	p := make([]byte, 1024)
	const text = "a string"

	require.NoError(t, b.SetCallbacks(func(b *libevent.BufferEvent) {
		n, _ := b.Read(p)
		_, _ = b.Write(p[:n])
	}, nil, nil))
	require.NoError(t, a.SetCallbacks(func(a *libevent.BufferEvent) {
		_ = a.Input().Drain(a.Input().Len())
	}, func(*libevent.BufferEvent) {}, nil))
	require.NoError(t, socket.SetCallbacks(func(s *libevent.BufferEvent) {
		_ = s.Output().AddBuffer(s.Input())
	}, nil, nil))
	for _, bev := range []*libevent.BufferEvent{a, b, socket} {
		require.NoError(t, bev.Enable(rd))
	}
	total := 0
	count := func(spans [][]byte) {
		for _, s := range spans {
			total += len(s)
		}
	}
	fill := func(spans [][]byte) int { return len(p) }
	watched := testutil.NewBuffer(t, "")
	_, err = watched.AddCallback(func(_ *libevent.Buffer, added, deleted int) { total += added - deleted })
	require.NoError(t, err)
	whole := func(p []byte) { total += len(p) }

	for name, fn := range map[string]func(){
		"Add, Remove":   func() { _ = buf.Add(p); _, _ = buf.Remove(p) },
		"Write, Read":   func() { _, _ = buf.Write(p); _, _ = buf.Read(p) },
		"CopyOut, Len":  func() { _ = buf.Add(p); _, _ = buf.CopyOut(p); _ = buf.Drain(buf.Len()) },
		"Peek":          func() { _ = buf.Add(p); _ = buf.Peek(count); _ = buf.Drain(len(p)) },
		"PeekRange":     func() { _ = buf.Add(p); _ = buf.PeekRange(1, 2, count); _ = buf.Drain(len(p)) },
		"Reserve":       func() { _ = buf.Reserve(len(p), fill); _ = buf.Drain(len(p)) },
		"watched":       func() { _ = watched.Add(p); _ = watched.Drain(len(p)) },
		"Search":        func() { _ = buf.Search(p, 0); _ = buf.SearchRange(p, 0, 10) },
		"Pullup":        func() { _ = buf.Add(p); _ = buf.Pullup(-1, whole); _ = buf.Drain(len(p)) },
		"Enabled":       func() { _ = a.Enabled(); _ = a.Disable(rd); _ = a.Enable(rd) },
		"WriteString":   func() { _, _ = a.WriteString(text); _ = base.Loop(libevent.LoopNonblock) },
		"pair echo":     func() { _, _ = a.Write(p); _ = base.Loop(libevent.LoopNonblock) },
		"socket echo":   func() { echoOnce(base, peer, p) },
		"WriteBuffer":   func() { _ = buf.Add(p); _ = a.WriteBuffer(buf); _ = base.Loop(libevent.LoopNonblock) },
		"nothing comes": func() { _, _ = socket.Read(p) },
	} {
		fn() // the first calls fill the pools
		assert.Zero(t, testing.AllocsPerRun(200, fn), name)
	}
}

func echoOnce(base *libevent.Base, peer int, p []byte) {
	_, _ = syscall.Write(peer, p)
	for {
		_ = base.Loop(libevent.LoopNonblock)
		if n, _, _ := syscall.Recvfrom(peer, p, syscall.MSG_DONTWAIT); n > 0 {
			return
		}
	}
}
