/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * buffercallback.c: the C half of BufferCallback.
 *
 * A record is in at most one list of due.c. When Go takes it from there after it was
 * removed from its buffer, Go frees it.
 */

#include <errno.h>
#include <stdlib.h>

#include "bev.h"
#include "callbacks.h"

enum { DUE = 1, REMOVED = 2 };

struct glev_buf_cb *glev_buf_cb_new(uintptr_t handle)
{
	struct glev_buf_cb *cb = calloc(1, sizeof(*cb));

	if (cb)
		cb->due.handle = handle;
	return cb;
}

int64_t glev_buf_cb_add(struct glev_buf *b, struct glev_buf_cb *cb)
{
	int64_t rc = glev_buf_lock(b);

	if (rc)
		return rc;
	cb->buf = b;
	cb->entry = evbuffer_add_cb(b->evb, glev_on_buf_change, cb);
	if (cb->entry) {
		cb->next = b->callbacks;
		b->callbacks = cb;
	} else {
		rc = -ENOMEM;
	}
	glev_buf_unlock(b);
	return rc;
}

int64_t glev_buf_cb_enable(struct glev_buf_cb *cb, int on)
{
	struct glev_buf *b = cb->buf;
	int64_t rc = glev_buf_lock(b);

	if (rc)
		return rc;
	if (cb->entry)
		(on ? evbuffer_cb_set_flags : evbuffer_cb_clear_flags)(b->evb, cb->entry, EVBUFFER_CB_ENABLED);
	glev_buf_unlock(b);
	return 0;
}

/* The loop is told if the buffer is one of a bufferevent, or else the Go call. */
static void due(struct glev_buf_cb *cb, int why)
{
	if (!(__atomic_fetch_or(&cb->state, why | DUE, __ATOMIC_ACQ_REL) & DUE))
		glev_due(&cb->due, cb->buf->owner ? cb->buf->owner->base : NULL);
}

void glev_buf_cb_changed(struct glev_buf_cb *cb, size_t added, size_t deleted)
{
	__atomic_fetch_add(&cb->added, added, __ATOMIC_RELAXED);
	__atomic_fetch_add(&cb->deleted, deleted, __ATOMIC_RELAXED);
	due(cb, 0);
}

/* Removes the callback that *at points to. Called with the lock. */
static void drop(struct glev_buf *b, struct glev_buf_cb **at)
{
	struct glev_buf_cb *cb = *at;

	*at = cb->next;
	evbuffer_remove_cb_entry(b->evb, cb->entry);
	cb->entry = NULL;
	due(cb, REMOVED);
}

int64_t glev_buf_cb_remove(struct glev_buf *b, struct glev_buf_cb *cb)
{
	struct glev_buf_cb **at;
	int64_t rc = glev_buf_lock(b);

	if (rc)
		return rc;
	for (at = &b->callbacks; *at && *at != cb; at = &(*at)->next)
		;
	if (*at)
		drop(b, at);
	glev_buf_unlock(b);
	return 0;
}

void glev_buf_cb_remove_all(struct glev_buf *b)
{
	glev_buf_hold(b);
	while (b->callbacks)
		drop(b, &b->callbacks);
	glev_buf_unlock(b);
}

int glev_buf_cb_any_due(struct glev_buf *b)
{
	struct glev_buf_cb *cb;

	for (cb = b->callbacks; cb; cb = cb->next)
		if (__atomic_load_n(&cb->state, __ATOMIC_ACQUIRE) & DUE)
			return 1;
	return 0;
}

struct glev_change glev_buf_cb_collect(struct glev_buf_cb *cb)
{
	struct glev_change c;

	c.last = (__atomic_fetch_and(&cb->state, ~DUE, __ATOMIC_ACQ_REL) & REMOVED) != 0;
	c.added = __atomic_exchange_n(&cb->added, 0, __ATOMIC_RELAXED);
	c.deleted = __atomic_exchange_n(&cb->deleted, 0, __ATOMIC_RELAXED);
	return c;
}
