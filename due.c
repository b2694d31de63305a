/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * due.c: what C wants Go to do, but cannot ask for at once.
 *
 * A callback that libevent makes under a lock may not run closures, so it leaves a
 * note here. A loop finds its notes in its next turn. Where no loop is concerned, the
 * Go call that entered libevent on this thread looks for its notes after libevent has
 * released its locks.
 */

#include "base.h"

static struct glev_dues of_calls = {PTHREAD_MUTEX_INITIALIZER, NULL, &of_calls.first};
static __thread char thread; /* its address is the thread's name */

int glev_due_waiting;

void glev_dues_init(struct glev_dues *d)
{
	pthread_mutex_init(&d->lock, NULL);
	d->first = NULL;
	d->end = &d->first;
}

void glev_dues_destroy(struct glev_dues *d)
{
	pthread_mutex_destroy(&d->lock);
}

void glev_due(struct glev_due *d, struct glev_base *base)
{
	struct glev_dues *list = base ? &base->dues : &of_calls;
	int was_empty;

	d->next = NULL;
	d->thread = &thread;
	pthread_mutex_lock(&list->lock);
	was_empty = list->first == NULL;
	*list->end = d;
	list->end = &d->next;
	if (!base)
		__atomic_fetch_add(&glev_due_waiting, 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&list->lock);
	if (base && was_empty)
		glev_base_wake(base);
}

/* On a thread where C runs the loop, no Go call is below on the stack that would look for
 * the note, so the loop gets it. */
void glev_due_here(struct glev_due *d)
{
	struct glev_base *b = glev_base_here(), *foreign;

	if (b) {
		glev_due(d, b);
		return;
	}
	foreign = glev_base_foreign_here();
	if (foreign)
		glev_due(d, foreign);
	glev_base_foreign_release();
	if (!foreign)
		glev_due(d, NULL);
}

/* Moves the notes of this thread, or all, from list to taken; returns how many. */
static int take(struct glev_dues *list, int all, struct glev_due **taken)
{
	struct glev_due **from = &list->first, *d;
	int n = 0;

	while ((d = *from) != NULL) {
		if (!all && d->thread != &thread) {
			from = &d->next;
			continue;
		}
		*from = d->next;
		*taken = d;
		taken = &d->next;
		n++;
	}
	*taken = NULL;
	list->end = from;
	return n;
}

struct glev_due *glev_due_take(struct glev_base *base)
{
	struct glev_dues *list = base ? &base->dues : &of_calls;
	struct glev_due *taken = NULL;
	int n;

	/* Inside a filter function libevent holds the filter's lock. The call that made
	 * libevent run the function asks again afterwards. A loop never holds a lock here. */
	if (!base && glev_filter_within() && !glev_base_here())
		return NULL;
	pthread_mutex_lock(&list->lock);
	n = take(list, base != NULL, &taken);
	if (!base)
		__atomic_fetch_sub(&glev_due_waiting, n, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&list->lock);
	return taken;
}
