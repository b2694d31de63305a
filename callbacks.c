/*
 * callbacks.c: every function that libevent calls.
 *
 * The recipe, for whoever adds one:
 *
 *  1. Its argument is the record of the object (native.h), which outlives every
 *     callback: records are freed on the loop's thread with no callback of the
 *     object below, after libevent was told to call no more.
 *  2. It saves errno first, before anything else can change it.
 *  3. It gathers what Go needs into plain arguments and calls one exported
 *     trampoline (callbacks.go), with the handle and the native pointer. Go
 *     checks that the handle still means the object that owns that pointer,
 *     and runs the closure under the guard that catches its panic.
 *  4. No libevent lock is held while Go runs. Bufferevents are made with
 *     THREADSAFE, DEFER_CALLBACKS and UNLOCK_CALLBACKS, or, for their loop
 *     alone, without any lock. A callback that libevent makes under a lock
 *     stays in C: glev_on_input, _output, _filter_change, and of any buffer
 *     glev_on_in_file, _buf_change, _reference, _block, _segment, _gone. What Go is to know of
 *     one of these it is told later (due.c). The exception is a filter function,
 *     whose answer libevent needs at once: glev_on_filter_in, _out.
 *  5. It begins with begin(), and ends with done().
 *  6. A trampoline that returns nonzero could not run the closure now, because
 *     a panic is on its way to the caller of the loop. The callback then asks
 *     libevent to make the same call again when the loop next runs.
 *
 * All run on the loop's thread, but those under a lock, which run on the thread
 * that entered libevent.
 */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "native.h"
#include "_cgo_export.h"

/* Begin and end every callback that calls Go, on the loop's thread; what was appended
 * to the outputs is written then. Between them the base is not freed. */
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
	int visit = begin(b), over;
	char bytes[64];

	(void)what;
	while (fd >= 0 && read(fd, bytes, sizeof(bytes)) == sizeof(bytes))
		;
	over = glevWake(b->handle, b->base);
	done(b, visit);
	if (over)
		glev_base_free(b);
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

	glevEvent(e->handle, e->ev, fd, what);
	done(e->base, visit);
}

/* --- BufferEvent ---------------------------------------------------------- */

static void again(struct glev_bev *r, short what)
{
	if (what & EV_READ)
		r->triggered = 1;
	else
		r->written = 1;
	bufferevent_trigger(r->bev, what, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
}

static void read_closure(struct glev_bev *r)
{
	int has_closure = __atomic_load_n(&r->closures, __ATOMIC_RELAXED) & GLEV_CB_READ;
	size_t before;

	if (r->lingering == GLEV_DISCARDING) {
		evbuffer_drain(r->in.evb, (size_t)-1);
		return;
	}
	/* The EOF of a pair comes with a read callback for nothing. */
	if (r->kind == GLEV_PAIR && !r->triggered && evbuffer_get_length(r->in.evb) == 0)
		return;
	r->triggered = 0;
	if (!__atomic_load_n(&r->high, __ATOMIC_RELAXED)) {
		if (has_closure && glevBevRead(r->handle, r->bev))
			again(r, EV_READ);
		return;
	}

	before = evbuffer_get_length(r->in.evb);
	r->drained = 0;
	if (has_closure && glevBevRead(r->handle, r->bev)) {
		again(r, EV_READ);
		return;
	}
	/* libevent calls again while the input is at its mark and READ is on.
	 * That is right for a closure that drained something, and a busy loop
	 * for one that did not: it is called again when there is room. */
	evbuffer_lock(r->in.evb);
	if (r->high && !r->quiet && evbuffer_get_length(r->in.evb) >= r->high &&
	    ((bufferevent_get_enabled(r->bev) | r->held) & EV_READ)) {
		/* Another library reads on while the closure drains. */
		if (r->door ? !r->drained : evbuffer_get_length(r->in.evb) >= before) {
			r->paused = 1;
			glev_bev_apply(r);
		} else if (r->fast) {
			bufferevent_trigger(r->bev, EV_READ, BEV_TRIG_DEFER_CALLBACKS);
		}
	}
	evbuffer_unlock(r->in.evb);
}

void glev_on_bev_read(struct bufferevent *bev, void *arg)
{
	struct glev_bev *r = arg;
	struct glev_base *b = r->base;
	const struct glev_host *host = glev_adopt_awaited(r);
	int visit;

	if (host) {
		if (host->read)
			host->read(bev, host->arg);
		return;
	}
	visit = begin(b);
	if (r->writer && !r->fast) { /* perhaps it is in the middle of nothing now */
		evbuffer_lock(r->in.evb);
		glev_fast_choose(r);
		evbuffer_unlock(r->in.evb);
	}
	read_closure(r);
	/* Freed elsewhere meanwhile: what the closure could not take any more is C's. */
	if (!r->quiet && glev_adopt_awaited(r) && evbuffer_get_length(r->in.evb))
		again(r, EV_READ);
	done(b, visit);
}

/* Whether the user's receiver has taken what came. */
static int received(struct glev_bev *r)
{
	int taken;

	if (!glev_fast_receives(r))
		return 0;
	r->receiving = GLEV_ASKED;
	glevBevReceive(r->handle, r->bev);
	taken = r->receiving == GLEV_RECEIVED;
	r->receiving = 0;
	return taken;
}

/* The fast path's own reader. */
void glev_on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct glev_bev *r = arg;
	struct glev_base *b = r->base;
	int visit = begin(b);

	(void)fd;
	if ((what == EV_TIMEOUT || !received(r)) && glev_fast_read(r, what))
		read_closure(r);
	done(b, visit);
}

void glev_on_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	glev_fast_writable(arg, what);
}

/* Under the lock, on the thread that changed the input. */
void glev_on_input(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
	struct glev_bev *r = arg;

	if (info->n_deleted)
		r->drained = 1;
	if (r->paused && evbuffer_get_length(buf) < r->high) {
		r->paused = 0;
		glev_bev_apply(r);
	} else if (r->above) {
		glev_bev_apply(r);
	}
	if (r->high)
		glev_fast_input(r);
	else
		glev_fast_sync(r);
	glev_fast_remind(r);
}

/* Under the lock, on the thread that changed the output, which libevent and the fast
 * path do, too. */
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
	const struct glev_host *host = glev_adopt_awaited(r);
	int wanted, visit;

	if (host) {
		if (host->write)
			host->write(bev, host->arg);
		return;
	}
	evbuffer_lock(r->out.evb);
	wanted = glev_fast_write_callback(r);
	evbuffer_unlock(r->out.evb);
	if (!wanted)
		return;
	visit = begin(b);
	if ((__atomic_load_n(&r->closures, __ATOMIC_RELAXED) & GLEV_CB_WRITE) &&
	    glevBevWrite(r->handle, bev))
		again(r, EV_WRITE);
	done(b, visit);
}

/* Under the lock, on the thread that changed the output: the loop's next turn is
 * soon enough for what is to follow. */
void glev_on_output(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
	struct glev_bev *r = arg;

	if (info->n_deleted && evbuffer_get_length(buf) == 0)
		event_active(r->flushed, EV_WRITE, 0);
}

/* Everything was written, and CloseWrite or FreeAfterFlush waits for that. */
void glev_on_bev_flushed(evutil_socket_t fd, short what, void *arg)
{
	struct glev_bev *r = arg;
	struct glev_base *b = r->base;
	int visit = begin(b), ended;

	(void)fd;
	(void)what;
	evbuffer_lock(r->out.evb);
	glev_bev_try_shut(r);
	ended = r->lingering && glev_bev_lingered(r);
	evbuffer_unlock(r->out.evb);
	if (ended)
		glevBevLingered(r->handle, r->bev);
	done(b, visit);
}

/*
 * Between the read callback and the event callback of one turn libevent holds no lock, and
 * the other end of a pair may bring its last bytes and its end: the end would be told
 * first. So it is told behind all that is due by now, for each bufferevent of a stack.
 */
static int comes_too_early(struct glev_bev *r, short what, int err)
{
	const struct glev_bev *p;
	int levels = 1;

	if (!(what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) || !glev_bev_on_pair(r))
		return 0;
	for (p = r; p->under; p = p->under)
		levels++;
	if (r->put_off == levels) {
		r->put_off = 0;
		return 0;
	}
	r->put_off++;
	errno = err;
	bufferevent_trigger_event(r->bev, what, BEV_TRIG_DEFER_CALLBACKS);
	return 1;
}

void glev_on_bev_event(struct bufferevent *bev, short what, void *arg)
{
	int err = errno, ncodes = 0;
	struct glev_bev *r = arg, *socket = glev_bev_bottom(r), *carrier = glev_bev_carrier(r);
	struct glev_base *b = r->base;
	unsigned long codes[GLEV_CODES];
	const struct glev_host *host = glev_adopt_awaited(r);
	int lingering, connecting, visit;

	if (host) {
		if (host->event)
			host->event(bev, what, host->arg);
		return;
	}
	if (comes_too_early(r, what, err))
		return;
	if ((what & BEV_EVENT_ERROR) && carrier->door && carrier->door->codes)
		ncodes = carrier->door->codes(carrier->bev, codes, GLEV_CODES);
	evbuffer_lock(r->in.evb);
	lingering = r->lingering;
	connecting = carrier->connecting;
	/* libevent does not forget that it was connecting when it gets another
	 * descriptor, or after a timeout, and then says this of the new one. What has
	 * a door may say it again of the same one. */
	if ((what & BEV_EVENT_CONNECTED) && !connecting && carrier->reader && !carrier->door &&
	    !(r->triggered_events & BEV_EVENT_CONNECTED))
		what &= ~BEV_EVENT_CONNECTED;
	r->triggered_events &= ~what;
	if ((what & BEV_EVENT_ERROR) && r->door) { /* that is the end of both */
		r->held = 0;
		glev_fast_sync(r);
	}
	/* An error of one attempt of ConnectHostname is not the last word. */
	if ((what & BEV_EVENT_CONNECTED) || ((what & BEV_EVENT_ERROR) && !socket->dialing)) {
		carrier->connecting = socket->connecting = 0;
		if (carrier != socket && (what & BEV_EVENT_CONNECTED) && !lingering) {
			carrier->open = 1;
			glev_fast_choose(carrier);
		}
		if (!lingering)
			glev_bev_connected(socket, connecting && (what & BEV_EVENT_CONNECTED));
		glev_bev_try_shut(r);
	}
	evbuffer_unlock(r->in.evb);
	if (what == 0)
		return;
	visit = begin(b);
	if (lingering) {
		if (!(what & BEV_EVENT_CONNECTED))
			glevBevLingered(r->handle, bev);
	} else if (glevBevEvent(r->handle, bev, what, err, connecting, codes, ncodes)) {
		evbuffer_lock(r->in.evb);
		carrier->connecting = connecting;
		r->triggered_events |= what;
		evbuffer_unlock(r->in.evb);
		errno = err;
		bufferevent_trigger_event(bev, what, BEV_TRIG_DEFER_CALLBACKS);
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
	glevBevLingered(r->handle, r->bev);
	done(b, visit);
}

/* Under the lock of the filter, on the thread that entered libevent: the answer
 * is needed at once. The function may use its two buffers and nothing else. */
static enum bufferevent_filter_result filter(struct glev_bev *r, int out, ev_ssize_t limit, int mode)
{
	uint64_t changes = __atomic_load_n(&r->changes, __ATOMIC_RELAXED);
	int rc;

	glev_filter_begin();
	rc = glevFilter(r->handle, r->bev, out, limit, mode);
	glev_filter_end();
	/* libevent calls again after BEV_OK while there is input: a function
	 * that did nothing would be called for ever. */
	if (rc == BEV_OK && __atomic_load_n(&r->changes, __ATOMIC_RELAXED) == changes)
		return BEV_NEED_MORE;
	/* Of an error libevent tells nobody. */
	if (rc == BEV_ERROR)
		bufferevent_trigger_event(r->bev,
		    BEV_EVENT_ERROR | (out ? BEV_EVENT_WRITING : BEV_EVENT_READING),
		    BEV_TRIG_DEFER_CALLBACKS);
	return (enum bufferevent_filter_result)rc;
}

enum bufferevent_filter_result glev_on_filter_in(struct evbuffer *src, struct evbuffer *dst, ev_ssize_t limit, enum bufferevent_flush_mode mode, void *arg)
{
	(void)src; /* Go has them as Buffers of the two bufferevents */
	(void)dst;
	return filter(arg, 0, limit, mode);
}

enum bufferevent_filter_result glev_on_filter_out(struct evbuffer *src, struct evbuffer *dst, ev_ssize_t limit, enum bufferevent_flush_mode mode, void *arg)
{
	(void)src;
	(void)dst;
	return filter(arg, 1, limit, mode);
}

/* Under the lock of the buffer. */
void glev_on_filter_change(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
	struct glev_bev *r = arg;

	(void)buf;
	(void)info;
	__atomic_fetch_add(&r->changes, 1, __ATOMIC_RELAXED);
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

/* No lock is held: libevent is done with the bufferevent. */
void glev_on_gone(const void *p, size_t n, void *arg)
{
	struct glev_door *door = arg;

	(void)p;
	(void)n;
	if (door->gone)
		door->gone(door->arg);
	free(door);
}

/* --- Listener ------------------------------------------------------------- */

void glev_on_accept(struct evconnlistener *lev, evutil_socket_t fd, struct sockaddr *sa, int len, void *arg)
{
	struct glev_lev *l = arg;
	struct glev_base *b = l->base;
	struct glev_addr addr;
	int visit = begin(b);

	l->backoff_ms = 0;
	glev_addr_from(&addr, sa, (socklen_t)len);
	glevAccept(l->handle, lev, fd, &addr);
	done(b, visit);
}

/* Out of descriptors or memory, most likely. The listening socket stays
 * readable, so libevent would call this in a busy loop: step back, and try
 * again after a while that doubles up to a second. */
void glev_on_accept_error(struct evconnlistener *lev, void *arg)
{
	int err = errno;
	struct glev_lev *l = arg;
	struct glev_base *b = l->base;
	int first = l->backoff_ms == 0, visit = begin(b);
	struct timeval tv;

	l->backoff_ms = first ? 50 : l->backoff_ms * 2;
	if (l->backoff_ms > 1000)
		l->backoff_ms = 1000;
	tv.tv_sec = l->backoff_ms / 1000;
	tv.tv_usec = l->backoff_ms % 1000 * 1000;
	evconnlistener_disable(lev);
	event_add(l->retry, &tv);
	if (first)
		glevAcceptError(l->handle, lev, err);
	done(b, visit);
}

void glev_on_accept_retry(evutil_socket_t fd, short what, void *arg)
{
	struct glev_lev *l = arg;

	(void)fd;
	(void)what;
	if (l->wanted)
		evconnlistener_enable(l->lev);
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
	if (b->over)
		glev_base_free(b);
}

/* Also from inside the call that asks, on the thread that acts as the loop; so Go
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
