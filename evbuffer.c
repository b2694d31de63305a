/*
 * evbuffer.c: the native half of Buffer.
 *
 * While a buffer is lent both its ends are frozen, so libevent itself refuses
 * every change; the hot path pays nothing for it. The reason of a refusal is
 * looked up afterwards, under the lock.
 */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "native.h"

/* A call may have come in before another thread freed the bufferevent. */
static int gone(struct glev_buf *b)
{
	return b->owner && __atomic_load_n(&b->owner->quiet, __ATOMIC_ACQUIRE);
}

/* Why libevent refuses an operation at that end; 0: it is not the freezing. */
int64_t glev_buf_refusal(struct glev_buf *b, int end)
{
	if (gone(b))
		return GLEV_CLOSED;
	if (b->lent)
		return GLEV_LENT;
	if (b->frozen & end)
		return GLEV_FROZEN;
	return 0;
}

/* Runs op, an int expression that is negative on failure. A failure is looked
 * into under the lock; when nothing is frozen any more op gets its second
 * chance, and fails for want of memory. */
#define ATTEMPT(rc, b, end, op)                                               \
	do {                                                                  \
		(rc) = (op);                                                  \
		if ((rc) < 0) {                                               \
			evbuffer_lock((b)->evb);                              \
			(rc) = glev_buf_refusal((b), (end));                           \
			if ((rc) == 0 && ((rc) = (op)) < 0)                   \
				(rc) = -ENOMEM;                               \
			evbuffer_unlock((b)->evb);                            \
		}                                                             \
	} while (0)

/* The same for an operation on two buffers. The locks are taken one after the
 * other, never both: libevent orders them by address when it takes two. */
#define ATTEMPT2(rc, a, a_end, b, b_end, op)                                  \
	do {                                                                  \
		(rc) = (op);                                                  \
		if ((rc) < 0) {                                               \
			evbuffer_lock((a)->evb);                              \
			(rc) = glev_buf_refusal((a), (a_end));                         \
			evbuffer_unlock((a)->evb);                            \
			if ((rc) == 0) {                                      \
				evbuffer_lock((b)->evb);                      \
				(rc) = glev_buf_refusal((b), (b_end));                 \
				evbuffer_unlock((b)->evb);                    \
			}                                                     \
			if ((rc) == 0 && ((rc) = (op)) < 0)                   \
				(rc) = -ENOMEM;                               \
		}                                                             \
	} while (0)

void glev_buf_refreeze(struct glev_buf *b)
{
	int ends = b->lent ? GLEV_FRONT | GLEV_BACK : b->frozen;

	(ends & GLEV_FRONT ? evbuffer_freeze : evbuffer_unfreeze)(b->evb, 1);
	(ends & GLEV_BACK ? evbuffer_freeze : evbuffer_unfreeze)(b->evb, 0);
}

static void lend(struct glev_buf *b)
{
	if (b->lent++ == 0) {
		glev_buf_refreeze(b);
		if (b->owner)
			glev_bev_apply(b->owner);
	}
}

static void unlend(struct glev_buf *b)
{
	--b->lent;
	glev_buf_refreeze(b);
	if (b->lent == 0 && b->owner)
		glev_bev_apply(b->owner);
}

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
	evbuffer_free(b->evb);
	free(b);
}

int64_t glev_buf_len(struct glev_buf *b)
{
	int64_t n;

	GLEV_CHECK_LOOP(b->owner);
	n = (int64_t)evbuffer_get_length(b->evb);
	return gone(b) ? GLEV_CLOSED : n; /* asked after it was looked at */
}

int64_t glev_buf_add(struct glev_buf *b, const char *p, size_t n)
{
	int64_t rc;

	GLEV_CHECK_LOOP(b->owner);
	ATTEMPT(rc, b, GLEV_BACK, evbuffer_add(b->evb, p, n));
	return rc;
}

int64_t glev_buf_prepend(struct glev_buf *b, const char *p, size_t n)
{
	int64_t rc;

	GLEV_CHECK_LOOP(b->owner);
	ATTEMPT(rc, b, GLEV_FRONT, evbuffer_prepend(b->evb, p, n));
	return rc;
}

int64_t glev_buf_add_buffer(struct glev_buf *dst, struct glev_buf *src)
{
	int64_t rc;

	GLEV_CHECK_LOOP(dst->owner);
	GLEV_CHECK_LOOP(src->owner);
	ATTEMPT2(rc, dst, GLEV_BACK, src, GLEV_FRONT,
	    evbuffer_add_buffer(dst->evb, src->evb));
	return rc;
}

int64_t glev_buf_prepend_buffer(struct glev_buf *dst, struct glev_buf *src)
{
	int64_t rc;

	GLEV_CHECK_LOOP(dst->owner);
	GLEV_CHECK_LOOP(src->owner);
	ATTEMPT2(rc, dst, GLEV_FRONT, src, GLEV_FRONT,
	    evbuffer_prepend_buffer(dst->evb, src->evb));
	return rc;
}

int64_t glev_buf_remove(struct glev_buf *b, char *p, size_t n)
{
	int64_t rc;

	GLEV_CHECK_LOOP(b->owner);
	if (n > INT_MAX) /* libevent's result is an int */
		n = INT_MAX;
	ATTEMPT(rc, b, GLEV_FRONT, evbuffer_remove(b->evb, p, n));
	return rc;
}

int64_t glev_buf_remove_buffer(struct glev_buf *src, struct glev_buf *dst, size_t n)
{
	int64_t rc;

	GLEV_CHECK_LOOP(src->owner);
	GLEV_CHECK_LOOP(dst->owner);
	ATTEMPT2(rc, src, GLEV_FRONT, dst, GLEV_BACK,
	    evbuffer_remove_buffer(src->evb, dst->evb, n));
	return rc;
}

int64_t glev_buf_drain(struct glev_buf *b, size_t n)
{
	int64_t rc;

	GLEV_CHECK_LOOP(b->owner);
	ATTEMPT(rc, b, GLEV_FRONT, evbuffer_drain(b->evb, n));
	return rc;
}

/* Whether there may be bytes without memory, which cannot be looked at. */
static int in_file(struct glev_buf *b)
{
	if (b->files && evbuffer_get_length(b->evb) == 0)
		b->files = 0;
	return b->files;
}

int64_t glev_buf_copyout(struct glev_buf *b, char *p, size_t n)
{
	int64_t rc;

	GLEV_CHECK_LOOP(b->owner);
	if (n > INT_MAX)
		n = INT_MAX;
	if (b->files)
		return glev_buf_copyout_from(b, p, n, 0);
	rc = evbuffer_copyout(b->evb, p, n);
	if (gone(b))
		return GLEV_CLOSED;
	if (rc < 0) {
		/* libevent refuses to copy from a frozen front, though a copy
		 * changes nothing. */
		evbuffer_lock(b->evb);
		evbuffer_unfreeze(b->evb, 1);
		rc = evbuffer_copyout(b->evb, p, n);
		glev_buf_refreeze(b);
		evbuffer_unlock(b->evb);
	}
	return rc < 0 ? -EIO : rc;
}

int64_t glev_buf_readln(struct glev_buf *b, int eol, char **line)
{
	size_t n = 0;
	int64_t rc;

	GLEV_CHECK_LOOP(b->owner);
	evbuffer_lock(b->evb);
	*line = evbuffer_readln(b->evb, &n, (enum evbuffer_eol_style)eol);
	rc = *line ? (int64_t)n : glev_buf_refusal(b, GLEV_FRONT);
	evbuffer_unlock(b->evb);
	return rc;
}

int64_t glev_buf_search(struct glev_buf *b, const char *what, size_t n, size_t from)
{
	return glev_buf_search_range(b, what, n, from, SIZE_MAX);
}

/* An evbuffer_ptr is a pair of raw pointers into the chains: none of them outlives the
 * lock in what follows. */

int64_t glev_buf_search_range(struct glev_buf *b, const char *what, size_t n, size_t from, size_t to)
{
	struct evbuffer_ptr start, end;
	int64_t rc = -1;
	size_t len;

	GLEV_CHECK_LOOP(b->owner);
	evbuffer_lock(b->evb);
	len = evbuffer_get_length(b->evb);
	if (to > len)
		to = len;
	if (gone(b) || in_file(b) || from > to || n > to - from)
		goto done;
	if (n == 0)
		rc = (int64_t)from;
	else if (evbuffer_ptr_set(b->evb, &start, from, EVBUFFER_PTR_SET) == 0 &&
	    evbuffer_ptr_set(b->evb, &end, to, EVBUFFER_PTR_SET) == 0)
		rc = evbuffer_search_range(b->evb, what, n, &start, &end).pos;
done:
	evbuffer_unlock(b->evb);
	return rc;
}

int64_t glev_buf_search_eol(struct glev_buf *b, size_t from, int eol, size_t *eol_len)
{
	struct evbuffer_ptr start;
	int64_t rc = -1;

	GLEV_CHECK_LOOP(b->owner);
	evbuffer_lock(b->evb);
	if (!gone(b) && !in_file(b) && from <= evbuffer_get_length(b->evb) &&
	    evbuffer_ptr_set(b->evb, &start, from, EVBUFFER_PTR_SET) == 0)
		rc = evbuffer_search_eol(b->evb, &start, eol_len, (enum evbuffer_eol_style)eol).pos;
	evbuffer_unlock(b->evb);
	return rc;
}

int64_t glev_buf_copyout_from(struct glev_buf *b, char *p, size_t n, size_t from)
{
	struct evbuffer_ptr start;
	int64_t rc = 0;

	GLEV_CHECK_LOOP(b->owner);
	if (n > INT_MAX)
		n = INT_MAX;
	evbuffer_lock(b->evb);
	if (gone(b)) {
		rc = GLEV_CLOSED;
	} else if (in_file(b)) {
		rc = GLEV_IN_FILE;
	} else if (from < evbuffer_get_length(b->evb)) {
		evbuffer_unfreeze(b->evb, 1);
		rc = evbuffer_ptr_set(b->evb, &start, from, EVBUFFER_PTR_SET) < 0 ? -EIO
		    : evbuffer_copyout_from(b->evb, &start, p, n);
		glev_buf_refreeze(b);
	}
	evbuffer_unlock(b->evb);
	return rc;
}

int64_t glev_buf_add_iovec(struct glev_buf *b, struct evbuffer_iovec *vec, int n)
{
	size_t before, added;
	int64_t rc;

	GLEV_CHECK_LOOP(b->owner);
	evbuffer_lock(b->evb);
	rc = glev_buf_refusal(b, GLEV_BACK);
	if (rc == 0) {
		before = evbuffer_get_length(b->evb);
		added = evbuffer_add_iovec(b->evb, vec, n);
		rc = (int64_t)added;
		if (added == 0 && before == evbuffer_get_length(b->evb))
			for (; n > 0; n--)
				if (vec[n - 1].iov_len)
					rc = -ENOMEM;
	}
	evbuffer_unlock(b->evb);
	return rc;
}

int64_t glev_buf_expand(struct glev_buf *b, size_t n)
{
	int64_t rc;

	GLEV_CHECK_LOOP(b->owner);
	evbuffer_lock(b->evb);
	rc = glev_buf_refusal(b, GLEV_BACK);
	if (rc == 0 && evbuffer_expand(b->evb, n) < 0)
		rc = -ENOMEM;
	evbuffer_unlock(b->evb);
	return rc;
}

int64_t glev_buf_contiguous_space(struct glev_buf *b)
{
	GLEV_CHECK_LOOP(b->owner);
	return (int64_t)evbuffer_get_contiguous_space(b->evb);
}

/* errno of op on a descriptor, for which the ends may not be frozen. */
static int64_t transferred(struct glev_buf *b, int end, int64_t rc, int err)
{
	int64_t why;

	if (rc >= 0)
		return rc;
	why = glev_buf_refusal(b, end);
	return why ? why : -(err ? err : EIO);
}

int64_t glev_buf_read(struct glev_buf *b, int fd, int n)
{
	int64_t rc;

	GLEV_CHECK_LOOP(b->owner);
	evbuffer_lock(b->evb);
	errno = 0;
	rc = evbuffer_read(b->evb, fd, n);
	rc = transferred(b, GLEV_BACK, rc, errno);
	evbuffer_unlock(b->evb);
	return rc;
}

int64_t glev_buf_write(struct glev_buf *b, int fd, int64_t n)
{
	int64_t rc;

	GLEV_CHECK_LOOP(b->owner);
	evbuffer_lock(b->evb);
	if (evbuffer_get_length(b->evb) == 0) { /* libevent calls it an error */
		evbuffer_unlock(b->evb);
		return gone(b) ? GLEV_CLOSED : 0;
	}
	errno = 0;
	rc = evbuffer_write_atmost(b->evb, fd, n);
	rc = transferred(b, GLEV_FRONT, rc, errno);
	evbuffer_unlock(b->evb);
	return rc;
}

int64_t glev_buf_reserve(struct glev_buf *b, size_t n, struct evbuffer_iovec vec[2])
{
	int64_t rc;

	if (b->owner && !glev_base_on_loop(b->owner->base))
		return GLEV_WRONG_LOOP;
	evbuffer_lock(b->evb);
	rc = glev_buf_refusal(b, GLEV_BACK);
	if (rc == 0)
		rc = evbuffer_reserve_space(b->evb, (ev_ssize_t)n, vec, 2);
	if (rc == -1)
		rc = -ENOMEM;
	if (rc > 0)
		lend(b);
	evbuffer_unlock(b->evb);
	return rc;
}

int64_t glev_buf_commit(struct glev_buf *b, size_t used, struct evbuffer_iovec vec[2], int nvec)
{
	int64_t rc = 0;
	int i;

	evbuffer_lock(b->evb);
	for (i = 0; i < nvec; i++) {
		if (vec[i].iov_len > used)
			vec[i].iov_len = used;
		used -= vec[i].iov_len;
	}
	evbuffer_unfreeze(b->evb, 0);
	if (gone(b))
		rc = GLEV_CLOSED;
	else if (evbuffer_commit_space(b->evb, vec, nvec) < 0)
		rc = -EIO;
	unlend(b);
	evbuffer_unlock(b->evb);
	return rc;
}

int64_t glev_buf_freeze(struct glev_buf *b, int end, int on)
{
	int64_t rc = 0;

	GLEV_CHECK_LOOP(b->owner);
	evbuffer_lock(b->evb);
	if (gone(b)) {
		rc = GLEV_CLOSED;
	} else {
		b->frozen = on ? b->frozen | end : b->frozen & ~end;
		glev_buf_refreeze(b);
	}
	evbuffer_unlock(b->evb);
	return rc;
}

int64_t glev_buf_lend(struct glev_buf *b, int64_t pull, struct evbuffer_iovec *vec, int nvec)
{
	int64_t n;

	/* Only the loop changes a bufferevent's buffers without asking. */
	if (b->owner && !glev_base_on_loop(b->owner->base))
		return GLEV_WRONG_LOOP;
	if (b->owner && b->owner->filtered)
		return GLEV_FILTERED;
	evbuffer_lock(b->evb);
	if (gone(b) || in_file(b)) {
		n = gone(b) ? GLEV_CLOSED : GLEV_IN_FILE;
		goto done;
	}
	if (pull == GLEV_PEEK) {
		/* With -1 for the length it would stop at nvec and not tell. */
		n = evbuffer_peek(b->evb, (ev_ssize_t)evbuffer_get_length(b->evb), NULL, vec, nvec);
		if (n > nvec)
			goto done;
	} else {
		int64_t len = (int64_t)evbuffer_get_length(b->evb);

		if (b->lent) {
			n = GLEV_LENT; /* linearizing moves what is lent */
			goto done;
		}
		if (pull == GLEV_PULL_ALL)
			pull = len;
		if (pull > len) {
			n = -EINVAL;
			goto done;
		}
		vec->iov_len = (size_t)pull;
		vec->iov_base = pull ? evbuffer_pullup(b->evb, pull) : NULL;
		n = 1;
		if (pull && !vec->iov_base) {
			n = -ENOMEM;
			goto done;
		}
	}
	lend(b);
done:
	evbuffer_unlock(b->evb);
	return n;
}

void glev_buf_unlend(struct glev_buf *b)
{
	evbuffer_lock(b->evb);
	unlend(b);
	evbuffer_unlock(b->evb);
}
