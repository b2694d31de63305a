/*
 * filter.c: the native half of filters.
 *
 * A panic in a filter function cannot pass through libevent's frames, which hold
 * the filter's lock. The function then fails, and the panic comes out of what
 * called into libevent on this thread: a Go method between enter and leave, or
 * else the loop. That a goroutine keeps its thread from enter to leave is the
 * business of Go.
 */

#include <errno.h>
#include <stdlib.h>

#include "native.h"

static __thread int depth;
static __thread int within;
static __thread void *panicked; /* handle of the first panic since enter */

void glev_filter_enter(void)
{
	depth++;
}

void *glev_filter_leave(void)
{
	void *p = NULL;

	if (--depth == 0) {
		p = panicked;
		panicked = NULL;
	}
	return p;
}

/* Returns 1 if it will come out of glev_filter_leave. */
int glev_filter_panicked(void *panic)
{
	if (depth == 0 || panicked)
		return 0;
	panicked = panic;
	return 1;
}

void glev_filter_begin(void)
{
	within++;
}

void glev_filter_end(void)
{
	within--;
}

int glev_filter_within(void)
{
	return within > 0;
}

/* Takes the callbacks of a bufferevent away for one that is put on it; with 0 its lock is
 * held until glev_filter_is_put. */
int glev_filter_put(struct glev_bev *under, struct glev_bev *above)
{
	evbuffer_lock(under->in.evb);
	if (under->quiet || under->above || under->lingering || under->shut) {
		evbuffer_unlock(under->in.evb);
		return under->quiet ? -GLEV_CLOSED : EBUSY;
	}
	under->above = above;
	glev_fast_choose(under);
	return 0;
}

void glev_filter_is_put(struct glev_bev *under, int indeed)
{
	if (!indeed) {
		under->above = NULL;
		glev_fast_choose(under);
	}
	glev_bev_apply(under); /* libevent has enabled it */
	evbuffer_unlock(under->in.evb);
}

struct glev_bev *glev_filter_new(struct glev_bev *under, int in, int out, int options, int loop_only, void *handle, int *err)
{
	struct bufferevent *bev;
	struct glev_bev *r = calloc(1, sizeof(*r));

	*err = ENOMEM;
	if (!r)
		return NULL;
	*err = glev_filter_put(under, r);
	if (*err) {
		free(r);
		return NULL;
	}
	*err = ENOMEM;
	/* Not with CLOSE_ON_FREE: freeing the one below is Go's business. */
	bev = bufferevent_filter_new(under->bev, in ? glev_on_filter_in : NULL,
	    out ? glev_on_filter_out : NULL, options & ~BEV_OPT_CLOSE_ON_FREE, NULL, r);
	if (bev) {
		r->under = under;
		glev_bev_init(r, under->base, bev, GLEV_FILTER, options, loop_only, handle);
		r->under_in_cb = evbuffer_add_cb(under->in.evb, glev_on_filter_change, r);
		r->under_out_cb = evbuffer_add_cb(under->out.evb, glev_on_filter_change, r);
		evbuffer_add_cb(r->in.evb, glev_on_filter_change, r);
		evbuffer_add_cb(r->out.evb, glev_on_filter_change, r);
	}
	glev_filter_is_put(under, bev != NULL);
	if (!bev) {
		free(r);
		return NULL;
	}
	return r;
}
