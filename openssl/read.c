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

static size_t length(struct bufferevent *bev)
{
	return evbuffer_get_length(bufferevent_get_input(bev));
}

/* Whether something can be read without the socket. */
static int has_more(const struct gtls_conn *c)
{
	if (!SSL_is_init_finished(c->ssl) || !(c->under ? c->under_read != NULL : c->on_readable != NULL))
		return 0;
	return SSL_has_pending(c->ssl) || (c->under && length(c->under));
}

static int at_mark(const struct gtls_conn *c)
{
	size_t high = 0;

	bufferevent_getwatermark(c->bev, EV_READ, NULL, &high);
	return high && length(c->bev) >= high;
}

/* Whether libevent would read if there were something. */
static int reads(const struct gtls_conn *c)
{
	if (c->under)
		return (bufferevent_get_enabled(c->bev) & EV_READ) && !at_mark(c);
	return event_pending(&c->bev->ev_read, EV_READ, NULL) != 0;
}

static void remind(struct gtls_conn *c)
{
	if (!c->reading) {
		c->reading = 1;
		event_active(c->more, EV_READ, 0);
	}
}

static void read_once(struct gtls_conn *c, evutil_socket_t fd, short what)
{
	if (c->under)
		c->under_read(c->under, c->under_arg);
	else
		c->on_readable(fd, what, c->on_readable_arg);
}

void gtls_read_done(struct gtls_conn *c)
{
	static const struct timeval later = {0, 10000};

	c->stopped = has_more(c) && !reads(c);
	if (c->stopped && (bufferevent_get_enabled(c->bev) & EV_READ) && !at_mark(c))
		event_add(c->more, &later); /* it was a limit */
}

/* Has libevent read until there is nothing more to be had without the socket. */
static void drain(struct gtls_conn *c, evutil_socket_t fd, short what)
{
	uint64_t start = c->added, before;

	do {
		before = c->added;
		read_once(c, fd, what);
	} while (what == EV_READ && c->added != before && has_more(c) && reads(c) && c->added - start < TURN);
	if (c->added - start >= TURN && has_more(c) && reads(c))
		remind(c);
	gtls_read_done(c);
}

int gtls_read_init(struct gtls_conn *c)
{
	if (!bufferevent_get_underlying(c->bev)) {
		SSL_set_read_ahead(c->ssl, 1);
		SSL_set_default_read_buffer_len(c->ssl, AHEAD);
	}
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

	if (c->under || event_get_callback(ev) == gtls_on_readable)
		return;
	c->on_readable = event_get_callback(ev);
	c->on_readable_arg = event_get_callback_arg(ev);
	waiting = event_pending(ev, EV_READ, NULL);
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

/* On the loop's thread, for a socket. */
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
	if (info->n_deleted && c->stopped)
		remind(c);
}
