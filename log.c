/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log.c: libevent's messages on their way to slog.
 *
 * libevent may log with its base lock held, from any thread, so its log
 * callback must not call Go, which could call libevent again and hang. It
 * leaves the message in a ring and writes a byte to a pipe; a goroutine reads
 * both. While the ring is full, messages are lost, and only counted.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "native.h"

enum { SLOTS = 256, SLOT_SIZE = 512 };

static struct {
	pthread_mutex_t mu;
	int pipe[2];
	unsigned head, count;
	uint64_t lost;
	struct {
		int severity;
		char text[SLOT_SIZE];
	} slot[SLOTS];
} ring = {.mu = PTHREAD_MUTEX_INITIALIZER, .pipe = {-1, -1}};

static void on_log(int severity, const char *msg)
{
	int err = errno;

	pthread_mutex_lock(&ring.mu);
	if (ring.count == SLOTS) {
		ring.lost++;
	} else {
		unsigned i = (ring.head + ring.count++) % SLOTS;

		ring.slot[i].severity = severity;
		strncpy(ring.slot[i].text, msg, SLOT_SIZE - 1);
		ring.slot[i].text[SLOT_SIZE - 1] = '\0';
		if (ring.pipe[1] >= 0 && write(ring.pipe[1], "", 1) < 0) {
			/* The pipe is full, so the reader is awake already. */
		}
	}
	pthread_mutex_unlock(&ring.mu);
	errno = err;
}

int glev_log_start(void)
{
	int p[2], i;

	if (pipe(p) < 0)
		return -errno;
	for (i = 0; i < 2; i++) {
		fcntl(p[i], F_SETFD, FD_CLOEXEC);
		fcntl(p[i], F_SETFL, O_NONBLOCK);
	}
	pthread_mutex_lock(&ring.mu);
	ring.pipe[0] = p[0];
	ring.pipe[1] = p[1];
	pthread_mutex_unlock(&ring.mu);
	event_set_log_callback(on_log);
	return p[0];
}

/* The goroutine that reads sees the end of the pipe and closes its side. */
void glev_log_stop(void)
{
	event_set_log_callback(NULL);
	pthread_mutex_lock(&ring.mu);
	close(ring.pipe[1]);
	ring.pipe[0] = ring.pipe[1] = -1;
	pthread_mutex_unlock(&ring.mu);
}

int glev_log_next(char *buf, int size, int *severity, uint64_t *lost)
{
	int n = -1;

	pthread_mutex_lock(&ring.mu);
	if (ring.count > 0) {
		n = (int)strnlen(ring.slot[ring.head].text, (size_t)size);
		memcpy(buf, ring.slot[ring.head].text, (size_t)n);
		*severity = ring.slot[ring.head].severity;
		ring.head = (ring.head + 1) % SLOTS;
		ring.count--;
	}
	*lost = ring.lost;
	ring.lost = 0;
	pthread_mutex_unlock(&ring.mu);
	return n;
}
