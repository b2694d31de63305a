/*
 * wire.c: the fast path of TLS on a socket.
 *
 * libevent reads a record in two system calls, 4096 bytes of it at a time, and writes a
 * record for each chain of the output, after it has waited for a socket that could be
 * written to all the time. Once the handshake is done the root package reads and writes
 * here instead, under the lock of the bufferevent: a BIO of ours takes from the socket what
 * there is, for all records in it, and what is written is as few records as possible.
 *
 * What libevent has is put aside meanwhile: its BIO, and the descriptor of ev_write, for it
 * adds that event whenever something is appended to the output. Its BIO is one of ours, too,
 * which can give it what is left of a read.
 *
 * It is by the bytes that its BIO has counted that libevent charges rate limits. So that one
 * counts on from socket to socket, and does not see what goes by here: a count that goes
 * back would be a credit, after which libevent's buckets grow for ever.
 */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "native.h"

#ifndef MSG_NOSIGNAL /* Go's own handler of SIGPIPE is enough */
#define MSG_NOSIGNAL 0
#endif

#ifndef MSG_MORE
#define MSG_MORE 0
#endif

enum { RECORD = 16384, OVERHEAD = 512 };

static struct gtls_conn *conn_of(struct bufferevent *bev)
{
	return gtls_conn_of(bufferevent_openssl_get_ssl(bev));
}

/* --- the BIO --------------------------------------------------------------- */

static size_t left(const struct gtls_wire *w)
{
	return w->end - w->at;
}

/* What is left of a read stays here until the next one. */
static int keep(struct gtls_wire *w)
{
	unsigned char *kept = NULL;
	size_t n = left(w);

	if (n && !(kept = malloc(n)))
		return -1;
	if (n)
		memcpy(kept, w->data + w->at, n);
	free(w->kept);
	w->kept = w->data = kept;
	w->at = 0;
	w->end = n;
	return 0;
}

static int from_socket(BIO *bio, struct gtls_wire *w, void *p, size_t n)
{
	ssize_t got = recv(w->fd, p, n, MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		BIO_set_retry_read(bio);
	w->eof = got == 0;
	return (int)got;
}

/* Between two calls of gtls_recv there is no room to read to, and what is asked for is all
 * that is read. */
int gtls_wire_read(BIO *bio, char *p, int n)
{
	struct gtls_conn *c = BIO_get_data(bio);
	struct gtls_wire *w = &c->wire;
	int got;

	if (w->counting)
		return n;
	BIO_clear_retry_flags(bio);
	if (left(w) == 0 && !w->room)
		return from_socket(bio, w, p, (size_t)n);
	if (left(w) == 0) {
		if (w->dry) { /* as the last read has shown */
			BIO_set_retry_read(bio);
			errno = EAGAIN;
			return -1;
		}
		got = from_socket(bio, w, w->scratch, w->room);
		if (got <= 0)
			return got;
		w->data = w->scratch;
		w->at = 0;
		w->end = (size_t)got;
		w->dry = (size_t)got < w->room;
	}
	if ((size_t)n > left(w))
		n = (int)left(w);
	memcpy(p, w->data + w->at, (size_t)n);
	w->at += (size_t)n;
	if (!w->room && left(w)) /* libevent reads, and does not know of the rest */
		event_active(&c->bev->ev_read, EV_READ, 0);
	return n;
}

/* libevent 2.2 takes the cause of a connect that has failed from the socket, tells it, and
 * in the same turn begins the handshake all the same: that is not to put another cause in
 * its place. In the next turn it may. (A server's handshake is done though its tickets meet
 * a broken pipe: OpenSSL sees to that.) */
static int is_late(struct gtls_conn *c)
{
	int late = !c->server && !c->wire.late && !SSL_is_init_finished(c->ssl);

	c->wire.late = 1;
	return late;
}

int gtls_wire_write(BIO *bio, const char *p, int n)
{
	struct gtls_conn *c = BIO_get_data(bio);
	const struct gtls_wire *w = &c->wire;
	ssize_t done;

	if (w->counting)
		return n;
	BIO_clear_retry_flags(bio);
	done = send(w->fd, p, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL | (w->more ? MSG_MORE : 0));
	if (done < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || (errno == EPIPE && is_late(c))))
		BIO_set_retry_write(bio);
	return (int)done;
}

long gtls_wire_ctrl(BIO *bio, int cmd, long arg, void *p)
{
	struct gtls_conn *c = BIO_get_data(bio);

	(void)arg;
	switch (cmd) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_EOF:
		return c->wire.eof;
	case BIO_C_GET_FD:
		if (p)
			*(int *)p = c->wire.fd;
		return c->wire.fd;
	}
	return 0;
}

static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
static BIO_METHOD *method;

static void make_method(void)
{
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "bufferevent's socket");
	if (!method || !BIO_meth_set_read(method, gtls_wire_read) ||
	    !BIO_meth_set_write(method, gtls_wire_write) || !BIO_meth_set_ctrl(method, gtls_wire_ctrl))
		abort(); /* out of memory */
}

static BIO *new_bio(struct gtls_conn *c)
{
	BIO *bio;

	CRYPTO_THREAD_run_once(&once, make_method);
	bio = BIO_new(method);
	if (bio) {
		BIO_set_data(bio, c);
		BIO_set_init(bio, 1);
	}
	return bio;
}

/* --- beginning and ending ----------------------------------------------------- */

static void assign_writer(struct gtls_conn *c, int fd, short what)
{
	struct event *ev = &c->bev->ev_write;
	event_callback_fn fn = event_get_callback(ev);
	void *arg = event_get_callback_arg(ev);
	int priority = event_get_priority(ev);

	event_del(ev);
	event_assign(ev, event_get_base(ev), fd, what | EV_PERSIST | EV_FINALIZE, fn, arg);
	event_priority_set(ev, priority);
}

/* Has a BIO count as if it had carried all that another one has. */
static void count_on(struct gtls_wire *w, BIO *bio, BIO *from)
{
	uint64_t n;
	char none;

	if (!from)
		return;
	w->counting = 1;
	for (n = BIO_number_read(from); n > 0; n -= n < INT_MAX ? n : INT_MAX)
		BIO_read(bio, &none, n < INT_MAX ? (int)n : INT_MAX);
	for (n = BIO_number_written(from); n > 0; n -= n < INT_MAX ? n : INT_MAX)
		BIO_write(bio, &none, n < INT_MAX ? (int)n : INT_MAX);
	w->counting = 0;
}

static void use(struct gtls_conn *c, BIO *bio)
{
	BIO_up_ref(bio);
	SSL_set_bio(c->ssl, bio, bio);
}

/* libevent has made a BIO for it. */
void gtls_socket(struct bufferevent *bev)
{
	struct gtls_conn *c = conn_of(bev);
	struct gtls_wire *w = &c->wire;
	BIO *bio = new_bio(c);

	gtls_conn_resume(c);
	gtls_wire_restart(c);
	if (!bio) /* then libevent's stays, and libevent with it */
		return;
	w->fd = bufferevent_getfd(bev);
	count_on(w, bio, w->plain);
	w->before = BIO_number_read(bio);
	BIO_free(w->plain);
	w->plain = bio;
	use(c, bio);
}

int gtls_begin(struct bufferevent *bev)
{
	struct gtls_conn *c = conn_of(bev);
	struct gtls_wire *w = &c->wire;

	if (c->renegotiates) /* which libevent has to see to */
		return 0;
	if (!SSL_is_init_finished(c->ssl) || SSL_want_write(c->ssl) || SSL_get_rbio(c->ssl) != w->plain)
		return 0;
	if (!w->fast && !(w->fast = new_bio(c)))
		return 0;
	ERR_clear_error();
	use(c, w->fast);
	SSL_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
	assign_writer(c, -1, 0);
	return 1;
}

void gtls_end(struct bufferevent *bev)
{
	struct gtls_conn *c = conn_of(bev);

	SSL_clear_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
	use(c, c->wire.plain);
	assign_writer(c, c->wire.fd, EV_WRITE);
}

void gtls_wire_restart(struct gtls_conn *c)
{
	struct gtls_wire *w = &c->wire;

	free(w->kept);
	w->kept = w->data = NULL;
	w->at = w->end = w->unsent = 0;
	w->ended = w->why = w->eof = w->dry = w->late = 0;
}

void gtls_wire_free(struct gtls_conn *c)
{
	BIO_free(c->wire.plain);
	BIO_free(c->wire.fast);
	free(c->wire.kept);
}

/* --- reading --------------------------------------------------------------------- */

/* Takes note of why OpenSSL went no further. */
static int outcome(struct gtls_conn *c, int rc)
{
	int err = errno, why = SSL_get_error(c->ssl, rc);
	unsigned long code;

	switch (why) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return EAGAIN;
	case SSL_ERROR_SYSCALL:
		if (err) {
			ERR_clear_error();
			return err;
		}
		break;
	}
	code = gtls_failed();
	if (!c->code)
		c->code = code;
	return EPROTO;
}

static ssize_t end_with(int err)
{
	errno = err;
	return err ? -1 : 0;
}

static ssize_t read_records(struct gtls_conn *c, char *p, size_t n)
{
	size_t total = 0;
	int rc;

	ERR_clear_error();
	while (total < n) {
		if (total && c->wire.dry && !left(&c->wire) && !SSL_pending(c->ssl))
			break; /* it would say that there is no more */
		errno = 0;
		rc = SSL_read(c->ssl, p + total, (int)(n - total));
		if (rc > 0) {
			total += (size_t)rc;
			continue;
		}
		if (SSL_get_error(c->ssl, rc) == SSL_ERROR_ZERO_RETURN) {
			c->wire.ended = 1;
			c->wire.why = 0;
		} else if ((c->wire.why = outcome(c, rc)) != EAGAIN) {
			c->wire.ended = 1;
		}
		break;
	}
	return (ssize_t)total;
}

ssize_t gtls_recv(struct bufferevent *bev, void *p, size_t n, void *scratch, size_t size)
{
	struct gtls_conn *c = conn_of(bev);
	struct gtls_wire *w = &c->wire;
	ssize_t total;

	if (w->ended)
		return end_with(w->why);
	if (n > size)
		n = size;
	w->scratch = scratch;
	/* Not much more than is going to be taken. */
	w->room = n + RECORD + OVERHEAD < size ? n + RECORD + OVERHEAD : size;
	w->dry = 0;
	w->why = EAGAIN;
	total = read_records(c, p, n);
	w->room = 0;
	w->scratch = NULL;
	if (keep(w) < 0) {
		w->ended = 1; /* the stream has a hole */
		w->why = ENOMEM;
	}
	return total ? total : end_with(w->why);
}

int gtls_pending(struct bufferevent *bev, int wake)
{
	struct gtls_conn *c = conn_of(bev);
	const struct gtls_wire *w = &c->wire;
	int pending = w->ended || left(w) > 0 || SSL_pending(c->ssl) > 0;

	if (wake && pending) {
		/* First: an active event is not registered by event_add, and libevent
		 * would wait for a descriptor that nobody watches. If it does not want to
		 * read it takes the event away when it is called. */
		event_add(&bev->ev_read, NULL);
		event_active(&bev->ev_read, EV_READ, 0);
	}
	return pending;
}

/* --- writing ----------------------------------------------------------------------- */

/* The next record: OpenSSL wants one that did not get through again, and at least as long. */
static int write_record(struct gtls_conn *c, struct evbuffer *out, size_t n)
{
	struct evbuffer_iovec vec;

	if (n > RECORD)
		n = RECORD;
	if (n < c->wire.unsent)
		n = c->wire.unsent;
	if (evbuffer_peek(out, 1, NULL, &vec, 1) < 1)
		return 0;
	if (vec.iov_len < n)
		vec.iov_base = evbuffer_pullup(out, (ev_ssize_t)n);
	if (!vec.iov_base) {
		errno = ENOMEM;
		return -1;
	}
	errno = 0;
	c->wire.unsent = n;
	return SSL_write(c->ssl, vec.iov_base, (int)n);
}

ssize_t gtls_send(struct bufferevent *bev, size_t most)
{
	struct gtls_conn *c = conn_of(bev);
	struct evbuffer *out = bufferevent_get_output(bev);
	size_t total = 0;
	int rc, err = 0;

	ERR_clear_error();
	while (total < most) {
		c->wire.more = most - total > RECORD;
		rc = write_record(c, out, most - total);
		if (rc <= 0) {
			err = outcome(c, rc);
			break;
		}
		c->wire.unsent = 0;
		evbuffer_drain(out, (size_t)rc);
		total += (size_t)rc;
	}
	c->wire.more = 0;
	return total ? (ssize_t)total : end_with(err);
}
