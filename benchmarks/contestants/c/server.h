// What the C servers share: arguments, loops, the sink's count.
#ifndef SERVER_H
#define SERVER_H

#include <stddef.h>
#include <stdint.h>

// A sink answers one byte for each so many, so that its client knows what arrived.
#define ACK_EVERY (256 << 10)

struct server {
	int port, loops, sink, nodelay;
	const char *tls; // a file with a certificate and its key, or NULL
};

extern struct server server;

// parse reads the arguments.
void parse(int argc, char **argv);

// serve listens once for each loop, says "ready", and runs loop on a thread for each, with
// its own listening socket.
int serve(void (*loop)(int listener));

// acks counts n more bytes to *total and returns how many bytes to answer. ack_bytes
// has that many, up to ACK_MOST.
#define ACK_MOST 4096
extern const char ack_bytes[ACK_MOST];
size_t acks(uint64_t *total, size_t n);

void fail(const char *what) __attribute__((noreturn));

#endif
