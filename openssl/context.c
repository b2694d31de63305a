/*
 * context.c: the C half of Context.
 */

#include <stdlib.h>
#include <string.h>

#include <openssl/rand.h>

#include "conn.h"

static unsigned long out_of_memory(void)
{
	ERR_clear_error();
	return ERR_PACK(ERR_LIB_SSL, 0, ERR_R_MALLOC_FAILURE);
}

static int set_up(struct gtls_ctx *c, int options, int tickets)
{
	unsigned char id[SSL_MAX_SSL_SESSION_ID_LENGTH];

	/* A connection without anything to read or write keeps no buffers. */
	SSL_CTX_set_mode(c->ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_options(c->ctx, SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
	if (!(options & GTLS_RENEGOTIATION))
		SSL_CTX_set_options(c->ctx, SSL_OP_NO_RENEGOTIATION);
#ifdef SSL_OP_ALLOW_CLIENT_RENEGOTIATION /* OpenSSL 3 refuses it without this option */
	else
		SSL_CTX_set_options(c->ctx, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
#endif
	SSL_CTX_set_info_callback(c->ctx, gtls_on_info);
	SSL_CTX_set_msg_callback(c->ctx, gtls_on_message);
	if (options & GTLS_KEY_LOG)
		SSL_CTX_set_keylog_callback(c->ctx, gtls_on_key);
	/* A server keeps no sessions: its tickets contain them. */
	SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_OFF);
	if (options & GTLS_SESSIONS) {
		SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(c->ctx, gtls_on_session);
	}
	if (options & GTLS_NO_TICKETS) {
		SSL_CTX_set_options(c->ctx, SSL_OP_NO_TICKET);
		tickets = 0;
	}
	if (tickets >= 0 && !SSL_CTX_set_num_tickets(c->ctx, (size_t)tickets))
		return 0;
	/* A server accepts only sessions of its own context, which has this ID. */
	if (RAND_bytes(id, sizeof(id)) != 1)
		return 0;
	return SSL_CTX_set_session_id_context(c->ctx, id, sizeof(id));
}

struct gtls_ctx *gtls_ctx_new(int server, int options, int tickets, uintptr_t handle, unsigned long *code)
{
	struct gtls_ctx *c = calloc(1, sizeof(*c));

	ERR_clear_error();
	if (!c) {
		*code = out_of_memory();
		return NULL;
	}
	c->handle = handle;
	c->server = server;
	c->renegotiates = (options & GTLS_RENEGOTIATION) != 0;
	if (gtls_conn_index() >= 0)
		c->ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	if (!c->ctx || !set_up(c, options, tickets)) {
		*code = gtls_take_error();
		gtls_ctx_free(c);
		return NULL;
	}
	return c;
}

void gtls_ctx_free(struct gtls_ctx *c)
{
	size_t i;

	SSL_CTX_free(c->ctx);
	for (i = 0; i < c->ncerts; i++) {
		X509_free(c->certs[i].leaf);
		EVP_PKEY_free(c->certs[i].key);
		gtls_certs_free(c->certs[i].chain);
	}
	free(c->certs);
	free(c->alpn);
	free(c);
}

unsigned long gtls_ctx_versions(struct gtls_ctx *c, int min, int max)
{
	ERR_clear_error();
	if (!SSL_CTX_set_min_proto_version(c->ctx, min) || !SSL_CTX_set_max_proto_version(c->ctx, max))
		return gtls_take_error();
	return 0;
}

unsigned long gtls_ctx_ciphers(struct gtls_ctx *c, const char *list, const char *suites)
{
	ERR_clear_error();
	if ((list && !SSL_CTX_set_cipher_list(c->ctx, list)) ||
	    (suites && !SSL_CTX_set_ciphersuites(c->ctx, suites)))
		return gtls_take_error();
	return 0;
}

/* --- certificates ----------------------------------------------------------- */

static X509 *parse(struct gtls_bytes der)
{
	const unsigned char *p = der.p;

	return d2i_X509(NULL, &p, (long)der.n);
}

/* What it has made is in cert even if it fails. gtls_ctx_free frees that. */
static int parse_cert(struct gtls_cert *cert, const struct gtls_bytes *der, int n, struct gtls_bytes key)
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

unsigned long gtls_ctx_add_cert(struct gtls_ctx *c, const struct gtls_bytes *der, int n, struct gtls_bytes key)
{
	struct gtls_cert *certs = realloc(c->certs, (c->ncerts + 1) * sizeof(*certs)), *cert;

	ERR_clear_error();
	if (!certs)
		return out_of_memory();
	c->certs = certs;
	cert = memset(&certs[c->ncerts++], 0, sizeof(*cert));
	if (!parse_cert(cert, der, n, key))
		return gtls_take_error();
	/* The SSL_CTX has one certificate for each type of key. It gets the first one only,
	 * and gtls_on_cert chooses if there are more. */
	if (c->ncerts == 1 && !SSL_CTX_use_cert_and_key(c->ctx, cert->leaf, cert->key, cert->chain, 1))
		return gtls_take_error();
	return 0;
}

void gtls_ctx_pick_certs(struct gtls_ctx *c)
{
	SSL_CTX_set_cert_cb(c->ctx, gtls_on_cert, c);
}

/* --- verification ------------------------------------------------------------ */

unsigned long gtls_ctx_add_root(struct gtls_ctx *c, struct gtls_bytes der)
{
	X509_STORE *store = SSL_CTX_get_cert_store(c->ctx);
	X509 *root;
	int ok;

	ERR_clear_error();
	root = parse(der);
	ok = root && X509_STORE_add_cert(store, root);
	X509_free(root);
	if (!ok)
		return gtls_take_error();
	/* OpenSSL then also trusts a root that another certificate has signed. */
	X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
	return 0;
}

unsigned long gtls_ctx_add_ca_name(struct gtls_ctx *c, struct gtls_bytes name)
{
	const unsigned char *p = name.p;
	STACK_OF(X509_NAME) *names;
	X509_NAME *n;

	ERR_clear_error();
	n = d2i_X509_NAME(NULL, &p, (long)name.n);
	names = SSL_CTX_get_client_CA_list(c->ctx);
	if (n && !names && (names = sk_X509_NAME_new_null()) != NULL)
		SSL_CTX_set_client_CA_list(c->ctx, names);
	if (!n || !names || !sk_X509_NAME_push(names, n)) {
		X509_NAME_free(n);
		return gtls_take_error();
	}
	return 0;
}

void gtls_ctx_verify(struct gtls_ctx *c, int mode)
{
	int flags = SSL_VERIFY_NONE;

	if (mode & GTLS_CERT_REQUIRED)
		flags = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
	else if (mode & GTLS_CERT_REQUESTED || (!c->server && mode != GTLS_VERIFY_NOTHING))
		flags = SSL_VERIFY_PEER;
	mode &= ~(GTLS_CERT_REQUESTED | GTLS_CERT_REQUIRED);
	SSL_CTX_set_verify(c->ctx, flags, mode == GTLS_VERIFY_STORE ? gtls_on_verified : NULL);
	if (mode == GTLS_VERIFY_GO)
		SSL_CTX_set_cert_verify_callback(c->ctx, gtls_on_verify, NULL);
	else if (mode == GTLS_VERIFY_NOTHING)
		SSL_CTX_set_cert_verify_callback(c->ctx, gtls_on_any_cert, NULL);
}

/* --- ALPN --------------------------------------------------------------------- */

unsigned long gtls_ctx_alpn(struct gtls_ctx *c, struct gtls_bytes protos)
{
	ERR_clear_error();
	if (!c->server) /* this function of OpenSSL returns 0 on success */
		return SSL_CTX_set_alpn_protos(c->ctx, protos.p, (unsigned)protos.n) ? gtls_take_error() : 0;
	c->alpn = malloc(protos.n);
	if (!c->alpn)
		return out_of_memory();
	c->alpn_len = protos.n;
	memcpy(c->alpn, protos.p, protos.n);
	SSL_CTX_set_alpn_select_cb(c->ctx, gtls_on_alpn, c);
	return 0;
}
