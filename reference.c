/*
 * reference.c: bytes of Go's in a buffer, without a copy.
 *
 * libevent lets go of a reference under the buffer's lock, on whatever thread takes
 * the last byte. Go is not called there: what is done is put on a list. On the thread
 * of a running loop that is the loop's list, which its next turn takes; elsewhere it is
 * one list for all, which the Go call that made it so takes before it returns.
 */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "native.h"

struct glev_done {
	struct glev_done *next;
	void *handle;
};

uint32_t glev_done_elsewhere;

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static struct glev_done *elsewhere;
static __thread struct glev_base *running;

struct glev_base *glev_enter_loop(struct glev_base *b)
{
	struct glev_base *before = running;

	running = b;
	return before;
}

static void on_done(const void *data, size_t n, void *arg)
{
	struct glev_done *d = arg;

	(void)data;
	(void)n;
	if (running) {
		d->next = running->done;
		running->done = d;
		glev_base_wake(running);
		return;
	}
	pthread_mutex_lock(&mu);
	d->next = elsewhere;
	elsewhere = d;
	__atomic_fetch_add(&glev_done_elsewhere, 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&mu);
}

void *glev_take_done(struct glev_base *b)
{
	struct glev_done *d;
	void *handle;

	if (b) {
		d = b->done;
		if (d)
			b->done = d->next;
	} else {
		pthread_mutex_lock(&mu);
		d = elsewhere;
		if (d) {
			elsewhere = d->next;
			__atomic_fetch_sub(&glev_done_elsewhere, 1, __ATOMIC_RELEASE);
		}
		pthread_mutex_unlock(&mu);
	}
	if (!d)
		return NULL;
	handle = d->handle;
	free(d);
	return handle;
}

int64_t glev_buf_add_reference(struct glev_buf *b, const char *p, size_t n, void *done)
{
	struct glev_done *d;
	int64_t rc;

	GLEV_CHECK_LOOP(b->owner);
	d = malloc(sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->handle = done;
	evbuffer_lock(b->evb);
	rc = glev_buf_refusal(b, GLEV_BACK);
	if (rc == 0 && evbuffer_add_reference(b->evb, p, n, on_done, d) < 0)
		rc = -ENOMEM;
	evbuffer_unlock(b->evb);
	if (rc < 0)
		free(d);
	return rc;
}
