/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * callbacks.c: the callbacks that libevent makes. CONTRIBUTING.md has the recipe for a new one.
 *
 * The argument of each is the record of an object (native.h, bev.h). The record outlives every
 * callback: it is freed on the loop's thread, with no callback of the object below on the
 * stack, after libevent was told to make no more calls.
 *
 * No lock of libevent is held while Go runs. Bufferevents are made with THREADSAFE,
 * DEFER_CALLBACKS and UNLOCK_CALLBACKS, or, with OptLoopOnly, without any lock. libevent makes
 * some callbacks under a lock, on the thread that entered libevent. They do not call Go:
 * glev_on_input, _output, _unsent, _filter_change, and for any buffer glev_on_in_file,
 * _buf_change, _reference, _block, _segment. If Go has to know of one of these, it gets a note
 * (due.c). The exceptions are glev_on_filter_in and _out: libevent needs the answer
 * of a filter function at once. All other callbacks run on the loop's thread.
 */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "bev.h"
#include "callbacks.h"
#include "_cgo_export.h"

/* Around every callback that calls Go, on the loop's thread. done writes what the closure
 * has appended to outputs. Between them the base is not freed. */
static int begin(struct glev_base *b)
{
	b->inside++;
	return glev_base_visit(b);
}

static void done(struct glev_base *b, int visit)
{
	glev_base_flush(b);
	if (glev_base_yields(b))
		glevYield();
	glev_base_visited(b, visit);
	b->inside--;
}

/* --- Base and Event ------------------------------------------------------- */

void glev_on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct glev_base *b = arg;
	int visit = begin(b), last;
	char bytes[64];

	(void)what;
	while (fd >= 0 && read(fd, bytes, sizeof(bytes)) == sizeof(bytes))
		;
	last = glevWake(b->handle, b->base);
	done(b, visit);
	if (last)
		glev_base_free(b);
}

void glev_on_later(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	glev_laters_run(arg);
}

void glev_on_nothing(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

void glev_on_event(evutil_socket_t fd, short what, void *arg)
{
	struct glev_event *e = arg;
	int visit = begin(e->base);

	glevEvent(e->handle, e->ev, fd, what | glev_event_take(e));
	done(e->base, visit);
}

/* --- BufferEvent ---------------------------------------------------------- */

static void again(struct glev_bev *r, short what)
{
	glev_bev_lock(r);
	if (what & EV_READ)
		r->owed.read = 1;
	else
		r->owed.written = 1;
	bufferevent_trigger(r->bev, what, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
	glev_bev_unlock(r);
}

/* With the EOF of a pair libevent also makes a read callback, though there is nothing to read. */
static int is_for_nothing(struct glev_bev *r)
{
	int nothing;

	glev_bev_lock(r);
	nothing = !r->owed.read && evbuffer_get_length(r->in.evb) == 0;
	r->owed.read = 0;
	glev_bev_unlock(r);
	return nothing;
}

static int has_high_mark(const struct glev_bev *r)
{
	return __atomic_load_n(&r->mark.high, __ATOMIC_RELAXED) != 0;
}

/* Returns the length of the input. */
static size_t before_read_closure(struct glev_bev *r)
{
	size_t len;

	glev_bev_lock(r);
	len = evbuffer_get_length(r->in.evb);
	r->mark.drained = 0;
	glev_bev_unlock(r);
	return len;
}

/* At its high mark the input is full, and READ is off. A closure that took something from the
 * input on balance is called again; a closure that did not is called again when there is room.
 * Where another library reads on while the closure runs, only a callback of the input knows
 * whether the closure took something. */
static void after_read_closure(struct glev_bev *r, size_t before)
{
	size_t len;

	glev_bev_lock(r);
	len = evbuffer_get_length(r->in.evb);
	if (r->mark.high && !glev_bev_is_quiet(r) && len >= r->mark.high &&
	    ((bufferevent_get_enabled(r->bev) | r->off.held) & EV_READ) &&
	    (r->door ? r->mark.drained : len < before))
		bufferevent_trigger(r->bev, EV_READ, BEV_TRIG_DEFER_CALLBACKS);
	glev_bev_unlock(r);
}

/* A closure that sets the mark counts as one that took something: how much there was before is
 * not known. */
static void read_closure(struct glev_bev *r)
{
	size_t before = (size_t)-1;

	if (r->type == GLEV_PAIR && is_for_nothing(r))
		return;
	if (has_high_mark(r))
		before = before_read_closure(r);
	if (glev_bev_wants(r, GLEV_CB_READ) && glevBevRead(r->handle, r->bev))
		again(r, EV_READ);
	else if (has_high_mark(r))
		after_read_closure(r, before);
}

void glev_on_bev_read(struct bufferevent *bev, void *arg)
{
	struct glev_bev *r = arg;
	struct glev_base *b = r->base;
	const struct glev_host *host = glev_bev_awaited(r);
	int visit;

	if (host) {
		if (host->read)
			host->read(bev, host->arg);
		return;
	}
	visit = begin(b);
	if (r->fast.writer) { /* the TLS record may be complete now */
		glev_bev_lock(r);
		if (!r->fast.on)
			glev_settle(r);
		glev_bev_unlock(r);
	}
	read_closure(r);
	/* Freed on another goroutine meanwhile: unread input goes to C's read callback. */
	if (!glev_bev_is_quiet(r) && glev_bev_awaited(r) && evbuffer_get_length(r->in.evb))
		again(r, EV_READ);
	done(b, visit);
}

/* Whether the user's receiver has received something. */
static int received(struct glev_bev *r)
{
	int taken;

	if (!glev_fast_receives(r))
		return 0;
	r->fast.receiving = GLEV_ASKED;
	r->fast.received = 0;
	glevBevReceive(r->handle, r->bev);
	taken = r->fast.receiving == GLEV_RECEIVED;
	r->fast.receiving = 0;
	return taken;
}

void glev_on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct glev_bev *r = arg;
	struct glev_base *b = r->base;
	int visit = begin(b);

	(void)fd;
	if ((what == EV_TIMEOUT || !received(r)) && glev_fast_read(r, what)) {
		read_closure(r);
		glev_fast_finish(r);
	}
	done(b, visit);
}

void glev_on_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	glev_fast_writable(arg, what);
}

void glev_on_reminder(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	glev_fast_remind(arg);
}

void glev_on_stall(evutil_socket_t fd, short what, void *arg)
{
	struct glev_bev *r = arg;

	(void)fd;
	(void)what;
	glev_stack_lock(r);
	if (glev_stall_passes(r)) {
		glev_settle_time_out(r, EV_WRITE);
		glev_settle_tell(r, BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING, 0);
	}
	glev_stack_unlock(r);
}

/* Under the lock, on the thread that changed the output. */
void glev_on_stall_output(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
	(void)buf;
	glev_stall_output(arg, info->orig_size, info->n_added, info->n_deleted);
}

/* Under the lock, on the thread that changed the input. */
void glev_on_input(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
	struct glev_bev *r = arg;

	(void)buf;
	if (info->n_deleted)
		r->mark.drained = 1;
	glev_settle_input(r);
	glev_settle_remind(r);
}

/* Under the lock, on the thread that changed the output. libevent and the fast path change
 * it, too. */
void glev_on_unsent(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
	(void)buf;
	if (info->n_added)
		glev_fast_unsent(arg);
	if (info->n_deleted)
		glev_fast_written(arg);
}

void glev_on_bev_write(struct bufferevent *bev, void *arg)
{
	struct glev_bev *r = arg;
	struct glev_base *b = r->base;
	const struct glev_host *host = glev_bev_awaited(r);
	int wanted, visit;

	if (host) {
		if (host->write)
			host->write(bev, host->arg);
		return;
	}
	glev_bev_lock(r);
	wanted = glev_settle_unmute(r);
	glev_bev_unlock(r);
	if (!wanted)
		return;
	visit = begin(b);
	if (glev_bev_wants(r, GLEV_CB_WRITE) && glevBevWrite(r->handle, bev))
		again(r, EV_WRITE);
	done(b, visit);
}

/* Under the lock of the bottom of a stack, on the thread that changed the output. What
 * follows waits for the loop's next turn. */
void glev_on_output(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
	if (info->n_deleted && evbuffer_get_length(buf) == 0)
		event_active(arg, EV_WRITE, 0);
}

/* All is written, and CloseWrite or FreeAfterFlush waits for that. */
void glev_on_bev_flushed(evutil_socket_t fd, short what, void *arg)
{
	struct glev_bev *r = arg;
	struct glev_base *b = r->base;
	int visit = begin(b), ended;

	(void)fd;
	(void)what;
	glev_stack_lock(r);
	glev_bev_try_shut(r);
	ended = glev_bev_is_flushing(r) && glev_bev_try_end_flush(r);
	glev_stack_unlock(r);
	if (ended)
		glevBevFlushEnds(r->handle, r->bev, 0, 0);
	done(b, visit);
}

/*
 * A connection may begin and end before the method that makes its Go object, on another
 * goroutine, has returned. Until then its events wait.
 *
 * Between the read callback and the event callback of one turn libevent holds no lock, and
 * the other end of a pair may bring its last bytes and its end: the end would be told
 * first. So an end is told after all that is due by now. (Filters do the same with what comes
 * from below, see filter.c.)
 */
static int comes_too_early(struct glev_bev *r, short what, int err)
{
	if (__atomic_load_n(&r->owed.known, __ATOMIC_ACQUIRE)) {
		if (!(what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) || !glev_bev_on_pair(r))
			return 0;
		r->owed.put_off = !r->owed.put_off;
		if (!r->owed.put_off)
			return 0;
	}
	glev_bev_lock(r);
	glev_settle_tell(r, what, err);
	glev_bev_unlock(r);
	return 1;
}

/* Returns those bits of an event that are not to be told. With the locks of the stack. */
static short stale(struct glev_bev *r, short what)
{
	const short outcome = BEV_EVENT_CONNECTED | BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT;
	struct glev_bev *carrier = glev_bev_carrier(r);

	/* It was queued before the connect by name began. */
	if (glev_bev_bottom(r)->link == GLEV_LOOKING_UP && (what & outcome))
		return what;
	/* libevent does not forget that it was connecting when it gets another descriptor, or
	 * after a timeout, and then says CONNECTED of the new descriptor. A door may say it
	 * again of the same one. */
	if ((what & BEV_EVENT_CONNECTED) && !glev_bev_connection_is_due(carrier) &&
	    carrier->fast.reader && !carrier->door && !(r->owed.events & BEV_EVENT_CONNECTED))
		return BEV_EVENT_CONNECTED;
	/* It was queued before the door got another descriptor. */
	if ((what & BEV_EVENT_CONNECTED) && carrier->door && glev_bev_connection_is_due(carrier) &&
	    !(r->owed.events & BEV_EVENT_CONNECTED) && !carrier->door->is_open(carrier->bev))
		return BEV_EVENT_CONNECTED;
	return 0;
}

/* Brings the links of a stack in line with an event. With the locks of the stack. */
static void relink(struct glev_bev *r, short what)
{
	struct glev_bev *bottom = glev_bev_bottom(r), *carrier = glev_bev_carrier(r);

	if (what & BEV_EVENT_CONNECTED) {
		if (glev_bev_connection_is_due(carrier))
			glev_bev_open(carrier);
		if (glev_bev_connection_is_due(bottom))
			glev_bev_open(bottom);
	} else if ((what & BEV_EVENT_ERROR) && !glev_bev_dials(bottom)) {
		/* The error of one attempt of a connect by name is not the last word. */
		if (carrier->link == GLEV_CONNECTING)
			glev_bev_unlink(carrier);
		if (bottom->link == GLEV_CONNECTING)
			glev_bev_unlink(bottom);
	} else {
		return;
	}
	glev_bev_try_shut(r);
}

/* An error is the end of both directions of a door, unless the peer only takes no more, or it is that of
 * one attempt of a connect by name, as a timeout is: the next attempt needs what is enabled. A door that is a filter turns
 * that off when it is told of it, so it is kept in held until there is a connection. A door's last words,
 * such as an alert of TLS, may still be in the output of the bottom, and a Free in the closure
 * would drop them. With the locks of the stack. */
static void end_door(struct glev_bev *r, short what, int err)
{
	const short both = BEV_EVENT_READING | BEV_EVENT_WRITING;
	struct glev_bev *carrier = glev_bev_carrier(r);
	int reads_on = err == EPIPE && (what & both) == BEV_EVENT_WRITING;

	if (glev_bev_dials(glev_bev_bottom(r))) {
		carrier->off.held |= bufferevent_get_enabled(carrier->bev);
		return;
	}
	if (!(what & BEV_EVENT_ERROR))
		return;
	if (r->door) {
		glev_settle_end(r, reads_on ? EV_WRITE : EV_READ | EV_WRITE);
		r->ending.failed = !reads_on;
	}
	glev_bev_push(glev_bev_bottom(r));
}

static int ask_filter(struct glev_bev *r, int out, ev_ssize_t limit, int mode);

/* Nothing will follow, so the functions of the filters for the input work off what is left, from
 * the lowest filter up. Returns 0 if one of them has failed: it may hold a part of something that
 * the peer has not finished, and the stream must not look whole. With the locks of the stack. */
static int finish_input(struct glev_bev *r)
{
	int rc = BEV_NEED_MORE;

	if (!r || r->type != GLEV_FILTER || r->door) /* the stream of a door has its own end */
		return 1;
	if (!finish_input(r->stack.under))
		return 0;
	if (r->stack.under_in_cb) { /* or else it has no functions of ours */
		do
			rc = ask_filter(r, 0, -1, BEV_FINISHED);
		while (rc == BEV_OK && evbuffer_get_length(r->stack.under->in.evb));
	}
	return rc != BEV_ERROR;
}

/* Before the end of the stream is told, the filters learn of it, and the read closure gets what
 * they still held. Returns the event to tell. */
static short before_end(struct glev_bev *r, short what)
{
	size_t before, len;
	int whole, due;

	if (r->type != GLEV_FILTER || !(what & BEV_EVENT_EOF) || (what & BEV_EVENT_ERROR))
		return what;
	glev_stack_lock(r);
	before = evbuffer_get_length(r->in.evb);
	whole = finish_input(r);
	len = evbuffer_get_length(r->in.evb);
	due = len > before && len >= r->mark.low;
	glev_stack_unlock(r);
	if (due)
		read_closure(r);
	return whole ? what : (what & ~BEV_EVENT_EOF) | BEV_EVENT_ERROR;
}

/* Has the event told again when the loop next runs. */
static void event_again(struct glev_bev *r, short what, int err, int connecting)
{
	glev_stack_lock(r);
	if (connecting)
		glev_bev_carrier(r)->link = GLEV_CONNECTING;
	r->owed.events |= what;
	glev_settle_tell(r, what, err);
	glev_stack_unlock(r);
}

/* Passes the event on to C if C's callbacks are due. */
static int is_for_host(struct glev_bev *r, short what, int err)
{
	const struct glev_host *host = glev_bev_awaited(r);

	errno = err;
	if (host && host->event)
		host->event(r->bev, what, host->arg);
	return host != NULL;
}

/* An event has come while a FreeAfterFlush is under way. */
static void event_in_flush(struct glev_bev *r, short what, int err)
{
	if ((what & BEV_EVENT_CONNECTED) || glev_bev_life(r) == GLEV_DISCARDING || glev_bev_flush_goes_on(r, what))
		return;
	/* Also for an end of writing, which libevent tells when a file has become shorter. */
	glev_bev_cut_off(r);
	glevBevFlushEnds(r->handle, r->bev, what, err);
}

void glev_on_bev_event(struct bufferevent *bev, short what, void *arg)
{
	int err = errno, ncodes = 0, flushing, connecting, visit;
	short told;
	struct glev_bev *r = arg, *carrier = glev_bev_carrier(r);
	struct glev_base *b = r->base;
	unsigned long codes[GLEV_CODES];

	if (is_for_host(r, what, err) || comes_too_early(r, what, err))
		return;
	if ((what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) && carrier->door && carrier->door->codes)
		ncodes = carrier->door->codes(carrier->bev, codes, GLEV_CODES);
	glev_stack_lock(r);
	glev_bev_find_link(r);
	r->owed.err = 0;
	flushing = glev_bev_is_flushing(r);
	connecting = glev_bev_connection_is_due(carrier);
	told = what & ~stale(r, what);
	if (r->door)
		told = glev_filter_news(r, told);
	r->owed.events &= ~what;
	what = told;
	glev_settle_told(r, what);
	if ((what & BEV_EVENT_ERROR) && ((what & BEV_EVENT_WRITING) || r->door) && !glev_bev_dials(glev_bev_bottom(r)))
		r->off.ended |= EV_WRITE;
	if ((what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) && carrier->door)
		end_door(r, what, err);
	relink(r, what);
	glev_stack_unlock(r);
	if (what == 0)
		return;
	visit = begin(b);
	if (flushing) {
		event_in_flush(r, what, err);
	} else {
		what = before_end(r, told);
		switch (glevBevEvent(r->handle, bev, what, err, connecting, codes, ncodes)) {
		case 0:
			glev_filter_told(r, told);
			break;
		case GLEV_AGAIN:
			event_again(r, what, err, connecting);
		}
	}
	done(b, visit);
}

void glev_on_bev_limit(evutil_socket_t fd, short what, void *arg)
{
	struct glev_bev *r = arg;
	struct glev_base *b = r->base;
	int visit = begin(b);

	(void)fd;
	(void)what;
	glev_bev_cut_off(r);
	glevBevFlushEnds(r->handle, r->bev, 0, ETIMEDOUT);
	done(b, visit);
}

/* The callbacks of the bufferevent below a filter; see filter.c. */

void glev_on_below_read(struct bufferevent *bev, void *arg)
{
	const struct glev_feed *feed = ((struct glev_bev *)arg)->stack.feed;

	feed->read(bev, feed->arg);
}

void glev_on_below_write(struct bufferevent *bev, void *arg)
{
	const struct glev_feed *feed = ((struct glev_bev *)arg)->stack.feed;

	feed->write(bev, feed->arg);
}

void glev_on_below_event(struct bufferevent *bev, short what, void *arg)
{
	(void)bev;
	glev_filter_feed_event(arg, what, errno);
}

/* Under the lock of the filter, on the thread that entered libevent: libevent needs the
 * answer at once. The function may use its two buffers and nothing else. */
static int ask_filter(struct glev_bev *r, int out, ev_ssize_t limit, int mode)
{
	uint64_t changes = __atomic_load_n(&r->stack.changes, __ATOMIC_RELAXED);
	int rc;

	if (r->ending.finishing && mode == BEV_FLUSH)
		mode = BEV_FINISHED;
	/* The limit is the mark less what the other buffer has. Another thread may have changed these
	 * since libevent has looked whether there is room. */
	if (limit < -1)
		limit = 0;
	glev_filter_begin();
	rc = glevFilter(r->handle, r->bev, out, limit, mode);
	glev_filter_end();
	/* libevent calls again after BEV_OK while there is input, so a function that did
	 * nothing would be called for ever. */
	if (rc == BEV_OK && __atomic_load_n(&r->stack.changes, __ATOMIC_RELAXED) == changes)
		rc = BEV_NEED_MORE;
	return rc;
}

/* Moves a part of the bytes. evbuffer_remove_buffer would call the callbacks of dst while src is half changed. */
static int pass_some(struct evbuffer *src, struct evbuffer *dst, size_t n)
{
	struct evbuffer *part = evbuffer_new();
	int rc;

	if (!part)
		return -1;
	rc = glev_evbuffer_take(part, src, n);
	if (rc == 0 && evbuffer_add_buffer(dst, part) < 0) {
		evbuffer_prepend_buffer(src, part);
		rc = -1;
	}
	evbuffer_free(part);
	return rc;
}

/* In place of a function that the user has not given. */
static int pass(struct evbuffer *src, struct evbuffer *dst, ev_ssize_t limit)
{
	size_t n = evbuffer_get_length(src);
	int rc;

	if (n == 0 || limit == 0 || limit < -1)
		return BEV_NEED_MORE;
	rc = limit < 0 || n <= (size_t)limit ? evbuffer_add_buffer(dst, src) : pass_some(src, dst, (size_t)limit);
	return rc < 0 ? BEV_ERROR : BEV_OK;
}

static int ask(struct glev_bev *r, int out, ev_ssize_t limit, int mode)
{
	int rc = ask_filter(r, out, limit, mode);

	if (!out && mode == BEV_NORMAL && glev_filter_rests(r, rc == BEV_OK))
		rc = BEV_NEED_MORE;
	/* libevent does not report BEV_ERROR, so do it here. */
	if (rc == BEV_ERROR)
		bufferevent_trigger_event(r->bev,
		    BEV_EVENT_ERROR | (out ? BEV_EVENT_WRITING : BEV_EVENT_READING),
		    BEV_TRIG_DEFER_CALLBACKS);
	return rc;
}

/* What a function takes or appends makes libevent call the filters around this one. Without BEV_OPT_DEFER_CALLBACKS
 * these may have libevent call the same function again, which would pass on the bytes that follow before those in the
 * function's hands. So it is called again later. */
static int filter(struct glev_bev *r, short what, struct evbuffer *src, struct evbuffer *dst, ev_ssize_t limit, int mode)
{
	int rc;

	if (r->stack.works & what) {
		glev_settle_ask_filter(r, what);
		return BEV_NEED_MORE;
	}
	r->stack.works |= what;
	rc = r->stack.asks & what ? ask(r, what == EV_WRITE, limit, mode) : pass(src, dst, limit);
	r->stack.works &= ~what;
	return rc;
}

enum bufferevent_filter_result glev_on_filter_in(struct evbuffer *src, struct evbuffer *dst, ev_ssize_t limit, enum bufferevent_flush_mode mode, void *arg)
{
	return (enum bufferevent_filter_result)filter(arg, EV_READ, src, dst, limit, mode);
}

enum bufferevent_filter_result glev_on_filter_out(struct evbuffer *src, struct evbuffer *dst, ev_ssize_t limit, enum bufferevent_flush_mode mode, void *arg)
{
	return (enum bufferevent_filter_result)filter(arg, EV_WRITE, src, dst, limit, mode);
}

/* Under the lock of the buffer. */
void glev_on_filter_change(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
	struct glev_bev *r = arg, *under = r->stack.under;

	if (under && buf == under->out.evb)
		under->stack.sent += info->n_deleted;
	__atomic_fetch_add(&r->stack.changes, 1, __ATOMIC_RELAXED);
}

/* --- Buffer --------------------------------------------------------------- */

/* All under the lock of the buffer, on the thread that changed it. */

void glev_on_buf_change(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
	(void)buf;
	glev_buf_cb_changed(arg, info->n_added, info->n_deleted);
}

void glev_on_in_file(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
	(void)info;
	if (evbuffer_get_length(buf) == 0)
		glev_buf_out_of_file(arg);
}

void glev_on_reference(const void *p, size_t n, void *arg)
{
	struct glev_ref *ref = arg;

	(void)p;
	(void)n;
	glev_due_here(&ref->due);
}

void glev_on_block(const void *p, size_t n, void *arg)
{
	(void)p;
	(void)n;
	glev_block_put(arg);
}

void glev_on_segment(const struct evbuffer_file_segment *seg, int flags, void *arg)
{
	(void)seg;
	(void)flags;
	glev_file_release(arg);
}

/* libevent has destroyed the bufferevent, whose lock no other thread can wait for any more. So
 * this may call Go, as the door of package openssl does. */
void glev_on_destroyed(const void *p, size_t n, void *arg)
{
	struct glev_door *door = arg;

	(void)p;
	(void)n;
	if (door->gone)
		door->gone(door->arg);
	free(door);
}

/* --- Listener ------------------------------------------------------------- */

/* The listening socket keeps what is not accepted. */
static void pause_accepting(struct glev_lev *l, int msec)
{
	struct timeval tv = {msec / 1000, msec % 1000 * 1000};

	if (event_add(l->retry, &tv) == 0) /* or else nothing would enable it again */
		evconnlistener_disable(l->lev);
}

/* libevent accepts until there is nothing more to accept, whatever else the loop has to
 * do, and even if the loop is to break. But it stops when the listener is disabled. */
void glev_on_accept(struct evconnlistener *lev, evutil_socket_t fd, struct sockaddr *sa, int len, void *arg)
{
	struct glev_lev *l = arg;
	struct glev_base *b = l->base;
	struct glev_addr addr;
	int visit = begin(b);

	l->backoff_ms = 0;
	l->accepted++;
	if (l->no_delay) {
		glev_socket_no_delay(fd, 1);
		if (l->no_delay > 0)
			l->no_delay--;
	}
	glev_addr_from(&addr, sa, (socklen_t)len);
	glevAccept(l->handle, lev, fd, &addr);
	if (l->wanted && (l->accepted >= GLEV_MOST_IN_A_TURN || event_base_got_break(b->base)))
		pause_accepting(l, 0);
	done(b, visit);
}

/* Most likely no descriptor is left, or no memory. The listening socket stays readable, so
 * libevent would call this in a busy loop. So the listener is disabled, and enabled again
 * after a while that doubles up to a second. */
void glev_on_accept_error(struct evconnlistener *lev, void *arg)
{
	int err = errno;
	struct glev_lev *l = arg;
	struct glev_base *b = l->base;
	int first = l->backoff_ms == 0, visit = begin(b);

	l->backoff_ms = first ? 50 : l->backoff_ms * 2;
	if (l->backoff_ms > 1000)
		l->backoff_ms = 1000;
	pause_accepting(l, l->backoff_ms);
	if (first)
		glevAcceptError(l->handle, lev, err);
	done(b, visit);
}

void glev_on_accept_retry(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval later = {1, 0};
	struct glev_lev *l = arg;

	(void)fd;
	(void)what;
	l->accepted = 0;
	if (l->wanted && evconnlistener_enable(l->lev) < 0)
		glev_timer_add(l->retry, &later);
}

/* --- DNSBase ---------------------------------------------------------------- */

void glev_on_dns_step(evutil_socket_t fd, short what, void *arg)
{
	struct glev_dns *d = arg;
	struct glev_base *b = d->base;
	int visit = begin(b);

	(void)fd;
	if (glev_dns_step(d, what))
		glevDNSCleared(d->handle, d);
	done(b, visit);
	if (b->freed)
		glev_base_free(b);
}

/* libevent may call this inside the call that asks, on the thread that acts as the loop. So Go
 * only queues the answer. */
void glev_on_addrinfo(int code, struct evutil_addrinfo *res, void *arg)
{
	struct glev_lookup *l = arg;
	struct evutil_addrinfo *ai;
	struct glev_addr *addrs;
	int n = 0;

	if (glev_lookup_answered(l, code)) {
		for (ai = res; ai; ai = ai->ai_next)
			n++;
		addrs = calloc((size_t)n + 1, sizeof(*addrs));
		if (!addrs)
			code = EVUTIL_EAI_MEMORY;
		for (ai = res, n = 0; addrs && ai; ai = ai->ai_next)
			glev_addr_from(&addrs[n++], ai->ai_addr, (socklen_t)ai->ai_addrlen);
		glevLookup(l->handle, l, code, addrs, n);
		free(addrs);
	}
	if (res)
		evutil_freeaddrinfo(res);
}
