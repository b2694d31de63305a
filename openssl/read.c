/*
 * read.c: reading as much as there is.
 *
 * OpenSSL reads the head of a record and its body with a system call each, and libevent
 * returns to its loop after each record. Here OpenSSL reads ahead, and libevent's reading
 * function is called until OpenSSL has nothing left.
 *
 * libevent does not know of that: it waits for the socket, though OpenSSL may have more.
 * Nor does it know with what OpenSSL has of a record in any case when it has stopped
 * reading in the middle, at a watermark or a limit. So it is reminded: when reading is
 * enabled, when the input is drained, and, where a limit has stopped it, after a while.
 */

#include "native.h"

enum {
	TURN = 256 * 1024, /* bytes, before others have their turn */
	AHEAD = 32 * 1024,
};

/* Whether libevent waits for the socket: it does not when something has stopped it. */
static int waits(const struct gtls_conn *c)
{
	return event_pending(&c->bev->ev_read, EV_READ, NULL) != 0;
}

static int has_more(const struct gtls_conn *c)
{
	return c->on_readable && SSL_is_init_finished(c->ssl) && SSL_has_pending(c->ssl);
}

static void remind(struct gtls_conn *c)
{
	if (!c->reading) {
		c->reading = 1;
		event_active(c->more, EV_READ, 0);
	}
}

/* Has libevent read until there is nothing more to be had without the socket. */
static void drain(struct gtls_conn *c, evutil_socket_t fd, short what)
{
	static const struct timeval later = {0, 10000};
	uint64_t start = c->added, before;
	size_t high = 0;

	do {
		before = c->added;
		c->on_readable(fd, what, c->on_readable_arg);
	} while (what == EV_READ && has_more(c) && waits(c) && c->added != before && c->added - start < TURN);
	if (!has_more(c))
		return;
	if (waits(c)) {
		if (c->added - start >= TURN)
			remind(c);
	} else if (bufferevent_get_enabled(c->bev) & EV_READ) {
		bufferevent_getwatermark(c->bev, EV_READ, NULL, &high);
		if (!high || evbuffer_get_length(bufferevent_get_input(c->bev)) < high)
			event_add(c->more, &later); /* a limit */
	}
}

int gtls_read_init(struct gtls_conn *c)
{
	if (bufferevent_get_underlying(c->bev))
		return 0; /* libevent reads until there is nothing more */
	SSL_set_read_ahead(c->ssl, 1);
	SSL_set_default_read_buffer_len(c->ssl, AHEAD);
	c->more = event_new(bufferevent_get_base(c->bev), -1, EV_FINALIZE, gtls_on_more, c);
	if (c->more)
		c->in_cb = evbuffer_add_cb(bufferevent_get_input(c->bev), gtls_on_input, c);
	return c->in_cb ? 0 : -1;
}

void gtls_read_free(struct gtls_conn *c)
{
	if (c->in_cb)
		evbuffer_remove_cb_entry(bufferevent_get_input(c->bev), c->in_cb);
	if (c->more)
		event_free(c->more);
}

void gtls_read_opened(struct gtls_conn *c)
{
	struct event *ev = &c->bev->ev_read;
	int priority = event_get_priority(ev), waiting;

	if (!c->more || event_get_callback(ev) == gtls_on_readable)
		return;
	c->on_readable = event_get_callback(ev);
	c->on_readable_arg = event_get_callback_arg(ev);
	waiting = waits(c);
	event_del(ev);
	event_assign(ev, event_get_base(ev), event_get_fd(ev), EV_READ | EV_PERSIST | EV_FINALIZE, gtls_on_readable, c);
	event_priority_set(ev, priority);
	if (waiting) {
		struct timeval *tv = &c->bev->timeout_read;

		event_add(ev, tv->tv_sec || tv->tv_usec ? tv : NULL);
	}
	gtls_read_on(c);
}

void gtls_read_on(struct gtls_conn *c)
{
	if (has_more(c))
		remind(c);
}

/* --- callbacks ------------------------------------------------------------------ */

/* On the loop's thread. */
void gtls_on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct gtls_conn *c = arg;
	struct evbuffer *in = bufferevent_get_input(c->bev);

	evbuffer_lock(in);
	drain(c, fd, what);
	evbuffer_unlock(in);
}

/* On the loop's thread. */
void gtls_on_more(evutil_socket_t fd, short what, void *arg)
{
	struct gtls_conn *c = arg;
	struct evbuffer *in = bufferevent_get_input(c->bev);

	(void)fd;
	(void)what;
	evbuffer_lock(in);
	c->reading = 0;
	if (has_more(c) && (bufferevent_get_enabled(c->bev) & EV_READ))
		drain(c, bufferevent_getfd(c->bev), EV_READ);
	evbuffer_unlock(in);
}

/* Under the lock, on the thread that changed the input. */
void gtls_on_input(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
	struct gtls_conn *c = arg;

	(void)buf;
	c->added += info->n_added;
	if (info->n_deleted && has_more(c) && !waits(c))
		remind(c);
}
