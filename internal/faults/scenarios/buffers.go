// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"github.com/go-libevent/libevent"
)

func init() {
	scenarios["buffers"] = buffers
	scenarios["remove buffer"] = removeBuffer
	scenarios["files"] = files
	scenarios["files to a socket"] = filesToSocket
	scenarios["references"] = references
	scenarios["buffer callbacks"] = bufferCallbacks
}

func (s *scene) buffer() (*libevent.Buffer, error) {
	b, err := libevent.NewBuffer()
	if err == nil {
		s.later(b.Free)
	}
	return b, err
}

// holds compares what is in a buffer. A failure of the copy is no bug.
func (s *scene) holds(b *libevent.Buffer, what string, want []byte) {
	got := make([]byte, len(want)+1)
	n, err := b.CopyOut(got)
	if err == nil && !bytes.Equal(got[:n], want) {
		s.bug("%s: %d bytes, not %d, or other ones", what, n, len(want))
	}
}

// buffers does everything with buffers, and keeps what they should have in slices. A step
// that fails must change nothing.
func buffers(s *scene) error {
	a, err := s.buffer()
	if err != nil {
		return err
	}
	b, err := s.buffer()
	if err != nil {
		return err
	}
	var inA, inB []byte
	var first error
	p := noise(10_000)
	step := func(name string, do func() error, done func()) {
		if err := do(); err == nil {
			done()
		} else if first == nil {
			first = err
		}
		s.holds(a, name, inA)
		s.holds(b, name, inB)
	}
	step("Add", func() error { return a.Add(p) }, func() { inA = append(inA, p...) })
	step("Add", func() error { return a.Add(p[:100]) }, func() { inA = append(inA, p[:100]...) })
	step("Prepend", func() error { return b.Prepend(p[:300]) }, func() { inB = append(bytes.Clone(p[:300]), inB...) })
	step("Prepend", func() error { return b.Prepend(p[:5000]) }, func() { inB = append(bytes.Clone(p[:5000]), inB...) })
	step("AddBuffer", func() error { return b.AddBuffer(a) }, func() { inB, inA = append(inB, inA...), nil })
	step("PrependBuffer", func() error { return a.PrependBuffer(b) }, func() { inA, inB = append(inB, inA...), nil })
	vec := [][]byte{p[:1000], p[1000:3000], p[3000:9000]}
	step("AddVec", func() error {
		n, err := b.AddVec(vec)
		inB = append(inB, p[:n]...)
		return err
	}, func() {})
	step("Expand", func() error { return b.Expand(70_000) }, func() {})
	step("Reserve", func() error {
		return b.Reserve(5000, func(spans [][]byte) int { return copy(spans[0], p[:2000]) })
	}, func() { inB = append(inB, p[:2000]...) })
	step("Pullup", func() error {
		return a.Pullup(-1, func(q []byte) {
			if !bytes.Equal(q, inA) {
				s.bug("Pullup shows other bytes")
			}
		})
	}, func() {})
	step("Peek", func() error {
		return b.Peek(func(spans [][]byte) {
			if !bytes.Equal(bytes.Join(spans, nil), inB) {
				s.bug("Peek shows other bytes")
			}
		})
	}, func() {})
	step("Drain", func() error { return a.Drain(10) }, func() { inA = inA[10:] })
	step("ReadFrom", func() error {
		n, err := b.ReadFrom(bytes.NewReader(p))
		inB = append(inB, p[:n]...)
		return err
	}, func() {})
	line := []byte("a line\r\n")
	step("Prepend", func() error { return a.Prepend(line) }, func() { inA = append(bytes.Clone(line), inA...) })
	if bytes.HasPrefix(inA, line) {
		if got, ok := a.ReadLine(libevent.EOLCRLF); ok {
			inA = inA[len(line):]
			if string(got) != "a line" {
				s.bug("ReadLine gives %q", got)
			}
		}
		s.holds(a, "ReadLine", inA)
	}
	step("pipe", func() error { return s.throughPipe(a, b, &inA, &inB) }, func() {})
	return first
}

// throughPipe writes from a to a pipe, and reads that to b.
func (s *scene) throughPipe(a, b *libevent.Buffer, inA, inB *[]byte) error {
	var fds [2]int
	check(syscall.Pipe(fds[:]))
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
		check(syscall.SetNonblock(fd, true))
	}
	defer func() { check(errors.Join(syscall.Close(fds[0]), syscall.Close(fds[1]))) }()
	n, err := a.WriteFD(fds[1], -1)
	if err != nil {
		return err
	}
	moved := (*inA)[:n]
	*inA = (*inA)[n:]
	for len(moved) > 0 {
		n, err := b.ReadFD(fds[0], len(moved))
		if err != nil {
			return err
		}
		*inB = append(*inB, moved[:n]...)
		moved = moved[n:]
	}
	return nil
}

// removeBuffer moves odd numbers of bytes from one buffer to another. None may be lost.
func removeBuffer(s *scene) error {
	src, err := s.buffer()
	if err != nil {
		return err
	}
	dst, err := s.buffer()
	if err != nil {
		return err
	}
	p := noise(40_000)
	for rest := p; len(rest) > 0; {
		n := min(len(rest), 3000)
		if err := src.Add(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	moved := 0
	for _, n := range []int{1, 7, 777, 7777, 3000, 12_345, 0, 100_000} {
		got, err := src.RemoveBuffer(dst, n)
		if err == nil && got != min(n, len(p)-moved) {
			s.bug("RemoveBuffer of %d moved %d", n, got)
		}
		moved += got
		s.holds(dst, "RemoveBuffer", p[:moved])
		s.holds(src, "RemoveBuffer", p[moved:])
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *scene) file(p []byte) *os.File {
	dir, err := os.MkdirTemp("", "faults")
	check(err)
	s.later(func() { check(os.RemoveAll(dir)) })
	f, err := os.Create(filepath.Join(dir, "file"))
	check(err)
	_, err = f.Write(p)
	check(err)
	s.later(func() { check(f.Close()) })
	return f
}

// files reads files to a buffer.
func files(s *scene) error {
	p := noise(50_000)
	f := s.file(p)
	b, err := s.buffer()
	if err != nil {
		return err
	}
	if err := b.AddFile(f, 100, 40_000); err != nil {
		s.holds(b, "AddFile", nil)
		return err
	}
	want := bytes.Clone(p[100:40_100])
	s.holds(b, "AddFile", want)
	for _, opts := range []libevent.FileSegmentOptions{{}, {Mmap: true}} {
		segment, err := libevent.NewFileSegment(f, 0, -1, opts)
		if err != nil {
			return err
		}
		err = b.AddFileSegment(segment, 5, 1000)
		segment.Free()
		if err == nil {
			want = append(want, p[5:1005]...)
		}
		s.holds(b, "AddFileSegment", want)
		if err != nil {
			return err
		}
	}
	return nil
}

// filesToSocket sends files between bytes of memory.
func filesToSocket(s *scene) error {
	b, peer, err := s.serve(0)
	if err != nil {
		return err
	}
	if err := b.SetCallbacks(nil, nil, s.event); err != nil {
		return err
	}
	p := noise(300_000)
	f := s.file(p)
	go func() {
		if s.hear(peer, bytes.Join([][]byte{p[:10], p, p[:500], p[1000:2000]}, nil)) {
			s.end(nil)
		}
	}()
	if _, err := b.Write(p[:10]); err != nil {
		return err
	}
	if err := b.Output().AddFile(f, 0, -1); err != nil {
		return err
	}
	if _, err := b.Write(p[:500]); err != nil {
		return err
	}
	if err := b.Output().AddFile(f, 1000, 1000); err != nil {
		return err
	}
	return s.wait()
}

// references counts that done is called once for each slice that was added.
func references(s *scene) error {
	b, peer, err := s.serve(0)
	if err != nil {
		return err
	}
	if err := b.SetCallbacks(nil, nil, s.event); err != nil {
		return err
	}
	added, done := 0, make(chan struct{}, 16)
	s.frees = append([]func(){func() { // after the base was freed
		if len(done) != added {
			s.bug("%d of %d references were given back", len(done), added)
		}
	}}, s.frees...)
	p := noise(100_000)
	go func() {
		if s.hear(peer, bytes.Repeat(p, 4)) {
			s.end(nil)
		}
	}()
	for range 4 {
		if err := b.Output().AddReference(p, func() { done <- struct{}{} }); err != nil {
			return err
		}
		added++
	}
	return s.wait()
}

// bufferCallbacks counts what goes through an input and a buffer of its own.
func bufferCallbacks(s *scene) error {
	own, err := s.buffer()
	if err != nil {
		return err
	}
	total := 0
	cb, err := own.AddCallback(func(_ *libevent.Buffer, added, _ int) { total += added })
	if err != nil {
		return err
	}
	defer cb.Remove()
	if err := own.Add(noise(1000)); err != nil {
		return err
	}
	if total != 1000 {
		s.bug("the callback saw %d bytes of 1000", total)
	}
	b, peer, err := s.serve(0)
	if err != nil {
		return err
	}
	seen := 0
	if _, err := b.Input().AddCallback(func(_ *libevent.Buffer, added, _ int) {
		if seen += added; seen == 10_000 {
			s.end(nil)
		}
	}); err != nil {
		return err
	}
	if err := b.SetCallbacks(func(b *libevent.BufferEvent) { s.fail(b.Input().Drain(b.Input().Len())) }, nil, s.event); err != nil {
		return err
	}
	if err := b.Enable(libevent.EvRead); err != nil {
		return err
	}
	_, err = peer.Write(noise(10_000))
	check(err)
	return s.wait()
}
