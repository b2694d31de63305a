/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bufferevent.c: the C half of BufferEvent: making one, its settings, its data. What the
 * record is, its states and its locks are in bev.h; what follows from them is in settle.c.
 */

#include <errno.h>
#include <stdlib.h>

#include "bev.h"

/* --- making ------------------------------------------------------------------- */

void glev_bev_init(struct glev_bev *r, struct glev_base *b, struct bufferevent *bev, int type, int options, int loop_only, uintptr_t handle)
{
	r->bev = bev;
	r->base = b;
	r->handle = handle;
	r->type = (int8_t)type;
	r->set.priority = -1;
	r->owns = options & BEV_OPT_CLOSE_ON_FREE ? GLEV_OWNS_DESCRIPTOR : 0;
	r->loop_only = (int8_t)loop_only;
	r->in.evb = bufferevent_get_input(bev);
	r->in.owner = r;
	r->out.evb = bufferevent_get_output(bev);
	r->out.owner = r;
	r->in.bypass = r->out.bypass = &r->fast.bypass;
	if (type != GLEV_FILTER) {
		/* As libevent makes them: only libevent appends to the input and drains the
		 * output. A filter's functions do both. */
		r->in.frozen = GLEV_BACK;
		r->out.frozen = GLEV_FRONT;
	}
	glev_settle_set_callbacks(r, 0);
}

struct glev_bev *glev_bev_new(struct glev_base *b, int fd, int options, int loop_only, int plain, uintptr_t handle, int *err)
{
	struct bufferevent *bev;
	struct glev_bev *r;
	int stream = 0;

	*err = fd < 0 ? 0 : -glev_bev_prepare_fd(fd, &stream);
	if (*err)
		return NULL;
	*err = ENOMEM;
	r = calloc(1, sizeof(*r) + glev_fast_size(0));
	if (!r)
		return NULL;
	/* glev_bev_quiet closes the descriptor, so libevent is not asked to. */
	bev = bufferevent_socket_new(b->base, fd, options & ~BEV_OPT_CLOSE_ON_FREE);
	if (!bev) {
		free(r);
		return NULL;
	}
	glev_bev_init(r, b, bev, GLEV_SOCKET, options, loop_only, handle);
	glev_fast_init(r);
	if (!glev_settle_watch_output(r)) {
		bufferevent_free(bev);
		free(r);
		return NULL;
	}
	r->fast.plain = (int8_t)plain;
	r->owed.touched = (int8_t)plain; /* we do not see what is appended there */
	r->link = stream ? GLEV_OPEN : GLEV_UNLINKED;
	glev_settle(r);
	return r;
}

int glev_bev_new_pair(struct glev_base *b, int options, int loop_only, uintptr_t handles[2], struct glev_bev *out[2])
{
	struct bufferevent *pair[2];
	int i;

	out[0] = calloc(1, sizeof(*out[0]));
	out[1] = calloc(1, sizeof(*out[1]));
	if (!out[0] || !out[1] || bufferevent_pair_new(b->base, options, pair) < 0) {
		free(out[0]);
		free(out[1]);
		return -ENOMEM;
	}
	for (i = 0; i < 2; i++) {
		glev_bev_init(out[i], b, pair[i], GLEV_PAIR, options, loop_only, handles[i]);
		out[i]->stack.partner = out[!i];
	}
	return 0;
}

void glev_bev_set_known(struct glev_bev *r)
{
	__atomic_store_n(&r->owed.known, 1, __ATOMIC_RELEASE);
}

struct bufferevent *glev_bev_native(struct glev_bev *r)
{
	return r->bev;
}

struct glev_bypass *glev_bev_bypass(struct glev_bev *r)
{
	return &r->fast.bypass;
}

struct glev_buf *glev_bev_input(struct glev_bev *r)
{
	return &r->in;
}

struct glev_buf *glev_bev_output(struct glev_bev *r)
{
	return &r->out;
}

struct bufferevent *glev_bev_expose(struct glev_bev *r)
{
	glev_bev_lock(r);
	r->fast.plain = r->owed.touched = 1;
	glev_settle(r);
	glev_bev_unlock(r);
	return r->bev;
}

int64_t glev_bev_check(struct glev_bev *r)
{
	GLEV_CHECK_LOOP(r);
	return 0;
}

/* --- settings ----------------------------------------------------------------- */

int64_t glev_bev_enable(struct glev_bev *r, short what)
{
	int64_t rc = 0;
	short failed;

	GLEV_ENTER(r);
	r->owed.touched = 1;
	if (what & EV_WRITE) {
		r->owed.mute = 0;
		r->owed.write_failed = (int8_t)glev_settle_write_failed(r);
		if (glev_settle_shows(r))
			r->fast.spilled = 1;
	}
	if ((what & EV_READ) && !(r->owed.passed & BEV_EVENT_EOF))
		r->owed.end_passed = 0;
	failed = glev_settle_enable(r, what);
	if (!failed)
		rc = glev_bev_start(r, 0);
	if (failed) {
		rc = -(errno ? errno : EIO);
		glev_settle_disable(r, failed);
	}
	glev_bev_unlock(r);
	return rc;
}

int64_t glev_bev_disable(struct glev_bev *r, short what)
{
	int rc;

	GLEV_ENTER(r);
	rc = glev_settle_disable(r, what);
	glev_bev_start(r, 1);
	glev_bev_unlock(r);
	return rc < 0 ? -EIO : 0;
}

int64_t glev_bev_enabled(struct glev_bev *r)
{
	short what;

	GLEV_ENTER(r);
	what = bufferevent_get_enabled(r->bev) | r->off.held;
	glev_bev_unlock(r);
	return what;
}

int64_t glev_bev_set_closures(struct glev_bev *r, int closures)
{
	int64_t rc = 0;

	GLEV_ENTER(r);
	if (r->stack.above) {
		rc = GLEV_FILTERED;
	} else {
		__atomic_store_n(&r->closures, (int8_t)closures, __ATOMIC_RELAXED);
		glev_settle_set_callbacks(r, closures & GLEV_CB_WRITE);
		rc = glev_bev_start(r, 0);
	}
	glev_bev_unlock(r);
	return rc;
}

static struct timeval timeval_of(int64_t usec)
{
	struct timeval tv = {usec / 1000000, usec % 1000000};

	return tv;
}

int64_t glev_bev_set_timeouts(struct glev_bev *r, int64_t read_usec, int64_t write_usec)
{
	struct timeval rd = timeval_of(read_usec), wr = timeval_of(write_usec);
	int rc;

	GLEV_ENTER(r);
	rc = glev_settle_set_timeouts(r, &rd, &wr);
	glev_bev_unlock(r);
	return rc;
}

int64_t glev_bev_set_watermark(struct glev_bev *r, short what, size_t low, size_t high)
{
	int64_t rc;

	GLEV_ENTER(r);
	rc = glev_settle_set_watermark(r, what, low, high);
	glev_bev_unlock(r);
	return rc;
}

int64_t glev_bev_get_watermark(struct glev_bev *r, short what, size_t *low, size_t *high)
{
	GLEV_CHECK_LOOP(r);
	return bufferevent_getwatermark(r->bev, what, low, high) != 0 ? -EINVAL : 0;
}

/* --- data ---------------------------------------------------------------------- */

/* CloseWrite freezes the output. */
static int64_t shut_if_frozen(struct glev_bev *r, int64_t rc)
{
	if (rc == GLEV_FROZEN) {
		glev_bev_lock(r);
		if (r->ending.shut)
			rc = GLEV_SHUT;
		glev_bev_unlock(r);
	}
	return rc;
}

static int add(struct evbuffer *evb, const char *p, size_t n)
{
	return evbuffer_add(evb, p, n);
}

static int64_t append(struct glev_bev *r, const char *p, size_t n)
{
	enum { MUCH = 32 * 1024 };

	if (glev_bypass_matters(&r->fast.bypass)) {
		glev_bev_lock(r);
		glev_bev_unlock(r);
	}
	if (glev_bypass_lost(&r->out))
		return -ENOMEM;
	if ((n >= MUCH && (r->fast.reader || r->door) ? glev_block_copy : add)(r->out.evb, p, n) == 0)
		return 0;
	return shut_if_frozen(r, glev_buf_add(&r->out, p, n));
}

/* If the output is empty the bytes go straight to the socket, and only the rest goes to the
 * output. */
static int64_t write_at_once(struct glev_bev *r, const char *p, size_t n)
{
	size_t sent = 0;
	int64_t rc = 0;
	int straight, err = 0;

	GLEV_ENTER(r);
	straight = glev_fast_is_straight(r, n);
	if (straight)
		sent = glev_fast_send(r, p, n, &err);
	r->fast.direct++;
	if (sent < n)
		rc = append(r, p + sent, n - sent);
	r->fast.direct--;
	if (straight && rc && (sent || r->door)) /* a door may have begun to write them */
		err = ENOMEM; /* the stream has a hole, so this is its end */
	if (straight)
		glev_fast_sent(r, sent, err);
	else if (rc == 0)
		glev_fast_write(r);
	glev_bev_unlock(r);
	return rc;
}

/* Whether bytes are sent by the call that writes them. On another thread, because the loop's thread
 * may be waiting for events. In a read closure, if the copy would cost more than the send, but not
 * if the bytes are so many that the socket will not take them all. */
static int is_to_go_at_once(struct glev_bev *r, size_t n)
{
	enum { MANY = 8 * 1024, TOO_MANY = 64 * 1024 };

	if (!r->fast.reader || !glev_base_running(r->base))
		return 0;
	return !glev_base_on_loop(r->base) ||
	    (n >= MANY && n <= TOO_MANY && glev_bypass_matters(&r->fast.bypass));
}

int64_t glev_bev_write(struct glev_bev *r, const char *p, size_t n)
{
	GLEV_CHECK_LOOP(r);
	if (is_to_go_at_once(r, n))
		return write_at_once(r, p, n);
	if (glev_bypass_write(r, p, n))
		return 0;
	return append(r, p, n);
}

int64_t glev_bev_write_buffer(struct glev_bev *r, struct glev_buf *src)
{
	GLEV_CHECK_LOOP(r);
	return shut_if_frozen(r, glev_buf_add_buffer(&r->out, src));
}

int64_t glev_bev_read(struct glev_bev *r, char *p, size_t n)
{
	int64_t got;

	GLEV_CHECK_LOOP(r);
	got = glev_bypass_read(r, p, n);
	return got >= 0 ? got : glev_buf_remove(&r->in, p, n);
}

int64_t glev_bev_read_buffer(struct glev_bev *r, struct glev_buf *dst)
{
	GLEV_CHECK_LOOP(r);
	return glev_buf_add_buffer(dst, &r->in);
}

/* A filter does not tell that a flush has brought something. The closure of r is told, or else
 * the filter above. */
static void tell_of_input(struct glev_bev *r, size_t before)
{
	if (evbuffer_get_length(r->in.evb) > before)
		bufferevent_trigger(r->bev, EV_READ, BEV_TRIG_DEFER_CALLBACKS);
	while ((r = r->stack.under) != NULL)
		if (r->type == GLEV_FILTER && evbuffer_get_length(r->in.evb))
			bufferevent_trigger(r->bev, EV_READ, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
}

int64_t glev_bev_flush(struct glev_bev *r, short what, int mode)
{
	int64_t rc = GLEV_LENT;
	size_t before;

	GLEV_ENTER_STACK(r);
	if (!glev_bev_flush_meets_loan(r)) {
		before = evbuffer_get_length(r->in.evb);
		rc = glev_bev_flush_native(r, what, (enum bufferevent_flush_mode)mode);
		if (rc < 0)
			rc = -EPIPE;
		if ((what & EV_READ) && r->type == GLEV_FILTER)
			tell_of_input(r, before);
	}
	glev_stack_unlock(r);
	return rc;
}

/* --- asking for callbacks, and their order -------------------------------- */

/* Always deferred: a panic in a closure that is called from inside this call could not pass
 * through the frames of libevent below it. */
int64_t glev_bev_trigger(struct glev_bev *r, short what, int flags)
{
	GLEV_ENTER(r);
	if (r->stack.above) {
		glev_bev_unlock(r);
		return GLEV_FILTERED;
	}
	r->owed.touched = 1;
	if (what & EV_READ)
		r->owed.read = 1;
	if (what & EV_WRITE) {
		r->owed.mute = 0;
		r->owed.written = 1;
	}
	bufferevent_trigger(r->bev, what, flags | BEV_TRIG_DEFER_CALLBACKS);
	glev_bev_unlock(r);
	return 0;
}

int64_t glev_bev_trigger_event(struct glev_bev *r, short what)
{
	GLEV_ENTER(r);
	if (r->stack.above) {
		glev_bev_unlock(r);
		return GLEV_FILTERED;
	}
	r->owed.touched = 1;
	r->owed.events |= what;
	glev_settle_tell(r, what, 0);
	glev_bev_unlock(r);
	return 0;
}

/* Whether a callback of the bufferevent may be in libevent's queues. libevent has put it into
 * the queue of its priority, and would look for it in the queue of the new one. */
static int callback_may_be_due(const struct glev_bev *r)
{
	return r->owed.touched && event_base_get_num_events(r->base->base, EVENT_BASE_COUNT_ACTIVE) > 0;
}

int64_t glev_bev_set_priority(struct glev_bev *r, int priority)
{
	int64_t rc = 0;

	if (r->type != GLEV_SOCKET)
		return GLEV_NO_SOCKET;
	GLEV_ENTER(r);
	if (r->owed.touched && !glev_base_on_loop(r->base))
		rc = GLEV_WRONG_LOOP; /* see glev_event_set_priority */
	else if (callback_may_be_due(r) || glev_settle_set_priority(r, priority) < 0)
		rc = -EBUSY;
	else
		r->set.priority = (short)priority;
	glev_bev_unlock(r);
	return rc;
}

int64_t glev_bev_priority(struct glev_bev *r)
{
	GLEV_CHECK_LOOP(r);
	return bufferevent_get_priority(r->bev);
}

/* --- another base ----------------------------------------------------------------- */

/* When libevent fails for one of the events, the bufferevent already has the new base. */
static int set_native_base(struct glev_bev *r, struct glev_base *to)
{
	int priority = r->set.priority;

	if (bufferevent_base_set(to->base, r->bev) < 0 ||
	    (r->ending.flushed && event_base_set(to->base, r->ending.flushed) < 0)) {
		bufferevent_base_set(r->base->base, r->bev);
		return -1;
	}
	/* libevent does not move the priority of the callbacks. */
	if (priority < 0)
		priority = event_base_get_npriorities(to->base) / 2;
	bufferevent_priority_set(r->bev, priority);
	glev_fast_forget(r);
	glev_later_forget(r->base, &r->fast.again);
	r->base = to;
	return 0;
}

/*
 * libevent leaves things behind on the old base: a callback that is due, in its queue, and
 * the timer of a limit. And libevent fails half way if an event is registered. So there must
 * be none of these.
 */
static int64_t may_move(struct glev_bev *r, struct glev_base *to)
{
	if (r->stack.above)
		return GLEV_FILTERED;
	if (r->set.was_limited)
		return GLEV_LIMITED;
	if (glev_bev_dials(r) || glev_bev_connection_is_due(r))
		return -EINPROGRESS;
	if (r->set.priority >= event_base_get_npriorities(to->base))
		return -ERANGE;
	if (callback_may_be_due(r) || glev_buf_cb_any_due(&r->in) || glev_buf_cb_any_due(&r->out))
		return -EBUSY;
	return 0;
}

int64_t glev_bev_set_base(struct glev_bev *r, struct glev_base *to)
{
	int64_t rc;

	if (r->type != GLEV_SOCKET || r->door)
		return GLEV_NO_SOCKET;
	if (!glev_base_on_loop(r->base))
		return GLEV_WRONG_LOOP;
	GLEV_ENTER(r);
	rc = may_move(r, to);
	if (rc == 0) {
		r->fast.paused = 1;
		r->off.because |= GLEV_OFF_MOVING; /* and libevent must not read or write instead */
		glev_settle(r);
		if (set_native_base(r, to) < 0)
			rc = -EBUSY;
		r->fast.paused = 0;
		r->off.because &= ~GLEV_OFF_MOVING;
		/* The binding, and not the user, enables WRITE on the new base. */
		r->owed.mute = 0;
		if (r->off.held & EV_WRITE)
			glev_settle_mute(r);
		glev_settle(r);
	}
	glev_bev_unlock(r);
	return rc;
}
