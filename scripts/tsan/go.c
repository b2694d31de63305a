/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * go.c: what the Go half does, file for file: lifetime.go, loop.go, due.go, callbacks.go. As
 * there, a record is freed on the loop's thread, or while no loop runs, after the last thread
 * has left it.
 */

#include "go.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "_cgo_export.h"

/* --- chance ------------------------------------------------------------------- */

static __thread unsigned state = 1;

void seed(unsigned n)
{
	state = n * 2654435761u + 1;
}

unsigned chance(unsigned n)
{
	state = state * 1664525u + 1013904223u;
	return (unsigned)(((uint64_t)(state >> 4) * n) >> 28);
}

/* --- use counts ----------------------------------------------------------------- */

#define OPEN ((int64_t)1 << 62)
#define SEIZED ((int64_t)1 << 61)

static int64_t look(int64_t *usage)
{
	int64_t w;

	while ((w = __atomic_load_n(usage, __ATOMIC_SEQ_CST)) & SEIZED)
		sched_yield();
	return w;
}

static int swap(int64_t *usage, int64_t from, int64_t to)
{
	return __atomic_compare_exchange_n(usage, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static int usage_enter(int64_t *usage)
{
	int64_t w;

	do {
		w = look(usage);
		if (!(w & OPEN))
			return 0;
	} while (!swap(usage, w, w + 1));
	return 1;
}

static int usage_join(int64_t *usage)
{
	int64_t w;

	do {
		w = __atomic_load_n(usage, __ATOMIC_SEQ_CST);
		if (!(w & ~OPEN))
			return 0;
	} while (!swap(usage, w, w + 1));
	return 1;
}

static int usage_exit(int64_t *usage)
{
	return __atomic_sub_fetch(usage, 1, __ATOMIC_SEQ_CST) == 0;
}

static int usage_close(int64_t *usage)
{
	int64_t w;

	do {
		w = look(usage);
		if (!(w & OPEN))
			return 0;
	} while (!swap(usage, w, (w & ~OPEN) + 1));
	return 1;
}

int enter(struct object *o)
{
	return usage_enter(&o->usage);
}

int join(struct object *o)
{
	return usage_join(&o->usage);
}

int close_object(struct object *o)
{
	return usage_close(&o->usage);
}

int seize(struct object *o)
{
	return swap(&o->usage, OPEN + 1, SEIZED + 1);
}

void unseize(struct object *o)
{
	__atomic_store_n(&o->usage, OPEN + 1, __ATOMIC_SEQ_CST);
}

/* --- objects -------------------------------------------------------------------- */

static void count_child(struct base *b, int n)
{
	pthread_mutex_lock(&b->mu);
	b->children += n;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->mu);
}

void object_open(struct object *o, int kind, struct base *b, void (*release)(void *))
{
	o->kind = kind;
	o->base = b;
	o->release = release;
	count_child(b, 1);
	__atomic_store_n(&o->usage, OPEN, __ATOMIC_SEQ_CST);
}

void object_move(struct object *o, struct base *to)
{
	count_child(o->base, -1);
	o->base = to;
	count_child(to, 1);
}

static void finalize(void *arg)
{
	struct object *o = arg, *below = o->below;
	struct base *b = o->base;

	o->release(o); /* the object itself lives as long as its world: threads have pointers to it */
	count_child(b, -1);
	if (below)
		leave(below);
}

/* Runs fn if no loop runs, and keeps one from starting meanwhile. */
static int if_idle(struct base *b, void (*fn)(void *), void *arg)
{
	int idle;

	pthread_mutex_lock(&b->own);
	idle = !b->running && !glev_base_hosted(b->c);
	if (idle)
		fn(arg);
	pthread_mutex_unlock(&b->own);
	return idle;
}

void leave(struct object *o)
{
	if (usage_exit(&o->usage) && !if_idle(o->base, finalize, o))
		base_post(o->base, finalize, o);
}

/* --- bases ---------------------------------------------------------------------- */

struct base *base_new(int wrapped)
{
	struct base *b = calloc(1, sizeof(*b));

	b->event = event_base_new();
	event_base_priority_init(b->event, 3);
	b->wrapped = wrapped;
	pthread_mutex_init(&b->own, NULL);
	pthread_mutex_init(&b->mu, NULL);
	pthread_cond_init(&b->changed, NULL);
	b->end = &b->queue;
	b->c = glev_base_new(b->event, 0, b);
	if (wrapped) {
		glev_base_set_foreign(b->c);
		glev_base_wake(b->c);
	}
	b->usage = OPEN;
	return b;
}

void base_post(struct base *b, void (*fn)(void *), void *arg)
{
	struct task *t = calloc(1, sizeof(*t));
	int open = usage_enter(&b->usage), arm;

	t->run = fn;
	t->arg = arg;
	pthread_mutex_lock(&b->mu);
	*b->end = t;
	b->end = &t->next;
	arm = open && !b->armed;
	if (arm)
		b->armed = 1;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->mu);
	if (arm)
		glev_base_wake(b->c);
	if (open)
		usage_exit(&b->usage);
}

struct waiter {
	void (*run)(void *);
	void *arg;
	struct base *base;
	int done;
};

static void run_waited(void *arg)
{
	struct waiter *w = arg;

	w->run(w->arg);
	pthread_mutex_lock(&w->base->mu);
	w->done = 1;
	pthread_cond_broadcast(&w->base->changed);
	pthread_mutex_unlock(&w->base->mu);
}

void base_run(struct base *b, void (*fn)(void *), void *arg)
{
	struct waiter w = {fn, arg, b, 0};

	base_post(b, run_waited, &w);
	pthread_mutex_lock(&b->mu);
	while (!w.done)
		pthread_cond_wait(&b->changed, &b->mu);
	pthread_mutex_unlock(&b->mu);
}

void base_wait(struct base *b)
{
	pthread_mutex_lock(&b->mu);
	while (b->children)
		pthread_cond_wait(&b->changed, &b->mu);
	pthread_mutex_unlock(&b->mu);
}

static struct task *take(struct base *b)
{
	struct task *t;

	pthread_mutex_lock(&b->mu);
	t = b->queue;
	b->queue = NULL;
	b->end = &b->queue;
	b->armed = 0;
	pthread_mutex_unlock(&b->mu);
	return t;
}

static void run_notes(struct glev_due *d)
{
	struct noted *n;

	while (d) {
		n = (struct noted *)d->handle;
		d = d->next;
		n->ready(n);
	}
}

static void run_tasks(struct base *b)
{
	struct task *t = take(b), *next;

	for (; t; t = next) {
		next = t->next;
		t->run(t->arg);
		free(t);
	}
}

int glevWake(void *h, struct event_base *base)
{
	struct base *b = h;
	int stop;

	(void)base;
	run_notes(glev_due_take(b->c));
	run_tasks(b);
	pthread_mutex_lock(&b->mu);
	stop = b->stop;
	pthread_mutex_unlock(&b->mu);
	if (stop)
		event_base_loopbreak(b->event);
	if (!__atomic_load_n(&b->leaving, __ATOMIC_SEQ_CST))
		return 0;
	run_notes(glev_due_take(b->c));
	return 1;
}

void glevYield(void)
{
	sched_yield();
}

static void *turn(void *arg)
{
	struct base *b = arg;

	seed((unsigned)(uintptr_t)b);
	if (b->wrapped) {
		event_base_loop(b->event, EVLOOP_NO_EXIT_ON_EMPTY);
		return NULL;
	}
	pthread_mutex_lock(&b->own);
	b->running = 1;
	pthread_mutex_unlock(&b->own);
	glev_base_claim(b->c);
	glev_base_loop(b->c, EVLOOP_NO_EXIT_ON_EMPTY);
	glev_base_unclaim(b->c);
	pthread_mutex_lock(&b->own);
	b->running = 0;
	pthread_mutex_unlock(&b->own);
	return NULL;
}

void base_start(struct base *b)
{
	pthread_create(&b->thread, NULL, turn, b);
}

void base_stop(struct base *b)
{
	pthread_mutex_lock(&b->mu);
	b->stop = 1;
	pthread_mutex_unlock(&b->mu);
	if (b->wrapped) { /* Free on another thread than the loop's */
		__atomic_store_n(&b->leaving, 1, __ATOMIC_SEQ_CST);
		usage_close(&b->usage);
	}
	glev_base_wake(b->c);
	pthread_join(b->thread, NULL);
	b->stop = 0;
}

void base_free(struct base *b)
{
	if (!b->wrapped) {
		usage_close(&b->usage);
		while (__atomic_load_n(&b->usage, __ATOMIC_SEQ_CST) > 1)
			sched_yield();
		glev_base_claim(b->c);
		run_tasks(b);
		glev_base_finalize(b->c);
		run_notes(glev_due_take(b->c));
		glev_base_unclaim(b->c);
		glev_base_free(b->c);
	}
	event_base_free(b->event);
	free(b);
}

struct call {
	struct base *b;
	int64_t (*call)(void *);
	void *arg;
	int64_t rc;
};

static void claimed(void *arg)
{
	struct call *c = arg;

	glev_base_claim(c->b->c);
	c->rc = c->call(c->arg);
	glev_base_unclaim(c->b->c);
}

int64_t as_loop(struct base *b, int64_t (*call)(void *), void *arg)
{
	struct call c = {b, call, arg, GLEV_WRONG_LOOP};

	if_idle(b, claimed, &c);
	return c.rc;
}

/* --- notes ----------------------------------------------------------------------- */

void collect(void)
{
	if (__atomic_load_n(&glev_due_waiting, __ATOMIC_SEQ_CST) > 0)
		run_notes(glev_due_take(NULL));
}

void noted_free(struct noted *n)
{
	free(n->c);
	free(n);
}

static struct noted *noted_new(void (*ready)(struct noted *))
{
	struct noted *n = calloc(1, sizeof(*n));

	n->ready = ready;
	return n;
}

struct noted *reference_new(void)
{
	struct noted *n = noted_new(noted_free);

	n->c = glev_ref_new((uintptr_t)n);
	return n;
}

struct noted *file_new(int fd)
{
	struct noted *n = noted_new(noted_free);
	int err;

	n->c = glev_file_new(fd, (int)chance(2), (int)chance(2), (uintptr_t)n, &err);
	if (!n->c)
		abort();
	return n;
}

void file_free(struct noted *n)
{
	glev_file_release(n->c);
	collect();
}

static void changed(struct noted *n)
{
	if (!usage_enter(&n->usage))
		usage_join(&n->usage);
	if (glev_buf_cb_collect(n->c).last) {
		usage_close(&n->usage); /* unless the driver did */
		usage_exit(&n->usage);
	}
	if (usage_exit(&n->usage))
		noted_free(n);
}

struct noted *callback_new(void)
{
	struct noted *n = noted_new(changed);

	n->c = glev_buf_cb_new((uintptr_t)n);
	n->usage = OPEN;
	return n;
}

/* --- bufferevents ------------------------------------------------------------------ */

static void bev_release(void *arg)
{
	struct bev *b = arg;

	group_remove(b);
	glev_bev_free(b->c);
}

void bev_open(struct bev *b, struct base *base)
{
	object_open(&b->o, BEV, base, bev_release);
}

static void quiet(void *arg)
{
	struct bev *b = arg;

	glev_bev_quiet(b->c);
}

static void quiet_and_leave(void *arg)
{
	struct bev *b = arg;

	quiet(b);
	leave(&b->o);
}

static void end_now(struct bev *b)
{
	if (!b->loop_only) {
		quiet_and_leave(b);
	} else if (glev_base_on_loop(b->o.base->c) || if_idle(b->o.base, quiet, b)) {
		if (glev_base_on_loop(b->o.base->c))
			quiet(b);
		leave(&b->o);
	} else {
		base_post(b->o.base, quiet_and_leave, b);
	}
	collect();
}

static void flush_ends(struct bev *b)
{
	int was = 1;

	if (__atomic_compare_exchange_n(&b->flushing, &was, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		end_now(b);
}

void bev_free(struct bev *b)
{
	if (b->borrowed && enter(&b->o)) {
		glev_bev_await(b->c);
		leave(&b->o);
	}
	if (close_object(&b->o))
		end_now(b);
	else
		flush_ends(b);
}

void bev_free_after_flush(struct bev *b, int64_t usec)
{
	if (b->borrowed || b->loop_only || !enter(&b->o))
		return;
	if (close_object(&b->o)) {
		__atomic_store_n(&b->flushing, 1, __ATOMIC_SEQ_CST);
		glev_filter_enter();
		if (glev_bev_free_after_flush(b->c, usec, 0) != 0)
			flush_ends(b);
		glev_filter_leave();
	}
	leave(&b->o);
	collect();
}

/* libevent makes the call again if the closure could not run, as when another has
 * panicked. */
static int called(struct bev *b)
{
	if (!enter(&b->o))
		return b->borrowed;
	if (chance(50) == 0) {
		leave(&b->o);
		return 1;
	}
	closure(b);
	leave(&b->o);
	return 0;
}

int glevBevRead(uintptr_t h, struct bufferevent *bev)
{
	(void)bev;
	return called((void *)h);
}

int glevBevWrite(uintptr_t h, struct bufferevent *bev)
{
	(void)bev;
	return called((void *)h);
}

void glevBevReceive(uintptr_t h, struct bufferevent *bev)
{
	struct bev *b = (void *)h;
	char bytes[3000];

	(void)bev;
	if (!enter(&b->o))
		return;
	glev_bev_receive(b->c, bytes, 1 + chance(sizeof(bytes)));
	leave(&b->o);
}

int glevBevEvent(uintptr_t h, struct bufferevent *bev, short what, int err, int connecting, unsigned long *codes, int ncodes)
{
	struct bev *b = (void *)h;

	(void)bev;
	(void)err;
	(void)connecting;
	(void)codes;
	(void)ncodes;
	if (b->addr && (what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) && enter(&b->o)) {
		if (chance(2) || glev_bev_try(b->c, b->addr) < 0)
			glev_bev_give_up(b->c, 0);
		leave(&b->o);
	}
	return called((void *)h);
}

void glevBevFlushEnds(uintptr_t h, struct bufferevent *bev, short what, int err)
{
	(void)bev;
	(void)what;
	(void)err;
	flush_ends((void *)h);
}

int glevFilter(uintptr_t h, struct bufferevent *bev, int out, int64_t limit, int mode)
{
	struct bev *b = (void *)h;
	struct glev_buf *src, *dst;
	int outermost, rc = BEV_NEED_MORE;
	size_t n = 1 + chance(9000);

	(void)bev;
	(void)mode;
	if (!enter(&b->o) && !(__atomic_load_n(&b->flushing, __ATOMIC_SEQ_CST) && join(&b->o)))
		return BEV_NEED_MORE;
	outermost = !__atomic_exchange_n(&b->filtering, 1, __ATOMIC_SEQ_CST);
	src = out ? glev_bev_output(b->c) : glev_bev_input(b->under->c);
	dst = out ? glev_bev_output(b->under->c) : glev_bev_input(b->c);
	if (limit >= 0 && n > (size_t)limit)
		n = (size_t)limit;
	if (glev_buf_len(src) > 0 && glev_buf_remove_buffer(src, dst, n) > 0)
		rc = BEV_OK;
	else if (chance(1000) == 0)
		rc = BEV_ERROR;
	if (outermost)
		__atomic_store_n(&b->filtering, 0, __ATOMIC_SEQ_CST);
	leave(&b->o);
	return rc;
}

/* --- groups ------------------------------------------------------------------------- */

/* The caller has entered the group, which may be closed already. */
void group_add(struct group *g, struct bev *b)
{
	pthread_mutex_lock(&g->mu);
	if (!__atomic_load_n(&b->group, __ATOMIC_SEQ_CST) && b->o.base == g->o.base &&
	    glev_group_add(g->c, b->c) == 0) {
		join(&g->o);
		__atomic_store_n(&b->group, g, __ATOMIC_SEQ_CST);
	}
	pthread_mutex_unlock(&g->mu);
}

/* On the loop's thread. */
void group_remove(struct bev *b)
{
	struct group *g = __atomic_exchange_n(&b->group, NULL, __ATOMIC_SEQ_CST);

	if (!g)
		return;
	pthread_mutex_lock(&g->mu);
	glev_group_remove(b->c);
	pthread_mutex_unlock(&g->mu);
	leave(&g->o);
}

/* --- events, listeners, DNS ---------------------------------------------------------- */

void glevEvent(uintptr_t h, struct event *ev, int fd, short what)
{
	struct timer *t = (void *)h;

	(void)ev;
	(void)fd;
	(void)what;
	if (!enter(&t->o))
		return;
	if (chance(2)) {
		pthread_mutex_lock(&t->mu);
		glev_event_add(t->c, chance(1000));
		pthread_mutex_unlock(&t->mu);
	}
	leave(&t->o);
}

void glevAccept(uintptr_t h, struct evconnlistener *lev, int fd, struct glev_addr *addr)
{
	char bytes[100];

	(void)h;
	(void)lev;
	(void)addr;
	while (read(fd, bytes, sizeof(bytes)) > 0)
		;
	close(fd);
}

void glevAcceptError(uintptr_t h, struct evconnlistener *lev, int err)
{
	(void)h;
	(void)lev;
	(void)err;
}

void glevDNSCleared(uintptr_t h, struct glev_dns *dns)
{
	(void)h;
	(void)dns;
}

void glevLookup(uintptr_t h, struct glev_lookup *lookup, int code, struct glev_addr *addrs, int n)
{
	(void)code;
	(void)addrs;
	(void)n;
	*(int *)h = 1;
	glev_lookup_free(lookup);
}
