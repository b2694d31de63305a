/*
 * filter.c: making a filter. How a panic in a filter function gets out of libevent's frames
 * is in thread.c.
 */

#include <errno.h>
#include <stdlib.h>

#include "bev.h"
#include "callbacks.h"

int glev_filter_put(struct glev_bev *under, struct glev_bev *above)
{
	glev_bev_lock(under);
	if (glev_bev_life(under) != GLEV_LIVE || under->stack.above || under->ending.shut) {
		int quiet = glev_bev_is_quiet(under);

		glev_bev_unlock(under);
		return quiet ? GLEV_CLOSED : -EBUSY;
	}
	under->stack.above = above;
	glev_settle(under);
	return 0;
}

void glev_filter_is_put(struct glev_bev *under, int indeed)
{
	if (!indeed)
		under->stack.above = NULL;
	glev_settle(under); /* libevent has enabled it */
	glev_bev_unlock(under);
}

/* A filter's functions use four buffers. Whether a function has done anything shows in the
 * changes of these. */
static void count_changes(struct glev_bev *r)
{
	struct glev_bev *under = r->stack.under;

	r->stack.under_in_cb = evbuffer_add_cb(under->in.evb, glev_on_filter_change, r);
	r->stack.under_out_cb = evbuffer_add_cb(under->out.evb, glev_on_filter_change, r);
	evbuffer_add_cb(r->in.evb, glev_on_filter_change, r);
	evbuffer_add_cb(r->out.evb, glev_on_filter_change, r);
}

struct glev_bev *glev_filter_new(struct glev_bev *under, int in, int out, int options, int loop_only, void *handle, int *err)
{
	struct bufferevent *bev;
	struct glev_bev *r = calloc(1, sizeof(*r));

	*err = ENOMEM;
	if (!r)
		return NULL;
	*err = -glev_filter_put(under, r);
	if (*err) {
		free(r);
		return NULL;
	}
	*err = ENOMEM;
	/* Go frees the bufferevent below, so libevent is not asked to. */
	bev = bufferevent_filter_new(under->bev, in ? glev_on_filter_in : NULL,
	    out ? glev_on_filter_out : NULL, options & ~BEV_OPT_CLOSE_ON_FREE, NULL, r);
	if (bev) {
		r->stack.under = under;
		glev_bev_init(r, under->base, bev, GLEV_FILTER, options, loop_only, handle);
		count_changes(r);
	}
	glev_filter_is_put(under, bev != NULL);
	if (!bev) {
		free(r);
		return NULL;
	}
	return r;
}
