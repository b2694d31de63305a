/* SPDX-License-Identifier: BSD-3-Clause */
// The load generator: one thread on raw epoll. It does as little as possible for each message,
// so that the server limits a run.
#ifndef LOAD_H
#define LOAD_H

#include <openssl/types.h>
#include <stdint.h>
#include <sys/types.h>

// How many bytes a sink answers with one byte. The servers have the same number.
#define ACK_EVERY (256 << 10)

enum mode { ECHO, SINK, CHURN, IDLE };

struct options {
	enum mode mode;
	int port;
	long size;   // of a message, in bytes
	int conns;
	int depth;   // messages that a connection may have under way
	int warm;    // ms of checked traffic before the window
	int window;  // ms that are measured
	int tls;     // on every connection
	pid_t pid;   // the server's
};

// The figures that are printed. The window is the time between begin_window and end_window.
struct result {
	int64_t bytes;     // that came back within the window; for CHURN, connections
	int64_t all;       // the same, over the whole run
	int64_t ns, cpu;   // the length of the window, and the server's CPU time in it
	int64_t user, system; // what that consists of, in the kernel's ticks
	int64_t idle_rss;  // the server's resident bytes before the first connection
	int64_t rss;       // the same, at the end of the window
};

extern struct options opt;
extern struct result res;

// phase is what the connections are to do now.
extern enum phase { OPENING, WARM, WINDOW, DRAIN } phase;

int64_t now(void);
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void die_errno(const char *what) __attribute__((noreturn));
int64_t server_rss(void);
void begin_window(void);
void end_window(void);

// The bytes of all streams. Connection i starts at position start_of(i), and pattern_at returns
// at least PATTERN bytes in one piece.
#define PATTERN ((1 << 20) + 7)
void pattern_init(void);
const char *pattern_at(int64_t position);
int64_t start_of(int conn);
void check(int conn, int64_t position, const char *got, ssize_t n);

// dial makes connection number n. It spreads connections over many local addresses, so that
// ports do not run out.
int dial(int n, int nonblocking);
void hard_close(int fd);

// What carries the bytes of a connection: the socket, or TLS on it. wire_read and wire_write
// return what a non-blocking socket would. If unseen is set, the caller does not look at the
// bytes, and the kernel may drop them.
struct wire {
	int fd;
	SSL *ssl;
};

void wire_init(void);
void wire_open(struct wire *w, int fd);
int wire_handshake(struct wire *w); // 1 if it is done, 0 if the socket would block
ssize_t wire_write(struct wire *w, const char *p, size_t n);
ssize_t wire_read(struct wire *w, char *p, size_t n, int unseen);
int wire_has_more(struct wire *w); // bytes in TLS, of which epoll does not know
void wire_free(struct wire *w);

// Latencies, in ns.
void hist_add(int64_t ns);
int64_t hist_quantile(double q);
int64_t hist_count(void);

void run_streams(void);
void run_churn(void);

#endif
