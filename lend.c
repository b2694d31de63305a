/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lend.c: the lock of a buffer, its frozen ends, and its loans.
 *
 * While a buffer is lent both its ends are frozen, so libevent itself refuses every
 * change, and the hot path pays nothing. Why libevent has refused is looked up
 * afterwards, under the lock.
 */

#include <errno.h>

#include "bev.h"

/* A call may have begun before another thread freed the bufferevent. When a flush has found that all is
 * written, nothing can follow. */
int glev_buf_is_closed(struct glev_buf *b)
{
	struct glev_bev *r = b->owner;

	return r && (glev_bev_is_quiet(r) || (b == &r->out && __atomic_load_n(&r->ending.flush_ends, __ATOMIC_ACQUIRE)));
}

int64_t glev_buf_lock(struct glev_buf *b)
{
	GLEV_CHECK_LOOP(b->owner);
	glev_buf_hold(b);
	if (glev_buf_is_closed(b)) {
		glev_buf_unlock(b);
		return GLEV_CLOSED;
	}
	if (glev_bypass_lost(b)) {
		glev_buf_unlock(b);
		return -ENOMEM;
	}
	return 0;
}

int64_t glev_buf_check(struct glev_buf *b)
{
	GLEV_CHECK_LOOP(b->owner);
	return glev_buf_is_closed(b) ? GLEV_CLOSED : 0;
}

/* --- frozen ends ------------------------------------------------------------ */

/* What is at the front of a door's output, the other library has perhaps begun to write, and has to be
 * given again. libevent does not freeze that front, and drains it by itself. */
int glev_buf_is_barred(const struct glev_buf *b, int end)
{
	return (end & GLEV_FRONT) && b->owner && b->owner->door && b == &b->owner->out;
}

/* The ends that the user or the binding has frozen. After CloseWrite, and when a flush has found that all is
 * written, nothing more can be appended to the output.
 *
 * libevent sends a file to a socket without reading it. The bytes of such a chain are not
 * in memory. libevent does not notice that when it copies them, or moves them to a buffer
 * that is not written to a socket. So only libevent, which unfreezes the front while it
 * writes, may take them from the output. */
int glev_buf_frozen(const struct glev_buf *b)
{
	const struct glev_bev *r = b->owner;
	int shut = r && b == &r->out && (r->ending.shut || __atomic_load_n(&r->ending.flush_ends, __ATOMIC_ACQUIRE));

	return b->frozen | (b->in_file ? GLEV_FRONT : 0) | (shut ? GLEV_BACK : 0);
}

int64_t glev_buf_refusal(struct glev_buf *b, int end)
{
	if (glev_buf_is_closed(b))
		return GLEV_CLOSED;
	if (b->lent)
		return GLEV_LENT;
	if ((glev_buf_frozen(b) & end) || glev_buf_is_barred(b, end))
		return GLEV_FROZEN;
	return 0;
}

void glev_buf_refreeze(struct glev_buf *b)
{
	int ends = b->lent ? GLEV_FRONT | GLEV_BACK : glev_buf_frozen(b);

	if (!b->lent && glev_buf_is_barred(b, GLEV_FRONT))
		ends &= ~GLEV_FRONT;
	(ends & GLEV_FRONT ? evbuffer_freeze : evbuffer_unfreeze)(b->evb, 1);
	(ends & GLEV_BACK ? evbuffer_freeze : evbuffer_unfreeze)(b->evb, 0);
}

void glev_buf_set_frozen(struct glev_buf *b, int ends)
{
	b->frozen = ends;
	glev_buf_refreeze(b);
}

void glev_buf_out_of_file(struct glev_buf *b)
{
	if (!b->in_file)
		return;
	evbuffer_remove_cb_entry(b->evb, b->in_file);
	b->in_file = NULL;
	glev_buf_refreeze(b);
}

/* --- loans ------------------------------------------------------------------ */

void glev_buf_lend(struct glev_buf *b)
{
	if (b->lent++ == 0)
		glev_buf_refreeze(b);
}

void glev_buf_take_back(struct glev_buf *b)
{
	if (--b->lent == 0)
		glev_buf_refreeze(b);
}

/* --- after a Goexit ------------------------------------------------------------------ */

/*
 * Goexit has removed the frames of libevent that would have unlocked the buffer. How often
 * they had locked it is not known, but a recursive mutex that is not the thread's refuses to
 * be unlocked. Only libevent's lock debugging would abort.
 */
void glev_evbuffer_abandon(struct evbuffer *evb)
{
	enum { DEEP = 64 }; /* more often than calls of libevent are inside each other */
	int i;

	for (i = 0; i < DEEP && !glev_debugs_locks(); i++)
		evbuffer_unlock(evb);
}

void glev_buf_abandon(struct glev_buf *b)
{
	glev_evbuffer_abandon(b->evb);
}
