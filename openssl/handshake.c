/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handshake.c: handshakes that wait for Go while the loop does not.
 *
 * OpenSSL asks Go questions in the middle of a handshake: whether the peer's certificates are
 * valid, which certificate a server shows. An answer may take long, so another goroutine works
 * on it, and the handshake rests. libevent takes what SSL_do_handshake returns then for a
 * failure. So on a socket a callback of ours stands before libevent's on both of its events,
 * does the handshake, and calls libevent's when the handshake is done: libevent's own
 * SSL_do_handshake then says so at once.
 *
 * A client rests inside OpenSSL. OpenSSL has no such way for a server that verifies a client:
 * there the certificate passes for the time being, and the wire carries nothing until the
 * answer is there (gated). If the answer is no, the check of the client's signature fails. But a
 * client may send its signature in the record of its certificate. Then OpenSSL checks the signature
 * before the answer, and may have made a ticket in which the client counts as verified. So whatever
 * OpenSSL writes to a refused client fails, except an alert (bio_write in wire.c).
 *
 * On a filter, in a renegotiation, and on a client with OpenSSL 1.1.1, Go answers at once, on
 * the loop's thread.
 */

#include <errno.h>
#include <poll.h>

#include "conn.h"
#include "_cgo_export.h"

/* --- the events of the socket -------------------------------------------------- */

int gtls_add(struct event *ev, const struct timeval *timeout)
{
	return event_add(ev, evutil_timerisset(timeout) ? timeout : NULL);
}

static int wait_for(struct gtls_conn *c, int reading)
{
	struct bufferevent *bev = c->bev;

	event_del(reading ? &bev->ev_write : &bev->ev_read);
	if (reading)
		gtls_add(&bev->ev_read, &bev->timeout_read);
	else
		gtls_add(&bev->ev_write, &bev->timeout_write);
	return 0;
}

/* Reports a failure. libevent would not meet the same one again. gtls_on_info has kept its code. */
static int fail(struct gtls_conn *c, int err)
{
	event_del(&c->bev->ev_read);
	event_del(&c->bev->ev_write);
	errno = err;
	bufferevent_trigger_event(c->bev, BEV_EVENT_ERROR | BEV_EVENT_READING, BEV_TRIG_DEFER_CALLBACKS);
	return 0;
}

/* --- resting ------------------------------------------------------------------- */

/* The timeouts of the connection also limit a rest. */
static void on_rest(evutil_socket_t fd, short what, void *arg)
{
	struct gtls_conn *c = arg;
	const struct bufferevent *bev = c->bev;

	gtls_lock(c);
	if (c->ask.pending && (evutil_timerisset(&bev->timeout_read) || evutil_timerisset(&bev->timeout_write)))
		c->ask.libevents(fd, what, c->ask.arg);
	gtls_unlock(c);
}

/* The timer keeps the loop running, which has perhaps no other event. */
static int rest(struct gtls_conn *c)
{
	struct bufferevent *bev = c->bev;
	struct timeval wait = {24 * 60 * 60, 0};

	if (evutil_timerisset(&bev->timeout_write))
		wait = bev->timeout_write;
	if (evutil_timerisset(&bev->timeout_read))
		wait = bev->timeout_read;
	event_del(&bev->ev_read);
	event_del(&bev->ev_write);
	if (!event_initialized(&c->ask.rest) || !event_pending(&c->ask.rest, EV_TIMEOUT, NULL)) {
		event_assign(&c->ask.rest, bev->ev_base, -1, EV_FINALIZE, on_rest, c);
		event_add(&c->ask.rest, &wait);
	}
	return 0;
}

static void stop_resting(struct gtls_conn *c)
{
	if (event_initialized(&c->ask.rest))
		event_del(&c->ask.rest);
}

/* --- the handshake ------------------------------------------------------------- */

static void decide(struct gtls_conn *c)
{
	if (c->decided || c->ask.refused)
		return;
	c->ask.id++;
	c->decided = (int8_t)gtlsDecide(c->handle, c->ask.id, c->ask.may_rest);
	c->ask.pending = c->decided == GTLS_LATER;
}

/* libevent, or the SSL_read or SSL_write that has led the handshake, would go on with bytes of the
 * user, and only later report the connection. So if Go refuses it, OpenSSL is told that both ends
 * have closed it: then it reads and writes nothing more. OpenSSL would say so only when the peer
 * sends something. */
void gtls_handshake_done(struct gtls_conn *c)
{
	decide(c);
	if (c->decided == GTLS_YES)
		return;
	SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	bufferevent_trigger_event(c->bev, BEV_EVENT_ERROR | BEV_EVENT_READING, BEV_TRIG_DEFER_CALLBACKS);
}

/* OpenSSL also leaves its handshake after each message of TLS 1.3 that comes later. */
void gtls_handshake_left(struct gtls_conn *c)
{
	if (c->decided != GTLS_YES || (c->open && SSL_version(c->ssl) >= TLS1_3_VERSION))
		return;
	gtls_conn_opened(c);
	gtls_renegotiated(c);
}

/* Whether libevent's callback shall be called now. Locked. */
static int handshake(struct gtls_conn *c)
{
	int rc, err;

	if (c->ask.pending)
		return rest(c);
	ERR_clear_error();
	errno = 0;
	c->ask.may_rest = 1;
	rc = SSL_do_handshake(c->ssl);
	err = errno;
	if (rc == 1 && !c->ask.pending)
		decide(c);
	c->ask.may_rest = 0;
	if (c->ask.pending)
		return rest(c);
	if (rc == 1 && c->decided != GTLS_YES)
		return fail(c, EPROTO);
	if (rc == 1) {
		gtls_conn_opened(c);
		return 1;
	}
	switch (SSL_get_error(c->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		return wait_for(c, 1);
	case SSL_ERROR_WANT_WRITE:
		return wait_for(c, 0);
	}
	ERR_clear_error();
	return fail(c, err);
}

/* --- the first byte ------------------------------------------------------------- */

/* A recv would take the error of a reset away. */
static int is_readable(const struct gtls_conn *c)
{
	struct pollfd p = {c->wire.fd, POLLIN, 0};

	return poll(&p, 1, 0) > 0;
}

/* Whether a server has to wait until its client sends something. OpenSSL allocates 40 KiB when the
 * handshake starts, so a client that sends nothing must not start it. */
static int is_idle(struct gtls_conn *c, short what)
{
	if (!c->server || !SSL_in_before(c->ssl) || (what & EV_READ) || is_readable(c))
		return 0;
	if (!c->idle) {
		gtls_conn_restart(c);
		gtls_guard_start(c);
		c->idle = 1;
	}
	wait_for(c, 1);
	return 1;
}

/* --- in front of libevent ------------------------------------------------------ */

/* Without questions libevent's own handshake would do, but libevent 2.2 takes the error of the socket
 * away before OpenSSL looks, and reports it without its cause. */
static int is_ours(const struct gtls_conn *c)
{
	return !c->renegotiates && (c->asks || LIBEVENT_VERSION_NUMBER >= 0x02020000);
}

/* libevent enables the connection for a moment when a filter is put on it, also if the handshake
 * may not start yet. */
static void on_ready(evutil_socket_t fd, short what, void *arg)
{
	struct gtls_conn *c = arg;

	gtls_lock(c);
	if (!c->unstarted && ((what & EV_TIMEOUT) || (!is_idle(c, what) && (!is_ours(c) || handshake(c))))) {
		gtls_wire_keep_error(c);
		c->ask.libevents(fd, what, c->ask.arg);
	}
	gtls_unlock(c);
}

event_callback_fn gtls_stand_before(struct gtls_conn *c, struct event *ev, const struct timeval *timeout, event_callback_fn ours, void **arg)
{
	int priority = event_get_priority(ev), pending = event_pending(ev, EV_READ | EV_WRITE, NULL);
	event_callback_fn libevents = event_get_callback(ev);

	*arg = event_get_callback_arg(ev);
	event_del(ev);
	event_assign(ev, event_get_base(ev), event_get_fd(ev), event_get_events(ev), ours, c);
	event_priority_set(ev, priority);
	if (pending)
		gtls_add(ev, timeout);
	return libevents;
}

void gtls_handshake_intercept(struct gtls_conn *c)
{
	if (SSL_get_SSL_CTX(c->ssl) != c->ctx->ctx)
		gtls_conn_follow(c, c->ctx);
	if (c->under.bev || c->wire.fd < 0)
		return;
	gtls_stand_before(c, &c->bev->ev_read, &c->bev->timeout_read, on_ready, &c->ask.arg);
	c->ask.libevents = gtls_stand_before(c, &c->bev->ev_write, &c->bev->timeout_write, on_ready, &c->ask.arg);
}

/* --- questions and answers ------------------------------------------------------ */

int gtls_ask(struct gtls_conn *c, int kind, const void *what)
{
	int answer;

	if (c->ask.kind == kind)
		return c->ask.answer == GTLS_YES;
	c->ask.id++;
	if (kind == GTLS_ASK_HELLO)
		answer = gtlsHello(c->handle, (struct gtls_hello *)what, c->ask.id, c->ask.may_rest);
	else
		answer = gtlsRequest(c->handle, (struct gtls_request *)what, c->ask.id, c->ask.may_rest);
	c->ask.pending = answer == GTLS_LATER;
	if (c->ask.pending)
		return -1;
	c->ask.kind = kind;
	c->ask.answer = answer;
	return answer == GTLS_YES;
}

int gtls_conn_show(struct gtls_conn *c, const struct gtls_cert *cert)
{
	int ok;

	gtls_lock(c);
	ERR_clear_error();
	SSL_certs_clear(c->ssl);
	ok = !cert || SSL_use_cert_and_key(c->ssl, cert->leaf, cert->key, cert->chain, 1);
	c->shows = 1;
	ERR_clear_error();
	gtls_unlock(c);
	return ok;
}

/* A connection that was made without renegotiation keeps so: only libevent can do that, and the fast path
 * reads and writes. */
int gtls_conn_follow(struct gtls_conn *c, struct gtls_ctx *ctx)
{
	int ok;

	gtls_lock(c);
	ERR_clear_error();
	ok = SSL_set_SSL_CTX(c->ssl, ctx->ctx) != NULL &&
	    SSL_set_min_proto_version(c->ssl, (int)SSL_CTX_get_min_proto_version(ctx->ctx)) &&
	    SSL_set_max_proto_version(c->ssl, (int)SSL_CTX_get_max_proto_version(ctx->ctx));
	SSL_set_verify(c->ssl, SSL_CTX_get_verify_mode(ctx->ctx), NULL);
	SSL_clear_options(c->ssl, SSL_get_options(c->ssl));
	SSL_set_options(c->ssl, SSL_CTX_get_options(ctx->ctx) | (c->renegotiates ? 0 : SSL_OP_NO_RENEGOTIATION));
	ERR_clear_error();
	gtls_unlock(c);
	return ok;
}

/* Free removes the descriptor, and with it what is pending. So while something is pending on the
 * loop's thread, the bufferevent and its lock exist. An answer that comes after HandshakeTimeout is dropped. */
int gtls_conn_waits(struct gtls_conn *c, unsigned id)
{
	int waits;

	if (!c->ask.pending)
		return 0;
	gtls_lock(c);
	waits = c->ask.pending && c->ask.id == id && !c->failed && !c->guard.gave_up;
	gtls_unlock(c);
	return waits;
}

int gtls_ask_verify(struct gtls_conn *c, STACK_OF(X509) *sent)
{
	int may_rest = c->ask.may_rest;

	if (c->ask.kind == GTLS_ASK_VERIFY)
		return c->ask.answer;
#if OPENSSL_VERSION_NUMBER < 0x30000000L
	may_rest = may_rest && c->server;
#endif
	c->ask.id++;
	c->ask.answer = gtlsVerify(c->handle, sent, c->ask.id, may_rest);
	c->ask.pending = c->ask.answer == GTLS_LATER;
	if (!c->ask.pending) {
		c->ask.kind = GTLS_ASK_VERIFY;
		return c->ask.answer;
	}
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
	if (!c->server)
		SSL_set_retry_verify(c->ssl);
#endif
	c->ask.gated = c->server;
	return X509_V_OK;
}

void gtls_conn_answer(struct gtls_conn *c, unsigned id, int kind, int answer)
{
	gtls_lock(c);
	if (gtls_conn_waits(c, id)) {
		c->ask.pending = c->ask.gated = 0;
		c->ask.kind = answer == GTLS_LATER ? 0 : kind;
		c->ask.answer = answer;
		c->ask.refused = kind == GTLS_ASK_VERIFY && c->server && answer != X509_V_OK;
		if (c->ask.refused)
			gtls_guard_hurry(c);
		if (kind == GTLS_ASK_CONFIRM)
			c->decided = (int8_t)answer;
		stop_resting(c);
		/* As in gtls_pending, event_add comes first. */
		gtls_add(&c->bev->ev_write, &c->bev->timeout_write);
		event_active(&c->bev->ev_write, EV_WRITE, 0);
	}
	gtls_unlock(c);
}

void gtls_ask_restart(struct gtls_conn *c)
{
	c->ask.pending = c->ask.gated = c->ask.refused = c->ask.knows_hello = 0;
	c->ask.kind = 0;
	c->decided = c->shows = 0;
	stop_resting(c);
}

/* --- what OpenSSL asks on the way ------------------------------------------------ */

/* A group of finite fields. With the largest ones OpenSSL computes for 100 ms, and the peer needs not compute at
 * all. crypto/tls has none of them. */
static int is_ffdhe(int op, const unsigned char *group)
{
	return (op & (int)SSL_SECOP_OTHER_TYPE) == SSL_SECOP_OTHER_CURVE && group && group[0] == 1;
}

/* Parameters of more than about 4096 bits for DHE, which the server chooses. */
static int is_large_dh(int op, int bits)
{
	return op == SSL_SECOP_TMP_DH && bits > 160;
}

/* OpenSSL asks this about each group, and before it checks a signature of the peer. It sends an alert if the answer is
 * no: so a server refuses a client. */
static int on_security(const SSL *ssl, const SSL_CTX *ctx, int op, int bits, int nid, void *other, void *arg)
{
	struct gtls_conn *c = ssl && op == SSL_SECOP_SIGALG_CHECK ? gtls_conn_of(ssl) : NULL;

	if ((c && c->ask.refused) || is_ffdhe(op, other) || is_large_dh(op, bits))
		return 0;
	return ((struct gtls_ctx *)arg)->security(ssl, ctx, op, bits, nid, other, NULL);
}

void gtls_ctx_use_security(struct gtls_ctx *c)
{
	c->security = SSL_CTX_get_security_callback(c->ctx);
	SSL_CTX_set0_security_ex_data(c->ctx, c);
	SSL_CTX_set_security_callback(c->ctx, on_security);
}
