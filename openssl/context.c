/* SPDX-License-Identifier: BSD-3-Clause */
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

/* OpenSSL 3.2 has this option. A program may be built with an older header. */
#define NO_RX_CERTIFICATE_COMPRESSION ((uint64_t)1 << 33)

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
#if OPENSSL_VERSION_NUMBER >= 0x30000000L /* chain.c could not look into them */
	SSL_CTX_set_options(c->ctx, NO_RX_CERTIFICATE_COMPRESSION);
#endif
	/* Only a CipherList can ask for DHE, which needs parameters on a server. */
	SSL_CTX_set_dh_auto(c->ctx, 1);
	SSL_CTX_set_max_cert_list(c->ctx, GTLS_MAX_CHAIN_BYTES);
	gtls_ctx_use_security(c);
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
	if (c->server)
		SSL_CTX_set_client_hello_cb(c->ctx, gtls_on_hello, NULL);
	if (tickets >= 0 && !SSL_CTX_set_num_tickets(c->ctx, (size_t)tickets))
		return 0;
	/* A server accepts only sessions of its own context, which has this ID. */
	if (!gtls_ctx_use_staples(c) || (c->server && !gtls_ctx_use_tickets(c)) || RAND_bytes(id, sizeof(id)) != 1)
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
	gtls_tickets_free(c->tickets);
	for (i = 0; i < c->ncerts; i++)
		gtls_cert_free(c->certs[i]);
	free(c->certs);
	free(c->alpn);
	free(c);
}

static int highest(int a, int b)
{
	return a > b ? a : b;
}

/* openssl.cnf has set bounds already, when the SSL_CTX was made. */
unsigned long gtls_ctx_versions(struct gtls_ctx *c, int min, int max)
{
	ERR_clear_error();
	if (!min)
		min = highest((int)SSL_CTX_get_min_proto_version(c->ctx), TLS1_2_VERSION);
	if (!max)
		max = (int)SSL_CTX_get_max_proto_version(c->ctx);
	if (max && max < min)
		return ERR_PACK(ERR_LIB_SSL, 0, SSL_R_NO_PROTOCOLS_AVAILABLE);
	if (!SSL_CTX_set_min_proto_version(c->ctx, min) || !SSL_CTX_set_max_proto_version(c->ctx, max))
		return gtls_take_error();
	return 0;
}

/* --- certificates ----------------------------------------------------------- */

unsigned long gtls_ctx_add_cert(struct gtls_ctx *c, struct gtls_cert *cert)
{
	struct gtls_cert **certs = realloc(c->certs, (c->ncerts + 1) * sizeof(*certs));

	ERR_clear_error();
	if (!certs) {
		gtls_cert_free(cert);
		return out_of_memory();
	}
	c->certs = certs;
	certs[c->ncerts++] = cert;
	/* The SSL_CTX has one certificate for each type of key. It gets the first one only,
	 * and gtls_on_cert chooses if there are more. */
	if (c->ncerts == 1 && !SSL_CTX_use_cert_and_key(c->ctx, cert->leaf, cert->key, cert->chain, 1))
		return gtls_take_error();
	if (!c->server)
		SSL_CTX_set_cert_cb(c->ctx, gtls_on_cert_request, c);
	return 0;
}

void gtls_ctx_ask_hello(struct gtls_ctx *c)
{
	c->asks = c->asks_hello = 1;
	SSL_CTX_set_cert_cb(c->ctx, gtls_on_cert, c);
}

void gtls_ctx_ask_cert(struct gtls_ctx *c)
{
	c->asks = c->gets_cert = 1;
	SSL_CTX_set_cert_cb(c->ctx, gtls_on_cert_request, c);
}

void gtls_ctx_pick_certs(struct gtls_ctx *c)
{
	SSL_CTX_set_cert_cb(c->ctx, gtls_on_cert, c);
}

/* --- verification ------------------------------------------------------------ */

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

void gtls_ctx_ask(struct gtls_ctx *c)
{
	c->asks = 1;
}

void gtls_ctx_verify(struct gtls_ctx *c, int asked, int required)
{
	int mode = asked ? SSL_VERIFY_PEER : SSL_VERIFY_NONE;

	SSL_CTX_set_verify(c->ctx, required ? mode | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : mode, NULL);
	SSL_CTX_set_cert_verify_callback(c->ctx, gtls_on_verify, NULL);
	if (asked)
		gtls_ctx_ask(c);
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
