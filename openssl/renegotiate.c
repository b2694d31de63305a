/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * renegotiate.c: handshakes on an open connection.
 *
 * libevent does not know of those that a peer starts, nor of our own on a socket: they happen in
 * the SSL_read and SSL_write of libevent. If SSL_write then waits for bytes of the peer, libevent
 * tries it each time that something can be read, until it succeeds, and does so for ever in one
 * call if meanwhile a rate limit has stopped writing. It does the same for an SSL_read that waits
 * for room in the socket. So on a socket libevent does not write during such a handshake, and what
 * OpenSSL has to send does not wait for room (wire.c). ev_write has no descriptor meanwhile, so
 * that libevent's timeout of writing goes on. If reading is off as well, an event of ours has
 * OpenSSL go on with the handshake, because what is to be written would wait for ever. A filter
 * has no limit, only libevent drains its output (lend.c), and under.c lets no SSL_read wait.
 *
 * libevent puts its own callbacks back when a handshake ends, so callbacks of ours stand before
 * them again after each call.
 */

#include <errno.h>

#include "conn.h"

/* After close_notify the peer sends no more messages, so the handshake does not end. OpenSSL says for ever
 * that it waits for one. */
static int is_over(const struct gtls_conn *c)
{
	return gtls_renegotiates_now(c) && (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN);
}

/* While libevent does the handshake itself, it has one callback for both events. */
int gtls_renegotiate_under_way(const struct gtls_conn *c)
{
	return gtls_renegotiates_now(c) && !is_over(c) && c->again.read != c->again.write;
}

static void pass(struct gtls_conn *c, event_callback_fn libevents, int fd, short what)
{
	libevents(fd, what, c->again.arg);
	gtls_renegotiate_intercept(c);
}

static int is_held(const struct gtls_conn *c)
{
	return event_get_fd(&c->bev->ev_write) < 0;
}

/* Whether writing, or the user, waits for the end of a handshake. */
static int is_awaited(const struct gtls_conn *c)
{
	return c->again.awaited || (gtls_renegotiate_under_way(c) && is_held(c));
}

static void await_message(struct gtls_conn *c)
{
	if (!c->freed && is_awaited(c))
		event_add(&c->again.message, NULL);
}

/* Data of the peer stays where it is, and then only libevent's reading can go on. */
static int go_on(struct gtls_conn *c)
{
	char byte;
	int rc, err;

	ERR_clear_error();
	errno = 0;
	rc = SSL_peek(c->ssl, &byte, 1);
	err = errno;
	if (rc > 0)
		return 0;
	switch (SSL_get_error(c->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return 1;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	}
	ERR_clear_error();
	errno = err;
	bufferevent_trigger_event(c->bev, BEV_EVENT_ERROR | BEV_EVENT_READING, BEV_TRIG_DEFER_CALLBACKS);
	return 0;
}

/* A SetFD in a renegotiation has failed, and since then libevent takes the connection for one in its first
 * handshake. If it has OpenSSL renegotiate, which OpenSSL refuses, it finds that no handshake goes on. */
static void find_way(struct gtls_conn *c)
{
	if (!c->again.astray || c->freed || !SSL_is_init_finished(c->ssl))
		return;
	c->again.astray = 0;
	SSL_set_options(c->ssl, SSL_OP_NO_RENEGOTIATION);
	bufferevent_ssl_renegotiate(c->bev);
	SSL_clear_options(c->ssl, SSL_OP_NO_RENEGOTIATION);
	gtls_renegotiate_intercept(c);
}

static void let_write(struct gtls_conn *c)
{
	struct bufferevent *bev = c->bev;

	if (c->freed)
		return;
	if (is_held(c))
		gtls_wire_watch(c, c->wire.fd);
	if ((bufferevent_get_enabled(bev) & EV_WRITE) && evbuffer_get_length(bufferevent_get_output(bev)))
		gtls_add(&bev->ev_write, &bev->timeout_write);
}

static void begin(struct gtls_conn *c);

/* If a limit has stopped libevent's reading, the limit ends by itself. */
static void on_message(evutil_socket_t fd, short what, void *arg)
{
	struct gtls_conn *c = arg;
	struct bufferevent *bev = c->bev;

	(void)fd;
	(void)what;
	gtls_lock(c);
	if (!c->freed && is_awaited(c) &&
	    (bufferevent_get_enabled(bev) & EV_READ ? event_pending(&bev->ev_read, EV_READ, NULL) : go_on(c)))
		await_message(c);
	find_way(c);
	begin(c);
	if (is_held(c) && !gtls_renegotiate_under_way(c))
		let_write(c);
	gtls_unlock(c);
}

/* Both events on the socket have the same priority, so that neither starves the other. */
static void watch_messages(struct gtls_conn *c)
{
	struct event *message = &c->again.message;

	gtls_renegotiate_quiet(c);
	event_assign(message, c->bev->ev_base, c->wire.fd, EV_READ | EV_FINALIZE, on_message, c);
	event_priority_set(message, event_get_priority(&c->bev->ev_read));
	await_message(c);
}

static void hold_writing(struct gtls_conn *c)
{
	gtls_wire_watch(c, -1);
	if (evbuffer_get_length(bufferevent_get_output(c->bev)))
		gtls_add(&c->bev->ev_write, &c->bev->timeout_write);
	watch_messages(c);
}

/*
 * OpenSSL starts a renegotiation in a call of SSL_read or SSL_write, but not in the middle of a record, of the
 * peer or its own. If it has to put that off, and the peer asks for a renegotiation as well, it starts two, of which
 * the second one has no message. And while the peer has not answered, it still sends data, which OpenSSL takes only in
 * an SSL_read: in an SSL_write or SSL_do_handshake, with which libevent would start, the connection fails with
 * "unexpected record". So OpenSSL is not asked before it can start at once.
 */
static void begin(struct gtls_conn *c)
{
	if (!c->again.wanted || c->freed || SSL_in_init(c->ssl) || (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN))
		return;
	if (!SSL_has_pending(c->ssl))
		gtls_wire_put_aside(c);
	if (SSL_has_pending(c->ssl) || c->wire.blocked || SSL_renegotiate(c->ssl) != 1)
		return; /* this is called again when libevent reads or writes */
	c->again.wanted = 0;
	c->again.awaited += (int8_t)c->server; /* OpenSSL says of a server's request, too, that a handshake is done */
	go_on(c);
	if (gtls_renegotiate_under_way(c))
		hold_writing(c);
	else
		watch_messages(c);
	if (event_pending(&c->bev->ev_read, EV_READ, NULL)) /* no limit has stopped it */
		gtls_pending(c->bev, 1);
}

void gtls_renegotiate(struct gtls_conn *c)
{
	c->again.wanted = !SSL_in_init(c->ssl);
	if (c->again.wanted || !c->again.awaited)
		c->again.awaited = 1;
	if (!c->again.wanted)
		hold_writing(c);
	begin(c);
	if (c->again.wanted)
		watch_messages(c);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct gtls_conn *c = arg;

	gtls_lock(c);
	pass(c, c->again.read, fd, what);
	find_way(c);
	begin(c);
	if (is_held(c) && !gtls_renegotiate_under_way(c))
		let_write(c);
	await_message(c);
	gtls_unlock(c);
}

static void fail_writing(struct gtls_conn *c)
{
	event_del(&c->bev->ev_write);
	errno = EPIPE;
	bufferevent_trigger_event(c->bev, BEV_EVENT_ERROR | BEV_EVENT_WRITING, BEV_TRIG_DEFER_CALLBACKS);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct gtls_conn *c = arg;

	gtls_lock(c);
	begin(c);
	if ((what & EV_TIMEOUT) || !(gtls_renegotiate_under_way(c) || is_over(c)))
		pass(c, c->again.write, fd, what);
	else if (c->freed)
		event_del(&c->bev->ev_write);
	else if (is_over(c))
		fail_writing(c);
	else
		hold_writing(c);
	gtls_unlock(c);
}

void gtls_renegotiate_intercept(struct gtls_conn *c)
{
	struct bufferevent *bev = c->bev;

	if (!c->renegotiates || c->under.bev || c->wire.fd < 0)
		return;
	if (event_get_callback(&bev->ev_read) != on_readable)
		c->again.read = gtls_stand_before(c, &bev->ev_read, &bev->timeout_read, on_readable, &c->again.arg);
	if (event_get_callback(&bev->ev_write) != on_writable)
		c->again.write = gtls_stand_before(c, &bev->ev_write, &bev->timeout_write, on_writable, &c->again.arg);
}

static void put_back(struct gtls_conn *c, struct event *ev, event_callback_fn ours, event_callback_fn libevents)
{
	int priority = event_get_priority(ev);

	if (event_get_callback(ev) != ours)
		return;
	event_del(ev);
	event_assign(ev, event_get_base(ev), event_get_fd(ev), event_get_events(ev), libevents, c->again.arg);
	event_priority_set(ev, priority);
}

/* libevent gives the argument of its events to its finalizer. */
void gtls_renegotiate_leave(struct gtls_conn *c)
{
	put_back(c, &c->bev->ev_read, on_readable, c->again.read);
	put_back(c, &c->bev->ev_write, on_writable, c->again.write);
}

int gtls_renegotiates_now(const struct gtls_conn *c)
{
	return c->renegotiates && c->open && SSL_in_init(c->ssl) && SSL_version(c->ssl) < TLS1_3_VERSION;
}

void gtls_renegotiate_quiet(struct gtls_conn *c)
{
	if (event_initialized(&c->again.message))
		event_del(&c->again.message);
}

void gtls_renegotiated(struct gtls_conn *c)
{
	struct bufferevent *bev = c->bev;

	if (!c->renegotiates || c->under.bev)
		return;
	gtls_renegotiate_quiet(c);
	let_write(c);
	if (c->again.awaited && --c->again.awaited == 0)
		bufferevent_trigger_event(bev, BEV_EVENT_CONNECTED, BEV_TRIG_DEFER_CALLBACKS);
}
