// SPDX-License-Identifier: BSD-3-Clause

//go:build cgo

package libevent

import "sync/atomic"

// Stats has the counters of one Base, or the sums of several. It is a copy, which does not
// change. Its method is safe for concurrent use.
type Stats struct {
	Callbacks uint64 // closures that the loop has run, including posted functions

	FastReads  uint64 // reads from sockets that the fast path made in place of libevent
	FastWrites uint64 // writes to sockets that the fast path made in place of libevent
	FastSpills uint64 // how often a write left bytes, which libevent then wrote

	Events          int // live Event objects
	BufferEvents    int // live BufferEvent objects
	Listeners       int // live Listener objects
	RateLimitGroups int // live RateLimitGroup objects
	DNSBases        int // live DNSBase objects
	DNSLookups      int // live DNSLookup objects, including those of ConnectHostname
}

// LiveObjects counts the objects that exist in the process. An object that was freed
// counts until its memory is given back, which may take a turn of its loop. A count
// that keeps growing is a leak.
type LiveObjects struct {
	Bases, Events, BufferEvents, Listeners, RateLimitGroups, DNSBases, DNSLookups, Buffers int

	References   int // slices that AddReference put into a buffer
	FileSegments int

	Handles int // entries in the table through which C finds Go objects
}

// Live returns the counts of the live objects of the process.
func Live() LiveObjects {
	return LiveObjects{
		Bases:           int(live.objects[kindBase].Load()),
		Events:          int(live.objects[kindEvent].Load()),
		BufferEvents:    int(live.objects[kindBufferEvent].Load()),
		Listeners:       int(live.objects[kindListener].Load()),
		RateLimitGroups: int(live.objects[kindGroup].Load()),
		DNSBases:        int(live.objects[kindDNSBase].Load()),
		DNSLookups:      int(live.objects[kindDNSLookup].Load()),
		Buffers:         int(live.objects[kindBuffer].Load()),
		References:      int(live.objects[kindReference].Load()),
		FileSegments:    int(live.objects[kindFileSegment].Load()),
		Handles:         int(live.handles.Load()),
	}
}

// StaleCallbacks returns how many callbacks were dropped because their handle no longer
// led to the object they were for. It stays 0 unless the binding, or C code beside it,
// has a bug.
func StaleCallbacks() uint64 { return live.stale.Load() }

// Add returns the sums of two bases' counters.
func (s Stats) Add(t Stats) Stats {
	s.Callbacks += t.Callbacks
	s.FastReads += t.FastReads
	s.FastWrites += t.FastWrites
	s.FastSpills += t.FastSpills
	s.Events += t.Events
	s.BufferEvents += t.BufferEvents
	s.Listeners += t.Listeners
	s.RateLimitGroups += t.RateLimitGroups
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

// String names the kind in messages of the debug mode.
func (k kind) String() string {
	return nameOf(int(k), "kind", "Base", "Event", "BufferEvent", "Listener", "RateLimitGroup", "DNSBase", "DNSLookup",
		"Buffer", "Reference", "FileSegment")
}

var live struct {
	objects [kinds]atomic.Int64
	handles atomic.Int64
	stale   atomic.Uint64
}
