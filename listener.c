/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listener.c: the C half of Listener. A listener is enabled, disabled and freed on the
 * loop's thread, or while no loop runs: on another thread evconnlistener_disable and
 * evconnlistener_free can deadlock with a running accept callback.
 */

#include <errno.h>
#include <stdlib.h>

#include "base.h"
#include "callbacks.h"

static struct glev_lev *record(struct glev_base *b, uintptr_t handle)
{
	struct glev_lev *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->base = b;
	l->handle = handle;
	l->retry = event_new(b->base, -1, EV_FINALIZE, glev_on_accept_retry, l);
	if (!l->retry) {
		free(l);
		return NULL;
	}
	return l;
}

static void discard(struct glev_lev *l)
{
	if (l->lev)
		evconnlistener_free(l->lev);
	event_free(l->retry);
	free(l);
}

/* Accepted sockets inherit TCP_NODELAY. Those that were in the backlog by now do not, and they
 * are accepted first. */
static void no_delay(struct glev_lev *l)
{
	l->no_delay = glev_socket_no_delay(evconnlistener_get_fd(l->lev), 1) < 0 ? -1 : 4096;
}

static unsigned native(unsigned flags)
{
	return (flags & ~GLEV_LEV_NAGLE) | LEV_OPT_DISABLED;
}

/* Takes what evconnlistener_new or _new_bind returned, and does not close the descriptor if
 * it fails. With LEV_OPT_DISABLED libevent leaves the enabling to the caller, which matters
 * because libevent does not tell when it could not enable a new listener. */
static struct glev_lev *complete(struct glev_lev *l, struct evconnlistener *lev, unsigned flags, int *err)
{
	int rc = lev ? 0 : -(errno ? errno : EINVAL);

	l->lev = lev;
	if (lev) {
		if (!(flags & GLEV_LEV_NAGLE) && glev_socket_is_tcp(evconnlistener_get_fd(lev)))
			no_delay(l);
		evconnlistener_set_error_cb(lev, glev_on_accept_error);
	}
	if (lev && !(flags & LEV_OPT_DISABLED))
		rc = glev_lev_enable(l, 1);
	if (rc == 0)
		return l;
	*err = -rc;
	discard(l);
	return NULL;
}

struct glev_lev *glev_lev_new(struct glev_base *b, const struct glev_addr *a, unsigned flags, int backlog, uintptr_t handle, int *err)
{
	struct sockaddr_storage ss;
	int len = glev_addr_to(a, &ss), fd;
	struct evconnlistener *lev;
	struct glev_lev *l;

	*err = len < 0 ? -len : ENOMEM;
	if (len < 0 || !(l = record(b, handle)))
		return NULL;
	errno = 0;
	lev = evconnlistener_new_bind(b->base, glev_on_accept, l, native(flags), backlog,
	    (struct sockaddr *)&ss, len);
	fd = lev ? evconnlistener_get_fd(lev) : -1;
	l = complete(l, lev, flags, err);
	if (!l && fd >= 0)
		evutil_closesocket(fd);
	return l;
}

struct glev_lev *glev_lev_new_fd(struct glev_base *b, int fd, unsigned flags, int backlog, uintptr_t handle, int *err)
{
	int listening = 0;
	socklen_t size = sizeof(listening);
	struct glev_lev *l;

	/* A socket that does not listen yet is made to listen: the error of accept(2) would
	 * come too late for the caller. */
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0 ||
	    evutil_make_socket_nonblocking(fd) < 0) {
		*err = errno;
		return NULL;
	}
	*err = ENOMEM;
	if (!(l = record(b, handle)))
		return NULL;
	errno = 0;
	return complete(l, evconnlistener_new(b->base, glev_on_accept, l, native(flags),
	    listening ? 0 : backlog, fd), flags, err);
}

int glev_lev_enable(struct glev_lev *l, int on)
{
	int rc;

	l->wanted = on;
	event_del(l->retry);
	errno = 0;
	rc = on ? evconnlistener_enable(l->lev) : evconnlistener_disable(l->lev);
	return rc < 0 ? -(errno ? errno : ENOMEM) : 0;
}

void glev_lev_free(struct glev_lev *l)
{
	int fd = evconnlistener_get_fd(l->lev);

	discard(l);
	evutil_closesocket(fd);
}
