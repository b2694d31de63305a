// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

const (
	small = 100
	large = 1 << 20
)

func init() {
	scenarios["echo"] = func(s *scene) error { return echo(s, small, 0) }
	scenarios["echo, large"] = func(s *scene) error { return echo(s, large, 0) }
	scenarios["echo, plain"] = func(s *scene) error { return echo(s, small, libevent.OptPlainIO) }
	scenarios["echo, large, plain"] = func(s *scene) error { return echo(s, large, libevent.OptPlainIO) }
	scenarios["read and write"] = readAndWrite
	scenarios["write from elsewhere"] = func(s *scene) error { return writeFromElsewhere(s, 0) }
	scenarios["write from elsewhere, plain"] = func(s *scene) error { return writeFromElsewhere(s, libevent.OptPlainIO) }
	scenarios["watermarks"] = func(s *scene) error { return watermarks(s, 0) }
	scenarios["watermarks, plain"] = func(s *scene) error { return watermarks(s, libevent.OptPlainIO) }
	scenarios["timeout"] = timeout
	scenarios["rate limit"] = rateLimit
	scenarios["rate limit group"] = rateLimitGroup
	scenarios["close write"] = closeWrite
	scenarios["free after flush"] = freeAfterFlush
	scenarios["listen and connect"] = listenAndConnect
	scenarios["connect refused"] = connectRefused
	scenarios["connect unix"] = connectUnix
	scenarios["pair"] = pair
}

func (s *scene) serve(opts libevent.Options) (*libevent.BufferEvent, *net.TCPConn, error) {
	if err := s.start(libevent.Config{}); err != nil {
		return nil, nil, err
	}
	return s.socket(opts)
}

func echo(s *scene, n int, opts libevent.Options) error {
	b, peer, err := s.serve(opts)
	if err != nil {
		return err
	}
	if err := s.reads(b, s.echo); err != nil {
		return err
	}
	go s.ask(peer, noise(n))
	return s.wait()
}

func readAndWrite(s *scene) error {
	b, peer, err := s.serve(0)
	if err != nil {
		return err
	}
	p := make([]byte, 4096)
	read := func(b *libevent.BufferEvent) {
		for {
			n, err := b.Read(p)
			if errors.Is(err, libevent.ErrWouldBlock) {
				return
			}
			if err == nil {
				_, err = b.Write(p[:n])
			}
			if err != nil {
				s.end(err)
				return
			}
		}
	}
	if err := b.SetCallbacks(read, func(*libevent.BufferEvent) {}, s.event); err != nil {
		return err
	}
	if err := b.Enable(libevent.EvRead | libevent.EvWrite); err != nil {
		return err
	}
	go s.ask(peer, noise(100_000))
	return s.wait()
}

func writeFromElsewhere(s *scene, opts libevent.Options) error {
	b, peer, err := s.serve(opts)
	if err != nil {
		return err
	}
	if err := b.SetCallbacks(nil, nil, s.event); err != nil {
		return err
	}
	p := noise(300_000)
	go func() {
		if s.hear(peer, p) {
			s.end(nil)
		}
	}()
	for rest := p; len(rest) > 0; {
		n := min(len(rest), 7000)
		if _, err := b.Write(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return s.wait()
}

// watermarks has the read closure drain a part each time, so that the input is at its high
// mark again and again.
func watermarks(s *scene, opts libevent.Options) error {
	b, peer, err := s.serve(opts)
	if err != nil {
		return err
	}
	if err := b.SetWatermark(libevent.EvRead, 0, 4000); err != nil {
		return err
	}
	if err := b.SetWatermark(libevent.EvWrite, 1000, 0); err != nil {
		return err
	}
	p := make([]byte, 1500)
	read := func(b *libevent.BufferEvent) {
		n, err := b.Read(p)
		s.fail(err)
		_, err = b.Write(p[:n])
		s.fail(err)
		if b.Input().Len() > 4000 {
			s.bug("%d bytes are above the mark", b.Input().Len())
		}
		if b.Input().Len() > 0 {
			s.fail(b.Trigger(libevent.EvRead, 0))
		}
	}
	if err := b.SetCallbacks(read, func(*libevent.BufferEvent) {}, s.event); err != nil {
		return err
	}
	if err := b.Enable(libevent.EvRead); err != nil {
		return err
	}
	go s.ask(peer, noise(50_000))
	return s.wait()
}

func timeout(s *scene) error {
	b, _, err := s.serve(0)
	if err != nil {
		return err
	}
	told := func(b *libevent.BufferEvent, what libevent.Events) {
		err := b.Err()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
		}
		s.end(err)
	}
	if err := b.SetCallbacks(nil, nil, told); err != nil {
		return err
	}
	if err := b.SetTimeouts(10*time.Millisecond, time.Second); err != nil {
		return err
	}
	if err := b.Enable(libevent.EvRead); err != nil {
		return err
	}
	return s.wait()
}

func rateLimit(s *scene) error {
	b, peer, err := s.serve(0)
	if err != nil {
		return err
	}
	limit := libevent.RateLimit{ReadRate: 5000, WriteRate: 5000, Tick: 10 * time.Millisecond}
	if err := b.SetRateLimit(&limit); err != nil {
		return err
	}
	return s.echoes(b, peer, 20_000)
}

func rateLimitGroup(s *scene) error {
	b, peer, err := s.serve(0)
	if err != nil {
		return err
	}
	limit := libevent.RateLimit{ReadRate: 5000, WriteRate: 5000, Tick: 10 * time.Millisecond}
	group, err := s.base.NewRateLimitGroup(limit)
	if err != nil {
		return err
	}
	s.later(group.Free)
	if err := group.Add(b); err != nil {
		return err
	}
	return s.echoes(b, peer, 20_000)
}

// closeWrite sends, and closes its writing side; the peer must get the end after all bytes.
func closeWrite(s *scene) error {
	b, peer, err := s.serve(0)
	if err != nil {
		return err
	}
	if err := b.SetCallbacks(nil, nil, s.event); err != nil {
		return err
	}
	p := noise(large)
	go s.toTheEnd(peer, p, nil)
	if _, err := b.Write(p); err != nil {
		return err
	}
	if err := b.CloseWrite(); err != nil {
		return err
	}
	return s.wait()
}

// toTheEnd reads p and then the end. A part is right only if failed says that the other end
// knows of it, or the connection was reset.
func (s *scene) toTheEnd(conn net.Conn, p []byte, failed func() bool) {
	got, err := io.ReadAll(conn)
	if !bytes.Equal(got, p[:min(len(got), len(p))]) {
		s.bug("wrong bytes among %d", len(got))
	}
	if err != nil || failed != nil && failed() {
		s.end(err)
	} else if len(got) == len(p) {
		s.end(nil)
	} else {
		s.end(errors.New("the peer got a part, and its end"))
	}
}

func freeAfterFlush(s *scene) error {
	b, peer, err := s.serve(0)
	if err != nil {
		return err
	}
	p := noise(large)
	if _, err := b.Write(p); err != nil {
		return err
	}
	failed := make(chan struct{})
	go s.toTheEnd(peer, p, func() bool {
		select {
		case <-failed:
			return true
		default:
			return false
		}
	})
	if err := b.FreeAfterFlush(time.Second); err != nil {
		close(failed)
		return err
	}
	return s.wait()
}

func listenAndConnect(s *scene) error {
	if err := s.start(libevent.Config{}); err != nil {
		return err
	}
	l, err := s.base.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{}, s.accept)
	if err != nil {
		return err
	}
	s.later(l.Free)
	l.SetErrorFunc(func(_ *libevent.Listener, err error) {})
	return s.dial(func(b *libevent.BufferEvent) error { return b.Connect("tcp", l.Addr().String()) })
}

// accept echoes on what a listener has accepted.
func (s *scene) accept(l *libevent.Listener, fd int, _ net.Addr) {
	b, err := l.Base().NewSocket(fd, libevent.OptCloseOnFree)
	if err != nil {
		check(syscall.Close(fd))
		s.end(err)
		return
	}
	b.AfterFree(func() {})
	err = b.SetCallbacks(s.echo, nil, func(b *libevent.BufferEvent, what libevent.Events) {
		s.event(b, what)
		b.Free()
	})
	if err == nil {
		err = b.Enable(libevent.EvRead)
	}
	s.fail(err)
}

// dial connects to something that echoes, and compares what comes back.
func (s *scene) dial(connect func(*libevent.BufferEvent) error) error {
	b, err := s.base.NewSocket(-1, libevent.OptCloseOnFree)
	if err != nil {
		return err
	}
	s.later(b.Free)
	p := noise(30_000)
	read := func(b *libevent.BufferEvent) {
		if b.Input().Len() < len(p) {
			return
		}
		got := make([]byte, len(p))
		_, err := b.Input().CopyOut(got)
		s.fail(err)
		if err == nil && !bytes.Equal(got, p) {
			s.bug("wrong bytes")
		}
		s.end(nil)
	}
	if err := b.SetCallbacks(read, nil, s.event); err != nil {
		return err
	}
	if err := connect(b); err != nil {
		return err
	}
	if _, err := b.Write(p); err != nil {
		return err
	}
	if err := b.Enable(libevent.EvRead); err != nil {
		return err
	}
	return s.wait()
}

func connectRefused(s *scene) error {
	if err := s.start(libevent.Config{}); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	check(ln.Close())
	err = s.dial(func(b *libevent.BufferEvent) error { return b.Connect("tcp", ln.Addr().String()) })
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	return err
}

func connectUnix(s *scene) error {
	if err := s.start(libevent.Config{}); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "faults")
	check(err)
	s.later(func() { check(os.RemoveAll(dir)) })
	l, err := s.base.Listen("unix", dir+"/socket", libevent.ListenOptions{}, s.accept)
	if err != nil {
		return err
	}
	s.later(l.Free)
	l.SetErrorFunc(func(_ *libevent.Listener, err error) {})
	return s.dial(func(b *libevent.BufferEvent) error { return b.Connect("unix", dir+"/socket") })
}

func pair(s *scene) error {
	if err := s.start(libevent.Config{}); err != nil {
		return err
	}
	a, b, err := s.pair()
	if err != nil {
		return err
	}
	if err := s.reads(b, s.echo); err != nil {
		return err
	}
	return s.exchange(a, noise(200_000))
}

// exchange writes p to an end whose other end echoes, and compares what comes back.
func (s *scene) exchange(a end, p []byte) error {
	got := []byte{}
	read := func(a *libevent.BufferEvent) {
		piece := make([]byte, a.Input().Len())
		n, err := a.Read(piece)
		if err != nil && !errors.Is(err, libevent.ErrWouldBlock) {
			s.end(err)
		}
		got = append(got, piece[:n]...)
		if !bytes.HasPrefix(p, got) {
			s.bug("wrong bytes among the first %d", len(got))
			s.end(nil)
		}
		if len(got) == len(p) {
			s.end(nil)
		}
	}
	if err := s.reads(a, read); err != nil {
		return err
	}
	if _, err := a.Write(p); err != nil {
		return err
	}
	return s.wait()
}
