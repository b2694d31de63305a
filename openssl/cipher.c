/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cipher.c: which ciphers and groups a context has.
 */

#include <stdlib.h>
#include <string.h>

#include "conn.h"

static int is_tls13(const SSL_CIPHER *cipher)
{
	return strcmp(SSL_CIPHER_get_version(cipher), "TLSv1.3") == 0;
}

int gtls_cipher_protects(const SSL_CIPHER *cipher)
{
	int auth = SSL_CIPHER_get_auth_nid(cipher);

	return SSL_CIPHER_get_cipher_nid(cipher) != NID_undef && auth != NID_auth_null && auth != NID_auth_psk &&
	    auth != NID_auth_srp;
}

/* Whoever gets hold of the server's key later cannot read what was recorded, and the
 * encryption and the check of the bytes are one. */
static int is_modern(const SSL_CIPHER *cipher)
{
	return SSL_CIPHER_get_kx_nid(cipher) == NID_kx_ecdhe && SSL_CIPHER_is_aead(cipher);
}

/* Writes the names of the context's ciphers, of TLS 1.3 or below it, with colons between
 * them. The caller frees the result, which is NULL if there is no memory. */
static char *names(SSL_CTX *ctx, int tls13, int modern)
{
	STACK_OF(SSL_CIPHER) *all = SSL_CTX_get_ciphers(ctx);
	size_t n = 1;
	char *list;
	int i;

	for (i = 0; i < sk_SSL_CIPHER_num(all); i++)
		n += strlen(SSL_CIPHER_get_name(sk_SSL_CIPHER_value(all, i))) + 1;
	list = calloc(1, n);
	for (i = 0; list && i < sk_SSL_CIPHER_num(all); i++) {
		const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(all, i);

		if (is_tls13(cipher) != tls13 || !gtls_cipher_protects(cipher) || (modern && !is_modern(cipher)))
			continue;
		if (*list)
			strcat(list, ":");
		strcat(list, SSL_CIPHER_get_name(cipher));
	}
	return list;
}

/* Leaves of the context's ciphers those that protect a connection. For an empty list OpenSSL
 * reports an error, and has removed all ciphers. */
static int filter(SSL_CTX *ctx, int tls13, int modern, int may_be_empty)
{
	char *list = names(ctx, tls13, modern);
	int ok;

	if (!list)
		return 0;
	if (tls13)
		ok = SSL_CTX_set_ciphersuites(ctx, list);
	else
		ok = SSL_CTX_set_cipher_list(ctx, *list ? list : "-ALL") || may_be_empty;
	ok = ok && (*list || may_be_empty);
	free(list);
	return ok;
}

unsigned long gtls_ctx_ciphers(struct gtls_ctx *c, const char *list, const char *suites)
{
	ERR_clear_error();
	if ((suites && !SSL_CTX_set_ciphersuites(c->ctx, suites)) || !filter(c->ctx, 1, 0, suites == NULL) ||
	    (list && !SSL_CTX_set_cipher_list(c->ctx, list)) || !filter(c->ctx, 0, list == NULL, list == NULL)) {
		unsigned long code = ERR_peek_error();

		ERR_clear_error();
		return code ? code : ERR_PACK(ERR_LIB_SSL, 0, SSL_R_NO_CIPHER_MATCH);
	}
	ERR_clear_error();
	return 0;
}

unsigned long gtls_ctx_groups(struct gtls_ctx *c, const char *list)
{
	ERR_clear_error();
	return SSL_CTX_set1_groups_list(c->ctx, list) ? 0 : gtls_take_error();
}
