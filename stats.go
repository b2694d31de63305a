//go:build cgo

package libevent

import "sync/atomic"

// Stats are counters of one Base.
type Stats struct {
	Callbacks uint64 // closures run by the loop, posted functions among them

	FastReads  uint64 // reads from a socket that the fast path made, not libevent
	FastWrites uint64 // the same of writes
	FastSpills uint64 // times that a write left bytes, which libevent then wrote

	Events       int // live Event objects
	BufferEvents int // live BufferEvent objects
	Listeners    int // live Listener objects
	Groups       int // live RateLimitGroup objects
	DNSBases     int // live DNSBase objects
	DNSLookups   int // live DNSLookup objects, those of ConnectHostname among them
}

// LiveObjects counts what exists in the process: made and not yet gone. An
// object that was freed counts until its memory is given back, which may take a
// turn of its loop. A count that grows is a leak.
type LiveObjects struct {
	Bases, Events, BufferEvents, Listeners, Groups, DNSBases, DNSLookups, Buffers int

	References   int // slices that AddReference put into a buffer
	FileSegments int

	Handles int // entries in the table through which C finds Go objects
}

// Live returns the live objects of the process. Safe for concurrent use.
func Live() LiveObjects {
	return LiveObjects{
		Bases:        int(live.objects[kindBase].Load()),
		Events:       int(live.objects[kindEvent].Load()),
		BufferEvents: int(live.objects[kindBufferEvent].Load()),
		Listeners:    int(live.objects[kindListener].Load()),
		Groups:       int(live.objects[kindGroup].Load()),
		DNSBases:     int(live.objects[kindDNSBase].Load()),
		DNSLookups:   int(live.objects[kindDNSLookup].Load()),
		Buffers:      int(live.objects[kindBuffer].Load()),
		References:   int(live.objects[kindReference].Load()),
		FileSegments: int(live.objects[kindFileSegment].Load()),
		Handles:      int(live.handles.Load()),
	}
}

// StaleCallbacks returns how many callbacks were dropped because their handle no
// longer led to the object they were for. It stays 0 unless there is a bug in
// the binding or in C code beside it. Safe for concurrent use.
func StaleCallbacks() uint64 { return live.stale.Load() }

// Add returns the sums of two bases' counters.
// Safe for concurrent use.
func (s Stats) Add(t Stats) Stats {
	s.Callbacks += t.Callbacks
	s.FastReads += t.FastReads
	s.FastWrites += t.FastWrites
	s.FastSpills += t.FastSpills
	s.Events += t.Events
	s.BufferEvents += t.BufferEvents
	s.Listeners += t.Listeners
	s.Groups += t.Groups
	s.DNSBases += t.DNSBases
	s.DNSLookups += t.DNSLookups
	return s
}

type kind int

const (
	kindBase kind = iota
	kindEvent
	kindBufferEvent
	kindListener
	kindGroup
	kindDNSBase
	kindDNSLookup
	kindBuffer
	kindReference
	kindFileSegment
	kinds
)

var live struct {
	objects [kinds]atomic.Int64
	handles atomic.Int64
	stale   atomic.Uint64
}
