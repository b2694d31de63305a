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

int gtls_under_init(struct gtls_conn *c, struct bufferevent *under)
{
	c->under_in_cb = evbuffer_add_cb(bufferevent_get_input(under), gtls_on_under_input, c);
	if (!c->under_in_cb)
		return -1;
	c->under = under;
	gtls_under_guard(c);
	/* It waits for the closures. */
	bufferevent_disable(under, EV_READ | EV_WRITE);
	return 0;
}

void gtls_under_free(struct gtls_conn *c)
{
	if (c->under)
		evbuffer_remove_cb_entry(bufferevent_get_input(c->under), c->under_in_cb);
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

/* Under the lock, on the thread that took something out of it. */
void gtls_on_under_input(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
	struct gtls_conn *c = arg;

	(void)info;
	if (!c->under_end || evbuffer_get_length(buf))
		return;
	bufferevent_trigger_event(c->under, c->under_end, BEV_TRIG_DEFER_CALLBACKS);
	c->under_end = 0;
}

/* What libevent is to hear of an event below. For it the end of that is a failure, and at
 * once; but the end of TLS may have come before, or be in what is not read yet. */
static short for_libevent(struct gtls_conn *c, short what)
{
	const short end = BEV_EVENT_EOF | BEV_EVENT_READING;
	int closed = (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;

	if (!(what & BEV_EVENT_EOF) ||
	    (!closed && evbuffer_get_length(bufferevent_get_input(c->under)) == 0))
		return what;
	if (!closed)
		c->under_end = what & end;
	what &= ~end;
	return what == BEV_EVENT_WRITING ? 0 : what;
}

void gtls_on_under_event(struct bufferevent *bev, short what, void *arg)
{
	struct gtls_conn *c = arg;
	int err = errno;

	evbuffer_lock(bufferevent_get_input(c->bev));
	what = for_libevent(c, what);
	/* As a socket does itself. TLS would fail again and again, whenever libevent lets
	 * it read, which it also does when writing above it ends. */
	if ((what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) && (what & BEV_EVENT_READING))
		bufferevent_disable(bev, EV_READ);
	errno = err;
	if (what)
		c->under_event(bev, what, c->under_arg);
	gtls_under_guard(c);
	evbuffer_unlock(bufferevent_get_input(c->bev));
}
