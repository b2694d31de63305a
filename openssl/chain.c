/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chain.c: what a peer's certificates may be before OpenSSL decodes them.
 *
 * OpenSSL decodes all certificates of a message, and their keys, before it asks whether they are valid, and does
 * so on the loop's thread. A key with explicit parameters of its curve, in a certificate of 400 bytes, can need
 * half a second, because the peer chooses how hard a root in the field is. crypto/x509 knows only named curves and
 * points that are not compressed, so the other certificates would be refused later in any case. Kinds of keys that
 * are not known here are refused, too, because OpenSSL has several names for the same kind, and so are long names,
 * thousands of parts in names and extensions, and what is not DER. libssl has no function that refuses a message. But it
 * shows each message before it takes it apart, in its own buffer. There the start of a message that is refused is
 * overwritten, so that libssl finds no list of certificates in it.
 */

#include <string.h>

#include "conn.h"

/* Takes an element of DER, if the next one has this tag. Its length is written as shortly as possible. */
static int take_element(struct gtls_bytes *from, unsigned char tag, struct gtls_bytes *out)
{
	struct gtls_bytes head;
	unsigned size;

	if (from->n == 0 || *from->p != tag || !gtls_take(from, 2, &head))
		return 0;
	if (head.p[1] < 0x80)
		return gtls_take(from, head.p[1], out);
	size = head.p[1] & 0x7f;
	return size >= 1 && size <= 3 && gtls_take_counted(from, size, out) &&
	    out->n >= 0x80 && out->n >> 8 * (size - 1) != 0;
}

/* Takes an element as a whole, with tag and length. */
static int take_whole(struct gtls_bytes *from, unsigned char tag, struct gtls_bytes *whole)
{
	struct gtls_bytes content;

	whole->p = from->p;
	if (!take_element(from, tag, &content))
		return 0;
	whole->n = (size_t)(from->p - whole->p);
	return 1;
}

#define STARTS_WITH(b, literal) ((b).n >= sizeof(literal) - 1 && !memcmp((b).p, literal, sizeof(literal) - 1))
#define IS(b, literal) ((b).n == sizeof(literal) - 1 && STARTS_WITH(b, literal))

enum { SEQUENCE = 0x30, BOOLEAN = 1, INTEGER = 2, OID = 6, BIT_STRING = 3, OCTET_STRING = 4, UNCOMPRESSED = 4 };
enum { VERSION = 0xa0, ISSUER_ID = 0x81, SUBJECT_ID = 0x82, EXTENSIONS = 0xa3 };

/* OpenSSL decodes these quickly: Ed25519 and Ed448; ML-DSA and SLH-DSA. */
static int is_simple(struct gtls_bytes oid)
{
	return STARTS_WITH(oid, "\x2b\x65") || STARTS_WITH(oid, "\x60\x86\x48\x01\x65\x03\x04\x03");
}

/* RSA and RSA-PSS. A server's OpenSSL uses the key of a client before Go has an answer, and the time grows with
 * the exponent. crypto/x509 knows exponents of 31 bits. */
static int is_rsa(struct gtls_bytes oid, struct gtls_bytes bits)
{
	struct gtls_bytes unused, key, modulus, exponent;

	return STARTS_WITH(oid, "\x2a\x86\x48\x86\xf7\x0d\x01\x01") && gtls_take(&bits, 1, &unused) && take_element(&bits, SEQUENCE, &key) &&
	    take_element(&key, INTEGER, &modulus) && take_element(&key, INTEGER, &exponent) && exponent.n <= 4;
}

/* P-224, P-256, P-384, P-521 */
static int is_curve(struct gtls_bytes oid)
{
	return IS(oid, "\x2b\x81\x04\x00\x21") || IS(oid, "\x2a\x86\x48\xce\x3d\x03\x01\x07") ||
	    IS(oid, "\x2b\x81\x04\x00\x22") || IS(oid, "\x2b\x81\x04\x00\x23");
}

static int is_cheap_key(struct gtls_bytes key)
{
	struct gtls_bytes algorithm, oid, curve, bits;

	if (!take_element(&key, SEQUENCE, &algorithm) || !take_element(&algorithm, OID, &oid) || !take_element(&key, BIT_STRING, &bits))
		return 0;
	if (!IS(oid, "\x2a\x86\x48\xce\x3d\x02\x01"))
		return is_simple(oid) || is_rsa(oid, bits);
	return take_element(&algorithm, OID, &curve) && is_curve(curve) && bits.n > 1 && bits.p[1] == UNCOMPRESSED;
}

/* Whether what follows the signed part of a certificate is all that may follow. crypto/x509 gets the certificate
 * as OpenSSL encodes it, which differs only there from what was sent. */
static int is_exact(struct gtls_bytes rest, struct gtls_bytes algorithm)
{
	struct gtls_bytes again, signature;

	return take_whole(&rest, SEQUENCE, &again) && again.n == algorithm.n && !memcmp(again.p, algorithm.p, again.n) &&
	    take_element(&rest, BIT_STRING, &signature) && signature.n > 1 && signature.p[0] == 0 && rest.n == 0;
}

/* OpenSSL decodes some of these extensions when it uses a key, and keeps them: 4 bytes become 187, as in offer.c. They
 * are of X.509, of PKIX, and of Netscape. */
static int may_be_decoded(struct gtls_bytes oid)
{
	return STARTS_WITH(oid, "\x55\x1d") || STARTS_WITH(oid, "\x2b\x06\x01\x05\x05\x07\x01") ||
	    STARTS_WITH(oid, "\x60\x86\x48\x01\x86\xf8\x42\x01");
}

/* Counts the parts that OpenSSL makes objects of. */
static int count_parts(struct gtls_bytes extensions, size_t *parts)
{
	struct gtls_bytes list, extension, oid, skipped, value;

	if (!take_element(&extensions, SEQUENCE, &list))
		return 0;
	*parts += gtls_elements(list);
	while (list.n > 0) {
		if (!take_element(&list, SEQUENCE, &extension) || !take_element(&extension, OID, &oid))
			return 0;
		take_element(&extension, BOOLEAN, &skipped);
		if (!take_element(&extension, OCTET_STRING, &value))
			return 0;
		if (may_be_decoded(oid))
			*parts += gtls_elements(value);
	}
	return 1;
}

/* Certificates of version 1 have no extensions. */
static int has_good_extensions(struct gtls_bytes tbs, size_t *parts)
{
	struct gtls_bytes extensions, skipped;

	take_element(&tbs, ISSUER_ID, &skipped);
	take_element(&tbs, SUBJECT_ID, &skipped);
	return tbs.n == 0 || (take_element(&tbs, EXTENSIONS, &extensions) && count_parts(extensions, parts) && tbs.n == 0);
}

static int take_name(struct gtls_bytes *tbs, size_t *parts)
{
	struct gtls_bytes name;

	if (!take_element(tbs, SEQUENCE, &name) || name.n > GTLS_MAX_NAME)
		return 0;
	*parts += gtls_elements(name);
	return 1;
}

static int is_cheap(struct gtls_bytes der, size_t *parts)
{
	struct gtls_bytes cert, tbs, algorithm, key, skipped;

	if (!take_element(&der, SEQUENCE, &cert) || der.n || !take_element(&cert, SEQUENCE, &tbs))
		return 0;
	take_element(&tbs, VERSION, &skipped); /* certificates of version 1 do not have it */
	return take_element(&tbs, INTEGER, &skipped) && take_whole(&tbs, SEQUENCE, &algorithm) &&
	    take_name(&tbs, parts) && take_element(&tbs, SEQUENCE, &skipped) &&
	    take_name(&tbs, parts) && take_element(&tbs, SEQUENCE, &key) &&
	    is_cheap_key(key) && has_good_extensions(tbs, parts) && is_exact(cert, algorithm);
}

/* What is wrong with the certificates, a GTLS_ of native.h, or 0. OpenSSL refuses a message that has no list. */
static int fault(struct gtls_bytes message, int tls13, size_t *parts)
{
	enum { MOST_PARTS = 4096 }; /* of all names and extensions */
	struct gtls_bytes list, cert, skipped;
	int n;

	if ((tls13 && !gtls_take_counted(&message, 1, &skipped)) || !gtls_take_counted(&message, 3, &list))
		return 0;
	for (n = 0; list.n > 0; n++) {
		if (n == GTLS_MAX_CHAIN)
			return GTLS_TOO_MANY_CERTS;
		if (!gtls_take_counted(&list, 3, &cert))
			return 0;
		if (!is_cheap(cert, parts))
			return GTLS_BAD_KEY;
		if (*parts > MOST_PARTS)
			return GTLS_TOO_MANY_PARTS;
		if (tls13 && !gtls_take_counted(&list, 2, &skipped))
			return 0;
	}
	return 0;
}

/* For each ticket a server decodes and encodes the certificate of the client again. */
static void limit_tickets(SSL *ssl, size_t parts)
{
	enum { MANY_PARTS = 512, FEW_TICKETS = 2 };

	if (parts > MANY_PARTS && SSL_get_num_tickets(ssl) > FEW_TICKETS)
		SSL_set_num_tickets(ssl, FEW_TICKETS);
}

void gtls_chain_check(struct gtls_conn *c, const unsigned char *p, size_t n)
{
	struct gtls_bytes message = {p, n};
	size_t parts = 0;
	int found = fault(message, SSL_version(c->ssl) >= TLS1_3_VERSION, &parts);

	limit_tickets(c->ssl, parts);
	if (!found)
		return;
	c->guard.gave_up = (int8_t)found;
	memset((unsigned char *)p, 0xff, n < 4 ? n : 4);
}
