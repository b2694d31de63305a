/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * state.c: what is known of a connection, and of a session.
 */

#include <errno.h>
#include <string.h>
#include <time.h>

#include "conn.h"

static int push(STACK_OF(X509) *all, X509 *x)
{
	if (!sk_X509_push(all, x))
		return 0;
	X509_up_ref(x);
	return 1;
}

/* The peer's certificates, leaf first. Returns 0 without memory: that is not a peer without a certificate. */
static int read_peer(SSL *ssl, struct gtls_state *s)
{
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
	X509 *leaf = SSL_get_peer_certificate(ssl); /* a reference */
	int i, ok;

	s->peer = sk_X509_new_null();
	ok = s->peer && (!leaf || push(s->peer, leaf));
	/* On a client OpenSSL's chain contains the leaf, and on a server it does not. */
	for (i = SSL_is_server(ssl) ? 0 : 1; ok && i < sk_X509_num(chain); i++)
		ok = push(s->peer, sk_X509_value(chain, i));
	X509_free(leaf);
	return ok;
}

static int copy(unsigned char **to, size_t *nto, const unsigned char *p, size_t n)
{
	if (n == 0)
		return 1;
	*to = OPENSSL_memdup(p, n);
	*nto = *to ? n : 0;
	return *to != NULL;
}

/* Locked. Returns 0 without memory. */
static int read_staple(const struct gtls_conn *c, struct gtls_state *s)
{
	const unsigned char *ocsp;
	long n = SSL_get_tlsext_status_ocsp_resp(c->ssl, &ocsp);

	return c->server || (copy(&s->ocsp, &s->nocsp, ocsp, n > 0 ? (size_t)n : 0) && copy(&s->scts, &s->nscts, c->scts, c->nscts));
}

/* Locked. Returns 0 without memory. */
static int read_state(const struct gtls_conn *c, const SSL_CIPHER *cipher, struct gtls_state *s)
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
	return read_peer(ssl, s) && read_staple(c, s);
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
	int64_t rc = -ENOTCONN;

	memset(s, 0, sizeof(*s));
	gtls_lock(c);
	cipher = SSL_get_current_cipher(c->ssl);
	if (!cipher) /* during a handshake of TLS 1.2 */
		cipher = SSL_get_pending_cipher(c->ssl);
	if (cipher)
		rc = read_state(c, cipher, s) ? 0 : -ENOMEM;
	ERR_clear_error();
	gtls_unlock(c);
	if (rc == -ENOMEM) {
		gtls_certs_free(s->peer);
		gtls_der_free(s->ocsp);
		gtls_der_free(s->scts);
	}
	return rc;
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
