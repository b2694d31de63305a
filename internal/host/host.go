// SPDX-License-Identifier: BSD-3-Clause

// Package host is a C program with its own event loop. Tests use it to check what such a program
// and Go do together. Its loop runs on a thread of C, or, in single turns, on the caller's.
package host

/*
#include <stdlib.h>
#include "host.h"
*/
import "C"

import (
	"sync"
	"unsafe"
)

var (
	mu    sync.Mutex
	hosts = map[int]*Host{}
	last  int
)

// Host is the C program.
type Host struct {
	c     *C.struct_host
	id    int
	calls []func() // that the loop's thread has still to make
	count *C.int   // memory of C: how many callbacks of the echo were called
}

// Options for the bufferevents that a Host makes. Shared are those that AdoptBufferEvent needs.
const (
	CloseOnFree = C.BEV_OPT_CLOSE_ON_FREE
	Shared      = C.BEV_OPT_THREADSAFE | C.BEV_OPT_DEFER_CALLBACKS | C.BEV_OPT_UNLOCK_CALLBACKS
)

// New makes a host with its own base, with or without locks.
func New(locks bool) *Host {
	var with C.int
	if locks {
		with = 1
	}
	return newHost(func(handle C.int) *C.struct_host { return C.host_new(with, handle) })
}

// On makes a host whose events are on an existing base. The caller runs the loop of that base,
// and frees the host before the base.
func On(base unsafe.Pointer) *Host {
	return newHost(func(handle C.int) *C.struct_host { return C.host_on((*C.struct_event_base)(base), handle) })
}

func newHost(make func(handle C.int) *C.struct_host) *Host {
	mu.Lock()
	defer mu.Unlock()
	last++
	h := &Host{id: last, count: (*C.int)(C.calloc(1, C.size_t(unsafe.Sizeof(C.int(0)))))}
	hosts[h.id] = h
	h.c = make(C.int(h.id))
	return h
}

// Base returns the event_base of the host.
func (h *Host) Base() unsafe.Pointer { return unsafe.Pointer(h.c.base) }

// Start makes a thread of C that runs the loop.
func (h *Host) Start() {
	if C.host_start(h.c) != 0 {
		panic("pthread_create")
	}
}

// Call calls fn from a C callback on the loop's thread, and returns when fn has returned.
func (h *Host) Call(fn func()) {
	done := make(chan struct{})
	mu.Lock()
	h.calls = append(h.calls, func() { defer close(done); fn() })
	mu.Unlock()
	if C.host_call(h.c) != 0 {
		panic("write")
	}
	<-done
}

// Stop ends the loop that Start has started, after one more whole turn, and waits for the thread.
// Without such a loop it does nothing.
func (h *Host) Stop() {
	if h.c.started == 0 {
		return
	}
	h.Call(func() {})
	h.Call(func() { C.event_base_loopbreak(h.c.base) })
	C.host_stop(h.c)
}

// Join waits until the loop that Start has started ends by itself.
func (h *Host) Join() { C.host_stop(h.c) }

// Turn runs one turn of the loop on the caller's thread.
func (h *Host) Turn() { C.event_base_loop(h.c.base, C.EVLOOP_NONBLOCK) }

// Free frees the host, and its base if New made that.
func (h *Host) Free() {
	C.host_free(h.c)
	C.free(unsafe.Pointer(h.count))
	mu.Lock()
	delete(hosts, h.id)
	mu.Unlock()
}

// Echo makes a bufferevent whose callbacks in C send back what it reads.
func (h *Host) Echo(fd, options int) unsafe.Pointer {
	return unsafe.Pointer(C.host_echo(h.c, C.int(fd), C.int(options), h.count))
}

// Calls returns how many callbacks of the echo were called. Use it on the loop's thread.
func (h *Host) Calls() int { return int(*h.count) }

// BufferEvent makes a bufferevent without callbacks.
func (h *Host) BufferEvent(fd, options int) unsafe.Pointer {
	return unsafe.Pointer(C.host_bufferevent(h.c, C.int(fd), C.int(options)))
}

// Pair makes two bufferevents that are connected to each other.
func (h *Host) Pair(options int) (a, b unsafe.Pointer) {
	var pair [2]*C.struct_bufferevent
	C.host_pair(h.c, C.int(options), &pair[0])
	return unsafe.Pointer(pair[0]), unsafe.Pointer(pair[1])
}

// Filter makes a bufferevent that is a filter on another one.
func (h *Host) Filter(under unsafe.Pointer, options int) unsafe.Pointer {
	return unsafe.Pointer(C.host_filter((*C.struct_bufferevent)(under), C.int(options)))
}

// FreeBufferEvent frees a bufferevent as C does.
func FreeBufferEvent(bev unsafe.Pointer) { C.bufferevent_free((*C.struct_bufferevent)(bev)) }

// Write appends text to the output of a bufferevent.
func Write(bev unsafe.Pointer, text string) {
	C.bufferevent_write((*C.struct_bufferevent)(bev), unsafe.Pointer(unsafe.StringData(text)), C.size_t(len(text)))
}

// The callbacks that SetCallbacks can set.
const (
	OnRead  = C.EV_READ
	OnWrite = C.EV_WRITE
	OnEvent = C.BEV_EVENT_EOF
)

// SetCallbacks sets those callbacks of the echo that are in which, and clears the others.
func (h *Host) SetCallbacks(bev unsafe.Pointer, which int) {
	C.host_set_callbacks((*C.struct_bufferevent)(bev), C.int(which), h.count)
}

// Callbacks returns the three callbacks of a bufferevent and their argument.
func Callbacks(bev unsafe.Pointer) (c [4]uintptr) {
	var out [4]C.uintptr_t
	C.host_get_callbacks((*C.struct_bufferevent)(bev), &out[0])
	for i, p := range out {
		c[i] = uintptr(p)
	}
	return c
}

// Enabled returns which of EV_READ and EV_WRITE are enabled.
func Enabled(bev unsafe.Pointer) int {
	return int(C.bufferevent_get_enabled((*C.struct_bufferevent)(bev)))
}

// Input returns how many bytes are in the input of a bufferevent.
func Input(bev unsafe.Pointer) int {
	return int(C.evbuffer_get_length(C.bufferevent_get_input((*C.struct_bufferevent)(bev))))
}

// Limit sets a rate limit on a bufferevent. Call free once no bufferevent has the limit any more.
func Limit(bev unsafe.Pointer) (limit unsafe.Pointer, free func()) {
	cfg := C.ev_token_bucket_cfg_new(1<<20, 1<<20, 1<<20, 1<<20, nil)
	C.bufferevent_set_rate_limit((*C.struct_bufferevent)(bev), cfg)
	return unsafe.Pointer(cfg), func() { C.ev_token_bucket_cfg_free(cfg) }
}

// Limited returns the rate limit of a bufferevent, or nil.
func Limited(bev unsafe.Pointer) unsafe.Pointer {
	return unsafe.Pointer(C.bufferevent_get_token_bucket_cfg((*C.struct_bufferevent)(bev)))
}

// Unlimit removes the rate limit of a bufferevent.
func Unlimit(bev unsafe.Pointer) {
	C.bufferevent_set_rate_limit((*C.struct_bufferevent)(bev), nil)
}
