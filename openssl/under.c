/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * under.c: the bufferevent below a filter.
 *
 * Both have one lock. libevent's own callbacks on the one below go into OpenSSL and do not
 * take the lock, because libevent normally calls them with it. The bufferevent below is
 * made with BEV_OPT_UNLOCK_CALLBACKS, though, so its callbacks are called without the lock.
 * Therefore callbacks of ours stand in their place, which take the lock and call them.
 */

#include <errno.h>

#include "conn.h"
#include "_cgo_export.h"

enum { MOST_READ = 4096 }; /* from a socket in one turn, in bytes; libevent 2.1 has the same bound */

/* --- the BIO -------------------------------------------------------------------- */

/* A filter below passes bytes on at once when a buffer of it changes, and without
 * BEV_OPT_DEFER_CALLBACKS calls back at once, too. Here OpenSSL is at work, and must not be entered again. At the
 * end of a handshake libevent may have put its own callbacks back. */
static void enter_under(struct gtls_conn *c)
{
	gtls_under_intercept(c);
	c->under.busy++;
}

int gtls_under_read(struct gtls_conn *c, BIO *bio, void *p, int n)
{
	struct evbuffer *in = bufferevent_get_input(c->under.bev);
	int got;

	if (evbuffer_get_length(in) == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	enter_under(c);
	got = evbuffer_remove(in, p, (size_t)n);
	c->under.busy--;
	return got;
}

static int append(struct gtls_conn *c, const void *p, size_t n)
{
	int rc;

	enter_under(c);
	rc = evbuffer_add(bufferevent_get_output(c->under.bev), p, n);
	c->under.busy--;
	return rc;
}

/* How many bytes wait in the outputs from bev down to the TLS below, or to the bottom. */
static size_t waiting_in(struct bufferevent *bev, int to_tls)
{
	size_t waiting = 0;

	for (; bev; bev = bufferevent_get_underlying(bev)) {
		waiting += evbuffer_get_length(bufferevent_get_output(bev));
		if (to_tls && bufferevent_openssl_get_ssl(bev))
			break;
	}
	return waiting;
}

static size_t waiting_below(struct gtls_conn *c)
{
	return waiting_in(c->under.bev, 0);
}

uint64_t gtls_under_sent(struct gtls_conn *c)
{
	return BIO_number_written(SSL_get_wbio(c->ssl)) - waiting_below(c);
}

/* Whether too much of what OpenSSL writes on its own would wait below: more was written since bytes that
 * are still there. A filter below passes bytes on to the bufferevent below itself, and they wait there. A first
 * handshake and an alert come once. */
static int owns_too_much(struct gtls_conn *c, size_t n, int64_t written)
{
	struct gtls_under *u = &c->under;

	if (!c->open || gtls_has_failed(c))
		return 0;
	if (written - (int64_t)waiting_below(c) >= u->own_from) {
		u->own = c->wire.aside = 0;
		u->own_from = written;
	}
	u->own += n;
	return !c->wire.puts_aside && u->own > gtls_most_late(c);
}

/*
 * Data waits for room below, if there is a high mark. What OpenSSL writes on its own does not: messages
 * of a handshake, answers to KeyUpdates, alerts. An SSL_read may have to write these. While libevent
 * waits until they can be written, and a filter above or a high mark has stopped its reading, libevent
 * loops for ever in one call. libevent's own BIO has them wait, too. Nor does a record wait that stands in
 * the way of these (gtls_wire_put_aside).
 */
int gtls_under_write(struct gtls_conn *c, BIO *bio, const void *p, int n, int is_data)
{
	size_t high = c->under.bev->wm_write.high;
	size_t waiting = evbuffer_get_length(bufferevent_get_output(c->under.bev));
	int waits = is_data && !c->wire.puts_aside;

	if (waits && high && high <= waiting) {
		BIO_set_retry_write(bio);
		return -1;
	}
	if (!waits && owns_too_much(c, (size_t)n, (int64_t)BIO_number_written(bio))) {
		errno = ENOBUFS;
		return -1;
	}
	if (waits && high && (size_t)n > high - waiting)
		n = (int)(high - waiting);
	if (append(c, p, (size_t)n) == 0)
		return n;
	errno = ENOMEM;
	return -1;
}

/* --- callbacks ------------------------------------------------------------------ */

/* Whether what is below has its connection. A descriptor that is no socket has nothing to connect. */
static int is_connected(struct bufferevent *bev)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	struct bufferevent *below;
	SSL *ssl;

	for (;; bev = below) {
		if ((ssl = bufferevent_openssl_get_ssl(bev)) != NULL)
			return SSL_is_init_finished(ssl);
		if ((below = bufferevent_get_underlying(bev)) == NULL)
			break;
	}
	if (bufferevent_getfd(bev) < 0)
		return bufferevent_pair_get_partner(bev) != NULL;
	return getpeername(bufferevent_getfd(bev), (struct sockaddr *)&peer, &len) == 0 || errno != ENOTCONN;
}

/* The failure of an attempt to connect has stopped the timer of the handshake. */
static void link_up(struct gtls_conn *c)
{
	c->under.linked = 1;
	c->under.ended = 0;
	if (!c->open && !SSL_in_before(c->ssl) && !c->guard.running)
		gtls_guard_start(c);
}

/* OpenSSL begins before there is a connection below. What it has written waits there, for the next address if this
 * one fails. So such a failure is not one of TLS, and the failure of the next one is told as well. */
int gtls_under_is_linked(struct gtls_conn *c)
{
	if (!c->under.linked && is_connected(c->under.bev))
		link_up(c);
	return c->under.linked;
}

static void call_later(struct bufferevent *bev, short what)
{
	bufferevent_trigger(bev, what, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct gtls_conn *c = arg;

	gtls_lock(c);
	gtls_under_is_linked(c);
	if (c->under.busy)
		call_later(bev, EV_READ);
	else if (!c->guard.gave_up)
		c->under.read(bev, c->under.arg);
	gtls_under_intercept(c);
	gtls_unlock(c);
}

static void on_write(struct bufferevent *bev, void *arg)
{
	struct gtls_conn *c = arg;

	gtls_lock(c);
	gtls_under_is_linked(c);
	if (c->under.busy)
		call_later(bev, EV_WRITE);
	else
		c->under.write(bev, c->under.arg);
	gtls_under_intercept(c);
	gtls_unlock(c);
}

/* The TLS below, which may be below filters. NULL if there is none, or C has made it. */
static struct gtls_conn *conn_below(struct bufferevent *bev)
{
	for (; bev; bev = bufferevent_get_underlying(bev))
		if (bufferevent_openssl_get_ssl(bev))
			return gtls_conn_of(bufferevent_openssl_get_ssl(bev));
	return NULL;
}

static int is_failure_of_tls(struct bufferevent *bev, short what)
{
	return (what & BEV_EVENT_ERROR) && !(what & BEV_EVENT_WRITING) && conn_below(bev);
}

/* A failure of TLS below has ended writing there as well. If there is something to write, the program has to be told of it
 * although it does not read: it may not do so before that is written. */
static int has_no_way_out(struct gtls_conn *c, short what)
{
	return is_failure_of_tls(c->under.bev, what) &&
	    (evbuffer_get_length(bufferevent_get_output(c->bev)) || waiting_in(c->under.bev, 1));
}

/* The part of an event that libevent is told now. libevent takes an EOF below for a failure of
 * TLS, and at once, as it does an error below. But if close_notify came before, nothing has
 * failed, and what came before may also be in input that is not read yet: then the end of reading
 * waits for that. A failed write does not wait.
 *
 * After a reset that a write has met, the socket below has an EOF as well, which libevent would
 * report in place of the reset. */
static short for_libevent(struct gtls_conn *c, short what, int err)
{
	int closed = (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
	short end = BEV_EVENT_EOF | BEV_EVENT_READING;

	if (!closed && (what & BEV_EVENT_ERROR) && err == ECONNRESET)
		what &= ~BEV_EVENT_EOF;
	if (!(what & BEV_EVENT_WRITING))
		end |= BEV_EVENT_ERROR;
	end &= what;
	if (!(end & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) ||
	    (!closed && (evbuffer_get_length(bufferevent_get_input(c->under.bev)) == 0 || has_no_way_out(c, what))))
		return what;
	if (!closed) {
		c->under.end = end;
		c->under.end_err = err;
	}
	what &= ~end;
	return what == BEV_EVENT_WRITING ? 0 : what;
}

/* Tells the end that waits. */
static void tell_end(struct gtls_under *u)
{
	errno = u->end_err; /* libevent takes it along */
	bufferevent_trigger_event(u->bev, u->end, BEV_TRIG_DEFER_CALLBACKS);
	u->end = 0;
}

/* Locked, on the thread that has taken bytes from the input below. */
static void on_input(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
	struct gtls_conn *c = arg;

	(void)info;
	if (c->under.end && evbuffer_get_length(buf) == 0)
		tell_end(&c->under);
}

void gtls_under_output(struct gtls_conn *c)
{
	if (c->under.end && is_failure_of_tls(c->under.bev, c->under.end))
		tell_end(&c->under);
}

/* The program is told of the events of TLS below only through this one. So here that TLS learns of them, and its failure
 * is the cause of this one's. */
static void tell_below(struct gtls_conn *c, struct gtls_conn *below, short what, int err)
{
	unsigned long codes[GTLS_CODES];
	int n = 0;

	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		n = gtls_codes(below->bev, codes, GTLS_CODES);
	gtlsBelow(below->handle, c->handle, what, err, codes, n);
}

/* Whether a failure of TLS below is told later, after the bytes that came before it. It waits as long as these go on. */
static int puts_off(struct gtls_conn *c, struct bufferevent *bev, short what)
{
	size_t left = evbuffer_get_length(bufferevent_get_input(bev));

	if (!is_failure_of_tls(bev, what) || left == c->under.put_off)
		left = 0;
	c->under.put_off = left;
	if (left)
		call_later(bev, EV_READ);
	return left > 0;
}

static int has_timed_out(const struct gtls_conn *below)
{
	return below && below->guard.gave_up == GTLS_TIMED_OUT;
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct gtls_conn *c = arg, *below = conn_below(bev);
	int err = errno;

	gtls_lock(c);
	if (c->under.busy || puts_off(c, bev, what)) {
		errno = err; /* libevent takes it along */
		bufferevent_trigger_event(bev, what, BEV_TRIG_DEFER_CALLBACKS);
		gtls_unlock(c);
		return;
	}
	if (below) {
		what |= gtls_lost_end(below, what) ? BEV_EVENT_READING : 0;
		tell_below(c, below, what, err);
	}
	if ((what & BEV_EVENT_CONNECTED) && !c->under.linked)
		link_up(c);
	/* The user was told of the timeout, and is told of nothing more before an Enable. */
	what = c->guard.gave_up == GTLS_TIMED_OUT && (c->under.linked || has_timed_out(below)) ? 0 : for_libevent(c, what, err);
	if (has_timed_out(below) && !c->open && !c->guard.gave_up) { /* the timeout below is that of this one, too */
		c->guard.gave_up = GTLS_TIMED_OUT;
		gtls_guard_stop(c);
	}
	/* A socket turns reading off by itself at its end. Without this TLS would fail each
	 * time that libevent lets it read, also when libevent does so because writing on
	 * the filter has ended. The next attempt to connect turns it on again. */
	if ((what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) && (what & BEV_EVENT_READING))
		bufferevent_disable(bev, EV_READ);
	if ((what & BEV_EVENT_EOF) && (what & BEV_EVENT_READING))
		c->under.ended = 1;
	errno = err;
	if (what)
		c->under.event(bev, what, c->under.arg);
	gtls_under_intercept(c);
	gtls_unlock(c);
}

void gtls_under_socket(struct gtls_conn *c)
{
	if (c->under.linked)
		return;
	c->failed = c->told_end = 0;
	gtls_guard_restart(c);
	gtlsAnother(c->handle);
}

/* --- making, freeing, handshake -------------------------------------------------- */

/* libevent decrypts all that is in the input below before the loop goes on. libevent 2.2 reads more
 * from a socket than 2.1, and that is many records if they are short. */
static void read_little(struct bufferevent *bev)
{
#if LIBEVENT_VERSION_NUMBER >= 0x02020000
	for (; bev; bev = bufferevent_get_underlying(bev))
		if (evbuffer_get_max_read(bufferevent_get_input(bev)) > MOST_READ)
			evbuffer_set_max_read(bufferevent_get_input(bev), MOST_READ);
#else
	(void)bev;
#endif
}

int gtls_under_init(struct gtls_conn *c, struct bufferevent *under)
{
	c->under.in_cb = evbuffer_add_cb(bufferevent_get_input(under), on_input, c);
	if (!c->under.in_cb)
		return -1;
	c->under.bev = under;
	read_little(under);
	gtls_under_intercept(c);
	/* The handshake must not start yet. What starts it enables both again. */
	bufferevent_disable(under, EV_READ | EV_WRITE);
	return 0;
}

void gtls_under_free(struct gtls_conn *c)
{
	if (c->under.bev)
		evbuffer_remove_cb_entry(bufferevent_get_input(c->under.bev), c->under.in_cb);
}

void gtls_under_intercept(struct gtls_conn *c)
{
	struct gtls_under *u = &c->under;
	bufferevent_data_cb read, write;
	bufferevent_event_cb event;
	void *arg;

	if (!u->bev)
		return;
	bufferevent_getcb(u->bev, &read, &write, &event, &arg);
	if (read == on_read || (u->arg && arg != u->arg))
		return; /* ours already, or not libevent's: the filter is being freed */
	u->read = read;
	u->write = write;
	u->event = event;
	u->arg = arg;
	bufferevent_setcb(u->bev, on_read, on_write, on_event, c);
}

void gtls_under_wake(struct gtls_conn *c)
{
	if (c->under.bev)
		call_later(c->under.bev, EV_WRITE);
}
