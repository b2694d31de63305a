/* SPDX-License-Identifier: BSD-3-Clause */
// Long connections: echoes with up to opt.depth messages under way, streams into a sink, and
// idle connections.
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK (256 << 10) // bytes after which a connection lets the others read and write
#define STALL 20000       // ms without an end after which the run fails
#define BACKLOG 100       // connections that are opened at a time

struct conn {
	struct wire wire;
	int number;
	int waits_to_write;
	int finished;        // it has nothing more to do in this phase
	int64_t sent, goal;  // bytes sent, and bytes to send
	int64_t got;         // bytes that came back or were acknowledged
	int64_t *since;      // since[m % depth] is when message m began
};

static struct conn *conns;
static int ep, unfinished;

static void watch(struct conn *c, int how, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};
	if (epoll_ctl(ep, how, c->wire.fd, &ev) != 0)
		die_errno("epoll_ctl");
}

static void write_some(struct conn *c)
{
	int blocked = 0;
	for (long chunk = 0; c->sent < c->goal && chunk < CHUNK;) {
		// Each message of a stream is one send. Echoes that may be under way are sent in one
		// piece.
		int64_t n = c->goal - c->sent;
		if (opt.mode == SINK && n > opt.size)
			n = opt.size;
		if (n > CHUNK)
			n = CHUNK;
		ssize_t done = wire_write(&c->wire, pattern_at(start_of(c->number) + c->sent), (size_t)n);
		if (done < 0 && errno == EAGAIN) {
			blocked = 1;
			break;
		}
		if (done < 0)
			die_errno("send");
		c->sent += done;
		chunk += done;
	}
	// Into a sink there is always more to write.
	int waits = blocked || c->sent < c->goal;
	if (waits != c->waits_to_write) {
		c->waits_to_write = waits;
		watch(c, EPOLL_CTL_MOD, waits ? EPOLLIN | EPOLLOUT : EPOLLIN);
	}
}

// allow lets the connection send up to goal bytes. The new messages begin at the given time.
static void allow(struct conn *c, int64_t goal, int64_t at)
{
	for (int64_t m = c->goal / opt.size; m < goal / opt.size; m++)
		c->since[m % opt.depth] = at;
	c->goal = goal;
	write_some(c);
}

static void finish(struct conn *c)
{
	if (!c->finished) {
		c->finished = 1;
		unfinished--;
	}
}

// echoed counts n bytes that came back, and lets the connection send more.
static void echoed(struct conn *c, ssize_t n)
{
	int64_t before = c->got / opt.size;
	c->got += n;
	res.all += n;
	if (phase == WINDOW)
		res.bytes += n;
	if (c->got > c->sent)
		die("connection %d: %lld bytes came back of %lld", c->number, (long long)c->got, (long long)c->sent);
	if (c->got / opt.size == before)
		return;
	int64_t at = now();
	if (phase == WINDOW)
		for (int64_t m = before; m < c->got / opt.size; m++)
			hist_add(at - c->since[m % opt.depth]);
	if ((phase == WARM || phase == WINDOW) && opt.mode != IDLE)
		allow(c, (c->got / opt.size + opt.depth) * opt.size, at);
	if (phase != DRAIN || c->got == c->goal)
		finish(c);
}

static void read_echo(struct conn *c)
{
	static char buf[CHUNK];
	// In the window bytes are only counted, so the kernel need not copy them.
	ssize_t n = wire_read(&c->wire, buf, sizeof buf, phase == WINDOW);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0)
		die_errno("recv");
	if (n == 0)
		die("connection %d: the server closed it after %lld bytes", c->number, (long long)c->got);
	if (phase != WINDOW)
		check(c->number, c->got, buf, n);
	echoed(c, n);
}

static void read_acks(struct conn *c)
{
	char buf[4096];
	ssize_t n = wire_read(&c->wire, buf, sizeof buf, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0)
		die_errno("recv");
	if (n == 0)
		die("connection %d: the sink closed it after %lld bytes", c->number, (long long)c->got);
	c->got += n * (int64_t)ACK_EVERY;
	res.all += n * (int64_t)ACK_EVERY;
	if (phase == WINDOW)
		res.bytes += n * (int64_t)ACK_EVERY;
	if (c->got > c->sent)
		die("connection %d: the sink counts %lld bytes of %lld", c->number, (long long)c->got, (long long)c->sent);
	if (phase != DRAIN || c->got == c->goal)
		finish(c);
}

// turn waits for events once and handles them.
static void turn(int timeout)
{
	struct epoll_event events[512];
	int n = epoll_wait(ep, events, 512, timeout);
	if (n < 0 && errno != EINTR)
		die_errno("epoll_wait");
	for (int i = 0; i < n; i++) {
		struct conn *c = events[i].data.ptr;
		if (events[i].events & EPOLLOUT)
			write_some(c);
		if (events[i].events & ~(uint32_t)EPOLLOUT) {
			do {
				if (opt.mode == SINK)
					read_acks(c);
				else
					read_echo(c);
			} while (wire_has_more(&c->wire));
		}
	}
}

// until handles events until the given time and, with all, until all connections have finished.
static void until(int64_t at, int all, const char *what)
{
	int64_t limit = now() + (STALL + opt.warm + opt.window) * 1000000LL;
	for (;;) {
		int64_t t = now();
		if (t >= at && (!all || unfinished == 0))
			return;
		if (t >= limit)
			die("%s: %d of %d connections did not get everything back", what, unfinished, opt.conns);
		// After the given time there is only the connections' data to wait for.
		turn(t < at ? (int)((at - t) / 1000000 + 1) : 100);
	}
}

// open_some opens the connections from first to last - 1, and waits until each has got its
// first message back. So the server's backlog does not overflow: TCP would then wait for
// seconds before it tries again.
static void open_some(int first, int last)
{
	unfinished = last - first;
	for (int i = first; i < last; i++) {
		struct conn *c = &conns[i];
		c->number = i;
		wire_open(&c->wire, dial(i, 0));
		wire_handshake(&c->wire);
		if (fcntl(c->wire.fd, F_SETFL, O_NONBLOCK) != 0)
			die_errno("fcntl");
		watch(c, EPOLL_CTL_ADD, EPOLLIN);
		allow(c, opt.mode == SINK ? ACK_EVERY : opt.size, now());
	}
	until(0, 1, "first message");
}

static void open_all(void)
{
	conns = calloc((size_t)opt.conns, sizeof *conns);
	int64_t *times = calloc((size_t)opt.conns * (size_t)opt.depth, sizeof *times);
	if (!conns || !times)
		die_errno("calloc");
	for (int i = 0; i < opt.conns; i++)
		conns[i].since = times + (size_t)i * (size_t)opt.depth;
	for (int i = 0; i < opt.conns; i += BACKLOG)
		open_some(i, i + BACKLOG < opt.conns ? i + BACKLOG : opt.conns);
}

// start begins the warm-up.
static void start(void)
{
	phase = WARM;
	for (int i = 0; i < opt.conns && opt.mode != IDLE; i++) {
		struct conn *c = &conns[i];
		c->finished = 0;
		unfinished++;
		if (opt.mode == SINK) {
			c->goal = INT64_MAX;
			write_some(c);
		} else {
			allow(c, c->goal + opt.size * opt.depth, now());
		}
	}
}

// drain sets the goals at which everything that is under way has come back and is counted.
static void drain(void)
{
	unfinished = 0;
	for (int i = 0; i < opt.conns; i++) {
		struct conn *c = &conns[i];
		if (opt.mode == SINK)
			c->goal = (c->sent + ACK_EVERY - 1) / ACK_EVERY * ACK_EVERY;
		c->finished = c->got == c->goal;
		unfinished += !c->finished;
	}
}

void run_streams(void)
{
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep < 0)
		die_errno("epoll_create1");
	open_all();
	start();
	until(now() + opt.warm * 1000000LL, 1, "warm-up");
	begin_window();
	until(now() + opt.window * 1000000LL, 0, "window");
	end_window();
	drain();
	until(0, 1, "end");
	for (int i = 0; i < opt.conns; i++)
		hard_close(conns[i].wire.fd);
}
