/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * filter.c: making a filter, and what comes to it from below. How a panic in a filter function
 * gets out of libevent's frames is in thread.c.
 */

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include <event2/bufferevent.h>
#include <event2/bufferevent_struct.h>

#include "bev.h"
#include "callbacks.h"

/* --- putting one bufferevent on another -------------------------------------------- */

/* Why a filter cannot be put on it, or 0. */
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
		glev_filter_end_put(under, 0);
	return rc;
}

void glev_filter_end_put(struct glev_bev *under, int succeeded)
{
	if (!succeeded)
		under->stack.above = NULL;
	/* libevent has enabled the bufferevent below, but does not move what has been waiting for
	 * that, unless one of the two is TLS, which does so. But TLS on a socket does not read what
	 * OpenSSL has already. */
	if (succeeded && !under->door && !under->stack.above->door)
		glev_settle_on(under, EV_READ | EV_WRITE);
	else
		glev_settle(under);
	glev_settle_remind(under);
	glev_bev_start(under, 1);
	glev_bev_unlock(under);
}

/* --- the function for the input ------------------------------------------------------ */

static void look_again(struct glev_later *l)
{
	glev_settle_ask_filter((struct glev_bev *)((char *)l - offsetof(struct glev_bev, stack.again)), EV_READ);
}

/* Whether libevent will call the function for the input again at once. */
static int goes_on(const struct glev_bev *r)
{
	return (bufferevent_get_enabled(r->bev) & EV_READ) && evbuffer_get_length(r->stack.under->in.evb) &&
	    !(r->mark.high && evbuffer_get_length(r->in.evb) >= r->mark.high);
}

/*
 * libevent calls the function again and again while the function moves something, which may be
 * for very long: a few compressed bytes can stand for as many as the peer likes. So after some
 * calls the rest waits for the next turn. Until then nothing is read below, because the end of
 * the stream must not be told before the rest. (The end of a pair does not come by reading. There
 * everything is passed on at once: both ends of a pair belong to this process.)
 */
int glev_filter_rests(struct glev_bev *r, int got_on)
{
	struct glev_bev *under = r->stack.under;
	int more = got_on && goes_on(r);

	r->stack.steps = more ? r->stack.steps + 1 : 0;
	if (more && (r->stack.steps < GLEV_MOST_IN_A_TURN || !glev_base_on_loop(r->base) ||
	    glev_bev_bottom(r)->type != GLEV_SOCKET))
		return 0;
	r->stack.steps = 0;
	if (more)
		glev_later(r->base, &r->stack.again);
	if (r->stack.rests != more) {
		r->stack.rests = (int8_t)more;
		glev_bev_lock(under);
		glev_settle_digest(under, more);
		glev_bev_unlock(under);
		if (!more)
			glev_settle_tell_kept(r);
	}
	return more;
}

/* --- events from below ----------------------------------------------------------- */

/*
 * libevent passes every event of the bufferevent below on to the filter at once. So callbacks of
 * ours are in between:
 *
 *  - The end of the stream, or an error of reading, must not be told before the bytes that came before
 *    it. If these wait below because the filter does not read, the end waits for them.
 *  - What a filter was told but has not told when it is freed is an event of the bufferevent below,
 *    which tells it then.
 *  - When libevent destroys a filter, it removes its callbacks from the bufferevent below, and may
 *    remove those of another filter, which was put on meanwhile. Ours it does not know.
 */

static int waits_below(const struct glev_bev *r)
{
	return evbuffer_get_length(r->stack.under->in.evb) &&
	    (r->stack.rests || !(bufferevent_get_enabled(r->bev) & EV_READ));
}

/* Whether there is something to write above what has failed, which is the door below, or the bottom. */
static int has_output(const struct glev_bev *r)
{
	for (; r; r = r->door ? NULL : r->stack.under)
		if (evbuffer_get_length(r->out.evb))
			return 1;
	return 0;
}

/* Whether an end has to wait: for what waits below, as long as it goes on, or the filter does not read. A pair may have
 * brought it between libevent's calls of the read callback and of the event callback; and without
 * BEV_OPT_DEFER_CALLBACKS libevent passes on no more in one call than the filter's high mark, if what is above takes
 * that at once. So it is passed on before the end is told again. An error may have ended writing as well, and the
 * program may not read before its output is written. So an error does not wait for the filter to read if there is
 * something to write. */
static int holds_back(struct glev_bev *r, int is_error)
{
	size_t left = evbuffer_get_length(r->stack.under->in.evb);
	int waits = waits_below(r) && !(is_error && has_output(r));

	r->stack.put_off = waits || left == r->stack.put_off ? 0 : left;
	return waits || r->stack.put_off;
}

/* TLS says its end again with each read, and what is on it has it read for reasons of its own. To the program one
 * end is enough, until the program enables reading again or there is another connection. Returns what is new. */
short glev_filter_news(struct glev_bev *r, short what)
{
	const short end = BEV_EVENT_EOF | BEV_EVENT_READING;
	int again = r->owed.end_passed;

	if (what & BEV_EVENT_CONNECTED)
		r->owed.end_passed = 0;
	if ((what & end) != end || r->stack.above || !glev_bev_carrier(r)->door)
		return what;
	r->owed.end_passed = 1;
	/* An error without a direction would stand for both, so only that of a write is told without the end. */
	return again && (what == end || (what & BEV_EVENT_WRITING)) ? what & ~end : what;
}

static void keep(struct glev_bev *r, short what, int err)
{
	r->owed.kept |= what;
	if (err)
		r->owed.kept_err = err;
}

void glev_filter_told(struct glev_bev *r, short what)
{
	if (!r->stack.feed)
		return;
	glev_bev_lock(r);
	r->owed.passed &= ~what;
	glev_bev_unlock(r);
}

void glev_filter_feed_event(struct glev_bev *r, short what, int err)
{
	const struct glev_feed *feed = r->stack.feed;
	/* That writing has failed is no reason to wait. */
	const short end = BEV_EVENT_EOF | (what & BEV_EVENT_WRITING ? 0 : BEV_EVENT_ERROR);
	short kept = 0;

	glev_bev_lock(r);
	if (glev_bev_is_quiet(r))
		kept = what;
	else if ((what & end) && !glev_bev_is_flushing(r) && holds_back(r, what & end & BEV_EVENT_ERROR))
		kept = what & (end | BEV_EVENT_READING);
	glev_filter_told(r->stack.under, what);
	what = kept | glev_filter_news(r, what & ~kept);
	keep(r, kept, err);
	r->owed.passed |= glev_event_lasting(what & ~kept);
	if (r->stack.put_off) {
		glev_settle_ask_filter(r, EV_READ);
		glev_settle_tell_kept(r);
	}
	glev_bev_unlock(r);
	if (what & ~kept) {
		errno = err;
		feed->event(r->stack.under->bev, what & ~kept, feed->arg);
	}
}

/* --- making -------------------------------------------------------------------------- */

static void feed(struct glev_bev *r)
{
	struct bufferevent *under = r->stack.under->bev;
	struct glev_feed *f = r->stack.feed = (struct glev_feed *)(r + 1);

	bufferevent_getcb(under, &f->read, &f->write, &f->event, &f->arg);
	bufferevent_setcb(under, glev_on_below_read, glev_on_below_write, glev_on_below_event, r);
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
	bufferevent_free(r->bev);
	/* Or glev_settle_set_callbacks would leave the filter's write callback there. */
	bufferevent_setcb(under->bev, NULL, NULL, NULL, NULL);
	glev_settle_set_callbacks(under, glev_bev_wants(under, GLEV_CB_WRITE));
}

struct glev_bev *glev_filter_new(struct glev_bev *under, int in, int out, int options, int loop_only, uintptr_t handle, int *err)
{
	struct bufferevent *bev;
	struct glev_bev *r = calloc(1, sizeof(*r) + sizeof(struct glev_feed));
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
	r->stack.asks = (in ? EV_READ : 0) | (out ? EV_WRITE : 0);
	bev = bufferevent_filter_new(under->bev, glev_on_filter_in, glev_on_filter_out, options & ~BEV_OPT_CLOSE_ON_FREE, NULL, r);
	if (bev) {
		r->stack.under = under;
		feed(r);
		glev_bev_init(r, under->base, bev, GLEV_FILTER, options, loop_only, handle);
		put = has_lock(bev, options) && count_changes(r);
		if (!put)
			take_off(r);
	}
	glev_filter_end_put(under, put);
	if (!put) {
		free(r);
		return NULL;
	}
	return r;
}

/* Upward first, and without a lock: a thread that has the lock of a filter may be waiting for the
 * locks below it. */
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
