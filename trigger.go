package libevent

/*
#include "native.h"
*/
import "C"

// Trigger has the read closure, the write closure or both called by the loop as if
// bytes had come or gone, if the watermarks allow it.
// Safe for concurrent use. Wraps bufferevent_trigger.
func (b *BufferEvent) Trigger(what What, flags TriggerFlags) error {
	const op = "bufferevent_trigger"
	if err := direction(op, what); err != nil {
		return err
	}
	if unknown := flags &^ TriggerIgnoreWatermarks; unknown != 0 {
		return badArgument(op, "flags: unknown bits %v", unknown)
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_bev_trigger(b.c, C.short(what), C.int(flags)) })
	return err
}

// TriggerEvent has the event closure called by the loop with what. Err then tells of
// no cause for an EventError.
// Safe for concurrent use. Wraps bufferevent_trigger_event.
func (b *BufferEvent) TriggerEvent(what Events) error {
	const op = "bufferevent_trigger_event"
	if what == 0 {
		return badArgument(op, "what is 0")
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_bev_trigger_event(b.c, C.short(what)) })
	return err
}

// Partner returns the other end of a pair, or nil when that is freed, or this is not
// an end of a pair. Safe for concurrent use. Wraps bufferevent_pair_get_partner.
func (b *BufferEvent) Partner() *BufferEvent {
	if b.partner == nil || !b.partner.isOpen() || !b.isOpen() {
		return nil
	}
	return b.partner
}

// SetPriority sets the priority of a socket's events, 0 (first) to one less than
// Config.Priorities. Best on a new bufferevent: once it has been enabled it fails with
// EBUSY while anything is due in the loop, for libevent does not tell whether that is
// a callback of this one.
// Loop goroutine only, or any goroutine while no loop runs, or while it was never
// enabled or written to (but with OptPlainIO). Wraps bufferevent_priority_set.
func (b *BufferEvent) SetPriority(priority int) error {
	const op = "bufferevent_priority_set"
	if err := b.Base().checkPriority(op, priority); err != nil {
		return err
	}
	_, err := b.do(op, func() C.int64_t { return C.glev_bev_set_priority(b.c, C.int(priority)) })
	return err
}

// Priority returns the priority; that of a pair or a filter is always the middle one.
// Safe for concurrent use. Wraps bufferevent_get_priority.
func (b *BufferEvent) Priority() int {
	n, _ := b.do("bufferevent_get_priority", func() C.int64_t { return C.glev_bev_priority(b.c) })
	return n
}
