/* SPDX-License-Identifier: BSD-3-Clause */
// Paired bufferevents send a message back and forth. There are no sockets, so the figures show
// what libevent and its callbacks cost.
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/thread.h>

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long size = 64, pairs = 1, warm = 100, window = 500;
static int locked;
static long long count, count_began;
static struct timespec began, cpu_began;

static void fail(const char *what)
{
	fprintf(stderr, "c-pair: %s: %s\n", what, strerror(errno));
	exit(1);
}

static long long since(clockid_t clock, const struct timespec *t)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (now.tv_sec - t->tv_sec) * 1000000000LL + now.tv_nsec - t->tv_nsec;
}

static void on_read(struct bufferevent *bev, void *arg)
{
	(void)arg;
	struct evbuffer *in = bufferevent_get_input(bev);
	if (evbuffer_get_length(in) != (size_t)size) {
		fprintf(stderr, "c-pair: %zu bytes of %ld\n", evbuffer_get_length(in), size);
		exit(1);
	}
	count++;
	bufferevent_write_buffer(bev, in);
}

static void on_warm(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what, (void)arg;
	count_began = count;
	clock_gettime(CLOCK_MONOTONIC, &began);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu_began);
}

static void on_end(evutil_socket_t fd, short what, void *base)
{
	(void)fd, (void)what;
	long long cpu = since(CLOCK_PROCESS_CPUTIME_ID, &cpu_began), ns = since(CLOCK_MONOTONIC, &began);
	printf("{\"messages\":%lld,\"ns\":%lld,\"cpu\":%lld}\n", count - count_began, ns, cpu);
	event_base_loopbreak(base);
}

static void after(struct event_base *base, long ms, event_callback_fn fn)
{
	struct timeval t = {ms / 1000, ms % 1000 * 1000};
	if (event_base_once(base, -1, EV_TIMEOUT, fn, base, &t) != 0)
		fail("event_base_once");
}

static void parse(int argc, char **argv)
{
	static const struct option longs[] = {{"size", 1, 0, 's'}, {"pairs", 1, 0, 'n'}, {"warm", 1, 0, 'w'},
		{"window", 1, 0, 't'}, {"locked", 0, 0, 'l'}, {0}};
	for (int o; (o = getopt_long_only(argc, argv, "", longs, 0)) != -1;) {
		switch (o) {
		case 's': size = atol(optarg); break;
		case 'n': pairs = atol(optarg); break;
		case 'w': warm = atol(optarg); break;
		case 't': window = atol(optarg); break;
		case 'l': locked = 1; break;
		default: exit(2);
		}
	}
	if (optind < argc || size < 1 || pairs < 1 || warm < 1 || window < 1) {
		fputs("usage: c-pair [-size N] [-pairs N] [-warm MS] [-window MS] [-locked]\n", stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	int options = 0;
	if (locked) {
		if (evthread_use_pthreads() != 0)
			fail("evthread_use_pthreads");
		options = BEV_OPT_THREADSAFE | BEV_OPT_DEFER_CALLBACKS | BEV_OPT_UNLOCK_CALLBACKS;
	}
	struct event_base *base = event_base_new();
	char *message = calloc(1, (size_t)size);
	if (!base || !message)
		fail("event_base_new");
	for (long i = 0; i < pairs; i++) {
		struct bufferevent *ends[2];
		if (bufferevent_pair_new(base, options, ends) != 0)
			fail("bufferevent_pair_new");
		for (int j = 0; j < 2; j++) {
			bufferevent_setcb(ends[j], on_read, NULL, NULL, NULL);
			bufferevent_enable(ends[j], EV_READ | EV_WRITE);
		}
		bufferevent_write(ends[0], message, (size_t)size);
	}
	after(base, warm, on_warm);
	after(base, warm + window, on_end);
	event_base_dispatch(base);
	return 0;
}
