/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * evbuffer.c: the C half of Buffer. What it may do to a buffer, and when, is in lend.c.
 */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "bev.h"

/* Runs op, an int expression that is negative on failure, unless the end is barred. The cause of
 * a failure is looked up under the lock. If no end is frozen any more, op is run again; if that fails,
 * there is no memory. */
#define ATTEMPT(rc, b, end, op)                                               \
	do {                                                                  \
		(rc) = glev_buf_is_barred((b), (end)) ? -1 : (op);            \
		if ((rc) < 0) {                                               \
			glev_buf_hold(b);                                     \
			(rc) = glev_buf_refusal((b), (end));                  \
			if ((rc) == 0 && ((rc) = (op)) < 0)                   \
				(rc) = -ENOMEM;                               \
			glev_buf_unlock(b);                                   \
		}                                                             \
	} while (0)

/* The same for an operation on two buffers. The locks are taken one after the other,
 * never both: libevent takes two locks in the order of their addresses. */
#define ATTEMPT2(rc, a, a_end, b, b_end, op)                                  \
	do {                                                                  \
		(rc) = glev_buf_is_barred((a), (a_end)) ||                    \
		    glev_buf_is_barred((b), (b_end)) ? -1 : (op);             \
		if ((rc) < 0) {                                               \
			glev_buf_hold(a);                                     \
			(rc) = glev_buf_refusal((a), (a_end));                \
			glev_buf_unlock(a);                                   \
			if ((rc) == 0) {                                      \
				glev_buf_hold(b);                             \
				(rc) = glev_buf_refusal((b), (b_end));        \
				glev_buf_unlock(b);                           \
			}                                                     \
			if ((rc) == 0 && ((rc) = (op)) < 0)                   \
				(rc) = -ENOMEM;                               \
		}                                                             \
	} while (0)

/* For an operation that takes no lock here, because libevent takes it. Returns from the calling
 * function if only the loop's thread may use the buffer and this is another one. Then closes a
 * bypass, so that all bytes are in the buffer, and returns if there was no memory for them. */
#define REACH(b)                                                              \
	do {                                                                  \
		GLEV_CHECK_LOOP((b)->owner);                                  \
		if (glev_bypass_matters((b)->bypass)) {                       \
			glev_buf_hold(b);                                     \
			glev_buf_unlock(b);                                   \
		}                                                             \
		if (glev_bypass_lost(b))                                      \
			return -ENOMEM;                                       \
	} while (0)

struct glev_buf *glev_buf_new(void)
{
	struct glev_buf *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->evb = evbuffer_new();
	if (!b->evb || evbuffer_enable_locking(b->evb, NULL) < 0) {
		if (b->evb)
			evbuffer_free(b->evb);
		free(b);
		return NULL;
	}
	return b;
}

void glev_buf_free(struct glev_buf *b)
{
	glev_buf_cb_remove_all(b);
	evbuffer_free(b->evb);
	free(b);
}

int64_t glev_buf_len(struct glev_buf *b)
{
	int64_t n;

	GLEV_CHECK_LOOP(b->owner);
	n = glev_bypass_length(b);
	if (n < 0) { /* it is closed, or another thread uses it */
		if (glev_bypass_matters(b->bypass)) {
			glev_buf_hold(b);
			glev_buf_unlock(b);
		}
		n = (int64_t)evbuffer_get_length(b->evb);
	}
	return glev_buf_is_closed(b) ? GLEV_CLOSED : n; /* asked after the length was read */
}

/* evbuffer_add that allocates no more than n bytes need. evbuffer_add itself allocates as
 * much as the last chain has, even if that chain is a file of many gigabytes. */
static int add_exactly(struct glev_buf *b, const char *p, size_t n)
{
	struct evbuffer_iovec space;
	int rc;

	glev_buf_hold(b); /* or another thread could reserve the same space */
	rc = evbuffer_reserve_space(b->evb, (ev_ssize_t)n, &space, 1);
	if (rc >= 0) {
		memcpy(space.iov_base, p, n);
		space.iov_len = n;
		rc = evbuffer_commit_space(b->evb, &space, 1);
	}
	glev_buf_unlock(b);
	return rc;
}

int64_t glev_buf_add(struct glev_buf *b, const char *p, size_t n)
{
	int64_t rc;

	REACH(b);
	if (evbuffer_add(b->evb, p, n) == 0)
		return 0;
	ATTEMPT(rc, b, GLEV_BACK, add_exactly(b, p, n));
	return rc;
}

/* evbuffer_prepend that changes nothing if there is no memory. evbuffer_prepend itself has
 * filled the first chain by then. */
static int prepend(struct glev_buf *b, const char *p, size_t n)
{
	size_t before;
	int rc;

	glev_buf_hold(b);
	before = evbuffer_get_length(b->evb);
	rc = evbuffer_prepend(b->evb, p, n);
	if (rc < 0)
		evbuffer_drain(b->evb, evbuffer_get_length(b->evb) - before);
	glev_buf_unlock(b);
	return rc;
}

int64_t glev_buf_prepend(struct glev_buf *b, const char *p, size_t n)
{
	int64_t rc;

	REACH(b);
	ATTEMPT(rc, b, GLEV_FRONT, prepend(b, p, n));
	return rc;
}

int64_t glev_buf_append(struct glev_buf *b, struct evbuffer *scratch)
{
	int64_t rc;

	REACH(b);
	ATTEMPT(rc, b, GLEV_BACK, evbuffer_add_buffer(b->evb, scratch));
	return rc;
}

int64_t glev_buf_remove(struct glev_buf *b, char *p, size_t n)
{
	int64_t rc;

	REACH(b);
	if (n > INT_MAX) /* libevent's result is an int */
		n = INT_MAX;
	ATTEMPT(rc, b, GLEV_FRONT, evbuffer_remove(b->evb, p, n));
	return rc;
}

int64_t glev_buf_drain(struct glev_buf *b, size_t n)
{
	int64_t rc;

	REACH(b);
	ATTEMPT(rc, b, GLEV_FRONT, evbuffer_drain(b->evb, n));
	return rc;
}

int64_t glev_buf_copyout(struct glev_buf *b, char *p, size_t n)
{
	int64_t rc;

	REACH(b);
	if (n > INT_MAX)
		n = INT_MAX;
	rc = evbuffer_copyout(b->evb, p, n);
	if (glev_buf_is_closed(b))
		return GLEV_CLOSED;
	/* libevent refuses to copy from a frozen front, though a copy changes nothing. */
	return rc < 0 ? glev_buf_copyout_from(b, p, n, 0) : rc;
}

/* In the functions below an evbuffer_ptr has raw pointers into the chains, so it must not
 * outlive the lock. */

int64_t glev_buf_copyout_from(struct glev_buf *b, char *p, size_t n, size_t from)
{
	struct evbuffer_ptr start;
	int64_t rc = glev_buf_lock(b);

	if (rc)
		return rc;
	if (n > INT_MAX)
		n = INT_MAX;
	if (b->in_file) {
		rc = GLEV_IN_FILE;
	} else if (from > evbuffer_get_length(b->evb)) {
		rc = -EINVAL;
	} else {
		evbuffer_unfreeze(b->evb, 1);
		evbuffer_ptr_set(b->evb, &start, from, EVBUFFER_PTR_SET);
		rc = evbuffer_copyout_from(b->evb, &start, p, n);
		glev_buf_refreeze(b);
		if (rc < 0)
			rc = -EIO;
	}
	glev_buf_unlock(b);
	return rc;
}

int64_t glev_buf_readln(struct glev_buf *b, int eol, char **line)
{
	size_t n = 0;
	int64_t rc;

	GLEV_CHECK_LOOP(b->owner);
	glev_buf_hold(b);
	*line = glev_buf_is_barred(b, GLEV_FRONT) ? NULL : evbuffer_readln(b->evb, &n, (enum evbuffer_eol_style)eol);
	rc = *line ? (int64_t)n : glev_buf_refusal(b, GLEV_FRONT);
	glev_buf_unlock(b);
	return rc;
}

int64_t glev_buf_search(struct glev_buf *b, const char *what, size_t n, size_t from, size_t to)
{
	struct evbuffer_ptr start, end;
	int64_t rc = glev_buf_lock(b);
	size_t len;

	if (rc)
		return rc;
	rc = -1;
	len = evbuffer_get_length(b->evb);
	if (to > len)
		to = len;
	if (!b->in_file && from <= to && n <= to - from) {
		evbuffer_ptr_set(b->evb, &start, from, EVBUFFER_PTR_SET);
		evbuffer_ptr_set(b->evb, &end, to, EVBUFFER_PTR_SET);
		rc = n ? evbuffer_search_range(b->evb, what, n, &start, &end).pos : (int64_t)from;
	}
	glev_buf_unlock(b);
	return rc;
}

int64_t glev_buf_search_eol(struct glev_buf *b, size_t from, int eol, size_t *eol_len)
{
	struct evbuffer_ptr start;
	int64_t rc = glev_buf_lock(b);

	if (rc)
		return rc;
	rc = -1;
	if (!b->in_file && from <= evbuffer_get_length(b->evb)) {
		evbuffer_ptr_set(b->evb, &start, from, EVBUFFER_PTR_SET);
		rc = evbuffer_search_eol(b->evb, &start, eol_len, (enum evbuffer_eol_style)eol).pos;
	}
	glev_buf_unlock(b);
	return rc;
}

int64_t glev_buf_add_iovec(struct glev_buf *b, struct evbuffer_iovec *vec, int n)
{
	int64_t rc = glev_buf_lock(b);

	if (rc)
		return rc;
	/* Asked before libevent is called, which would make room before it finds the end
	 * frozen, and would free empty chains, which may be lent. */
	rc = glev_buf_refusal(b, GLEV_BACK);
	if (rc == 0)
		rc = (int64_t)evbuffer_add_iovec(b->evb, vec, n);
	glev_buf_unlock(b);
	return rc;
}

int64_t glev_buf_expand(struct glev_buf *b, size_t n)
{
	int64_t rc = glev_buf_lock(b);

	if (rc)
		return rc;
	rc = b->lent ? GLEV_LENT : evbuffer_expand(b->evb, n) < 0 ? -ENOMEM : 0;
	glev_buf_unlock(b);
	return rc;
}

int64_t glev_buf_contiguous_space(struct glev_buf *b)
{
	REACH(b);
	return (int64_t)evbuffer_get_contiguous_space(b->evb);
}

int64_t glev_buf_read(struct glev_buf *b, int fd, int n)
{
	int64_t rc = glev_buf_lock(b);

	if (rc)
		return rc;
	rc = glev_buf_refusal(b, GLEV_BACK);
	if (rc == 0) {
		errno = ENOMEM;
		do {
			rc = evbuffer_read(b->evb, fd, n);
		} while (rc < 0 && errno == EINTR);
		if (rc < 0)
			rc = -errno;
	}
	glev_buf_unlock(b);
	return rc;
}

int64_t glev_buf_write(struct glev_buf *b, int fd, int64_t n)
{
	int64_t rc = glev_buf_lock(b);

	if (rc)
		return rc;
	rc = glev_buf_refusal(b, GLEV_FRONT);
	/* For libevent it is an error to write no bytes. */
	if (rc == 0 && n != 0 && evbuffer_get_length(b->evb)) {
		do {
			rc = evbuffer_write_atmost(b->evb, fd, (ev_ssize_t)n);
		} while (rc < 0 && errno == EINTR);
		if (rc < 0)
			rc = -errno;
	}
	glev_buf_unlock(b);
	return rc;
}

int64_t glev_buf_set_max_read(struct glev_buf *b, size_t n)
{
#if LIBEVENT_VERSION_NUMBER >= 0x02020100
	int64_t rc = glev_buf_lock(b);

	if (rc)
		return rc;
	rc = evbuffer_set_max_read(b->evb, n) < 0 ? -EINVAL : 0;
	if (rc == 0 && b->owner && b == &b->owner->in) {
		b->owner->set.limits |= GLEV_LIMIT_BUFFER;
		glev_settle(b->owner);
	}
	glev_buf_unlock(b);
	return rc;
#else
	(void)b;
	(void)n;
	return -ENOTSUP;
#endif
}

int64_t glev_buf_max_read(struct glev_buf *b)
{
#if LIBEVENT_VERSION_NUMBER >= 0x02020100
	GLEV_CHECK_LOOP(b->owner);
	return (int64_t)evbuffer_get_max_read(b->evb);
#else
	(void)b;
	return -ENOTSUP;
#endif
}

/* --- from one buffer to another ----------------------------------------------- */

static int is_of_filter(const struct glev_buf *b)
{
	return b->owner && b->owner->type == GLEV_FILTER;
}

/* libevent takes the locks of two buffers in the order of their addresses, but those of a
 * stack from the top down. Threads that do the one and the other to the same locks can wait
 * for each other for ever. So the lock of a filter is not held together with that of another
 * buffer, except by a filter function: libevent calls it with the filter's lock held. */
static int may_lock_both(const struct glev_buf *a, const struct glev_buf *b)
{
	return (!is_of_filter(a) && !is_of_filter(b)) || a->owner == b->owner || glev_filter_within();
}

static int64_t refusal(struct glev_buf *b, int end)
{
	int64_t rc;

	glev_buf_hold(b);
	rc = glev_buf_refusal(b, end);
	glev_buf_unlock(b);
	return rc;
}

/* Puts back what was taken from the front. */
static void give_back(struct glev_buf *b, struct evbuffer *scratch)
{
	glev_buf_hold(b);
	if (!glev_buf_is_closed(b)) {
		evbuffer_unfreeze(b->evb, 1);
		evbuffer_prepend_buffer(b->evb, scratch);
		glev_buf_refreeze(b);
	}
	glev_buf_unlock(b);
}

static const size_t ALL = (size_t)-1;

typedef int (*put_fn)(struct evbuffer *dst, struct evbuffer *src);

/* How many of the first n bytes are whole chains, and where the others are. */
static size_t whole_chains(struct evbuffer *evb, size_t n, struct evbuffer_ptr *others)
{
	struct evbuffer_iovec chain;
	size_t whole = 0;

	evbuffer_ptr_set(evb, others, 0, EVBUFFER_PTR_SET);
	while (whole < n && evbuffer_peek(evb, 1, others, &chain, 1) > 0 && chain.iov_len <= n - whole) {
		whole += chain.iov_len;
		evbuffer_ptr_set(evb, others, chain.iov_len, EVBUFFER_PTR_ADD);
	}
	return whole;
}

/* Copies n bytes from at on, or fails. */
static int copy(struct evbuffer *to, struct evbuffer *evb, const struct evbuffer_ptr *at, size_t n)
{
	struct evbuffer_iovec space;

	if (n == 0)
		return 0;
	if (evbuffer_reserve_space(to, (ev_ssize_t)n, &space, 1) < 0)
		return -1;
	space.iov_len = n;
	if (evbuffer_copyout_from(evb, at, space.iov_base, n) < 0)
		return -1;
	return evbuffer_commit_space(to, &space, 1);
}

/* Moves n of the bytes, or fails and moves none. evbuffer_remove_buffer copies what is not a whole
 * chain, and loses it if there is no memory. So the copy is made here, before anything moves. */
int glev_evbuffer_take(struct evbuffer *scratch, struct evbuffer *src, size_t n)
{
	struct evbuffer *part = evbuffer_new();
	struct evbuffer_ptr others;
	size_t whole = whole_chains(src, n, &others);
	int rc = part ? copy(part, src, &others, n - whole) : -1;

	if (rc == 0 && whole)
		rc = evbuffer_remove_buffer(src, scratch, whole) < 0 ? -1 : 0;
	if (rc == 0 && whole < n)
		rc = evbuffer_drain(src, n - whole);
	if (rc == 0)
		rc = evbuffer_add_buffer(scratch, part);
	if (part)
		evbuffer_free(part);
	return rc;
}

static int take(struct evbuffer *scratch, struct glev_buf *src, size_t n)
{
	int rc;

	if (n == ALL)
		return evbuffer_add_buffer(scratch, src->evb);
	glev_buf_hold(src);
	if (n >= evbuffer_get_length(src->evb)) /* nothing is copied */
		rc = evbuffer_remove_buffer(src->evb, scratch, n) < 0 ? -1 : 0;
	else
		rc = glev_evbuffer_take(scratch, src->evb, n);
	glev_buf_unlock(src);
	return rc;
}

/* Moves n bytes, or as many as there are, with one lock at a time. Returns how many. */
static int64_t move_apart(struct glev_buf *dst, int dst_end, put_fn put, struct glev_buf *src, size_t n)
{
	struct evbuffer *scratch;
	int64_t rc = refusal(dst, dst_end), moved;

	if (rc)
		return rc;
	scratch = evbuffer_new();
	if (!scratch)
		return -ENOMEM;
	ATTEMPT(rc, src, GLEV_FRONT, take(scratch, src, n));
	moved = (int64_t)evbuffer_get_length(scratch);
	if (moved > 0) {
		ATTEMPT(rc, dst, dst_end, put(dst->evb, scratch));
		if (rc < 0)
			give_back(src, scratch);
	}
	evbuffer_free(scratch);
	return rc < 0 ? rc : moved;
}

static int64_t move_all(struct glev_buf *dst, int dst_end, put_fn put, struct glev_buf *src)
{
	int64_t rc;

	REACH(dst);
	REACH(src);
	if (may_lock_both(dst, src)) {
		ATTEMPT2(rc, dst, dst_end, src, GLEV_FRONT, put(dst->evb, src->evb));
		return rc;
	}
	rc = move_apart(dst, dst_end, put, src, ALL);
	return rc < 0 ? rc : 0;
}

int64_t glev_buf_add_buffer(struct glev_buf *dst, struct glev_buf *src)
{
	if (glev_bypass_move(dst, src))
		return 0;
	return move_all(dst, GLEV_BACK, evbuffer_add_buffer, src);
}

int64_t glev_buf_prepend_buffer(struct glev_buf *dst, struct glev_buf *src)
{
	return move_all(dst, GLEV_FRONT, evbuffer_prepend_buffer, src);
}

/* evbuffer_remove_buffer calls the callbacks of dst in the middle of its work. src is not
 * consistent then, and the callback of a filter's input may have the filter function take from
 * src. A scratch buffer has no callbacks. */
int64_t glev_buf_remove_buffer(struct glev_buf *src, struct glev_buf *dst, size_t n)
{
	REACH(src);
	REACH(dst);
	if (src == dst) /* libevent does nothing */
		return refusal(src, GLEV_FRONT | GLEV_BACK);
	return move_apart(dst, GLEV_BACK, evbuffer_add_buffer, src, n);
}

/* --- freezing ------------------------------------------------------------- */

int64_t glev_buf_freeze(struct glev_buf *b, int end, int on)
{
	int64_t rc = glev_buf_lock(b);

	if (rc)
		return rc;
	glev_buf_set_frozen(b, on ? b->frozen | end : b->frozen & ~end);
	if (b->owner)
		glev_settle_lent(b->owner);
	glev_buf_unlock(b);
	return 0;
}

/* --- lending -------------------------------------------------------------- */

/* Takes the lock for a loan. The buffers of a bufferevent are lent on the loop's thread only:
 * no other thread changes them unasked, and the loop's thread is busy with the loan. */
static int64_t begin_loan(struct glev_buf *b)
{
	int64_t rc;

	if (b->owner && !glev_base_on_loop(b->owner->base))
		return GLEV_WRONG_LOOP;
	rc = glev_buf_lock(b);
	if (rc == 0 && b->owner && b->owner->stack.above) {
		glev_buf_unlock(b);
		rc = GLEV_FILTERED;
	}
	return rc;
}

static void lend(struct glev_buf *b)
{
	glev_buf_lend(b);
	if (b->lent == 1 && b->owner)
		glev_settle_lent(b->owner);
}

static void take_back(struct glev_buf *b)
{
	glev_buf_take_back(b);
	if (b->lent == 0 && b->owner)
		glev_settle_lent(b->owner);
}

int64_t glev_buf_peek(struct glev_buf *b, size_t from, int64_t n, struct evbuffer_iovec *vec, int nvec)
{
	struct evbuffer_ptr start;
	int64_t rc = begin_loan(b);
	size_t len;

	if (rc)
		return rc;
	len = evbuffer_get_length(b->evb);
	if (b->in_file) {
		rc = GLEV_IN_FILE;
	} else if (from > len) {
		rc = -EINVAL;
	} else {
		if (n < 0 || (size_t)n > len - from)
			n = (int64_t)(len - from);
		evbuffer_ptr_set(b->evb, &start, from, EVBUFFER_PTR_SET);
		/* If the length were -1, evbuffer_peek would fill nvec extents and not tell
		 * that there are more. */
		rc = evbuffer_peek(b->evb, (ev_ssize_t)n, &start, vec, nvec);
	}
	if (rc >= 0 && rc <= nvec)
		lend(b);
	glev_buf_unlock(b);
	return rc;
}

int64_t glev_buf_pullup(struct glev_buf *b, int64_t n, struct evbuffer_iovec *vec)
{
	int64_t rc = begin_loan(b);
	int64_t len;

	if (rc)
		return rc;
	len = (int64_t)evbuffer_get_length(b->evb);
	if (n < 0)
		n = len;
	vec->iov_len = (size_t)n;
	vec->iov_base = NULL;
	if (b->in_file)
		rc = GLEV_IN_FILE;
	else if (b->lent)
		rc = GLEV_LENT; /* linearizing moves what is lent */
	else if (n > len)
		rc = -EINVAL;
	else if (n && !(vec->iov_base = evbuffer_pullup(b->evb, n)))
		rc = -ENOMEM;
	else
		rc = 1;
	if (rc == 1)
		lend(b);
	glev_buf_unlock(b);
	return rc;
}

int64_t glev_buf_reserve(struct glev_buf *b, size_t n, struct evbuffer_iovec vec[2])
{
	int64_t rc = begin_loan(b);

	if (rc)
		return rc;
	rc = glev_buf_refusal(b, GLEV_BACK);
	if (rc == 0) {
		rc = evbuffer_reserve_space(b->evb, (ev_ssize_t)n, vec, 2);
		if (rc < 0)
			rc = -ENOMEM;
		else
			lend(b);
	}
	glev_buf_unlock(b);
	return rc;
}

void glev_buf_unlend(struct glev_buf *b)
{
	glev_buf_hold(b);
	take_back(b);
	glev_buf_unlock(b);
}

int64_t glev_buf_commit(struct glev_buf *b, struct evbuffer_iovec *vec, int nvec, size_t used)
{
	int64_t rc = 0;
	int i;

	for (i = 0; i < nvec; i++) {
		if (vec[i].iov_len > used)
			vec[i].iov_len = used;
		used -= vec[i].iov_len;
	}
	glev_buf_hold(b);
	/* The function of a Peek that began meanwhile may still have the bytes before
	 * these. A commit does not move those bytes. */
	if (glev_buf_is_closed(b)) {
		rc = GLEV_CLOSED;
	} else if (glev_buf_frozen(b) & GLEV_BACK) {
		rc = GLEV_FROZEN;
	} else {
		evbuffer_unfreeze(b->evb, 0);
		if (evbuffer_commit_space(b->evb, vec, nvec) < 0)
			rc = -EIO;
		glev_buf_refreeze(b);
	}
	take_back(b);
	glev_buf_unlock(b);
	return rc;
}
