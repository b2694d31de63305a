/* SPDX-License-Identifier: BSD-3-Clause */
// Epoll without a library, as a lower limit of what an echo costs. The server writes what it
// has read at once, from a buffer that all connections share. It keeps only the bytes that a
// socket does not take, and reads no more from that connection until these are written. With TLS,
// OpenSSL reads and writes the socket itself.
#define _GNU_SOURCE
#include "../c/server.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../c/tls.h"

// Size of the shared buffer. This size measured best. It is larger than any other contestant's,
// which is cheap, because a loop has only one.
#define ROOM (512 << 10)
// After reading this many bytes from one connection, the loop goes on to the others.
#define TURN (1 << 20)

struct conn {
	int fd;
	SSL *ssl;       // or NULL
	uint64_t total; // of a sink
	char *kept;     // kept[from:to] is not written yet
	size_t from, to;
};

static void watch(int ep, int how, struct conn *c, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};
	if (epoll_ctl(ep, how, c->fd, &ev) != 0)
		fail("epoll_ctl");
}

// again sets errno as recv and send do, for a call of OpenSSL that has failed.
static ssize_t again(struct conn *c, int rc, int want)
{
	int why = SSL_get_error(c->ssl, rc);
	errno = why == want ? EAGAIN : EPROTO;
	ERR_clear_error();
	return why == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

// get is recv. A record has at most 16 KiB, so with TLS it collects what is there.
static ssize_t get(struct conn *c, char *p, size_t n)
{
	if (!c->ssl)
		return recv(c->fd, p, n, 0);
	size_t total = 0, got;
	while (total < n) {
		int rc = SSL_read_ex(c->ssl, p + total, n - total, &got);
		if (rc <= 0)
			return total ? (ssize_t)total : again(c, rc, SSL_ERROR_WANT_READ);
		total += got;
	}
	return (ssize_t)total;
}

// put is send.
static ssize_t put(struct conn *c, const char *p, size_t n)
{
	if (!c->ssl)
		return send(c->fd, p, n, MSG_NOSIGNAL);
	size_t total = 0, done;
	while (total < n) {
		int rc = SSL_write_ex(c->ssl, p + total, n - total, &done);
		if (rc <= 0)
			return total ? (ssize_t)total : again(c, rc, SSL_ERROR_WANT_WRITE);
		total += done;
	}
	return (ssize_t)total;
}

static void drop(struct conn *c)
{
	SSL_free(c->ssl);
	close(c->fd);
	free(c->kept);
	free(c);
}

static void accept_all(int ep, int listener)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0 && errno == ECONNABORTED)
			continue;
		if (fd < 0 && errno == EAGAIN)
			return;
		struct conn *c = fd < 0 ? NULL : calloc(1, sizeof *c);
		if (!c)
			fail("accept");
		c->fd = fd;
		c->ssl = server.tls ? accept_tls(fd) : NULL;
		watch(ep, EPOLL_CTL_ADD, c, EPOLLIN);
	}
}

// give writes n bytes, and keeps those that the socket does not take. It returns 0 if it has
// closed the connection.
static int give(int ep, struct conn *c, const char *p, size_t n)
{
	ssize_t done = put(c, p, n);
	if (done < 0 && errno != EAGAIN) {
		drop(c);
		return 0;
	}
	size_t left = n - (size_t)(done < 0 ? 0 : done);
	if (left == 0)
		return 1;
	c->kept = malloc(left);
	if (!c->kept)
		fail("malloc");
	memcpy(c->kept, p + n - left, left);
	c->from = 0;
	c->to = left;
	watch(ep, EPOLL_CTL_MOD, c, EPOLLOUT);
	return 1;
}

static void readable(int ep, struct conn *c, char *room)
{
	for (size_t read = 0; read < TURN && !c->kept;) {
		ssize_t n = get(c, room, ROOM);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			drop(c);
			return;
		}
		read += (size_t)n;
		size_t answer = server.sink ? acks(&c->total, (size_t)n) : (size_t)n;
		if (answer > 0 && !give(ep, c, server.sink ? ack_bytes : room, answer))
			return;
		if (n < ROOM)
			return; // a short read means that the socket is empty
	}
}

static void writable(int ep, struct conn *c)
{
	ssize_t n = put(c, c->kept + c->from, c->to - c->from);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0) {
		drop(c);
		return;
	}
	c->from += (size_t)n;
	if (c->from == c->to) {
		free(c->kept);
		c->kept = NULL;
		watch(ep, EPOLL_CTL_MOD, c, EPOLLIN);
	}
}

static void loop(int listener)
{
	static __thread char room[ROOM];
	static __thread struct epoll_event events[512];
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev) != 0)
		fail("epoll");
	for (;;) {
		int n = epoll_wait(ep, events, 512, -1);
		if (n < 0 && errno != EINTR)
			fail("epoll_wait");
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;
			if (!c)
				accept_all(ep, listener);
			else if (c->kept)
				writable(ep, c);
			else
				readable(ep, c, room);
		}
	}
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	signal(SIGPIPE, SIG_IGN); // OpenSSL writes without MSG_NOSIGNAL
	return serve(loop);
}
