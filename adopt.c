/*
 * adopt.c: bufferevents that others made: C code that gives one away, or another package
 * of this module with a kind of its own (internal/adopt).
 *
 * They are plain libevent's: what has no reader of ours never goes to the fast path. Only
 * a kind that brings its own recv and send may.
 */

#include <errno.h>
#include <stdlib.h>

#include "native.h"

/* Whether libevent keeps the outer end of the input frozen, as it does for sockets and
 * pairs, and not where another library reads into it. */
static int keeps_frozen(struct bufferevent *bev)
{
	struct evbuffer_iovec space;

	return evbuffer_reserve_space(bufferevent_get_input(bev), 1, &space, 1) < 0;
}

static int kind_of(struct bufferevent *bev)
{
	if (bufferevent_get_underlying(bev))
		return GLEV_FILTER;
	return bufferevent_pair_get_partner(bev) ? GLEV_PAIR : GLEV_SOCKET;
}

/* Whether a socket has begun to connect. */
static int connects(struct bufferevent *bev)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int fd = bufferevent_getfd(bev);

	return fd >= 0 && getpeername(fd, (struct sockaddr *)&ss, &len) < 0 && errno == ENOTCONN;
}

static void init(struct glev_bev *r, struct glev_base *b, struct bufferevent *bev, int options, int loop_only, void *handle)
{
	glev_bev_init(r, b, bev, kind_of(bev), options, loop_only, handle);
	if (!keeps_frozen(bev))
		r->in.frozen = r->out.frozen = 0;
	r->plain = r->touched = 1;
}

/* Whether it is one of ours already. */
static int is_ours(struct bufferevent *bev)
{
	bufferevent_event_cb on_event = NULL;

	bufferevent_getcb(bev, NULL, NULL, &on_event, NULL);
	return on_event == glev_on_bev_event;
}

static void borrow_from(struct bufferevent *bev, struct glev_host *h)
{
	bufferevent_getcb(bev, &h->read, &h->write, &h->event, &h->arg);
	h->rate = bufferevent_get_token_bucket_cfg(bev);
	bufferevent_incref(bev);
}

int64_t glev_adopt(struct glev_base *b, struct bufferevent *bev, int options, int loop_only, int borrow, void *handle, struct glev_bev **out)
{
	struct glev_bev *r;

	if (loop_only && !glev_base_on_loop(b))
		return GLEV_WRONG_LOOP;
	if (bufferevent_get_base(bev) != b->base)
		return -EXDEV;
	r = calloc(1, sizeof(*r) + sizeof(struct glev_host));
	if (!r)
		return -ENOMEM;
	evbuffer_lock(bufferevent_get_input(bev));
	if (is_ours(bev)) {
		evbuffer_unlock(bufferevent_get_input(bev));
		free(r);
		return -EEXIST;
	}
	if (borrow) {
		r->host = (struct glev_host *)(r + 1);
		borrow_from(bev, r->host);
	}
	init(r, b, bev, options, loop_only, handle);
	if (r->host) {
		r->host->in_frozen = r->in.frozen;
		r->host->out_frozen = r->out.frozen;
	}
	r->connecting = r->kind == GLEV_SOCKET && connects(bev);
	evbuffer_unlock(bufferevent_get_input(bev));
	*out = r;
	return 0;
}

/* From now on callbacks are C's, though only the loop's thread may put them back. */
void glev_adopt_await(struct glev_bev *r)
{
	__atomic_store_n(&r->host->awaited, 1, __ATOMIC_RELEASE);
}

const struct glev_host *glev_adopt_awaited(struct glev_bev *r)
{
	return r->host && __atomic_load_n(&r->host->awaited, __ATOMIC_ACQUIRE) ? r->host : NULL;
}

/* With the lock. Settings stay as they are; callbacks that C has changed meanwhile, or
 * cleared by bufferevent_free, too. The limit is memory of ours. */
void glev_adopt_return(struct glev_bev *r)
{
	const struct glev_host *h = r->host;
	int limited = r->rate && bufferevent_get_token_bucket_cfg(r->bev) == r->rate->cfg;
	void *arg;

	r->paused = 0;
	glev_bev_apply(r);
	bufferevent_getcb(r->bev, NULL, NULL, NULL, &arg);
	if (limited)
		bufferevent_set_rate_limit(r->bev, NULL);
	if (arg == r) {
		bufferevent_setcb(r->bev, h->read, h->write, h->event, h->arg);
		if (limited && h->rate)
			bufferevent_set_rate_limit(r->bev, (struct ev_token_bucket_cfg *)h->rate);
	}
	r->in.frozen = h->in_frozen;
	r->out.frozen = h->out_frozen;
	glev_buf_refreeze(&r->in);
	glev_buf_refreeze(&r->out);
}

int64_t glev_adopt_new(struct glev_base *b, struct glev_bev *under, const struct glev_door *door, int options, int loop_only, int plain, void *handle, struct glev_bev **out)
{
	struct bufferevent *bev = NULL;
	struct glev_bev *r;
	int64_t rc = -ENOMEM;

	GLEV_CHECK_LOOP(under);
	r = calloc(1, sizeof(*r) + glev_fast_size(1));
	if (!r || !(r->door = malloc(sizeof(*door))))
		goto done;
	*r->door = *door;
	if (under && (rc = -glev_filter_put(under, r)) < 0)
		goto done;
	errno = 0;
	bev = door->make(b->base, under ? under->bev : NULL, options & ~BEV_OPT_CLOSE_ON_FREE, door->arg);
	rc = errno ? -errno : -ENOMEM;
	if (bev) {
		r->under = under;
		init(r, b, bev, options, loop_only, handle);
		r->connecting = 1;
		r->plain = r->touched = (int8_t)plain;
		if (door->recv && r->kind == GLEV_SOCKET)
			glev_fast_init(r);
		rc = 0;
	}
	if (under)
		glev_filter_is_put(under, bev != NULL);
done:
	if (rc < 0) {
		if (r)
			free(r->door);
		free(r);
		r = NULL;
	}
	*out = r;
	return rc;
}

/* libevent destroys a bufferevent some turns after it is freed, and before its buffers. */
void glev_adopt_free(struct glev_bev *r)
{
	if (!r->door)
		return;
	evbuffer_unfreeze(r->in.evb, 0);
	evbuffer_add_reference(r->in.evb, "", 1, glev_on_gone, r->door);
}
