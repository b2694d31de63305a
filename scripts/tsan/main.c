/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * main.c: rounds of threads that use the same bufferevents, each round with others.
 *
 *	tsan SECONDS [SEED]
 *
 * A program that hangs, because threads wait for each other, is ended by SIGALRM.
 */

#include "world.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "callbacks.h"

enum { THREADS = 3, ACTS = 150, OPTIONS = BEV_OPT_THREADSAFE | BEV_OPT_DEFER_CALLBACKS | BEV_OPT_UNLOCK_CALLBACKS };

static void must(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	abort();
}

/* --- making ------------------------------------------------------------------------- */

static struct bev *put(struct bev *b)
{
	world.bevs[world.nbevs] = b;
	__atomic_store_n(&world.nbevs, world.nbevs + 1, __ATOMIC_RELEASE);
	return b;
}

static struct bev *open_bev(struct bev *b, struct base *base)
{
	must(b->c != NULL, "a bufferevent");
	bev_open(b, base);
	glev_bev_set_known(b->c);
	glev_bev_set_closures(b->c, GLEV_CB_READ | GLEV_CB_WRITE);
	return put(b);
}

static struct bev *new_socket(struct base *base, int fd, int plain)
{
	struct bev *b = calloc(1, sizeof(*b));
	int err;

	b->addr = fd < 0 ? world.addr : NULL;
	b->c = glev_bev_new(base->c, fd, OPTIONS | BEV_OPT_CLOSE_ON_FREE, 0, plain, (uintptr_t)b, &err);
	return open_bev(b, base);
}

static void sockets(struct bev *out[2], int plain)
{
	int p[2], i;

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0, "socketpair");
	for (i = 0; i < 2; i++)
		out[i] = new_socket(world.bases[i], p[i], plain);
}

static void pair(struct bev *out[2])
{
	uintptr_t handles[2];
	struct glev_bev *records[2];
	int i;

	for (i = 0; i < 2; i++)
		handles[i] = (uintptr_t)(out[i] = calloc(1, sizeof(*out[i])));
	must(glev_bev_new_pair(world.bases[0]->c, OPTIONS, 0, handles, records) == 0, "a pair");
	for (i = 0; i < 2; i++) {
		out[i]->c = records[i];
		open_bev(out[i], world.bases[0]);
	}
}

static struct bev *filter(struct bev *under)
{
	struct bev *b = calloc(1, sizeof(*b));
	int err;

	enter(&under->o);
	b->under = under;
	b->o.below = &under->o;
	b->c = glev_filter_new(under->c, (int)chance(4), (int)chance(4), OPTIONS, 0, (uintptr_t)b, &err);
	return open_bev(b, under->o.base);
}

/* --- worlds -------------------------------------------------------------------------- */

static void fast_sockets(void)
{
	struct bev *s[2];

	sockets(s, 0);
}

static void calm_sockets(void)
{
	struct bev *s[2];

	sockets(s, 0);
	s[0]->calm = s[1]->calm = 1;
}

static void plain_sockets(void)
{
	struct bev *s[2];

	sockets(s, 1);
}

/* OptLoopOnly: all is done by posts. */
static void loop_only(void)
{
	int p[2], i, err;

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0, "socketpair");
	for (i = 0; i < 2; i++) {
		struct bev *b = calloc(1, sizeof(*b));

		b->loop_only = 1;
		b->c = glev_bev_new(world.bases[i]->c, p[i], BEV_OPT_CLOSE_ON_FREE, 1, 0, (uintptr_t)b, &err);
		open_bev(b, world.bases[i]);
	}
}

/* C's bufferevents, on C's loop. Free gives them back, and C frees them. */
static void wrap(void *arg)
{
	struct bufferevent *c_bevs[2];
	int i;

	(void)arg;
	must(bufferevent_pair_new(world.bases[HOSTED]->event, 0, c_bevs) == 0, "a pair");
	for (i = 0; i < 2; i++) {
		struct bev *b = calloc(1, sizeof(*b));

		b->loop_only = b->borrowed = 1;
		glev_adopt(world.bases[HOSTED]->c, c_bevs[i], 0, 1, 1, (uintptr_t)b, &b->c);
		open_bev(b, world.bases[HOSTED]);
		bufferevent_free(c_bevs[i]); /* the wrapper has a reference */
	}
}

static void wrapped(void)
{
	base_run(world.bases[HOSTED], wrap, NULL);
}

static void pairs(void)
{
	struct bev *p[2];

	pair(p);
}

static void filters(void)
{
	struct bev *s[2];

	sockets(s, 0);
	filter(filter(s[0]));
	if (chance(2))
		filter(s[1]);
}

static void filters_on_pair(void)
{
	struct bev *p[2];

	pair(p);
	filter(p[0]);
	filter(filter(p[1]));
}

static void connecting(void)
{
	int i;

	for (i = 0; i < 3; i++) {
		struct bev *b = new_socket(world.bases[i % HOSTED], -1, 0);

		if (i < 2)
			glev_bev_connect(b->c, b->addr);
	}
}

static void (*const worlds[])(void) = {fast_sockets, calm_sockets, plain_sockets, pairs, filters, filters_on_pair, connecting, loop_only, wrapped};

/* --- what is there in all rounds --------------------------------------------------------- */

static void release_timer(void *arg)
{
	struct timer *t = arg;

	glev_event_free(t->c);
}

static void free_timer(struct timer *t)
{
	if (!close_object(&t->o))
		return;
	pthread_mutex_lock(&t->mu);
	event_del(t->c->ev);
	pthread_mutex_unlock(&t->mu);
	leave(&t->o);
}

static struct timer *new_timer(struct base *base)
{
	struct timer *t = calloc(1, sizeof(*t));

	pthread_mutex_init(&t->mu, NULL);
	t->c = glev_event_new(base->c, -1, 0, (uintptr_t)t);
	object_open(&t->o, EVENT, base, release_timer);
	return t;
}

static void release_listener(void *arg)
{
	struct listener *l = arg;

	glev_lev_free(l->c);
}

static struct listener *new_listener(struct base *base)
{
	struct listener *l = calloc(1, sizeof(*l));
	struct glev_addr any = {.family = AF_INET, .len = 4, .data = {127, 0, 0, 1}};
	int err;

	l->c = glev_lev_new(base->c, &any, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE, 100, (uintptr_t)l, &err);
	must(l->c != NULL, "a listener");
	glev_addr_of_fd(evconnlistener_get_fd(l->c->lev), 0, &l->addr);
	object_open(&l->o, LISTENER, base, release_listener);
	return l;
}

static void release_group(void *arg)
{
	struct group *g = arg;

	bufferevent_rate_limit_group_free(g->c);
}

static struct group *new_group(struct base *base)
{
	struct group *g = calloc(1, sizeof(*g));
	struct glev_rate rate = {100000, 200000, 100000, 200000, 10};

	pthread_mutex_init(&g->mu, NULL);
	g->c = glev_group_new(base->c, &rate);
	object_open(&g->o, BUFFER, base, release_group);
	return g;
}

static struct noted *new_file(void)
{
	char name[] = "/tmp/tsanXXXXXX";
	int fd = mkstemp(name);
	struct noted *n;

	must(fd >= 0 && unlink(name) == 0 && ftruncate(fd, 20000) == 0, "a file");
	n = file_new(fd);
	close(fd);
	return n;
}

static void furnish(void)
{
	int i;

	for (i = 0; i < BUFFERS; i++)
		world.buffers[i] = glev_buf_new();
	for (i = 0; i < TIMERS; i++)
		world.timers[i] = new_timer(world.bases[i + 1]);
	world.listener = new_listener(world.bases[0]);
	world.addr = &world.listener->addr;
	world.group = new_group(world.bases[0]);
	world.file = new_file();
}

static void clear(void)
{
	int i;

	for (i = 0; i < world.nbevs; i++)
		bev_free(world.bevs[i]);
	for (i = 0; i < TIMERS; i++)
		free_timer(world.timers[i]);
	if (close_object(&world.listener->o))
		leave(&world.listener->o);
	if (close_object(&world.group->o))
		leave(&world.group->o);
	for (i = 0; i < BASES; i++)
		base_wait(world.bases[i]);
	for (i = 0; i < BUFFERS; i++)
		glev_buf_free(world.buffers[i]);
	collect();
	file_free(world.file);
	for (i = 0; i < world.nbevs; i++)
		free(world.bevs[i]);
	for (i = 0; i < TIMERS; i++)
		free(world.timers[i]);
	free(world.listener);
	free(world.group);
	__atomic_store_n(&world.nbevs, 0, __ATOMIC_RELEASE);
}

/* --- rounds -------------------------------------------------------------------------------- */

static void *thread(void *arg)
{
	int i, end = ACTS / 2 + (int)chance(ACTS);

	seed((unsigned)(uintptr_t)arg);
	for (i = 0; i < ACTS; i++) {
		struct bev *b = any_bev();

		if (chance(4))
			act(b);
		else
			act_aside();
		if (i >= end && chance(20) == 0)
			(chance(2) ? bev_free(b) : bev_free_after_flush(b, chance(5000)));
	}
	return NULL;
}

static void round_of(unsigned n)
{
	pthread_t threads[THREADS];
	int i;

	furnish();
	worlds[n % (sizeof(worlds) / sizeof(worlds[0]))]();
	for (i = 0; i < world.nbevs; i++)
		glev_bev_enable(world.bevs[i]->c, EV_READ | EV_WRITE);
	for (i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, thread, (void *)(uintptr_t)(n * THREADS + (unsigned)i + 1));
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	clear();
}

int main(int argc, char **argv)
{
	int seconds = argc > 1 ? atoi(argv[1]) : 10;
	time_t end = time(NULL) + seconds;
	unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 1, first = n;
	int i;

	alarm((unsigned)seconds + 60);
	signal(SIGPIPE, SIG_IGN);
	glev_use_threads();
	must(glev_log_start() >= 0, "the log");
	seed(n);
	for (i = 0; i < BASES; i++) {
		world.bases[i] = base_new(i == HOSTED);
		base_start(world.bases[i]);
	}
	for (; time(NULL) < end; n++)
		round_of(n);
	for (i = 0; i < BASES; i++) {
		base_stop(world.bases[i]);
		base_free(world.bases[i]);
	}
	printf("%u rounds\n", n - first);
	return 0;
}
