/* SPDX-License-Identifier: BSD-3-Clause */
// An echo server in C, as libevent's book writes it: each connection has a
// bufferevent whose read callback moves the input to the output. With TLS the
// bufferevents are those of bufferevent_openssl.
#include "../c/server.h"
#include "../c/tls.h"

#include <errno.h>
#include <stdlib.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>

static void on_echo(struct bufferevent *bev, void *arg)
{
	(void)arg;
	evbuffer_add_buffer(bufferevent_get_output(bev), bufferevent_get_input(bev));
}

static void on_sink(struct bufferevent *bev, void *total)
{
	struct evbuffer *in = bufferevent_get_input(bev);
	size_t n = evbuffer_get_length(in);
	evbuffer_drain(in, n);
	size_t answer = acks(total, n);
	if (answer > 0)
		bufferevent_write(bev, ack_bytes, answer);
}

static void on_event(struct bufferevent *bev, short what, void *total)
{
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) {
		bufferevent_free(bev);
		free(total);
	}
}

static void on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *addr, int len, void *arg)
{
	(void)addr, (void)len, (void)arg;
	struct event_base *base = evconnlistener_get_base(l);
	struct bufferevent *bev = !server.tls ? bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE) :
		bufferevent_openssl_socket_new(base, fd, new_tls(), BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
	uint64_t *total = server.sink ? calloc(1, sizeof *total) : NULL;
	if (!bev || (server.sink && !total))
		fail("bufferevent_socket_new");
	bufferevent_setcb(bev, server.sink ? on_sink : on_echo, NULL, on_event, total);
	bufferevent_enable(bev, EV_READ | EV_WRITE);
}

static void loop(int listener)
{
	struct event_base *base = event_base_new();
	if (!base || !evconnlistener_new(base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE, 0, listener))
		fail("evconnlistener_new");
	event_base_dispatch(base);
	errno = ECANCELED;
	fail("event_base_dispatch");
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	return serve(loop);
}
