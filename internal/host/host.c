/* SPDX-License-Identifier: BSD-3-Clause */
/* host.c: a C program with its own event loop, for tests. */

#include <stdlib.h>
#include <unistd.h>

#include "host.h"
#include "_cgo_export.h"

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct host *h = arg;
	char bytes[64];

	(void)what;
	while (read(fd, bytes, sizeof(bytes)) == sizeof(bytes))
		;
	hostCalled(h->handle);
}

struct host *host_new(int locks, int handle)
{
	struct event_config *cfg = event_config_new();
	struct host *h;

	if (locks)
		evthread_use_pthreads();
	else
		event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
	h = host_on(event_base_new_with_config(cfg), handle);
	h->own_base = 1;
	event_config_free(cfg);
	return h;
}

struct host *host_on(struct event_base *base, int handle)
{
	struct host *h = calloc(1, sizeof(*h));

	h->base = base;
	h->handle = handle;
	if (pipe(h->pipe) < 0)
		abort();
	evutil_make_socket_nonblocking(h->pipe[0]);
	h->wake = event_new(h->base, h->pipe[0], EV_READ | EV_PERSIST, on_wake, h);
	event_add(h->wake, NULL);
	return h;
}

static void *run(void *arg)
{
	struct host *h = arg;

	event_base_dispatch(h->base);
	return NULL;
}

int host_start(struct host *h)
{
	h->started = 1;
	return pthread_create(&h->thread, NULL, run, h);
}

int host_call(struct host *h)
{
	return write(h->pipe[1], "", 1) == 1 ? 0 : -1;
}

void host_stop(struct host *h)
{
	if (h->started)
		pthread_join(h->thread, NULL);
	h->started = 0;
}

void host_free(struct host *h)
{
	event_free(h->wake);
	if (h->own_base)
		event_base_free(h->base);
	close(h->pipe[0]);
	close(h->pipe[1]);
	free(h);
}

static void on_read(struct bufferevent *bev, void *arg)
{
	++*(int *)arg;
	bufferevent_write_buffer(bev, bufferevent_get_input(bev));
}

static void on_write(struct bufferevent *bev, void *arg)
{
	(void)bev;
	++*(int *)arg;
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	(void)bev;
	(void)what;
	++*(int *)arg;
}

struct bufferevent *host_echo(struct host *h, int fd, int options, int *calls)
{
	struct bufferevent *bev = bufferevent_socket_new(h->base, fd, options);

	bufferevent_setcb(bev, on_read, NULL, on_event, calls);
	bufferevent_enable(bev, EV_READ | EV_WRITE);
	return bev;
}

struct bufferevent *host_bufferevent(struct host *h, int fd, int options)
{
	return bufferevent_socket_new(h->base, fd, options);
}

void host_pair(struct host *h, int options, struct bufferevent *pair[2])
{
	bufferevent_pair_new(h->base, options, pair);
}

struct bufferevent *host_filter(struct bufferevent *under, int options)
{
	return bufferevent_filter_new(under, NULL, NULL, options, NULL, NULL);
}

void host_set_callbacks(struct bufferevent *bev, int which, int *calls)
{
	bufferevent_setcb(bev, which & EV_READ ? on_read : NULL, which & EV_WRITE ? on_write : NULL,
	    which & BEV_EVENT_EOF ? on_event : NULL, calls);
}

void host_get_callbacks(struct bufferevent *bev, uintptr_t out[4])
{
	bufferevent_data_cb on[2];
	bufferevent_event_cb event;
	void *arg;

	bufferevent_getcb(bev, &on[0], &on[1], &event, &arg);
	out[0] = (uintptr_t)on[0];
	out[1] = (uintptr_t)on[1];
	out[2] = (uintptr_t)event;
	out[3] = (uintptr_t)arg;
}
