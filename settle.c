/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * settle.c: brings libevent in line with what the user wants.
 *
 * The record says what the user has enabled (libevent's own bits and `held`), and why a
 * direction has to be off all the same (`because`). From that this file derives what
 * libevent has enabled, whether the fast path carries the bytes, and which events of the
 * fast path are added. No other file enables, disables or sets a watermark in libevent.
 *
 * The record alone cannot say what the user has enabled: libevent turns a direction off after
 * an end, an error or a timeout in it, and the record does not learn of that.
 */

#include <errno.h>
#include <stddef.h>

#include "bev.h"
#include "callbacks.h"

#include <event2/bufferevent_struct.h>

enum { MAX_SINGLE_WRITE = 256 * 1024 };

static struct timeval *set_or_null(struct timeval *tv)
{
	return tv->tv_sec || tv->tv_usec ? tv : NULL;
}

/* --- libevent's callbacks, and those of the buffers -------------------------- */

/* The read and event callbacks are always set: if a callback is NULL when its turn comes,
 * libevent keeps it pending, and would make that stale call as soon as there is a callback. The
 * write callback is left out until the user wants it, because it costs a deferred callback for
 * each write. Once it is set, it stays, for the same reason as the others. */
void glev_settle_set_callbacks(struct glev_bev *r, int write)
{
	bufferevent_data_cb on_write = NULL;

	bufferevent_getcb(r->bev, NULL, &on_write, NULL, NULL);
	if (write)
		on_write = glev_on_bev_write;
	bufferevent_setcb(r->bev, glev_on_bev_read, on_write, glev_on_bev_event, r);
}

/* Has glev_on_input called when the input changes, where that matters. */
static int watch_input(struct glev_bev *r)
{
	int want = !glev_bev_is_quiet(r) && (r->mark.high || (r->fast.writer && !r->fast.on));

	if (want && !r->mark.in_cb) {
		r->mark.in_cb = evbuffer_add_cb(r->in.evb, glev_on_input, r);
		return r->mark.in_cb ? 0 : -1;
	}
	if (!want && r->mark.in_cb) {
		evbuffer_remove_cb_entry(r->in.evb, r->mark.in_cb);
		r->mark.in_cb = NULL;
	}
	return 0;
}

int glev_settle_watch_output(struct glev_bev *r)
{
	if (!r->fast.unsent_cb)
		r->fast.unsent_cb = evbuffer_add_cb(r->out.evb, glev_on_unsent, r);
	return r->fast.unsent_cb != NULL;
}

void glev_settle_mute(struct glev_bev *r)
{
	r->owed.mute = evbuffer_get_length(r->out.evb) == 0 && glev_settle_watch_output(r);
}

int glev_settle_unmute(struct glev_bev *r)
{
	int mute = r->owed.mute && !r->owed.written;

	r->owed.mute = r->owed.written = 0;
	glev_settle_output(r);
	return !mute;
}

/* --- the events of the fast path --------------------------------------------- */

/* A struct event needs no more than the alignment of a pointer. */
size_t glev_fast_size(int door)
{
	size_t event = event_get_struct_event_size();

	return door ? 2 * event + sizeof(struct glev_writer) : event;
}

struct event *glev_fast_writer_event(struct glev_bev *r)
{
	return (struct event *)(r->fast.writer + 1);
}

/* While libevent writes, the writer's event is a timer; see glev_settle_remind. It has a callback of its
 * own: when the callback gets the lock, the event may be the writer's again. */
static void be_reminder(struct glev_bev *r)
{
	event_assign(glev_fast_writer_event(r), r->base->base, -1, EV_FINALIZE, glev_on_reminder, r);
	watch_input(r);
}

/* If reading was turned off meanwhile, this does nothing: when reading is turned on, add_reader or
 * turn_on has this called again. */
static void look_again(struct glev_later *l)
{
	struct glev_bev *r = (struct glev_bev *)((char *)l - offsetof(struct glev_bev, fast.again));

	glev_bev_lock(r);
	if (r->fast.reading)
		event_active(r->fast.reader, EV_READ, 0);
	else if (!r->fast.on && r->door && (bufferevent_get_enabled(r->bev) & EV_READ))
		r->door->pending(r->bev, 1);
	glev_bev_unlock(r);
}

void glev_fast_init(struct glev_bev *r)
{
	r->fast.reader = (struct event *)(r + 1);
	r->fast.again.run = look_again;
	if (!r->door)
		return;
	r->fast.writer = (struct glev_writer *)((char *)r->fast.reader + event_get_struct_event_size());
	be_reminder(r);
}

static void assign(struct glev_bev *r, struct event *ev, short what, event_callback_fn fn)
{
	event_assign(ev, r->base->base, bufferevent_getfd(r->bev), what | EV_PERSIST | EV_FINALIZE, fn, r);
	if (r->set.priority >= 0)
		event_priority_set(ev, r->set.priority);
}

static void assign_reader(struct glev_bev *r)
{
	assign(r, r->fast.reader, EV_READ, glev_on_readable);
}

static void assign_writer(struct glev_bev *r)
{
	assign(r, glev_fast_writer_event(r), EV_WRITE, glev_on_writable);
}

static int is_full(const struct glev_bev *r)
{
	return r->mark.high && evbuffer_get_length(r->in.evb) >= r->mark.high;
}

static int wants_to_read(const struct glev_bev *r)
{
	return r->fast.on && r->fast.reader && (r->off.held & EV_READ) && !is_full(r);
}

static int wants_to_write(const struct glev_bev *r)
{
	return (r->off.held | bufferevent_get_enabled(r->bev)) & EV_WRITE;
}

int glev_fast_pending(const struct glev_bev *r)
{
	return r->fast.read_error || (r->door && r->door->pending(r->bev, 0));
}

void glev_fast_again(struct glev_bev *r)
{
	if (glev_fast_pending(r))
		glev_later(r->base, &r->fast.again);
}

/* libevent waits for the descriptor, even when a limit or a mark has stopped it in the
 * middle of what the other library has taken from there. So as long as the library has
 * bytes left, libevent is reminded: in the next turn, and now and then. */
void glev_settle_remind(struct glev_bev *r)
{
	static const struct timeval soon = {0, 10000};

	if (r->fast.writer && !r->fast.on && !glev_bev_is_quiet(r) && r->door->pending(r->bev, 0)) {
		glev_fast_again(r);
		event_add(glev_fast_writer_event(r), &soon);
	}
}

/* Adds the reader's event, or restarts its timeout. */
static int add_reader(struct glev_bev *r)
{
	struct event *ev = r->fast.reader;
	struct timeval *tv = set_or_null(&r->set.read_timeout);

	if (event_add(ev, tv) < 0)
		return -1;
	if ((r->set.timed & EV_READ) && glev_event_was_dropped(ev, EV_READ) && event_add(ev, tv) < 0)
		return -1;
	r->fast.reading = 1;
	glev_fast_again(r);
	return 0;
}

static void sync_writer(struct glev_bev *r)
{
	struct glev_writer *w = r->fast.writer;
	int want = r->fast.on && r->fast.spilled && (r->off.held & EV_WRITE) && !r->out.lent;

	if (want == w->writing)
		return;
	w->writing = (int8_t)want;
	if (want)
		event_add(glev_fast_writer_event(r), set_or_null(&w->timeout));
	else
		event_del(glev_fast_writer_event(r));
}

/* Has the events added exactly while there is something to read or to write. */
static int sync_events(struct glev_bev *r)
{
	int want = wants_to_read(r);

	if (r->fast.writer)
		sync_writer(r);
	if (want && !r->fast.reading)
		return add_reader(r);
	if (!want && r->fast.reading) {
		event_del(r->fast.reader);
		r->fast.reading = 0;
	}
	return 0;
}

/* --- whether the fast path carries -------------------------------------------- */

/* Above another bufferevent libevent reads, and writes at once whatever is appended. It
 * only has to wait until the callback is done, so that all can go together. */
int glev_fast_gathers(const struct glev_bev *r)
{
	return r->door && r->stack.under;
}

static int may_be_fast(const struct glev_bev *r)
{
	return (r->fast.reader || glev_fast_gathers(r)) && r->link == GLEV_OPEN &&
	    !r->fast.plain && !r->fast.paused && !r->set.limits && !r->stack.above &&
	    (glev_bev_life(r) == GLEV_LIVE || (glev_bev_life(r) == GLEV_FLUSHING && r->fast.writer));
}

/* How much libevent writes at once of what was spilled: in small steps where the write
 * callback is to come before the output is empty. */
static void bound_writes(struct glev_bev *r)
{
	bufferevent_set_max_single_write(r->bev, r->mark.write_low ? 0 : MAX_SINGLE_WRITE);
}

/* A timeout that is taken away while its event is not added comes back in libevent when
 * the event is added again. So a direction that had a timeout gets another one, of years,
 * in its place. */
static struct timeval native_timeout(struct glev_bev *r, short what, const struct timeval *tv)
{
	static const struct timeval years = {3 * 365 * 24 * 60 * 60, 0};
	int set = tv->tv_sec || tv->tv_usec;

	if (set)
		__atomic_fetch_or(&r->set.timed, what, __ATOMIC_RELAXED);
	return !set && (r->set.timed & what) ? years : *tv;
}

static int set_native_timeouts(struct glev_bev *r, const struct timeval *rd, const struct timeval *wr)
{
	struct timeval read = native_timeout(r, EV_READ, rd), write = native_timeout(r, EV_WRITE, wr);

	return bufferevent_set_timeouts(r->bev, &read, &write);
}

/* While a door reads and writes, only the fast path changes the back of the input, and the
 * writer has the write timeout. */
static void keep_back(struct glev_bev *r, int keep)
{
	static const struct timeval none;

	glev_buf_set_frozen(&r->in, (r->in.frozen & GLEV_FRONT) | (keep ? GLEV_BACK : 0));
	if (set_or_null(&r->fast.writer->timeout))
		set_native_timeouts(r, &r->set.read_timeout, keep ? &none : &r->fast.writer->timeout);
}

static void start(struct glev_bev *r)
{
	if (!glev_settle_watch_output(r))
		return; /* there is no memory, so libevent goes on reading and writing */
	if (r->fast.writer) {
		if (!r->door->begin(r->bev))
			return; /* the other library is in the middle of something */
		keep_back(r, 1);
		event_del(glev_fast_writer_event(r));
		assign_writer(r);
	}
	if (r->fast.reader) {
		assign_reader(r);
		bound_writes(r);
	}
	r->fast.on = 1;
	if (r->fast.writer)
		watch_input(r);
	r->fast.spilled |= wants_to_write(r) && evbuffer_get_length(r->out.evb) > 0;
}

static void stop(struct glev_bev *r)
{
	r->fast.on = 0;
	r->owed.touched = 1; /* libevent waits until it can write */
	sync_events(r);
	if (r->fast.writer) {
		keep_back(r, 0);
		r->door->end(r->bev);
		be_reminder(r);
	}
	if (glev_bev_is_quiet(r)) /* nothing is to go on */
		return;
	if (!(r->set.limits & GLEV_LIMIT_SINGLE_WRITE))
		bufferevent_set_max_single_write(r->bev, 0);
	/* libevent makes a write callback for nothing when WRITE is enabled and the output
	 * is empty. Here the binding enables WRITE, and not the user. */
	if (r->off.held & EV_WRITE)
		glev_settle_mute(r);
}

static void choose(struct glev_bev *r)
{
	int fast = may_be_fast(r);

	if (fast == r->fast.on)
		return;
	glev_bypass_close(r);
	(fast ? start : stop)(r);
}

/* --- the high mark of reading ---------------------------------------------------- */

/* libevent has to know the high mark, because it reads no more than that. But it does not need the
 * callback that bufferevent_setwatermark adds. So unless libevent has that callback already, the
 * mark is set without bufferevent_setwatermark. */
static void set_mark(struct glev_bev *r, size_t low, size_t high)
{
	if (!high || r->mark.native) {
		bufferevent_setwatermark(r->bev, EV_READ, low, high);
	} else {
		r->bev->wm_read.low = low;
		r->bev->wm_read.high = high;
	}
}

/* When libevent is to read from a socket at its mark, libevent suspends reading. Without the
 * callback it resumes only when the mark is taken away, which is done here for a moment. */
static void release_mark(struct glev_bev *r)
{
	if (r->type == GLEV_SOCKET && !r->door && !r->mark.native) {
		bufferevent_setwatermark(r->bev, EV_READ, r->mark.low, 0);
		set_mark(r, r->mark.low, r->mark.high);
	}
}

/* After Free, C goes on with the mark of a wrapped bufferevent, so there libevent adds its
 * callback. libevent crashes if there is no memory for it, so this first asks for as much. It
 * cannot be sure: another thread may take the memory before libevent asks. */
static int has_room(struct glev_bev *r)
{
	struct evbuffer_cb_entry *cb;

	if (!r->host || r->mark.native)
		return 1;
	cb = evbuffer_add_cb(r->in.evb, glev_on_input, r);
	if (cb)
		evbuffer_remove_cb_entry(r->in.evb, cb);
	r->mark.native = cb != NULL;
	return r->mark.native;
}

/* --- which directions are on --------------------------------------------------- */

/* The other end of a pair, and a filter's functions, move bytes in and out of the buffers
 * from whatever thread they are used on, even while a buffer is lent. Another library
 * reads and writes at once when a direction is turned on, so that has to wait. */
static int lent(const struct glev_bev *r, short enabled)
{
	int because = 0;

	if (r->in.lent && (r->type != GLEV_SOCKET || (r->door && !(enabled & EV_READ))))
		because |= GLEV_OFF_LENT_INPUT;
	if (r->out.lent && (r->type != GLEV_SOCKET || (r->door && !(enabled & EV_WRITE))))
		because |= GLEV_OFF_LENT_OUTPUT;
	/* libevent would try to add to it again and again. */
	if (r->door && !(r->fast.on && r->fast.reader) && (r->in.frozen & GLEV_BACK))
		because |= GLEV_OFF_LENT_INPUT;
	return because;
}

/* Why directions must be off in libevent, whatever the user has enabled.
 *  - FULL: libevent itself stops reading at a high mark, but only with its own callback of the
 *    input, for which there may be no memory (see set_mark). And at the high mark libevent 2.1
 *    calls a read closure that takes nothing, or a filter that takes nothing from below, again
 *    and again, at the cost of a whole core.
 *  - UNLINKED: before there is a connection, no timeout may pass.
 *  - WAITING: a direction that is on would start the handshake of a door, which could end before
 *    there is an event closure. */
static int reasons(const struct glev_bev *r, short enabled)
{
	int because = r->off.because & GLEV_OFF_MOVING;

	if (glev_bev_dials(r))
		because |= GLEV_OFF_UNLINKED;
	if (r->door && !r->stack.started)
		because |= GLEV_OFF_WAITING;
	if (is_full(r))
		because |= GLEV_OFF_FULL;
	if (r->stack.above && r->stack.digesting)
		because |= GLEV_OFF_DIGESTING;
	if (r->fast.on && r->fast.reader)
		because |= GLEV_OFF_FAST_READ;
	if (r->fast.on && !(r->fast.spilled && !r->fast.writer))
		because |= GLEV_OFF_FAST_WRITE;
	return because | lent(r, enabled);
}

/* Above another bufferevent, TLS that waits in the middle of a write reads and writes when it is
 * told to read. So a loan of the output keeps reading off there as well. */
static short directions(const struct glev_bev *r, int because)
{
	const int reading = (glev_fast_gathers(r) ? GLEV_OFF_LENT_OUTPUT : 0) | GLEV_OFF_UNLINKED | GLEV_OFF_MOVING | GLEV_OFF_FULL |
	    GLEV_OFF_WAITING | GLEV_OFF_DIGESTING | GLEV_OFF_LENT_INPUT | GLEV_OFF_FAST_READ;
	const int writing = GLEV_OFF_UNLINKED | GLEV_OFF_MOVING | GLEV_OFF_LENT_OUTPUT |
	    GLEV_OFF_WAITING | GLEV_OFF_FAST_WRITE;

	return (because & reading ? EV_READ : 0) | (because & writing ? EV_WRITE : 0);
}

/* The reader has found an error behind bytes, and libevent is to read now. The socket reports an
 * error once, so libevent would find an EOF in its place. */
static void tell_read_error(struct glev_bev *r)
{
	int err = r->fast.read_error;

	r->fast.read_error = 0;
	glev_settle_tell(r, BEV_EVENT_ERROR | BEV_EVENT_READING, err);
}

/* libevent has a filter look at what waits for it only when more comes. So the bufferevent below is
 * made to say that more has come. */
void glev_settle_ask_filter(struct glev_bev *r, short what)
{
	bufferevent_trigger(r->stack.under->bev, what, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
}

static void read_below(struct glev_bev *r)
{
	struct glev_bev *under = r->stack.under;

	if (r->stack.rests)
		glev_later(r->base, &r->stack.again);
	else if (evbuffer_get_length(under->in.evb))
		glev_settle_ask_filter(r, EV_READ);
}

static int add_dropped_of(struct glev_bev *r)
{
	short again = 0;

	if ((r->set.timed & EV_READ) && glev_event_was_dropped(&r->bev->ev_read, EV_READ))
		again |= EV_READ;
	if ((r->set.timed & EV_WRITE) && glev_event_was_dropped(&r->bev->ev_write, EV_WRITE))
		again |= EV_WRITE;
	return again ? bufferevent_enable(r->bev, again & bufferevent_get_enabled(r->bev)) : 0;
}

/* Adds libevent's own events again if they were dropped (see glev_event_was_dropped). That also happens when
 * libevent adds them for reasons of its own: what is done to a filter may add those of the socket
 * below. The events of a pair or a filter are only timers, and need not be registered.
 *
 * The look at timed needs no lock of the socket below. What was just done to the filter has taken
 * that lock if it has added an event, and a timeout that was set later has dropped nothing. */
static int add_dropped(struct glev_bev *r)
{
	struct glev_bev *bottom = glev_bev_bottom(r);
	int rc = 0;

	if (bottom->type == GLEV_SOCKET && __atomic_load_n(&bottom->set.timed, __ATOMIC_RELAXED)) {
		glev_bev_lock(bottom);
		rc = add_dropped_of(bottom);
		glev_bev_unlock(bottom);
	}
	return rc;
}

static int enable(struct glev_bev *r, short what)
{
	int rc = bufferevent_enable(r->bev, what);

	return rc == 0 ? add_dropped(r) : rc;
}

void glev_settle_tell_kept(struct glev_bev *r)
{
	struct glev_bev *under = r->stack.under;
	short kept = r->owed.kept;

	if (!kept)
		return;
	r->owed.kept = 0;
	glev_bev_lock(under);
	/* The filter below may be freed before it tells the event. Then the bufferevent below that one
	 * has to tell it. */
	if (under->stack.feed) {
		under->owed.passed |= glev_event_lasting(kept);
		under->owed.kept_err = r->owed.kept_err;
	}
	if (!glev_bev_is_quiet(under))
		glev_settle_tell(under, kept, r->owed.kept_err);
	glev_bev_unlock(under);
}

/* libevent turns reading on below a filter, and does not tell if that has failed. So reading is
 * turned on here once more, which changes nothing if it is on. */
static int turn_on_below(struct glev_bev *r)
{
	struct glev_bev *p;
	int rc = 0;

	for (p = r->stack.under; p && rc == 0; p = p->stack.under) {
		glev_bev_lock(p);
		if (bufferevent_get_enabled(p->bev) & EV_READ)
			rc = bufferevent_enable(p->bev, EV_READ);
		glev_bev_unlock(p);
	}
	return rc;
}

static int turn_on(struct glev_bev *r, short what)
{
	struct glev_bev *under = r->stack.under;
	int rc = bufferevent_enable(r->bev, what);

	if (rc == 0 && (what & EV_READ))
		rc = turn_on_below(r);
	if (rc == 0)
		rc = add_dropped(r);
	if (what & EV_READ)
		glev_settle_remind(r);
	if (under && (what & EV_READ)) {
		read_below(r);
		glev_settle_tell_kept(r);
	}
	if (under && (what & EV_WRITE) && evbuffer_get_length(r->out.evb))
		glev_settle_ask_filter(r, EV_WRITE);
	return rc;
}

/* What libevent has on while the connection of a connect by name is tried: WRITE, so that it
 * writes as soon as it is connected, and READ below a door, because the handshake reads
 * before the door tells of the connection. held has them as well, because libevent forgets
 * them when the attempt fails. */
static short tried(const struct glev_bev *r)
{
	if (r->link != GLEV_TRYING)
		return 0;
	return r->stack.carries ? EV_READ | EV_WRITE : EV_WRITE;
}

/* Turns directions on and off in libevent. */
static short apply(struct glev_bev *r, short asked)
{
	short enabled = bufferevent_get_enabled(r->bev), failed = 0;
	short both = tried(r), want_off, off, on;
	int was = r->off.because;

	r->off.because = reasons(r, enabled);
	if (was & ~r->off.because & GLEV_OFF_FULL)
		release_mark(r);
	want_off = directions(r, r->off.because);
	on = r->off.held & ~want_off;
	r->off.held = (r->off.held | (enabled & want_off)) & ~on;
	off = enabled & want_off & ~both;
	on = (on & (asked | ~enabled)) | (r->off.held & both & ~enabled);
	if ((on & EV_READ) && r->fast.read_error) {
		tell_read_error(r);
		on &= ~EV_READ;
	}
	/* First on, then off: as long as one event for the descriptor is added, going from
	 * libevent's event to ours, or back, costs no system call. */
	if (r->fast.on && sync_events(r) < 0)
		failed |= EV_READ;
	if (off)
		bufferevent_disable(r->bev, off);
	if (on && turn_on(r, on) < 0)
		failed |= on;
	else if (!on && add_dropped(r) < 0)
		failed |= EV_READ | EV_WRITE;
	if (!r->fast.on)
		sync_events(r);
	return failed;
}

/* If the user has set no closure yet, the callback may come after the user has set one. */
int glev_settle_shows(const struct glev_bev *r)
{
	int8_t closures = __atomic_load_n(&r->closures, __ATOMIC_RELAXED);

	return (closures & GLEV_CB_WRITE) || !closures || r->set.write_timed ||
	    evbuffer_get_length(r->out.evb);
}

/* Tells the event closure that directions could not be turned on which the user had enabled
 * before. They are off now. */
static void fail(struct glev_bev *r, short what)
{
	int err = errno ? errno : ENOMEM;

	glev_settle_disable(r, what);
	glev_settle_tell(r, BEV_EVENT_ERROR | (what & EV_READ ? BEV_EVENT_READING : BEV_EVENT_WRITING), err);
}

static void adjust(struct glev_bev *r)
{
	short failed;

	errno = 0;
	failed = apply(r, 0);
	if (failed)
		fail(r, failed);
}

void glev_settle(struct glev_bev *r)
{
	choose(r);
	adjust(r);
}

int glev_settle_try(struct glev_bev *r)
{
	errno = 0;
	choose(r);
	return apply(r, 0) ? -(errno ? errno : ENOMEM) : 0;
}

short glev_settle_enable(struct glev_bev *r, short what)
{
	int was_reading = r->fast.reading;
	short failed;

	errno = 0;
	r->off.ended &= ~what;
	r->off.held |= what;
	failed = apply(r, what);
	if (was_reading && (what & EV_READ) && wants_to_read(r) && add_reader(r) < 0)
		failed |= EV_READ;
	if (what & EV_WRITE)
		glev_stall_renew(r);
	return failed;
}

void glev_settle_on(struct glev_bev *r, short what)
{
	short failed = glev_settle_enable(r, what);

	if (failed)
		fail(r, failed);
}

int glev_settle_time_out(struct glev_bev *r, short what)
{
	int rc;

	r->off.held &= ~what;
	rc = bufferevent_disable(r->bev, what);
	sync_events(r);
	return rc;
}

int glev_settle_disable(struct glev_bev *r, short what)
{
	if ((what & EV_WRITE) && wants_to_write(r))
		r->fast.spilled = 0; /* or else glev_settle_write_failed would take it for a failure */
	r->off.ended |= what;
	return glev_settle_time_out(r, what);
}

void glev_settle_end(struct glev_bev *r, short what)
{
	r->off.held &= ~what;
	sync_events(r);
}

/* libevent merges the events of a turn, and keeps the errno of the last one. So until the events
 * are told, the errno of an error is given again with every event that follows. */
void glev_settle_tell(struct glev_bev *r, short what, int err)
{
	if (err)
		r->owed.err = err;
	errno = r->owed.err;
	bufferevent_trigger_event(r->bev, what, BEV_TRIG_DEFER_CALLBACKS);
}

int glev_settle_write_failed(const struct glev_bev *r)
{
	return r->owed.write_failed || (r->fast.spilled && !r->fast.writer && !wants_to_write(r));
}

void glev_settle_told(struct glev_bev *r, short what)
{
	if (!(what & BEV_EVENT_WRITING))
		return;
	r->owed.write_failed = 0;
	if (glev_settle_write_failed(r))
		r->fast.spilled = 0;
}

void glev_settle_native_off(struct glev_bev *r)
{
	bufferevent_disable(r->bev, EV_READ | EV_WRITE);
}

void glev_settle_quiet(struct glev_bev *r)
{
	r->off.held = 0;
	r->off.because = 0;
	choose(r);
	if (r->fast.writer)
		event_del(glev_fast_writer_event(r));
	glev_settle_native_off(r);
}

/* --- what changes by itself: the buffers ---------------------------------------- */

/* These are called by callbacks of the buffers, perhaps in the middle of libevent's own work.
 * So they neither start nor stop the fast path. */

/* With a high mark libevent enables reading with every change of the input: that restarts
 * the read timeout, and an end of a pair looks for more. */
static void restart_reading(struct glev_bev *r)
{
	if (r->fast.reading && set_or_null(&r->set.read_timeout) && wants_to_read(r))
		add_reader(r);
	else if (!r->fast.on && !r->mark.native && (bufferevent_get_enabled(r->bev) & EV_READ))
		enable(r, EV_READ);
}

void glev_settle_lent(struct glev_bev *r)
{
	adjust(r);
}

void glev_settle_input(struct glev_bev *r)
{
	if (is_full(r) != ((r->off.because & GLEV_OFF_FULL) != 0))
		adjust(r);
	else if (r->mark.high && !is_full(r))
		restart_reading(r);
	if (r->stack.under && !r->door && (bufferevent_get_enabled(r->bev) & EV_READ) && !is_full(r))
		read_below(r);
	if (sync_events(r) < 0)
		fail(r, EV_READ);
}

void glev_settle_digest(struct glev_bev *r, int on)
{
	if (r->stack.digesting == on)
		return;
	r->stack.digesting = (int8_t)on;
	adjust(r);
}

void glev_settle_output(struct glev_bev *r)
{
	if (r->fast.spilled && evbuffer_get_length(r->out.evb) == 0) {
		r->fast.spilled = 0;
		adjust(r);
	}
}

void glev_settle_spill(struct glev_bev *r)
{
	if (r->fast.spilled)
		return;
	r->fast.spilled = 1;
	__atomic_fetch_add(&r->base->fast.spills, 1, __ATOMIC_RELAXED);
	adjust(r);
}

/* libevent's own callback of the output, which runs after ours, begins to wait for the socket, and
 * does not tell if that has failed. Nor does it notice if it has dropped a timeout that had passed and
 * was not told (see glev_event_was_dropped). So this begins to wait before. */
void glev_settle_unsent(struct glev_bev *r)
{
	int pending;

	if (!r->fast.reader || !(bufferevent_get_enabled(r->bev) & EV_WRITE))
		return;
	pending = event_pending(&r->bev->ev_write, EV_WRITE | EV_TIMEOUT, NULL);
	if (r->door ? pending != EV_TIMEOUT : pending & EV_WRITE)
		return;
	errno = 0;
	if (enable(r, EV_WRITE) < 0)
		fail(r, EV_WRITE);
}

/* --- settings -------------------------------------------------------------------- */

static int set_read_marks(struct glev_bev *r, size_t low, size_t high)
{
	size_t before = r->mark.high;

	__atomic_store_n(&r->mark.high, high, __ATOMIC_RELAXED);
	if (watch_input(r) < 0 || (high && !has_room(r))) {
		__atomic_store_n(&r->mark.high, before, __ATOMIC_RELAXED);
		watch_input(r);
		return -ENOMEM;
	}
	r->mark.low = low;
	set_mark(r, low, high);
	return 0;
}

int glev_settle_set_watermark(struct glev_bev *r, short what, size_t low, size_t high)
{
	if ((what & EV_READ) && set_read_marks(r, low, high) < 0)
		return -ENOMEM;
	if (what & EV_WRITE) {
		r->mark.write_low = low;
		bufferevent_setwatermark(r->bev, EV_WRITE, low, high);
		if (r->fast.on && r->fast.reader)
			bound_writes(r);
	}
	adjust(r);
	if ((what & EV_READ) && r->fast.reading && set_or_null(&r->set.read_timeout))
		add_reader(r);
	return 0;
}

/* libevent takes the mark minus the length for the room that is left, as a signed number: with this
 * mark the room is negative. */
void glev_settle_overfill(struct glev_bev *r)
{
	r->bev->wm_read.high = (size_t)-1;
}

/* libevent remembers a timeout until the event is assigned, and adds it again with each callback. Only
 * event_remove_timer makes libevent forget it, but not while the timeout has passed and is not told. */
static int restart_timeout(struct glev_bev *r, struct event *ev, short what, struct timeval *tv)
{
	tv = set_or_null(tv);
	if (tv)
		event_add(ev, tv);
	else
		event_remove_timer(ev);
	if (!glev_event_was_dropped(ev, what))
		return 0;
	(what == EV_READ ? assign_reader : assign_writer)(r);
	return event_add(ev, tv);
}

int glev_settle_set_timeouts(struct glev_bev *r, const struct timeval *rd, const struct timeval *wr)
{
	static const struct timeval none;
	struct glev_writer *w = r->fast.writer;
	short failed = 0;
	int libevents = r->type == GLEV_SOCKET; /* its write timer */

	if (!libevents && glev_stall_set(r, wr) < 0)
		return -ENOMEM;
	r->set.read_timeout = *rd;
	r->set.write_timed = wr->tv_sec || wr->tv_usec;
	errno = 0;
	if (r->fast.reading)
		failed = restart_timeout(r, r->fast.reader, EV_READ, &r->set.read_timeout) < 0 ? EV_READ : 0;
	else if (r->fast.on && r->fast.reader)
		assign_reader(r);
	if (w) {
		w->timeout = *wr;
		if (w->writing)
			failed |= restart_timeout(r, glev_fast_writer_event(r), EV_WRITE, &w->timeout) < 0 ? EV_WRITE : 0;
		else if (r->fast.on)
			assign_writer(r);
	}
	if (failed)
		fail(r, failed);
	return set_native_timeouts(r, rd, !libevents || (r->fast.on && w) ? &none : wr) < 0 ? -EIO : 0;
}

int glev_settle_set_priority(struct glev_bev *r, int priority)
{
	if (bufferevent_priority_set(r->bev, priority) < 0)
		return -1;
	if (r->fast.on && r->fast.writer && event_priority_set(glev_fast_writer_event(r), priority) < 0)
		return -1;
	return r->fast.on ? event_priority_set(r->fast.reader, priority) : 0;
}
