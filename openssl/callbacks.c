/*
 * callbacks.c: every function that OpenSSL calls, except those of the BIO (wire.c).
 *
 * All run on the thread that entered OpenSSL, with the lock of the bufferevent. The exported
 * Go functions that they call run no function of the user, and let no panic through.
 */

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

static struct gtls_conn *conn_of_store(X509_STORE_CTX *store)
{
	return gtls_conn_of(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
}

/* With GTLS_VERIFY_GO, called instead of OpenSSL's own verification. */
int gtls_on_verify(X509_STORE_CTX *store, void *arg)
{
	int error = gtlsVerify(conn_of_store(store)->handle, X509_STORE_CTX_get0_untrusted(store));

	(void)arg;
	X509_STORE_CTX_set_error(store, error);
	return error == X509_V_OK;
}

/* With GTLS_VERIFY_NOTHING, called instead of OpenSSL's own verification. */
int gtls_on_any_cert(X509_STORE_CTX *store, void *arg)
{
	(void)arg;
	X509_STORE_CTX_set_error(store, X509_V_OK);
	return 1;
}

/* With GTLS_VERIFY_STORE, OpenSSL's own verification has checked a certificate. The first
 * failure is kept for gtls_conn_verify_failure. */
int gtls_on_verified(int ok, X509_STORE_CTX *store)
{
	struct gtls_conn *c = conn_of_store(store);
	struct gtls_verification *v = &c->verification;

	/* The server's certificate is valid, but without a name to expect it can be that of
	 * any server. */
	if (ok && !c->server && !v->named && X509_STORE_CTX_get_error_depth(store) == 0) {
		X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH);
		ok = 0;
	}
	if (ok || v->error)
		return ok;
	v->error = X509_STORE_CTX_get_error(store);
	v->sent = X509_chain_up_ref(X509_STORE_CTX_get0_untrusted(store));
	v->wrong = X509_STORE_CTX_get_current_cert(store);
	if (v->wrong)
		X509_up_ref(v->wrong);
	return 0;
}

/* --- handshake ------------------------------------------------------------------ */

/* Gives a server's SSL the certificates that Go picks for the client's server name. */
int gtls_on_cert(SSL *ssl, void *arg)
{
	struct gtls_ctx *ctx = arg;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	int picked[GTLS_MAX_PICKED];
	int i, n = gtlsPick(ctx->handle, (char *)(name ? name : ""), picked);

	SSL_certs_clear(ssl);
	for (i = 0; i < n; i++) {
		struct gtls_cert *cert = &ctx->certs[picked[i]];

		if (!SSL_use_cert_and_key(ssl, cert->leaf, cert->key, cert->chain, 1))
			return 0;
	}
	return 1;
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

/* Passes a copy of a client's new session to Go. OpenSSL makes the original unusable if its
 * connection ends without close_notify. */
int gtls_on_session(SSL *ssl, SSL_SESSION *session)
{
	SSL_SESSION *copy;

	if (SSL_SESSION_is_resumable(session) && (copy = SSL_SESSION_dup(session)) != NULL)
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

	if ((where & SSL_CB_HANDSHAKE_START) && SSL_in_before(ssl)) {
		gtls_conn_restart(c);
		gtls_guard_start(c);
	}
	if (where & SSL_CB_HANDSHAKE_DONE) {
		c->open = 1;
		c->handshakes++;
		gtls_guard_stop(c);
	}
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

/* Tells of the records that come. In TLS 1.3 their headers do not say of which type they are. */
void gtls_on_message(int write, int version, int type, const void *p, size_t n, SSL *ssl, void *arg)
{
	const unsigned char *byte = p;

	(void)version;
	(void)arg;
	if (write || n == 0)
		return;
	if (type == SSL3_RT_INNER_CONTENT_TYPE || (type == SSL3_RT_HEADER && SSL_version(ssl) < TLS1_3_VERSION))
		gtls_guard_record(gtls_conn_of(ssl), *byte);
}
