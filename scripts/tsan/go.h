/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * go.h: what the Go half of the binding does for the C half, in C, so that the thread
 * sanitizer sees both: use counts, the queue of a loop, notes, and the functions that
 * callbacks.c calls. The threads of the driver stand for goroutines.
 */
#ifndef TSAN_GO_H
#define TSAN_GO_H

#include <pthread.h>
#include <stdint.h>

#include "bev.h"

/* --- chance ------------------------------------------------------------------- */

/* Of the calling thread. */
void seed(unsigned n);
/* A number below n. */
unsigned chance(unsigned n);

/* --- bases ---------------------------------------------------------------------- */

struct task {
	struct task *next;
	void (*run)(void *);
	void *arg;
};

struct base {
	int64_t usage;
	struct glev_base *c;
	struct event_base *event;
	int wrapped; /* C's */
	pthread_t thread;

	pthread_mutex_t own; /* the thread that has it decides which thread acts as the loop */
	int running;
	int leaving; /* the next turn is the last one; atomic */

	pthread_mutex_t mu;
	pthread_cond_t changed;
	struct task *queue, **end;
	int armed, stop;
	int children;
};

struct base *base_new(int wrapped);
/* Starts a thread that runs the loop, until base_stop. */
void base_start(struct base *b);
void base_stop(struct base *b);
void base_free(struct base *b);
/* Has the loop run fn. */
void base_post(struct base *b, void (*fn)(void *), void *arg);
/* Runs fn on the loop, and waits for that. */
void base_run(struct base *b, void (*fn)(void *), void *arg);
/* Waits until nothing lives on the base. */
void base_wait(struct base *b);
/* Makes a call as the loop's thread would, if no loop runs. */
int64_t as_loop(struct base *b, int64_t (*call)(void *), void *arg);

/* --- objects -------------------------------------------------------------------- */

enum { BEV = 1, EVENT, LISTENER, BUFFER };

/* The first member of all that has a use count. */
struct object {
	int64_t usage;
	int kind;
	struct base *base;
	void (*release)(void *); /* gives the C memory back */
	struct object *below;    /* what a filter is on: entered until the filter is gone */
};

void object_open(struct object *o, int kind, struct base *b, void (*release)(void *));
int enter(struct object *o);
/* Enters a closed object that another thread stays inside of meanwhile. */
int join(struct object *o);
void leave(struct object *o);
/* Closes it, and stays inside. Returns 0 if it was closed before. */
int close_object(struct object *o);
/* Puts it on another base. */
void object_move(struct object *o, struct base *to);
/* Keeps all others out; the caller is inside. */
int seize(struct object *o);
void unseize(struct object *o);

/* --- bufferevents --------------------------------------------------------------- */

struct group;

struct bev {
	struct object o;
	struct glev_bev *c;
	struct bev *under; /* of a filter */
	int loop_only;
	int borrowed;
	int calm;          /* what threads do with it leaves the bypass of its closure open most of the time */
	int flushing;      /* atomic */
	int filtering;     /* a filter function runs; atomic */
	struct group *group; /* atomic */
	const struct glev_addr *addr; /* that a connect by name tries */
};

/* Puts a record in. */
void bev_open(struct bev *b, struct base *base);
void bev_free(struct bev *b);
void bev_free_after_flush(struct bev *b, int64_t usec);
/* What closures do. */
void closure(struct bev *b);

struct group {
	struct object o;
	struct bufferevent_rate_limit_group *c;
	pthread_mutex_t mu;
};

void group_add(struct group *g, struct bev *b);
void group_remove(struct bev *b);

/* --- others ---------------------------------------------------------------------- */

/* What a note leads to. */
struct noted {
	void (*ready)(struct noted *);
	void *c;
	int64_t usage;
	int released; /* the Go object's own reference is given back; atomic */
};

struct noted *reference_new(void);
struct noted *file_new(int fd);
void file_free(struct noted *n);
struct noted *callback_new(void);
void noted_free(struct noted *n);
/* Runs what a call left for this thread. */
void collect(void);

struct timer {
	struct object o;
	struct glev_event *c;
	pthread_mutex_t mu;
};

struct listener {
	struct object o;
	struct glev_lev *c;
	struct glev_addr addr;
};

#endif
