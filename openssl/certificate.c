/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * certificate.c: certificates with their keys, and lists of certificates and names, as Go reads
 * them.
 */

#include <stdlib.h>

#include "conn.h"

static X509 *parse(struct gtls_bytes der)
{
	const unsigned char *p = der.p;

	return d2i_X509(NULL, &p, (long)der.n);
}

/* What it has made is in cert even if it fails. gtls_cert_free frees that. */
static int parse_all(struct gtls_cert *cert, const struct gtls_bytes *der, int n, struct gtls_bytes key)
{
	const unsigned char *p = key.p;
	int i;

	cert->leaf = parse(der[0]);
	cert->key = d2i_AutoPrivateKey(NULL, &p, (long)key.n);
	cert->chain = sk_X509_new_null();
	if (!cert->leaf || !cert->key || !cert->chain)
		return 0;
	for (i = 1; i < n; i++) {
		X509 *issuer = parse(der[i]);

		if (!issuer || !sk_X509_push(cert->chain, issuer)) {
			X509_free(issuer);
			return 0;
		}
	}
	return X509_check_private_key(cert->leaf, cert->key);
}

struct gtls_cert *gtls_cert_new(const struct gtls_bytes *der, int n, struct gtls_bytes key, unsigned long *code)
{
	struct gtls_cert *cert = calloc(1, sizeof(*cert));

	ERR_clear_error();
	if (cert && parse_all(cert, der, n, key))
		return cert;
	*code = gtls_take_error();
	gtls_cert_free(cert);
	return NULL;
}

void gtls_cert_free(struct gtls_cert *cert)
{
	if (!cert)
		return;
	X509_free(cert->leaf);
	EVP_PKEY_free(cert->key);
	gtls_certs_free(cert->chain);
	free(cert);
}

int gtls_names_count(STACK_OF(X509_NAME) *names)
{
	return names ? sk_X509_NAME_num(names) : 0;
}

unsigned char *gtls_name_der(STACK_OF(X509_NAME) *names, int i, int *n)
{
	unsigned char *der = NULL;

	*n = i2d_X509_NAME(sk_X509_NAME_value(names, i), &der);
	if (*n < 0) {
		ERR_clear_error();
		return NULL;
	}
	return der;
}

int gtls_certs_count(STACK_OF(X509) *certs)
{
	return certs ? sk_X509_num(certs) : 0;
}

void gtls_certs_free(STACK_OF(X509) *certs)
{
	sk_X509_pop_free(certs, X509_free);
}

unsigned char *gtls_certs_der(STACK_OF(X509) *certs, int i, int *n)
{
	unsigned char *der = NULL;

	*n = i2d_X509(sk_X509_value(certs, i), &der);
	if (*n < 0) {
		ERR_clear_error();
		return NULL;
	}
	return der;
}

void gtls_der_free(unsigned char *der)
{
	OPENSSL_free(der);
}
