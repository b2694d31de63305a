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
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/sockios.h>
#endif

#include "native.h"

static void lock(struct glev_bev *r)
{
	evbuffer_lock(r->in.evb);
}

static void unlock(struct glev_bev *r)
{
	evbuffer_unlock(r->in.evb);
}

/* Takes the lock for a change, or leaves the function that makes it: the call may
 * have come in before another thread freed the bufferevent. */
#define LOCK_FOR_CHANGE(r)                                                    \
	do {                                                                  \
		GLEV_CHECK_LOOP(r);                                           \
		lock(r);                                                      \
		if ((r)->quiet) {                                             \
			unlock(r);                                            \
			return GLEV_CLOSED;                                   \
		}                                                             \
	} while (0)

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

struct glev_bev *glev_bev_carrier(struct glev_bev *r)
{
	while (r->under && !r->door)
		r = r->under;
	return r;
}

/* The socket or pair below all, also below filters that are not ours. */
static struct bufferevent *native_bottom(struct glev_bev *r)
{
	struct bufferevent *bev = r->bev, *below;

	while ((below = bufferevent_get_underlying(bev)) != NULL)
		bev = below;
	return bev;
}

static struct evbuffer *bottom_output(struct glev_bev *r)
{
	return bufferevent_get_output(native_bottom(r));
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
	r->priority = -1;
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

/* Makes a descriptor fit for a bufferevent, or says why it is not. What is always
 * ready cannot be waited for, and epoll's refusal would come too late to be seen. */
static int prepare(int fd, int *stream)
{
	struct stat st;
	int type = 0;
	socklen_t len = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
		if (fstat(fd, &st) < 0)
			return -errno;
		if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
			return -EPERM;
	}
	*stream = type == SOCK_STREAM;
	return evutil_make_socket_nonblocking(fd) < 0 ? -errno : 0;
}

struct glev_bev *glev_bev_new(struct glev_base *b, int fd, int options, int loop_only, int plain, void *handle, int *err)
{
	struct bufferevent *bev;
	struct glev_bev *r;
	int stream = 0;

	*err = fd < 0 ? 0 : -prepare(fd, &stream);
	if (*err)
		return NULL;
	*err = ENOMEM;
	r = calloc(1, sizeof(*r) + glev_fast_size(0));
	if (!r)
		return NULL;
	/* Closing is ours (see glev_bev_quiet), so libevent is not asked to. */
	bev = bufferevent_socket_new(b->base, fd, options & ~BEV_OPT_CLOSE_ON_FREE);
	if (!bev) {
		free(r);
		return NULL;
	}
	glev_bev_init(r, b, bev, GLEV_SOCKET, options, loop_only, handle);
	glev_fast_init(r);
	r->plain = plain;
	r->touched = plain; /* what is appended there is not seen */
	r->stream = r->open = stream;
	glev_fast_choose(r);
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
	for (i = 0; i < 2; i++) {
		glev_bev_init(out[i], b, pair[i], GLEV_PAIR, options, loop_only, handles[i]);
		out[i]->partner = out[!i];
	}
	return 0;
}

/* Whether the descriptor is the socket of an attempt of ConnectHostname, which no
 * one else knows. */
static int attempt_is_ours(struct glev_bev *r)
{
	return r->dialing == GLEV_TRYING && !r->given;
}

static int tell_door(struct glev_bev *r, int rc)
{
	if (r->door && r->door->socket)
		r->door->socket(r->bev);
	return rc;
}

static int give_fd(struct glev_bev *r, int fd)
{
	return tell_door(r, bufferevent_setfd(r->bev, fd));
}

/* Has libevent wait for a connection that has begun; it sets the descriptor again. */
static int await_connection(struct glev_bev *r)
{
	return tell_door(r, bufferevent_socket_connect(r->bev, NULL, 0));
}

/* Takes the socket of an attempt of ConnectHostname away, or, if it is the caller's,
 * what libevent waits for on it. */
static void end_attempt(struct glev_bev *r)
{
	int fd = bufferevent_getfd(r->bev);

	bufferevent_disable(r->bev, EV_READ | EV_WRITE);
	give_fd(r, r->given ? fd : -1);
	if (fd >= 0 && !r->given)
		evutil_closesocket(fd);
}

static void end_dial(struct glev_bev *r)
{
	if (r->dialing == GLEV_TRYING)
		end_attempt(r);
	r->dialing = 0;
}

/*
 * Another thread may call this while the loop's thread stands at the lock in
 * libevent's own read or write callback, with the descriptor's number already
 * in its hand: when it gets the lock it would read from, or write to, whatever
 * that number means by then. So it must find nothing to do: the output is empty
 * and frozen, for others may still be in a call that writes, and the input is
 * over its high watermark. (A buffer that is lent is left alone; its borrower is
 * the loop's thread, so that thread stands nowhere else.)
 */
void glev_bev_quiet(struct glev_bev *r)
{
	struct glev_bev *above;
	int fd = -1;

	lock(r);
	if (r->host) {
		end_dial(r);
		glev_adopt_return(r);
	}
	__atomic_store_n(&r->quiet, 1, __ATOMIC_RELEASE);
	/* The callbacks of a filter on top stay; they find nothing to do. */
	if (!r->above && !r->host)
		bufferevent_setcb(r->bev, NULL, NULL, NULL, NULL);
	if (r->limit)
		event_del(r->limit);
	if (r->flushed)
		event_del(r->flushed);
	if (r->in_cb)
		evbuffer_remove_cb_entry(r->in.evb, r->in_cb);
	if (r->out_cb)
		evbuffer_remove_cb_entry(bottom_output(r), r->out_cb);
	r->in_cb = r->out_cb = NULL;
	glev_buf_out_of_file(&r->out);
	if (r->host) {
		unlock(r);
		return;
	}
	r->held = 0;
	r->paused = 0;
	r->lingering = 0;
	glev_fast_choose(r);
	glev_fast_hush(r);
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
		give_fd(r, -1);
	}
	r->in.frozen = r->out.frozen = GLEV_FRONT | GLEV_BACK;
	glev_buf_refreeze(&r->in);
	glev_buf_refreeze(&r->out);
	if (fd >= 0 && (r->close_on_free || attempt_is_ours(r)))
		evutil_closesocket(fd);
	r->dialing = 0;
	for (above = r->partner; above; above = above->above)
		if (above->lingering) /* for somebody who is gone */
			event_active(above->flushed, EV_WRITE, 0);
	/* libevent does not tell the other end; but a filter there may wait for the rest of
	 * something, and TLS has to know that it was cut. */
	if (r->partner && r->partner->above && !r->finished)
		bufferevent_trigger_event(r->partner->bev, BEV_EVENT_EOF | BEV_EVENT_READING, BEV_TRIG_DEFER_CALLBACKS);
	unlock(r);
}

static void release(struct bufferevent *bev)
{
	bufferevent_decref(bev);
}

/* What is below a filter is its own again, or C's, or nobody's, as when C has freed it.
 * libevent leaves callbacks alone that are no longer the filter's. */
static void leave_below(struct glev_bev *r, struct glev_bev *filter)
{
	bufferevent_event_cb on_event;

	lock(r);
	r->above = NULL;
	if (filter->under_in_cb)
		evbuffer_remove_cb_entry(r->in.evb, filter->under_in_cb);
	if (filter->under_out_cb)
		evbuffer_remove_cb_entry(r->out.evb, filter->under_out_cb);
	bufferevent_getcb(r->bev, NULL, NULL, &on_event, NULL);
	bufferevent_setcb(r->bev, NULL, NULL, NULL, NULL);
	if (!r->quiet || (r->host && on_event)) {
		glev_bev_install(r, r->closures & GLEV_CB_WRITE);
		glev_fast_choose(r);
		glev_bev_apply(r);
	}
	if (r->quiet && r->host)
		glev_adopt_return(r);
	unlock(r);
}

void glev_bev_free(struct glev_bev *r)
{
	glev_buf_cb_remove_all(&r->in);
	glev_buf_cb_remove_all(&r->out);
	if (r->under && r->under->above)
		leave_below(r->under, r);
	if (r->partner) {
		lock(r);
		r->partner->partner = NULL;
		unlock(r);
	}
	glev_fast_free(r);
	glev_adopt_free(r);
	(r->host ? release : bufferevent_free)(r->bev);
	if (r->limit)
		event_free(r->limit);
	if (r->flushed)
		event_free(r->flushed);
	glev_bucket_free(r->rate);
	free(r);
}

static void empty(struct glev_buf *b)
{
	glev_buf_cb_remove_all(b);
	evbuffer_unfreeze(b->evb, 1);
	evbuffer_drain(b->evb, (size_t)-1);
}

void glev_bev_abandon(struct glev_bev *r)
{
	if (r->host) {
		glev_buf_cb_remove_all(&r->in);
		glev_buf_cb_remove_all(&r->out);
		release(r->bev);
		return;
	}
	lock(r);
	empty(&r->in);
	empty(&r->out);
	unlock(r);
}

int64_t glev_bev_check(struct glev_bev *r)
{
	GLEV_CHECK_LOOP(r);
	return 0;
}

/* --- enabling -------------------------------------------------------------- */

static int full_below_filter(const struct glev_bev *r)
{
	return r->above && r->high && evbuffer_get_length(r->in.evb) >= r->high;
}

/* The directions that must be off in libevent whatever the user enabled.
 *  - A read closure that drains nothing at the high watermark would be called
 *    again and again by libevent 2.1, at the cost of a whole core.
 *    A filter that takes nothing from what is below it would be, too.
 *  - Before there is a connection there is nothing to time out (see dial below).
 *  - The other end of a pair, and a filter's functions, move bytes in and out of
 *    these buffers from whatever thread they are used on, also while they are lent.
 *  - What the fast path carries is done there. */
static short kept_off(struct glev_bev *r)
{
	short what = 0;

	if (r->dialing || r->moving)
		what |= EV_READ | EV_WRITE;
	if (r->paused || full_below_filter(r) || (r->kind != GLEV_SOCKET && r->in.lent))
		what |= EV_READ;
	if (r->kind != GLEV_SOCKET && r->out.lent)
		what |= EV_WRITE;
	return what | glev_fast_carries(r);
}

/* bufferevent_enable that leaves nothing behind: a filter that is enabled looks at
 * what waits for it only when more comes, so its socket is made to say that more
 * came. */
static int turn_on(struct glev_bev *r, short what)
{
	const int now = BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS;
	int rc = bufferevent_enable(r->bev, what);

	if (r->reader && r->door && (what & EV_READ))
		r->door->pending(r->bev, 1);
	if (r->under && (what & EV_READ) && evbuffer_get_length(r->under->in.evb))
		bufferevent_trigger(r->under->bev, EV_READ, now);
	if (r->under && (what & EV_WRITE) && evbuffer_get_length(r->out.evb))
		bufferevent_trigger(r->under->bev, EV_WRITE, now);
	return rc;
}

/* That for a flush, which a fast path with a writer of its own stays with. */
static void turn_on_for_flush(struct glev_bev *r, short what)
{
	if (!r->fast) {
		turn_on(r, what);
		return;
	}
	r->held |= what;
	if ((what & EV_WRITE) && evbuffer_get_length(r->out.evb))
		r->spilled = 1;
	glev_fast_sync(r);
}

/* Brings libevent's state in line with kept_off. Call with the lock. */
void glev_bev_apply(struct glev_bev *r)
{
	short want_off = kept_off(r);
	short off = bufferevent_get_enabled(r->bev) & want_off;
	short on = r->held & ~want_off;

	r->held = (r->held | off) & ~on;
	/* First on, then off: as long as somebody waits for the descriptor, going
	 * from one to the other costs no system call. */
	if (r->fast)
		glev_fast_sync(r);
	if (off)
		bufferevent_disable(r->bev, off);
	if (on)
		turn_on(r, on);
	if (r->reading && !r->fast)
		glev_fast_sync(r);
}

/* Where another library reads and writes, enabling does so at once. */
static short lent(const struct glev_bev *r)
{
	if (!r->door)
		return 0;
	return (r->in.lent ? EV_READ : 0) | (r->out.lent ? EV_WRITE : 0);
}

/* Whether enabling WRITE has an effect besides: a write callback as soon as the
 * socket can be written to, or what was appended while it was off. Who has set no
 * closure yet may do so before that. */
static int enabling_shows(const struct glev_bev *r)
{
	return (r->closures & GLEV_CB_WRITE) || !r->closures || r->write_timed ||
	    evbuffer_get_length(r->out.evb);
}

int64_t glev_bev_enable(struct glev_bev *r, short what)
{
	short off, on;
	int64_t rc = 0;

	LOCK_FOR_CHANGE(r);
	r->touched = 1;
	if (what & EV_WRITE) {
		r->mute = 0;
		if (enabling_shows(r))
			r->spilled = 1;
	}
	off = what & (kept_off(r) | lent(r));
	on = what & ~off;
	r->held = (r->held | off) & ~on;
	errno = 0;
	if (on && turn_on(r, on) < 0) {
		rc = -(errno ? errno : EIO);
		bufferevent_disable(r->bev, on);
	}
	if (r->writer)
		glev_fast_sync(r);
	if ((off & EV_READ) && glev_fast_restart(r) < 0) {
		rc = -(errno ? errno : EIO);
		r->held &= ~EV_READ;
	}
	unlock(r);
	return rc;
}

int64_t glev_bev_disable(struct glev_bev *r, short what)
{
	int rc;

	LOCK_FOR_CHANGE(r);
	r->held &= ~what;
	if (what & EV_READ)
		r->paused = 0;
	rc = bufferevent_disable(r->bev, what);
	glev_fast_sync(r);
	unlock(r);
	return rc < 0 ? -EIO : 0;
}

int64_t glev_bev_enabled(struct glev_bev *r)
{
	short what;

	LOCK_FOR_CHANGE(r);
	what = bufferevent_get_enabled(r->bev) | r->held;
	unlock(r);
	return what;
}

/* --- settings -------------------------------------------------------------- */

int64_t glev_bev_closures(struct glev_bev *r, int closures)
{
	int64_t rc = 0;

	LOCK_FOR_CHANGE(r);
	if (r->above) {
		rc = GLEV_FILTERED;
	} else {
		__atomic_store_n(&r->closures, closures, __ATOMIC_RELAXED);
		glev_bev_install(r, closures & GLEV_CB_WRITE);
	}
	unlock(r);
	return rc;
}

/* A timeout that is taken away while its event is not registered comes back in libevent
 * when that is registered again. So who had one gets another, of years, in its place. */
static struct timeval native_timeout(struct glev_bev *r, short what, const struct timeval *tv)
{
	static const struct timeval years = {3 * 365 * 24 * 60 * 60, 0};
	int set = tv->tv_sec || tv->tv_usec;

	if (set)
		r->timed |= what;
	return !set && (r->timed & what) ? years : *tv;
}

int glev_bev_native_timeouts(struct glev_bev *r, const struct timeval *rd, const struct timeval *wr)
{
	struct timeval read = native_timeout(r, EV_READ, rd), write = native_timeout(r, EV_WRITE, wr);

	return bufferevent_set_timeouts(r->bev, &read, &write);
}

int64_t glev_bev_timeouts(struct glev_bev *r, int64_t read_usec, int64_t write_usec)
{
	static const struct timeval none;
	struct timeval rd = timeval_of(read_usec), wr = timeval_of(write_usec);
	int rc;

	LOCK_FOR_CHANGE(r);
	glev_fast_timeout(r, &rd, &wr);
	rc = glev_bev_native_timeouts(r, &rd, r->fast && r->writer ? &none : &wr);
	unlock(r);
	return rc < 0 ? -EIO : 0;
}

/* Has us called when the input changes, where that matters. */
int glev_bev_watch_input(struct glev_bev *r)
{
	int want = !r->quiet && (r->high || (r->writer && !r->fast));

	if (want && !r->in_cb) {
		r->in_cb = evbuffer_add_cb(r->in.evb, glev_on_input, r);
		return r->in_cb ? 0 : -1;
	}
	if (!want && r->in_cb) {
		evbuffer_remove_cb_entry(r->in.evb, r->in_cb);
		r->in_cb = NULL;
	}
	return 0;
}

int64_t glev_bev_watermark(struct glev_bev *r, short what, size_t low, size_t high)
{
	int64_t rc = 0;

	LOCK_FOR_CHANGE(r);
	if (what & EV_READ) {
		__atomic_store_n(&r->high, high, __ATOMIC_RELAXED);
		if (glev_bev_watch_input(r) < 0) {
			r->high = 0;
			rc = -ENOMEM;
			goto done;
		}
		r->low = low;
	}
	if (what & EV_WRITE)
		r->write_low = low;
	bufferevent_setwatermark(r->bev, what, low, high);
	glev_fast_marks(r, what);
	if (!r->high || evbuffer_get_length(r->in.evb) < r->high)
		r->paused = 0;
	glev_bev_apply(r);
done:
	unlock(r);
	return rc;
}

int64_t glev_bev_get_watermark(struct glev_bev *r, short what, size_t *low, size_t *high)
{
	GLEV_CHECK_LOOP(r);
	return bufferevent_getwatermark(r->bev, what, low, high) != 0 ? -EINVAL : 0;
}

/* --- data ------------------------------------------------------------------ */

/* A frozen output is one whose writing side was closed. */
static int64_t shut_if_frozen(struct glev_bev *r, int64_t rc)
{
	return rc == GLEV_FROZEN && r->shut ? GLEV_SHUT : rc;
}

static int add(struct evbuffer *evb, const char *p, size_t n)
{
	return evbuffer_add(evb, p, n);
}

static int64_t append(struct glev_bev *r, const char *p, size_t n)
{
	enum { MUCH = 32 * 1024 };

	if ((n >= MUCH && (r->reader || r->door) ? glev_block_copy : add)(r->out.evb, p, n) == 0)
		return 0;
	return shut_if_frozen(r, glev_buf_add(&r->out, p, n));
}

/* From another thread than the loop's, which may be waiting for events. Where nothing is
 * before them the bytes go to the socket as they are, and only the rest to the output. */
static int64_t write_at_once(struct glev_bev *r, const char *p, size_t n)
{
	size_t sent = 0;
	int64_t rc = 0;
	int straight, err = 0;

	LOCK_FOR_CHANGE(r);
	straight = glev_fast_straight(r, n);
	if (straight)
		sent = glev_fast_send(r, p, n, &err);
	r->direct++;
	if (sent < n)
		rc = append(r, p + sent, n - sent);
	r->direct--;
	if (straight && rc && sent)
		err = ENOMEM; /* the stream has a hole: this is its end */
	if (straight)
		glev_fast_sent(r, sent, err);
	else if (rc == 0)
		glev_fast_write(r);
	unlock(r);
	return rc;
}

int64_t glev_bev_write(struct glev_bev *r, const char *p, size_t n)
{
	GLEV_CHECK_LOOP(r);
	if (r->reader && glev_base_running(r->base) && !glev_base_on_loop(r->base))
		return write_at_once(r, p, n);
	return append(r, p, n);
}

int64_t glev_bev_write_buffer(struct glev_bev *r, struct glev_buf *src)
{
	GLEV_CHECK_LOOP(r);
	return shut_if_frozen(r, glev_buf_add_buffer(&r->out, src));
}

int64_t glev_bev_read(struct glev_bev *r, char *p, size_t n)
{
	return glev_buf_remove(&r->in, p, n);
}

int64_t glev_bev_read_buffer(struct glev_bev *r, struct glev_buf *dst)
{
	GLEV_CHECK_LOOP(r);
	return glev_buf_add_buffer(dst, &r->in);
}

/* --- descriptor ------------------------------------------------------------ */

/* What changes with the descriptor: libevent leaves both inner ends unfrozen,
 * and what was closed was closed on the old one. */
static void new_descriptor(struct glev_bev *r, int connecting)
{
	r->connecting = connecting || r->door;
	r->open = !r->connecting && r->stream;
	r->shut = 0;
	r->out.frozen &= ~GLEV_BACK;
	if (r->priority >= 0) /* libevent forgets it */
		bufferevent_priority_set(r->bev, r->priority);
	glev_buf_refreeze(&r->in);
	glev_buf_refreeze(&r->out);
	glev_fast_choose(r);
}

/* For a change of the descriptor: it is plain libevent that changes it. */
static void leave_descriptor(struct glev_bev *r)
{
	r->touched = 1;
	r->open = 0;
	r->read_error = 0;
	glev_fast_choose(r);
}

/* Ends a ConnectHostname for something else. That is for the loop's thread, which
 * may have the number of the socket in its hand elsewhere (see glev_bev_quiet). */
static int64_t hang_up(struct glev_bev *r)
{
	if (!r->dialing)
		return 0;
	if (r->dialing != GLEV_GAVE_UP && !glev_base_on_loop(r->base))
		return GLEV_WRONG_LOOP;
	end_dial(r);
	glev_bev_apply(r);
	return 0;
}

/* Leaves the outcome of a connect that is known at once to the event callback, as
 * that of any other. */
static void connected_at_once(struct glev_bev *r, int err)
{
	if (err)
		bufferevent_disable(r->bev, EV_READ | EV_WRITE);
	else if (r->door) /* it has only begun, and will say so itself */
		return;
	/* libevent has begun to wait until it can write, for nothing. */
	glev_fast_mute(r);
	errno = err;
	bufferevent_trigger_event(r->bev, err ? BEV_EVENT_ERROR : BEV_EVENT_CONNECTED,
	    BEV_TRIG_DEFER_CALLBACKS);
}

/*
 * The connect(2) is ours, and what takes time is given to libevent, which waits for
 * it. Left to libevent, a connect that succeeds at once (AF_UNIX) calls the write
 * callback first, and the event callback only if WRITE is on.
 */
static int64_t start_connect(struct glev_bev *r, const struct sockaddr *sa, int len)
{
	int fd = bufferevent_getfd(r->bev);
	int ours = fd < 0, err = 0;

	if (ours) {
		fd = socket(sa->sa_family, SOCK_STREAM, 0);
		if (fd < 0 || evutil_make_socket_nonblocking(fd) < 0 ||
		    evutil_make_socket_closeonexec(fd) < 0)
			err = errno;
	}
	if (!err && connect(fd, sa, (socklen_t)len) < 0)
		err = errno;
	switch (err) {
	case EINPROGRESS:
	case EINTR:
		give_fd(r, fd);
		return await_connection(r) < 0 ? -EIO : 0;
	case 0:
	case ECONNREFUSED:
		give_fd(r, fd);
		connected_at_once(r, err);
		return 0;
	}
	if (ours && fd >= 0)
		evutil_closesocket(fd);
	return -err;
}

int64_t glev_bev_connect(struct glev_bev *r, const struct glev_addr *a)
{
	struct sockaddr_storage ss;
	int len = glev_addr_to(a, &ss), was_open;
	int64_t rc;

	if (r->kind != GLEV_SOCKET)
		return GLEV_NO_SOCKET;
	if (len < 0)
		return len;
	LOCK_FOR_CHANGE(r);
	rc = hang_up(r);
	if (rc == 0) {
		was_open = r->open;
		leave_descriptor(r);
		rc = start_connect(r, (struct sockaddr *)&ss, len);
		if (rc == 0) {
			new_descriptor(r, 1);
		} else {
			r->open = was_open;
			glev_fast_choose(r);
		}
	}
	unlock(r);
	return rc;
}

int64_t glev_bev_fd(struct glev_bev *r)
{
	GLEV_CHECK_LOOP(r);
	return bufferevent_getfd(r->bev);
}

int64_t glev_bev_addr(struct glev_bev *r, int peer, struct glev_addr *a)
{
	int64_t rc;

	GLEV_CHECK_LOOP(r);
	lock(r); /* the descriptor must not be closed and reused meanwhile */
	rc = glev_addr_of_fd(bufferevent_getfd(r->bev), peer, a);
	unlock(r);
	return rc;
}

static int64_t set_descriptor(struct glev_bev *r, int fd, int *old)
{
	int64_t rc;
	int stream = 0;

	if (r->kind != GLEV_SOCKET)
		return GLEV_NO_SOCKET;
	/* Elsewhere the loop's thread may have the old number in its hand (see
	 * glev_bev_quiet), and here the buffers cannot be emptied. */
	if (!glev_base_on_loop(r->base))
		return GLEV_WRONG_LOOP;
	rc = fd < 0 ? 0 : prepare(fd, &stream);
	if (rc < 0)
		return rc;
	LOCK_FOR_CHANGE(r);
	rc = hang_up(r);
	*old = bufferevent_getfd(r->bev);
	leave_descriptor(r);
	if (give_fd(r, fd) < 0)
		rc = -EIO;
	if (fd >= 0)
		r->mute = 0;
	r->stream = stream;
	new_descriptor(r, 0);
	/* libevent has begun to wait until it can write. */
	if (r->fast && (r->held & EV_WRITE) && enabling_shows(r)) {
		r->spilled = 1;
		glev_bev_apply(r);
	}
	unlock(r);
	return rc;
}

int64_t glev_bev_setfd(struct glev_bev *r, int fd)
{
	int old;

	return set_descriptor(r, fd, &old);
}

int64_t glev_bev_replacefd(struct glev_bev *r, int fd)
{
	int old = -1;
	int64_t rc = set_descriptor(r, fd, &old);

	/* Not before: until then libevent waits for that number. */
	if (rc == 0 && old >= 0 && old != fd)
		evutil_closesocket(old);
	return rc;
}

/* --- connecting by name ------------------------------------------------------ */

/*
 * Go looks the name up, and says which address to try, one after the other. From
 * dial until there is a connection `held` has all that the user enabled: an attempt
 * that fails makes libevent forget it, and on no descriptor libevent would time out.
 * So it stays when all attempts have failed, until there is another descriptor.
 */
int64_t glev_bev_dial(struct glev_bev *r)
{
	int64_t rc;

	if (r->kind != GLEV_SOCKET)
		return GLEV_NO_SOCKET;
	LOCK_FOR_CHANGE(r);
	rc = hang_up(r);
	if (rc == 0) {
		leave_descriptor(r);
		r->given = bufferevent_getfd(r->bev) >= 0;
		r->dialing = GLEV_LOOKING_UP;
		glev_bev_apply(r);
		new_descriptor(r, 1);
		rc = ++r->dials;
	}
	unlock(r);
	return rc;
}

static int under_way(struct glev_bev *r, int64_t dial)
{
	return dial == r->dials && r->dialing && r->dialing != GLEV_GAVE_UP;
}

int64_t glev_bev_try(struct glev_bev *r, int64_t dial, const struct glev_addr *a)
{
	struct sockaddr_storage ss;
	int len = a ? glev_addr_to(a, &ss) : 0;
	int64_t rc = 0;

	LOCK_FOR_CHANGE(r);
	if (!under_way(r, dial)) {
		rc = GLEV_CLOSED;
		goto done;
	}
	if (r->dialing == GLEV_TRYING) {
		if (a && r->given) { /* a socket tries once */
			rc = -EALREADY;
			goto done;
		}
		end_attempt(r);
	}
	r->connecting = a != NULL;
	r->dialing = a ? GLEV_TRYING : GLEV_GAVE_UP;
	glev_bev_apply(r);
	if (a) {
		/* libevent is to write as soon as it is connected. */
		if (r->held & EV_WRITE)
			bufferevent_enable(r->bev, EV_WRITE);
		rc = start_connect(r, (struct sockaddr *)&ss, len);
	}
	glev_buf_refreeze(&r->in);
	glev_buf_refreeze(&r->out);
done:
	unlock(r);
	return rc;
}

int glev_bev_dialing(struct glev_bev *r, int64_t dial)
{
	int yes;

	lock(r);
	yes = under_way(r, dial);
	unlock(r);
	return yes;
}

int64_t glev_bev_dial_failed(struct glev_bev *r, int64_t dial)
{
	LOCK_FOR_CHANGE(r);
	if (under_way(r, dial))
		bufferevent_trigger_event(r->bev, BEV_EVENT_ERROR, BEV_TRIG_DEFER_CALLBACKS);
	unlock(r);
	return 0;
}

/* Connecting is over, and also what dial began. Call with the lock. */
void glev_bev_connected(struct glev_bev *r, int indeed)
{
	if (indeed) {
		r->stream = r->open = 1;
		r->spilled = 0;
	}
	if (r->dialing) {
		r->dialing = 0;
		r->held &= ~bufferevent_get_enabled(r->bev);
		glev_bev_apply(r);
	}
	glev_fast_choose(r);
}

/* --- asking for callbacks, and their order -------------------------------- */

/* Always deferred: a closure called from inside this call would find its caller's
 * frames below, and a panic in it no way past them. */
int64_t glev_bev_trigger(struct glev_bev *r, short what, int flags)
{
	LOCK_FOR_CHANGE(r);
	if (r->above) {
		unlock(r);
		return GLEV_FILTERED;
	}
	r->touched = 1;
	if (what & EV_READ)
		r->triggered = 1;
	if (what & EV_WRITE) {
		r->mute = 0;
		r->written = 1;
	}
	bufferevent_trigger(r->bev, what, flags | BEV_TRIG_DEFER_CALLBACKS);
	unlock(r);
	return 0;
}

int64_t glev_bev_trigger_event(struct glev_bev *r, short what)
{
	LOCK_FOR_CHANGE(r);
	if (r->above) {
		unlock(r);
		return GLEV_FILTERED;
	}
	r->touched = 1;
	r->triggered_events |= what;
	errno = 0;
	bufferevent_trigger_event(r->bev, what, BEV_TRIG_DEFER_CALLBACKS);
	unlock(r);
	return 0;
}

/* Whether the callback of libevent that makes ours may be in its queue: there it is
 * filed under its priority, and would not be found again under another. */
static int callback_may_be_due(const struct glev_bev *r)
{
	return r->touched && event_base_get_num_events(r->base->base, EVENT_BASE_COUNT_ACTIVE) > 0;
}

int64_t glev_bev_set_priority(struct glev_bev *r, int priority)
{
	int64_t rc = 0;

	if (r->kind != GLEV_SOCKET)
		return GLEV_NO_SOCKET;
	LOCK_FOR_CHANGE(r);
	if (r->touched && !glev_base_on_loop(r->base))
		rc = GLEV_WRONG_LOOP; /* see glev_event_set_priority */
	else if (callback_may_be_due(r) || bufferevent_priority_set(r->bev, priority) < 0 ||
	    glev_fast_set_priority(r, priority) < 0)
		rc = -EBUSY;
	else
		r->priority = priority;
	unlock(r);
	return rc;
}

int64_t glev_bev_priority(struct glev_bev *r)
{
	GLEV_CHECK_LOOP(r);
	return bufferevent_get_priority(r->bev);
}

/* --- another base ---------------------------------------------------------- */

/* libevent has put the base in the bufferevent before it fails for one of its events. */
static int set_base(struct glev_bev *r, struct glev_base *to)
{
	int priority = r->priority;

	if (bufferevent_base_set(to->base, r->bev) < 0 ||
	    (r->flushed && event_base_set(to->base, r->flushed) < 0)) {
		bufferevent_base_set(r->base->base, r->bev);
		return -1;
	}
	/* Of its priorities libevent moves all but that of the callbacks. */
	if (priority < 0)
		priority = event_base_get_npriorities(to->base) / 2;
	bufferevent_priority_set(r->bev, priority);
	glev_fast_forget(r);
	r->base = to;
	return 0;
}

/*
 * What libevent leaves behind: a callback that is due stays in the queue of the old
 * base, the timer of a limit on it, and an event that is registered makes it fail half
 * way. So there must be none of them; and nobody on the way to them, for which the
 * caller answers.
 */
int64_t glev_bev_set_base(struct glev_bev *r, struct glev_base *to)
{
	int was_open;
	int64_t rc = 0;

	if (r->kind != GLEV_SOCKET || r->door)
		return GLEV_NO_SOCKET;
	if (!glev_base_on_loop(r->base))
		return GLEV_WRONG_LOOP;
	LOCK_FOR_CHANGE(r);
	if (r->above)
		rc = GLEV_FILTERED;
	else if (r->limited)
		rc = GLEV_LIMITED;
	else if (r->connecting || r->dialing)
		rc = -EINPROGRESS;
	else if (r->priority >= event_base_get_npriorities(to->base))
		rc = -ERANGE;
	else if (callback_may_be_due(r) || glev_buf_cb_any_due(&r->in) || glev_buf_cb_any_due(&r->out))
		rc = -EBUSY;
	if (rc)
		goto done;
	was_open = r->open;
	r->moving = 1;
	r->open = 0;
	glev_fast_choose(r);
	glev_bev_apply(r);
	if (set_base(r, to) < 0)
		rc = -EBUSY;
	r->moving = 0;
	r->open = was_open;
	glev_fast_choose(r);
	/* As in fastpath.c: not the user enables it. */
	r->mute = 0;
	if (!r->fast && (r->held & EV_WRITE))
		glev_fast_mute(r);
	glev_bev_apply(r);
done:
	unlock(r);
	return rc;
}

/* --- ending ---------------------------------------------------------------- */

static int flush(struct glev_bev *r, short what, enum bufferevent_flush_mode mode)
{
	if ((what & EV_WRITE) && mode == BEV_FINISHED && !glev_bev_carrier(r)->door) /* which hands on nothing */
		glev_bev_bottom(r)->finished = 1;
	return bufferevent_flush(r->bev, what, mode);
}

int64_t glev_bev_flush(struct glev_bev *r, short what, int mode)
{
	struct glev_bev *p, *q;
	int64_t rc;

	LOCK_FOR_CHANGE(r);
	/* A flush moves bytes whatever is enabled, down a stack of filters and
	 * to the other end of a pair. */
	for (p = r; p; p = p->under) {
		q = p->partner;
		if (p->kind != GLEV_SOCKET && (p->in.lent || p->out.lent ||
		    (q && (q->in.lent || q->out.lent)))) {
			rc = GLEV_LENT;
			goto done;
		}
	}
	rc = flush(r, what, (enum bufferevent_flush_mode)mode);
	if (rc < 0)
		rc = -EPIPE;
done:
	unlock(r);
	return rc;
}

/* Whether the output, and those below it, are empty. */
int glev_bev_all_written(struct glev_bev *r)
{
	struct bufferevent *bev;

	for (bev = r->bev; bev; bev = bufferevent_get_underlying(bev))
		if (evbuffer_get_length(bufferevent_get_output(bev)))
			return 0;
	return 1;
}

/* The other end of a pair that C made has no record here. */
int glev_bev_on_pair(struct glev_bev *r)
{
	return glev_bev_bottom(r)->kind == GLEV_PAIR ||
	    bufferevent_pair_get_partner(native_bottom(r)) != NULL;
}

static int has_partner(struct glev_bev *r)
{
	const struct glev_bev *partner = glev_bev_bottom(r)->partner;

	if (partner)
		return !partner->quiet;
	return bufferevent_pair_get_partner(native_bottom(r)) != NULL;
}

/* Has the flushed event fire when an output in the stack becomes empty. */
static int watch_output(struct glev_bev *r)
{
	if (r->flushed)
		return 0;
	r->flushed = event_new(r->base->base, -1, EV_FINALIZE, glev_on_bev_flushed, r);
	if (r->flushed)
		r->out_cb = evbuffer_add_cb(bottom_output(r), glev_on_output, r);
	return r->out_cb ? 0 : -ENOMEM;
}

static int retry_soon(struct glev_bev *r, int msec)
{
	struct timeval tv = timeval_of(msec * 1000);

	return event_add(r->flushed, &tv);
}

/* Shuts the writing side down when that was asked for and all is written. */
int64_t glev_bev_try_shut(struct glev_bev *r)
{
	struct glev_bev *bottom = glev_bev_bottom(r), *carrier = glev_bev_carrier(r);
	int rc;

	/* A linger does not wait for the event that tells of the connection. */
	if (r->shut != 1 || (carrier->connecting && !r->lingering) || !glev_bev_all_written(r))
		return 0;
	if (carrier->door) {
		rc = carrier->door->shutdown ? carrier->door->shutdown(carrier->bev) : 0;
		if (rc > 0)
			return retry_soon(r, 10);
		r->shut = 2;
		return rc;
	}
	r->shut = 2;
	if (bottom->kind == GLEV_PAIR)
		flush(bottom, EV_WRITE, BEV_FINISHED);
	else if (shutdown(bufferevent_getfd(bottom->bev), SHUT_WR) < 0)
		return -errno;
	return 0;
}

/* Whether bytes of ours may still be under way. The kernel tells of them only when
 * asked, so this looks again after a while. */
static int discard_longer(struct glev_bev *r, int fd)
{
#ifdef SIOCOUTQ
	int unread = 1, unsent = 1;

	if (ioctl(fd, FIONREAD, &unread) == 0 && ioctl(fd, SIOCOUTQ, &unsent) == 0 &&
	    unread == 0 && unsent == 0)
		return 0;
	retry_soon(r, 50);
#endif
	return 1;
}

/*
 * Whether a linger has nothing more to wait for: all is written, or there is nowhere
 * to write it to. The other end of a pair is told of the end, if it was not before.
 *
 * A socket that is closed with bytes unread is reset, and the kernel then drops also
 * what it has not sent yet. So a peer that is still sending is told of our end, and
 * what it sends is dropped until its own end, or until it has all of ours.
 */
int glev_bev_lingered(struct glev_bev *r)
{
	struct glev_bev *bottom = glev_bev_bottom(r), *carrier = glev_bev_carrier(r);
	int fd = bufferevent_getfd(bottom->bev), pair = glev_bev_on_pair(r), unread = 0;

	if (pair ? !has_partner(r) : fd < 0)
		return 1;
	if (!glev_bev_all_written(r))
		return 0;
	if (carrier->door && r->shut != 2) {
		r->shut = 1;
		glev_bev_try_shut(r);
		/* It may have brought something to be written below. */
		if (r->shut != 2 || !glev_bev_all_written(r))
			return 0;
	}
	if (carrier->connecting)
		return 1;
	if (pair) {
		if (r->shut != 2 || carrier->door)
			bufferevent_flush(native_bottom(r), EV_WRITE, BEV_FINISHED);
		return 1;
	}
	if (r->lingering == GLEV_DISCARDING)
		return !discard_longer(r, fd);
	if (ioctl(fd, FIONREAD, &unread) < 0 || unread == 0)
		return 1;
	glev_fast_choose(r);
	shutdown(fd, SHUT_WR);
	r->lingering = GLEV_DISCARDING;
	evbuffer_unfreeze(r->in.evb, 1);
	bufferevent_setwatermark(r->bev, EV_READ, 0, 0);
	__atomic_store_n(&r->high, 0, __ATOMIC_RELAXED);
	evbuffer_drain(r->in.evb, (size_t)-1);
	turn_on_for_flush(r, EV_READ);
	return !discard_longer(r, fd);
}

int64_t glev_bev_close_write(struct glev_bev *r)
{
	struct glev_bev *bottom = glev_bev_bottom(r);
	int64_t rc = 0;

	LOCK_FOR_CHANGE(r);
	if (r->above)
		rc = GLEV_FILTERED;
	else if (bottom->kind == GLEV_SOCKET && bufferevent_getfd(bottom->bev) < 0 && !bottom->connecting)
		rc = -ENOTCONN;
	else if (r->shut == 0 && (rc = watch_output(r)) == 0) {
		r->shut = 1;
		if (r->kind == GLEV_FILTER) /* for what the functions still hold */
			flush(r, EV_WRITE, BEV_FINISHED);
		r->out.frozen |= GLEV_BACK;
		glev_buf_refreeze(&r->out);
		glev_fast_write(r);
		rc = glev_bev_try_shut(r);
	}
	unlock(r);
	return rc;
}

int64_t glev_bev_linger(struct glev_bev *r, int64_t limit_usec)
{
	struct timeval tv = timeval_of(limit_usec);
	struct glev_bev *p;
	int64_t rc = 0;

	LOCK_FOR_CHANGE(r);
	if (r->above) {
		rc = GLEV_FILTERED;
		goto done;
	}
	r->held &= ~EV_READ;
	r->paused = 0;
	bufferevent_disable(r->bev, EV_READ);
	glev_fast_sync(r);
	if (r->kind == GLEV_FILTER)
		flush(r, EV_WRITE, BEV_FINISHED);
	if (!r->limit)
		r->limit = event_new(r->base->base, -1, EV_FINALIZE, glev_on_bev_limit, r);
	if (!r->limit || watch_output(r) < 0) {
		rc = -ENOMEM;
		goto done;
	}
	__atomic_store_n(&r->closures, 0, __ATOMIC_RELAXED);
	glev_fast_write(r);
	r->lingering = GLEV_FLUSHING;
	if (glev_bev_lingered(r)) {
		rc = 1;
		goto done;
	}
	if (event_add(r->limit, &tv) < 0) {
		rc = -ENOMEM;
		goto done;
	}
	/* Writing may be off, by the user or after an error; the flush means to
	 * write, and a broken socket then says so at once, also one below a filter. */
	glev_fast_choose(r);
	turn_on_for_flush(r, EV_WRITE);
	for (p = r->under; p; p = p->under) {
		p->held |= EV_WRITE;
		glev_bev_apply(p);
	}
done:
	unlock(r);
	return rc;
}

/* The limit of a linger is over, and what is left is dropped: the peer of a connection is
 * not to take what it got for all. */
void glev_bev_cut_off(struct glev_bev *r)
{
	static const struct linger none = {1, 0};
	struct glev_bev *bottom = glev_bev_bottom(r);

	lock(r);
	if (bottom->kind == GLEV_SOCKET && bottom->close_on_free && !glev_bev_all_written(r))
		setsockopt(bufferevent_getfd(bottom->bev), SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	unlock(r);
}

struct bufferevent *glev_bev_expose(struct glev_bev *r)
{
	lock(r);
	r->plain = r->touched = 1;
	glev_fast_choose(r);
	unlock(r);
	return r->bev;
}
