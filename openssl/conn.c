/*
 * conn.c: the native half of Conn.
 *
 * The SSL is not given to libevent (BEV_OPT_CLOSE_ON_FREE), for with it goes a
 * descriptor that is the root package's to close. It is freed when libevent has
 * destroyed the bufferevent.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <openssl/x509v3.h>

#include "native.h"
#include "_cgo_export.h"

static void lock(struct gtls_conn *c)
{
	evbuffer_lock(bufferevent_get_input(c->bev));
}

static void unlock(struct gtls_conn *c)
{
	evbuffer_unlock(bufferevent_get_input(c->bev));
}

/* --- making and freeing ------------------------------------------------------- */

struct gtls_conn *gtls_conn_new(struct gtls_ctx *ctx, int verify, uintptr_t handle, unsigned long *code)
{
	struct gtls_conn *c = calloc(1, sizeof(*c));

	ERR_clear_error();
	if (!c) {
		*code = ERR_PACK(ERR_LIB_SSL, 0, ERR_R_MALLOC_FAILURE);
		return NULL;
	}
	c->handle = handle;
	c->server = ctx->server;
	c->renegotiates = ctx->renegotiates;
	c->by_store = verify == GTLS_VERIFY_STORE;
	c->ssl = SSL_new(ctx->ctx);
	if (!c->ssl || !SSL_set_ex_data(c->ssl, gtls_conn_index(), c)) {
		*code = gtls_failed();
		gtls_conn_free(c);
		return NULL;
	}
	return c;
}

static int set_name(struct gtls_conn *c, const char *name, int is_ip)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(c->ssl);

	/* There are no addresses in SNI. */
	if (!SSL_set_tlsext_host_name(c->ssl, is_ip ? NULL : (char *)name))
		return 0;
	if (!c->by_store)
		return 1;
	/* As crypto/x509 has it: a name in the subject is none. */
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	return X509_VERIFY_PARAM_set1_host(param, is_ip ? NULL : name, 0) &&
	    (is_ip ? X509_VERIFY_PARAM_set1_ip_asc(param, name) : X509_VERIFY_PARAM_set1_ip(param, NULL, 0));
}

unsigned long gtls_conn_set_name(struct gtls_conn *c, const char *name, int is_ip)
{
	unsigned long code;

	if (c->bev)
		lock(c);
	ERR_clear_error();
	code = set_name(c, name, is_ip) ? 0 : gtls_failed();
	c->named = code == 0;
	if (c->bev)
		unlock(c);
	return code;
}

void gtls_conn_set_session(struct gtls_conn *c, SSL_SESSION *session)
{
	if (c->bev)
		lock(c);
	SSL_SESSION_free(c->session);
	c->session = session;
	if (c->bev)
		unlock(c);
}

void gtls_conn_resume(struct gtls_conn *c)
{
	if (!c->server)
		SSL_set_session(c->ssl, c->session);
}

int64_t gtls_conn_may_connect(struct gtls_conn *c)
{
	int64_t rc;

	lock(c);
	rc = SSL_in_before(c->ssl) || c->failed ? 0 : -EISCONN;
	unlock(c);
	return rc;
}

void gtls_conn_free(struct gtls_conn *c)
{
	gtls_release(c->peer);
	X509_free(c->wrong);
	SSL_free(c->ssl);
	SSL_SESSION_free(c->session);
	gtls_wire_free(c);
	free(c);
}

struct bufferevent *gtls_make(struct event_base *base, struct bufferevent *under, int options, void *arg)
{
	struct gtls_conn *c = arg;
	enum bufferevent_ssl_state state = c->server ? BUFFEREVENT_SSL_ACCEPTING : BUFFEREVENT_SSL_CONNECTING;

	ERR_clear_error();
	gtls_conn_resume(c);
	if (under)
		c->bev = bufferevent_openssl_filter_new(base, under, c->ssl, state, options);
	else
		c->bev = bufferevent_openssl_socket_new(base, -1, c->ssl, state, options);
	ERR_clear_error();
	if (c->bev && (((under || c->renegotiates) && gtls_record_init(c) < 0) ||
	    (under && gtls_under_init(c, under) < 0))) {
		bufferevent_free(c->bev);
		c->bev = NULL;
	}
	return c->bev;
}

/* Between the end of the bufferevent and that of its buffers. */
void gtls_gone(void *arg)
{
	struct gtls_conn *c = arg;
	uintptr_t handle = c->handle;

	gtls_record_free(c);
	gtls_under_free(c);
	gtls_conn_free(c);
	gtlsGone(handle);
}

int gtls_check_fd(int fd)
{
	int type = 0;
	socklen_t len = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return errno;
	return type == SOCK_STREAM ? 0 : EPROTOTYPE;
}

/* WRITE is off until there are closures, which else would miss the end of the handshake. */
int64_t gtls_conn_set_fd(struct gtls_conn *c, int fd)
{
	int rc;

	if (evutil_make_socket_nonblocking(fd) < 0)
		return -errno;
	bufferevent_disable(c->bev, EV_WRITE);
	rc = bufferevent_setfd(c->bev, fd);
	gtls_socket(c->bev);
	ERR_clear_error();
	return rc < 0 ? -EIO : 0;
}

int64_t gtls_conn_begin(struct gtls_conn *c)
{
	lock(c);
	if (!c->begun) {
		c->begun = 1;
		if (!c->under && bufferevent_getfd(c->bev) >= 0)
			bufferevent_enable(c->bev, EV_WRITE);
		gtls_under_kick(c);
	}
	unlock(c);
	return 0;
}

/* --- renegotiation and the end -------------------------------------------------- */

int64_t gtls_conn_renegotiate(struct gtls_conn *c, int begin)
{
	int64_t rc = 0;

	lock(c);
	ERR_clear_error();
	if (!SSL_is_init_finished(c->ssl))
		rc = -ENOTCONN;
	else if (SSL_version(c->ssl) >= TLS1_3_VERSION || (SSL_get_options(c->ssl) & SSL_OP_NO_RENEGOTIATION))
		rc = -ENOTSUP;
	else if (begin && bufferevent_ssl_renegotiate(c->bev) < 0)
		rc = -EIO;
	if (begin && rc == 0) {
		gtls_under_guard(c);
		gtls_under_kick(c);
	}
	ERR_clear_error();
	unlock(c);
	return rc;
}

/* SSL_shutdown also reads, when it is called again after it has sent its alert. */
int gtls_shutdown(struct bufferevent *bev)
{
	SSL *ssl = bufferevent_openssl_get_ssl(bev);
	struct gtls_conn *c = gtls_conn_of(ssl);
	int rc, err;

	if (!SSL_is_init_finished(ssl))
		return -ENOTCONN;
	if ((SSL_get_shutdown(ssl) & SSL_SENT_SHUTDOWN) && !c->shutting)
		return 0;
	ERR_clear_error();
	errno = 0;
	rc = SSL_shutdown(ssl);
	err = rc < 0 ? SSL_get_error(ssl, rc) : SSL_ERROR_NONE;
	ERR_clear_error();
	c->shutting = err == SSL_ERROR_WANT_WRITE;
	if (err == SSL_ERROR_NONE)
		return 0;
	return c->shutting ? 1 : -(errno ? errno : EPIPE);
}

/* --- what happened ---------------------------------------------------------------- */

/* libevent gives them in reverse order: last comes the class of the failure, one of
 * SSL_ERROR_. libevent 2.2 gives none: then it is what gtls_on_info saw. */
int gtls_codes(struct bufferevent *bev, unsigned long *codes, int n)
{
	struct gtls_conn *c = gtls_conn_of(bufferevent_openssl_get_ssl(bev));
	int i = 0;

	while (i < n && (codes[i] = bufferevent_get_openssl_error(bev)) != 0)
		i++;
	lock(c);
	if (i == 0 && c->code)
		codes[i++] = c->code;
	c->code = 0;
	unlock(c);
	return i;
}

/* libevent leaves on what has ended, and with the end of reading stops writing. */
static void settle(struct gtls_conn *c, short what)
{
	short off = 0;

	/* The peer's end may come together with a write that has failed, or be what
	 * libevent calls one. */
	if ((what & BEV_EVENT_EOF) && !(what & BEV_EVENT_WRITING)) {
		off = EV_READ;
	} else if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) {
		off = EV_READ | EV_WRITE;
	} else if (what & BEV_EVENT_TIMEOUT) {
		if (what & BEV_EVENT_READING)
			off |= EV_READ;
		if (what & BEV_EVENT_WRITING)
			off |= EV_WRITE;
		if (!off) /* of the handshake */
			off = EV_READ | EV_WRITE;
	}
	if (off)
		bufferevent_disable(c->bev, off);
	if (off == EV_READ && (bufferevent_get_enabled(c->bev) & EV_WRITE) &&
	    evbuffer_get_length(bufferevent_get_output(c->bev)))
		bufferevent_enable(c->bev, EV_WRITE);
}

/* A new connection, perhaps on another socket. */
void gtls_conn_restart(struct gtls_conn *c)
{
	c->code = 0;
	c->failed = 0;
	c->shutting = 0;
	gtls_wire_restart(c);
}

struct gtls_said gtls_conn_event(struct gtls_conn *c, short what)
{
	struct gtls_said said;

	lock(c);
	said.closed = (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
	said.before = SSL_in_before(c->ssl) ||
	    (!SSL_is_init_finished(c->ssl) && BIO_number_read(SSL_get_rbio(c->ssl)) == c->wire.before);
	said.again = c->failed;
	said.eof = BIO_eof(SSL_get_rbio(c->ssl)) > 0;
	if ((what & BEV_EVENT_ERROR) && !SSL_in_before(c->ssl))
		c->failed = 1;
	settle(c, what);
	unlock(c);
	return said;
}

int gtls_conn_failure(struct gtls_conn *c, STACK_OF(X509) **peer, STACK_OF(X509) **wrong)
{
	int error;

	lock(c);
	error = c->verify_error;
	*peer = c->peer;
	*wrong = NULL;
	if (c->wrong && ((*wrong = sk_X509_new_null()) == NULL || !sk_X509_push(*wrong, c->wrong)))
		X509_free(c->wrong);
	c->verify_error = 0;
	c->peer = NULL;
	c->wrong = NULL;
	unlock(c);
	return error;
}

int gtls_session_fresh(SSL_SESSION *session)
{
	return SSL_SESSION_is_resumable(session) &&
	    SSL_SESSION_get_time(session) + SSL_SESSION_get_timeout(session) > time(NULL);
}

/* --- what is known ------------------------------------------------------------------ */

static STACK_OF(X509) *peer_of(SSL *ssl)
{
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl), *all = sk_X509_new_null();
	X509 *leaf = SSL_get_peer_certificate(ssl); /* a reference */
	int i;

	if (leaf && (!all || !sk_X509_push(all, leaf)))
		X509_free(leaf);
	/* A server's view of the chain is without the leaf. */
	for (i = SSL_is_server(ssl) ? 0 : 1; all && i < sk_X509_num(chain); i++) {
		X509 *x = sk_X509_value(chain, i);

		if (sk_X509_push(all, x))
			X509_up_ref(x);
	}
	return all;
}

int64_t gtls_conn_state(struct gtls_conn *c, struct gtls_state *s, unsigned char alpn[256])
{
	const SSL_CIPHER *cipher;
	const char *name;
	const unsigned char *proto;

	memset(s, 0, sizeof(*s));
	lock(c);
	cipher = SSL_get_current_cipher(c->ssl);
	if (!cipher) {
		unlock(c);
		return -ENOTCONN;
	}
	s->version = SSL_version(c->ssl);
	s->cipher = SSL_CIPHER_get_protocol_id(cipher);
	s->cipher_name = SSL_CIPHER_standard_name(cipher);
	s->resumed = SSL_session_reused(c->ssl);
	SSL_get0_alpn_selected(c->ssl, &proto, &s->alpn_len);
	memcpy(alpn, proto, s->alpn_len);
	name = SSL_get_servername(c->ssl, TLSEXT_NAMETYPE_host_name);
	if (name)
		strncpy(s->name, name, sizeof(s->name) - 1);
	s->peer = peer_of(c->ssl);
	ERR_clear_error();
	unlock(c);
	return 0;
}

int gtls_count(STACK_OF(X509) *certs)
{
	return certs ? sk_X509_num(certs) : 0;
}

unsigned char *gtls_der(STACK_OF(X509) *certs, int i, int *n)
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

void gtls_release(STACK_OF(X509) *certs)
{
	sk_X509_pop_free(certs, X509_free);
}
