/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * later.c: what waits for the loop's next turn.
 *
 * libevent empties its queue of active events before it polls or looks at timers. If a
 * callback made its own event active again, or two callbacks each other's, the loop would
 * do nothing else. A zero timer fires after the next poll. So one timer of the base runs
 * what waits here, and until then everything else has its turn.
 */

#include "base.h"
#include "callbacks.h"

int glev_laters_init(struct glev_base *b)
{
	struct glev_laters *list = &b->laters;

	pthread_mutex_init(&list->lock, NULL);
	list->end = &list->first;
	list->timer = event_new(b->base, -1, EV_FINALIZE, glev_on_later, b);
	if (!list->timer)
		return -1;
	/* What waits has its own priority, and must not wait for one in between. */
	return event_priority_set(list->timer, 0);
}

void glev_laters_drop(struct glev_base *b)
{
	if (b->laters.timer)
		event_free(b->laters.timer);
	b->laters.timer = NULL;
}

void glev_laters_destroy(struct glev_base *b)
{
	pthread_mutex_destroy(&b->laters.lock);
}

/* With the list's lock, as all below. */
static void append(struct glev_laters *list, struct glev_later *l)
{
	static const struct timeval now = {0, 0};

	if (l->at || !list->timer)
		return;
	if (!list->first)
		glev_timer_add(list->timer, &now);
	l->next = NULL;
	l->at = list->end;
	*list->end = l;
	list->end = &l->next;
}

static void take_off(struct glev_laters *list, struct glev_later *l)
{
	if (!l->at)
		return;
	*l->at = l->next;
	if (l->next)
		l->next->at = l->at;
	else if (list->end == &l->next)
		list->end = l->at;
	l->at = NULL;
}

int glev_laters_soon(struct glev_base *b)
{
	struct glev_laters *list = &b->laters;
	int now;

	pthread_mutex_lock(&list->lock);
	now = !list->timer || (!list->first && list->soon < GLEV_MOST_IN_A_TURN);
	list->soon += now;
	pthread_mutex_unlock(&list->lock);
	return now;
}

void glev_later(struct glev_base *b, struct glev_later *l)
{
	pthread_mutex_lock(&b->laters.lock);
	append(&b->laters, l);
	pthread_mutex_unlock(&b->laters.lock);
}

void glev_later_forget(struct glev_base *b, struct glev_later *l)
{
	pthread_mutex_lock(&b->laters.lock);
	take_off(&b->laters, l);
	pthread_mutex_unlock(&b->laters.lock);
}

/* What is appended meanwhile waits for the turn after this one. */
void glev_laters_run(struct glev_base *b)
{
	struct glev_laters *list = &b->laters;
	struct glev_later *l, *first;

	pthread_mutex_lock(&list->lock);
	list->soon = 0;
	first = list->first;
	if (first)
		first->at = &first;
	list->first = NULL;
	list->end = &list->first;
	while ((l = first) != NULL) {
		take_off(list, l);
		pthread_mutex_unlock(&list->lock);
		l->run(l);
		pthread_mutex_lock(&list->lock);
	}
	pthread_mutex_unlock(&list->lock);
}
