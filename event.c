/* event.c: the C half of Event. */

#include <errno.h>
#include <stdlib.h>

#include "base.h"
#include "callbacks.h"

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

/* libevent changes the priority without taking its lock. The loop's thread may be putting
 * the event into the queue of the old priority at this moment. Later it would take the
 * event out of the queue of the new priority, which ruins both queues. */
int64_t glev_event_set_priority(struct glev_event *e, int priority)
{
	const short any = EV_READ | EV_WRITE | EV_TIMEOUT | EV_SIGNAL;

	if (!glev_base_on_loop(e->base) && event_pending(e->ev, any, NULL))
		return GLEV_WRONG_LOOP;
	return event_priority_set(e->ev, priority) < 0 ? -EBUSY : 0;
}

void glev_event_free(struct glev_event *e)
{
	event_free(e->ev);
	free(e);
}
