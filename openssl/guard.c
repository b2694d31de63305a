/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guard.c: what a peer may cost: the time of a handshake, and records without data.
 *
 * Each byte of a handshake restarts libevent's timeouts, so a peer could keep a handshake
 * open for ever. A timer bounds the handshake as a whole.
 *
 * A record without data costs OpenSSL as much as one with data, and the closures never learn
 * of it. A peer needs few of them: after GTLS_MAX_WITHOUT_DATA in a row the connection ends. A record
 * may contain thousands of messages, such as requests for a renegotiation or tickets, and OpenSSL
 * answers each. So messages are counted. Of a message that has many records, because it is long, the
 * first ones do not count. Nothing more is read or written then
 * (wire.c), because OpenSSL would read on. The records of a renegotiation that the Config allows do
 * not count, because its peer is trusted, and large certificates may need many.
 *
 * A peer may also send a part of a message, and not the rest: of a KeyUpdate, or before TLS 1.3 of
 * a request for a renegotiation that will be refused. OpenSSL then lets no SSL_write through until
 * the rest has come. The socket has room, so whoever wants to write would
 * try again and again. libevent would even do so in one call, for ever, if meanwhile a limit has
 * stopped writing. So if there is something to write, the call of OpenSSL fails. In a renegotiation
 * libevent does not write (renegotiate.c).
 */

#include <openssl/ssl3.h>

#include "conn.h"

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#define ERR_raise(lib, reason) ERR_put_error(lib, 0, reason, __FILE__, __LINE__)
#endif

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct gtls_conn *c = arg;

	(void)fd;
	(void)what;
	gtls_lock(c);
	/* While this waited for the lock, another thread may have stopped the timer, and started it again. */
	if (!c->open && c->guard.running && !event_pending(c->guard.deadline, EV_TIMEOUT, NULL)) {
		c->guard.gave_up = GTLS_TIMED_OUT;
		bufferevent_trigger_event(c->bev, c->ask.refused ? BEV_EVENT_ERROR | BEV_EVENT_READING : BEV_EVENT_TIMEOUT, BEV_TRIG_DEFER_CALLBACKS);
	}
	gtls_unlock(c);
}

void gtls_guard_end_timed_out(struct gtls_conn *c)
{
	if (c->guard.gave_up == GTLS_TIMED_OUT)
		bufferevent_trigger_event(c->bev, BEV_EVENT_ERROR | BEV_EVENT_READING, BEV_TRIG_DEFER_CALLBACKS);
}

int gtls_guard_init(struct gtls_conn *c, struct event_base *base)
{
	if (!c->guard.limit.tv_sec && !c->guard.limit.tv_usec)
		return 0;
	c->guard.deadline = event_new(base, -1, EV_FINALIZE, on_deadline, c);
	return c->guard.deadline ? 0 : -1;
}

void gtls_guard_free(struct gtls_conn *c)
{
	if (c->guard.deadline)
		event_free(c->guard.deadline);
}

void gtls_guard_restart(struct gtls_conn *c)
{
	c->guard.without_data = 0;
	c->guard.gave_up = 0;
	gtls_guard_stop(c);
}

void gtls_guard_start(struct gtls_conn *c)
{
	if (!c->guard.deadline)
		return;
	event_add(c->guard.deadline, &c->guard.limit);
	c->guard.running = 1;
}

/* A client that is refused learns of that when it has sent its signature. It may never send that. */
void gtls_guard_hurry(struct gtls_conn *c)
{
	static const struct timeval soon = {1, 0};
	struct timeval now, end;

	if (!c->guard.running || !event_pending(c->guard.deadline, EV_TIMEOUT, &end))
		return;
	evutil_gettimeofday(&now, NULL); /* of this clock is end */
	evutil_timeradd(&now, &soon, &now);
	if (evutil_timercmp(&now, &end, <))
		event_add(c->guard.deadline, &soon);
}

void gtls_guard_stop(struct gtls_conn *c)
{
	if (c->guard.deadline)
		event_del(c->guard.deadline);
	c->guard.running = 0;
}

static void count(struct gtls_conn *c)
{
	struct gtls_guard *g = &c->guard;

	if (++g->without_data <= GTLS_MAX_WITHOUT_DATA || g->gave_up)
		return;
	g->gave_up = GTLS_FLOODED;
	bufferevent_trigger_event(c->bev, BEV_EVENT_ERROR | BEV_EVENT_READING, BEV_TRIG_DEFER_CALLBACKS);
}

/* The context of GetConfigForClient may refuse what the first context allows. */
static int may_renegotiate_now(const struct gtls_conn *c)
{
	return gtls_renegotiates_now(c) && !(SSL_get_options(c->ssl) & SSL_OP_NO_RENEGOTIATION);
}

void gtls_guard_record(struct gtls_conn *c, int type)
{
	enum { MOST_PARTS = 256 };
	struct gtls_guard *g = &c->guard;

	g->messages = 0;
	if (!c->open || type == SSL3_RT_APPLICATION_DATA)
		g->without_data = g->parts = 0;
	else if (!may_renegotiate_now(c) && (type != SSL3_RT_HANDSHAKE || ++g->parts > MOST_PARTS))
		count(c);
}

/* Clients skip requests for a renegotiation in a handshake, so messages also count there, from the second one of
 * a record, but no handshake has so many in one record. OpenSSL takes Finished only at the end of a handshake. */
void gtls_guard_message(struct gtls_conn *c, int type)
{
	struct gtls_guard *g = &c->guard;

	g->parts = 0;
	if (g->messages++ || (c->open && !may_renegotiate_now(c)))
		count(c);
	if (type == SSL3_MT_FINISHED)
		g->without_data = 0;
}

/* With an error in its queue, OpenSSL does not say that the caller has to wait. */
void gtls_guard_halt(struct gtls_conn *c)
{
	if (!c->open || gtls_renegotiates_now(c) || !SSL_in_init(c->ssl) || !SSL_want_read(c->ssl) ||
	    evbuffer_get_length(bufferevent_get_output(c->bev)) == 0)
		return;
	c->guard.gave_up = GTLS_HALTED;
	ERR_raise(ERR_LIB_SSL, SSL_R_UNEXPECTED_MESSAGE);
}
