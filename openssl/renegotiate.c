/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * renegotiate.c: handshakes that a peer starts on an open connection.
 *
 * libevent does not know of them: they happen in the SSL_read and SSL_write of libevent. If
 * SSL_write then waits for bytes of the peer, libevent tries it each time that something can be
 * read, until it succeeds, and does so for ever in one call if meanwhile the output was drained
 * or a rate limit has stopped writing. It does the same for an SSL_read that waits for room in
 * the socket. So on a socket libevent does not write during such a handshake, and what OpenSSL
 * has to send does not wait for room (wire.c).
 *
 * libevent puts its own callbacks back when a handshake ends, so callbacks of ours stand before
 * them again after each call.
 */

#include "conn.h"

/* While libevent does the handshake itself, it has one callback for both events. */
static int under_way(const struct gtls_conn *c)
{
	return gtls_renegotiates_now(c) && c->again.read != c->again.write;
}

static void pass(struct gtls_conn *c, event_callback_fn libevents, int fd, short what)
{
	libevents(fd, what, c->again.arg);
	gtls_renegotiate_intercept(c);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct gtls_conn *c = arg;

	gtls_lock(c);
	pass(c, c->again.read, fd, what);
	gtls_unlock(c);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct gtls_conn *c = arg;

	gtls_lock(c);
	if (!(what & EV_TIMEOUT) && under_way(c))
		event_del(&c->bev->ev_write);
	else
		pass(c, c->again.write, fd, what);
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

void gtls_renegotiated(struct gtls_conn *c)
{
	struct bufferevent *bev = c->bev;

	if (c->renegotiates && !c->under.bev && (bufferevent_get_enabled(bev) & EV_WRITE) &&
	    evbuffer_get_length(bufferevent_get_output(bev)))
		gtls_add(&bev->ev_write, &bev->timeout_write);
}
