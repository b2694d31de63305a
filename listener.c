/*
 * listener.c: the native half of Listener. Enabling, disabling and freeing is done
 * on the loop's thread or while no loop runs: from elsewhere evconnlistener_disable
 * and evconnlistener_free can deadlock with a running accept callback.
 */

#include <errno.h>
#include <stdlib.h>

#include "native.h"

struct glev_lev *glev_lev_new(struct glev_base *b, const struct glev_addr *a, unsigned flags, int backlog, void *handle, int *err)
{
	struct sockaddr_storage ss;
	int len = glev_addr_to(a, &ss);
	struct glev_lev *l;

	if (len < 0) {
		*err = -len;
		return NULL;
	}
	*err = ENOMEM;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->handle = handle;
	l->wanted = !(flags & LEV_OPT_DISABLED);
	l->retry = event_new(b->base, -1, EV_FINALIZE, glev_on_accept_retry, l);
	if (!l->retry)
		goto fail;
	errno = 0;
	l->lev = evconnlistener_new_bind(b->base, glev_on_accept, l, flags, backlog,
	    (struct sockaddr *)&ss, len);
	if (!l->lev) {
		*err = errno ? errno : EINVAL;
		goto fail;
	}
	evconnlistener_set_error_cb(l->lev, glev_on_accept_error);
	return l;
fail:
	if (l->retry)
		event_free(l->retry);
	free(l);
	return NULL;
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
