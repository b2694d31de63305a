/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bypass.c: bytes that pass the buffers by.
 *
 * Most read closures take all that was read, and write an answer. In the buffers those bytes
 * would cost two allocations and a dozen locks and callbacks of libevent. So while the read
 * closure runs a bypass is open: what was read stays in the base's block, where the functions
 * below read it, and what the closure writes waits in other memory of the base. When the
 * closure is done, one send writes the latter, and what is left of both goes to the buffers.
 *
 * The user does not see the bypass. A function that takes the lock of the bufferevent, or of one
 * of its buffers, closes the bypass: the bytes go to the buffers, and the rest of the closure
 * works with those. The one exception is evbuffer_add on another thread, which takes the lock
 * inside libevent. Its bytes go behind those of the bypass, which takes no more from then on
 * (GLEV_BYPASS_LATE).
 *
 * The functions that a closure calls take no lock. They set the state to GLEV_BYPASS_USED, and
 * a thread that has the lock and wants to close the bypass waits until they are done. To keep
 * this free of deadlocks, they call nothing that takes a lock while the state is USED.
 */

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bev.h"

enum { MOST_WRITTEN = 16 * 1024 };

/* --- the state ----------------------------------------------------------------------- */

static uint32_t state_of(const struct glev_bypass *y)
{
	return __atomic_load_n(&y->state, __ATOMIC_ACQUIRE);
}

static int change(struct glev_bypass *y, uint32_t from, uint32_t to)
{
	return __atomic_compare_exchange_n(&y->state, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

/* Waits while a closure uses the bypass: for a copy, or a send that does not block. */
static uint32_t wait_for(const struct glev_bypass *y)
{
	uint32_t state;
	int tries = 0;

	while ((state = state_of(y)) == GLEV_BYPASS_USED) {
		if (++tries < 100)
			sched_yield();
		else
			usleep(100); /* that thread may have a lower priority */
	}
	return state;
}

int glev_bypass_use(struct glev_bev *r)
{
	struct glev_bypass *y = &r->fast.bypass;

	return __atomic_load_n(&y->state, __ATOMIC_RELAXED) == GLEV_BYPASS_OPEN &&
	    change(y, GLEV_BYPASS_OPEN, GLEV_BYPASS_USED);
}

void glev_bypass_used(struct glev_bev *r, int idle)
{
	__atomic_store_n(&r->fast.bypass.state, idle ? GLEV_BYPASS_IDLE : GLEV_BYPASS_OPEN, __ATOMIC_RELEASE);
}

/* --- opening and closing ----------------------------------------------------------- */

/* Whether the output takes the bytes, and only the closure can see and change them. */
static int may_open(const struct glev_bev *r)
{
	return r->fast.on && !r->fast.spilled && !r->fast.unsent && (r->off.held & EV_WRITE) &&
	    !r->mark.high && !r->mark.low && !r->mark.write_low &&
	    !r->in.callbacks && !r->out.callbacks && !r->in.lent && !r->out.lent &&
	    r->in.frozen == GLEV_BACK && r->out.frozen == (r->door ? 0 : GLEV_FRONT) && !r->ending.shut &&
	    !evbuffer_get_length(r->in.evb) && !evbuffer_get_length(r->out.evb);
}

int glev_bypass_open(struct glev_bev *r, const char *p, size_t n)
{
	struct glev_bypass *y = &r->fast.bypass;

	if (state_of(y) != GLEV_BYPASS_IDLE && !may_open(r))
		return 0;
	y->in = p;
	y->nin = n;
	y->nout = 0;
	r->fast.finishes = 1;
	glev_bypass_used(r, 0);
	return 1;
}

struct glev_bypass glev_bypass_take(struct glev_bev *r)
{
	struct glev_bypass *y = &r->fast.bypass, was;
	uint32_t state;

	do {
		state = wait_for(y);
	} while (!change(y, state, GLEV_BYPASS_CLOSED));
	was = *y;
	was.state = state;
	y->nin = y->nout = 0;
	__atomic_store_n(&y->lost, 0, __ATOMIC_RELAXED);
	return was;
}

int glev_bypass_put_in(struct glev_bev *r, const char *p, size_t n)
{
	int rc;

	if (!n)
		return 0;
	evbuffer_unfreeze(r->in.evb, 0);
	rc = evbuffer_add(r->in.evb, p, n);
	evbuffer_freeze(r->in.evb, 0);
	return rc;
}

int glev_bypass_put_out(struct glev_bev *r, const char *p, size_t n)
{
	int rc;

	if (!n)
		return 0;
	if (!evbuffer_get_length(r->out.evb))
		return evbuffer_add(r->out.evb, p, n);
	evbuffer_unfreeze(r->out.evb, 1);
	rc = evbuffer_prepend(r->out.evb, p, n);
	if (!r->door) /* lend.c has its rule for the front of a door's output */
		evbuffer_freeze(r->out.evb, 1);
	return rc;
}

/* If there is no memory, bytes are lost, so the stream has to end there. The loop's thread tells
 * the event closure so when the read closure is done. */
void glev_bypass_close(struct glev_bev *r)
{
	struct glev_bypass was = glev_bypass_take(r);

	if (was.state == GLEV_BYPASS_OPEN)
		r->fast.passes = !was.nin;
	if (glev_bypass_put_in(r, was.in, was.nin) < 0)
		was.lost |= EV_READ;
	if (glev_bypass_put_out(r, was.out, was.nout) < 0)
		was.lost |= EV_WRITE;
	__atomic_store_n(&r->fast.bypass.lost, was.lost, __ATOMIC_RELAXED);
}

void glev_bypass_drop(struct glev_bev *r)
{
	glev_bev_lock_past(r);
	glev_bypass_take(r);
	glev_bev_unlock(r);
}

void glev_bypass_make_late(struct glev_bev *r)
{
	struct glev_bypass *y = &r->fast.bypass;
	uint32_t state, late;

	do {
		state = wait_for(y);
		late = state == GLEV_BYPASS_OPEN ? GLEV_BYPASS_LATE : state == GLEV_BYPASS_IDLE ? GLEV_BYPASS_CLOSED : state;
	} while (late != state && !change(y, state, late));
}

/* --- what a closure does ------------------------------------------------------------ */

int64_t glev_bypass_read(struct glev_bev *r, char *p, size_t n)
{
	struct glev_bypass *y = &r->fast.bypass;

	if (!glev_bypass_use(r))
		return -1;
	if (n > y->nin)
		n = y->nin;
	memcpy(p, y->in, n);
	y->in += n;
	y->nin -= n;
	glev_bypass_used(r, 0);
	return (int64_t)n;
}

/* Brings what was written into the memory of the base. Returns 0 if n more bytes have no room
 * there. */
static int make_room(struct glev_base *b, struct glev_bypass *y, size_t n)
{
	if (y->nout + n > MOST_WRITTEN || (!b->written && !(b->written = malloc(MOST_WRITTEN))))
		return 0;
	if (y->nout && y->out != b->written)
		memcpy(b->written, y->out, y->nout);
	y->out = b->written;
	return 1;
}

int glev_bypass_write(struct glev_bev *r, const char *p, size_t n)
{
	struct glev_bypass *y = &r->fast.bypass;
	int done;

	if (!glev_base_on_loop(r->base) || !glev_bypass_use(r))
		return 0;
	done = make_room(r->base, y, n);
	if (done) {
		memcpy(r->base->written + y->nout, p, n);
		y->nout += n;
	}
	glev_bypass_used(r, 0);
	return done;
}

int glev_bypass_move(struct glev_buf *dst, struct glev_buf *src)
{
	struct glev_bev *r = dst->owner;
	struct glev_bypass *y;
	int done;

	if (!r || r != src->owner || dst != &r->out || src != &r->in || !glev_base_on_loop(r->base) || !glev_bypass_use(r))
		return 0;
	y = &r->fast.bypass;
	done = !y->nout;
	if (done) {
		y->out = y->in;
		y->nout = y->nin;
		y->nin = 0;
	}
	glev_bypass_used(r, 0);
	return done;
}

int64_t glev_bypass_length(struct glev_buf *b)
{
	struct glev_bev *r = b->owner;
	int64_t n;

	if (!r || !glev_bypass_use(r))
		return -1;
	n = (int64_t)(b == &r->in ? r->fast.bypass.nin : r->fast.bypass.nout);
	glev_bypass_used(r, 0);
	return n;
}
