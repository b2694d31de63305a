/* SPDX-License-Identifier: BSD-3-Clause */
/* lines.c: connections whose lines C answers. This part of the server needs no Go. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "libservice.h"
#include "lines.h"

enum { MAX_LINE = 64 << 10, MAX_MANY = 1 << 20 };

struct line_conn {
	LIST_ENTRY(line_conn) next;
	struct bufferevent *bev;
	int lent;  /* to Go, so C must not use bev */
	int ended; /* the client sends no more */
};

static LIST_HEAD(, line_conn) conns = LIST_HEAD_INITIALIZER(conns);
static int count, lent;

static void free_conn(struct line_conn *c)
{
	LIST_REMOVE(c, next);
	count--;
	lent -= c->lent;
	bufferevent_free(c->bev);
	free(c);
}

static void answer_lines(struct line_conn *c);

/* Go calls this on the loop's thread when it gives a connection back. */
static void on_returned(struct bufferevent *bev, void *arg)
{
	struct line_conn *c = arg;

	c->lent = 0;
	lent--;
	bufferevent_write(bev, "C again\n", 8);
	answer_lines(c); /* what Go has left in the input */
}

static void lend(struct line_conn *c)
{
	c->lent = 1;
	lent++;
	if (serviceLend(c->bev, on_returned, c) < 0) {
		c->lent = 0;
		lent--;
		bufferevent_write(c->bev, "no Go\n", 6);
	}
}

static void answer(struct line_conn *c, const char *line)
{
	struct evbuffer *out = bufferevent_get_output(c->bev);
	int many;

	if (strcmp(line, "go") == 0) {
		lend(c);
	} else if (strncmp(line, "many ", 5) == 0) {
		many = atoi(line + 5);
		if (many > MAX_MANY)
			many = MAX_MANY;
		while (many-- > 0)
			evbuffer_add(out, "C\n", 2);
	} else {
		evbuffer_add_printf(out, "C %s\n", line);
	}
}

/* While a client does not read its answers, it gets no more of them. */
static void answer_lines(struct line_conn *c)
{
	struct evbuffer *in = bufferevent_get_input(c->bev);
	struct evbuffer *out = bufferevent_get_output(c->bev);
	char *line;

	while (!c->lent && evbuffer_get_length(out) < MAX_LINE &&
	    (line = evbuffer_readln(in, NULL, EVBUFFER_EOL_CRLF))) {
		answer(c, line);
		free(line);
	}
	if (c->lent)
		return;
	if (evbuffer_get_length(out) >= MAX_LINE)
		bufferevent_disable(c->bev, EV_READ);
	else if (evbuffer_get_length(in) > MAX_LINE)
		free_conn(c);
	else if (c->ended && evbuffer_get_length(out) == 0)
		free_conn(c);
}

static void on_read(struct bufferevent *bev, void *arg)
{
	(void)bev;
	answer_lines(arg);
}

static void on_written(struct bufferevent *bev, void *arg)
{
	struct line_conn *c = arg;

	if (!c->ended)
		bufferevent_enable(bev, EV_READ);
	answer_lines(c);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct line_conn *c = arg;

	(void)bev;
	if (what & BEV_EVENT_EOF) {
		c->ended = 1;
		answer_lines(c);
		return;
	}
	fprintf(stderr, "embed: C: connection: %s\n", strerror(errno));
	free_conn(c);
}

void lines_new(struct event_base *base, evutil_socket_t fd)
{
	struct line_conn *c = calloc(1, sizeof(*c));

	if (!c || !(c->bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE))) {
		fprintf(stderr, "embed: no memory for a connection\n");
		evutil_closesocket(fd);
		free(c);
		return;
	}
	LIST_INSERT_HEAD(&conns, c, next);
	count++;
	bufferevent_setcb(c->bev, on_read, on_written, on_event, c);
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
}

int lines_count(void) { return count; }
int lines_lent(void) { return lent; }

void lines_free_all(void)
{
	while (!LIST_EMPTY(&conns))
		free_conn(LIST_FIRST(&conns));
}
