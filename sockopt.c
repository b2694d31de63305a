/* SPDX-License-Identifier: BSD-3-Clause */
/* sockopt.c: options of sockets. */

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "bev.h"

static int set(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

int glev_socket_is_tcp(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	return getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
	    (ss.ss_family == AF_INET || ss.ss_family == AF_INET6);
}

int glev_socket_no_delay(int fd, int on)
{
	return set(fd, IPPROTO_TCP, TCP_NODELAY, on);
}

static int no_delay(int fd, const void *on)
{
	return glev_socket_no_delay(fd, *(const int *)on);
}

static int linger(int fd, const void *value)
{
	int seconds = *(const int *)value;
	struct linger l = {.l_onoff = seconds >= 0, .l_linger = seconds >= 0 ? seconds : 0};

	return setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)) < 0 ? -errno : 0;
}

static int keep_alive(int fd, const void *value)
{
	const struct glev_keep_alive *k = value;
	int rc = set(fd, SOL_SOCKET, SO_KEEPALIVE, k->on);

	if (rc < 0 || !k->on)
		return rc;
#ifdef TCP_KEEPIDLE
	if (k->idle >= 0)
		rc = set(fd, IPPROTO_TCP, TCP_KEEPIDLE, k->idle);
#elif defined(TCP_KEEPALIVE)
	if (k->idle >= 0)
		rc = set(fd, IPPROTO_TCP, TCP_KEEPALIVE, k->idle);
#endif
#ifdef TCP_KEEPINTVL
	if (rc == 0 && k->interval >= 0)
		rc = set(fd, IPPROTO_TCP, TCP_KEEPINTVL, k->interval);
#endif
#ifdef TCP_KEEPCNT
	if (rc == 0 && k->count >= 0)
		rc = set(fd, IPPROTO_TCP, TCP_KEEPCNT, k->count);
#endif
	return rc;
}

/* Sets under the lock, so the descriptor is not closed meanwhile. */
static int64_t change(struct glev_bev *r, int (*option)(int fd, const void *value), const void *value)
{
	int64_t rc;

	GLEV_ENTER_STACK(r);
	rc = option(bufferevent_getfd(r->bev), value);
	glev_stack_unlock(r);
	return rc;
}

int64_t glev_bev_set_no_delay(struct glev_bev *r, int on)
{
	return change(r, no_delay, &on);
}

int64_t glev_bev_set_keep_alive(struct glev_bev *r, const struct glev_keep_alive *k)
{
	return change(r, keep_alive, k);
}

int64_t glev_bev_set_linger(struct glev_bev *r, int seconds)
{
	return change(r, linger, &seconds);
}
