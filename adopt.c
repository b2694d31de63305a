/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * adopt.c: bufferevents that others made: C code that gives or lends one, or another package
 * of this module, which describes its bufferevents by a door (internal/adopt).
 *
 * libevent reads and writes them. Only one whose door has recv and send can be on the fast path.
 */

#include <errno.h>
#include <stdlib.h>

#include "bev.h"
#include "callbacks.h"

/* Whether libevent keeps the back of the input frozen. It does so for sockets and pairs, but
 * not where another library reads into the input. */
static int keeps_frozen(struct bufferevent *bev)
{
	struct evbuffer_iovec space;

	return evbuffer_reserve_space(bufferevent_get_input(bev), 1, &space, 1) < 0;
}

static int type_of(struct bufferevent *bev)
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

static void init(struct glev_bev *r, struct glev_base *b, struct bufferevent *bev, int options, int loop_only, uintptr_t handle)
{
	size_t low = 0, high = 0;

	glev_bev_init(r, b, bev, type_of(bev), options, loop_only, handle);
	bufferevent_getwatermark(bev, EV_READ, &low, &high);
	r->mark.native = high != 0;
	if (r->door || !keeps_frozen(bev)) /* without memory a buffer looks frozen */
		r->in.frozen = r->out.frozen = 0;
	r->fast.plain = r->owed.touched = 1;
}

/* Whether it is one of ours already. */
static int is_ours(struct bufferevent *bev)
{
	bufferevent_event_cb on_event = NULL;

	bufferevent_getcb(bev, NULL, NULL, &on_event, NULL);
	return on_event == glev_on_bev_event || on_event == glev_on_below_event;
}

/* Remembers what C has in the bufferevent. */
static void remember(struct bufferevent *bev, struct glev_host *h)
{
	bufferevent_getcb(bev, &h->read, &h->write, &h->event, &h->arg);
	h->rate = bufferevent_get_token_bucket_cfg(bev);
	bufferevent_incref(bev);
}

int64_t glev_adopt(struct glev_base *b, struct bufferevent *bev, int options, int loop_only, int wrap, uintptr_t handle, struct glev_bev **out)
{
	struct glev_bev *r;

	if (loop_only && !glev_base_on_loop(b))
		return GLEV_WRONG_LOOP;
	if (bufferevent_get_base(bev) != b->base)
		return -EXDEV;
	r = calloc(1, sizeof(*r) + sizeof(struct glev_host));
	if (!r)
		return -ENOMEM;
	evbuffer_lock(bufferevent_get_input(bev)); /* there is no record yet */
	if (is_ours(bev)) {
		evbuffer_unlock(bufferevent_get_input(bev));
		free(r);
		return -EEXIST;
	}
	if (wrap) {
		r->host = (struct glev_host *)(r + 1);
		remember(bev, r->host);
	}
	init(r, b, bev, options, loop_only, handle);
	if (r->host) {
		r->host->in_frozen = r->in.frozen;
		r->host->out_frozen = r->out.frozen;
	}
	if (r->type == GLEV_SOCKET && connects(bev))
		r->link = GLEV_CONNECTING;
	evbuffer_unlock(bufferevent_get_input(bev));
	*out = r;
	return 0;
}

/* Tells all below a door that the door says when the connection is open. */
static void carry(struct glev_bev *under)
{
	for (; under; under = under->stack.under) {
		glev_bev_lock(under);
		glev_bev_carry(under);
		glev_bev_unlock(under);
	}
}

/* Copies the door, and makes the byte that tells it of the end. */
static int add_door(struct glev_bev *r, const struct glev_door *door)
{
	r->door = malloc(sizeof(*door));
	r->ending.last_byte = evbuffer_new();
	if (!r->door || !r->ending.last_byte)
		return -1;
	*r->door = *door;
	return evbuffer_add_reference(r->ending.last_byte, "", 1, glev_on_destroyed, r->door);
}

/* Frees a record that has no bufferevent. The door is told nothing. With the last byte,
 * glev_on_destroyed frees the door. */
static void discard(struct glev_bev *r)
{
	int told = r->ending.last_byte && evbuffer_get_length(r->ending.last_byte);

	if (told)
		r->door->gone = NULL;
	else
		free(r->door);
	if (r->ending.last_byte)
		evbuffer_free(r->ending.last_byte);
	free(r);
}

int64_t glev_adopt_new(struct glev_base *b, struct glev_bev *under, const struct glev_door *door, int options, int loop_only, int plain, uintptr_t handle, struct glev_bev **out)
{
	struct bufferevent *bev = NULL;
	struct glev_bev *r;
	int64_t rc = -ENOMEM;

	GLEV_CHECK_LOOP(under);
	r = calloc(1, sizeof(*r) + glev_fast_size(1));
	if (!r)
		return -ENOMEM;
	if (add_door(r, door) < 0 || (under && (rc = glev_filter_put(under, r)) < 0))
		goto done;
	errno = 0;
	bev = door->make(b->base, under ? under->bev : NULL, options & ~BEV_OPT_CLOSE_ON_FREE, door->arg);
	rc = errno ? -errno : -ENOMEM;
	if (bev) {
		r->stack.under = under;
		init(r, b, bev, options, loop_only, handle);
		r->link = GLEV_CONNECTING;
		r->fast.plain = r->owed.touched = (int8_t)plain;
		if (door->recv && r->type == GLEV_SOCKET)
			glev_fast_init(r);
		glev_settle(r);
		rc = 0;
	}
	if (under) {
		if (bev)
			carry(under);
		glev_filter_end_put(under, bev != NULL);
	}
done:
	if (rc < 0) {
		discard(r);
		r = NULL;
	}
	*out = r;
	return rc;
}
