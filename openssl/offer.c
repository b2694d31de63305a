/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * offer.c: how much a peer may offer in a handshake before OpenSSL looks at it.
 *
 * OpenSSL works off lists of the peer's on the loop's thread, and keeps names as long as the connection lives.
 * A name of 4 bytes becomes one of 187 bytes, so 64 KiB of them become 3 MB. crypto/tls does not look at a client's
 * names at all. What OpenSSL would refuse in any case passes here.
 */

#include <string.h>

#include "conn.h"

struct gtls_bytes gtls_offer_extension(SSL *ssl, unsigned type)
{
	struct gtls_bytes b = {NULL, 0};

	if (!SSL_client_hello_get0_ext(ssl, type, &b.p, &b.n))
		b.n = 0;
	return b;
}

/* Whether a list is short. Each of its entries has so many bytes before and after its counted part. */
static int has_few(struct gtls_bytes list, int most, size_t before, size_t after)
{
	struct gtls_bytes entry;
	int n;

	for (n = 0; n <= most; n++)
		if (!gtls_take(&list, before, &entry) || !gtls_take_counted(&list, 2, &entry) || !gtls_take(&list, after, &entry))
			return 1;
	return 0;
}

/* The list with which an extension starts, after so many bytes. */
static struct gtls_bytes list_in(struct gtls_bytes extension, size_t after)
{
	struct gtls_bytes list = {NULL, 0}, skipped;

	if (gtls_take(&extension, after, &skipped))
		gtls_take_counted(&extension, 2, &list);
	return list;
}

/* OpenSSL looks for the group of each key share among all groups of the client, which can be 10,000 of both. And it
 * decrypts one ticket after another, with the certificates in them, until it finds one that it can use. Clients send
 * one to three of each, no names, and less than 100 cipher suites. */
int gtls_offer_is_modest(SSL *ssl)
{
	enum { MOST_OFFERS = 16, MOST_CIPHERS = 1000 * 2, MOST_NAMES = 16 * 1024, MOST_AUTHORITIES = 256 };
	struct gtls_bytes authorities = gtls_offer_extension(ssl, TLSEXT_TYPE_certificate_authorities);
	struct gtls_bytes status = gtls_offer_extension(ssl, TLSEXT_TYPE_status_request);
	const unsigned char *ciphers;

	return SSL_client_hello_get0_ciphers(ssl, &ciphers) <= MOST_CIPHERS &&
	    has_few(list_in(gtls_offer_extension(ssl, TLSEXT_TYPE_key_share), 0), MOST_OFFERS, 2, 0) &&
	    has_few(list_in(gtls_offer_extension(ssl, TLSEXT_TYPE_psk), 0), MOST_OFFERS, 0, 4) &&
	    authorities.n <= MOST_NAMES && has_few(list_in(authorities, 0), MOST_AUTHORITIES, 0, 0) &&
	    status.n <= MOST_NAMES && has_few(list_in(status, 1), MOST_OFFERS, 0, 0);
}

/* --- the authorities that a server names ------------------------------------------ */

/* In TLS 1.3 they are an extension. */
static struct gtls_bytes authorities_in(struct gtls_bytes request, int version)
{
	struct gtls_bytes list = {NULL, 0}, extensions, type, body;

	if (version < TLS1_3_VERSION) {
		if (gtls_take_counted(&request, 1, &body) && (version < TLS1_2_VERSION || gtls_take_counted(&request, 2, &body)))
			gtls_take_counted(&request, 2, &list);
		return list;
	}
	if (!gtls_take_counted(&request, 1, &body) || !gtls_take_counted(&request, 2, &extensions))
		return list;
	while (gtls_take(&extensions, 2, &type) && gtls_take_counted(&extensions, 2, &body))
		if (type.p[0] == 0 && type.p[1] == TLSEXT_TYPE_certificate_authorities)
			return list_in(body, 0);
	return list;
}

static int are_short(struct gtls_bytes names)
{
	enum { MOST_PARTS = 8192 };
	struct gtls_bytes name;
	size_t parts = 0;

	while (gtls_take_counted(&names, 2, &name)) {
		parts += gtls_elements(name);
		if (name.n > GTLS_MAX_NAME || parts > MOST_PARTS)
			return 0;
	}
	return 1;
}

/* The message is refused as in chain.c. */
void gtls_offer_check_authorities(struct gtls_conn *c, const unsigned char *p, size_t n)
{
	enum { MOST_AUTHORITIES = 1000 };
	struct gtls_bytes request = {p, n};
	struct gtls_bytes names = authorities_in(request, SSL_version(c->ssl));

	if (has_few(names, MOST_AUTHORITIES, 0, 0) && are_short(names))
		return;
	c->guard.gave_up = GTLS_TOO_MANY_NAMES;
	memset((unsigned char *)p, 0xff, n);
}
