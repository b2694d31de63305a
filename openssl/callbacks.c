/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * callbacks.c: every function that OpenSSL calls, except those of the BIO (wire.c).
 *
 * All run on the thread that entered OpenSSL, with the lock of the bufferevent. The exported
 * Go functions that they call run no function of the user, and let no panic through.
 */

#include <string.h>

#include <openssl/ssl3.h>

#include "conn.h"
#include "_cgo_export.h"

/* --- from an SSL to its connection ------------------------------------------------- */

static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
static int conn_index = -1;

static void make_index(void)
{
	conn_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

int gtls_conn_index(void)
{
	CRYPTO_THREAD_run_once(&once, make_index);
	return conn_index;
}

struct gtls_conn *gtls_conn_of(const SSL *ssl)
{
	return SSL_get_ex_data(ssl, conn_index);
}

/* --- verification -------------------------------------------------------------- */

/* Called instead of OpenSSL's own verification. */
int gtls_on_verify(X509_STORE_CTX *store, void *arg)
{
	struct gtls_conn *c = gtls_conn_of(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
	int error = gtls_ask_verify(c, X509_STORE_CTX_get0_untrusted(store));

	(void)arg;
	X509_STORE_CTX_set_error(store, error);
	return error == X509_V_OK;
}

/* --- handshake ------------------------------------------------------------------ */

/* Gives a server's SSL the certificates that Go picks for the client's server name. */
int gtls_on_cert(SSL *ssl, void *arg)
{
	struct gtls_ctx *ctx = arg;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	int picked[GTLS_MAX_PICKED];
	int i, n;

	if (gtls_conn_of(ssl)->shows)
		return 1;
	n = gtlsPick(ctx->handle, (char *)(name ? name : ""), picked);
	SSL_certs_clear(ssl);
	for (i = 0; i < n; i++) {
		struct gtls_cert *cert = ctx->certs[picked[i]];

		if (!SSL_use_cert_and_key(ssl, cert->leaf, cert->key, cert->chain, 1))
			return 0;
	}
	return 1;
}

/* The name in the extension, which has a list with one name. OpenSSL has not checked it yet. */
static struct gtls_bytes name_in(struct gtls_bytes extension)
{
	const unsigned char *p = extension.p;
	struct gtls_bytes name = {NULL, 0};

	if (extension.n <= 5 || p[2] != TLSEXT_NAMETYPE_host_name || 5 + ((size_t)p[3] << 8 | p[4]) != extension.n ||
	    extension.n - 5 > TLSEXT_MAXLEN_host_name || memchr(p + 5, 0, extension.n - 5))
		return name;
	name.p = p + 5;
	name.n = extension.n - 5;
	return name;
}

/* Go has decided by the first name, so a second ClientHello must have the same. OpenSSL itself does
 * not compare them, and does not tell the name if a session of TLS 1.2 is resumed. */
static int keep_name(struct gtls_conn *c, struct gtls_bytes name)
{
	if (c->name)
		return strlen(c->name) == name.n && !memcmp(c->name, name.n ? name.p : (const unsigned char *)"", name.n);
	c->name = OPENSSL_strndup(name.n ? (const char *)name.p : "", name.n);
	return c->name != NULL;
}

static int digest_of(const struct gtls_hello *h, unsigned char digest[SHA256_DIGEST_LENGTH])
{
	const struct gtls_bytes all[] = {h->ciphers, h->name, h->groups, h->points, h->schemes, h->protos, h->versions};
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	int ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL);
	size_t i;

	for (i = 0; ok && i < sizeof(all) / sizeof(*all); i++)
		ok = EVP_DigestUpdate(md, &all[i].n, sizeof(all[i].n)) && EVP_DigestUpdate(md, all[i].p, all[i].n);
	ok = ok && EVP_DigestFinal_ex(md, digest, NULL);
	EVP_MD_CTX_free(md);
	return ok;
}

/* Go decides by what it is told of the first ClientHello. The second one after a HelloRetryRequest counts
 * for OpenSSL, for the protocol of ALPN for example. So it must say the same, which OpenSSL does not check. */
static int keep_hello(struct gtls_conn *c, const struct gtls_hello *hello)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];

	if (!digest_of(hello, c->ask.knows_hello ? digest : c->ask.hello))
		return 0;
	if (c->ask.knows_hello)
		return !memcmp(c->ask.hello, digest, sizeof(digest));
	c->ask.knows_hello = 1;
	return 1;
}

static int ask_hello(SSL *ssl, int *alert)
{
	struct gtls_conn *c = gtls_conn_of(ssl);
	struct gtls_hello hello;
	int *extensions = NULL, rc;

	memset(&hello, 0, sizeof(hello));
	hello.legacy_version = (int)SSL_client_hello_get0_legacy_version(ssl);
	hello.ciphers.n = SSL_client_hello_get0_ciphers(ssl, &hello.ciphers.p);
	hello.name = name_in(gtls_offer_extension(ssl, TLSEXT_TYPE_server_name));
	hello.groups = gtls_offer_extension(ssl, TLSEXT_TYPE_supported_groups);
	hello.points = gtls_offer_extension(ssl, TLSEXT_TYPE_ec_point_formats);
	hello.schemes = gtls_offer_extension(ssl, TLSEXT_TYPE_signature_algorithms);
	hello.protos = gtls_offer_extension(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation);
	hello.versions = gtls_offer_extension(ssl, TLSEXT_TYPE_supported_versions);
	if (!keep_hello(c, &hello))
		return SSL_CLIENT_HELLO_ERROR;
	if (!SSL_client_hello_get1_extensions_present(ssl, &extensions, &hello.nextensions))
		hello.nextensions = 0;
	hello.extensions = extensions;
	*alert = SSL_AD_INTERNAL_ERROR;
	rc = gtls_ask(c, GTLS_ASK_HELLO, &hello);
	OPENSSL_free(extensions);
	return rc > 0 ? SSL_CLIENT_HELLO_SUCCESS : rc < 0 ? SSL_CLIENT_HELLO_RETRY : SSL_CLIENT_HELLO_ERROR;
}

/* Asks Go about a client's first message, and later knows the answer. */
int gtls_on_hello(SSL *ssl, int *alert, void *arg)
{
	struct gtls_conn *c = gtls_conn_of(ssl);

	(void)arg;
	*alert = SSL_AD_ILLEGAL_PARAMETER;
	if (!gtls_offer_is_modest(ssl)) {
		c->guard.gave_up = GTLS_TOO_MANY_OFFERS;
		return SSL_CLIENT_HELLO_ERROR;
	}
	if (!keep_name(c, name_in(gtls_offer_extension(ssl, TLSEXT_TYPE_server_name))))
		return SSL_CLIENT_HELLO_ERROR;
	return c->ctx->asks_hello ? ask_hello(ssl, alert) : SSL_CLIENT_HELLO_SUCCESS;
}

static int is_issued_by(const struct gtls_cert *cert, const STACK_OF(X509_NAME) *authorities)
{
	int i, j;

	for (i = -1; i < sk_X509_num(cert->chain); i++)
		for (j = 0; j < sk_X509_NAME_num(authorities); j++)
			if (!X509_NAME_cmp(X509_get_issuer_name(i < 0 ? cert->leaf : sk_X509_value(cert->chain, i)),
				sk_X509_NAME_value(authorities, j)))
				return 1;
	return sk_X509_NAME_num(authorities) <= 0;
}

/* A server wants a client's certificate. The client has one, or asks Go. */
int gtls_on_cert_request(SSL *ssl, void *arg)
{
	struct gtls_ctx *ctx = arg;
	struct gtls_conn *c = gtls_conn_of(ssl);
	const struct gtls_cert *cert = ctx->ncerts ? ctx->certs[0] : NULL;
	struct gtls_request request;
	unsigned char sign, hash;

	memset(&request, 0, sizeof(request));
	request.authorities = (STACK_OF(X509_NAME) *)SSL_get0_peer_CA_list(ssl);
	if (!ctx->gets_cert)
		return gtls_conn_show(c, cert && is_issued_by(cert, request.authorities) ? cert : NULL);
	request.version = SSL_version(ssl);
	while (request.nschemes < 64 && SSL_get_sigalgs(ssl, request.nschemes, NULL, NULL, NULL, &sign, &hash) > request.nschemes)
		request.schemes[request.nschemes++] = (uint16_t)(hash << 8 | sign);
	return gtls_ask(c, GTLS_ASK_REQUEST, &request);
}

/* Picks the first of the server's protocols that the client has. */
int gtls_on_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in, unsigned int inlen, void *arg)
{
	struct gtls_ctx *ctx = arg;

	(void)ssl;
	if (SSL_select_next_proto((unsigned char **)out, outlen, ctx->alpn, (unsigned)ctx->alpn_len, in, inlen) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	return SSL_TLSEXT_ERR_OK;
}

/* Passes a copy of a client's new session to Go, if it has a ticket. With TLS 1.2 it may have only an
 * ID. OpenSSL makes the original unusable if its connection ends without close_notify. */
int gtls_on_session(SSL *ssl, SSL_SESSION *session)
{
	SSL_SESSION *copy;

	if (SSL_SESSION_has_ticket(session) && SSL_SESSION_is_resumable(session) && (copy = SSL_SESSION_dup(session)) != NULL)
		gtlsSession(gtls_conn_of(ssl)->handle, copy);
	return 0;
}

void gtls_on_key(const SSL *ssl, const char *line)
{
	gtlsKey(gtls_conn_of(ssl)->handle, (char *)line);
}

/* Keeps what libevent 2.2 does not report: the first error, and the peer's alert. */
void gtls_on_info(const SSL *ssl, int where, int ret)
{
	struct gtls_conn *c = gtls_conn_of(ssl);

	if ((where & SSL_CB_HANDSHAKE_START) && SSL_in_before(ssl) && !c->idle) {
		gtls_conn_restart(c);
		gtls_guard_start(c);
	}
	/* In TLS 1.3 a message after the handshake is said to start one, and before TLS 1.3 a message that
	 * asks for a renegotiation, also if OpenSSL refuses it and says at once that the handshake is done. */
	if ((where & SSL_CB_HANDSHAKE_START) && SSL_version(ssl) < TLS1_3_VERSION &&
	    !(SSL_get_options(ssl) & SSL_OP_NO_RENEGOTIATION)) {
		gtls_ask_restart(c);
		c->again.wanted = 0;
	}
	if ((where & SSL_CB_HANDSHAKE_DONE) && !c->ask.may_rest)
		gtls_handshake_done(c);
	if ((where & SSL_CB_EXIT) && ret > 0 && !c->ask.may_rest)
		gtls_handshake_left(c);
	if ((where & SSL_CB_EXIT) && ret <= 0)
		gtls_guard_halt(c);
	if (c->code)
		return;
	if (!(where & SSL_CB_ALERT))
		c->code = (where & SSL_CB_EXIT) && ret <= 0 ? ERR_peek_error() : 0;
	else if (ret >> 8 != SSL3_AL_FATAL)
		return;
	else if (where & SSL_CB_READ)
		c->code = ERR_PACK(ERR_LIB_SSL, 0, SSL_AD_REASON_OFFSET + (ret & 0xff));
	else
		c->code = ERR_peek_error();
}

/* If an answer to a KeyUpdate is due, OpenSSL writes it before it takes the next message. */
static void on_record(struct gtls_conn *c, int type)
{
	gtls_guard_record(c, type);
	if (type == SSL3_RT_HANDSHAKE && !SSL_in_init(c->ssl) && SSL_get_key_update_type(c->ssl) != SSL_KEY_UPDATE_NONE)
		gtls_wire_put_aside(c);
}

/* A server answers a ClientHello of a renegotiation at once. So does a client a server's request for one, unless a
 * record is written in part, and what comes of that is in renegotiate.c. */
static void on_handshake_message(struct gtls_conn *c, int type, const unsigned char *body, size_t n)
{
	gtls_guard_message(c, type);
	if (type == SSL3_MT_CERTIFICATE)
		gtls_chain_check(c, body, n);
	else if (type == SSL3_MT_CERTIFICATE_REQUEST)
		gtls_offer_check_authorities(c, body, n);
	if ((type == SSL3_MT_CLIENT_HELLO || type == SSL3_MT_HELLO_REQUEST) && gtls_renegotiates_now(c))
		gtls_wire_put_aside(c);
}

/* Tells of the records and messages that come. In TLS 1.3 their headers do not say of which type they are. */
void gtls_on_message(int write, int version, int type, const void *p, size_t n, SSL *ssl, void *arg)
{
	const unsigned char *byte = p;

	(void)version;
	(void)arg;
	if (write || n == 0)
		return;
	if (type == SSL3_RT_INNER_CONTENT_TYPE || (type == SSL3_RT_HEADER && SSL_version(ssl) < TLS1_3_VERSION))
		on_record(gtls_conn_of(ssl), *byte);
	else if (type == SSL3_RT_HANDSHAKE && n >= SSL3_HM_HEADER_LENGTH)
		on_handshake_message(gtls_conn_of(ssl), *byte, byte + SSL3_HM_HEADER_LENGTH, n - SSL3_HM_HEADER_LENGTH);
}
