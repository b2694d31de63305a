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
static void read_state(SSL *ssl, const SSL_CIPHER *cipher, struct gtls_state *s)
{
	const unsigned char *proto;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	memset(s, 0, sizeof(*s));
	s->version = SSL_version(ssl);
	s->cipher = SSL_CIPHER_get_protocol_id(cipher);
	s->cipher_name = SSL_CIPHER_standard_name(cipher);
	s->resumed = SSL_session_reused(ssl);
	SSL_get0_alpn_selected(ssl, &proto, &s->alpn_len);
	memcpy(s->alpn, proto, s->alpn_len);
	if (name)
		strncpy(s->name, name, sizeof(s->name) - 1);
	s->peer = peer_of(ssl);
}

int64_t gtls_conn_state(struct gtls_conn *c, int64_t known, struct gtls_state *s)
{
	const SSL_CIPHER *cipher;
	int64_t rc = -ENOTCONN;

	gtls_lock(c);
	cipher = SSL_get_current_cipher(c->ssl);
	if (c->open && cipher) {
		rc = (int64_t)c->handshakes;
		if (rc != known)
			read_state(c->ssl, cipher, s);
	}
	ERR_clear_error();
	gtls_unlock(c);
	return rc;
}

int gtls_session_fresh(SSL_SESSION *session)
{
	return SSL_SESSION_is_resumable(session) &&
	    SSL_SESSION_get_time(session) + SSL_SESSION_get_timeout(session) > time(NULL);
}
