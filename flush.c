/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * flush.c: FreeAfterFlush: all is written, the peer is told of the end, and what it still sends is dropped.
 */

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "bev.h"
#include "callbacks.h"

static int has_partner(struct glev_bev *r)
{
	const struct glev_bev *partner = glev_bev_bottom(r)->stack.partner;

	if (partner)
		return !glev_bev_is_quiet(partner);
	return bufferevent_pair_get_partner(glev_bev_native_bottom(r)) != NULL;
}

/* Turns a direction of each bufferevent of the stack on, whatever the user wants. */
static void turn_on(struct glev_bev *r, short what)
{
	struct glev_bev *p;

	if (r->fast.on && (what & EV_WRITE) && evbuffer_get_length(r->out.evb))
		r->fast.spilled = 1;
	glev_settle_enable(r, what);
	for (p = r->stack.under; p; p = p->stack.under) {
		p->off.held |= what;
		glev_settle(p);
	}
}

/* Whether a peer that speaks now could lose bytes of ours: those that its kernel has not got. The
 * bytes of a local socket are with the peer at once. */
static int unacknowledged(int fd)
{
	int unsent = 0;
#ifdef __linux__
	int domain = AF_UNIX;
	socklen_t len = sizeof(domain);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 || domain == AF_UNIX ||
	    ioctl(fd, TIOCOUTQ, &unsent) < 0)
		return 0;
#else
	(void)fd;
#endif
	return unsent;
}

/* Whether the peer may still send, or may still be without bytes of ours. The kernel tells of them only when asked. */
static int is_under_way(int fd)
{
#ifdef __linux__
	int unread = 1, unsent = 1;

	return ioctl(fd, FIONREAD, &unread) < 0 || ioctl(fd, TIOCOUTQ, &unsent) < 0 || unread || unsent;
#else
	(void)fd;
	return 1;
#endif
}

/* Drops what the peer has sent, and looks again after a while, soon at first. The descriptor is not registered, because
 * the program may give the bottom another one, or free it. Returns 1 if nothing has to be dropped any more. */
static int discard(struct glev_bev *r, int fd)
{
	enum { LONGEST = 50 }; /* ms */
	char bytes[16384];
	int reads = 0;
	ssize_t n;

	do
		n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	while (n > 0 && ++reads < GLEV_MOST_IN_A_TURN);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || !is_under_way(fd))
		return 1;
	if (reads)
		r->ending.pause = 0;
	if (glev_shut_retry(r, n > 0 ? 0 : r->ending.pause) < 0)
		return 1;
	r->ending.pause = (int8_t)(r->ending.pause < LONGEST / 2 ? 2 * r->ending.pause + 1 : LONGEST);
	return 0;
}

/* Whether what is below r is freed together with r. Otherwise the program goes on with it, so nothing is closed, and what the
 * peer sends is not dropped. */
static int goes_with(const struct glev_bev *r)
{
	int whole = r->ending.whole;

	for (; r->stack.under; r = r->stack.under)
		if (!(whole || (r->owns & GLEV_OWNS_DESCRIPTOR)) || r->stack.under->host)
			return 0;
	return 1;
}

/*
 * The kernel resets a socket that is closed with bytes unread, or that gets bytes after it was
 * closed, and then also drops what it has not sent yet. So a peer that is still sending, or that
 * may do so before it has all bytes of ours, is told of our end, and what it sends is dropped
 * until its own end, or until it has all of ours. That is not the stack's affair any more: TLS would stop at the
 * peer's close_notify, or try to answer, and a rate limit would have the peer wait. So the stack does nothing more.
 * Returns 1 if nothing has to be dropped.
 */
static int discard_rest(struct glev_bev *r, int fd)
{
	struct glev_bev *p;
	int unread = 0;

	if (!goes_with(r))
		return 1;
	if (ioctl(fd, FIONREAD, &unread) < 0 || (unread == 0 && !unacknowledged(fd)))
		return 1;
	shutdown(fd, SHUT_WR);
	r->ending.discards = fd;
	r->ending.pause = 0;
	__atomic_store_n(&r->life, GLEV_DISCARDING, __ATOMIC_RELEASE);
	for (p = r; p; p = p->stack.under)
		glev_settle_quiet(p);
	return discard(r, fd);
}

/* Has the door of a stack end its stream. Returns whether the end is written as well. */
static int shut_door(struct glev_bev *r)
{
	if (glev_bev_carrier(r)->door && r->ending.shut != GLEV_SHUT_DONE) {
		r->ending.shut = GLEV_SHUT_ASKED;
		glev_bev_try_shut(r);
		return r->ending.shut == GLEV_SHUT_DONE && !r->ending.unfinished && glev_shut_all_written(r);
	}
	return 1;
}

/* A call of another thread, which began before, must not append to the output any more. */
static void end_output(struct glev_bev *r)
{
	__atomic_store_n(&r->ending.flush_ends, 1, __ATOMIC_RELEASE);
	glev_buf_refreeze(&r->out);
}

/* The output of the whole stack has to be written, and then the end of the stream, unless there is
 * no connection to write to. The other end of a pair is told of the end, if it was not told before. */
int glev_bev_try_end_flush(struct glev_bev *r)
{
	struct glev_bev *bottom = glev_bev_bottom(r), *carrier = glev_bev_carrier(r);
	int fd = bufferevent_getfd(bottom->bev), pair = glev_bev_on_pair(r);

	if (glev_bev_life(r) == GLEV_DISCARDING)
		return fd != r->ending.discards || discard(r, fd);
	if (pair ? !has_partner(r) : fd < 0 && !glev_bev_connection_is_due(bottom))
		return 1;
	if (carrier->door && (carrier->link == GLEV_UNLINKED || carrier->ending.failed)) /* only its last words are left */
		return !glev_bev_door_is_linked(carrier) || glev_shut_is_written(bufferevent_get_underlying(carrier->bev));
	if (r->ending.unfinished || !glev_shut_all_written(r)) {
		glev_shut_wait(r);
		return 0;
	}
	end_output(r);
	if (!shut_door(r))
		return 0;
	if (glev_bev_connection_is_due(carrier))
		return 1;
	if (!pair)
		return discard_rest(r, fd);
	if (r->ending.shut != GLEV_SHUT_DONE || carrier->door)
		bufferevent_flush(glev_bev_native_bottom(r), EV_WRITE, BEV_FINISHED);
	return 1;
}

/* Returns 1 if there is nothing to wait for. */
static int64_t start_flush(struct glev_bev *r, int64_t usec)
{
	struct timeval tv = {usec / 1000000, usec % 1000000};
	int watched = glev_shut_watch(r);

	__atomic_store_n(&r->life, GLEV_FLUSHING, __ATOMIC_RELEASE);
	glev_settle_disable(r, EV_READ);
	if (glev_bev_carrier(r)->door && goes_with(r)) /* TLS whose reading is on would wait in a renegotiation until the filter reads */
		glev_settle_disable(glev_bev_carrier(r), EV_READ);
	glev_shut_start(r);
	if (!r->ending.limit)
		r->ending.limit = event_new(r->base->base, -1, EV_FINALIZE, glev_on_bev_limit, r);
	__atomic_store_n(&r->closures, 0, __ATOMIC_RELAXED);
	glev_fast_write(r);
	if (!r->ending.limit || watched < 0)
		return -ENOMEM;
	if (glev_bev_try_end_flush(r))
		return 1;
	if (event_add(r->ending.limit, &tv) < 0)
		return -ENOMEM;
	if (glev_bev_life(r) == GLEV_DISCARDING)
		return 0;
	/* Writing may be off, because the user wants it so or after an error. It is turned on
	 * for the flush, so that a broken socket fails at once, also one below a filter. */
	glev_settle(r);
	turn_on(r, EV_WRITE);
	return glev_bev_start(r, 0);
}

/* The peer must not take a part of the stream for all of it, so the connection is reset. */
static void cut_off(struct glev_bev *r)
{
	static const struct linger none = {1, 0};
	struct glev_bev *bottom = glev_bev_bottom(r);

	if (bottom->type == GLEV_SOCKET && (bottom->owns & GLEV_OWNS_DESCRIPTOR) &&
	    (!glev_shut_all_written(r) || r->ending.unfinished))
		setsockopt(bufferevent_getfd(bottom->bev), SOL_SOCKET, SO_LINGER, &none, sizeof(none));
}

int64_t glev_bev_may_flush(struct glev_bev *r)
{
	int64_t rc;

	GLEV_ENTER(r);
	rc = r->stack.above ? GLEV_FILTERED : 0;
	glev_bev_unlock(r);
	return rc;
}

int64_t glev_bev_free_after_flush(struct glev_bev *r, int64_t usec, int whole)
{
	int64_t rc;

	GLEV_ENTER_STACK(r);
	r->ending.whole = (int8_t)whole;
	rc = r->stack.above ? GLEV_FILTERED : start_flush(r, usec);
	if (rc == -ENOMEM)
		cut_off(r);
	glev_stack_unlock(r);
	return rc;
}

void glev_bev_cut_off(struct glev_bev *r)
{
	glev_stack_lock(r);
	cut_off(r);
	glev_stack_unlock(r);
}

void glev_bev_push(struct glev_bev *r)
{
	if (r->type != GLEV_SOCKET || r->door || r->out.lent || bufferevent_getfd(r->bev) < 0)
		return;
	evbuffer_unfreeze(r->out.evb, 1);
	evbuffer_write(r->out.evb, bufferevent_getfd(r->bev));
	glev_buf_refreeze(&r->out);
}

int glev_bev_flush_goes_on(struct glev_bev *r, short what)
{
	int goes_on;

	glev_stack_lock(r);
	goes_on = what == (BEV_EVENT_EOF | BEV_EVENT_READING) && glev_bev_life(r) == GLEV_FLUSHING;
	if (goes_on) /* with TLS libevent has stopped writing as well */
		glev_settle_enable(glev_bev_carrier(r), EV_WRITE);
	glev_stack_unlock(r);
	return goes_on;
}
