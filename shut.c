/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shut.c: the end of the writing side of a stack, by CloseWrite or as a part of FreeAfterFlush.
 */

#include <errno.h>
#include <sys/socket.h>

#include "bev.h"
#include "callbacks.h"

/* --- questions ------------------------------------------------------------------ */

/* If C made the pair, its ends have no records. */
int glev_bev_on_pair(struct glev_bev *r)
{
	return glev_bev_bottom(r)->type == GLEV_PAIR ||
	    bufferevent_pair_get_partner(glev_bev_native_bottom(r)) != NULL;
}

int glev_shut_is_written(struct bufferevent *bev)
{
	for (; bev; bev = bufferevent_get_underlying(bev))
		if (evbuffer_get_length(bufferevent_get_output(bev)))
			return 0;
	return 1;
}

int glev_shut_all_written(struct glev_bev *r)
{
	return glev_shut_is_written(r->bev);
}

static struct evbuffer *bottom_output(struct glev_bev *r)
{
	return bufferevent_get_output(glev_bev_native_bottom(r));
}

/* --- closing the writing side ------------------------------------------------------ */

int glev_shut_watch(struct glev_bev *r)
{
	struct glev_ending *e = &r->ending;

	if (!e->flushed)
		e->flushed = event_new(r->base->base, -1, EV_FINALIZE, glev_on_bev_flushed, r);
	if (e->flushed && !e->out_cb)
		e->out_cb = evbuffer_add_cb(bottom_output(r), glev_on_output, e->flushed);
	if (!e->out_cb)
		return -ENOMEM;
	glev_bev_bottom(r)->ending.waits = e->flushed;
	return 0;
}

void glev_shut_unwatch(struct glev_bev *r)
{
	struct glev_bev *bottom = glev_bev_bottom(r);

	if (r->ending.flushed)
		event_del(r->ending.flushed);
	if (r->ending.out_cb)
		evbuffer_remove_cb_entry(bottom_output(r), r->ending.out_cb);
	r->ending.out_cb = NULL;
	if (bottom->ending.waits == r->ending.flushed)
		bottom->ending.waits = NULL;
}

int glev_shut_retry(struct glev_bev *r, int msec)
{
	struct timeval tv = {msec / 1000, msec % 1000 * 1000};

	return event_add(r->ending.flushed, &tv);
}

/* A flush moves bytes whatever is enabled, down a stack of filters and to the other end of a
 * pair. */
int glev_bev_flush_meets_loan(const struct glev_bev *r)
{
	const struct glev_bev *partner;

	for (; r; r = r->stack.under) {
		partner = r->stack.partner;
		if (r->type != GLEV_SOCKET && (r->in.lent || r->out.lent ||
		    (partner && (partner->in.lent || partner->out.lent))))
			return 1;
	}
	return 0;
}

/* A bufferevent with a door does not pass a flush on, so the other end is not told then. */
int64_t glev_bev_flush_native(struct glev_bev *r, short what, enum bufferevent_flush_mode mode)
{
	if ((what & EV_WRITE) && mode == BEV_FINISHED && !glev_bev_carrier(r)->door)
		glev_bev_bottom(r)->ending.finished = 1;
	return bufferevent_flush(r->bev, what, mode);
}

static void set_finishing(struct glev_bev *filter, int on)
{
	for (; filter->stack.under; filter = filter->stack.under)
		filter->ending.finishing = (int8_t)on;
}

/* Has the functions of a filter, and of the filters below it, write what they still hold. libevent would also tell the
 * other end of a pair of the end, before all that is written has room there. So the functions alone are told that this
 * is the end, if it is the last that they get. (Filters that C made are not known here.) */
static void finish_filters(struct glev_bev *filter, int last)
{
	if (!filter->stack.under) {
		glev_bev_flush_native(filter, EV_WRITE, last ? BEV_FINISHED : BEV_FLUSH);
		return;
	}
	set_finishing(filter, last);
	bufferevent_flush(filter->bev, EV_WRITE, BEV_FLUSH);
	set_finishing(filter, 0);
}

static int has_shut_door(struct glev_bev *r)
{
	return r->ending.shut == GLEV_SHUT_DONE && glev_bev_carrier(r)->door;
}

/* A door does not pass a flush on. The functions of the filters below it come when it has shut, and what it has written
 * is with them. */
static struct glev_bev *filter_below_door(struct glev_bev *r)
{
	for (r = r->stack.under; r; r = r->stack.under)
		if (r->type == GLEV_FILTER && !r->door && r->stack.above->door)
			return r;
	return NULL;
}

static int is_written_above(const struct glev_bev *r, const struct glev_bev *filter)
{
	for (; r != filter; r = r->stack.under)
		if (evbuffer_get_length(r->out.evb))
			return 0;
	return 1;
}

/* The functions of a filter could not use a buffer that is lent. A loan is on the loop's thread,
 * so it has ended when that thread calls the flushed event. After a CloseWrite a door may still have to answer its
 * peer. */
static void finish(struct glev_bev *r)
{
	struct glev_bev *filter;

	while ((filter = r->ending.unfinished) != NULL) {
		if (glev_bev_flush_meets_loan(filter) || !is_written_above(r, filter)) {
			if (r->ending.flushed)
				glev_shut_retry(r, filter == r ? 0 : 10);
			return;
		}
		finish_filters(filter, !has_shut_door(r) || glev_bev_is_flushing(r));
		r->ending.unfinished = has_shut_door(r) ? filter_below_door(filter) : NULL;
	}
}

void glev_shut_start(struct glev_bev *r)
{
	if (has_shut_door(r))
		r->ending.unfinished = filter_below_door(glev_bev_carrier(r));
	else if (r->type == GLEV_FILTER)
		r->ending.unfinished = r;
	finish(r);
}

/* Bytes above an empty bottom may be in the hands of a function, or they may wait for the program, or for the peer. So
 * the pauses become longer. The end of a handshake is told. */
void glev_shut_wait(struct glev_bev *r)
{
	enum { LONGEST = 7 };

	if (!r->ending.flushed || glev_bev_connection_is_due(glev_bev_carrier(r)))
		return;
	if (glev_shut_all_written(r) || evbuffer_get_length(bottom_output(r))) {
		r->ending.pause = 0;
		return;
	}
	glev_shut_retry(r, 10 << r->ending.pause);
	if (r->ending.pause < LONGEST)
		r->ending.pause++;
}

int64_t glev_bev_try_shut(struct glev_bev *r)
{
	struct glev_bev *bottom = glev_bev_bottom(r), *carrier = glev_bev_carrier(r);
	int rc;

	finish(r);
	if (r->ending.shut == GLEV_SHUT_ASKED)
		glev_shut_wait(r);
	/* A FreeAfterFlush does not wait for the event that tells of the connection. */
	if (r->ending.shut != GLEV_SHUT_ASKED || r->ending.unfinished || !glev_shut_all_written(r) ||
	    (glev_bev_connection_is_due(carrier) && !glev_bev_is_flushing(r)))
		return 0;
	if (carrier->door) {
		rc = carrier->door->shutdown ? carrier->door->shutdown(carrier->bev) : 0;
		if (rc > 0)
			return glev_shut_retry(r, 10);
		r->ending.shut = GLEV_SHUT_DONE;
		glev_shut_start(r);
		return rc;
	}
	r->ending.shut = GLEV_SHUT_DONE;
	if (bottom->type == GLEV_PAIR)
		glev_bev_flush_native(bottom, EV_WRITE, BEV_FINISHED);
	else if (shutdown(bufferevent_getfd(bottom->bev), SHUT_WR) < 0)
		return -errno;
	return 0;
}

int64_t glev_bev_close_write(struct glev_bev *r)
{
	struct glev_bev *bottom = glev_bev_bottom(r);
	int64_t rc = 0;

	GLEV_ENTER_STACK(r);
	if (r->stack.above)
		rc = GLEV_FILTERED;
	else if (bottom->type == GLEV_SOCKET && bufferevent_getfd(bottom->bev) < 0 &&
	    !glev_bev_connection_is_due(bottom))
		rc = -ENOTCONN;
	else if (!r->ending.shut && (rc = glev_shut_watch(r)) == 0) {
		r->ending.shut = GLEV_SHUT_ASKED;
		glev_shut_start(r);
		glev_buf_refreeze(&r->out);
		glev_fast_write(r);
		rc = glev_bev_try_shut(r);
	}
	glev_stack_unlock(r);
	return rc;
}
