/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * main.c: a line server in C with a loop of its own.
 *
 *	embed [port [port]]
 *
 * It answers the lines of connections on the first port, and lends a connection to Go when
 * the client says "go". It gives connections on the second port to Go. Port 0 means any
 * free port. SIGUSR1 prints numbers of connections; SIGINT or SIGTERM ends the program.
 */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <event2/thread.h>

#include "libservice.h" /* written by go build */
#include "lines.h"

static unsigned long adopted, panics;

static void on_panicked(const char *text)
{
	panics++;
	fprintf(stderr, "embed: panic in Go: %s", text);
}

static void on_accept_here(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa, int len, void *arg)
{
	(void)sa;
	(void)len;
	(void)arg;
	lines_new(evconnlistener_get_base(l), fd);
}

/* Goroutines on other threads use this bufferevent, so it needs a lock, and its callbacks have to
 * run without that lock. */
static void on_accept_for_go(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa, int len, void *arg)
{
	struct bufferevent *bev = bufferevent_socket_new(evconnlistener_get_base(l), fd,
	    BEV_OPT_CLOSE_ON_FREE | BEV_OPT_THREADSAFE | BEV_OPT_DEFER_CALLBACKS | BEV_OPT_UNLOCK_CALLBACKS);

	(void)sa;
	(void)len;
	(void)arg;
	if (!bev)
		evutil_closesocket(fd);
	else if (serviceAdopt(bev) < 0)
		bufferevent_free(bev);
	else
		adopted++;
}

static void on_accept_error(struct evconnlistener *l, void *arg)
{
	(void)l;
	(void)arg;
	perror("embed: accept");
}

static struct evconnlistener *listen_on(struct event_base *base, const char *port, evconnlistener_cb on_accept)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
	struct evconnlistener *l;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	l = evconnlistener_new_bind(base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE,
	    -1, (struct sockaddr *)&sin, sizeof(sin));
	if (l)
		evconnlistener_set_error_cb(l, on_accept_error);
	else
		fprintf(stderr, "embed: port %s: %s\n", port, strerror(errno));
	return l;
}

static int port_of(struct evconnlistener *l)
{
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);

	if (getsockname(evconnlistener_get_fd(l), (struct sockaddr *)&sin, &len) < 0)
		return -1;
	return ntohs(sin.sin_port);
}

static void on_stop(evutil_socket_t sig, short what, void *arg)
{
	(void)sig;
	(void)what;
	event_base_loopexit(arg, NULL);
}

static void on_status(evutil_socket_t sig, short what, void *arg)
{
	(void)sig;
	(void)what;
	(void)arg;
	printf("embed: %d connections of C, %d of them lent, %lu given to Go, %lu panics\n",
	    lines_count(), lines_lent(), adopted, panics);
	fflush(stdout);
}

/*
 * libevent installs its signal handler without SA_ONSTACK. In a program with Go in it that
 * corrupts memory: the kernel may run the handler on any thread, also on this one while a
 * Go closure runs here, on the small stack of a goroutine. With SA_ONSTACK the handler runs
 * on the alternate stack, which Go gives to every thread that runs Go. event_add installs
 * the handler again each time, so the flag has to be set after each event_add.
 */
static int add_signal(struct event *ev)
{
	struct sigaction sa;

	if (!ev || event_add(ev, NULL) < 0 || sigaction(event_get_signal(ev), NULL, &sa) < 0)
		return -1;
	sa.sa_flags |= SA_ONSTACK;
	return sigaction(event_get_signal(ev), &sa, NULL);
}

int main(int argc, char **argv)
{
	struct event_base *base = NULL;
	struct evconnlistener *here = NULL, *for_go = NULL;
	struct event *signals[3] = {NULL, NULL, NULL};
	int status = 1, started = 0, i;

	/* A write to a connection that the client has closed must not end the process. */
	signal(SIGPIPE, SIG_IGN);

	/* Without this libevent 2.2.1-alpha reads signals from a signalfd, and blocks them in
	 * this thread only. A signal on one of Go's threads would end the process. */
	setenv("EVENT_DISALLOW_SIGNALFD", "1", 1);

	/* Go wakes the loop from other threads. This call has to come before any event_base. */
	if (evthread_use_pthreads() < 0 || !(base = event_base_new())) {
		fprintf(stderr, "embed: no event_base\n");
		goto done;
	}
	/* The handlers have to be safe before Go code runs. */
	signals[0] = evsignal_new(base, SIGINT, on_stop, base);
	signals[1] = evsignal_new(base, SIGTERM, on_stop, base);
	signals[2] = evsignal_new(base, SIGUSR1, on_status, NULL);
	for (i = 0; i < 3; i++) {
		if (add_signal(signals[i]) < 0) {
			fprintf(stderr, "embed: signals: %s\n", strerror(errno));
			goto done;
		}
	}
	if (serviceStart(base, on_panicked) < 0)
		goto done;
	started = 1;
	here = listen_on(base, argc > 1 ? argv[1] : "9696", on_accept_here);
	for_go = listen_on(base, argc > 2 ? argv[2] : "9697", on_accept_for_go);
	if (!here || !for_go)
		goto done;
	printf("embed: 127.0.0.1:%d is C's, 127.0.0.1:%d is Go's\n", port_of(here), port_of(for_go));
	fflush(stdout);
	if (event_base_dispatch(base) < 0)
		goto done;
	printf("embed: the end, after %lu panics\n", panics);
	status = 0;
done:
	if (here)
		evconnlistener_free(here);
	if (for_go)
		evconnlistener_free(for_go);
	/* First Go frees its bufferevents and gives the lent ones back; then C frees its own. */
	if (started && serviceStop() < 0)
		status = 1;
	lines_free_all();
	for (i = 0; i < 3; i++)
		if (signals[i])
			event_free(signals[i]);
	if (base)
		event_base_free(base);
	libevent_global_shutdown();
	return status;
}
