/* SPDX-License-Identifier: BSD-3-Clause */
/* reference.c: the C half of AddReference. */

#include <errno.h>
#include <stdlib.h>

#include "base.h"
#include "callbacks.h"

struct glev_ref *glev_ref_new(uintptr_t handle)
{
	struct glev_ref *ref = calloc(1, sizeof(*ref));

	if (ref)
		ref->due.handle = handle;
	return ref;
}

int64_t glev_buf_add_reference(struct glev_buf *b, const char *p, size_t n, struct glev_ref *ref)
{
	int64_t rc = glev_buf_lock(b);

	if (rc)
		return rc;
	if (!p)
		p = ""; /* libevent passes it to memcpy */
	rc = glev_buf_refusal(b, GLEV_BACK);
	if (rc == 0 && evbuffer_add_reference(b->evb, p, n, glev_on_reference, ref) < 0)
		rc = -ENOMEM;
	glev_buf_unlock(b);
	return rc;
}
