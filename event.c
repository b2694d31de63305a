/* SPDX-License-Identifier: BSD-3-Clause */
/* event.c: the C half of Event. */

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "base.h"
#include "callbacks.h"

short glev_event_take(struct glev_event *e)
{
	if (!__atomic_load_n(&e->active, __ATOMIC_ACQUIRE))
		return 0;
	return __atomic_exchange_n(&e->active, 0, __ATOMIC_ACQ_REL);
}

/* Another thread may call glev_event_del meanwhile. As in libevent, the loop may just have
 * taken the event up then. */
static void become_active(struct glev_later *l)
{
	struct glev_event *e = (struct glev_event *)((char *)l - offsetof(struct glev_event, later));
	short what = glev_event_take(e);

	if (what)
		event_active(e->ev, what, 1);
}

struct glev_event *glev_event_new(struct glev_base *b, int fd, short what, uintptr_t handle)
{
	struct glev_event *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->base = b;
	e->handle = handle;
	e->waits = what & (EV_READ | EV_WRITE);
	e->later.run = become_active;
	/* EV_FINALIZE: without it event_del from another thread waits for a
	 * running callback, which may be waiting for the caller. */
	e->ev = event_new(b->base, fd, what | EV_FINALIZE, glev_on_event, e);
	if (!e->ev) {
		free(e);
		return NULL;
	}
	return e;
}

int glev_event_was_dropped(struct event *ev, short what)
{
	return event_pending(ev, what | EV_TIMEOUT, NULL) == EV_TIMEOUT && event_del(ev) == 0;
}

int64_t glev_event_add_common(struct glev_event *e, const struct timeval *tv)
{
	int rc;

	errno = 0;
	rc = event_add(e->ev, tv);
	if (rc == 0 && e->waits && glev_event_was_dropped(e->ev, e->waits))
		rc = event_add(e->ev, tv);
	return rc < 0 ? -(errno ? errno : EINVAL) : 0;
}

int64_t glev_event_add(struct glev_event *e, int64_t usec)
{
	struct timeval tv = {usec / 1000000, usec % 1000000};

	return glev_event_add_common(e, usec < 0 ? NULL : &tv);
}

int glev_event_del(struct glev_event *e)
{
	glev_later_forget(e->base, &e->later);
	__atomic_store_n(&e->active, 0, __ATOMIC_RELEASE);
	return event_del(e->ev);
}

void glev_event_active(struct glev_event *e, short what)
{
	if (glev_laters_soon(e->base)) {
		event_active(e->ev, what, 1);
		return;
	}
	__atomic_fetch_or(&e->active, what, __ATOMIC_ACQ_REL);
	glev_later(e->base, &e->later);
}

int glev_event_pending(struct glev_event *e, short what)
{
	return event_pending(e->ev, what, NULL) | (__atomic_load_n(&e->active, __ATOMIC_ACQUIRE) & what);
}

/* libevent changes the priority without taking its lock. The loop's thread may be putting
 * the event into the queue of the old priority at this moment. Later it would take the
 * event out of the queue of the new priority, which ruins both queues. */
int64_t glev_event_set_priority(struct glev_event *e, int priority)
{
	const short any = EV_READ | EV_WRITE | EV_TIMEOUT | EV_SIGNAL;

	if (!glev_base_on_loop(e->base) && glev_event_pending(e, any))
		return GLEV_WRONG_LOOP;
	if (__atomic_load_n(&e->active, __ATOMIC_ACQUIRE))
		return -EBUSY;
	return event_priority_set(e->ev, priority) < 0 ? -EBUSY : 0;
}

void glev_event_free(struct glev_event *e)
{
	glev_later_forget(e->base, &e->later);
	event_free(e->ev);
	free(e);
}
