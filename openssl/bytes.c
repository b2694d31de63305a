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
