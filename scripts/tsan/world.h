/* SPDX-License-Identifier: BSD-3-Clause */
/* world.h: what the threads of one round share, and what they do with it. */
#ifndef TSAN_WORLD_H
#define TSAN_WORLD_H

#include "go.h"

enum { BASES = 3, HOSTED = 2, MOST_BEVS = 6, BUFFERS = 3, TIMERS = 2 };

struct buffer {
	int64_t usage;
	struct glev_buf *c;
};

struct world {
	struct base *bases[BASES]; /* the last one is C's, which runs its loop */
	struct bev *bevs[MOST_BEVS];
	int nbevs; /* atomic */
	struct glev_buf *buffers[BUFFERS];
	struct timer *timers[TIMERS];
	struct listener *listener;
	struct group *group;
	struct glev_addr *addr;
	struct noted *file;
};

extern struct world world;

static inline struct bev *any_bev(void)
{
	return world.bevs[chance((unsigned)__atomic_load_n(&world.nbevs, __ATOMIC_ACQUIRE))];
}

/* One act of a thread on a bufferevent, chosen by chance. */
void act(struct bev *b);
/* One act on something else. */
void act_aside(void);

#endif
