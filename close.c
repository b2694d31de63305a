/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * close.c: Free, and what C gets back.
 */

#include <stdlib.h>

#include "bev.h"
#include "callbacks.h"

/* --- wrapped bufferevents ------------------------------------------------------------ */

/* From now on callbacks are passed on to C's, which only the loop's thread may put back. */
void glev_bev_await(struct glev_bev *r)
{
	__atomic_store_n(&r->host->awaited, 1, __ATOMIC_RELEASE);
}

const struct glev_host *glev_bev_awaited(struct glev_bev *r)
{
	return r->host && __atomic_load_n(&r->host->awaited, __ATOMIC_ACQUIRE) ? r->host : NULL;
}

/* Gives a wrapped bufferevent back to C. Settings stay as they are. Callbacks that C has
 * changed meanwhile, or cleared by bufferevent_free, stay, too. A limit of ours goes, because
 * its memory is ours. */
static void give_back(struct glev_bev *r)
{
	const struct glev_host *h = r->host;
	int limited = r->set.rate && bufferevent_get_token_bucket_cfg(r->bev) == r->set.rate->cfg;
	void *arg;

	__atomic_store_n(&r->mark.high, 0, __ATOMIC_RELAXED); /* libevent stops at it for C */
	glev_settle(r);
	bufferevent_getcb(r->bev, NULL, NULL, NULL, &arg);
	if (limited)
		bufferevent_set_rate_limit(r->bev, NULL);
	if (arg == r) {
		bufferevent_setcb(r->bev, h->read, h->write, h->event, h->arg);
		if (limited && h->rate)
			bufferevent_set_rate_limit(r->bev, (struct ev_token_bucket_cfg *)h->rate);
	}
	r->ending.shut = 0;
	glev_buf_set_frozen(&r->in, h->in_frozen);
	glev_buf_set_frozen(&r->out, h->out_frozen);
}

/* --- quiet --------------------------------------------------------------------------- */

/* Removes what libevent would call of ours. */
static void unwatch(struct glev_bev *r)
{
	/* The callbacks of a filter on top stay; they find nothing to do. */
	if (!r->stack.above && !r->host)
		bufferevent_setcb(r->bev, NULL, NULL, NULL, NULL);
	if (r->ending.limit)
		event_del(r->ending.limit);
	glev_stall_end(r);
	if (r->mark.in_cb)
		evbuffer_remove_cb_entry(r->in.evb, r->mark.in_cb);
	r->mark.in_cb = NULL;
	if (r->host && r->fast.unsent_cb) { /* all other outputs are ours until libevent destroys them */
		evbuffer_remove_cb_entry(r->out.evb, r->fast.unsent_cb);
		r->fast.unsent_cb = NULL;
	}
	glev_shut_unwatch(r);
	glev_buf_out_of_file(&r->out);
}

/*
 * Another thread may call this while the loop's thread waits for the lock in libevent's own
 * read or write callback, and has already fetched the number of the descriptor. By the time the
 * loop's thread gets the lock, the number may belong to another file, from which it would read,
 * or to which it would write. So it must find nothing to do: the input has no room below its
 * high watermark, and the output is empty. The output is then also frozen, because other threads
 * may still be in a call that writes. (An output that is lent is left as it is: the loop's thread
 * has the loan, so it does not wait in libevent.)
 */
static int drop_descriptor(struct glev_bev *r)
{
	int fd = bufferevent_getfd(r->bev);

	if (!r->out.lent) {
		evbuffer_unfreeze(r->out.evb, 1);
		evbuffer_drain(r->out.evb, (size_t)-1);
	}
	glev_settle_overfill(r);
	glev_bev_give_fd(r, -1);
	return fd;
}

/* libevent does not tell the other end of a pair that this one is freed. But a FreeAfterFlush
 * there would wait in vain, a filter there may hold a part of a frame, and TLS has to know that
 * its stream was cut. */
static void tell_partner(struct glev_bev *r)
{
	struct glev_bev *partner = r->stack.partner;

	if (!partner)
		return;
	if (partner->ending.waits)
		event_active(partner->ending.waits, EV_WRITE, 0);
	if (partner->stack.above && !r->ending.finished)
		bufferevent_trigger_event(partner->bev, BEV_EVENT_EOF | BEV_EVENT_READING, BEV_TRIG_DEFER_CALLBACKS);
}

void glev_bev_quiet(struct glev_bev *r)
{
	int fd = -1;

	glev_bypass_drop(r);
	glev_stack_lock(r);
	if (r->host) {
		glev_bev_end_dial(r);
		give_back(r);
	}
	__atomic_store_n(&r->life, GLEV_QUIET, __ATOMIC_RELEASE);
	unwatch(r);
	if (r->door && r->door->quiet)
		r->door->quiet(r->bev);
	if (!r->host) {
		r->link = GLEV_UNLINKED;
		glev_settle_quiet(r);
		if (r->set.rate)
			bufferevent_set_rate_limit(r->bev, NULL);
		if (r->type == GLEV_SOCKET)
			fd = drop_descriptor(r);
		glev_buf_set_frozen(&r->in, GLEV_FRONT | GLEV_BACK);
		glev_buf_set_frozen(&r->out, GLEV_FRONT | GLEV_BACK);
		if (fd >= 0 && r->owns)
			evutil_closesocket(fd);
		tell_partner(r);
	}
	glev_stack_unlock(r);
}

/* --- free ---------------------------------------------------------------------------- */

static void release(struct bufferevent *bev)
{
	bufferevent_decref(bev);
}

/* The counterpart of carry in adopt.c. */
static void stop_carrying(struct glev_bev *r)
{
	int is_door = 0;

	for (; r && !is_door; r = r->stack.under) {
		glev_bev_lock(r);
		r->stack.carries = 0;
		is_door = r->door != NULL;
		glev_bev_unlock(r);
	}
}

/* Restores the callbacks of the bufferevent below a filter: ours, C's, or none if C has
 * freed it. */
static void leave_below(struct glev_bev *r, struct glev_bev *filter)
{
	bufferevent_event_cb on_event;
	int quiet;

	glev_bev_lock(r);
	quiet = glev_bev_is_quiet(r);
	r->stack.above = NULL;
	if (filter->door)
		stop_carrying(r);
	r->stack.digesting = 0;
	if (filter->stack.under_in_cb)
		evbuffer_remove_cb_entry(r->in.evb, filter->stack.under_in_cb);
	if (filter->stack.under_out_cb)
		evbuffer_remove_cb_entry(r->out.evb, filter->stack.under_out_cb);
	bufferevent_getcb(r->bev, NULL, NULL, &on_event, NULL);
	bufferevent_setcb(r->bev, NULL, NULL, NULL, NULL);
	if (!quiet || (r->host && on_event)) {
		glev_settle_set_callbacks(r, glev_bev_wants(r, GLEV_CB_WRITE));
		glev_settle(r);
		glev_bev_tell_open(r);
	}
	filter->owed.kept |= filter->owed.passed;
	glev_settle_tell_kept(filter);
	if (quiet && r->host)
		give_back(r);
	glev_bev_unlock(r);
}

static void leave_partner(struct glev_bev *r)
{
	glev_bev_lock(r);
	if (r->stack.partner)
		r->stack.partner->stack.partner = NULL;
	glev_bev_unlock(r);
}

/* libevent destroys a bufferevent some turns after it is freed, and then its buffers. So the door
 * learns of that from a byte in the input, whose memory libevent gives back (glev_on_destroyed).
 * The byte was made with the record, because here there may be no memory. */
static void tell_door(struct glev_bev *r)
{
	if (!r->door)
		return;
	evbuffer_unfreeze(r->in.evb, 0);
	evbuffer_add_buffer(r->in.evb, r->ending.last_byte);
	evbuffer_free(r->ending.last_byte);
}

/* libevent itself empties the buffers of a pair or a filter some turns after it has freed that. By
 * then the base may not exist any more, which has to know of references that are given back. The
 * buffers of a wrapped bufferevent stay as they are. */
static void empty(struct glev_bev *r, struct glev_buf *b)
{
	glev_buf_cb_remove_all(b);
	if (r->host)
		return;
	evbuffer_unfreeze(b->evb, 1);
	evbuffer_drain(b->evb, (size_t)-1);
}

void glev_bev_free(struct glev_bev *r)
{
	empty(r, &r->in);
	empty(r, &r->out);
	if (r->stack.under)
		leave_below(r->stack.under, r);
	if (r->type == GLEV_PAIR)
		leave_partner(r);
	glev_fast_free(r);
	glev_later_forget(r->base, &r->stack.again);
	tell_door(r);
	(r->host ? release : bufferevent_free)(r->bev);
	if (r->ending.limit)
		event_free(r->ending.limit);
	if (r->ending.flushed)
		event_free(r->ending.flushed);
	glev_stall_free(r);
	glev_bucket_free(r->set.rate);
	free(r);
}

void glev_bev_abandon(struct glev_bev *r)
{
	glev_bev_lock(r);
	empty(r, &r->in);
	empty(r, &r->out);
	glev_bev_unlock(r);
	if (r->host)
		release(r->bev);
}
