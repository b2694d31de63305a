/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * thread.c: which thread acts as which loop, and how others wake it.
 *
 * A thread acts as the loop of a base while it runs the loop, and while Go has
 * claimed the base for it because no loop runs. A C program does not tell when it runs a
 * loop: the first callback of that loop shows which thread it is.
 */

#include <errno.h>
#include <unistd.h>

#include "base.h"
#include "callbacks.h"

static __thread struct glev_base *here;    /* this thread acts as its loop */
static __thread struct glev_base *turning; /* Go runs its loop on this thread */

int glev_use_threads(void)
{
	return evthread_use_pthreads();
}

static int debugs_locks;

int glev_enable_lock_debugging(void)
{
	evthread_enable_lock_debugging();
	debugs_locks = 1;
	return 0;
}

int glev_debugs_locks(void)
{
	return debugs_locks;
}

/* --- the thread that acts as the loop -------------------------------------- */

static void own(struct glev_base *b)
{
	b->outer = here;
	here = b;
	__atomic_store_n(&b->owner, (uintptr_t)pthread_self(), __ATOMIC_RELEASE);
}

void glev_base_claim(struct glev_base *b)
{
	own(b);
}

void glev_base_unclaim(struct glev_base *b)
{
	here = b->outer;
	__atomic_store_n(&b->owner, 0, __ATOMIC_RELEASE);
}

/* If C runs the loop, the owner stays after the callback, because between two callbacks that
 * thread still acts as the loop, as far as can be known here. */
int glev_base_visit(struct glev_base *b)
{
	if (here == b)
		return 0;
	own(b);
	__atomic_store_n(&b->hosted, turning != b, __ATOMIC_RELEASE);
	return 1;
}

void glev_base_visited(struct glev_base *b, int visit)
{
	if (visit)
		here = b->outer;
}

struct glev_base *glev_thread_turns(struct glev_base *b)
{
	struct glev_base *before = turning;

	turning = b;
	return before;
}

int glev_base_hosted(struct glev_base *b)
{
	return __atomic_load_n(&b->hosted, __ATOMIC_ACQUIRE);
}

struct glev_base *glev_base_here(void)
{
	return here;
}

int glev_base_on_loop(struct glev_base *b)
{
	return __atomic_load_n(&b->owner, __ATOMIC_ACQUIRE) == (uintptr_t)pthread_self();
}

int glev_base_running(struct glev_base *b)
{
	return __atomic_load_n(&b->running, __ATOMIC_RELAXED);
}

/* --- waking ---------------------------------------------------------------- */

/* Has the wake event fire for a byte in a pipe: every thread may write that byte. */
static int wake_by_pipe(struct glev_base *b)
{
	int i;

	if (pipe(b->pipe) < 0)
		return -1;
	for (i = 0; i < 2; i++)
		if (evutil_make_socket_nonblocking(b->pipe[i]) < 0 ||
		    evutil_make_socket_closeonexec(b->pipe[i]) < 0)
			return -1;
	b->wake = event_new(b->base, b->pipe[0], EV_READ | EV_PERSIST | EV_FINALIZE, glev_on_wake, b);
	return b->wake ? event_add(b->wake, NULL) : -1;
}

int glev_base_make_wake(struct glev_base *b, int no_locks)
{
	if (no_locks)
		return wake_by_pipe(b);
	/* EV_FINALIZE: deleting the event from another thread never waits for its
	 * callback. */
	b->wake = event_new(b->base, -1, EV_FINALIZE, glev_on_wake, b);
	return b->wake ? 0 : -1;
}

void glev_base_drop_wake(struct glev_base *b)
{
	if (b->wake)
		event_free(b->wake);
	b->wake = NULL;
}

void glev_timer_add(struct event *ev, const struct timeval *tv)
{
	if (event_add(ev, tv) < 0)
		event_active(ev, EV_TIMEOUT, 0);
}

/* A byte in the pipe. A loop whose pipe is full wakes anyway. */
static void write_to_pipe(struct glev_base *b)
{
	ssize_t n;

	do {
		n = write(b->pipe[1], "", 1);
	} while (n < 0 && errno == EINTR);
}

/* A zero timer, not event_active: libevent empties its active queue before it polls
 * again, so a function that posts itself would starve every socket. A timer fires
 * after the next poll. */
void glev_base_wake(struct glev_base *b)
{
	static const struct timeval now = {0, 0};

	if (!b->wake) /* the base is being freed */
		return;
	if (b->pipe[1] >= 0)
		write_to_pipe(b);
	else
		glev_timer_add(b->wake, &now);
}

/* --- bases that C made ------------------------------------------------------ */

static pthread_mutex_t foreign_lock = PTHREAD_MUTEX_INITIALIZER;
static struct glev_base *foreign;

void glev_base_set_foreign(struct glev_base *b)
{
	pthread_mutex_lock(&foreign_lock);
	b->next = foreign;
	foreign = b;
	pthread_mutex_unlock(&foreign_lock);
}

void glev_base_foreign_remove(struct glev_base *b)
{
	struct glev_base **at;

	pthread_mutex_lock(&foreign_lock);
	for (at = &foreign; *at && *at != b; at = &(*at)->next)
		;
	if (*at)
		*at = b->next;
	pthread_mutex_unlock(&foreign_lock);
}

struct glev_base *glev_base_foreign_here(void)
{
	struct glev_base *b;

	pthread_mutex_lock(&foreign_lock);
	for (b = foreign; b && !glev_base_on_loop(b); b = b->next)
		;
	return b;
}

void glev_base_foreign_release(void)
{
	pthread_mutex_unlock(&foreign_lock);
}

/* --- filter functions ------------------------------------------------------- */

/*
 * A panic in a filter function cannot pass through libevent's frames, which hold the
 * filter's lock. So the function fails, the panic waits here, and it comes out of the
 * Go method that called into libevent on this thread, between enter and leave, or out
 * of the loop.
 */
static __thread int depth;
static __thread int within;
static __thread uintptr_t panicked; /* the handle of the first panic since enter, or 0 */

void glev_filter_enter(void)
{
	depth++;
}

uintptr_t glev_filter_leave(void)
{
	uintptr_t p = 0;

	if (--depth == 0) {
		p = panicked;
		panicked = 0;
	}
	return p;
}

int glev_filter_panicked(uintptr_t panic)
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
