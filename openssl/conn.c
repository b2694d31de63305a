/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn.c: the C half of Conn: making, the handshake, the end.
 *
 * libevent does not own the SSL. With BEV_OPT_CLOSE_ON_FREE it would free the SSL, but also
 * close the descriptor, which the root package closes. So gtls_gone frees the SSL, once
 * libevent has destroyed the bufferevent.
 */

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "conn.h"
#include "_cgo_export.h"

/* --- making and freeing ------------------------------------------------------- */

struct gtls_conn *gtls_conn_new(struct gtls_ctx *ctx, int64_t limit, uintptr_t handle, unsigned long *code)
{
	struct gtls_conn *c = calloc(1, sizeof(*c));

	ERR_clear_error();
	if (!c) {
		*code = ERR_PACK(ERR_LIB_SSL, 0, ERR_R_MALLOC_FAILURE);
		return NULL;
	}
	c->handle = handle;
	c->ctx = ctx;
	c->server = ctx->server;
	c->renegotiates = ctx->renegotiates;
	c->asks = ctx->asks;
	c->guard.limit.tv_sec = limit / 1000000;
	c->guard.limit.tv_usec = limit % 1000000;
	c->ssl = SSL_new(ctx->ctx);
	if (!c->ssl || !SSL_set_ex_data(c->ssl, gtls_conn_index(), c)) {
		*code = gtls_take_error();
		gtls_conn_free(c);
		return NULL;
	}
	return c;
}

void gtls_conn_free(struct gtls_conn *c)
{
	gtls_ask_restart(c);
	SSL_free(c->ssl);
	SSL_SESSION_free(c->session);
	OPENSSL_free(c->scts);
	OPENSSL_free(c->name);
	gtls_wire_free(c);
	gtls_guard_free(c);
	free(c);
}

struct bufferevent *gtls_make(struct event_base *base, struct bufferevent *under, int options, void *arg)
{
	struct gtls_conn *c = arg;
	enum bufferevent_ssl_state state = c->server ? BUFFEREVENT_SSL_ACCEPTING : BUFFEREVENT_SSL_CONNECTING;

	ERR_clear_error();
	gtls_conn_offer_session(c);
	if (under)
		c->bev = bufferevent_openssl_filter_new(base, under, c->ssl, state, options);
	else
		c->bev = bufferevent_openssl_socket_new(base, -1, c->ssl, state, options);
	ERR_clear_error();
	if (c->bev && (gtls_guard_init(c, base) < 0 || gtls_wire_init(c, under != NULL) < 0 ||
	    ((under || c->renegotiates) && gtls_output_init(c) < 0) || (under && gtls_under_init(c, under) < 0))) {
		bufferevent_free(c->bev);
		c->bev = NULL;
	}
	return c->bev;
}

/* The bufferevent is freed; what is registered is removed. */
void gtls_quiet(struct bufferevent *bev)
{
	struct gtls_conn *c = gtls_conn_of(bufferevent_openssl_get_ssl(bev));

	c->freed = 1;
	gtls_guard_stop(c);
	gtls_ask_restart(c);
	gtls_wire_quiet(c);
	gtls_renegotiate_quiet(c);
}

/* libevent has destroyed the bufferevent, but not its output yet. */
void gtls_gone(void *arg)
{
	struct gtls_conn *c = arg;
	uintptr_t handle = c->handle;

	gtls_output_free(c);
	gtls_under_free(c);
	gtls_conn_free(c);
	gtlsGone(handle);
}

/* --- the name and the session --------------------------------------------------- */

unsigned long gtls_conn_set_name(struct gtls_conn *c, const char *name)
{
	unsigned long code;

	gtls_lock(c);
	ERR_clear_error();
	code = SSL_set_tlsext_host_name(c->ssl, name) ? 0 : gtls_take_error();
	gtls_unlock(c);
	return code;
}

void gtls_conn_set_session(struct gtls_conn *c, SSL_SESSION *session)
{
	gtls_lock(c);
	SSL_SESSION_free(c->session);
	c->session = session;
	gtls_unlock(c);
}

void gtls_conn_offer_session(struct gtls_conn *c)
{
	if (!c->server)
		SSL_set_session(c->ssl, c->session);
}

int64_t gtls_conn_may_connect(struct gtls_conn *c)
{
	int64_t rc;

	gtls_lock(c);
	rc = SSL_in_before(c->ssl) || c->failed ? 0 : -EISCONN;
	gtls_unlock(c);
	return rc;
}

/* --- the socket and the handshake ----------------------------------------------- */

int gtls_check_fd(int fd)
{
	int type = 0, listens = 0;
	socklen_t len = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return errno;
	if (type != SOCK_STREAM)
		return EPROTOTYPE;
	len = sizeof(listens);
	/* A handshake on a listening socket would wait until its timeout. */
	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens ? EINVAL : 0;
}

int64_t gtls_conn_set_fd(struct gtls_conn *c, int fd)
{
	int rc;

	if (evutil_make_socket_nonblocking(fd) < 0)
		return -errno;
	rc = bufferevent_setfd(c->bev, fd);
	gtls_socket(c->bev);
	c->unstarted = 1;
	ERR_clear_error();
	return rc < 0 ? -EIO : 0;
}

/* libevent starts or continues the handshake when the socket can be written to, also if it does not
 * wait for that. While the socket is connecting libevent waits for that by itself. */
void gtls_start(struct bufferevent *bev)
{
	struct gtls_conn *c = gtls_conn_of(bufferevent_openssl_get_ssl(bev));
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	if (c->open)
		return;
	c->unstarted = 0;
	gtls_guard_end_timed_out(c);
	if (c->under.bev)
		gtls_under_wake(c);
	else if (bufferevent_getfd(bev) >= 0 && getpeername(bufferevent_getfd(bev), (struct sockaddr *)&peer, &len) == 0)
		event_active(&bev->ev_write, EV_WRITE, 0);
}

int gtls_is_linked(struct bufferevent *bev)
{
	struct gtls_conn *c = gtls_conn_of(bufferevent_openssl_get_ssl(bev));

	return c->under.bev && gtls_under_is_linked(c);
}

int gtls_is_open(struct bufferevent *bev)
{
	return gtls_conn_of(bufferevent_openssl_get_ssl(bev))->open;
}

static int64_t renegotiate(struct gtls_conn *c)
{
	if (c->under.bev) {
		if (bufferevent_ssl_renegotiate(c->bev) < 0)
			return -EIO;
		gtls_under_intercept(c);
		gtls_under_wake(c);
		return 0;
	}
	gtls_renegotiate(c);
	return 0;
}

int64_t gtls_conn_renegotiate(struct gtls_conn *c, int begin)
{
	int64_t rc = 0;

	gtls_lock(c);
	ERR_clear_error();
	if ((!SSL_is_init_finished(c->ssl) && !gtls_renegotiate_under_way(c)) || (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN))
		rc = -ENOTCONN;
	else if (SSL_version(c->ssl) >= TLS1_3_VERSION || (SSL_get_options(c->ssl) & SSL_OP_NO_RENEGOTIATION))
		rc = -ENOTSUP;
	else if (begin)
		rc = renegotiate(c);
	ERR_clear_error();
	gtls_unlock(c);
	return rc;
}

SSL *gtls_conn_ssl(struct gtls_conn *c)
{
	return bufferevent_openssl_get_ssl(c->bev);
}

/* --- the end -------------------------------------------------------------------- */

/* Whether OpenSSL is in the middle of a renegotiation, or of a message of TLS 1.3. The peer decides
 * when that ends. OpenSSL does not send close_notify meanwhile. */
static int is_busy(const struct gtls_conn *c)
{
	return c->open && SSL_in_init(c->ssl) && !gtls_has_failed(c) && !c->told_end && !c->guard.gave_up;
}

/* C code has called SSL_key_update. OpenSSL sends that with the next data, of which there is none any more. */
static void update_keys(struct gtls_conn *c)
{
	ERR_clear_error();
	c->wire.puts_aside = 1;
	SSL_do_handshake(c->ssl);
	c->wire.puts_aside = 0;
	ERR_clear_error();
}

/* Whether close_notify still waits for room in the socket. It does so in the wire, and not in OpenSSL, which
 * would write an answer to the peer in the middle of it. Once SSL_shutdown has sent it, another call would read. */
int gtls_shutdown(struct bufferevent *bev)
{
	SSL *ssl = bufferevent_openssl_get_ssl(bev);
	struct gtls_conn *c = gtls_conn_of(ssl);
	int rc, err;

	if (!SSL_is_init_finished(ssl) && SSL_get_key_update_type(ssl) != SSL_KEY_UPDATE_NONE)
		update_keys(c);
	if (!SSL_is_init_finished(ssl))
		return is_busy(c) ? 1 : -ENOTCONN;
	if (SSL_get_shutdown(ssl) & SSL_SENT_SHUTDOWN)
		return gtls_wire_flush(c);
	ERR_clear_error();
	errno = 0;
	c->wire.puts_aside = 1;
	rc = SSL_shutdown(ssl);
	c->wire.puts_aside = 0;
	err = errno;
	ERR_clear_error();
	return rc < 0 ? -(err ? err : EPIPE) : gtls_wire_flush(c);
}
