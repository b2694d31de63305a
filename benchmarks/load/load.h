// The load generator: one thread, raw epoll, as little per message as it can do
// with, so that the server is what limits a run.
#ifndef LOAD_H
#define LOAD_H

#include <openssl/types.h>
#include <stdint.h>
#include <sys/types.h>

// What a sink answers one byte for. The servers know the same number.
#define ACK_EVERY (256 << 10)

enum mode { ECHO, SINK, CHURN, IDLE };

struct options {
	enum mode mode;
	int port;
	long size;   // of a message, in bytes
	int conns;
	int depth;   // messages a connection may have outstanding
	int warm;    // ms of checked traffic before anything counts
	int window;  // ms that count
	int tls;     // on every connection
	pid_t pid;   // the server's
};

// What is printed. The window is what lies between begin_window and end_window.
struct result {
	int64_t bytes;     // that came back within the window, or connections of CHURN
	int64_t all;       // the same, with everything before and after it
	int64_t ns, cpu;   // the window's length, and the server's time on the CPU in it
	int64_t idle_rss;  // the server's resident bytes before the first connection
	int64_t rss;       // and at the end of the window
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

// The bytes of all streams: connection i starts at start_of(i), and any
// pattern_at(position) has PATTERN bytes in one piece.
#define PATTERN ((1 << 20) + 7)
void pattern_init(void);
const char *pattern_at(int64_t position);
int64_t start_of(int conn);
void check(int conn, int64_t position, const char *got, ssize_t n);

// dial connects conn number n, from an address that many ports are left of.
int dial(int n, int nonblocking);
void hard_close(int fd);

// What carries the bytes of a connection. Reads and writes are as those of a socket that
// does not block; unseen bytes may be dropped by the kernel.
struct wire {
	int fd;
	SSL *ssl;
};

void wire_init(void);
void wire_open(struct wire *w, int fd);
int wire_handshake(struct wire *w); // 1: done; 0: the socket would block
ssize_t wire_write(struct wire *w, const char *p, size_t n);
ssize_t wire_read(struct wire *w, char *p, size_t n, int unseen);
int wire_has_more(struct wire *w); // that no event will tell of
void wire_free(struct wire *w);

// Latencies, in ns.
void hist_add(int64_t ns);
int64_t hist_quantile(double q);
int64_t hist_count(void);

void run_streams(void);
void run_churn(void);

#endif
