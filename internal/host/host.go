// Package host is a C program with an event loop of its own, on a thread of its own, for
// the tests of what such a program and Go do together.
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

// Host is the program.
type Host struct {
	c     *C.struct_host
	id    int
	calls []func()
	count *C.int
}

// Options of its bufferevents.
const (
	CloseOnFree = C.BEV_OPT_CLOSE_ON_FREE
	Shared      = C.BEV_OPT_THREADSAFE | C.BEV_OPT_DEFER_CALLBACKS | C.BEV_OPT_UNLOCK_CALLBACKS
)

// New makes it, with a base that has locks or none.
func New(locks bool) *Host {
	var with C.int
	if locks {
		with = 1
	}
	return newHost(func(handle C.int) *C.struct_host { return C.host_new(with, handle) })
}

// On makes one that has its events on somebody else's base, who runs the loop. It is
// freed before that.
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

// Base is its event_base.
func (h *Host) Base() unsafe.Pointer { return unsafe.Pointer(h.c.base) }

// Start has it run its loop on a thread of C's.
func (h *Host) Start() {
	if C.host_start(h.c) != 0 {
		panic("pthread_create")
	}
}

// Call has a C callback on the loop's thread call fn, and returns when it has.
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

// Stop ends its loop, if it runs, after a whole turn of it, and waits for the thread.
func (h *Host) Stop() {
	if h.c.started == 0 {
		return
	}
	h.Call(func() {})
	h.Call(func() { C.event_base_loopbreak(h.c.base) })
	C.host_stop(h.c)
}

// Join waits for its loop to end by itself.
func (h *Host) Join() { C.host_stop(h.c) }

// Turn runs one turn of it, on the caller's thread.
func (h *Host) Turn() { C.event_base_loop(h.c.base, C.EVLOOP_NONBLOCK) }

// Free ends it all.
func (h *Host) Free() {
	C.host_free(h.c)
	C.free(unsafe.Pointer(h.count))
	mu.Lock()
	delete(hosts, h.id)
	mu.Unlock()
}

// Echo makes a bufferevent that echoes in C.
func (h *Host) Echo(fd, options int) unsafe.Pointer {
	return unsafe.Pointer(C.host_echo(h.c, C.int(fd), C.int(options), h.count))
}

// Calls is how many of its callbacks were called. On the loop's thread.
func (h *Host) Calls() int { return int(*h.count) }

// BufferEvent makes a bufferevent without callbacks.
func (h *Host) BufferEvent(fd, options int) unsafe.Pointer {
	return unsafe.Pointer(C.host_bufferevent(h.c, C.int(fd), C.int(options)))
}

// Pair makes two that are connected.
func (h *Host) Pair(options int) (a, b unsafe.Pointer) {
	var pair [2]*C.struct_bufferevent
	C.host_pair(h.c, C.int(options), &pair[0])
	return unsafe.Pointer(pair[0]), unsafe.Pointer(pair[1])
}

// Filter puts a filter on one.
func (h *Host) Filter(under unsafe.Pointer, options int) unsafe.Pointer {
	return unsafe.Pointer(C.host_filter((*C.struct_bufferevent)(under), C.int(options)))
}

// FreeBufferEvent frees one.
func FreeBufferEvent(bev unsafe.Pointer) { C.bufferevent_free((*C.struct_bufferevent)(bev)) }

// The callbacks of a bufferevent.
const (
	OnRead  = C.EV_READ
	OnWrite = C.EV_WRITE
	OnEvent = C.BEV_EVENT_EOF
)

// SetCallbacks gives a bufferevent those of an echo that are in which, and no others.
func (h *Host) SetCallbacks(bev unsafe.Pointer, which int) {
	C.host_set_callbacks((*C.struct_bufferevent)(bev), C.int(which), h.count)
}

// Callbacks are the three of a bufferevent, and their argument.
func Callbacks(bev unsafe.Pointer) (c [4]uintptr) {
	var out [4]C.uintptr_t
	C.host_get_callbacks((*C.struct_bufferevent)(bev), &out[0])
	for i, p := range out {
		c[i] = uintptr(p)
	}
	return c
}

// Enabled are the EV_READ and EV_WRITE that are on.
func Enabled(bev unsafe.Pointer) int {
	return int(C.bufferevent_get_enabled((*C.struct_bufferevent)(bev)))
}

// Input is how many bytes it has read.
func Input(bev unsafe.Pointer) int {
	return int(C.evbuffer_get_length(C.bufferevent_get_input((*C.struct_bufferevent)(bev))))
}

// Limit gives a bufferevent a rate limit, which is freed after it.
func Limit(bev unsafe.Pointer) (limit unsafe.Pointer, free func()) {
	cfg := C.ev_token_bucket_cfg_new(1<<20, 1<<20, 1<<20, 1<<20, nil)
	C.bufferevent_set_rate_limit((*C.struct_bufferevent)(bev), cfg)
	return unsafe.Pointer(cfg), func() { C.ev_token_bucket_cfg_free(cfg) }
}

// Limited is the rate limit of a bufferevent, or nil.
func Limited(bev unsafe.Pointer) unsafe.Pointer {
	return unsafe.Pointer(C.bufferevent_get_token_bucket_cfg((*C.struct_bufferevent)(bev)))
}

// Unlimit takes it away.
func Unlimit(bev unsafe.Pointer) {
	C.bufferevent_set_rate_limit((*C.struct_bufferevent)(bev), nil)
}
