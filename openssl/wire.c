/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire.c: the socket of a connection, and the fast path of TLS on it.
 *
 * libevent reads a TLS record with two system calls and hands it on 4096 bytes at a time.
 * It writes a record for each chain of the output, and before that it waits for a socket
 * that could have been written to all along. So after the handshake the root package reads
 * and writes through the functions here, with the lock of the bufferevent. One system call
 * reads many records, and what is written becomes as few records as possible.
 *
 * Meanwhile the SSL does not have libevent's BIO, and libevent's ev_write has no descriptor,
 * because libevent adds that event whenever something is appended to the output. The BIO
 * that libevent uses is also one of ours: it can give libevent what is left of a read. That of a
 * filter is ours as well, and leads to the bufferevent below (under.c).
 *
 * libevent charges rate limits with the number of bytes that its BIO has counted. If that
 * number became smaller, libevent would take the difference for a credit, and its buckets
 * would grow for ever. So the BIO for a new socket starts with the count of the one before.
 * It does not count what the fast path carries.
 */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "conn.h"
#include "_cgo_export.h"

#ifndef MSG_NOSIGNAL /* then Go's handler of SIGPIPE keeps the process alive */
#define MSG_NOSIGNAL 0
#endif

#ifndef MSG_MORE
#define MSG_MORE 0
#endif

enum {
	OVERHEAD = 512, /* what a record has on the wire in addition to its plaintext, at most */
	MOST_READ = 256 * 1024, /* by libevent in a row, in bytes */
	MOST_READS = 256, /* of OpenSSL from the BIO in a row; it makes two for a record */
	MOST_LATE = 4096, /* of answers, in bytes */
	MOST_ASIDE = 128 * 1024, /* of records, in bytes; two more may come on top of that */
	MOST_FLIGHT = 256 * 1024, /* of messages of a renegotiation, in bytes */
	MOST_WRITTEN = 256 * 1024, /* by libevent in a row, in bytes */
};

static struct gtls_conn *conn_of(struct bufferevent *bev)
{
	return gtls_conn_of(bufferevent_openssl_get_ssl(bev));
}

/* --- the BIO --------------------------------------------------------------- */

/* How many bytes from the socket OpenSSL has not taken yet. */
static size_t unread(const struct gtls_wire *w)
{
	return w->end - w->at;
}

/* Copies what is unread out of the scratch memory, which is the caller's, until the next
 * read. */
static int keep_unread(struct gtls_wire *w)
{
	unsigned char *kept = NULL;
	size_t n = unread(w);

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

static int is_transient(int err)
{
	return err == EAGAIN || err == EWOULDBLOCK || err == EINTR;
}

/* The system tells once why a connection has broken. Later a read finds an end, and a write EPIPE. */
static void keep_error(struct gtls_wire *w, int err)
{
	if (err && err != EPIPE && !is_transient(err))
		w->broken = err;
}

/* In a handshake libevent 2.2 takes the error of the socket away, and reports it without its cause.
 * So the error is taken before. */
void gtls_wire_keep_error(struct gtls_conn *c)
{
#if LIBEVENT_VERSION_NUMBER >= 0x02020000
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(c->wire.fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0)
		keep_error(&c->wire, err);
#else
	(void)c;
#endif
}

static int read_socket(BIO *bio, struct gtls_wire *w, void *p, size_t n)
{
	ssize_t got = recv(w->fd, p, n, MSG_DONTWAIT);

	if (got == 0 && w->broken) {
		errno = w->broken;
		return -1;
	}
	if (got < 0) {
		keep_error(w, errno);
		if (is_transient(errno))
			BIO_set_retry_read(bio);
	}
	w->eof = got == 0;
	return (int)got;
}

/* Says that there is nothing to read or to write now. */
static int come_again(BIO *bio, int how)
{
	BIO_set_flags(bio, how | BIO_FLAGS_SHOULD_RETRY);
	errno = EAGAIN;
	return -1;
}

/* How many bytes libevent may read in a row. libevent 2.1 stops after a record by itself, and 2.2
 * when its memory happens to be full at the end of a record, whatever the high mark is. */
static size_t most_read(const struct gtls_conn *c)
{
	size_t most = MOST_READ, high = c->bev->wm_read.high, n;

	if (LIBEVENT_VERSION_NUMBER < 0x02020000)
		return SIZE_MAX;
	n = evbuffer_get_length(bufferevent_get_input(c->bev));
	if (high && high < n + most)
		most = high > n ? high - n : 0;
	return most;
}

/* Whether the loop has to do something else first. OpenSSL reads on as long as records come
 * that have no data, and a peer can send as many of those as it likes. What is left is read
 * in a later turn: if it is in the socket, the socket is still readable, and if it is here,
 * the root package asks gtls_pending. */
static int read_enough(struct gtls_conn *c)
{
	struct gtls_wire *w = &c->wire;

	if (++w->reads <= MOST_READS && (w->room || w->read <= most_read(c)))
		return 0;
	if (!w->room) /* gtls_recv starts a new count itself */
		w->reads = 0;
	w->read = 0;
	return 1;
}

/* While the user holds a loan of the output, nothing can be drained. What comes from the peer may need that
 * (gtls_wire_put_aside), so it has to wait for the end of the loan. */
static int waits_for_loan(const struct gtls_conn *c)
{
	return c->wire.blocked && evbuffer_drain(bufferevent_get_output(c->bev), 0) < 0;
}

/* Outside of gtls_recv there is no scratch memory, and no more is read from the socket than
 * OpenSSL asks for. */
static int bio_read(BIO *bio, char *p, int n)
{
	struct gtls_conn *c = BIO_get_data(bio);
	struct gtls_wire *w = &c->wire;
	int got;

	BIO_clear_retry_flags(bio);
	if (c->guard.gave_up) {
		errno = EPROTO;
		return -1;
	}
	if (waits_for_loan(c))
		return come_again(bio, BIO_FLAGS_READ);
	if (c->under.bev)
		return gtls_under_read(c, bio, p, n);
	if (c->ask.gated || read_enough(c))
		return come_again(bio, BIO_FLAGS_READ);
	if (unread(w) == 0 && !w->room) {
		got = read_socket(bio, w, p, (size_t)n);
		w->read = got > 0 ? w->read + (size_t)got : 0;
		return got;
	}
	if (unread(w) == 0) {
		if (w->drained)
			return come_again(bio, BIO_FLAGS_READ);
		got = read_socket(bio, w, w->scratch, w->room);
		if (got <= 0)
			return got;
		w->data = w->scratch;
		w->at = 0;
		w->end = (size_t)got;
		w->drained = (size_t)got < w->room;
	}
	if ((size_t)n > unread(w))
		n = (int)unread(w);
	memcpy(p, w->data + w->at, (size_t)n);
	w->at += (size_t)n;
	return n;
}

/* libevent writes as long as the peer takes what it writes. The socket can still be written
 * to, so libevent goes on in the next turn. This is only asked about data: what OpenSSL writes on
 * its own must not wait. */
static int wrote_enough(struct gtls_wire *w, const BIO *bio, int n)
{
	if (bio != w->plain)
		return 0;
	if (w->written > MOST_WRITTEN) {
		w->written = 0;
		return 1;
	}
	w->written += (size_t)n;
	return 0;
}

static ssize_t write_socket(struct gtls_wire *w, const void *p, size_t n)
{
	ssize_t done = send(w->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL | (w->more_follows ? MSG_MORE : 0));

	if (done < 0) {
		keep_error(w, errno);
		if (errno == EPIPE && w->broken)
			errno = w->broken;
	}
	return done;
}

/*
 * SSL_read may have to write, too. While libevent waits until that can be written, and a limit or
 * a filter above stops its reading, libevent loops for ever. So if the socket has no room, OpenSSL
 * is told that it is written:
 *
 *  - The answer to a KeyUpdate, or to a renegotiation that is refused, is kept until something else
 *    is written. A peer that goes on asking, and reads no answer, is cut off.
 *  - Messages of a renegotiation are kept until the socket has room.
 *  - So is the rest of a record of data that stands in the way of such an answer or message: OpenSSL
 *    would write in the middle of the record, and fail with "bad length".
 *  - The alert of a failure is dropped. No call of OpenSSL would write it later: after a failure
 *    SSL_read and SSL_do_handshake say for ever that they wait. So nothing but the socket makes
 *    the alert wait.
 */
int gtls_has_failed(const struct gtls_conn *c)
{
	return strcmp(SSL_state_string(c->ssl), "SSLERR") == 0;
}

static void forget_late(struct gtls_wire *w)
{
	if (event_initialized(&w->flight))
		event_del(&w->flight);
	free(w->late);
	w->late = NULL;
	w->late_at = w->late_end = w->aside = 0;
}

/* Writes what was kept. Returns -1 if something is left. */
static int write_late(struct gtls_wire *w)
{
	ssize_t done;

	while (w->late) {
		done = write_socket(w, w->late + w->late_at, w->late_end - w->late_at);
		if (done < 0)
			return -1;
		w->late_at += (size_t)done;
		if (w->late_at == w->late_end)
			forget_late(w);
	}
	return 0;
}

int gtls_wire_flush(struct gtls_conn *c)
{
	if (write_late(&c->wire) == 0)
		return 0;
	return is_transient(errno) ? 1 : -errno;
}

/* If the socket is broken, what reads it says so. */
static void on_room(evutil_socket_t fd, short what, void *arg)
{
	struct gtls_conn *c = arg;

	(void)fd;
	(void)what;
	gtls_lock(c);
	if (write_late(&c->wire) < 0 && is_transient(errno))
		event_add(&c->wire.flight, NULL);
	gtls_unlock(c);
}

static void await_room(struct gtls_conn *c)
{
	struct gtls_wire *w = &c->wire;

	if (event_initialized(&w->flight) && event_pending(&w->flight, EV_WRITE, NULL))
		return;
	event_assign(&w->flight, c->bev->ev_base, w->fd, EV_WRITE | EV_FINALIZE, on_room, c);
	event_add(&w->flight, NULL);
}

size_t gtls_most_late(const struct gtls_conn *c)
{
	return (gtls_renegotiates_now(c) ? MOST_FLIGHT : MOST_LATE) + c->wire.aside;
}

/* Of what is kept, the start may have been written meanwhile. */
static void forget_written(struct gtls_wire *w)
{
	w->late_end -= w->late_at;
	if (w->late_at)
		memmove(w->late, w->late + w->late_at, w->late_end);
	w->late_at = 0;
	if (w->aside > w->late_end)
		w->aside = w->late_end;
}

static int keeps(struct gtls_conn *c, const void *p, size_t n)
{
	struct gtls_wire *w = &c->wire;
	int again = gtls_renegotiates_now(c);
	unsigned char *late;

	forget_written(w);
	late = w->puts_aside || w->late_end + n <= gtls_most_late(c) ? realloc(w->late, w->late_end + n) : NULL;
	if (!late) {
		errno = ENOBUFS;
		return 0;
	}
	w->late = late;
	memcpy(w->late + w->late_end, p, n);
	w->late_end += n;
	if (again || w->puts_aside)
		await_room(c);
	return 1;
}

/* libevent's SSL_write may have been for a piece of many records. Then one more follows. */
void gtls_wire_put_aside(struct gtls_conn *c)
{
	struct gtls_wire *w = &c->wire;
	struct evbuffer *out = bufferevent_get_output(c->bev);
	int fast = SSL_get_rbio(c->ssl) == w->fast, rc;
	uint64_t before = BIO_number_written(SSL_get_wbio(c->ssl));
	struct evbuffer_iovec front;

	if (!c->under.bev)
		forget_written(w);
	if (!w->blocked || waits_for_loan(c) || w->aside > MOST_ASIDE || evbuffer_peek(out, 1, NULL, &front, 1) < 1)
		return;
	w->puts_aside = 1;
	SSL_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
	rc = SSL_write(c->ssl, front.iov_base, (int)(fast ? w->unfinished : front.iov_len));
	if (!fast)
		SSL_clear_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
	if (rc > 0) {
		/* rc also has what libevent's SSL_write had written before the record. */
		w->aside += (size_t)(BIO_number_written(SSL_get_wbio(c->ssl)) - before) + OVERHEAD;
		w->unfinished = 0;
		evbuffer_drain(out, (size_t)rc);
	}
	w->puts_aside = 0;
	if (rc > 0 && c->bev->writecb)
		bufferevent_trigger(c->bev, EV_WRITE, BEV_TRIG_DEFER_CALLBACKS);
}

/* Whether a record is a warning, which OpenSSL may put off and then write within an SSL_write. If it has to wait
 * there, the repeated SSL_write fails. close_notify has a call of its own (gtls_shutdown). */
static int is_warning(const struct gtls_conn *c, const char *record)
{
	return *record == SSL3_RT_ALERT && c->open && SSL_version(c->ssl) < TLS1_3_VERSION &&
	    !(SSL_get_shutdown(c->ssl) & SSL_SENT_SHUTDOWN);
}

static ssize_t write_or_keep(struct gtls_conn *c, BIO *bio, const char *p, int n, int is_data)
{
	struct gtls_wire *w = &c->wire;
	int waits = is_data ? !w->puts_aside : !c->open;
	ssize_t done;

	if ((c->ask.gated && !gtls_has_failed(c)) || (is_data && waits && wrote_enough(w, bio, n)))
		return come_again(bio, BIO_FLAGS_WRITE);
	done = write_late(w) < 0 ? -1 : write_socket(w, p, (size_t)n);
	if (done < 0 && is_transient(errno) && (gtls_has_failed(c) || (!waits && keeps(c, p, (size_t)n))))
		done = n;
	if (done < 0 && is_transient(errno))
		BIO_set_retry_write(bio);
	return done;
}

static int bio_write(BIO *bio, const char *p, int n)
{
	struct gtls_conn *c = BIO_get_data(bio);
	struct gtls_wire *w = &c->wire;
	int is_data;
	ssize_t done;

	if (!w->blocked)
		w->warns = (int8_t)is_warning(c, p);
	is_data = !SSL_in_init(c->ssl) && !w->warns;
	BIO_clear_retry_flags(bio);
	w->blocked = 1;
	if ((c->guard.gave_up || c->ask.refused) && !gtls_has_failed(c)) {
		errno = EPROTO;
		return -1;
	}
	if (c->under.bev)
		done = gtls_under_write(c, bio, p, n, is_data);
	else
		done = write_or_keep(c, bio, p, n, is_data);
	w->blocked = done != n;
	return (int)done;
}

static const struct gtls_wire *wire_of(BIO *bio)
{
	return &((struct gtls_conn *)BIO_get_data(bio))->wire;
}

/* OpenSSL calls this ten times for a record. */
static long bio_ctrl(BIO *bio, int cmd, long arg, void *p)
{
	(void)arg;
	switch (cmd) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_EOF:
		return wire_of(bio)->eof;
	case BIO_C_GET_FD:
		if (p)
			*(int *)p = wire_of(bio)->fd;
		return wire_of(bio)->fd;
	}
	return 0;
}

static BIO_METHOD *make_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "bufferevent's socket");

	if (m && BIO_meth_set_read(m, bio_read) && BIO_meth_set_write(m, bio_write) && BIO_meth_set_ctrl(m, bio_ctrl))
		return m;
	BIO_meth_free(m);
	return NULL;
}

/* All connections have one. Without memory the next connection tries again, and several threads may try at once. */
static BIO_METHOD *method(void)
{
	static BIO_METHOD *shared;
	BIO_METHOD *before = __atomic_load_n(&shared, __ATOMIC_ACQUIRE), *made;

	if (before)
		return before;
	made = make_method();
	if (!made || __atomic_compare_exchange_n(&shared, &before, made, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return made;
	BIO_meth_free(made);
	return before;
}

static BIO *new_bio(struct gtls_conn *c)
{
	BIO_METHOD *m = method();
	BIO *bio = m ? BIO_new(m) : NULL;

	if (bio) {
		BIO_set_data(bio, c);
		BIO_set_init(bio, 1);
	}
	return bio;
}

/* --- taking over from libevent, and giving back ------------------------------- */

/* Gives an event of libevent's another descriptor. */
static void assign(struct event *ev, int fd, short what)
{
	event_callback_fn fn = event_get_callback(ev);
	void *arg = event_get_callback_arg(ev);
	int priority = event_get_priority(ev);

	event_del(ev);
	event_assign(ev, event_get_base(ev), fd, what | EV_PERSIST | EV_FINALIZE, fn, arg);
	event_priority_set(ev, priority);
}

void gtls_wire_watch(struct gtls_conn *c, int fd)
{
	assign(&c->bev->ev_write, fd, EV_WRITE);
}

static void use_bio(struct gtls_conn *c, BIO *bio)
{
	BIO_up_ref(bio);
	SSL_set_bio(c->ssl, bio, bio);
}

int gtls_wire_init(struct gtls_conn *c, int on_filter)
{
	c->wire.fd = -1;
	c->wire.plain = new_bio(c);
	if (!c->wire.plain)
		return -1;
	if (on_filter)
		use_bio(c, c->wire.plain);
	return 0;
}

/* OpenSSL cannot forget a connection in the middle of a renegotiation, so libevent has only
 * replaced the BIO, and its events still wait for the old descriptor. If the connection is freed,
 * the descriptor is closed next. */
static void keep_socket(struct gtls_conn *c)
{
	use_bio(c, c->wire.plain);
	c->again.astray = 1;
	if (!c->freed)
		return;
	gtls_renegotiate_leave(c);
	assign(&c->bev->ev_read, -1, 0);
	assign(&c->bev->ev_write, -1, 0);
	c->wire.fd = -1;
}

/* libevent has made a BIO of its own for the descriptor. Ours goes on counting bytes where it was, because
 * libevent compares the counts. */
void gtls_socket(struct bufferevent *bev)
{
	struct gtls_conn *c = conn_of(bev);
	struct gtls_wire *w = &c->wire;

	if (c->under.bev) {
		gtls_under_socket(c);
		return;
	}
	if (SSL_renegotiate_pending(c->ssl)) {
		keep_socket(c);
		return;
	}
	gtls_conn_offer_session(c);
	c->idle = c->unstarted = 0;
	gtls_conn_restart(c);
	w->fd = bufferevent_getfd(bev);
	w->broken = 0;
	if (w->fd >= 0)
		gtlsAnother(c->handle);
	w->read_before = BIO_number_read(w->plain);
	use_bio(c, w->plain);
	gtls_handshake_intercept(c);
	gtls_renegotiate_intercept(c);
}

/* Not in the middle of a write of libevent's: OpenSSL wants libevent's arguments again. Whether
 * there is one, SSL_want_write does not say once an SSL_read has come after the write. */
int gtls_begin(struct bufferevent *bev)
{
	struct gtls_conn *c = conn_of(bev);
	struct gtls_wire *w = &c->wire;

	if (c->renegotiates) /* only libevent can do that */
		return 0;
	if (!SSL_is_init_finished(c->ssl) || w->blocked || SSL_get_rbio(c->ssl) != w->plain)
		return 0;
	if (!w->fast && !(w->fast = new_bio(c)))
		return 0;
	gtls_clear_errors();
	w->unfinished = 0; /* libevent has finished it */
	use_bio(c, w->fast);
	SSL_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
	assign(&c->bev->ev_write, -1, 0);
	return 1;
}

void gtls_end(struct bufferevent *bev)
{
	struct gtls_conn *c = conn_of(bev);

	SSL_clear_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
	c->wire.read = 0;
	use_bio(c, c->wire.plain);
	gtls_wire_watch(c, c->wire.fd);
}

void gtls_wire_restart(struct gtls_conn *c)
{
	struct gtls_wire *w = &c->wire;

	free(w->kept);
	forget_late(w);
	w->kept = w->data = NULL;
	w->at = w->end = w->unfinished = 0;
	w->read_errno = 0;
	w->ended = w->drained = w->eof = w->blocked = 0;
}

void gtls_wire_quiet(struct gtls_conn *c)
{
	forget_late(&c->wire);
}

void gtls_wire_free(struct gtls_conn *c)
{
	BIO_free(c->wire.plain);
	BIO_free(c->wire.fast);
	free(c->wire.kept);
	free(c->wire.late);
}

/* --- reading --------------------------------------------------------------------- */

/* The errno for an SSL_read or SSL_write that has failed: EPROTO for an error of OpenSSL,
 * whose code is kept for gtls_codes. */
static int ssl_errno(struct gtls_conn *c, int rc)
{
	int err = errno, why = SSL_get_error(c->ssl, rc);
	unsigned long code;

	switch (why) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return EAGAIN;
	case SSL_ERROR_ZERO_RETURN: /* of a write, after the peer's close_notify */
	case SSL_ERROR_SYSCALL:
		if (err) {
			gtls_clear_errors();
			return err;
		}
		if (c->wire.eof && !ERR_peek_error())
			return EPROTO; /* an end without close_notify, before OpenSSL 3 */
		break;
	}
	code = gtls_take_error();
	if (!c->code)
		c->code = code;
	return EPROTO;
}

/* The result of recv(2) or send(2) for an errno; 0 is the end of the stream. */
static ssize_t fail_with(int err)
{
	errno = err;
	return err ? -1 : 0;
}

static ssize_t read_records(struct gtls_conn *c, char *p, size_t n)
{
	size_t total = 0;
	int rc;

	gtls_clear_errors();
	while (total < n) {
		if (total && c->wire.drained && !unread(&c->wire) && !SSL_pending(c->ssl))
			break; /* SSL_read would only say that there is no more */
		errno = 0;
		rc = SSL_read(c->ssl, p + total, (int)(n - total));
		if (rc > 0) {
			total += (size_t)rc;
			continue;
		}
		if (SSL_get_error(c->ssl, rc) == SSL_ERROR_ZERO_RETURN) {
			c->wire.ended = 1;
			c->wire.read_errno = 0;
		} else if ((c->wire.read_errno = ssl_errno(c, rc)) != EAGAIN) {
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
		return fail_with(w->read_errno);
	if (n > size)
		n = size;
	w->scratch = scratch;
	/* Read little more than OpenSSL needs for n bytes: the rest has to be copied. */
	w->room = n + GTLS_RECORD + OVERHEAD < size ? n + GTLS_RECORD + OVERHEAD : size;
	w->drained = 0;
	w->reads = 0;
	w->read_errno = EAGAIN;
	total = read_records(c, p, n);
	w->room = 0;
	w->scratch = NULL;
	if (keep_unread(w) < 0) {
		w->ended = 1; /* the unread bytes are lost */
		w->read_errno = ENOMEM;
	}
	return total ? total : fail_with(w->read_errno);
}

/* Whether libevent has read close_notify and has not reported it: libevent 2.2 drops what SSL_read
 * says after it has read some bytes. */
static int keeps_end(const struct gtls_conn *c)
{
	return !c->told_end && (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN);
}

uint64_t gtls_sent(struct bufferevent *bev)
{
	struct gtls_conn *c = conn_of(bev);
	const struct gtls_wire *w = &c->wire;

	if (c->under.bev)
		return gtls_under_sent(c);
	return BIO_number_written(w->plain) + (w->fast ? BIO_number_written(w->fast) : 0);
}

int gtls_pending(struct bufferevent *bev, int wake)
{
	struct gtls_conn *c = conn_of(bev);
	const struct gtls_wire *w = &c->wire;
	int pending = w->ended || unread(w) > 0 || SSL_pending(c->ssl) > 0 || keeps_end(c);

	if (wake && pending) {
		/* gtls_add comes first, because event_add does not register an event that is active
		 * already: libevent would then wait for a descriptor that is not watched. If
		 * libevent does not want to read, it deletes the event in its callback. */
		gtls_add(&bev->ev_read, &bev->timeout_read);
		event_active(&bev->ev_read, EV_READ, 0);
	}
	return pending;
}

/* --- writing ----------------------------------------------------------------------- */

/* The start of the output, in one piece. OpenSSL wants a write that it could not finish to be
 * repeated, with the same bytes and at least as many. */
static const void *front(struct gtls_conn *c, struct evbuffer *out, size_t *n)
{
	struct evbuffer_iovec vec;

	if (*n < c->wire.unfinished)
		*n = c->wire.unfinished;
	if (evbuffer_peek(out, 1, NULL, &vec, 1) > 0 && vec.iov_len >= *n)
		return vec.iov_base;
	return evbuffer_pullup(out, (ev_ssize_t)*n);
}

/* Writes one record of up to n bytes at p, or of the output. */
static int write_record(struct gtls_conn *c, struct evbuffer *out, const char *p, size_t n)
{
	const void *from = p;
	int rc;

	if (n > GTLS_RECORD)
		n = GTLS_RECORD;
	if (!p && !(from = front(c, out, &n))) {
		errno = ENOMEM;
		return -1;
	}
	errno = 0;
	c->wire.unfinished = n;
	rc = SSL_write(c->ssl, from, (int)n);
	if (rc <= 0)
		return rc;
	c->wire.unfinished = 0;
	if (!p)
		evbuffer_drain(out, (size_t)rc);
	return rc;
}

ssize_t gtls_send(struct bufferevent *bev, const void *p, size_t n)
{
	struct gtls_conn *c = conn_of(bev);
	struct evbuffer *out = bufferevent_get_output(bev);
	const char *bytes = p;
	size_t total = 0;
	int rc, err = 0;

	if (c->wire.aside && write_late(&c->wire) < 0)
		return -1;
	gtls_clear_errors();
	while (total < n) {
		c->wire.more_follows = n - total > GTLS_RECORD;
		rc = write_record(c, out, bytes ? bytes + total : NULL, n - total);
		if (rc <= 0) {
			err = ssl_errno(c, rc);
			break;
		}
		total += (size_t)rc;
	}
	c->wire.more_follows = 0;
	return total ? (ssize_t)total : fail_with(err);
}
