// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include "native.h"
*/
import "C"

import (
	"fmt"
	"math"
	"sync"
	"syscall"
	"time"
)

// RateLimit bounds how many bytes are read and written. In each Tick ReadRate more bytes may be
// read, and WriteRate more bytes written. What is not used is saved, up to ReadBurst and
// WriteBurst, so after a pause that many bytes may be read or written at once. A number above
// 2 GiB - 1 counts as 2 GiB - 1, because libevent keeps it in an int. With TLS a direction
// without a limit gets that number as its limit.
type RateLimit struct {
	ReadRate   int           // bytes per Tick; 0 means unlimited
	ReadBurst  int           // bytes, at least ReadRate; 0 means ReadRate
	WriteRate  int           // bytes per Tick; 0 means unlimited
	WriteBurst int           // bytes, at least WriteRate; 0 means WriteRate
	Tick       time.Duration // whole milliseconds; 0 means one second
}

// native checks the limit and converts it. libevent 2.1 itself accepts a tick below one
// millisecond, and divides by zero later.
func (l RateLimit) native(op string) (C.struct_glev_rate, error) {
	var c C.struct_glev_rate
	direction := func(name string, rate, burst int) (C.size_t, C.size_t, error) {
		switch {
		case rate < 0 || burst < 0:
			return 0, 0, fmt.Errorf("%sRate or %sBurst is negative: %d, %d", name, name, rate, burst)
		case burst > 0 && burst < rate:
			return 0, 0, fmt.Errorf("%sBurst %d is below %sRate %d", name, burst, name, rate)
		case burst > 0 && rate == 0:
			return 0, 0, fmt.Errorf("%sBurst %d without %sRate", name, burst, name)
		}
		return C.size_t(min(rate, math.MaxInt32)), C.size_t(min(max(rate, burst), math.MaxInt32)), nil
	}
	var err error
	if c.read_rate, c.read_burst, err = direction("Read", l.ReadRate, l.ReadBurst); err != nil {
		return c, badArgument(op, "%v", err)
	}
	if c.write_rate, c.write_burst, err = direction("Write", l.WriteRate, l.WriteBurst); err != nil {
		return c, badArgument(op, "%v", err)
	}
	tick := l.Tick
	if tick == 0 {
		tick = time.Second
	}
	if tick < time.Millisecond || tick%time.Millisecond != 0 || tick.Milliseconds() > math.MaxInt32 {
		return c, badArgument(op, "Tick is %v, not 1 ms to %v in whole milliseconds", l.Tick, math.MaxInt32*time.Millisecond)
	}
	c.tick_msec = C.int64_t(tick.Milliseconds())
	return c, nil
}

// SetRateLimit limits how fast this bufferevent reads and writes; nil removes the limit. Only
// sockets can be limited, with TLS or without. Under a limit libevent does the reading and
// writing, without the fast path.
// Wraps bufferevent_set_rate_limit, ev_token_bucket_cfg_new.
func (b *BufferEvent) SetRateLimit(limit *RateLimit) error {
	const op = "bufferevent_set_rate_limit"
	if limit == nil {
		_, err := b.do(op, func() C.int64_t { return C.glev_bev_set_rate(b.c, nil) })
		return err
	}
	c, err := limit.native(op)
	if err != nil {
		return err
	}
	_, err = b.do(op, func() C.int64_t { return C.glev_bev_set_rate(b.c, &c) })
	return err
}

// ReadLimit returns how many bytes may be read before the next tick. The number is negative
// if more bytes were read or taken than the limit allows, and very large without a limit.
// Wraps bufferevent_get_read_limit.
func (b *BufferEvent) ReadLimit() int { return b.level(C.GLEV_READ_LIMIT) }

// WriteLimit returns how many bytes may be written before the next tick. The number is
// negative or very large in the same cases as that of ReadLimit.
// Wraps bufferevent_get_write_limit.
func (b *BufferEvent) WriteLimit() int { return b.level(C.GLEV_WRITE_LIMIT) }

// TakeReadLimit subtracts n bytes from what may be read in this tick, for bytes that came in
// another way. A negative n adds bytes; if the sum is more than the burst, the error is ERANGE.
// Wraps bufferevent_decrement_read_limit.
func (b *BufferEvent) TakeReadLimit(n int) error {
	return b.take("bufferevent_decrement_read_limit", C.GLEV_READ_LIMIT, n)
}

// TakeWriteLimit subtracts n bytes from what may be written in this tick. A negative n adds
// bytes; if the sum is more than the burst, the error is ERANGE.
// Wraps bufferevent_decrement_write_limit.
func (b *BufferEvent) TakeWriteLimit(n int) error {
	return b.take("bufferevent_decrement_write_limit", C.GLEV_WRITE_LIMIT, n)
}

// MaxToRead returns how many bytes libevent would read at once now, considering all
// limits.
// Wraps bufferevent_get_max_to_read.
func (b *BufferEvent) MaxToRead() int { return b.level(C.GLEV_MAX_TO_READ) }

// MaxToWrite returns how many bytes libevent would write at once now, considering all
// limits.
// Wraps bufferevent_get_max_to_write.
func (b *BufferEvent) MaxToWrite() int { return b.level(C.GLEV_MAX_TO_WRITE) }

// SetMaxSingleRead bounds one read, in bytes; 0 means libevent's default of 16384. libevent
// 2.1 never reads more than 4096 bytes at once. SetRateLimit replaces the bound. While a bound
// is set, libevent does the reading and writing, without the fast path.
// Wraps bufferevent_set_max_single_read.
func (b *BufferEvent) SetMaxSingleRead(n int) error {
	return b.setMaxSingle("bufferevent_set_max_single_read", 1, n)
}

// MaxSingleRead returns the bound of one read, in bytes.
// Wraps bufferevent_get_max_single_read.
func (b *BufferEvent) MaxSingleRead() int { return b.level(C.GLEV_MAX_SINGLE_READ) }

// SetMaxSingleWrite bounds one write, in bytes; 0 means libevent's default of 16384.
// SetRateLimit replaces the bound. While a bound is set, libevent does the reading and writing,
// without the fast path.
// Wraps bufferevent_set_max_single_write.
func (b *BufferEvent) SetMaxSingleWrite(n int) error {
	return b.setMaxSingle("bufferevent_set_max_single_write", 0, n)
}

// MaxSingleWrite returns the bound of one write, in bytes.
// Wraps bufferevent_get_max_single_write.
func (b *BufferEvent) MaxSingleWrite() int { return b.level(C.GLEV_MAX_SINGLE_WRITE) }

func (b *BufferEvent) level(which C.int) int {
	var n C.int64_t
	_, _ = b.do("bufferevent_get_limit", func() C.int64_t { return C.glev_bev_level(b.c, which, &n) })
	return int(n)
}

func (b *BufferEvent) take(op string, which C.int, n int) error {
	_, err := b.do(op, func() C.int64_t { return C.glev_bev_take(b.c, which, C.int64_t(n)) })
	return err
}

func (b *BufferEvent) setMaxSingle(op string, reading C.int, n int) error {
	if n < 0 {
		return badArgument(op, "n is negative: %d", n)
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_bev_set_max_single(b.c, reading, C.size_t(n)) })
	return err
}

// RateLimitGroup is a rate limit that several bufferevents of one base share. A member may
// also have a limit of its own. The group has a timer, so Dispatch does not return before the
// group is freed. Its methods are safe for concurrent use.
type RateLimitGroup struct {
	object
	c *C.struct_bufferevent_rate_limit_group

	mu      sync.Mutex
	limit   C.struct_glev_rate
	members map[*BufferEvent]struct{}
}

// NewRateLimitGroup makes a rate limit group without members on this base.
// Wraps bufferevent_rate_limit_group_new.
func (b *Base) NewRateLimitGroup(limit RateLimit) (*RateLimitGroup, error) {
	const op = "bufferevent_rate_limit_group_new"
	c, err := limit.native(op)
	if err != nil {
		return nil, err
	}
	if err := b.enterAlive(op); err != nil {
		return nil, err
	}
	defer b.leave()
	g := &RateLimitGroup{
		object:  object{base: b, kind: kindGroup},
		limit:   c,
		members: map[*BufferEvent]struct{}{},
	}
	g.c = C.glev_group_new(b.c, &c)
	if g.c == nil {
		return nil, &Error{Op: op, Err: syscall.ENOMEM}
	}
	g.free = g.freeNative
	b.register(&g.object, g)
	return g, nil
}

// Add makes bev a member. bev is a socket, with TLS or without, on the base of the group. A
// member of another group must be removed from that group first.
// Wraps bufferevent_add_to_rate_limit_group.
func (g *RateLimitGroup) Add(bev *BufferEvent) error {
	const op = "bufferevent_add_to_rate_limit_group"
	if bev == nil {
		return badArgument(op, "bev is nil")
	}
	if !bev.enter() {
		return ErrClosed
	}
	defer bev.leave()
	if bev.base != g.base {
		return badArgument(op, "bev is on another base")
	}
	if !g.enter() {
		return ErrClosed
	}
	defer g.leave()
	var other *RateLimitGroup
	_, err := bev.do(op, func() (rc C.int64_t) {
		other, rc = g.add(bev)
		return rc
	})
	if err == nil && other != nil && other != g {
		return badArgument(op, "bev is in another group")
	}
	return err
}

// add makes bev a member, unless bev is in a group already, which add then returns. Another
// group, with a mutex of its own, may do the same at this moment, so the field of bev decides
// which of the two gets bev. The caller may hold own or not, so nothing that waits for own is
// called with mu locked.
func (g *RateLimitGroup) add(bev *BufferEvent) (other *RateLimitGroup, rc C.int64_t) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for !bev.group.CompareAndSwap(nil, g) {
		if other = bev.group.Load(); other != nil {
			return other, 0
		}
	}
	if rc = C.glev_group_add(g.c, bev.c); rc != 0 {
		bev.group.Store(nil)
		return nil, rc
	}
	g.members[bev] = struct{}{}
	return nil, 0
}

// Remove removes bev from the group; to free bev or the group does so, too. If Remove is called
// on another goroutine while the loop runs, it takes effect in a later turn.
// Wraps bufferevent_remove_from_rate_limit_group.
func (g *RateLimitGroup) Remove(bev *BufferEvent) error {
	const op = "bufferevent_remove_from_rate_limit_group"
	if bev == nil {
		return badArgument(op, "bev is nil")
	}
	if !g.enter() {
		return ErrClosed
	}
	defer g.leave()
	if !bev.enter() {
		return ErrClosed
	}
	if bev.group.Load() != g {
		bev.leave()
		return badArgument(op, "bev is not in this group")
	}
	bev.leaveAtLoop(func() { g.drop(bev) })
	return nil
}

// drop removes a member. It runs on the loop's thread, or while no loop runs.
func (g *RateLimitGroup) drop(bev *BufferEvent) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.members[bev]; ok {
		delete(g.members, bev)
		release(bev)
	}
}

// release lets another group have bev, once libevent has taken it out of its group.
func release(bev *BufferEvent) {
	C.glev_group_remove(bev.c)
	bev.group.Store(nil)
}

// freeNative removes all members and frees the group's memory.
func (g *RateLimitGroup) freeNative() {
	g.mu.Lock()
	members := g.members
	g.members = nil
	for bev := range members {
		release(bev)
	}
	g.mu.Unlock()
	C.bufferevent_rate_limit_group_free(g.c)
}

// SetLimit changes the limit of the group. The Tick must be that of NewRateLimitGroup: with
// another one, libevent would misread the ticks that it has counted so far, and might not
// refill the group for days.
// Wraps bufferevent_rate_limit_group_set_cfg.
func (g *RateLimitGroup) SetLimit(limit RateLimit) error {
	const op = "bufferevent_rate_limit_group_set_cfg"
	c, err := limit.native(op)
	if err != nil {
		return err
	}
	if !g.enter() {
		return ErrClosed
	}
	defer g.leave()
	g.mu.Lock()
	defer g.mu.Unlock()
	if tick := g.limit.tick_msec; c.tick_msec != tick {
		return badArgument(op, "Tick is %v, not the %v that the group was made with", limit.Tick, time.Duration(tick)*time.Millisecond)
	}
	rc := C.glev_group_set(g.c, &c)
	if rc == 0 {
		g.limit = c
	}
	_, err = result(op, rc)
	return err
}

// SetMinShare sets how many bytes a member may move at least if it may move any, so that a
// group with many members does not move one byte at a time. libevent's default is 64.
// Wraps bufferevent_rate_limit_group_set_min_share.
func (g *RateLimitGroup) SetMinShare(n int) error {
	const op = "bufferevent_rate_limit_group_set_min_share"
	if n < 0 {
		return badArgument(op, "n is negative: %d", n)
	}
	if !g.enter() {
		return ErrClosed
	}
	defer g.leave()
	_, err := result(op, C.int64_t(C.bufferevent_rate_limit_group_set_min_share(g.c, C.size_t(n))))
	return err
}

// Totals returns how many bytes the members have read and written since the group was
// made, or since ResetTotals.
// Wraps bufferevent_rate_limit_group_get_totals.
func (g *RateLimitGroup) Totals() (read, written uint64) {
	if !g.enter() {
		return 0, 0
	}
	defer g.leave()
	var r, w C.uint64_t
	C.glev_group_totals(g.c, &r, &w)
	return uint64(r), uint64(w)
}

// ResetTotals sets the totals to 0.
// Wraps bufferevent_rate_limit_group_reset_totals.
func (g *RateLimitGroup) ResetTotals() error {
	if !g.enter() {
		return ErrClosed
	}
	defer g.leave()
	C.bufferevent_rate_limit_group_reset_totals(g.c)
	return nil
}

// ReadLimit returns how many bytes the members together may read before the next tick. The
// number may be negative.
// Wraps bufferevent_rate_limit_group_get_read_limit.
func (g *RateLimitGroup) ReadLimit() int {
	if !g.enter() {
		return 0
	}
	defer g.leave()
	return int(C.bufferevent_rate_limit_group_get_read_limit(g.c))
}

// WriteLimit returns how many bytes the members together may write before the next tick. The
// number may be negative.
// Wraps bufferevent_rate_limit_group_get_write_limit.
func (g *RateLimitGroup) WriteLimit() int {
	if !g.enter() {
		return 0
	}
	defer g.leave()
	return int(C.bufferevent_rate_limit_group_get_write_limit(g.c))
}

// TakeReadLimit subtracts n bytes from what the members may read in this tick. A negative n
// adds bytes; if the sum is more than the burst, the error is ERANGE.
// Wraps bufferevent_rate_limit_group_decrement_read.
func (g *RateLimitGroup) TakeReadLimit(n int) error {
	return g.take("bufferevent_rate_limit_group_decrement_read", C.GLEV_READ_LIMIT, n)
}

// TakeWriteLimit subtracts n bytes from what the members may write in this tick. A negative n
// adds bytes; if the sum is more than the burst, the error is ERANGE.
// Wraps bufferevent_rate_limit_group_decrement_write.
func (g *RateLimitGroup) TakeWriteLimit(n int) error {
	return g.take("bufferevent_rate_limit_group_decrement_write", C.GLEV_WRITE_LIMIT, n)
}

func (g *RateLimitGroup) take(op string, which C.int, n int) error {
	if !g.enter() {
		return ErrClosed
	}
	defer g.leave()
	g.mu.Lock() // the limit stays, and no other goroutine takes meanwhile
	defer g.mu.Unlock()
	burst := g.limit.read_burst
	if which == C.GLEV_WRITE_LIMIT {
		burst = g.limit.write_burst
	}
	_, err := result(op, C.glev_group_take(g.c, which, C.int64_t(n), burst))
	return err
}

// Free removes all members, which go on without the limit of the group, and frees the group's
// memory. If Free is called on another goroutine while the loop runs, it takes effect in a
// later turn.
// Wraps bufferevent_rate_limit_group_free.
func (g *RateLimitGroup) Free() {
	if g.close() {
		g.leave()
	}
}
