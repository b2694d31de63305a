/* filesegment.c: the native half of FileSegment. */

#include <errno.h>
#include <unistd.h>

#include "native.h"

struct evbuffer_file_segment *glev_seg_new(int fd, int64_t offset, int64_t length, int how, int *err)
{
	unsigned flags = EVBUF_FS_CLOSE_ON_FREE;
	struct evbuffer_file_segment *seg;

	if (!(how & GLEV_MMAP))
		flags |= EVBUF_FS_DISABLE_MMAP;
	if (!(how & GLEV_SENDFILE))
		flags |= EVBUF_FS_DISABLE_SENDFILE;
	errno = 0;
	seg = evbuffer_file_segment_new(fd, offset, length, flags);
	if (!seg) {
		*err = errno ? errno : ENOMEM;
		close(fd); /* libevent leaves it open then */
	}
	return seg;
}

int64_t glev_buf_add_segment(struct glev_buf *b, struct evbuffer_file_segment *seg, int64_t offset, int64_t length, int sendfile)
{
	int64_t rc;

	GLEV_CHECK_LOOP(b->owner);
	evbuffer_lock(b->evb);
	/* A failing add takes the caller's reference along, or does not: so what
	 * can be known before is looked at before. */
	rc = glev_buf_refusal(b, GLEV_BACK);
	if (rc == 0) {
		errno = 0;
		if (evbuffer_add_file_segment(b->evb, seg, offset, length) < 0)
			rc = -(errno ? errno : EIO);
		else if (sendfile && b->owner && b->owner->kind == GLEV_SOCKET)
			b->files = 1;
	}
	evbuffer_unlock(b->evb);
	return rc;
}
