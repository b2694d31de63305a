/* SPDX-License-Identifier: BSD-3-Clause */
/* acts.c: what threads and closures do with bufferevents and what is around them. */

#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct world world;

static char bytes[200000];

static size_t size(void)
{
	return chance(20) ? 1 + chance(2000) : 1 + chance(sizeof(bytes) - 1);
}

static short direction(void)
{
	return chance(2) ? EV_READ : chance(2) ? EV_WRITE : EV_READ | EV_WRITE;
}

static struct glev_buf *buffer(void)
{
	return world.buffers[chance(BUFFERS)];
}

static struct glev_buf *either(struct bev *b)
{
	return chance(2) ? glev_bev_input(b->c) : glev_bev_output(b->c);
}

/* --- on a bufferevent ---------------------------------------------------------------- */

static int64_t do_write(struct bev *b) { return glev_bev_write(b->c, bytes, size()); }
static int64_t do_write_little(struct bev *b) { return glev_bev_write(b->c, bytes, 1 + chance(100)); }
static int64_t do_write_buffer(struct bev *b) { return glev_bev_write_buffer(b->c, buffer()); }
static int64_t do_read_buffer(struct bev *b) { return glev_bev_read_buffer(b->c, buffer()); }
static int64_t do_enable(struct bev *b) { return glev_bev_enable(b->c, EV_READ | EV_WRITE); }
static int64_t do_disable(struct bev *b) { return glev_bev_disable(b->c, direction()); }
static int64_t do_enabled(struct bev *b) { return glev_bev_enabled(b->c); }
static int64_t do_flush(struct bev *b) { return glev_bev_flush(b->c, direction(), (int)chance(2)); }
static int64_t do_trigger(struct bev *b) { return glev_bev_trigger(b->c, direction(), chance(2) ? BEV_TRIG_IGNORE_WATERMARKS : 0); }
static int64_t do_closures(struct bev *b) { return glev_bev_set_closures(b->c, (int)chance(4)); }
static int64_t do_receiver(struct bev *b) { return glev_bev_set_receiver(b->c, (int)chance(2)); }
static int64_t do_fd(struct bev *b) { return glev_bev_fd(b->c); }
static int64_t do_priority(struct bev *b) { return glev_bev_priority(b->c); }
static int64_t do_set_priority(struct bev *b) { return glev_bev_set_priority(b->c, (int)chance(3)); }
static int64_t do_close_write(struct bev *b) { return chance(20) ? 0 : glev_bev_close_write(b->c); }
static int64_t do_dialing(struct bev *b) { return glev_bev_dialing(b->c); }
static int64_t do_expose(struct bev *b) { return glev_bev_check(b->c) || chance(50) ? 0 : (glev_bev_expose(b->c), 0); }

static int64_t do_read(struct bev *b)
{
	char p[5000];

	return glev_bev_read(b->c, p, 1 + chance(sizeof(p)));
}

static int64_t do_trigger_event(struct bev *b)
{
	static const short what[] = {BEV_EVENT_TIMEOUT | BEV_EVENT_READING, BEV_EVENT_EOF, BEV_EVENT_ERROR, BEV_EVENT_CONNECTED};

	return glev_bev_trigger_event(b->c, what[chance(4)]);
}

static int64_t do_timeouts(struct bev *b)
{
	return glev_bev_set_timeouts(b->c, chance(2) * chance(3000), chance(2) * chance(3000));
}

static int64_t do_watermark(struct bev *b)
{
	return glev_bev_set_watermark(b->c, direction(), chance(2) * chance(100), chance(2) * (100 + chance(5000)));
}

static int64_t do_get_watermark(struct bev *b)
{
	size_t low, high;

	return glev_bev_get_watermark(b->c, chance(2) ? EV_READ : EV_WRITE, &low, &high);
}

static int64_t do_set_rate(struct bev *b)
{
	struct glev_rate rate = {100000, 200000, chance(2) * 100000, 200000, 5 + 5 * chance(2)};

	return glev_bev_set_rate(b->c, chance(2) ? &rate : NULL);
}

static int64_t do_level(struct bev *b)
{
	int64_t level;

	return glev_bev_level(b->c, (int)chance(6), &level);
}

static int64_t do_take(struct bev *b)
{
	return glev_bev_take(b->c, chance(2) ? GLEV_READ_LIMIT : GLEV_WRITE_LIMIT, (int64_t)chance(100) - 50);
}

static int64_t do_max_single(struct bev *b)
{
	return glev_bev_set_max_single(b->c, (int)chance(2), chance(2) * 1000);
}

static int64_t do_addr(struct bev *b)
{
	struct glev_addr a;

	return glev_bev_addr(b->c, (int)chance(2), &a);
}

static int64_t do_group(struct bev *b)
{
	if (!b->loop_only && enter(&world.group->o)) {
		group_add(world.group, b);
		leave(&world.group->o);
	}
	return 0;
}

static int64_t do_dial(struct bev *b)
{
	return b->addr ? glev_bev_dial(b->c) : 0;
}

static int64_t do_try(struct bev *b)
{
	return b->addr && glev_base_on_loop(b->o.base->c) ? glev_bev_try(b->c, b->addr) : 0;
}

static int64_t do_connect(struct bev *b)
{
	return b->addr ? glev_bev_connect(b->c, b->addr) : 0;
}

static int64_t do_setfd(struct bev *b)
{
	int p[2];
	int64_t rc;

	if (!b->addr || chance(4) || socketpair(AF_UNIX, SOCK_STREAM, 0, p) < 0)
		return 0;
	rc = glev_bev_replacefd(b->c, p[0]);
	if (rc < 0)
		close(p[0]);
	close(p[1]);
	return rc;
}

/* As BufferEvent.SetBase. The caller has entered b. */
static int64_t do_set_base(struct bev *b)
{
	struct base *to = world.bases[chance(HOSTED)];
	int64_t rc;

	if (b->loop_only || b->under || !glev_base_on_loop(b->o.base->c) || !seize(&b->o))
		return 0;
	rc = glev_bev_set_base(b->c, to->c);
	if (rc == 0)
		object_move(&b->o, to);
	unseize(&b->o);
	return rc;
}

/* --- on its buffers ------------------------------------------------------------------- */

static int64_t do_len(struct bev *b) { return glev_buf_len(either(b)); }
static int64_t do_add(struct bev *b) { return glev_buf_add(either(b), bytes, size()); }
static int64_t do_add_little(struct bev *b) { return glev_buf_add(glev_bev_output(b->c), bytes, 1 + chance(100)); }
static int64_t do_prepend(struct bev *b) { return glev_buf_prepend(either(b), bytes, 1 + chance(100)); }
static int64_t do_drain(struct bev *b) { return glev_buf_drain(either(b), chance(10000)); }
static int64_t do_move(struct bev *b) { return glev_buf_remove_buffer(either(b), buffer(), chance(10000)); }
static int64_t do_expand(struct bev *b) { return glev_buf_expand(either(b), chance(10000)); }
static int64_t do_search(struct bev *b) { return glev_buf_search(either(b), "abc", 3, 0, 1000); }
static int64_t do_space(struct bev *b) { return glev_buf_contiguous_space(either(b)); }
static int64_t do_freeze(struct bev *b) { return glev_buf_freeze(either(b), chance(2) ? GLEV_FRONT : GLEV_BACK, (int)chance(2)); }

static int64_t do_echo(struct bev *b)
{
	return glev_buf_add_buffer(glev_bev_output(b->c), glev_bev_input(b->c));
}

static int64_t do_copyout(struct bev *b)
{
	char p[1000];

	return glev_buf_copyout(either(b), p, sizeof(p));
}

static int64_t do_readln(struct bev *b)
{
	char *line = NULL;
	int64_t rc = glev_buf_readln(either(b), EVBUFFER_EOL_LF, &line);

	free(line);
	return rc;
}

/* A closure may do anything while it has the memory, and so may other threads. */
static int64_t do_peek(struct bev *b)
{
	struct evbuffer_iovec vec[16];
	struct glev_buf *buf = either(b);
	int64_t n = glev_buf_peek(buf, 0, 5000, vec, 16);

	if (n < 0 || n > 16)
		return n;
	do_write(b);
	do_enable(b);
	glev_buf_unlend(buf);
	return 0;
}

static int64_t do_reserve(struct bev *b)
{
	struct evbuffer_iovec vec[2];
	struct glev_buf *buf = either(b);
	int64_t n = glev_buf_reserve(buf, 1 + chance(3000), vec);

	if (n < 0)
		return n;
	((char *)vec[0].iov_base)[0] = 'x';
	return glev_buf_commit(buf, vec, (int)n, 1);
}

static int64_t do_reference(struct bev *b)
{
	struct noted *n = reference_new();
	int64_t rc = glev_buf_add_reference(chance(2) ? buffer() : either(b), bytes, size(), n->c);

	if (rc < 0)
		noted_free(n);
	return rc;
}

static int64_t do_file(struct bev *b)
{
	return glev_buf_add_file(chance(2) ? buffer() : either(b), world.file->c, 0, 1 + chance(10000));
}

static int64_t do_callback(struct bev *b)
{
	struct noted *n = callback_new();
	struct glev_buf *buf = either(b);
	int64_t rc = glev_buf_cb_add(buf, n->c);

	if (rc < 0) {
		noted_free(n);
		return rc;
	}
	return 0;
}

/* --- one of them ------------------------------------------------------------------------ */

typedef int64_t (*act_fn)(struct bev *);

static const act_fn acts[] = {
	do_write, do_write, do_write, do_write, do_write_buffer, do_read, do_read, do_read, do_read_buffer,
	do_enable, do_enable, do_enable, do_disable, do_enabled, do_flush, do_trigger, do_trigger_event,
	do_closures, do_receiver, do_fd, do_priority, do_set_priority, do_close_write, do_dialing, do_expose,
	do_timeouts, do_watermark, do_get_watermark, do_set_rate, do_level, do_take, do_max_single, do_addr,
	do_group, do_set_base, do_dial, do_try, do_connect, do_setfd,
	do_len, do_add, do_prepend, do_drain, do_move, do_expand, do_search, do_space, do_freeze, do_echo, do_echo,
	do_copyout, do_readln, do_peek, do_reserve, do_reference, do_file, do_callback,
};

static const act_fn calm_acts[] = {do_write_little, do_write_little, do_add_little, do_len, do_read, do_enabled, do_echo};

static act_fn any_act(const struct bev *b)
{
	if (b->calm && chance(300))
		return calm_acts[chance(sizeof(calm_acts) / sizeof(calm_acts[0]))];
	return acts[chance(sizeof(acts) / sizeof(acts[0]))];
}

struct chosen {
	act_fn fn;
	struct bev *b;
};

static int64_t run(void *arg)
{
	struct chosen *c = arg;

	return c->fn(c->b);
}

static void run_entered(struct bev *b, act_fn fn);

static void act_posted(void *arg)
{
	run_entered(arg, any_act(arg));
}

/* As BufferEvent.do. What only the loop's thread may do is posted to it instead. */
static void run_entered(struct bev *b, act_fn fn)
{
	struct chosen c = {fn, b};

	glev_filter_enter();
	if (fn(b) == GLEV_WRONG_LOOP && as_loop(b->o.base, run, &c) == GLEV_WRONG_LOOP && enter(&b->o))
		base_post(b->o.base, act_posted, b);
	glev_filter_leave();
	leave(&b->o);
	collect();
}

void act(struct bev *b)
{
	if (enter(&b->o))
		run_entered(b, any_act(b));
}

void closure(struct bev *b)
{
	int n = (int)chance(3);

	if (!b->calm || chance(2))
		do_read(b);
	if (chance(2))
		do_echo(b);
	while (n--)
		act(b);
	if (!b->calm && chance(3) == 0)
		act(any_bev());
}

/* --- on what is around them ---------------------------------------------------------------- */

static void on_timer(void)
{
	struct timer *t = world.timers[chance(TIMERS)];

	if (!enter(&t->o))
		return;
	pthread_mutex_lock(&t->mu);
	switch (chance(5)) {
	case 0:
		event_del(t->c->ev);
		break;
	case 1:
		event_active(t->c->ev, EV_READ, 1);
		break;
	case 2:
		event_pending(t->c->ev, EV_TIMEOUT, NULL);
		break;
	case 3:
		glev_event_set_priority(t->c, (int)chance(3));
		break;
	default:
		glev_event_add(t->c, chance(2000));
	}
	pthread_mutex_unlock(&t->mu);
	leave(&t->o);
}

static void enable_listener(void *arg)
{
	struct listener *l = arg;

	glev_lev_enable(l->c, (int)chance(4) > 0);
	leave(&l->o);
}

static void on_listener(void)
{
	struct listener *l = world.listener;

	if (enter(&l->o))
		base_post(l->o.base, enable_listener, l);
}

static void nothing(void *arg)
{
	(void)arg;
}

static void on_base(void)
{
	struct base *b = world.bases[chance(BASES)];
	char text[100];
	int severity;
	uint64_t lost;
	struct glev_fast_counters c;

	base_post(b, nothing, NULL);
	glev_fast_counters(b->c, &c);
	glev_base_keep(b->c, (int)chance(2));
	glev_log_next(text, sizeof(text), &severity, &lost);
}

static void remove_later(void *arg)
{
	struct bev *b = arg;

	group_remove(b);
	leave(&b->o);
}

static void on_group(void)
{
	struct group *g = world.group;
	struct glev_rate rate = {50000 + chance(100000), 200000, 100000, 200000, 10};
	struct bev *b = any_bev();
	uint64_t r, w;

	if (!enter(&g->o))
		return;
	switch (chance(4)) {
	case 0:
		glev_group_set(g->c, &rate);
		break;
	case 1:
		glev_group_totals(g->c, &r, &w);
		break;
	case 2:
		glev_group_take(g->c, chance(2) ? GLEV_READ_LIMIT : GLEV_WRITE_LIMIT, chance(100), 200000);
		break;
	default:
		if (enter(&b->o))
			base_post(b->o.base, remove_later, b);
	}
	leave(&g->o);
}

static void on_buffers(void)
{
	struct glev_buf *a = buffer(), *b = buffer();
	char p[100];

	switch (chance(6)) {
	case 0:
		glev_buf_add_buffer(a, b);
		break;
	case 1:
		glev_buf_prepend_buffer(a, b);
		break;
	case 2:
		glev_buf_remove_buffer(a, b, chance(1000));
		break;
	case 3:
		glev_buf_remove(a, p, sizeof(p));
		break;
	case 4:
		glev_buf_drain(a, 100000);
		break;
	default:
		glev_buf_add(a, bytes, size());
	}
	collect();
}

void act_aside(void)
{
	static void (*const aside[])(void) = {on_timer, on_listener, on_base, on_group, on_buffers, on_buffers};

	aside[chance(sizeof(aside) / sizeof(aside[0]))]();
}
