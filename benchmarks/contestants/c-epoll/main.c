/* SPDX-License-Identifier: BSD-3-Clause */
// Epoll without a library, as a lower limit of what an echo costs. The server writes what it
// has read at once, from a buffer that all connections share. It keeps only the bytes that a
// socket does not take, and reads no more from that connection until these are written.
#define _GNU_SOURCE
#include "../c/server.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

// Size of the shared buffer. This size measured best. It is larger than any other contestant's,
// which is cheap, because a loop has only one.
#define ROOM (512 << 10)
// After reading this many bytes from one connection, the loop goes on to the others.
#define TURN (1 << 20)

struct conn {
	int fd;
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

static void drop(struct conn *c)
{
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
		watch(ep, EPOLL_CTL_ADD, c, EPOLLIN);
	}
}

// give writes n bytes, and keeps those that the socket does not take. It returns 0 if it has
// closed the connection.
static int give(int ep, struct conn *c, const char *p, size_t n)
{
	ssize_t done = send(c->fd, p, n, MSG_NOSIGNAL);
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
		ssize_t n = recv(c->fd, room, ROOM, 0);
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
	ssize_t n = send(c->fd, c->kept + c->from, c->to - c->from, MSG_NOSIGNAL);
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
	return serve(loop);
}
