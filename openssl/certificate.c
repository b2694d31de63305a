/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * certificate.c: lists of certificates, as Go reads them.
 */

#include "conn.h"

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
