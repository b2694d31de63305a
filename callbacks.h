/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * callbacks.h: the functions of callbacks.c, which libevent calls. The files below only
 * give their addresses to libevent.
 */
#ifndef GLEV_CALLBACKS_H
#define GLEV_CALLBACKS_H

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <event2/util.h>

void glev_on_wake(evutil_socket_t fd, short what, void *arg);
void glev_on_later(evutil_socket_t fd, short what, void *arg);
void glev_on_nothing(evutil_socket_t fd, short what, void *arg);
void glev_on_event(evutil_socket_t fd, short what, void *arg);
void glev_on_bev_read(struct bufferevent *bev, void *arg);
void glev_on_bev_write(struct bufferevent *bev, void *arg);
void glev_on_bev_event(struct bufferevent *bev, short what, void *arg);
void glev_on_below_read(struct bufferevent *bev, void *arg);
void glev_on_below_write(struct bufferevent *bev, void *arg);
void glev_on_below_event(struct bufferevent *bev, short what, void *arg);
void glev_on_bev_limit(evutil_socket_t fd, short what, void *arg);
void glev_on_bev_flushed(evutil_socket_t fd, short what, void *arg);
enum bufferevent_filter_result glev_on_filter_in(struct evbuffer *src, struct evbuffer *dst, ev_ssize_t limit, enum bufferevent_flush_mode mode, void *arg);
enum bufferevent_filter_result glev_on_filter_out(struct evbuffer *src, struct evbuffer *dst, ev_ssize_t limit, enum bufferevent_flush_mode mode, void *arg);
void glev_on_filter_change(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg);
void glev_on_readable(evutil_socket_t fd, short what, void *arg);
void glev_on_writable(evutil_socket_t fd, short what, void *arg);
void glev_on_reminder(evutil_socket_t fd, short what, void *arg);
void glev_on_stall(evutil_socket_t fd, short what, void *arg);
void glev_on_stall_output(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg);
void glev_on_unsent(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg);
void glev_on_output(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg);
void glev_on_input(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg);
void glev_on_in_file(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg);
void glev_on_buf_change(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg);
void glev_on_block(const void *p, size_t n, void *arg);
void glev_on_reference(const void *p, size_t n, void *arg);
void glev_on_destroyed(const void *p, size_t n, void *arg);
void glev_on_segment(const struct evbuffer_file_segment *seg, int flags, void *arg);
void glev_on_accept(struct evconnlistener *lev, evutil_socket_t fd, struct sockaddr *sa, int len, void *arg);
void glev_on_accept_error(struct evconnlistener *lev, void *arg);
void glev_on_accept_retry(evutil_socket_t fd, short what, void *arg);
void glev_on_dns_step(evutil_socket_t fd, short what, void *arg);
void glev_on_addrinfo(int code, struct evutil_addrinfo *res, void *arg);

#endif
