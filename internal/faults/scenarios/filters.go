// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"github.com/go-libevent/libevent"
)

func init() {
	scenarios["filter"] = func(s *scene) error { return filters(s, flip) }
	scenarios["filter without functions"] = func(s *scene) error { return filters(s, nil) }
	scenarios["filters on a pair"] = filtersOnPair
}

// flip inverts all bits.
func flip(src, dst *libevent.Buffer, _ int, _ libevent.FlushMode) (libevent.FilterResult, error) {
	p := make([]byte, 4096)
	n, err := src.CopyOut(p)
	if n == 0 || err != nil {
		return libevent.FilterNeedMore, err
	}
	for i := range p[:n] {
		p[i] = ^p[i]
	}
	if err := dst.Add(p[:n]); err != nil {
		return libevent.FilterError, err
	}
	return libevent.FilterOK, src.Drain(n)
}

func filters(s *scene, fn libevent.FilterFunc) error {
	under, peer, err := s.serve(0)
	if err != nil {
		return err
	}
	b, err := libevent.NewFilter(under, fn, fn, 0)
	if err != nil {
		return err
	}
	s.later(b.Free)
	return s.echoes(b, peer, 100_000)
}

// filtersOnPair has two filters with watermarks above each end.
func filtersOnPair(s *scene) error {
	if err := s.start(libevent.Config{}); err != nil {
		return err
	}
	a, b, err := s.pair()
	if err != nil {
		return err
	}
	for _, end := range []**libevent.BufferEvent{&a, &b} {
		for range 2 {
			if *end, err = libevent.NewFilter(*end, flip, flip, 0); err != nil {
				return err
			}
			s.later((*end).Free)
		}
		if err := (*end).SetWatermark(libevent.EvRead, 0, 10_000); err != nil {
			return err
		}
	}
	if err := s.reads(b, s.echo); err != nil {
		return err
	}
	return s.exchange(a, noise(100_000))
}
