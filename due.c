/*
 * due.c: what C wants Go to do, but cannot ask for at once.
 *
 * Callbacks that libevent makes under a lock may not run closures. They leave a
 * note here. A loop finds its notes in its next turn. Where no loop is concerned,
 * it is the Go call that entered libevent on this thread that looks for notes of
 * its own when libevent's locks are released.
 */

#include "native.h"

static struct glev_dues of_calls = {PTHREAD_MUTEX_INITIALIZER, NULL, &of_calls.first};
static __thread char thread; /* its address is the thread's name */

int glev_due_waiting;

void glev_dues_init(struct glev_dues *d)
{
	pthread_mutex_init(&d->lock, NULL);
	d->first = NULL;
	d->end = &d->first;
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

/* On a loop of C's no Go call is below, which would look. */
void glev_due_here(struct glev_due *d)
{
	struct glev_base *b = glev_base_here();

	if (b || !glev_base_due(d))
		glev_due(d, b);
}

/* Moves this thread's, or all, from list to taken; returns how many. */
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

struct glev_due *glev_due_take(struct glev_base *base, int all)
{
	struct glev_dues *list = base ? &base->dues : &of_calls;
	struct glev_due *taken = NULL;
	int n;

	/* Inside a filter function the filter's lock is held; the call that made
	 * libevent call it will ask again. A loop never does. */
	if (!base && glev_filter_within() && !glev_base_here())
		return NULL;
	pthread_mutex_lock(&list->lock);
	n = take(list, base || all, &taken);
	if (!base)
		__atomic_fetch_sub(&glev_due_waiting, n, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&list->lock);
	return taken;
}
