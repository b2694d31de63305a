/* SPDX-License-Identifier: BSD-3-Clause */
/* base.c: the C half of Base: making, running and freeing it. */

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base.h"
#include "callbacks.h"

struct glev_base *glev_base_new(struct event_base *base, int no_locks, void *handle)
{
	struct glev_base *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->base = base;
	b->handle = handle;
	b->pipe[0] = b->pipe[1] = -1;
	glev_dues_init(&b->dues);
	if (glev_laters_init(b) < 0 || glev_base_make_wake(b, no_locks) < 0 ||
	    !(b->keep = event_new(base, -1, EV_READ | EV_PERSIST | EV_FINALIZE, glev_on_nothing, b))) {
		glev_base_free(b);
		return NULL;
	}
	return b;
}

void glev_base_free(struct glev_base *b)
{
	glev_base_foreign_remove(b);
	glev_base_drop_wake(b);
	glev_laters_drop(b);
	if (b->keep)
		event_free(b->keep);
	b->keep = NULL;
	if (b->dns_freeing) {
		b->freed = 1;
		return;
	}
	if (b->pipe[0] >= 0) {
		close(b->pipe[0]);
		close(b->pipe[1]);
	}
	glev_dues_destroy(&b->dues);
	glev_laters_destroy(b);
	glev_block_put(b->block);
	glev_block_put(b->cipher);
	free(b->written);
	free(b);
}

/*
 * For Go a loop is one goroutine in one long call into C. The runtime's monitor suspects a
 * goroutine that was not scheduled for 10 ms: it takes the processor from the call
 * every time it looks, and looks every 20 microseconds as long as it finds something
 * to take. At 100,000 callbacks a second this cost a fifth of the time (one more thread
 * that wants the core, and a futex call for each processor taken and got back). The
 * monitor leaves a goroutine alone that yields now and then.
 */
int glev_base_yields(struct glev_base *b)
{
	enum { CALLS = 16, INTERVAL_NS = 5000000 };
	struct timespec ts;
	int64_t now;

	if (!glev_base_running(b)) /* as when C runs the loop */
		return 0;
	if (++b->calls < CALLS)
		return 0;
	b->calls = 0;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
	if (now - b->yielded < INTERVAL_NS)
		return 0;
	b->yielded = now;
	return 1;
}

/* A base whose loop C ran last is not claimed, because C may be running the loop now. If
 * C is not, the first callback makes this thread the owner. If C is, libevent fails
 * without an errno. */
int glev_base_loop(struct glev_base *b, int flags)
{
	int claimed = glev_base_here() == b, rc;
	struct glev_base *outer;

	if (claimed)
		__atomic_store_n(&b->running, 1, __ATOMIC_RELAXED);
	outer = glev_thread_turns(b);
	errno = 0;
	rc = event_base_loop(b->base, flags);
	glev_thread_turns(outer);
	if (claimed)
		__atomic_store_n(&b->running, 0, __ATOMIC_RELAXED);
	if (rc < 0)
		return errno ? -errno : GLEV_RUNNING;
	if (!claimed) {
		__atomic_store_n(&b->hosted, 0, __ATOMIC_RELEASE);
		__atomic_store_n(&b->owner, 0, __ATOMIC_RELEASE);
	}
	return rc;
}

/* An event without a descriptor and without a timeout counts, never fires, and needs no
 * memory to be added. */
void glev_base_keep(struct glev_base *b, int on)
{
	if (on)
		event_add(b->keep, NULL);
	else
		event_del(b->keep);
}

void glev_base_finalize(struct glev_base *b)
{
	int turn;

	glev_base_drop_wake(b);
	event_del(b->keep);
	/* A finalizer may queue another one (a filter that of the bufferevent below), so
	 * this takes a few turns. The bound is there because Base.Free must not hang. */
	for (turn = 0; turn < 1000; turn++) {
		event_base_loop(b->base, EVLOOP_NONBLOCK);
		if (event_base_get_num_events(b->base, EVENT_BASE_COUNT_ACTIVE) == 0 &&
		    b->dns_freeing == 0)
			break;
	}
}

void glev_fast_counters(struct glev_base *b, struct glev_fast_counters *c)
{
	c->reads = __atomic_load_n(&b->fast.reads, __ATOMIC_RELAXED);
	c->writes = __atomic_load_n(&b->fast.writes, __ATOMIC_RELAXED);
	c->spills = __atomic_load_n(&b->fast.spills, __ATOMIC_RELAXED);
}
