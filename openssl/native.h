/*
 * native.h: the C side of the package, as Go sees it.
 *
 * OpenSSL leaves its errors in a queue of the thread, and a goroutine may change its
 * thread between two calls. So a function here that may fail also takes the errors:
 * it returns 0, or the first of OpenSSL's codes, and leaves the queue empty.
 */
#ifndef GTLS_NATIVE_H
#define GTLS_NATIVE_H

#include <stdint.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/bufferevent_struct.h>
#include <event2/event.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

/* Bytes of Go, for the time of a call. */
struct gtls_bytes {
	const unsigned char *p;
	size_t n;
};

/* --- error.c --------------------------------------------------------------- */

/* Takes what the thread's queue has, and returns its first code, never 0. */
unsigned long gtls_failed(void);
int gtls_lib(unsigned long code);
int gtls_reason(unsigned long code);
/* The connection has ended without close_notify. */
int gtls_is_cut(unsigned long code);

/* --- context.c ------------------------------------------------------------- */

/* A certificate with its key, and those that lead to its root. */
struct gtls_cert {
	X509 *leaf;
	EVP_PKEY *key;
	STACK_OF(X509) *chain;
};

enum { GTLS_MAX_PICKED = 8 };

struct gtls_ctx {
	SSL_CTX *ctx;
	uintptr_t handle; /* of the Go context */
	int server;
	int renegotiates;    /* and so libevent reads and writes */
	unsigned char *alpn; /* what a server offers */
	size_t alpn_len;
	struct gtls_cert *certs;
	size_t ncerts;
};

enum {
	GTLS_NO_TICKETS = 1,
	GTLS_RENEGOTIATION = 2,
	GTLS_SESSIONS = 4, /* a client keeps them */
	GTLS_KEY_LOG = 8,
};

enum {
	GTLS_VERIFY_NOTHING,    /* whatever the peer has is right */
	GTLS_VERIFY_STORE,      /* OpenSSL verifies */
	GTLS_VERIFY_GO,         /* Go verifies */
	GTLS_CERT_REQUESTED = 16, /* of a client: a certificate, if it has one */
	GTLS_CERT_REQUIRED = 32,  /* of a client: a certificate */
};

struct gtls_ctx *gtls_ctx_new(int server, int options, int tickets, uintptr_t handle, unsigned long *code);
void gtls_ctx_free(struct gtls_ctx *c);
/* 0 is none. */
unsigned long gtls_ctx_versions(struct gtls_ctx *c, int min, int max);
/* NULL is the default. */
unsigned long gtls_ctx_ciphers(struct gtls_ctx *c, const char *list, const char *suites);
/* der[0] is the leaf, key is PKCS #8. */
unsigned long gtls_ctx_add_cert(struct gtls_ctx *c, const struct gtls_bytes *der, int n, struct gtls_bytes key);
/* By server name, among those that were added. */
unsigned long gtls_ctx_pick_certs(struct gtls_ctx *c);
/* Something that verified certificates may lead to. */
unsigned long gtls_ctx_add_root(struct gtls_ctx *c, struct gtls_bytes der);
/* What a server tells clients that theirs should lead to: a DER name. */
unsigned long gtls_ctx_add_ca_name(struct gtls_ctx *c, struct gtls_bytes name);
void gtls_ctx_verify(struct gtls_ctx *c, int mode);
/* In the form of the wire: each with its length before it. */
unsigned long gtls_ctx_alpn(struct gtls_ctx *c, struct gtls_bytes protos);

/* --- conn.c ---------------------------------------------------------------- */

/* wire.c: the fast path of one. */
struct gtls_wire {
	BIO *plain, *fast;    /* libevent's and ours, for the same socket */
	uint64_t before;      /* what the plain one had read when it got that */
	int fd;
	unsigned char *data;  /* what was read and not yet asked for is from at to end */
	size_t at, end;
	unsigned char *kept;  /* the memory of that, between two calls */
	unsigned char *scratch; /* and within one */
	size_t room;          /* of scratch; 0 between two calls */
	size_t unsent;        /* what OpenSSL wants to be given again */
	int why;              /* reading has ended, or not: an errno, or 0 for close_notify */
	int8_t counting;      /* there is nothing to read or to write, but to count */
	int8_t ended;
	int8_t dry;           /* the socket has no more */
	int8_t eof;
	int8_t more;          /* will be written at once */
	int8_t late;          /* the handshake has met a broken pipe */
};

/* One connection. It lives as long as its bufferevent. */
struct gtls_conn {
	SSL *ssl;
	struct bufferevent *bev;
	int server;
	uintptr_t handle;      /* of the Go connection */
	unsigned long code;    /* of the first error of OpenSSL that nobody was told */
	int verify_error;      /* X509_V_ERR_ of the store, or 0 */
	SSL_SESSION *session;  /* to resume, or NULL */
	STACK_OF(X509) *peer;  /* what the peer sent, if that is wrong, */
	X509 *wrong;           /* and what of it, or NULL */
	int8_t by_store;       /* OpenSSL verifies */
	int8_t named;          /* whom to expect is known */
	int8_t renegotiates;
	int8_t failed;         /* since its handshake began */
	int8_t shutting;       /* close_notify waits for room in the socket */
	int8_t begun;          /* gtls_conn_begin was called */
	struct gtls_wire wire;
	struct evbuffer_cb_entry *out_cb; /* where libevent writes */
	/* under.c: libevent's callbacks of what a filter is on */
	struct bufferevent *under;
	bufferevent_data_cb under_read, under_write;
	bufferevent_event_cb under_event;
	void *under_arg;
	struct evbuffer_cb_entry *under_in_cb;
	short under_end;       /* its end, which is to be told when its input is read, or 0 */
};

/* What keeps a descriptor from being one for a connection, or 0. */
int gtls_check_fd(int fd);
/* Made, but not yet on anything. */
struct gtls_conn *gtls_conn_new(struct gtls_ctx *c, int verify, uintptr_t handle, unsigned long *code);
/* The name that the peer is to have; before the handshake. */
unsigned long gtls_conn_set_name(struct gtls_conn *c, const char *name, int is_ip);
/* What the next connection may resume: NULL is nothing. Takes the reference. */
void gtls_conn_set_session(struct gtls_conn *c, SSL_SESSION *session);
/* Forgets the one before, which may be another server's. With the lock. */
void gtls_conn_resume(struct gtls_conn *c);
/* -EISCONN on an open connection, to which what is to be expected of the next must not
 * come: its own sessions would be kept under that name. */
int64_t gtls_conn_may_connect(struct gtls_conn *c);
/* For one that never got a bufferevent. */
void gtls_conn_free(struct gtls_conn *c);
/* Gives it its socket. */
int64_t gtls_conn_set_fd(struct gtls_conn *c, int fd);
/* Begins the handshake; what is below a filter is enabled by then. */
int64_t gtls_conn_begin(struct gtls_conn *c);
/* On the loop's thread; without begin only asks whether it may be. */
int64_t gtls_conn_renegotiate(struct gtls_conn *c, int begin);

/* The functions of internal/adopt. */
struct bufferevent *gtls_make(struct event_base *base, struct bufferevent *under, int options, void *arg);
void gtls_gone(void *arg);
int gtls_codes(struct bufferevent *bev, unsigned long *codes, int n);
int gtls_shutdown(struct bufferevent *bev);

/* What has to be known of an event. */
struct gtls_said {
	int closed;     /* close_notify was received */
	int before;     /* nothing came from the peer */
	int again;      /* its failure was told */
	int eof;        /* the socket has no more */
};

void gtls_conn_restart(struct gtls_conn *c);
struct gtls_said gtls_conn_event(struct gtls_conn *c, short what);

/* What OpenSSL's verification has said since this was asked last: X509_V_ERR_, or 0. peer
 * and wrong are references. */
int gtls_conn_failure(struct gtls_conn *c, STACK_OF(X509) **peer, STACK_OF(X509) **wrong);

/* What is known of a connection whose handshake is done. */
struct gtls_state {
	int version;
	unsigned cipher;     /* as it is on the wire */
	const char *cipher_name;
	int resumed;
	const unsigned char *alpn; /* as long as the lock is held */
	unsigned alpn_len;
	char name[256];
	STACK_OF(X509) *peer; /* references; leaf first */
};

/* -ENOTCONN before the end of the handshake. */
int64_t gtls_conn_state(struct gtls_conn *c, struct gtls_state *s, unsigned char alpn[256]);

/* Whether it may still be resumed. */
int gtls_session_fresh(SSL_SESSION *session);

/* Certificate i as DER, or NULL. */
unsigned char *gtls_der(STACK_OF(X509) *certs, int i, int *n);
void gtls_der_free(unsigned char *der);
int gtls_count(STACK_OF(X509) *certs);
void gtls_release(STACK_OF(X509) *certs);

/* --- wire.c ------------------------------------------------------------------ */

/* The functions of internal/adopt that stand in place of libevent's. */
void gtls_socket(struct bufferevent *bev);
int gtls_begin(struct bufferevent *bev);
void gtls_end(struct bufferevent *bev);
ssize_t gtls_recv(struct bufferevent *bev, void *p, size_t n, void *scratch, size_t size);
int gtls_pending(struct bufferevent *bev, int wake);
ssize_t gtls_send(struct bufferevent *bev, size_t most);
void gtls_wire_restart(struct gtls_conn *c);
void gtls_wire_free(struct gtls_conn *c);

/* --- record.c ---------------------------------------------------------------- */

int gtls_record_init(struct gtls_conn *c);
void gtls_record_free(struct gtls_conn *c);

/* --- under.c ------------------------------------------------------------------ */

int gtls_under_init(struct gtls_conn *c, struct bufferevent *under);
void gtls_under_free(struct gtls_conn *c);
/* libevent may have changed the callbacks. With the lock. */
void gtls_under_guard(struct gtls_conn *c);
/* Has a handshake begin or go on. */
void gtls_under_kick(struct gtls_conn *c);

/* --- callbacks.c: the callbacks given to OpenSSL and libevent ---------------- */

int gtls_conn_index(void);
struct gtls_conn *gtls_conn_of(const SSL *ssl);
int gtls_on_verify(X509_STORE_CTX *store, void *arg);
int gtls_on_verified(int ok, X509_STORE_CTX *store);
int gtls_on_any_cert(X509_STORE_CTX *store, void *arg);
int gtls_on_cert(SSL *ssl, void *arg);
int gtls_on_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in, unsigned int inlen, void *arg);
int gtls_on_session(SSL *ssl, SSL_SESSION *session);
void gtls_on_key(const SSL *ssl, const char *line);
void gtls_on_info(const SSL *ssl, int where, int ret);
void gtls_on_output(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg);
void gtls_on_under_input(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg);
void gtls_on_under_read(struct bufferevent *bev, void *arg);
void gtls_on_under_write(struct bufferevent *bev, void *arg);
void gtls_on_under_event(struct bufferevent *bev, short what, void *arg);
int gtls_wire_read(BIO *bio, char *p, int n);
int gtls_wire_write(BIO *bio, const char *p, int n);
long gtls_wire_ctrl(BIO *bio, int cmd, long arg, void *p);

#endif
