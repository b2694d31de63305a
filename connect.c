/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * connect.c: the descriptor of a bufferevent, connecting, and connecting by name.
 */

#include <errno.h>
#include <poll.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "bev.h"

/* --- the descriptor ----------------------------------------------------------- */

/* A regular file or directory is always ready, and epoll refuses it. That would come too late
 * to be reported, so it is refused here. So are sockets that carry no stream, because a
 * bufferevent would join datagrams. */
int glev_bev_prepare_fd(int fd, int *stream)
{
	struct stat st;
	int type = 0;
	socklen_t len = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
		if (fstat(fd, &st) < 0)
			return -errno;
		if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
			return -EPERM;
	} else if (type != SOCK_STREAM) {
		return GLEV_NO_STREAM;
	}
	*stream = type == SOCK_STREAM;
	return evutil_make_socket_nonblocking(fd) < 0 ? -errno : 0;
}

static int tell_door(struct glev_bev *r, int rc)
{
	if (r->door && r->door->socket)
		r->door->socket(r->bev);
	return rc;
}

int glev_bev_give_fd(struct glev_bev *r, int fd)
{
	return tell_door(r, bufferevent_setfd(r->bev, fd));
}

int64_t glev_bev_fd(struct glev_bev *r)
{
	int fd;

	GLEV_CHECK_LOOP(r);
	glev_stack_lock(r); /* the descriptor of a filter is that of the bottom, and libevent takes no lock there */
	fd = bufferevent_getfd(r->bev);
	glev_stack_unlock(r);
	return fd;
}

int64_t glev_bev_addr(struct glev_bev *r, int peer, struct glev_addr *a)
{
	int64_t rc;

	GLEV_CHECK_LOOP(r);
	glev_stack_lock(r); /* or the descriptor might be closed, and its number in use again */
	rc = glev_addr_of_fd(bufferevent_getfd(r->bev), peer, a);
	glev_stack_unlock(r);
	return rc;
}

int64_t glev_bev_addrs(struct glev_bev *r, struct glev_addr a[2])
{
	int64_t rc;

	GLEV_CHECK_LOOP(r);
	glev_stack_lock(r);
	rc = glev_addrs_of_fd(bufferevent_getfd(r->bev), a);
	glev_stack_unlock(r);
	return rc;
}

/* Called before libevent gets another descriptor. Pauses the fast path. */
static void leave_descriptor(struct glev_bev *r)
{
	r->owed.touched = 1;
	r->fast.paused = 1;
	r->fast.read_error = r->fast.reset = 0;
	glev_settle(r);
}

/* libevent forgets the priority of its events with the old descriptor. The events may be added by
 * now, and then only the loop's thread may set their priority (see glev_event_set_priority). If
 * this is another thread, glev_bev_open does so later. */
static void restore_priority(struct glev_bev *r)
{
	if (r->set.priority >= 0 && glev_base_on_loop(r->base))
		bufferevent_priority_set(r->bev, r->set.priority);
}

/* libevent has left both inner ends of the buffers unfrozen. */
static void stay_at_descriptor(struct glev_bev *r)
{
	r->fast.paused = 0;
	glev_buf_refreeze(&r->in);
	glev_buf_refreeze(&r->out);
	glev_settle(r);
}

/* Called after libevent has got another descriptor. A CloseWrite was one of the old descriptor. */
static void enter_descriptor(struct glev_bev *r, int link)
{
	r->link = (int8_t)link;
	r->stack.started = 1;
	r->ending.shut = r->ending.failed = 0;
	restore_priority(r);
	stay_at_descriptor(r);
}

/* Ends an attempt of a connect by name, and closes its socket. If the descriptor is the
 * caller's, libevent only stops waiting for it. */
static void end_attempt(struct glev_bev *r)
{
	int fd = bufferevent_getfd(r->bev), ours = r->owns & GLEV_OWNS_ATTEMPT;

	glev_settle_native_off(r);
	glev_bev_give_fd(r, ours ? -1 : fd);
	if (fd >= 0 && ours)
		evutil_closesocket(fd);
	r->owns &= ~GLEV_OWNS_ATTEMPT;
}

void glev_bev_end_dial(struct glev_bev *r)
{
	if (r->link == GLEV_TRYING)
		end_attempt(r);
	if (glev_bev_dials(r))
		r->link = GLEV_UNLINKED;
}

static int goes_on(const struct glev_bev *r)
{
	return r->link == GLEV_LOOKING_UP || r->link == GLEV_TRYING;
}

/* Ends a connect by name, because the caller wants to connect to something else. Only the loop's
 * thread can end it: on another thread, the loop's thread may already have fetched the number of
 * the socket (see drop_descriptor in close.c). */
static int hang_up(struct glev_bev *r)
{
	if (!glev_bev_dials(r))
		return 0;
	if (goes_on(r) && !glev_base_on_loop(r->base))
		return GLEV_WRONG_LOOP;
	glev_bev_end_dial(r);
	glev_settle(r);
	return 0;
}

static int link_of(const struct glev_bev *r, int stream)
{
	if (r->door) /* its handshake has still to come */
		return GLEV_CONNECTING;
	return stream ? GLEV_OPEN : GLEV_UNLINKED;
}

/* Linux's first connect(2) after a connect that took time returns 0, whatever the address is. */
static int is_connected(int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	return getpeername(fd, (struct sockaddr *)&peer, &len) == 0;
}

static int64_t set_descriptor(struct glev_bev *r, int fd, int *old)
{
	int64_t rc;
	int stream = 0;

	if (r->type != GLEV_SOCKET)
		return GLEV_NO_SOCKET;
	/* If this is another thread, the loop's thread may already have fetched the old number
	 * (see drop_descriptor in close.c), and here the buffers must not be emptied. */
	if (!glev_base_on_loop(r->base))
		return GLEV_WRONG_LOOP;
	rc = fd < 0 ? 0 : glev_bev_prepare_fd(fd, &stream);
	if (rc < 0)
		return rc;
	GLEV_ENTER(r);
	*old = bufferevent_getfd(r->bev);
	if (*old >= 0 && is_connected(*old))
		r->stack.used = GLEV_USED_CONNECTED;
	if (fd >= 0 && r->stack.carries && r->stack.used == GLEV_USED_TO_CONNECT) {
		glev_bev_unlock(r);
		return -EBUSY;
	}
	rc = hang_up(r);
	leave_descriptor(r);
	if (glev_bev_give_fd(r, fd) < 0) { /* a door in the middle of a renegotiation */
		stay_at_descriptor(r);
		glev_bev_unlock(r);
		return -EBUSY;
	}
	if (fd >= 0)
		r->owed.mute = 0;
	enter_descriptor(r, link_of(r, stream));
	/* libevent has begun to wait until it can write. */
	if (r->fast.on && (r->off.held & EV_WRITE) && glev_settle_shows(r)) {
		r->fast.spilled = 1;
		glev_settle(r);
	}
	glev_bev_start(r, 1);
	glev_bev_unlock(r);
	return rc;
}

int64_t glev_bev_setfd(struct glev_bev *r, int fd)
{
	int old;

	return set_descriptor(r, fd, &old);
}

int64_t glev_bev_replacefd(struct glev_bev *r, int fd)
{
	int old = -1;
	int64_t rc = set_descriptor(r, fd, &old);

	/* Not earlier, because libevent was waiting for that number. */
	if (rc == 0 && old >= 0 && old != fd)
		evutil_closesocket(old);
	return rc;
}

void glev_bev_keep_nagle(struct glev_bev *r)
{
	r->set.nagle = 1;
}

/* --- the handshake of a door ------------------------------------------------------ */

static int start_handshake(struct glev_bev *r)
{
	struct glev_bev *under = r->stack.under;

	if (r->stack.started)
		return 0;
	if (under && glev_settle_enable(under, EV_READ | EV_WRITE))
		return -(errno ? errno : ENOMEM);
	r->stack.started = 1;
	return glev_settle_try(r);
}

int glev_bev_start(struct glev_bev *r, int again)
{
	int rc = 0;

	for (; r && rc == 0; r = r->stack.under) {
		if (!r->door || (r->link != GLEV_CONNECTING && r->link != GLEV_TRYING))
			continue;
		glev_bev_lock(r);
		if (!again)
			rc = start_handshake(r);
		if (r->stack.started)
			r->door->start(r->bev);
		glev_bev_unlock(r);
	}
	return rc;
}

void glev_bev_tell_open(struct glev_bev *r)
{
	struct glev_bev *carrier = glev_bev_carrier(r);

	if (!carrier->door || carrier->link != GLEV_CONNECTING || !carrier->door->is_open(carrier->bev))
		return;
	r->owed.events |= BEV_EVENT_CONNECTED;
	glev_settle_tell(r, BEV_EVENT_CONNECTED, 0);
}

/* --- connecting ----------------------------------------------------------------- */

/* Has the event callback told of a connect whose outcome is known at once, as it is told of
 * any other. */
static void connected_at_once(struct glev_bev *r, int err)
{
	if (err)
		glev_settle_native_off(r);
	else if (r->door) /* its handshake has only begun; it tells the end of that itself */
		return;
	/* libevent has begun to wait until it can write, though there is nothing to write. */
	glev_settle_mute(r);
	errno = err;
	bufferevent_trigger_event(r->bev, err ? BEV_EVENT_ERROR : BEV_EVENT_CONNECTED,
	    BEV_TRIG_DEFER_CALLBACKS);
}

/* Whether the outcome of connect(2) is told by an event. */
static int is_told(int err)
{
	return err == 0 || err == EINPROGRESS || err == EINTR || err == ECONNREFUSED;
}

/* While a connect is in progress, poll(2) reports nothing. Of a socket without one, poll(2) reports that it is writable. */
static int is_connecting(int fd)
{
	struct pollfd p = {fd, POLLIN | POLLOUT, 0};
	int n;

	do
		n = poll(&p, 1, 0);
	while (n < 0 && errno == EINTR);
	return n == 0;
}

void glev_bev_carry(struct glev_bev *r)
{
	int fd = bufferevent_getfd(r->bev);

	r->stack.carries = 1;
	r->stack.used = GLEV_USED_NOT;
	/* In this order: a connect that is in progress may end in between. */
	if (glev_bev_dials(r) || (fd >= 0 && is_connecting(fd)))
		r->stack.used = GLEV_USED_TO_CONNECT;
	if (fd >= 0 && is_connected(fd))
		r->stack.used = GLEV_USED_CONNECTED;
}

/* A connect by name that is under way will be ended, and its socket closed if it is ours. */
static int64_t may_connect(const struct glev_bev *r)
{
	int fd = bufferevent_getfd(r->bev);

	if (r->type != GLEV_SOCKET)
		return GLEV_NO_SOCKET;
	if (goes_on(r) && !glev_base_on_loop(r->base))
		return GLEV_WRONG_LOOP;
	if (fd >= 0 && !(r->owns & GLEV_OWNS_ATTEMPT)) {
		/* In this order: a connect that is in progress may end in between. */
		if (r->door && (r->link == GLEV_CONNECTING || r->link == GLEV_TRYING) && is_connecting(fd))
			return -EALREADY;
		if (is_connected(fd))
			return -EISCONN;
	}
	return r->stack.carries && r->stack.used ? -EBUSY : 0;
}

int64_t glev_bev_hold_to_connect(struct glev_bev *r)
{
	int64_t rc;

	GLEV_ENTER(r);
	rc = may_connect(r);
	if (rc < 0)
		glev_bev_unlock(r);
	return rc;
}

void glev_bev_release(struct glev_bev *r)
{
	glev_bev_unlock(r);
}

/*
 * The binding calls connect(2) itself, and gives a connect that takes time to libevent, which
 * waits for its end. If libevent called connect and that succeeded at once (AF_UNIX), libevent
 * would call the write callback first, and the event callback only if WRITE is on.
 */
static int64_t start_connect(struct glev_bev *r, const struct sockaddr *sa, int len)
{
	int fd = bufferevent_getfd(r->bev);
	int ours = fd < 0, err = 0;

	if (!ours && is_connected(fd))
		return -EISCONN;
	if (ours) {
		fd = socket(sa->sa_family, SOCK_STREAM, 0);
		if (fd < 0 || evutil_make_socket_nonblocking(fd) < 0 ||
		    evutil_make_socket_closeonexec(fd) < 0)
			err = errno;
		else if (sa->sa_family != AF_UNIX && !r->set.nagle)
			glev_socket_no_delay(fd, 1); /* this is only for speed, so a failure does not matter */
	}
	if (!err && connect(fd, sa, (socklen_t)len) < 0)
		err = errno;
	if (is_told(err) && glev_bev_give_fd(r, fd) < 0)
		err = EBUSY; /* a door in the middle of a renegotiation */
	switch (err) {
	case EINPROGRESS:
	case EINTR:
		/* With NULL libevent waits for a connect that has begun. It sets the
		 * descriptor again. */
		return tell_door(r, bufferevent_socket_connect(r->bev, NULL, 0)) < 0 ? -EIO : 0;
	case 0:
	case ECONNREFUSED:
		connected_at_once(r, err);
		return 0;
	}
	if (ours && fd >= 0)
		evutil_closesocket(fd);
	return -err;
}

int64_t glev_bev_connect(struct glev_bev *r, const struct glev_addr *a)
{
	struct sockaddr_storage ss;
	int len = glev_addr_to(a, &ss);
	int64_t rc;

	if (len < 0)
		return len;
	GLEV_ENTER(r);
	rc = may_connect(r);
	if (rc == 0)
		rc = hang_up(r);
	if (rc == 0) {
		leave_descriptor(r);
		rc = start_connect(r, (struct sockaddr *)&ss, len);
		if (rc == 0) {
			r->stack.used = GLEV_USED_TO_CONNECT;
			enter_descriptor(r, GLEV_CONNECTING);
			glev_bev_start(r, 1);
		} else {
			stay_at_descriptor(r);
		}
	}
	glev_bev_unlock(r);
	return rc;
}

void glev_bev_open(struct glev_bev *r)
{
	r->link = GLEV_OPEN;
	r->owns &= ~GLEV_OWNS_ATTEMPT;
	r->fast.spilled = 0;
	restore_priority(r);
	glev_settle(r);
}

void glev_bev_find_link(struct glev_bev *r)
{
	struct glev_bev *bottom = glev_bev_bottom(r);

	for (; r != bottom && glev_bev_connection_is_due(bottom); r = r->stack.under)
		if (r->door && glev_bev_door_is_linked(r))
			glev_bev_open(bottom);
}

int glev_bev_door_is_linked(struct glev_bev *r)
{
	return !r->door->is_linked || r->door->is_linked(r->bev);
}

int glev_bev_is_linked(struct glev_bev *r)
{
	int yes;

	glev_bev_lock(r);
	yes = r->link == GLEV_OPEN;
	glev_bev_unlock(r);
	return yes;
}

void glev_bev_unlink(struct glev_bev *r)
{
	r->link = GLEV_UNLINKED;
	glev_settle(r);
}

/* --- connecting by name ----------------------------------------------------------- */

/*
 * Go looks the name up, and says which address to try, one after the other. Until there is a
 * connection both directions are kept off: an attempt that fails makes libevent forget what is
 * on, and without a descriptor libevent would let a timeout pass. They stay off when all attempts
 * have failed, until there is another descriptor.
 */
int64_t glev_bev_dial(struct glev_bev *r)
{
	int64_t rc;

	GLEV_ENTER(r);
	rc = may_connect(r);
	if (rc == 0)
		rc = hang_up(r);
	if (rc == 0) {
		leave_descriptor(r);
		r->stack.used = GLEV_USED_TO_CONNECT;
		enter_descriptor(r, GLEV_LOOKING_UP);
	}
	glev_bev_unlock(r);
	return rc;
}

static int64_t try(struct glev_bev *r, const struct sockaddr *sa, int len)
{
	int64_t rc;

	if (!goes_on(r))
		return GLEV_CLOSED;
	if (r->link == GLEV_TRYING) {
		if (!(r->owns & GLEV_OWNS_ATTEMPT)) /* a socket of the caller's tries once */
			return -EALREADY;
		end_attempt(r);
	}
	if (bufferevent_getfd(r->bev) < 0)
		r->owns |= GLEV_OWNS_ATTEMPT;
	r->link = GLEV_TRYING;
	glev_settle(r);
	rc = start_connect(r, sa, len);
	glev_buf_refreeze(&r->in);
	glev_buf_refreeze(&r->out);
	return rc;
}

/* The loop's thread calls these, and no other thread frees a record meanwhile. So it can find the top of the stack, and
 * take all locks from there. */
static struct glev_bev *lock_from_top(struct glev_bev *r)
{
	struct glev_bev *above;

	for (;; r = above) {
		glev_bev_lock(r);
		above = r->stack.above;
		glev_bev_unlock(r);
		if (!above)
			break;
	}
	glev_stack_lock(r);
	return r;
}

/* For the doors above the next attempt is another connection. After the failure of the one before they have turned
 * reading below off. */
static void begin_again(struct glev_bev *r, int tries)
{
	for (r = r->stack.above; r; r = r->stack.above) {
		tell_door(r, 0);
		if (tries && r->door && r->stack.started)
			glev_settle_enable(r->stack.under, EV_READ);
	}
}

int64_t glev_bev_try(struct glev_bev *r, const struct glev_addr *a)
{
	struct sockaddr_storage ss;
	int len = glev_addr_to(a, &ss);
	struct glev_bev *top;
	int64_t rc;

	if (len < 0)
		return len;
	top = lock_from_top(r);
	rc = glev_bev_is_quiet(r) ? GLEV_CLOSED : try(r, (struct sockaddr *)&ss, len);
	begin_again(r, rc == 0);
	glev_stack_unlock(top);
	return rc;
}

int64_t glev_bev_give_up(struct glev_bev *r, int tell)
{
	struct glev_bev *top = lock_from_top(r);

	if (!glev_bev_is_quiet(r) && goes_on(r)) {
		if (r->link == GLEV_TRYING)
			end_attempt(r);
		begin_again(r, 0);
		r->link = GLEV_GAVE_UP;
		glev_settle(r);
		glev_buf_refreeze(&r->in);
		glev_buf_refreeze(&r->out);
		if (tell)
			bufferevent_trigger_event(r->bev, BEV_EVENT_ERROR, BEV_TRIG_DEFER_CALLBACKS);
		else if (r->ending.waits) /* a FreeAfterFlush that has begun meanwhile is not told otherwise */
			event_active(r->ending.waits, EV_WRITE, 0);
	}
	glev_stack_unlock(top);
	return 0;
}

int glev_bev_dialing(struct glev_bev *r)
{
	int yes;

	if (glev_bev_is_out_of_reach(r)) /* then the caller has not ended it */
		return 1;
	glev_bev_lock(r);
	yes = goes_on(r);
	glev_bev_unlock(r);
	return yes;
}
