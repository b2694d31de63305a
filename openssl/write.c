/*
 * write.c: writing in one go.
 *
 * libevent waits until the socket can be written to, with two calls of epoll_ctl and a
 * turn of the loop, though it could be written to all the time; and it makes a record of
 * each chain of the output, however small. Two additions change that:
 *
 *  - Before something is written, the start of the output is made one chain, as much as
 *    fits in a record.
 *  - While the socket takes everything, ev_write of the bufferevent waits for no
 *    descriptor: adding and deleting it is nothing then. What was appended is written in
 *    the same turn, by libevent's own function for a socket that has become ready. As
 *    soon as OpenSSL finds no room in the socket, ev_write waits for it again, until the
 *    output is empty.
 *
 * ev_write and what libevent assigned to it are all that is used of the bufferevent's
 * inside (event2/bufferevent_struct.h). libevent assigns it anew by itself, at the
 * beginning and the end of a handshake: then it waits for the descriptor.
 */

#include "native.h"

enum { RECORD = 16384 };

static int ready(const struct gtls_conn *c)
{
	return SSL_is_init_finished(c->ssl);
}

/* Whether ev_write waits for no descriptor. */
static int detached(const struct gtls_conn *c)
{
	return !(event_get_events(&c->bev->ev_write) & EV_WRITE);
}

static void assign(struct gtls_conn *c, int fd, short what)
{
	struct event *ev = &c->bev->ev_write;
	event_callback_fn fn = event_get_callback(ev);
	void *arg = event_get_callback_arg(ev);
	int priority = event_get_priority(ev);

	event_del(ev);
	event_assign(ev, event_get_base(ev), fd, what | EV_PERSIST | EV_FINALIZE, fn, arg);
	event_priority_set(ev, priority);
}

static void detach(struct gtls_conn *c)
{
	BIO *bio = SSL_get_wbio(c->ssl);

	if (!bio)
		return;
	assign(c, -1, 0);
	BIO_set_callback_arg(bio, (char *)c);
	BIO_set_callback_ex(bio, gtls_on_bio);
}

static void attach(struct gtls_conn *c)
{
	assign(c, bufferevent_getfd(c->bev), EV_WRITE);
}

static void wait_for_room(struct gtls_conn *c)
{
	struct timeval *tv = &c->bev->timeout_write;

	if (detached(c))
		attach(c);
	event_add(&c->bev->ev_write, tv->tv_sec || tv->tv_usec ? tv : NULL);
}

static void make_record(struct evbuffer *out)
{
	size_t n = evbuffer_get_length(out);

	if (n > RECORD)
		n = RECORD;
	if (evbuffer_get_contiguous_space(out) < n)
		evbuffer_pullup(out, (ev_ssize_t)n);
}

/* Writes what is in the output. */
static void flush(struct gtls_conn *c)
{
	struct event *ev = &c->bev->ev_write;
	struct evbuffer *out = bufferevent_get_output(c->bev);

	if (!ready(c) || !(bufferevent_get_enabled(c->bev) & EV_WRITE)) {
		if (detached(c)) /* for the time when that has changed */
			attach(c);
		return;
	}
	if (evbuffer_get_length(out) == 0)
		return;
	make_record(out);
	event_get_callback(ev)(event_get_fd(ev), EV_WRITE, event_get_callback_arg(ev));
	if (!ready(c))
		return;
	if (evbuffer_get_length(out))
		wait_for_room(c);
	else if (!detached(c))
		detach(c);
}

/* What is on another bufferevent is written at once, to that one's output. */
int gtls_write_init(struct gtls_conn *c)
{
	if (!bufferevent_get_underlying(c->bev)) {
		c->flush = event_new(bufferevent_get_base(c->bev), -1, EV_FINALIZE, gtls_on_flush, c);
		if (!c->flush)
			return -1;
	}
	/* It is called before libevent's own, which writes. */
	c->out_cb = evbuffer_add_cb(bufferevent_get_output(c->bev), gtls_on_output, c);
	return c->out_cb ? 0 : -1;
}

void gtls_write_free(struct gtls_conn *c)
{
	if (c->out_cb)
		evbuffer_remove_cb_entry(bufferevent_get_output(c->bev), c->out_cb);
	if (c->flush)
		event_free(c->flush);
}

void gtls_write_opened(struct gtls_conn *c)
{
	if (!c->flush)
		return;
	if (evbuffer_get_length(bufferevent_get_output(c->bev)))
		flush(c);
	else if (ready(c) && !detached(c))
		detach(c);
}

void gtls_write_on(struct gtls_conn *c)
{
	if (c->flush && detached(c))
		attach(c);
	bufferevent_enable(c->bev, EV_WRITE);
}

/* --- callbacks ------------------------------------------------------------------ */

/* Under the lock, on the thread that changed the output. */
void gtls_on_output(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
	struct gtls_conn *c = arg;

	if (info->n_added && c->flush && !c->flushing && ready(c)) {
		c->flushing = 1;
		event_active(c->flush, EV_WRITE, 0);
	}
	if (info->n_deleted || !c->flush)
		make_record(buf);
}

/* On the loop's thread. */
void gtls_on_flush(evutil_socket_t fd, short what, void *arg)
{
	struct gtls_conn *c = arg;
	struct evbuffer *out = bufferevent_get_output(c->bev);

	(void)fd;
	(void)what;
	evbuffer_lock(out);
	c->flushing = 0;
	flush(c);
	evbuffer_unlock(out);
}

/* Under the lock: OpenSSL has tried to write to the socket. */
long gtls_on_bio(BIO *bio, int op, const char *p, size_t n, int cmd, long l, int ret, size_t *done)
{
	struct gtls_conn *c = (struct gtls_conn *)BIO_get_callback_arg(bio);

	(void)p;
	(void)n;
	(void)cmd;
	(void)l;
	(void)done;
	if (op == (BIO_CB_WRITE | BIO_CB_RETURN) && ret <= 0 && BIO_should_retry(bio) && detached(c))
		wait_for_room(c);
	return ret;
}
