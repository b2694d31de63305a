/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ratelimit.c: the C half of RateLimit and RateLimitGroup.
 *
 * libevent does not count references to a token bucket configuration, so each
 * record owns the configuration of its bufferevent. libevent copies that of a
 * group. A bufferevent leaves its group on the loop's thread, before it is freed:
 * libevent would let it leave when it is finalized, and would abort if the group
 * were freed before that.
 */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "bev.h"

/*
 * A rate of 0 is unlimited. With TLS libevent keeps the number of bytes that it may read
 * in an int, so "unlimited" is the largest int there. (On a socket libevent passes the
 * largest of all limits, cut to an int, to evbuffer_read, for which the result means no
 * limit, too.)
 */
static struct glev_bucket *bucket(const struct glev_rate *l, int door)
{
	size_t unlimited = door ? INT_MAX : EV_RATE_LIMIT_MAX;
	struct timeval tick = {l->tick_msec / 1000, l->tick_msec % 1000 * 1000};
	struct glev_bucket *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->rate = *l;
	if (!l->read_rate)
		b->rate.read_rate = b->rate.read_burst = unlimited;
	if (!l->write_rate)
		b->rate.write_rate = b->rate.write_burst = unlimited;
	b->cfg = ev_token_bucket_cfg_new(b->rate.read_rate, b->rate.read_burst,
	    b->rate.write_rate, b->rate.write_burst, &tick);
	if (!b->cfg) {
		free(b);
		return NULL;
	}
	return b;
}

void glev_bucket_free(struct glev_bucket *b)
{
	if (b)
		ev_token_bucket_cfg_free(b->cfg);
	free(b);
}

int64_t glev_bev_set_rate(struct glev_bev *r, const struct glev_rate *l)
{
	struct glev_bucket *b = NULL, *old;
	int64_t rc = 0;

	GLEV_CHECK_LOOP(r);
	if (r->type != GLEV_SOCKET)
		return GLEV_NO_SOCKET;
	if (l && !(b = bucket(l, r->door != NULL)))
		return -ENOMEM;
	glev_bev_lock(r);
	if (glev_bev_is_quiet(r)) {
		glev_bev_unlock(r);
		glev_bucket_free(b);
		return GLEV_CLOSED;
	}
	if (b) {
		r->set.was_limited = 1;
		r->set.limits |= GLEV_LIMIT_RATE;
		rc = glev_settle_try(r);
	}
	/* libevent counts time in ticks of the limit, and does not convert the count
	 * when the limit changes: after a change of the tick it may wait for days. If
	 * the limit is removed in between, libevent restarts the count. */
	if (rc == 0 && b && r->set.rate && r->set.rate->rate.tick_msec != l->tick_msec)
		bufferevent_set_rate_limit(r->bev, NULL);
	if (rc == 0 && bufferevent_set_rate_limit(r->bev, b ? b->cfg : NULL) < 0)
		rc = -ENOMEM;
	if (rc < 0) {
		old = b;
	} else {
		old = r->set.rate;
		r->set.rate = b;
	}
	if (!r->set.rate)
		r->set.limits &= ~GLEV_LIMIT_RATE;
	glev_settle(r);
	glev_bev_unlock(r);
	glev_bucket_free(old);
	return rc;
}

/* A bound of one write as the user knows it. While the fast path is on, libevent has a bound
 * of the binding's, which is put aside for the question. */
static int64_t write_bound(struct glev_bev *r, ev_ssize_t (*get)(struct bufferevent *))
{
	ev_ssize_t ours, bound;

	glev_bev_lock(r);
	ours = bufferevent_get_max_single_write(r->bev);
	if (r->fast.on)
		bufferevent_set_max_single_write(r->bev, 0);
	bound = get(r->bev);
	if (r->fast.on)
		bufferevent_set_max_single_write(r->bev, (size_t)ours);
	glev_bev_unlock(r);
	return bound;
}

int64_t glev_bev_level(struct glev_bev *r, int which, int64_t *level)
{
	GLEV_CHECK_LOOP(r);
	switch (which) {
	case GLEV_READ_LIMIT:
		*level = bufferevent_get_read_limit(r->bev);
		break;
	case GLEV_WRITE_LIMIT:
		*level = bufferevent_get_write_limit(r->bev);
		break;
	case GLEV_MAX_TO_READ:
		*level = bufferevent_get_max_to_read(r->bev);
		break;
	case GLEV_MAX_TO_WRITE:
		*level = write_bound(r, bufferevent_get_max_to_write);
		break;
	case GLEV_MAX_SINGLE_READ:
		*level = bufferevent_get_max_single_read(r->bev);
		break;
	case GLEV_MAX_SINGLE_WRITE:
		*level = write_bound(r, bufferevent_get_max_single_write);
		break;
	}
	return 0;
}

/* Whether n can be taken out of a bucket at that level, or -n put in. The level must not
 * overflow, and must not exceed the burst: above the burst libevent would go on filling the
 * bucket for ever. */
static int in_range(ev_ssize_t level, int64_t n, size_t burst)
{
	return n >= 0 ? level >= -EV_SSIZE_MAX + n : level <= (ev_ssize_t)burst + n;
}

int64_t glev_bev_take(struct glev_bev *r, int which, int64_t n)
{
	int reading = which == GLEV_READ_LIMIT;
	const struct glev_rate *rate;
	ev_ssize_t level;
	int64_t rc = 0;

	GLEV_ENTER(r);
	if (!r->set.rate) { /* libevent would abort */
		glev_bev_unlock(r);
		return GLEV_NO_LIMIT;
	}
	rate = &r->set.rate->rate;
	level = reading ? bufferevent_get_read_limit(r->bev) : bufferevent_get_write_limit(r->bev);
	if (!in_range(level, n, reading ? rate->read_burst : rate->write_burst))
		rc = -ERANGE;
	else if ((reading ? bufferevent_decrement_read_limit(r->bev, n)
	                  : bufferevent_decrement_write_limit(r->bev, n)) < 0)
		rc = -EIO;
	glev_bev_unlock(r);
	return rc;
}

int64_t glev_bev_set_max_single(struct glev_bev *r, int reading, size_t n)
{
	int limit = reading ? GLEV_LIMIT_SINGLE_READ : GLEV_LIMIT_SINGLE_WRITE;
	int8_t before;
	int64_t rc;

	GLEV_ENTER(r);
	before = r->set.limits;
	r->set.limits |= limit;
	rc = glev_settle_try(r);
	if (rc == 0 && (reading ? bufferevent_set_max_single_read(r->bev, n)
	                        : bufferevent_set_max_single_write(r->bev, n)) < 0)
		rc = -EINVAL;
	if (rc < 0)
		r->set.limits = before;
	else if (n == 0)
		r->set.limits &= ~limit;
	glev_settle(r);
	glev_bev_unlock(r);
	return rc;
}

static int is_of(const struct event_base *base, const struct event *ev, void *group)
{
	(void)base;
	return event_get_callback_arg(ev) == group;
}

/* libevent does not tell if it could not add the timer that fills the buckets of the group. */
struct bufferevent_rate_limit_group *glev_group_new(struct glev_base *b, const struct glev_rate *l)
{
	struct glev_bucket *cfg = bucket(l, 0);
	struct bufferevent_rate_limit_group *g;

	if (!cfg)
		return NULL;
	g = bufferevent_rate_limit_group_new(b->base, cfg->cfg);
	glev_bucket_free(cfg);
	if (g && !event_base_foreach_event(b->base, is_of, g)) {
		bufferevent_rate_limit_group_free(g);
		g = NULL;
	}
	return g;
}

int64_t glev_group_set(struct bufferevent_rate_limit_group *g, const struct glev_rate *l)
{
	struct glev_bucket *cfg = bucket(l, 0);
	int rc;

	if (!cfg)
		return -ENOMEM;
	rc = bufferevent_rate_limit_group_set_cfg(g, cfg->cfg);
	glev_bucket_free(cfg);
	return rc < 0 ? -ENOMEM : 0;
}

int64_t glev_group_add(struct bufferevent_rate_limit_group *g, struct glev_bev *r)
{
	int64_t rc = 0;

	if (r->type != GLEV_SOCKET)
		return GLEV_NO_SOCKET;
	GLEV_ENTER(r);
	r->set.was_limited = 1;
	r->set.limits |= GLEV_LIMIT_GROUP;
	rc = glev_settle_try(r);
	if (rc == 0 && bufferevent_add_to_rate_limit_group(r->bev, g) < 0)
		rc = -ENOMEM;
	if (rc < 0)
		r->set.limits &= ~GLEV_LIMIT_GROUP;
	glev_settle(r); /* libevent may have taken it out of another group, and read again */
	glev_bev_unlock(r);
	return rc;
}

int64_t glev_group_remove(struct glev_bev *r)
{
	glev_bev_lock(r);
	bufferevent_remove_from_rate_limit_group(r->bev);
	r->set.limits &= ~GLEV_LIMIT_GROUP;
	glev_settle(r);
	glev_bev_unlock(r);
	return 0;
}

void glev_group_totals(struct bufferevent_rate_limit_group *g, uint64_t *read, uint64_t *written)
{
	ev_uint64_t r = 0, w = 0;

	bufferevent_rate_limit_group_get_totals(g, &r, &w);
	*read = r;
	*written = w;
}

static ev_ssize_t group_level(struct bufferevent_rate_limit_group *g, int reading)
{
	return reading ? bufferevent_rate_limit_group_get_read_limit(g)
	               : bufferevent_rate_limit_group_get_write_limit(g);
}

static int group_take(struct bufferevent_rate_limit_group *g, int reading, ev_ssize_t n)
{
	return reading ? bufferevent_rate_limit_group_decrement_read(g, n)
	               : bufferevent_rate_limit_group_decrement_write(g, n);
}

/* The loop fills the bucket under a lock that only libevent has, so it may do that between the
 * question for the level and what is put in. What is then above the burst is taken out again. */
int64_t glev_group_take(struct bufferevent_rate_limit_group *g, int which, int64_t n, size_t most)
{
	int reading = which == GLEV_READ_LIMIT, rc;
	size_t burst = most ? most : EV_RATE_LIMIT_MAX;
	ev_ssize_t level;

	if (!in_range(group_level(g, reading), n, burst))
		return -ERANGE;
	rc = group_take(g, reading, n);
	while (rc == 0 && (level = group_level(g, reading)) > (ev_ssize_t)burst)
		rc = group_take(g, reading, level - (ev_ssize_t)burst);
	return rc < 0 ? -EIO : 0;
}
