// SPDX-License-Identifier: BSD-3-Clause

package libevent

import (
	"syscall"
	"testing"
)

// These benchmarks measure single calls. The folder benchmarks/ measures servers.

func benchBase(b *testing.B) *Base {
	base, err := NewBase()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := base.Free(); err != nil {
			b.Error(err)
		}
	})
	b.ReportAllocs()
	return base
}

func benchBuffer(b *testing.B, content []byte) *Buffer {
	buf, err := NewBuffer()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(buf.Free)
	if err := buf.Add(content); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	return buf
}

// BenchmarkCrossing measures a call into C that does next to nothing.
func BenchmarkCrossing(b *testing.B) {
	base := benchBase(b)
	for b.Loop() {
		base.onLoop()
	}
}

func BenchmarkHandle(b *testing.B) {
	base := benchBase(b)
	for b.Loop() {
		if _, ok := restoreBase(base.handle.p); !ok {
			b.Fatal("lost")
		}
	}
}

func BenchmarkBufferWriteRead(b *testing.B) {
	buf := benchBuffer(b, nil)
	p := make([]byte, 1024)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		_, _ = buf.Write(p)
		_, _ = buf.Read(p)
	}
}

func BenchmarkPeek(b *testing.B) {
	buf := benchBuffer(b, make([]byte, 1024))
	total := 0
	look := func(spans [][]byte) { total += len(spans) }
	for b.Loop() {
		_ = buf.Peek(look)
	}
}

func BenchmarkPost(b *testing.B) {
	base := benchBase(b)
	nothing := func() {}
	for b.Loop() {
		_ = base.Post(nothing)
		_ = base.Loop(LoopNonblock)
	}
}

// BenchmarkPairPingPong sends one message there and back on a pair: two callbacks, two
// reads, two writes.
func BenchmarkPairPingPong(b *testing.B) {
	base := benchBase(b)
	ends := [2]*BufferEvent{}
	var err error
	if ends[0], ends[1], err = base.NewPair(0); err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 64)
	returned := false
	_ = ends[0].SetCallbacks(func(e *BufferEvent) { _, _ = e.Read(p); returned = true }, nil, nil)
	_ = ends[1].SetCallbacks(func(e *BufferEvent) { n, _ := e.Read(p); _, _ = e.Write(p[:n]) }, nil, nil)
	for _, e := range ends {
		_ = e.Enable(EvRead)
	}
	for b.Loop() {
		_, _ = ends[0].Write(p)
		for returned = false; !returned; {
			_ = base.Loop(LoopOnce)
		}
	}
}

// BenchmarkSocketEcho sends one message through a socket and back: a read, a callback, a
// write.
func BenchmarkSocketEcho(b *testing.B) {
	for _, mode := range []struct {
		name string
		opts Options
	}{{"fast", 0}, {"plain", OptPlainIO}} {
		b.Run(mode.name, func(b *testing.B) {
			base := benchBase(b)
			fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			if err != nil {
				b.Fatal(err)
			}
			defer syscall.Close(fds[1])
			bev, err := base.NewSocket(fds[0], mode.opts|OptCloseOnFree)
			if err != nil {
				b.Fatal(err)
			}
			_ = bev.SetCallbacks(func(e *BufferEvent) { _ = e.Output().AddBuffer(e.Input()) }, nil, nil)
			_ = bev.Enable(EvRead)
			p := make([]byte, 1024)
			for b.Loop() {
				_, _ = syscall.Write(fds[1], p)
				for n := 0; n <= 0; {
					_ = base.Loop(LoopOnce)
					n, _, _ = syscall.Recvfrom(fds[1], p, syscall.MSG_DONTWAIT)
				}
			}
		})
	}
}
