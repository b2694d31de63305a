/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stall.c: the write timeout of filters and of the ends of pairs.
 *
 * libevent's own timer of a filter sees only what the filter passes on to the bufferevent below, and not
 * what that one writes. It starts again with each write of the program, so it does not pass while the
 * program goes on writing. And it runs after the last byte, so it passes on an idle connection. That of a
 * pair does not start until the other end takes something. So libevent is given no write timeout for
 * these.
 *
 * The timer here runs while bytes are left in the outputs of the stack. A byte that leaves the stack does
 * not restart the timer, because that would cost a call of libevent for each message. Instead, when the
 * timer passes, glev_stall_passes looks whether bytes have left the stack since the timer was started, or
 * whether the outputs were empty at some time. If so, the timer is started once more. If not, the timeout
 * is told.
 */

#include <errno.h>

#include "bev.h"
#include "callbacks.h"

static size_t left_in(struct bufferevent *bev)
{
	size_t left = 0;

	for (; bev; bev = bufferevent_get_underlying(bev))
		left += evbuffer_get_length(bufferevent_get_output(bev));
	return left;
}

/* How many bytes have left the bottom of the stack. The length of its output does not tell, because more is added. */
static uint64_t sent(struct glev_bev *r)
{
	struct glev_bev *bottom = glev_bev_bottom(r), *above = bottom->stack.above;

	if (r == bottom && r->type == GLEV_PAIR)
		return r->set.stall.taken;
	if (bottom->door)
		return bottom->door->sent(bottom->bev);
	if (bottom->type == GLEV_FILTER) /* C made it, and what is below it */
		return evbuffer_get_length(bufferevent_get_output(glev_bev_native_bottom(r)));
	return above && above->door ? above->door->sent(above->bev) : bottom->stack.sent;
}

static int writes(struct glev_bev *r)
{
	return ((r->off.held | bufferevent_get_enabled(r->bev)) & ~r->off.ended & EV_WRITE) && left_in(r->bev);
}

static int is_to_run(struct glev_bev *r)
{
	return evutil_timerisset(&r->set.stall.timeout) && !glev_bev_is_quiet(r) &&
	    glev_bev_bottom(r)->link != GLEV_GAVE_UP && writes(r);
}

static void run(struct glev_bev *r)
{
	r->set.stall.sent = sent(r);
	r->set.stall.anew = 0;
	r->set.stall.runs = event_add(r->set.stall.timer, &r->set.stall.timeout) == 0;
}

static void start(struct glev_bev *r)
{
	if (r->set.stall.runs || !evutil_timerisset(&r->set.stall.timeout))
		return;
	glev_stack_lock(r);
	if (is_to_run(r))
		run(r);
	glev_stack_unlock(r);
}

static void stop(struct glev_bev *r)
{
	if (r->set.stall.runs)
		event_del(r->set.stall.timer);
	r->set.stall.runs = 0;
}

int glev_stall_passes(struct glev_bev *r)
{
	/* While this waited for the lock, another thread may have stopped the timer, and started it again. */
	if (!r->set.stall.runs || event_pending(r->set.stall.timer, EV_TIMEOUT, NULL))
		return 0;
	r->set.stall.runs = 0;
	if (!is_to_run(r))
		return 0;
	/* Before there is a connection, no write timeout passes but that of the bufferevent which connects by name. */
	if (!r->set.stall.anew && r->set.stall.sent == sent(r) && !glev_bev_dials(glev_bev_bottom(r)))
		return 1;
	run(r);
	return 0;
}

void glev_stall_output(struct glev_bev *r, size_t before, size_t added, size_t taken)
{
	r->set.stall.taken += taken;
	if (added && !r->set.stall.runs)
		start(r);
	else if (added && !before && !r->set.stall.anew)
		r->set.stall.anew = !left_in(bufferevent_get_underlying(r->bev));
}

void glev_stall_renew(struct glev_bev *r)
{
	r->set.stall.anew = 1;
	start(r);
}

static int make(struct glev_bev *r)
{
	if (!r->set.stall.timer)
		r->set.stall.timer = event_new(r->base->base, -1, EV_FINALIZE, glev_on_stall, r);
	if (r->set.stall.timer && !r->set.stall.out_cb)
		r->set.stall.out_cb = evbuffer_add_cb(r->out.evb, glev_on_stall_output, r);
	return r->set.stall.out_cb ? 0 : -ENOMEM;
}

int glev_stall_set(struct glev_bev *r, const struct timeval *timeout)
{
	if (evutil_timerisset(timeout) && make(r) < 0)
		return -ENOMEM;
	stop(r);
	r->set.stall.timeout = *timeout;
	start(r);
	return 0;
}

void glev_stall_end(struct glev_bev *r)
{
	stop(r);
	if (r->host && r->set.stall.out_cb) { /* all other outputs are ours until libevent destroys them */
		evbuffer_remove_cb_entry(r->out.evb, r->set.stall.out_cb);
		r->set.stall.out_cb = NULL;
	}
}

void glev_stall_free(struct glev_bev *r)
{
	if (r->set.stall.timer)
		event_free(r->set.stall.timer);
}
