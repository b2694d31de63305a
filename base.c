/* base.c: the native half of Base. */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "native.h"

int glev_use_threads(void)
{
	return evthread_use_pthreads();
}

int glev_enable_lock_debugging(void)
{
	evthread_enable_lock_debugging();
	return 0;
}

static __thread struct glev_base *here;
static __thread struct glev_base *turning; /* its loop is run by Go on this thread */

/* Those that C made, whose loops come and go without a word. */
static pthread_mutex_t foreign_lock = PTHREAD_MUTEX_INITIALIZER;
static struct glev_base *foreign;

/* Has the wake event fire for a byte in a pipe, which every thread may write. */
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

struct glev_base *glev_base_new(struct event_base *base, int no_locks, void *handle)
{
	struct glev_base *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->base = base;
	b->handle = handle;
	b->pipe[0] = b->pipe[1] = -1;
	glev_dues_init(&b->dues);
	/* EV_FINALIZE: deleting one from another thread never waits for it. */
	if (!no_locks)
		b->wake = event_new(base, -1, EV_FINALIZE, glev_on_wake, b);
	else if (wake_by_pipe(b) < 0) {
		glev_base_free(b);
		return NULL;
	}
	b->keep = event_new(base, -1, EV_PERSIST | EV_FINALIZE, glev_on_nothing, b);
	if (!b->wake || !b->keep) {
		glev_base_free(b);
		return NULL;
	}
	return b;
}

void glev_base_is_foreign(struct glev_base *b)
{
	pthread_mutex_lock(&foreign_lock);
	b->next = foreign;
	foreign = b;
	pthread_mutex_unlock(&foreign_lock);
}

static void forget(struct glev_base *b)
{
	struct glev_base **at;

	pthread_mutex_lock(&foreign_lock);
	for (at = &foreign; *at && *at != b; at = &(*at)->next)
		;
	if (*at)
		*at = b->next;
	pthread_mutex_unlock(&foreign_lock);
}

int glev_base_due(struct glev_due *d)
{
	struct glev_base *b;

	pthread_mutex_lock(&foreign_lock);
	for (b = foreign; b && !glev_base_on_loop(b); b = b->next)
		;
	if (b)
		glev_due(d, b);
	pthread_mutex_unlock(&foreign_lock);
	return b != NULL;
}

void glev_base_free(struct glev_base *b)
{
	forget(b);
	if (b->wake)
		event_free(b->wake);
	if (b->keep)
		event_free(b->keep);
	b->wake = b->keep = NULL;
	if (b->dns_freeing) {
		b->over = 1;
		return;
	}
	if (b->pipe[0] >= 0) {
		close(b->pipe[0]);
		close(b->pipe[1]);
	}
	pthread_mutex_destroy(&b->dues.lock);
	glev_block_put(b->block);
	glev_block_put(b->cipher);
	free(b);
}

void glev_base_claim(struct glev_base *b)
{
	b->outer = here;
	here = b;
	__atomic_store_n(&b->owner, (uintptr_t)pthread_self(), __ATOMIC_RELEASE);
}

void glev_base_unclaim(struct glev_base *b)
{
	here = b->outer;
	__atomic_store_n(&b->owner, 0, __ATOMIC_RELEASE);
}

/*
 * The owner stays when C runs the loop: between two callbacks it is still that thread
 * which acts as the loop, as far as anybody can tell.
 */
int glev_base_visit(struct glev_base *b)
{
	if (here == b)
		return 0;
	b->outer = here;
	here = b;
	__atomic_store_n(&b->owner, (uintptr_t)pthread_self(), __ATOMIC_RELEASE);
	__atomic_store_n(&b->hosted, turning != b, __ATOMIC_RELEASE);
	return 1;
}

void glev_base_visited(struct glev_base *b, int visit)
{
	if (visit)
		here = b->outer;
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

/*
 * To Go a loop is one goroutine in one long call into C. One that was not scheduled
 * for 10 ms is suspect to the runtime's monitor: it takes the processor from the call
 * every time it looks, and looks every 20 microseconds as long as it finds something
 * to take. At 100,000 callbacks a second that cost a fifth of the time (a thread more
 * that wants the core, and a futex call for each processor taken and got back). A
 * goroutine that yields now and then is left alone.
 */
int glev_base_yields(struct glev_base *b)
{
	enum { CALLS = 16, INTERVAL_NS = 5000000 };
	struct timespec ts;
	int64_t now;

	if (!glev_base_running(b)) /* nor is one that C runs */
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

/* Of a base that C ran last, and may be running, nothing is claimed: if this call gets
 * the loop, the first callback tells. If not libevent says so, without an errno. */
int glev_base_loop(struct glev_base *b, int flags)
{
	struct glev_base *outer = turning;
	int claimed = here == b, rc;

	if (claimed)
		__atomic_store_n(&b->running, 1, __ATOMIC_RELAXED);
	turning = b;
	errno = 0;
	rc = event_base_loop(b->base, flags);
	turning = outer;
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

/* A zero timer, not event_active: libevent drains its active queue before it
 * polls again, so a function that posts itself would starve every socket. A
 * timer fires after the next poll. */
int glev_base_wake(struct glev_base *b)
{
	static const struct timeval now = {0, 0};

	if (!b->wake) /* the base is being freed */
		return 0;
	if (b->pipe[1] >= 0) /* if it is full the loop will see it */
		return write(b->pipe[1], "", 1) < 0 && errno != EAGAIN ? -errno : 0;
	return event_add(b->wake, &now) < 0 ? -ENOMEM : 0;
}

int glev_base_keep(struct glev_base *b, int on)
{
	static const struct timeval day = {24 * 60 * 60, 0};
	int rc = on ? event_add(b->keep, &day) : event_del(b->keep);

	return rc < 0 ? -ENOMEM : 0;
}

void glev_base_settle(struct glev_base *b)
{
	int turn;

	event_free(b->wake);
	b->wake = NULL;
	event_del(b->keep);
	/* A finalizer may queue another (a wrapper its underlying), so a few
	 * turns; the bound is there because nothing here may hang. */
	for (turn = 0; turn < 1000; turn++) {
		event_base_loop(b->base, EVLOOP_NONBLOCK);
		if (event_base_get_num_events(b->base, EVENT_BASE_COUNT_ACTIVE) == 0 &&
		    b->dns_freeing == 0)
			break;
	}
}
