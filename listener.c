/*
 * listener.c: the C half of Listener. A listener is enabled, disabled and freed on the
 * loop's thread, or while no loop runs: on another thread evconnlistener_disable and
 * evconnlistener_free can deadlock with a running accept callback.
 */

#include <errno.h>
#include <stdlib.h>

#include "base.h"
#include "callbacks.h"

static struct glev_lev *record(struct glev_base *b, unsigned flags, void *handle)
{
	struct glev_lev *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->base = b;
	l->handle = handle;
	l->wanted = !(flags & LEV_OPT_DISABLED);
	l->retry = event_new(b->base, -1, EV_FINALIZE, glev_on_accept_retry, l);
	if (!l->retry) {
		free(l);
		return NULL;
	}
	return l;
}

/* Completes the record with what evconnlistener_new or _new_bind has returned. */
static struct glev_lev *complete(struct glev_lev *l, struct evconnlistener *lev, int *err)
{
	if (!lev) {
		*err = errno ? errno : EINVAL;
		event_free(l->retry);
		free(l);
		return NULL;
	}
	l->lev = lev;
	evconnlistener_set_error_cb(lev, glev_on_accept_error);
	return l;
}

struct glev_lev *glev_lev_new(struct glev_base *b, const struct glev_addr *a, unsigned flags, int backlog, void *handle, int *err)
{
	struct sockaddr_storage ss;
	int len = glev_addr_to(a, &ss);
	struct glev_lev *l;

	*err = len < 0 ? -len : ENOMEM;
	if (len < 0 || !(l = record(b, flags, handle)))
		return NULL;
	errno = 0;
	return complete(l, evconnlistener_new_bind(b->base, glev_on_accept, l, flags, backlog,
	    (struct sockaddr *)&ss, len), err);
}

struct glev_lev *glev_lev_new_fd(struct glev_base *b, int fd, unsigned flags, int backlog, void *handle, int *err)
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
	if (!(l = record(b, flags, handle)))
		return NULL;
	errno = 0;
	return complete(l, evconnlistener_new(b->base, glev_on_accept, l, flags,
	    listening ? 0 : backlog, fd), err);
}

int glev_lev_enable(struct glev_lev *l, int on)
{
	int rc;

	l->wanted = on;
	event_del(l->retry);
	errno = 0;
	rc = on ? evconnlistener_enable(l->lev) : evconnlistener_disable(l->lev);
	return rc < 0 ? -(errno ? errno : EIO) : 0;
}

void glev_lev_free(struct glev_lev *l)
{
	evconnlistener_free(l->lev);
	event_free(l->retry);
	free(l);
}
