// SPDX-License-Identifier: BSD-3-Clause

//go:build cgo

package libevent

import (
	"slices"
	"sync"
)

// served is a connection of a Server with the filters that the program has put on it. All of them
// have the same served.
type served struct {
	server *Server
	conn   *BufferEvent

	mu      sync.Mutex
	filters []*BufferEvent // from the bottom up
}

// top returns what the program reads and writes: the topmost filter, or the connection itself.
func (s *served) top() *BufferEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.filters); n > 0 {
		return s.filters[n-1]
	}
	return s.conn
}

// put takes a new filter to the connection. libevent turns reading off below a filter when a
// timeout passes there, and the filter cannot turn it on again, so the filter gets the timeouts.
func (s *served) put(f *BufferEvent) {
	s.mu.Lock()
	s.filters = append(s.filters, f)
	s.mu.Unlock()
	if s.server.hasTimeouts() {
		s.server.setTimeouts(f)
		_ = f.below.SetTimeouts(0, 0)
	}
	f.AfterFree(func() { s.left(f.below) })
	if !f.below.isOpen() { // freed by another goroutine, which has perhaps not seen the filter
		f.Free()
	}
}

// endsWith reports whether all that is below b is freed when b is freed.
func (s *served) endsWith(b *BufferEvent) bool {
	for b = b.below; b != nil; b = b.below {
		if b.closures.Load() != &noClosures {
			return false
		}
	}
	return true
}

// closed is called when a bufferevent of the stack is freed. Filters on it are freed first.
func (s *served) closed(b *BufferEvent) {
	s.mu.Lock()
	i := slices.Index(s.filters, b) // -1: b is the connection
	above := slices.Clone(s.filters[i+1:])
	if i >= 0 {
		s.filters = slices.Delete(s.filters, i, i+1)
	}
	s.mu.Unlock()
	for _, f := range slices.Backward(above) {
		f.Free()
	}
}

// left is called when a filter on b is freed. If nothing can be told of b, the connection has
// ended with the filter.
func (s *served) left(b *BufferEvent) {
	switch {
	case s.top() != b || !b.isOpen():
	case b.closures.Load() == &noClosures:
		b.Free()
	case s.server.hasTimeouts():
		s.server.setTimeouts(b)
	}
}
