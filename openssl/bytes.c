/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bytes.c: reading what a peer has sent where OpenSSL has not looked yet.
 */

#include "conn.h"

int gtls_take(struct gtls_bytes *from, size_t n, struct gtls_bytes *out)
{
	if (from->n < n)
		return 0;
	out->p = from->p;
	out->n = n;
	from->p += n;
	from->n -= n;
	return 1;
}

int gtls_take_counted(struct gtls_bytes *from, size_t size, struct gtls_bytes *out)
{
	struct gtls_bytes number;
	size_t i, n = 0;

	if (!gtls_take(from, size, &number))
		return 0;
	for (i = 0; i < size; i++)
		n = n << 8 | number.p[i];
	return gtls_take(from, n, out);
}

size_t gtls_elements(struct gtls_bytes der)
{
	enum { CONSTRUCTED = 0x20 };
	struct gtls_bytes head, content;
	size_t n = 0;
	unsigned size;

	for (; der.n > 0; n++) {
		if (!gtls_take(&der, 2, &head))
			return n + 1;
		size = head.p[1] & 0x80 ? head.p[1] & 0x7f : 0;
		if (head.p[0] & CONSTRUCTED) { /* its elements follow */
			if (!gtls_take(&der, size, &content))
				return n + 1;
		} else if (size ? !gtls_take_counted(&der, size, &content) : !gtls_take(&der, head.p[1], &content)) {
			return n + der.n / 4;
		}
	}
	return n;
}
