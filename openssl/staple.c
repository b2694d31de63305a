/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * staple.c: what a server sends along with its certificate: an OCSP response, and signed
 * certificate timestamps. OpenSSL has no place for them, so they hang on the leaf.
 */

#include <stdlib.h>
#include <string.h>

#include "conn.h"

enum { TIMESTAMPS = TLSEXT_TYPE_signed_certificate_timestamp };

struct staple {
	size_t nocsp, nscts;
	unsigned char bytes[]; /* the OCSP response, and then the timestamps */
};

static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
static int staple_index = -1;

static void free_staple(void *parent, void *staple, CRYPTO_EX_DATA *data, int index, long l, void *arg)
{
	(void)parent;
	(void)data;
	(void)index;
	(void)l;
	(void)arg;
	free(staple);
}

static void make_index(void)
{
	staple_index = X509_get_ex_new_index(0, NULL, NULL, NULL, free_staple);
}

int gtls_cert_staple(struct gtls_cert *cert, struct gtls_bytes ocsp, struct gtls_bytes scts)
{
	struct staple *s;

	CRYPTO_THREAD_run_once(&once, make_index);
	s = malloc(sizeof(*s) + ocsp.n + scts.n);
	if (!s)
		return 0;
	s->nocsp = ocsp.n;
	s->nscts = scts.n;
	if (ocsp.n)
		memcpy(s->bytes, ocsp.p, ocsp.n);
	if (scts.n)
		memcpy(s->bytes + ocsp.n, scts.p, scts.n);
	if (staple_index >= 0 && X509_set_ex_data(cert->leaf, staple_index, s))
		return 1;
	free(s);
	return 0;
}

/* Of the certificate that the handshake shows. */
static const struct staple *staple_of(SSL *ssl)
{
	X509 *leaf = SSL_get_certificate(ssl);

	CRYPTO_THREAD_run_once(&once, make_index);
	return leaf && staple_index >= 0 ? X509_get_ex_data(leaf, staple_index) : NULL;
}

static int on_status(SSL *ssl, void *arg)
{
	const struct staple *s = staple_of(ssl);
	unsigned char *copy;

	(void)arg;
	if (!SSL_is_server(ssl))
		return 1;
	if (!s || !s->nocsp || !(copy = OPENSSL_memdup(s->bytes, s->nocsp)))
		return SSL_TLSEXT_ERR_NOACK;
	SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)s->nocsp);
	return SSL_TLSEXT_ERR_OK;
}

/* A client asks with an empty extension, and a server answers with the timestamps. */
static int add_scts(SSL *ssl, unsigned type, unsigned context, const unsigned char **out, size_t *n, X509 *x, size_t place, int *alert, void *arg)
{
	const struct staple *s;

	(void)type;
	(void)x;
	(void)alert;
	(void)arg;
	*out = NULL;
	*n = 0;
	if (context == SSL_EXT_CLIENT_HELLO)
		return 1;
	if (!SSL_is_server(ssl) || (context == SSL_EXT_TLS1_3_CERTIFICATE && place > 0) || !(s = staple_of(ssl)) || !s->nscts)
		return 0;
	*out = s->bytes + s->nocsp;
	*n = s->nscts;
	return 1;
}

/* Whether n bytes are a list of timestamps with a length before it and before each of them. */
static int are_scts(const unsigned char *p, size_t n)
{
	struct gtls_bytes body = {p, n}, list, sct;

	if (!gtls_take_counted(&body, 2, &list) || body.n > 0 || list.n == 0)
		return 0;
	while (list.n > 0)
		if (!gtls_take_counted(&list, 2, &sct) || sct.n == 0)
			return 0;
	return 1;
}

static int parse_scts(SSL *ssl, unsigned type, unsigned context, const unsigned char *in, size_t n, X509 *x, size_t place, int *alert, void *arg)
{
	struct gtls_conn *c = gtls_conn_of(ssl);

	(void)type;
	(void)x;
	(void)arg;
	if (context == SSL_EXT_TLS1_3_CERTIFICATE && SSL_is_server(ssl)) { /* it has not asked for that */
		*alert = SSL_AD_UNSUPPORTED_EXTENSION;
		return 0;
	}
	if (context == SSL_EXT_CLIENT_HELLO || place > 0)
		return 1;
	if (!are_scts(in, n)) {
		*alert = SSL_AD_DECODE_ERROR;
		return 0;
	}
	OPENSSL_free(c->scts);
	c->nscts = 0;
	c->scts = OPENSSL_memdup(in, n);
	if (!c->scts) {
		*alert = SSL_AD_INTERNAL_ERROR;
		return 0;
	}
	c->nscts = n;
	return 1;
}

int gtls_ctx_use_staples(struct gtls_ctx *c)
{
	SSL_CTX_set_tlsext_status_cb(c->ctx, on_status);
	if (!c->server)
		SSL_CTX_set_tlsext_status_type(c->ctx, TLSEXT_STATUSTYPE_ocsp);
	return SSL_CTX_add_custom_ext(c->ctx, TIMESTAMPS, SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_2_SERVER_HELLO | SSL_EXT_TLS1_3_CERTIFICATE,
	    add_scts, NULL, NULL, parse_scts, NULL);
}
