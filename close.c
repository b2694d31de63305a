/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * close.c: the ends of a bufferevent: CloseWrite, FreeAfterFlush, and Free.
 */

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bev.h"
#include "callbacks.h"

/* --- questions ------------------------------------------------------------------ */

/* If C made the pair, its ends have no records. */
int glev_bev_on_pair(struct glev_bev *r)
{
	return glev_bev_bottom(r)->type == GLEV_PAIR ||
	    bufferevent_pair_get_partner(glev_bev_native_bottom(r)) != NULL;
}

static int has_partner(struct glev_bev *r)
{
	const struct glev_bev *partner = glev_bev_bottom(r)->stack.partner;

	if (partner)
		return !glev_bev_is_quiet(partner);
	return bufferevent_pair_get_partner(glev_bev_native_bottom(r)) != NULL;
}

/* Whether the outputs of bev and of all below it are empty. */
static int is_written(struct bufferevent *bev)
{
	for (; bev; bev = bufferevent_get_underlying(bev))
		if (evbuffer_get_length(bufferevent_get_output(bev)))
			return 0;
	return 1;
}

/* Whether the outputs of the whole stack are empty. */
static int all_written(struct glev_bev *r)
{
	return is_written(r->bev);
}

static struct evbuffer *bottom_output(struct glev_bev *r)
{
	return bufferevent_get_output(glev_bev_native_bottom(r));
}

/* --- closing the writing side ------------------------------------------------------ */

/* Has the flushed event fire when the output of the bottom becomes empty. */
static int watch_output(struct glev_bev *r)
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

static void unwatch_output(struct glev_bev *r)
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

static int retry_soon(struct glev_bev *r, int msec)
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
				retry_soon(r, filter == r ? 0 : 10);
			return;
		}
		finish_filters(filter, !has_shut_door(r) || glev_bev_is_flushing(r));
		r->ending.unfinished = has_shut_door(r) ? filter_below_door(filter) : NULL;
	}
}

static void start_finish(struct glev_bev *r)
{
	if (has_shut_door(r))
		r->ending.unfinished = filter_below_door(glev_bev_carrier(r));
	else if (r->type == GLEV_FILTER)
		r->ending.unfinished = r;
	finish(r);
}

int64_t glev_bev_try_shut(struct glev_bev *r)
{
	struct glev_bev *bottom = glev_bev_bottom(r), *carrier = glev_bev_carrier(r);
	int rc;

	finish(r);
	/* A FreeAfterFlush does not wait for the event that tells of the connection. */
	if (r->ending.shut != GLEV_SHUT_ASKED || r->ending.unfinished || !all_written(r) ||
	    (glev_bev_connection_is_due(carrier) && !glev_bev_is_flushing(r)))
		return 0;
	if (carrier->door) {
		rc = carrier->door->shutdown ? carrier->door->shutdown(carrier->bev) : 0;
		if (rc > 0)
			return retry_soon(r, 10);
		r->ending.shut = GLEV_SHUT_DONE;
		start_finish(r);
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
	else if (!r->ending.shut && (rc = watch_output(r)) == 0) {
		r->ending.shut = GLEV_SHUT_ASKED;
		start_finish(r);
		glev_buf_refreeze(&r->out);
		glev_fast_write(r);
		rc = glev_bev_try_shut(r);
	}
	glev_stack_unlock(r);
	return rc;
}

/* --- free after flush ---------------------------------------------------------------- */

/* Turns a direction of each bufferevent of the stack on, whatever the user wants. */
static void turn_on(struct glev_bev *r, short what)
{
	struct glev_bev *p;

	if (r->fast.on && (what & EV_WRITE) && evbuffer_get_length(r->out.evb))
		r->fast.spilled = 1;
	glev_settle_enable(r, what);
	for (p = r->stack.under; p; p = p->stack.under) {
		p->off.held |= what;
		glev_settle(p);
	}
}

/* Whether a peer that speaks now could lose bytes of ours: those that its kernel has not got. The
 * bytes of a local socket are with the peer at once. */
static int unacknowledged(int fd)
{
	int unsent = 0;
#ifdef __linux__
	int domain = AF_UNIX;
	socklen_t len = sizeof(domain);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 || domain == AF_UNIX ||
	    ioctl(fd, TIOCOUTQ, &unsent) < 0)
		return 0;
#else
	(void)fd;
#endif
	return unsent;
}

/* Whether bytes of ours may still be under way. The kernel tells of them only when asked, so this looks again after a
 * while. */
static int discard_longer(struct glev_bev *r, int fd)
{
	const struct timeval *again = NULL;
#ifdef __linux__
	static const struct timeval soon = {0, 50000};
	int unread = 1, unsent = 1;

	if (ioctl(fd, FIONREAD, &unread) == 0 && ioctl(fd, TIOCOUTQ, &unsent) == 0 &&
	    unread == 0 && unsent == 0)
		return 0;
	again = &soon;
#else
	(void)fd;
#endif
	return event_add(r->ending.flushed, again) == 0;
}

/* Drops what the peer has sent. Returns 1 if nothing has to be dropped any more. */
static int discard(struct glev_bev *r, int fd)
{
	char bytes[16384];
	int reads = 0;
	ssize_t n;

	do
		n = read(fd, bytes, sizeof(bytes));
	while (n > 0 && ++reads < GLEV_MOST_IN_A_TURN);
	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || !discard_longer(r, fd);
}

/*
 * The kernel resets a socket that is closed with bytes unread, or that gets bytes after it was
 * closed, and then also drops what it has not sent yet. So a peer that is still sending, or that
 * may do so before it has all bytes of ours, is told of our end, and what it sends is dropped
 * until its own end, or until it has all of ours. That is not the stack's affair any more: TLS would stop at the
 * peer's close_notify, or try to answer, and a rate limit would have the peer wait. So the stack does nothing more,
 * and the flushed event waits for the descriptor. Returns 1 if nothing has to be dropped.
 */
static int discard_rest(struct glev_bev *r, int fd)
{
	struct glev_bev *p;
	int unread = 0;

	if (ioctl(fd, FIONREAD, &unread) < 0 || (unread == 0 && !unacknowledged(fd)))
		return 1;
	shutdown(fd, SHUT_WR);
	__atomic_store_n(&r->life, GLEV_DISCARDING, __ATOMIC_RELEASE);
	for (p = r; p; p = p->stack.under) {
		p->off.because |= GLEV_OFF_DISCARDING;
		glev_settle(p);
	}
	event_del(r->ending.flushed);
	event_assign(r->ending.flushed, r->base->base, fd, EV_READ | EV_FINALIZE, glev_on_bev_flushed, r);
	return discard(r, fd);
}

/* Has the door of a stack end its stream. Returns whether the end is written as well. */
static int shut_door(struct glev_bev *r)
{
	if (glev_bev_carrier(r)->door && r->ending.shut != GLEV_SHUT_DONE) {
		r->ending.shut = GLEV_SHUT_ASKED;
		glev_bev_try_shut(r);
		return r->ending.shut == GLEV_SHUT_DONE && !r->ending.unfinished && all_written(r);
	}
	return 1;
}

/* A call of another thread, which began before, must not append to the output any more. */
static void end_output(struct glev_bev *r)
{
	__atomic_store_n(&r->ending.flush_ends, 1, __ATOMIC_RELEASE);
	glev_buf_refreeze(&r->out);
}

/* The output of the whole stack has to be written, and then the end of the stream, unless there is
 * no connection to write to. The other end of a pair is told of the end, if it was not told before. */
int glev_bev_try_end_flush(struct glev_bev *r)
{
	struct glev_bev *bottom = glev_bev_bottom(r), *carrier = glev_bev_carrier(r);
	int fd = bufferevent_getfd(bottom->bev), pair = glev_bev_on_pair(r);

	if (glev_bev_life(r) == GLEV_DISCARDING)
		return discard(r, fd);
	if (pair ? !has_partner(r) : fd < 0 && !glev_bev_connection_is_due(bottom))
		return 1;
	if (carrier->door && (carrier->link == GLEV_UNLINKED || carrier->ending.failed)) /* only its last words are left */
		return !glev_bev_door_is_linked(carrier) || is_written(bufferevent_get_underlying(carrier->bev));
	if (r->ending.unfinished || !all_written(r))
		return 0;
	end_output(r);
	if (!shut_door(r))
		return 0;
	if (glev_bev_connection_is_due(carrier))
		return 1;
	if (!pair)
		return discard_rest(r, fd);
	if (r->ending.shut != GLEV_SHUT_DONE || carrier->door)
		bufferevent_flush(glev_bev_native_bottom(r), EV_WRITE, BEV_FINISHED);
	return 1;
}

/* Returns 1 if there is nothing to wait for. */
static int64_t start_flush(struct glev_bev *r, int64_t usec)
{
	struct timeval tv = {usec / 1000000, usec % 1000000};
	int watched = watch_output(r);

	__atomic_store_n(&r->life, GLEV_FLUSHING, __ATOMIC_RELEASE);
	glev_settle_disable(r, EV_READ);
	start_finish(r);
	if (!r->ending.limit)
		r->ending.limit = event_new(r->base->base, -1, EV_FINALIZE, glev_on_bev_limit, r);
	__atomic_store_n(&r->closures, 0, __ATOMIC_RELAXED);
	glev_fast_write(r);
	if (!r->ending.limit || watched < 0)
		return -ENOMEM;
	if (glev_bev_try_end_flush(r))
		return 1;
	if (event_add(r->ending.limit, &tv) < 0)
		return -ENOMEM;
	if (glev_bev_life(r) == GLEV_DISCARDING)
		return 0;
	/* Writing may be off, because the user wants it so or after an error. It is turned on
	 * for the flush, so that a broken socket fails at once, also one below a filter. */
	glev_settle(r);
	turn_on(r, EV_WRITE);
	return glev_bev_start(r, 0);
}

/* The peer must not take a part of the stream for all of it, so the connection is reset. */
static void cut_off(struct glev_bev *r)
{
	static const struct linger none = {1, 0};
	struct glev_bev *bottom = glev_bev_bottom(r);

	if (bottom->type == GLEV_SOCKET && (bottom->owns & GLEV_OWNS_DESCRIPTOR) &&
	    (!all_written(r) || r->ending.unfinished))
		setsockopt(bufferevent_getfd(bottom->bev), SOL_SOCKET, SO_LINGER, &none, sizeof(none));
}

int64_t glev_bev_may_flush(struct glev_bev *r)
{
	int64_t rc;

	GLEV_ENTER(r);
	rc = r->stack.above ? GLEV_FILTERED : 0;
	glev_bev_unlock(r);
	return rc;
}

int64_t glev_bev_free_after_flush(struct glev_bev *r, int64_t usec)
{
	int64_t rc;

	GLEV_ENTER_STACK(r);
	rc = r->stack.above ? GLEV_FILTERED : start_flush(r, usec);
	if (rc == -ENOMEM)
		cut_off(r);
	glev_stack_unlock(r);
	return rc;
}

void glev_bev_cut_off(struct glev_bev *r)
{
	glev_stack_lock(r);
	cut_off(r);
	glev_stack_unlock(r);
}

void glev_bev_push(struct glev_bev *r)
{
	if (r->type != GLEV_SOCKET || r->door || r->out.lent || bufferevent_getfd(r->bev) < 0)
		return;
	evbuffer_unfreeze(r->out.evb, 1);
	evbuffer_write(r->out.evb, bufferevent_getfd(r->bev));
	glev_buf_refreeze(&r->out);
}

int glev_bev_flush_goes_on(struct glev_bev *r, short what)
{
	int goes_on;

	glev_stack_lock(r);
	goes_on = what == (BEV_EVENT_EOF | BEV_EVENT_READING) && glev_bev_life(r) == GLEV_FLUSHING;
	if (goes_on) /* with TLS libevent has stopped writing as well */
		glev_settle_enable(glev_bev_carrier(r), EV_WRITE);
	glev_stack_unlock(r);
	return goes_on;
}

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
	unwatch_output(r);
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

/* What was below a filter may be used again, to read the end of the stream for example. */
static void stop_discarding(struct glev_bev *r)
{
	for (; r; r = r->stack.under) {
		glev_bev_lock(r);
		r->off.because &= ~GLEV_OFF_DISCARDING;
		if (!glev_bev_is_quiet(r))
			glev_settle(r);
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
	if (r->off.because & GLEV_OFF_DISCARDING)
		stop_discarding(r);
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
