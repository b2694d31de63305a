/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * block.c: the memory of large transfers.
 *
 * malloc gives large pieces back to the system as soon as they are freed, and the kernel
 * has to map each new one page by page: this was half of the cost of a message of 1 MiB.
 * The blocks here are kept for the next transfer, up to a bound, for all loops together.
 */

#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "callbacks.h"

enum { MOST_SPARE = 64 }; /* 8 MiB */

static struct {
	pthread_mutex_t lock;
	struct glev_block *first;
	int n;
} spare = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct glev_block *glev_block_get(void)
{
	struct glev_block *b;

	pthread_mutex_lock(&spare.lock);
	b = spare.first;
	if (b) {
		spare.first = b->next;
		spare.n--;
	}
	pthread_mutex_unlock(&spare.lock);
	return b ? b : malloc(sizeof(*b));
}

void glev_block_put(struct glev_block *b)
{
	int keep;

	if (!b)
		return;
	pthread_mutex_lock(&spare.lock);
	keep = spare.n < MOST_SPARE;
	if (keep) {
		b->next = spare.first;
		spare.first = b;
		spare.n++;
	}
	pthread_mutex_unlock(&spare.lock);
	if (!keep)
		free(b);
}

int glev_block_append(struct evbuffer *evb, struct glev_block *b, size_t n)
{
	return evbuffer_add_reference(evb, b->data, n, glev_on_block, b);
}

int glev_block_copy(struct evbuffer *evb, const char *p, size_t n)
{
	struct evbuffer *scratch = evbuffer_new();
	struct glev_block *b = NULL;
	size_t step;
	int rc = -1;

	if (!scratch)
		return -1;
	for (; n; p += step, n -= step) {
		step = n < GLEV_BLOCK ? n : GLEV_BLOCK;
		b = glev_block_get();
		if (!b)
			goto done;
		memcpy(b->data, p, step);
		if (glev_block_append(scratch, b, step) < 0)
			goto done;
		b = NULL;
	}
	rc = evbuffer_add_buffer(evb, scratch);
done:
	glev_block_put(b);
	evbuffer_free(scratch);
	return rc;
}
