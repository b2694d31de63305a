/*
 * native.h: what Go sees of the C half of this package. conn.h has what only the C files
 * share.
 *
 * OpenSSL keeps its errors in a queue of the thread, and a goroutine may change its thread
 * between two calls of C. So a function that may fail takes the errors from the queue
 * before it returns. Its result is 0 or OpenSSL's first error code if it is an unsigned
 * long, and 0 or a negative errno if it is an int64_t.
 */
#ifndef GTLS_NATIVE_H
#define GTLS_NATIVE_H

#include <stdint.h>

#include <event2/bufferevent.h>
#include <event2/event.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

/* Memory of Go, which C may use until the call returns. */
struct gtls_bytes {
	const unsigned char *p;
	size_t n;
};

/* --- error.c --------------------------------------------------------------- */

/* The two parts of an error code. */
int gtls_lib(unsigned long code);
int gtls_reason(unsigned long code);
/* Whether the code says that the connection ended without close_notify. */
int gtls_is_unexpected_eof(unsigned long code);

/* --- context.c ------------------------------------------------------------- */

struct gtls_ctx;

enum {
	GTLS_NO_TICKETS = 1,
	GTLS_RENEGOTIATION = 2,
	GTLS_SESSIONS = 4, /* a client's sessions are passed to gtlsSession */
	GTLS_KEY_LOG = 8,
};

/* One way to verify the peer, and for a server at most one of the two flags. */
enum {
	GTLS_VERIFY_NOTHING,      /* any certificate is accepted */
	GTLS_VERIFY_STORE,        /* OpenSSL verifies, with the roots of its store */
	GTLS_VERIFY_GO,           /* gtlsVerify verifies */
	GTLS_CERT_REQUESTED = 16, /* the client is asked for a certificate, and may have none */
	GTLS_CERT_REQUIRED = 32,  /* the client must have a certificate */
};

/* How many certificates gtlsPick may choose at most. */
enum { GTLS_MAX_PICKED = 8 };

struct gtls_ctx *gtls_ctx_new(int server, int options, int tickets, uintptr_t handle, unsigned long *code);
void gtls_ctx_free(struct gtls_ctx *c);
/* 0 sets no bound. */
unsigned long gtls_ctx_versions(struct gtls_ctx *c, int min, int max);
/* NULL leaves OpenSSL's default. */
unsigned long gtls_ctx_ciphers(struct gtls_ctx *c, const char *list, const char *suites);
/* der[0] is the leaf, and the key is PKCS #8. */
unsigned long gtls_ctx_add_cert(struct gtls_ctx *c, const struct gtls_bytes *der, int n, struct gtls_bytes key);
/* From now on gtlsPick chooses among the added certificates, by the client's server name. */
void gtls_ctx_pick_certs(struct gtls_ctx *c);
/* Adds a certificate to the store. */
unsigned long gtls_ctx_add_root(struct gtls_ctx *c, struct gtls_bytes der);
/* Adds the DER name of an issuer to the list that a server sends when it asks for a certificate. */
unsigned long gtls_ctx_add_ca_name(struct gtls_ctx *c, struct gtls_bytes name);
void gtls_ctx_verify(struct gtls_ctx *c, int mode);
/* The protocols are in TLS's format: each has its length before it. */
unsigned long gtls_ctx_alpn(struct gtls_ctx *c, struct gtls_bytes protos);

/* --- conn.c ---------------------------------------------------------------- */

struct gtls_conn;

/* The errno that says why a descriptor is not a stream socket, or 0. */
int gtls_check_fd(int fd);
/* Makes a connection that has no bufferevent yet: gtls_make makes that. limit is how long a
 * handshake may take, in microseconds, or 0. */
struct gtls_conn *gtls_conn_new(struct gtls_ctx *c, int verify, int64_t limit, uintptr_t handle, unsigned long *code);
/* Only for a connection that never got a bufferevent; else gtls_gone frees it. */
void gtls_conn_free(struct gtls_conn *c);
/* Sets the name that the server must have. Call it before the handshake. */
unsigned long gtls_conn_set_name(struct gtls_conn *c, const char *name, int is_ip);
/* Sets the session that the next handshake tries to resume, or NULL. Takes the reference. */
void gtls_conn_set_session(struct gtls_conn *c, SSL_SESSION *session);
/* -EISCONN if the connection is open: the name of the next server must not be set then,
 * because sessions that the present server still sends would be kept under that name. */
int64_t gtls_conn_may_connect(struct gtls_conn *c);
/* Gives the connection its socket. */
int64_t gtls_conn_set_fd(struct gtls_conn *c, int fd);
/* Starts a new handshake, on the loop's thread. With begin 0 it only checks, on any thread,
 * whether that is possible. */
int64_t gtls_conn_renegotiate(struct gtls_conn *c, int begin);
SSL *gtls_conn_ssl(struct gtls_conn *c);

/* --- event.c --------------------------------------------------------------- */

/* What the connection knows when libevent reports an event. */
struct gtls_event {
	int close_notify;     /* the peer has sent close_notify */
	int open;             /* the handshake is done */
	int nothing_received; /* it is not, and the peer has not sent a byte */
	int flooded;          /* the peer has sent too many records without data */
	int failed_before;    /* an error of this connection was reported already */
	int socket_eof;       /* the socket has ended */
};

/* Turns off the directions that the event has ended. */
struct gtls_event gtls_conn_event(struct gtls_conn *c, short what);
/* Takes the failure of OpenSSL's own verification: an X509_V_ERR_, or X509_V_OK for none.
 * sent gets the peer's certificates and wrong the one that is wrong. The caller frees both
 * with gtls_certs_free. */
int gtls_conn_verify_failure(struct gtls_conn *c, STACK_OF(X509) **sent, STACK_OF(X509) **wrong);

/* --- state.c --------------------------------------------------------------- */

/* What is known of a connection after its handshake. */
struct gtls_state {
	int version;
	unsigned cipher;         /* its number in TLS */
	const char *cipher_name;
	int resumed;
	unsigned char alpn[256]; /* the protocol, alpn_len bytes */
	unsigned alpn_len;
	char name[256];          /* the server name that the client has sent */
	STACK_OF(X509) *peer;    /* leaf first; the caller frees it with gtls_certs_free */
};

/* Returns the number of the handshake that the state is of. If that is known, leaves s alone.
 * -ENOTCONN before the end of the first handshake on a socket. */
int64_t gtls_conn_state(struct gtls_conn *c, int64_t known, struct gtls_state *s);
/* Whether a session can still be resumed. */
int gtls_session_fresh(SSL_SESSION *session);

/* --- certificate.c --------------------------------------------------------- */

/* NULL stands for an empty list. */
int gtls_certs_count(STACK_OF(X509) *certs);
void gtls_certs_free(STACK_OF(X509) *certs);
/* The DER of certificate i, to be freed with gtls_der_free, or NULL. */
unsigned char *gtls_certs_der(STACK_OF(X509) *certs, int i, int *n);
void gtls_der_free(unsigned char *der);

/* --- the functions of adopt.Kind ------------------------------------------- */

/* conn.c */
struct bufferevent *gtls_make(struct event_base *base, struct bufferevent *under, int options, void *arg);
void gtls_gone(void *arg);
void gtls_quiet(struct bufferevent *bev);
int gtls_shutdown(struct bufferevent *bev);
void gtls_start(struct bufferevent *bev);
int gtls_is_open(struct bufferevent *bev);
/* event.c */
int gtls_codes(struct bufferevent *bev, unsigned long *codes, int n);
/* wire.c */
void gtls_socket(struct bufferevent *bev);
int gtls_begin(struct bufferevent *bev);
void gtls_end(struct bufferevent *bev);
ssize_t gtls_recv(struct bufferevent *bev, void *p, size_t n, void *scratch, size_t size);
int gtls_pending(struct bufferevent *bev, int wake);
ssize_t gtls_send(struct bufferevent *bev, size_t most);

#endif
