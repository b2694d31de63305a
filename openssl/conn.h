/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn.h: what the C files share and Go does not see.
 *
 * A connection has the lock of its bufferevent, and a filter shares it with the bufferevent
 * below. "Locked" means that the caller holds that lock.
 */
#ifndef GTLS_CONN_H
#define GTLS_CONN_H

#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <event2/bufferevent_struct.h>
#include <event2/event_struct.h>

#include <openssl/sha.h>

#include "native.h"

/* The most bytes of plaintext that a TLS record can have. */
enum { GTLS_RECORD = 16384 };
/* The most codes of OpenSSL that are asked for after a failure. */
enum { GTLS_CODES = 16 };

/* --- error.c --------------------------------------------------------------- */

/* Empties the thread's error queue and returns its first code, which is never 0. */
unsigned long gtls_take_error(void);

/* ERR_clear_error needs 840 instructions with OpenSSL 3.0, also if there is no error, and the look 200. */
static inline void gtls_clear_errors(void)
{
	if (ERR_peek_error())
		ERR_clear_error();
}

/* --- bytes.c --------------------------------------------------------------- */

/* Takes the first n bytes. 0 if there are fewer, and then out is as before. */
int gtls_take(struct gtls_bytes *from, size_t n, struct gtls_bytes *out);
/* Takes bytes that have their number before them, in so many bytes. */
int gtls_take_counted(struct gtls_bytes *from, size_t size, struct gtls_bytes *out);
/* How many elements of DER there are, at all depths. What cannot be read counts as many small ones. */
size_t gtls_elements(struct gtls_bytes der);

/* --- context.c ------------------------------------------------------------- */

/* A certificate with its key and the intermediates up to its root. */
struct gtls_cert {
	X509 *leaf;
	EVP_PKEY *key;
	STACK_OF(X509) *chain;
};

struct gtls_ctx {
	SSL_CTX *ctx;
	uintptr_t handle;    /* of the Go context */
	int server;
	int renegotiates;    /* rules the fast path out */
	unsigned char *alpn; /* a server's protocols */
	size_t alpn_len;
	struct gtls_cert **certs;
	size_t ncerts;
	int asks_hello; /* Go has functions for the client's hello */
	int gets_cert; /* Go has a function for the certificate of a client */
	int asks; /* its connections have questions for Go */
	struct gtls_tickets *tickets; /* of a server */
	/* OpenSSL's own decision about security levels */
	int (*security)(const SSL *, const SSL_CTX *, int, int, int, void *, void *);
};

/* --- a connection ---------------------------------------------------------- */

/* wire.c: the socket and the fast path. */
struct gtls_wire {
	BIO *plain;           /* through which libevent reads and writes the socket */
	BIO *fast;            /* through which the fast path does */
	uint64_t read_before; /* how many bytes plain had read when it got this socket */
	int fd;
	/* Bytes from the socket that OpenSSL has not taken yet: data[at] up to data[end]. */
	unsigned char *data;
	size_t at, end;
	unsigned char *kept;    /* holds them between two calls of gtls_recv */
	unsigned char *scratch; /* holds them during a call */
	size_t room;            /* size of scratch; 0 outside of gtls_recv */
	size_t read, written;   /* by libevent since it last had to wait */
	int reads;              /* of OpenSSL in a row */
	size_t unfinished;      /* length of the write that OpenSSL wants to repeat, or 0 */
	int read_errno;         /* why the last read stopped: an errno, or 0 for close_notify */
	int broken;             /* why the connection of the socket has broken: an errno, or 0 */
	/* Answers, messages of a renegotiation, and records that were put aside, which
	 * wait for room in the socket: late[late_at] up to late[late_end], or NULL. */
	unsigned char *late;
	size_t late_at, late_end;
	size_t aside;           /* how many bytes of records are among them, or wait below a filter, at most */
	struct event flight;    /* is pending while one of the latter two waits */
	int8_t puts_aside;      /* what is written does not wait for room */
	int8_t blocked;         /* a record is written in part, and waits for room in the socket */
	int8_t warns;           /* that record, or the last one, is a warning */
	int8_t ended;           /* nothing more can be read */
	int8_t drained;         /* the last read has emptied the socket */
	int8_t eof;             /* the socket has ended */
	int8_t more_follows;    /* another record will be written at once */
};

/* under.c: the bufferevent below a filter. */
struct gtls_under {
	struct bufferevent *bev; /* NULL if the connection is on a socket */
	/* libevent's callbacks on it, which ours call */
	bufferevent_data_cb read, write;
	bufferevent_event_cb event;
	void *arg;
	struct evbuffer_cb_entry *in_cb;
	int busy;                /* OpenSSL is at work, and changes its buffers */
	int8_t linked;           /* there is, or was, a connection */
	int8_t ended;            /* libevent was told that its reading has ended */
	short end;               /* the end of its reading, which waits until its input is read, or 0 */
	int end_err;             /* the errno of that */
	size_t put_off;          /* how many bytes were in its input when a failure of TLS there was put off */
	size_t own;              /* bytes of OpenSSL's own that may still wait there */
	int64_t own_from;        /* how many bytes had been written before the first of them */
};

/* guard.c: what the peer may cost. */
struct gtls_guard {
	struct timeval limit;   /* of a handshake; 0 for none */
	struct event *deadline; /* its end, or NULL */
	int8_t running;         /* the handshake has begun, and is to end before that */
	int without_data;       /* records and messages in a row since the last record with data, or the end of a handshake */
	int messages;           /* that have ended in the present record */
	int parts;              /* records of the present message */
	int8_t gave_up;         /* what the peer has done, a GTLS_ of native.h, or 0 */
};

/* handshake.c: a question to Go that a handshake has. */
struct gtls_ask {
	unsigned id;       /* counts the questions */
	int kind;          /* which has been answered, a GTLS_ASK_, or 0 */
	int answer;        /* of Go to it */
	int8_t may_rest;   /* the handshake can wait for an answer now */
	_Atomic int8_t pending; /* it waits */
	int8_t gated;      /* meanwhile nothing is read or written */
	int8_t knows_hello; /* Go was told of the client's first message, */
	unsigned char hello[SHA256_DIGEST_LENGTH]; /* and this is the digest of what it was told */
	int8_t refused;    /* a server does not accept the client's certificate */
	struct event rest; /* is pending while the handshake waits */
	/* libevent's callback for the events of the socket, which ours calls */
	event_callback_fn libevents;
	void *arg;
};

/* renegotiate.c: libevent's callbacks for the events of the socket, which ours call. */
struct gtls_again {
	event_callback_fn read, write;
	void *arg;
	struct event message; /* is pending while writing waits for the end of a handshake */
	int8_t astray;        /* libevent takes that handshake for the first one */
	int8_t wanted;        /* the user has asked for a handshake, and none has started since */
	int8_t awaited;       /* how many ends of handshakes are still to come until the user is told */
};

/* One connection. It lives as long as its bufferevent. */
struct gtls_conn {
	SSL *ssl;
	struct gtls_ctx *ctx;
	struct bufferevent *bev;
	int server;
	uintptr_t handle;         /* of the Go connection */
	unsigned long code;       /* OpenSSL's first error that gtls_codes has not taken yet */
	char *name;               /* that the client has asked this server for; NULL before its hello */
	unsigned char *scts;      /* the timestamps that the server has sent, */
	size_t nscts;             /* and their length */
	SSL_SESSION *session;     /* a client tries to resume it; or NULL */
	int8_t renegotiates;
	int8_t open;              /* the first handshake on this socket has ended well */
	int8_t asks;
	int8_t unstarted;         /* it was made with a socket, and its handshake may not start yet */
	int8_t idle;              /* the handshake has started for us, and OpenSSL waits for a byte */
	int8_t shows;             /* in this handshake it has a certificate that Go has picked */
	int8_t decided;           /* what Go has said of the finished handshake, or 0 */
	int8_t failed;            /* an error was reported since the handshake started */
	int8_t told_end;          /* the end of reading was reported since the handshake started */
	int8_t freed;             /* by the user */
	struct gtls_ask ask;
	struct gtls_again again;
	struct gtls_wire wire;
	struct gtls_under under;
	struct gtls_guard guard;
	struct evbuffer_cb_entry *out_cb; /* output.c, or NULL */
};

/* A connection without a bufferevent is not shared yet, and has no lock. */
static inline void gtls_lock(struct gtls_conn *c)
{
	if (c->bev)
		evbuffer_lock(bufferevent_get_input(c->bev));
}

static inline void gtls_unlock(struct gtls_conn *c)
{
	if (c->bev)
		evbuffer_unlock(bufferevent_get_input(c->bev));
}

/* --- conn.c ---------------------------------------------------------------- */

/* Has a client's next handshake try to resume c->session, and no other session, which
 * could be that of another server. Locked. */
void gtls_conn_offer_session(struct gtls_conn *c);

/* --- event.c --------------------------------------------------------------- */

/* Forgets what belongs to the connection before: a new one starts, perhaps on another
 * socket. Locked. */
void gtls_conn_restart(struct gtls_conn *c);
/* The handshake is done, and does not wait for Go any more: libevent reports that now. Locked. */
void gtls_conn_opened(struct gtls_conn *c);
/* Whether an event says of writing only that it has failed, though reading has ended as well. libevent makes of the end of
 * what is below an error without a direction, and merges that with the failure of a write. Locked. */
int gtls_lost_end(const struct gtls_conn *c, short what);

/* --- handshake.c ----------------------------------------------------------- */

/* Adds an event with a timeout, which may be zero for none. */
int gtls_add(struct event *ev, const struct timeval *timeout);
/* Puts a callback of ours in the place of that of an event of libevent's, which it returns together
 * with its argument. Locked. */
event_callback_fn gtls_stand_before(struct gtls_conn *c, struct event *ev, const struct timeval *timeout, event_callback_fn ours, void **arg);
/* The connection has another socket. Locked. */
void gtls_handshake_intercept(struct gtls_conn *c);
/* Forgets the questions of the handshake before. Locked. */
void gtls_ask_restart(struct gtls_conn *c);
/* The X509_V_ of Go for the certificates that the peer has sent. Locked. */
int gtls_ask_verify(struct gtls_conn *c, STACK_OF(X509) *sent);
/* Asks Go about what, which belongs to this kind of question. 1 is yes, 0 no, and -1 that the
 * handshake rests. Locked. */
int gtls_ask(struct gtls_conn *c, int kind, const void *what);
/* A handshake that could not wait for Go is done. OpenSSL has not returned from it yet, and a server
 * of TLS 1.3 still has to send its tickets. Locked. */
void gtls_handshake_done(struct gtls_conn *c);
/* OpenSSL returns from it, and nothing is left to send. Locked. */
void gtls_handshake_left(struct gtls_conn *c);
/* Puts our decisions before OpenSSL's own about what is secure. A server can refuse a client with them after its
 * certificate has passed. */
void gtls_ctx_use_security(struct gtls_ctx *c);

/* --- renegotiate.c ---------------------------------------------------------- */

/* Puts our callbacks in place of libevent's on a socket that may renegotiate. Locked. */
void gtls_renegotiate_intercept(struct gtls_conn *c);
/* Puts libevent's back. Locked. */
void gtls_renegotiate_leave(struct gtls_conn *c);
/* Starts a handshake on a socket, as soon as that is possible. If one is under way already, that counts. Locked. */
void gtls_renegotiate(struct gtls_conn *c);
/* Whether libevent must not write, because a handshake is under way on a socket. Locked. */
int gtls_renegotiate_under_way(const struct gtls_conn *c);
/* Whether an open connection is in a handshake. Locked. */
int gtls_renegotiates_now(const struct gtls_conn *c);
/* Nothing is registered any more. Locked. */
void gtls_renegotiate_quiet(struct gtls_conn *c);
/* That handshake has ended, or it was the first one: libevent writes again. Locked. */
void gtls_renegotiated(struct gtls_conn *c);

/* --- chain.c --------------------------------------------------------------- */

enum { GTLS_MAX_NAME = 4096 }; /* bytes. OpenSSL sorts the parts of a name, of which a peer can send thousands. */

/* Refuses certificates that would keep OpenSSL busy: this is the message in which the peer has sent them, and
 * OpenSSL has not looked at it yet. Locked. */
void gtls_chain_check(struct gtls_conn *c, const unsigned char *p, size_t n);

/* --- offer.c --------------------------------------------------------------- */

/* An extension of the client's first message, while OpenSSL asks about that message. Without it n is 0. */
struct gtls_bytes gtls_offer_extension(SSL *ssl, unsigned type);
/* Whether that message has no more of anything than clients need. */
int gtls_offer_is_modest(SSL *ssl);
/* Refuses a server's request for a certificate if it names too many authorities, or one at too great length. OpenSSL
 * has not looked at it yet. Locked. */
void gtls_offer_check_authorities(struct gtls_conn *c, const unsigned char *p, size_t n);

/* --- ticket.c -------------------------------------------------------------- */

/* Gives a server's tickets their keys, and has Go check the sessions in them. 0 if that fails. */
int gtls_ctx_use_tickets(struct gtls_ctx *c);
void gtls_tickets_free(struct gtls_tickets *t);

/* --- staple.c -------------------------------------------------------------- */

/* A server sends what its certificate has, and a client asks for it. 0 if that fails. */
int gtls_ctx_use_staples(struct gtls_ctx *c);

/* --- wire.c ---------------------------------------------------------------- */

void gtls_wire_restart(struct gtls_conn *c);
/* Makes the BIO through which libevent reads and writes. -1 if there is no memory. */
int gtls_wire_init(struct gtls_conn *c, int on_filter);
/* The bufferevent is freed: what is registered is removed. */
void gtls_wire_quiet(struct gtls_conn *c);
/* Called before libevent's callback of a handshake. Locked. */
void gtls_wire_keep_error(struct gtls_conn *c);
void gtls_wire_free(struct gtls_conn *c);
/* Writes what waits for room in the socket. Returns 1 if some of that still waits, or the negative of an errno. Locked. */
int gtls_wire_flush(struct gtls_conn *c);
/* libevent waits until this descriptor has room, or with -1 only until a timeout. Locked. */
void gtls_wire_watch(struct gtls_conn *c, int fd);
/* If a record of data is written in part, its rest no longer keeps OpenSSL from writing. Called in
 * an SSL_read. Locked. */
void gtls_wire_put_aside(struct gtls_conn *c);
/* Whether OpenSSL has given the connection up: for a fatal alert, of the peer or its own. Locked. */
int gtls_has_failed(const struct gtls_conn *c);
/* How many bytes of what OpenSSL writes on its own may wait for room. Locked. */
size_t gtls_most_late(const struct gtls_conn *c);

/* --- guard.c --------------------------------------------------------------- */

/* -1 if there is no memory. */
int gtls_guard_init(struct gtls_conn *c, struct event_base *base);
void gtls_guard_free(struct gtls_conn *c);
void gtls_guard_restart(struct gtls_conn *c);
/* The first handshake on a socket has started, or has ended, well or not. */
void gtls_guard_start(struct gtls_conn *c);
void gtls_guard_hurry(struct gtls_conn *c);
void gtls_guard_stop(struct gtls_conn *c);
/* If the user enables a connection again whose handshake has timed out, the handshake fails, also if the peer
 * sends nothing more. Locked. */
void gtls_guard_end_timed_out(struct gtls_conn *c);
/* A record of this type has come (SSL3_RT_). */
void gtls_guard_record(struct gtls_conn *c, int type);
/* A message of a handshake has come as a whole, of this type (SSL3_MT_). */
void gtls_guard_message(struct gtls_conn *c, int type);
/* OpenSSL has left its handshake without finishing it, within the call that is in progress. Locked. */
void gtls_guard_halt(struct gtls_conn *c);

/* --- output.c -------------------------------------------------------------- */

/* -1 if there is no memory. */
int gtls_output_init(struct gtls_conn *c);
void gtls_output_free(struct gtls_conn *c);

/* --- under.c --------------------------------------------------------------- */

/* -1 if there is no memory. */
int gtls_under_init(struct gtls_conn *c, struct bufferevent *under);
void gtls_under_free(struct gtls_conn *c);
/* Puts our callbacks in place of libevent's, if libevent has set its own. Locked. */
void gtls_under_intercept(struct gtls_conn *c);
/* What the BIO of a filter does. Locked. */
int gtls_under_read(struct gtls_conn *c, BIO *bio, void *p, int n);
int gtls_under_write(struct gtls_conn *c, BIO *bio, const void *p, int n, int is_data);
uint64_t gtls_under_sent(struct gtls_conn *c);
/* The output of the connection has got bytes. */
void gtls_under_output(struct gtls_conn *c);
/* Has libevent start or continue the handshake of a filter, in the loop's next turn. */
void gtls_under_wake(struct gtls_conn *c);
/* There is another descriptor at the bottom, or none. Locked. */
void gtls_under_socket(struct gtls_conn *c);
/* Whether there is, or was, a connection below. Locked. */
int gtls_under_is_linked(struct gtls_conn *c);

/* --- callbacks.c ----------------------------------------------------------- */

/* The ex_data index by which an SSL leads to its connection, or -1. */
int gtls_conn_index(void);
struct gtls_conn *gtls_conn_of(const SSL *ssl);
/* The callbacks of an SSL_CTX. */
int gtls_on_verify(X509_STORE_CTX *store, void *arg);
int gtls_on_cert(SSL *ssl, void *arg);
int gtls_on_cert_request(SSL *ssl, void *arg);
int gtls_on_hello(SSL *ssl, int *alert, void *arg);
int gtls_on_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in, unsigned int inlen, void *arg);
int gtls_on_session(SSL *ssl, SSL_SESSION *session);
void gtls_on_key(const SSL *ssl, const char *line);
void gtls_on_info(const SSL *ssl, int where, int ret);
void gtls_on_message(int write, int version, int type, const void *p, size_t n, SSL *ssl, void *arg);

#endif
