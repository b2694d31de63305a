/* SPDX-License-Identifier: BSD-3-Clause */
/* host.h: a C program with its own event loop, for tests. */
#ifndef HOST_H
#define HOST_H

#include <pthread.h>
#include <stdint.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/thread.h>

struct host {
	struct event_base *base;
	int own_base; /* host_free frees it */
	struct event *wake; /* the host calls Go when a byte comes through the pipe */
	int pipe[2];
	pthread_t thread;
	int started;
	int handle; /* by which Go finds the Host */
};

/* host_new makes a base, with locks or without, and host_on uses one whose loop the caller
 * runs. */
struct host *host_new(int locks, int handle);
struct host *host_on(struct event_base *base, int handle);
int host_start(struct host *h);
void host_stop(struct host *h);
void host_free(struct host *h);
int host_call(struct host *h);

/* A bufferevent whose callbacks echo, as a C program would do it. Each callback adds 1 to
 * *calls. */
struct bufferevent *host_echo(struct host *h, int fd, int options, int *calls);
struct bufferevent *host_bufferevent(struct host *h, int fd, int options);
void host_pair(struct host *h, int options, struct bufferevent *pair[2]);
struct bufferevent *host_filter(struct bufferevent *under, int options);

/* Sets the callbacks of the echo for which the bit is in which: EV_READ, EV_WRITE, or
 * BEV_EVENT_EOF for the event callback. The others become NULL. */
void host_set_callbacks(struct bufferevent *bev, int which, int *calls);
/* Gets the three callbacks and their argument. */
void host_get_callbacks(struct bufferevent *bev, uintptr_t out[4]);

#endif
