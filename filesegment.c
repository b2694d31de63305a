/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * filesegment.c: the C half of FileSegment.
 *
 * When libevent fails to add a segment to a buffer, it drops the caller's reference in
 * some places and not in others, and its releases differ in this. So each chain gets a
 * segment of its own, whose only reference we can follow. The segments share the
 * descriptor, whose references are counted here.
 *
 * A file that cannot go to a socket by sendfile is read with pread. libevent 2.1 would
 * move the offset that the descriptor shares with the caller's file, and the program may
 * be reading that file at the same time.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "bev.h"
#include "callbacks.h"

struct glev_file *glev_file_new(int fd, int mmap, int no_sendfile, uintptr_t handle, int *err)
{
	struct glev_file *f = calloc(1, sizeof(*f));

	*err = ENOMEM;
	if (!f)
		return NULL;
	f->due.handle = handle;
	f->mmap = mmap;
	f->no_sendfile = no_sendfile;
	f->refs = 1;
	f->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (f->fd < 0) {
		*err = errno;
		free(f);
		return NULL;
	}
	return f;
}

void glev_file_release(struct glev_file *f)
{
	if (__atomic_sub_fetch(&f->refs, 1, __ATOMIC_ACQ_REL) == 0) {
		close(f->fd);
		glev_due_here(&f->due);
	}
}

/* Whether libevent uses sendfile for the buffer. It does so for the output of a socket that
 * was made here. (One that C made has no reader; one of another package has a door.) */
static int goes_to_fd(struct glev_buf *b)
{
	return b->owner && b == &b->owner->out && b->owner->fast.reader && !b->owner->door;
}

static void freed(const struct evbuffer_file_segment *seg, int flags, void *arg)
{
	(void)seg;
	(void)flags;
	*(int *)arg = 1;
}

/* Called with the lock of the buffer, if it has one. When evbuffer_add_file_segment returns, a
 * filter may have moved the bytes to a buffer with another lock, so the segment has a lock of its
 * own. */
static int64_t add_segment(struct evbuffer *evb, struct glev_file *f, int64_t offset, int64_t length)
{
	unsigned flags = 0;
	struct evbuffer_file_segment *seg;
	int dropped = 0;

	if (!f->mmap)
		flags |= EVBUF_FS_DISABLE_MMAP;
	if (f->no_sendfile)
		flags |= EVBUF_FS_DISABLE_SENDFILE;
	errno = 0;
	seg = evbuffer_file_segment_new(f->fd, offset, length, flags);
	if (!seg)
		return -(errno ? errno : ENOMEM);
	evbuffer_file_segment_add_cleanup_cb(seg, freed, &dropped);
	if (evbuffer_add_file_segment(evb, seg, 0, length) < 0) {
		if (!dropped)
			evbuffer_file_segment_free(seg);
		return -(errno ? errno : ENOMEM);
	}
	__atomic_add_fetch(&f->refs, 1, __ATOMIC_RELAXED);
	evbuffer_file_segment_add_cleanup_cb(seg, glev_on_segment, f);
	evbuffer_file_segment_free(seg); /* the chain has its own reference */
	return 0;
}

/* sendfile sends as much as the peer takes, however long the file is, and the loop waits. So
 * it gets the file in pieces, one in a turn of the loop. */
static int64_t add_pieces(struct evbuffer *evb, struct glev_file *f, int64_t offset, int64_t length)
{
	enum { SMALLEST = 1 << 20, MOST = 1024 };
	int64_t size = length / MOST > SMALLEST ? length / MOST : SMALLEST, rc = 0;

	for (; length > 0 && rc == 0; offset += size, length -= size)
		rc = add_segment(evb, f, offset, length < size ? length : size);
	return rc;
}

static int64_t send_file(struct glev_buf *b, struct glev_file *f, int64_t offset, int64_t length)
{
	struct evbuffer *scratch = evbuffer_new();
	int first = !b->in_file;
	int64_t rc = -ENOMEM;

	if (first)
		b->in_file = evbuffer_add_cb(b->evb, glev_on_in_file, b);
	if (scratch && b->in_file && evbuffer_set_flags(scratch, EVBUFFER_FLAG_DRAINS_TO_FD) == 0)
		rc = add_pieces(scratch, f, offset, length);
	if (rc == 0 && evbuffer_add_buffer(b->evb, scratch) < 0)
		rc = -ENOMEM;
	if (scratch)
		evbuffer_free(scratch);
	if (rc < 0 && first)
		glev_buf_out_of_file(b);
	glev_buf_refreeze(b);
	return rc;
}

static int64_t read_file(struct evbuffer *scratch, struct glev_file *f, int64_t offset, int64_t length)
{
	enum { MOST = 1 << 20 };
	struct evbuffer_iovec space;
	ssize_t n;

	while (length > 0) {
		if (evbuffer_reserve_space(scratch, length < MOST ? length : MOST, &space, 1) < 0)
			return -ENOMEM;
		if ((int64_t)space.iov_len > length)
			space.iov_len = (size_t)length;
		n = pread(f->fd, space.iov_base, space.iov_len, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO; /* it became shorter */
		space.iov_len = (size_t)n;
		evbuffer_commit_space(scratch, &space, 1);
		offset += n;
		length -= n;
	}
	return 0;
}

static int64_t copy_file(struct glev_buf *b, struct glev_file *f, int64_t offset, int64_t length)
{
	struct evbuffer *scratch = evbuffer_new();
	int64_t rc = -ENOMEM;

	if (scratch) {
		rc = read_file(scratch, f, offset, length);
		if (rc == 0)
			rc = glev_buf_append(b, scratch);
		evbuffer_free(scratch);
	}
	return rc;
}

int64_t glev_buf_add_file(struct glev_buf *b, struct glev_file *f, int64_t offset, int64_t length)
{
	int send = goes_to_fd(b) && !f->no_sendfile;
	int64_t rc = glev_buf_lock(b);

	if (rc)
		return rc;
	rc = glev_buf_refusal(b, GLEV_BACK);
	if (rc == 0 && send)
		rc = send_file(b, f, offset, length);
	else if (rc == 0 && f->mmap)
		rc = add_segment(b->evb, f, offset, length);
	glev_buf_unlock(b);
	/* Reading may take long, so it is done without the lock. */
	if (rc == 0 && !send && !f->mmap)
		rc = copy_file(b, f, offset, length);
	return rc;
}
