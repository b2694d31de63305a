// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

func init() {
	scenarios["base"] = base
	scenarios["base without epoll"] = withoutEpoll
	scenarios["events"] = events
	scenarios["signal"] = signal
	scenarios["post"] = post
	scenarios["run"] = run
	scenarios["group"] = group
}

// base makes a base whose loop does not run.
func base(s *scene) error {
	base, err := libevent.NewBaseConfig(libevent.Config{Priorities: 2, MaxDispatchInterval: time.Second})
	if err != nil {
		return err
	}
	s.later(func() { check(base.Free()) })
	return base.Dispatch()
}

// events adds many timers, and an event for a descriptor.
func events(s *scene) error {
	if err := s.start(libevent.Config{}); err != nil {
		return err
	}
	var fired atomic.Int32
	const timers = 40
	for range timers {
		e, err := s.base.NewTimer(func() {
			if fired.Add(1) == timers {
				s.end(nil)
			}
		})
		if err != nil {
			return err
		}
		s.later(e.Free)
		if err := e.Add(time.Millisecond); err != nil {
			return err
		}
	}
	if err := s.wait(); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	check(err)
	s.later(func() { _, _ = r.Close(), w.Close() })
	e, err := s.base.NewEvent(int(r.Fd()), libevent.EvRead|libevent.EvPersist, func(fd int, _ libevent.What) {
		n, err := syscall.Read(fd, make([]byte, 8))
		if n != 1 || err != nil {
			s.bug("read %d bytes from a pipe: %v", n, err)
		}
		s.end(nil)
	})
	if err != nil {
		return err
	}
	s.later(e.Free)
	if err := e.Add(-1); err != nil {
		return err
	}
	_, err = w.Write([]byte{1})
	check(err)
	return s.wait()
}

func signal(s *scene) error {
	if err := s.start(libevent.Config{}); err != nil {
		return err
	}
	e, err := s.base.NewSignal(syscall.SIGUSR1, func(os.Signal) { s.end(nil) })
	if err != nil {
		return err
	}
	s.later(e.Free)
	if err := e.Add(-1); err != nil {
		return err
	}
	check(syscall.Kill(syscall.Getpid(), syscall.SIGUSR1))
	return s.wait()
}

// post posts from several goroutines, and from a posted function.
func post(s *scene) error {
	if err := s.start(libevent.Config{}); err != nil {
		return err
	}
	const posters = 4
	var ran atomic.Int32
	for range posters {
		go func() {
			for range 50 {
				s.fail(s.base.Post(func() {
					s.fail(s.base.Post(func() {
						if ran.Add(1) == posters*50 {
							s.end(nil)
						}
					}))
				}))
			}
		}()
	}
	return s.wait()
}

// run has Run wait though the base has no events.
func run(s *scene) error {
	return runs(s, libevent.Config{}, context.DeadlineExceeded)
}

// withoutEpoll runs a loop whose turns need memory of C. A run that gets none says so, and the next
// one goes on.
func withoutEpoll(s *scene) error {
	return runs(s, libevent.Config{AvoidMethods: []string{"epoll"}, Priorities: 3}, context.DeadlineExceeded, syscall.ENOMEM)
}

// runs makes a base and runs its loop until a context ends, which is to return one of the errors.
func runs(s *scene, cfg libevent.Config, want ...error) error {
	base, err := libevent.NewBaseConfig(cfg)
	if err != nil {
		return err
	}
	s.later(func() { check(base.Free()) })
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		err := base.Run(ctx)
		if !slices.ContainsFunc(want, func(target error) bool { return errors.Is(err, target) }) {
			s.bug("Run returned %v before its context ended", err)
		}
		cancel()
	}
	return nil
}

// group spreads the connections of a listener over two loops.
func group(s *scene) error {
	g, err := libevent.NewGroup(2, libevent.Config{})
	if err != nil {
		return err
	}
	s.later(func() { check(g.Free()) })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	s.later(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			s.bug("Run: %v", err)
		}
	})
	l, err := g.Listen("tcp", "127.0.0.1:0", libevent.ListenOptions{}, s.accept)
	if err != nil {
		return err
	}
	s.later(l.Free)
	l.SetErrorFunc(func(*libevent.Listener, error) {})
	s.base = g.Next()
	return s.dial(func(b *libevent.BufferEvent) error { return b.Connect("tcp", l.Addr().String()) })
}
