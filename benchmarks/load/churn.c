/* SPDX-License-Identifier: BSD-3-Clause */
// Short connections: connect, send one message, get it back, close. opt.conns places do this
// again and again.
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct place {
	struct wire wire;
	int64_t since;
	long got;
	int connected, sent;
};

static int dialled;

static void begin(int ep, struct place *p)
{
	p->since = now();
	p->got = p->connected = p->sent = 0;
	wire_open(&p->wire, dial(dialled++, 1));
	struct epoll_event ev = {.events = EPOLLOUT, .data.ptr = p};
	if (epoll_ctl(ep, EPOLL_CTL_ADD, p->wire.fd, &ev) != 0)
		die_errno("epoll_ctl");
}

static void connected(int ep, struct place *p)
{
	int err = 0;
	socklen_t len = sizeof err;
	getsockopt(p->wire.fd, SOL_SOCKET, SO_ERROR, &err, &len);
	errno = err;
	if (err != 0)
		die_errno("connect");
	p->connected = 1;
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = p};
	if (epoll_ctl(ep, EPOLL_CTL_MOD, p->wire.fd, &ev) != 0)
		die_errno("epoll_ctl");
}

// send_message sends the message, once the handshake is done.
static void send_message(struct place *p)
{
	if (!wire_handshake(&p->wire))
		return;
	if (wire_write(&p->wire, pattern_at(start_of(0)), (size_t)opt.size) != opt.size)
		die_errno("send");
	p->sent = 1;
}

// receive returns 1 once the whole message is back.
static int receive(struct place *p)
{
	static char buf[64 << 10];
	ssize_t n = wire_read(&p->wire, buf, sizeof buf, 0);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n < 0)
		die_errno("recv");
	if (n == 0 || p->got + n > opt.size)
		die("a connection got %ld bytes back, not %ld", p->got + (long)n, opt.size);
	check(0, p->got, buf, n);
	p->got += n;
	return p->got == opt.size;
}

void run_churn(void)
{
	if (opt.size > 16 << 10)
		die("messages of %ld bytes are too large for connections this short", opt.size);
	struct place *places = calloc((size_t)opt.conns, sizeof *places);
	int ep = epoll_create1(EPOLL_CLOEXEC);
	if (!places || ep < 0)
		die_errno("epoll_create1");
	for (int i = 0; i < opt.conns; i++)
		begin(ep, &places[i]);
	phase = WARM;
	int64_t until = now() + opt.warm * 1000000LL;
	for (int open = opt.conns; open > 0;) {
		struct epoll_event events[256];
		int n = epoll_wait(ep, events, 256, 5000);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("no connection made progress for 5 s");
		for (int i = 0; i < n; i++) {
			struct place *p = events[i].data.ptr;
			if (!p->connected)
				connected(ep, p);
			if (!p->sent) {
				send_message(p);
			} else if (receive(p)) {
				wire_free(&p->wire);
				close(p->wire.fd);
				res.all++;
				if (phase == WINDOW) {
					res.bytes++;
					hist_add(now() - p->since);
				}
				if (phase == DRAIN)
					open--;
				else
					begin(ep, p);
			}
		}
		if (phase == WARM && now() >= until) {
			begin_window();
			until = now() + opt.window * 1000000LL;
		} else if (phase == WINDOW && now() >= until) {
			end_window();
		}
	}
}
