/* host.h: a C program with an event loop of its own, for tests. */
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
	int own_base;
	struct event *door; /* a byte in the pipe has the host call Go */
	int pipe[2];
	pthread_t thread;
	int started;
	int handle;
};

/* With a base of its own, or on one that is somebody else's. */
struct host *host_new(int locks, int handle);
struct host *host_on(struct event_base *base, int handle);
int host_start(struct host *h);
void host_stop(struct host *h);
void host_free(struct host *h);
int host_call(struct host *h);

/* An echo, in the way of C programs: *calls is counted up by each callback. */
struct bufferevent *host_echo(struct host *h, int fd, int options, int *calls);
struct bufferevent *host_bufferevent(struct host *h, int fd, int options);
void host_pair(struct host *h, int options, struct bufferevent *pair[2]);
struct bufferevent *host_filter(struct bufferevent *under, int options);

/* The callbacks of a bufferevent: those of an echo that are in which, an EV_ or
 * BEV_EVENT_EOF each; and all four pointers of bufferevent_getcb. */
void host_set_callbacks(struct bufferevent *bev, int which, int *calls);
void host_get_callbacks(struct bufferevent *bev, uintptr_t out[4]);

#endif
