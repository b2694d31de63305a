/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * state.c: what is known of a connection, and of a session.
 */

#include <errno.h>
#include <string.h>
#include <time.h>

#include "conn.h"

/* The peer's certificates, leaf first. */
static STACK_OF(X509) *peer_of(SSL *ssl)
{
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl), *all = sk_X509_new_null();
	X509 *leaf = SSL_get_peer_certificate(ssl); /* a reference */
	int i;

	if (leaf && (!all || !sk_X509_push(all, leaf)))
		X509_free(leaf);
	/* On a client OpenSSL's chain contains the leaf, and on a server it does not. */
	for (i = SSL_is_server(ssl) ? 0 : 1; all && i < sk_X509_num(chain); i++) {
		X509 *x = sk_X509_value(chain, i);

		if (sk_X509_push(all, x))
			X509_up_ref(x);
	}
	return all;
}

/* Locked. */
static void read_staple(const struct gtls_conn *c, struct gtls_state *s)
{
	const unsigned char *ocsp;
	long n = SSL_get_tlsext_status_ocsp_resp(c->ssl, &ocsp);

	if (c->server)
		return;
	if (n > 0 && (s->ocsp = OPENSSL_memdup(ocsp, (size_t)n)) != NULL)
		s->nocsp = (size_t)n;
	if (c->nscts && (s->scts = OPENSSL_memdup(c->scts, c->nscts)) != NULL)
		s->nscts = c->nscts;
}

/* Locked. */
static void read_state(const struct gtls_conn *c, const SSL_CIPHER *cipher, struct gtls_state *s)
{
	SSL *ssl = c->ssl;
	const unsigned char *proto;

	s->version = SSL_version(ssl);
	s->cipher = SSL_CIPHER_get_protocol_id(cipher);
	s->cipher_name = SSL_CIPHER_standard_name(cipher);
	s->protects = gtls_cipher_protects(cipher);
	s->resumed = SSL_session_reused(ssl);
	SSL_get0_alpn_selected(ssl, &proto, &s->alpn_len);
	memcpy(s->alpn, proto, s->alpn_len);
	if (c->name)
		strncpy(s->name, c->name, sizeof(s->name) - 1);
	s->peer = peer_of(ssl);
	read_staple(c, s);
}

int64_t gtls_conn_export(struct gtls_conn *c, unsigned char *out, size_t n, struct gtls_bytes label, struct gtls_bytes context, int has_context)
{
	int64_t rc = 0;

	gtls_lock(c);
	if (!SSL_is_init_finished(c->ssl))
		rc = -ENOTCONN;
	else if (SSL_version(c->ssl) < TLS1_3_VERSION && SSL_get_extms_support(c->ssl) != 1)
		rc = -ENOTSUP;
	else if (SSL_export_keying_material(c->ssl, out, n, (const char *)label.p, label.n, context.p, context.n, has_context) != 1)
		rc = -EINVAL;
	ERR_clear_error();
	gtls_unlock(c);
	return rc;
}

int64_t gtls_conn_state(struct gtls_conn *c, struct gtls_state *s)
{
	const SSL_CIPHER *cipher;

	memset(s, 0, sizeof(*s));
	gtls_lock(c);
	cipher = SSL_get_current_cipher(c->ssl);
	if (!cipher) /* during a handshake of TLS 1.2 */
		cipher = SSL_get_pending_cipher(c->ssl);
	if (cipher)
		read_state(c, cipher, s);
	ERR_clear_error();
	gtls_unlock(c);
	return cipher ? 0 : -ENOTCONN;
}

static time_t made_at(const SSL_SESSION *session)
{
#if OPENSSL_VERSION_NUMBER >= 0x30300000L
	return SSL_SESSION_get_time_ex(session);
#else
	return (time_t)SSL_SESSION_get_time(session);
#endif
}

int gtls_session_fresh(SSL_SESSION *session)
{
	return SSL_SESSION_is_resumable(session) && made_at(session) + SSL_SESSION_get_timeout(session) > time(NULL);
}
