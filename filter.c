/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * filter.c: making a filter. How a panic in a filter function gets out of libevent's frames
 * is in thread.c.
 */

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "bev.h"
#include "callbacks.h"

static int why_not(const struct glev_bev *under)
{
	if (glev_bev_is_quiet(under))
		return GLEV_CLOSED;
	if (glev_bev_life(under) != GLEV_LIVE || under->stack.above || under->ending.shut)
		return -EBUSY;
	/* The functions of a filter could not use what a Peek shows. */
	return under->in.lent || under->out.lent ? GLEV_LENT : 0;
}

int glev_filter_put(struct glev_bev *under, struct glev_bev *above)
{
	int rc;

	glev_bev_lock(under);
	rc = why_not(under);
	if (rc < 0) {
		glev_bev_unlock(under);
		return rc;
	}
	under->stack.above = above;
	rc = glev_settle_try(under);
	if (rc < 0)
		glev_filter_is_put(under, 0);
	return rc;
}

void glev_filter_is_put(struct glev_bev *under, int indeed)
{
	if (!indeed)
		under->stack.above = NULL;
	glev_settle(under); /* libevent has enabled it, and has stopped its reading */
	glev_bev_start(under, 1);
	glev_bev_unlock(under);
}

/* Has libevent call the function for the input. */
static void look_again(struct glev_later *l)
{
	struct glev_bev *r = (struct glev_bev *)((char *)l - offsetof(struct glev_bev, stack.again));

	bufferevent_trigger(r->stack.under->bev, EV_READ, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
}

/* Whether libevent will call the function for the input again at once. */
static int goes_on(const struct glev_bev *r)
{
	return (bufferevent_get_enabled(r->bev) & EV_READ) && evbuffer_get_length(r->stack.under->in.evb) &&
	    !(r->mark.high && evbuffer_get_length(r->in.evb) >= r->mark.high);
}

/*
 * libevent calls the function as long as it gets on, and it may get on for very long: what a
 * peer has sent compressed can be as large as the peer likes. So after some calls the rest
 * waits for the next turn. Until then nothing is read below, because the end of the stream
 * must not be told before the rest. (The end of a pair does not come by reading. There all
 * is passed on at once, and it is not a peer who has sent it.)
 */
int glev_filter_rests(struct glev_bev *r, int got_on)
{
	struct glev_bev *under = r->stack.under;
	int more = got_on && goes_on(r);

	r->stack.steps = more ? r->stack.steps + 1 : 0;
	if (more && (r->stack.steps < GLEV_MOST_IN_A_TURN || !glev_base_on_loop(r->base) ||
	    glev_bev_bottom(r)->kind != GLEV_SOCKET))
		return 0;
	r->stack.steps = 0;
	if (more)
		glev_later(r->base, &r->stack.again);
	if (r->stack.rests != more) {
		r->stack.rests = (int8_t)more;
		glev_bev_lock(under);
		glev_settle_digest(under, more);
		glev_bev_unlock(under);
	}
	return more;
}

/* Whether libevent has given a filter the lock that it was asked for: it does not tell if there
 * was no memory for that. */
static int has_lock(struct bufferevent *bev, int options)
{
	return !(options & BEV_OPT_THREADSAFE) ||
	    evbuffer_enable_locking(bufferevent_get_input(bev), NULL) < 0;
}

static int watch(struct evbuffer *buf, struct glev_bev *r, struct evbuffer_cb_entry **cb)
{
	*cb = evbuffer_add_cb(buf, glev_on_filter_change, r);
	return *cb != NULL;
}

/* A filter's functions use four buffers. Whether a function has done anything shows in the
 * changes of these. */
static int count_changes(struct glev_bev *r)
{
	struct glev_bev *under = r->stack.under;
	struct evbuffer_cb_entry *own;

	return watch(under->in.evb, r, &r->stack.under_in_cb) &&
	    watch(under->out.evb, r, &r->stack.under_out_cb) &&
	    watch(r->in.evb, r, &own) && watch(r->out.evb, r, &own);
}

/* Takes a filter that cannot be used off again. */
static void take_off(struct glev_bev *r)
{
	struct glev_bev *under = r->stack.under;

	if (r->stack.under_in_cb)
		evbuffer_remove_cb_entry(under->in.evb, r->stack.under_in_cb);
	if (r->stack.under_out_cb)
		evbuffer_remove_cb_entry(under->out.evb, r->stack.under_out_cb);
	bufferevent_free(r->bev); /* that takes the callbacks of the one below away */
	glev_settle_callbacks(under, glev_bev_wants(under, GLEV_CB_WRITE));
}

struct glev_bev *glev_filter_new(struct glev_bev *under, int in, int out, int options, int loop_only, uintptr_t handle, int *err)
{
	struct bufferevent *bev;
	struct glev_bev *r = calloc(1, sizeof(*r));
	int put = 0;

	*err = ENOMEM;
	if (!r)
		return NULL;
	*err = -glev_filter_put(under, r);
	if (*err) {
		free(r);
		return NULL;
	}
	*err = ENOMEM;
	/* Go frees the bufferevent below, so libevent is not asked to. */
	r->stack.again.run = look_again;
	bev = bufferevent_filter_new(under->bev, in ? glev_on_filter_in : NULL,
	    out ? glev_on_filter_out : NULL, options & ~BEV_OPT_CLOSE_ON_FREE, NULL, r);
	if (bev) {
		r->stack.under = under;
		glev_bev_init(r, under->base, bev, GLEV_FILTER, options, loop_only, handle);
		put = has_lock(bev, options) && count_changes(r);
		if (!put)
			take_off(r);
	}
	glev_filter_is_put(under, put);
	if (!put) {
		free(r);
		return NULL;
	}
	return r;
}

/* Upward first, and without a lock: whoever has the lock of a filter may wait for those below. */
void glev_filter_abandon(struct glev_bev *r)
{
	struct glev_bev *p;
	struct bufferevent *bev = r->bev, *below;

	glev_filter_end();
	for (p = r->stack.above; p; p = p->stack.above)
		glev_buf_abandon(&p->in);
	for (; bev; bev = below) {
		below = bufferevent_get_underlying(bev);
		glev_evbuffer_abandon(bufferevent_get_input(bev));
	}
}
