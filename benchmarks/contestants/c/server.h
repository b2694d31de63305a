/* SPDX-License-Identifier: BSD-3-Clause */
// What the C servers share: arguments, loops, and the counter of a sink.
#ifndef SERVER_H
#define SERVER_H

#include <stddef.h>
#include <stdint.h>

// A sink answers one byte for this many, so that its client knows how many have arrived.
#define ACK_EVERY (256 << 10)

struct server {
	int port, loops, sink, nodelay;
	const char *tls; // a file with a certificate and its key, or NULL
};

extern struct server server;

// parse reads the arguments.
void parse(int argc, char **argv);

// serve makes a listening socket for each loop, prints "ready", and runs each loop on its own
// thread.
int serve(void (*loop)(int listener));

// acks adds n to *total and returns how many bytes to answer. The answer is in ack_bytes, which
// has ACK_MOST bytes.
#define ACK_MOST 4096
extern const char ack_bytes[ACK_MOST];
size_t acks(uint64_t *total, size_t n);

void fail(const char *what) __attribute__((noreturn));

#endif
