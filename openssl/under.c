/*
 * under.c: the bufferevent that a TLS filter is on.
 *
 * Both have one lock. libevent's own callbacks on the one below, which go into OpenSSL, do
 * not take it: they count on being called with it. Here that one is made such that its
 * callbacks are called without (BEV_OPT_UNLOCK_CALLBACKS), so they are called by way of
 * others that take it.
 */

#include <errno.h>

#include "native.h"

void gtls_under_init(struct gtls_conn *c, struct bufferevent *under)
{
	c->under = under;
	gtls_under_guard(c);
	/* It waits for the closures. */
	bufferevent_disable(under, EV_READ | EV_WRITE);
}

void gtls_under_guard(struct gtls_conn *c)
{
	bufferevent_data_cb read, write;
	bufferevent_event_cb event;
	void *arg;

	if (!c->under)
		return;
	bufferevent_getcb(c->under, &read, &write, &event, &arg);
	if (read == gtls_on_under_read || (c->under_arg && arg != c->under_arg))
		return; /* not libevent's: the filter is being freed */
	c->under_read = read;
	c->under_write = write;
	c->under_event = event;
	c->under_arg = arg;
	bufferevent_setcb(c->under, gtls_on_under_read, gtls_on_under_write, gtls_on_under_event, c);
}

void gtls_under_kick(struct gtls_conn *c)
{
	if (c->under)
		bufferevent_trigger(c->under, EV_WRITE, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
}

/* --- callbacks ------------------------------------------------------------------ */

void gtls_on_under_read(struct bufferevent *bev, void *arg)
{
	struct gtls_conn *c = arg;

	evbuffer_lock(bufferevent_get_input(c->bev));
	c->under_read(bev, c->under_arg);
	gtls_under_guard(c);
	evbuffer_unlock(bufferevent_get_input(c->bev));
}

void gtls_on_under_write(struct bufferevent *bev, void *arg)
{
	struct gtls_conn *c = arg;

	evbuffer_lock(bufferevent_get_input(c->bev));
	c->under_write(bev, c->under_arg);
	gtls_under_guard(c);
	evbuffer_unlock(bufferevent_get_input(c->bev));
}

void gtls_on_under_event(struct bufferevent *bev, short what, void *arg)
{
	struct gtls_conn *c = arg;
	int err = errno;

	evbuffer_lock(bufferevent_get_input(c->bev));
	/* As a socket does itself. TLS would fail again and again, whenever libevent lets
	 * it read, which it also does when writing above it ends. */
	if ((what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) && (what & BEV_EVENT_READING))
		bufferevent_disable(bev, EV_READ);
	errno = err;
	c->under_event(bev, what, c->under_arg);
	gtls_under_guard(c);
	evbuffer_unlock(bufferevent_get_input(c->bev));
}
