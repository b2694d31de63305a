// SPDX-License-Identifier: BSD-3-Clause

// Package heap counts the memory that OpenSSL has allocated. It is for tests: importing it puts
// functions that count in the place of OpenSSL's own, before OpenSSL allocates anything.
package heap

/*
#include <stddef.h>
#include <stdlib.h>
#include <openssl/crypto.h>

static _Atomic long long used;

// Stands before each block, and keeps the alignment of malloc.
union head {
	size_t size;
	max_align_t align;
};

static void *counted(union head *h, size_t n)
{
	if (!h)
		return NULL;
	used += (long long)n;
	h->size = n;
	return h + 1;
}

static void *count_malloc(size_t n, const char *file, int line)
{
	return n ? counted(malloc(sizeof(union head) + n), n) : NULL;
}

static void count_free(void *p, const char *file, int line)
{
	union head *h = (union head *)p - 1;

	if (!p)
		return;
	used -= (long long)h->size;
	free(h);
}

static void *count_realloc(void *p, size_t n, const char *file, int line)
{
	union head *h = (union head *)p - 1;
	size_t before;

	if (!p)
		return count_malloc(n, file, line);
	if (!n) {
		count_free(p, file, line);
		return NULL;
	}
	before = h->size;
	h = realloc(h, sizeof(union head) + n);
	if (h)
		used -= (long long)before;
	return counted(h, n);
}

static int count(void)
{
	return CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free);
}

static long long in_use(void)
{
	return used;
}
*/
import "C"

func init() {
	if C.count() == 0 {
		panic("OpenSSL has allocated memory already")
	}
}

// InUse returns how many bytes OpenSSL has allocated and not freed yet.
func InUse() int { return int(C.in_use()) }
