/* SPDX-License-Identifier: BSD-3-Clause */
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
struct gtls_cert;

enum {
	GTLS_NO_TICKETS = 1,
	GTLS_RENEGOTIATION = 2,
	GTLS_SESSIONS = 4, /* a client's sessions are passed to gtlsSession */
	GTLS_KEY_LOG = 8,
};

/* What a peer's certificates may cost: their bytes, their number, and the bits of a key. The last one is how
 * many bits the peer's own RSA key needs. */
enum { GTLS_MAX_CHAIN_BYTES = 100 * 1024, GTLS_MAX_CHAIN = 10, GTLS_MAX_KEY_BITS = 8192, GTLS_MIN_KEY_BITS = 1024 };

/* How many messages and records without data, such as tickets, a peer may send in a row. */
enum { GTLS_MAX_WITHOUT_DATA = 16 };

/* How many certificates gtlsPick may choose at most. */
enum { GTLS_MAX_PICKED = 8 };

struct gtls_ctx *gtls_ctx_new(int server, int options, int tickets, uintptr_t handle, unsigned long *code);
void gtls_ctx_free(struct gtls_ctx *c);
/* With min 0 the lowest version is TLS 1.2, or that of openssl.cnf if it is higher. With max 0
 * the highest is that of openssl.cnf, or the highest that OpenSSL has. */
unsigned long gtls_ctx_versions(struct gtls_ctx *c, int min, int max);
/* Adds a certificate, which the context owns from now on, also if that fails. */
unsigned long gtls_ctx_add_cert(struct gtls_ctx *c, struct gtls_cert *cert);
/* Go has functions for the client's hello, or a function for the certificate of a client. */
void gtls_ctx_ask_hello(struct gtls_ctx *c);
void gtls_ctx_ask_cert(struct gtls_ctx *c);
/* From now on gtlsPick chooses among the added certificates, by the client's server name. */
void gtls_ctx_pick_certs(struct gtls_ctx *c);
/* Adds the DER name of an issuer to the list that a server sends when it asks for a certificate. */
unsigned long gtls_ctx_add_ca_name(struct gtls_ctx *c, struct gtls_bytes name);
/* gtlsVerify verifies the peer. Without asked a client is not asked for a certificate, and
 * with required it must have one. */
void gtls_ctx_verify(struct gtls_ctx *c, int asked, int required);
/* The connections have questions for Go. */
void gtls_ctx_ask(struct gtls_ctx *c);
/* The protocols are in TLS's format: each has its length before it. */
unsigned long gtls_ctx_alpn(struct gtls_ctx *c, struct gtls_bytes protos);

/* --- cipher.c -------------------------------------------------------------- */

/* Chooses the ciphers of TLS 1.2 and below, and the suites of TLS 1.3. NULL stands for those
 * of openssl.cnf or OpenSSL's default; of that list only ciphers with forward secrecy and
 * authenticated encryption are taken. Ciphers without authentication or without encryption
 * are never taken. */
unsigned long gtls_ctx_ciphers(struct gtls_ctx *c, const char *list, const char *suites);
/* Whether a connection with this cipher knows its peer and hides its bytes. */
int gtls_cipher_protects(const SSL_CIPHER *cipher);
/* Sets the groups for the key exchange: OpenSSL's names, with colons between them. */
unsigned long gtls_ctx_groups(struct gtls_ctx *c, const char *list);

/* --- ticket.c -------------------------------------------------------------- */

/* What encrypts a ticket and what finds a change of it. */
struct gtls_ticket_key {
	unsigned char name[16], cipher[32], mac[32];
};

/* Sets keys in place of those that are made every day. The first is for new tickets. id tells
 * sessions of contexts apart that share keys. -1 if there are too many. */
int gtls_ctx_set_ticket_keys(struct gtls_ctx *c, const struct gtls_ticket_key *keys, int n, struct gtls_bytes id);

/* --- conn.c ---------------------------------------------------------------- */

struct gtls_conn;

/* The errno that says why a descriptor is not a stream socket that can be connected, or 0. */
int gtls_check_fd(int fd);
/* Makes a connection that has no bufferevent yet: gtls_make makes that. limit is how long a
 * handshake may take, in microseconds, or 0. */
struct gtls_conn *gtls_conn_new(struct gtls_ctx *c, int64_t limit, uintptr_t handle, unsigned long *code);
/* Only for a connection that never got a bufferevent; else gtls_gone frees it. */
void gtls_conn_free(struct gtls_conn *c);
/* Sets the name that the client asks the server for, or NULL. Call it before the handshake. */
unsigned long gtls_conn_set_name(struct gtls_conn *c, const char *name);
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

/* What a peer has done that the connection does not bear. */
enum {
	GTLS_FLOODED = 1, /* it has sent too many records without data */
	GTLS_HALTED,      /* it has sent a part of a message of a handshake, and a write waits for the rest */
	GTLS_TOO_MANY_OFFERS, /* a client offers too much */
	GTLS_TOO_MANY_NAMES,  /* a server names too many authorities, or one at too great length */
	GTLS_TOO_MANY_CERTS,  /* it has sent more than GTLS_MAX_CHAIN certificates */
	GTLS_TIMED_OUT,       /* its handshake has taken too long */
	GTLS_TOO_MANY_PARTS,  /* the names and extensions of its certificates have more than 4096 parts */
	GTLS_BAD_KEY,         /* it has sent a certificate that may keep OpenSSL busy, or is not DER */
};

/* What the connection knows when libevent reports an event. */
struct gtls_event {
	int close_notify;     /* the peer has sent close_notify */
	int begun;            /* the handshake has begun, and something may have been sent */
	int open;             /* it is done */
	int nothing_received; /* it is not, and the peer has not sent a byte */
	int gave_up;          /* why the connection ends: one of these, or 0 */
	int failed_before;    /* an error of this connection was reported already */
	int socket_eof;       /* the socket has ended */
	int refused;          /* Go has said that the connection must not be reported */
	int lost_end;         /* reading has ended as well, although the event does not say so */
};

/* Turns off the directions that the event has ended. With below another connection stands on this one, and the program
 * is told only of that one's events. */
struct gtls_event gtls_conn_event(struct gtls_conn *c, short what, int err, int below);

/* --- handshake.c ----------------------------------------------------------- */

/* The questions that a handshake has, and answers to them. */
enum {
	GTLS_ASK_VERIFY = 1, /* are the peer's certificates valid? An X509_V_ */
	GTLS_ASK_HELLO,      /* what does the server do about this client? GTLS_YES or GTLS_NO */
	GTLS_ASK_REQUEST,    /* which certificate does the client show? GTLS_YES or GTLS_NO */
	GTLS_ASK_CONFIRM,    /* may the connection be reported? GTLS_YES or GTLS_NO */
};
enum { GTLS_LATER = -1, GTLS_YES = 1, GTLS_NO = 2 };

/* What a client has said in its first message. Only for the question. */
struct gtls_hello {
	struct gtls_bytes ciphers;
	struct gtls_bytes name; /* of the server that it wants */
	struct gtls_bytes groups, points, schemes, protos, versions; /* bodies of extensions */
	const int *extensions; /* all of them */
	size_t nextensions;
	int legacy_version;
};

/* What a server has said of the certificate that it wants. Only for the question. */
struct gtls_request {
	int version;
	STACK_OF(X509_NAME) *authorities;
	uint16_t schemes[64];
	int nschemes;
};

/* Has the handshake show a certificate, or none if cert is NULL. 0 if that fails. */
int gtls_conn_show(struct gtls_conn *c, const struct gtls_cert *cert);
/* Has the handshake go on with the settings of another context, which must live as long as
 * the connection. 0 if that fails. */
int gtls_conn_follow(struct gtls_conn *c, struct gtls_ctx *ctx);
/* Whether the handshake waits for the answer to question id. On the loop's thread, also when the
 * connection is freed or is being flushed, until gtlsGone. */
int gtls_conn_waits(struct gtls_conn *c, unsigned id);
/* The DER of a name, to be freed with gtls_der_free, or NULL. */
unsigned char *gtls_name_der(STACK_OF(X509_NAME) *names, int i, int *n);
int gtls_names_count(STACK_OF(X509_NAME) *names);

/* Gives the answer to question id. If the handshake still waits for that, it goes on in the
 * loop's next turn. With GTLS_LATER it asks again then. As gtls_conn_waits. */
void gtls_conn_answer(struct gtls_conn *c, unsigned id, int kind, int answer);

/* --- state.c --------------------------------------------------------------- */

/* What is known of a connection after its handshake. */
struct gtls_state {
	int version;
	unsigned cipher;         /* its number in TLS */
	const char *cipher_name;
	int protects;            /* whether the cipher does */
	int resumed;
	unsigned char alpn[256]; /* the protocol, alpn_len bytes */
	unsigned alpn_len;
	char name[256];          /* the server name that the client has sent */
	STACK_OF(X509) *peer;    /* leaf first; the caller frees it with gtls_certs_free */
	/* what came with the server's certificate; the caller frees both with gtls_der_free */
	unsigned char *ocsp, *scts;
	size_t nocsp, nscts;
};

/* -ENOTCONN before the end of the first handshake, and -ENOMEM with nothing to free. */
int64_t gtls_conn_state(struct gtls_conn *c, struct gtls_state *s);
/* Derives bytes that only the two ends of the connection can derive. OpenSSL's error, or 0.
 * -ENOTCONN before the end of the handshake, -ENOTSUP if the ends do not prove that they share it
 * (RFC 7627). */
int64_t gtls_conn_export(struct gtls_conn *c, unsigned char *out, size_t n, struct gtls_bytes label, struct gtls_bytes context, int has_context);
/* Whether a session can still be resumed. */
int gtls_session_fresh(SSL_SESSION *session);

/* --- certificate.c --------------------------------------------------------- */

/* Makes a certificate with its chain and key. der[0] is the leaf, and the key is PKCS #8. */
struct gtls_cert *gtls_cert_new(const struct gtls_bytes *der, int n, struct gtls_bytes key, unsigned long *code);
void gtls_cert_free(struct gtls_cert *cert);
/* What a server sends along with it, as TLS has it: an OCSP response, and a list of signed
 * certificate timestamps. 0 if that fails. (staple.c) */
int gtls_cert_staple(struct gtls_cert *cert, struct gtls_bytes ocsp, struct gtls_bytes scts);

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
int gtls_is_linked(struct bufferevent *bev);
int gtls_is_open(struct bufferevent *bev);
/* event.c */
int gtls_codes(struct bufferevent *bev, unsigned long *codes, int n);
/* wire.c */
void gtls_socket(struct bufferevent *bev);
int gtls_begin(struct bufferevent *bev);
void gtls_end(struct bufferevent *bev);
ssize_t gtls_recv(struct bufferevent *bev, void *p, size_t n, void *scratch, size_t size);
int gtls_pending(struct bufferevent *bev, int wake);
ssize_t gtls_send(struct bufferevent *bev, const void *p, size_t n);
uint64_t gtls_sent(struct bufferevent *bev);

#endif
