/* event.c: the native half of Event. */

#include <errno.h>
#include <stdlib.h>

#include "native.h"

struct glev_event *glev_event_new(struct glev_base *b, int fd, short what, void *handle)
{
	struct glev_event *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->base = b;
	e->handle = handle;
	/* EV_FINALIZE: without it event_del from another thread waits for a
	 * running callback, which may be waiting for the caller. */
	e->ev = event_new(b->base, fd, what | EV_FINALIZE, glev_on_event, e);
	if (!e->ev) {
		free(e);
		return NULL;
	}
	return e;
}

int glev_event_add(struct glev_event *e, int64_t usec)
{
	struct timeval tv = {usec / 1000000, usec % 1000000};

	errno = 0;
	if (event_add(e->ev, usec < 0 ? NULL : &tv) < 0)
		return -(errno ? errno : EINVAL);
	return 0;
}

void glev_event_free(struct glev_event *e)
{
	event_free(e->ev);
	free(e);
}
