/*
 * bufferevent.c: the native half of BufferEvent.
 *
 * The lock of a bufferevent is the lock of its buffers; it is taken through
 * evbuffer_lock because bufferevent_unlock also drops a reference and may
 * finalize. A bufferevent made for its loop alone has no lock: there every
 * function first checks that it runs on the loop's thread.
 *
 * libevent and the binding both want to switch directions off and on. What the
 * user enabled and we keep off for the moment is in `held`; see apply below.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "native.h"

#define CHECK_LOOP(r)                                                         \
	do {                                                                  \
		if ((r)->loop_only && !glev_base_on_loop((r)->base))          \
			return GLEV_WRONG_LOOP;                               \
	} while (0)

static void lock(struct glev_bev *r)
{
	evbuffer_lock(r->in.evb);
}

static void unlock(struct glev_bev *r)
{
	evbuffer_unlock(r->in.evb);
}

static struct timeval timeval_of(int64_t usec)
{
	struct timeval tv = {usec / 1000000, usec % 1000000};

	return tv;
}

struct glev_bev *glev_bev_bottom(struct glev_bev *r)
{
	while (r->under)
		r = r->under;
	return r;
}

/* --- making and freeing --------------------------------------------------- */

/* Tells libevent which callbacks to make. The read and event callbacks are
 * always there: libevent keeps the pending bit of a callback that is NULL when
 * its turn comes, and would deliver that stale event to the next closure. The
 * write callback is left out until somebody wants it, for it costs a deferred
 * callback per write; once wanted it stays, for the same reason. */
void glev_bev_install(struct glev_bev *r, int write)
{
	bufferevent_data_cb on_write = NULL;

	bufferevent_getcb(r->bev, NULL, &on_write, NULL, NULL);
	if (write)
		on_write = glev_on_bev_write;
	bufferevent_setcb(r->bev, glev_on_bev_read, on_write, glev_on_bev_event, r);
}

void glev_bev_init(struct glev_bev *r, struct glev_base *b, struct bufferevent *bev, int kind, int options, int loop_only, void *handle)
{
	r->bev = bev;
	r->base = b;
	r->handle = handle;
	r->kind = kind;
	r->close_on_free = (options & BEV_OPT_CLOSE_ON_FREE) != 0;
	r->loop_only = loop_only;
	r->in.evb = bufferevent_get_input(bev);
	r->in.owner = r;
	r->out.evb = bufferevent_get_output(bev);
	r->out.owner = r;
	if (kind != GLEV_FILTER) {
		/* As libevent makes them: only it appends to the input and
		 * drains the output. A filter's functions do both. */
		r->in.frozen = GLEV_BACK;
		r->out.frozen = GLEV_FRONT;
	}
	glev_bev_install(r, 0);
}

struct glev_bev *glev_bev_new(struct glev_base *b, int fd, int options, int loop_only, void *handle, int *err)
{
	struct bufferevent *bev;
	struct glev_bev *r;

	/* Closing is ours (see glev_bev_quiet), so libevent is not asked to:
	 * it would close the caller's descriptor when we fail here. */
	if (fd >= 0 && evutil_make_socket_nonblocking(fd) < 0) {
		*err = errno;
		return NULL;
	}
	*err = ENOMEM;
	r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	bev = bufferevent_socket_new(b->base, fd, options & ~BEV_OPT_CLOSE_ON_FREE);
	if (!bev) {
		free(r);
		return NULL;
	}
	glev_bev_init(r, b, bev, GLEV_SOCKET, options, loop_only, handle);
	return r;
}

int glev_bev_new_pair(struct glev_base *b, int options, int loop_only, void *handles[2], struct glev_bev *out[2])
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
	for (i = 0; i < 2; i++)
		glev_bev_init(out[i], b, pair[i], GLEV_PAIR, options, loop_only, handles[i]);
	return 0;
}

/*
 * Another thread may call this while the loop's thread stands at the lock in
 * libevent's own read or write callback, with the descriptor's number already
 * in its hand: when it gets the lock it would read from, or write to, whatever
 * that number means by then. So it must find nothing to do: the output is
 * emptied, and the input is over its high watermark. (A buffer that is lent is
 * left alone; its borrower is the loop's thread, so that thread stands nowhere
 * else.)
 */
void glev_bev_quiet(struct glev_bev *r)
{
	int fd = -1;

	lock(r);
	/* The callbacks of a filter on top stay; they find nothing to do. */
	if (!r->filtered)
		bufferevent_setcb(r->bev, NULL, NULL, NULL, NULL);
	if (r->limit)
		event_del(r->limit);
	if (r->flushed)
		event_del(r->flushed);
	if (r->in_cb)
		evbuffer_remove_cb_entry(r->in.evb, r->in_cb);
	if (r->out_cb)
		evbuffer_remove_cb_entry(glev_bev_bottom(r)->out.evb, r->out_cb);
	r->in_cb = r->out_cb = NULL;
	r->held = 0;
	r->paused = 0;
	r->lingering = 0;
	r->quiet = 1;
	bufferevent_disable(r->bev, EV_READ | EV_WRITE);
	if (r->rate)
		bufferevent_set_rate_limit(r->bev, NULL);
	if (r->kind == GLEV_SOCKET) {
		if (!r->out.lent) {
			evbuffer_unfreeze(r->out.evb, 1);
			evbuffer_drain(r->out.evb, (size_t)-1);
		}
		if (!r->in.lent) {
			evbuffer_unfreeze(r->in.evb, 1);
			evbuffer_prepend(r->in.evb, "", 1);
			bufferevent_setwatermark(r->bev, EV_READ, 0, 1);
		}
		fd = bufferevent_getfd(r->bev);
		bufferevent_setfd(r->bev, -1);
	}
	if (fd >= 0 && r->close_on_free)
		evutil_closesocket(fd);
	unlock(r);
}

void glev_bev_free(struct glev_bev *r)
{
	if (r->under && r->under->filtered) {
		/* What is below is its own again. libevent leaves callbacks
		 * alone that are no longer the filter's. */
		evbuffer_lock(r->under->in.evb);
		r->under->filtered = 0;
		bufferevent_setcb(r->under->bev, NULL, NULL, NULL, NULL);
		if (!r->under->quiet)
			glev_bev_install(r->under, r->under->closures & GLEV_CB_WRITE);
		evbuffer_unlock(r->under->in.evb);
	}
	bufferevent_free(r->bev);
	if (r->limit)
		event_free(r->limit);
	if (r->flushed)
		event_free(r->flushed);
	if (r->rate)
		ev_token_bucket_cfg_free(r->rate);
	free(r);
}

int64_t glev_bev_check(struct glev_bev *r)
{
	CHECK_LOOP(r);
	return 0;
}

/* --- enabling -------------------------------------------------------------- */

/* The directions that must be off in libevent whatever the user enabled.
 *  - A read closure that drains nothing at the high watermark would be called
 *    again and again by libevent 2.1, at the cost of a whole core.
 *  - The other end of a pair, and a filter's functions, move bytes in and out of
 *    these buffers from whatever thread they are used on, also while they are lent. */
static short kept_off(struct glev_bev *r)
{
	short what = 0;

	if (r->paused || (r->kind != GLEV_SOCKET && r->in.lent))
		what |= EV_READ;
	if (r->kind != GLEV_SOCKET && r->out.lent)
		what |= EV_WRITE;
	return what;
}

/* bufferevent_enable that leaves nothing behind: a filter that is enabled looks at
 * what waits for it only when more comes, so its socket is made to say that more
 * came. */
static int turn_on(struct glev_bev *r, short what)
{
	const int now = BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS;
	int rc = bufferevent_enable(r->bev, what);

	if (r->under && (what & EV_READ) && evbuffer_get_length(r->under->in.evb))
		bufferevent_trigger(r->under->bev, EV_READ, now);
	if (r->under && (what & EV_WRITE) && evbuffer_get_length(r->out.evb))
		bufferevent_trigger(r->under->bev, EV_WRITE, now);
	return rc;
}

/* Brings libevent's state in line with kept_off. Call with the lock. */
void glev_bev_apply(struct glev_bev *r)
{
	short want_off = kept_off(r);
	short off = bufferevent_get_enabled(r->bev) & want_off;
	short on = r->held & ~want_off;

	if (off) {
		r->held |= off;
		bufferevent_disable(r->bev, off);
	}
	if (on) {
		r->held &= ~on;
		turn_on(r, on);
	}
}

int64_t glev_bev_enable(struct glev_bev *r, short what)
{
	short off;
	int64_t rc = 0;

	CHECK_LOOP(r);
	lock(r);
	off = what & kept_off(r);
	r->held |= off;
	errno = 0;
	if (turn_on(r, what & ~off) < 0) {
		rc = -(errno ? errno : EIO);
		bufferevent_disable(r->bev, what & ~off);
	}
	unlock(r);
	return rc;
}

int64_t glev_bev_disable(struct glev_bev *r, short what)
{
	int rc;

	CHECK_LOOP(r);
	lock(r);
	r->held &= ~what;
	if (what & EV_READ)
		r->paused = 0;
	rc = bufferevent_disable(r->bev, what);
	unlock(r);
	return rc < 0 ? -EIO : 0;
}

int64_t glev_bev_enabled(struct glev_bev *r)
{
	short what;

	CHECK_LOOP(r);
	lock(r);
	what = bufferevent_get_enabled(r->bev) | r->held;
	unlock(r);
	return what;
}

/* --- settings -------------------------------------------------------------- */

int64_t glev_bev_closures(struct glev_bev *r, int closures)
{
	int64_t rc = 0;

	CHECK_LOOP(r);
	lock(r);
	if (r->filtered) {
		rc = GLEV_FILTERED;
	} else {
		__atomic_store_n(&r->closures, closures, __ATOMIC_RELAXED);
		glev_bev_install(r, closures & GLEV_CB_WRITE);
	}
	unlock(r);
	return rc;
}

int64_t glev_bev_timeouts(struct glev_bev *r, int64_t read_usec, int64_t write_usec)
{
	struct timeval rd = timeval_of(read_usec), wr = timeval_of(write_usec);
	int rc;

	CHECK_LOOP(r);
	rc = bufferevent_set_timeouts(r->bev, &rd, &wr);
	return rc < 0 ? -EIO : 0;
}

int64_t glev_bev_watermark(struct glev_bev *r, short what, size_t low, size_t high)
{
	int64_t rc = 0;

	CHECK_LOOP(r);
	lock(r);
	if (what & EV_READ) {
		if (high && !r->in_cb) {
			r->in_cb = evbuffer_add_cb(r->in.evb, glev_on_input, r);
			if (!r->in_cb) {
				rc = -ENOMEM;
				goto done;
			}
		} else if (!high && r->in_cb) {
			evbuffer_remove_cb_entry(r->in.evb, r->in_cb);
			r->in_cb = NULL;
		}
		__atomic_store_n(&r->high, high, __ATOMIC_RELAXED);
	}
	bufferevent_setwatermark(r->bev, what, low, high);
	if (r->paused && (!r->high || evbuffer_get_length(r->in.evb) < r->high)) {
		r->paused = 0;
		glev_bev_apply(r);
	}
done:
	unlock(r);
	return rc;
}

int64_t glev_bev_get_watermark(struct glev_bev *r, short what, size_t *low, size_t *high)
{
	CHECK_LOOP(r);
	return bufferevent_getwatermark(r->bev, what, low, high) != 0 ? -EINVAL : 0;
}

/* --- data ------------------------------------------------------------------ */

/* A frozen output is one whose writing side was closed. */
static int64_t shut_if_frozen(struct glev_bev *r, int64_t rc)
{
	return rc == GLEV_FROZEN && r->shut ? GLEV_SHUT : rc;
}

int64_t glev_bev_write(struct glev_bev *r, const char *p, size_t n)
{
	CHECK_LOOP(r);
	if (bufferevent_write(r->bev, p, n) == 0)
		return 0;
	return shut_if_frozen(r, glev_buf_add(&r->out, p, n));
}

int64_t glev_bev_write_buffer(struct glev_bev *r, struct glev_buf *src)
{
	CHECK_LOOP(r);
	return shut_if_frozen(r, glev_buf_add_buffer(&r->out, src));
}

int64_t glev_bev_read(struct glev_bev *r, char *p, size_t n)
{
	return glev_buf_remove(&r->in, p, n);
}

int64_t glev_bev_read_buffer(struct glev_bev *r, struct glev_buf *dst)
{
	CHECK_LOOP(r);
	return glev_buf_add_buffer(dst, &r->in);
}

/* --- descriptor ------------------------------------------------------------ */

/* What changes with the descriptor: libevent leaves both inner ends unfrozen,
 * and what was closed was closed on the old one. */
static void new_descriptor(struct glev_bev *r, int connecting)
{
	r->connecting = connecting;
	r->shut = 0;
	r->out.frozen &= ~GLEV_BACK;
	glev_buf_refreeze(&r->in);
	glev_buf_refreeze(&r->out);
}

int64_t glev_bev_connect(struct glev_bev *r, const struct glev_addr *a)
{
	struct sockaddr_storage ss;
	int len = glev_addr_to(a, &ss);
	int64_t rc = 0;
	int had;

	CHECK_LOOP(r);
	if (r->kind != GLEV_SOCKET)
		return GLEV_NO_SOCKET;
	if (len < 0)
		return len;
	lock(r);
	had = bufferevent_getfd(r->bev);
	errno = 0;
	if (bufferevent_socket_connect(r->bev, (struct sockaddr *)&ss, len) < 0) {
		rc = -(errno ? errno : EIO);
	} else {
		if (had < 0) /* libevent 2.1 leaves its socket open across exec */
			fcntl(bufferevent_getfd(r->bev), F_SETFD, FD_CLOEXEC);
		new_descriptor(r, 1);
	}
	unlock(r);
	return rc;
}

int64_t glev_bev_fd(struct glev_bev *r)
{
	CHECK_LOOP(r);
	return bufferevent_getfd(r->bev);
}

int64_t glev_bev_addr(struct glev_bev *r, int peer, struct glev_addr *a)
{
	int64_t rc;

	CHECK_LOOP(r);
	lock(r); /* the descriptor must not be closed and reused meanwhile */
	rc = glev_addr_of_fd(bufferevent_getfd(r->bev), peer, a);
	unlock(r);
	return rc;
}

int64_t glev_bev_setfd(struct glev_bev *r, int fd)
{
	int64_t rc = 0;

	CHECK_LOOP(r);
	if (r->kind != GLEV_SOCKET)
		return GLEV_NO_SOCKET;
	if (fd >= 0 && evutil_make_socket_nonblocking(fd) < 0)
		return -errno;
	lock(r);
	if (bufferevent_setfd(r->bev, fd) < 0)
		rc = -EIO;
	new_descriptor(r, 0);
	unlock(r);
	return rc;
}

/* --- ending ---------------------------------------------------------------- */

/* The record of the other end of a pair, or NULL when that was freed. */
static struct glev_bev *partner_of(struct glev_bev *r)
{
	struct bufferevent *bev = bufferevent_pair_get_partner(r->bev);
	void *arg = NULL;

	if (bev)
		bufferevent_getcb(bev, NULL, NULL, NULL, &arg);
	return arg;
}

int64_t glev_bev_flush(struct glev_bev *r, short what, int mode)
{
	struct glev_bev *p, *q;
	int64_t rc;

	CHECK_LOOP(r);
	lock(r);
	/* A flush moves bytes whatever is enabled, down a stack of filters and
	 * to the other end of a pair. */
	for (p = r; p; p = p->under) {
		q = p->kind == GLEV_PAIR ? partner_of(p) : NULL;
		if (p->kind != GLEV_SOCKET && (p->in.lent || p->out.lent ||
		    (q && (q->in.lent || q->out.lent)))) {
			rc = GLEV_LENT;
			goto done;
		}
	}
	rc = bufferevent_flush(r->bev, what, (enum bufferevent_flush_mode)mode);
	if (rc < 0)
		rc = -EPIPE;
done:
	unlock(r);
	return rc;
}

/* Whether the output, and those below it, are empty. */
int glev_bev_all_written(struct glev_bev *r)
{
	for (; r; r = r->under)
		if (evbuffer_get_length(r->out.evb))
			return 0;
	return 1;
}

/* Has the flushed event fire when an output in the stack becomes empty. */
static int watch_output(struct glev_bev *r)
{
	if (r->flushed)
		return 0;
	r->flushed = event_new(r->base->base, -1, EV_FINALIZE, glev_on_bev_flushed, r);
	if (r->flushed)
		r->out_cb = evbuffer_add_cb(glev_bev_bottom(r)->out.evb, glev_on_output, r);
	return r->out_cb ? 0 : -ENOMEM;
}

/* Shuts the writing side down when that was asked for and all is written. */
void glev_bev_try_shut(struct glev_bev *r)
{
	struct glev_bev *bottom = glev_bev_bottom(r);

	if (r->shut != 1 || bottom->connecting || !glev_bev_all_written(r))
		return;
	r->shut = 2;
	if (bottom->kind == GLEV_PAIR)
		bufferevent_flush(bottom->bev, EV_WRITE, BEV_FINISHED);
	else
		shutdown(bufferevent_getfd(bottom->bev), SHUT_WR);
}

int64_t glev_bev_close_write(struct glev_bev *r)
{
	struct glev_bev *bottom = glev_bev_bottom(r);
	int64_t rc = 0;

	CHECK_LOOP(r);
	lock(r);
	if (r->filtered)
		rc = GLEV_FILTERED;
	else if (bottom->kind == GLEV_SOCKET && bufferevent_getfd(bottom->bev) < 0)
		rc = -ENOTCONN;
	else if (r->shut == 0 && (rc = watch_output(r)) == 0) {
		r->shut = 1;
		if (r->kind == GLEV_FILTER) /* for what the functions still hold */
			bufferevent_flush(r->bev, EV_WRITE, BEV_FINISHED);
		r->out.frozen |= GLEV_BACK;
		glev_buf_refreeze(&r->out);
		glev_bev_try_shut(r);
	}
	unlock(r);
	return rc;
}

int64_t glev_bev_linger(struct glev_bev *r, int64_t limit_usec)
{
	struct timeval tv = timeval_of(limit_usec);
	struct glev_bev *bottom = glev_bev_bottom(r);
	int to_nowhere;
	int64_t rc = 0;

	CHECK_LOOP(r);
	lock(r);
	if (r->filtered) {
		rc = GLEV_FILTERED;
		goto done;
	}
	r->held &= ~EV_READ;
	r->paused = 0;
	bufferevent_disable(r->bev, EV_READ);
	if (r->kind == GLEV_FILTER)
		bufferevent_flush(r->bev, EV_WRITE, BEV_FINISHED);
	to_nowhere = bottom->kind == GLEV_PAIR ? !partner_of(bottom)
	                                       : bufferevent_getfd(bottom->bev) < 0;
	if (to_nowhere || glev_bev_all_written(r)) {
		if (bottom->kind == GLEV_PAIR)
			bufferevent_flush(bottom->bev, EV_WRITE, BEV_FINISHED);
		rc = 1;
		goto done;
	}
	if (!r->limit)
		r->limit = event_new(r->base->base, -1, EV_FINALIZE, glev_on_bev_limit, r);
	if (!r->limit || watch_output(r) < 0 || event_add(r->limit, &tv) < 0) {
		rc = -ENOMEM;
		goto done;
	}
	r->lingering = 1;
	__atomic_store_n(&r->closures, 0, __ATOMIC_RELAXED);
	/* Writing may be off, by the user or after an error; the flush means to
	 * write, and a broken socket then says so at once. */
	turn_on(r, EV_WRITE);
done:
	unlock(r);
	return rc;
}
