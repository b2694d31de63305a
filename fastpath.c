/*
 * fastpath.c: reads and writes without libevent's detours.
 *
 * For an echo libevent makes seven system calls: two epoll_wait, two epoll_ctl to
 * wait for a socket that could be written to all the time, ioctl(FIONREAD), readv of
 * 4096 bytes at most, writev. Here it is three. Two additions, through libevent's
 * public API only:
 *
 *  - Write-through. WRITE stays off in libevent while the output is empty, and what
 *    is appended is written when the callback that appended it is done, or at once
 *    by Write from another thread. What the socket does not take then is spilled:
 *    WRITE goes on, and libevent writes until the output is empty.
 *  - An own reader. An event of ours on the same descriptor reads as much as there
 *    is, and calls the read closure from there.
 *
 * Both hold for a stream socket from the moment it is connected, as long as nothing
 * stands between it and the bytes: a limit, a filter, C code that has the pointer.
 * glev_fast_choose says so, and is the one function that goes there and back.
 *
 * No call waits, also if somebody else who has the socket made it blocking.
 *
 * The directions that are carried here are in `held` (see glev_bev_apply), so that
 * what the user enabled is known in one place.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "native.h"

#ifndef MSG_NOSIGNAL /* Go's own handler of SIGPIPE is enough */
#define MSG_NOSIGNAL 0
#endif

enum {
	LARGE = 4 * 1024,
	VERY_LARGE = 32 * 1024,
	TURN = 256 * 1024,     /* read at most that much before others have their turn */
	SINGLE_WRITE = TURN,
	SMALL_WRITE = 16 * 1024, /* libevent's own */
	FIRST_CHAIN = 1024,
	LAST_CHAIN = 2 * VERY_LARGE,
	CHAIN_HEAD = 64,       /* room for libevent's own head of a chain */
};

/* --- going there and back ------------------------------------------------- */

static int eligible(const struct glev_bev *r)
{
	return r->reader && r->open && !r->plain && !r->limits && !r->filtered &&
	    !r->connecting && !r->dialing && !r->lingering && !r->quiet;
}

/* What libevent writes at once of what was spilled. With small steps, where the write
 * callback is to come before the output is empty. */
static void bound_writes(struct glev_bev *r)
{
	bufferevent_set_max_single_write(r->bev, r->write_low ? 0 : SINGLE_WRITE);
}

static void assign_reader(struct glev_bev *r)
{
	event_assign(r->reader, r->base->base, bufferevent_getfd(r->bev),
	    EV_READ | EV_PERSIST | EV_FINALIZE, glev_on_readable, r);
	if (r->priority >= 0)
		event_priority_set(r->reader, r->priority);
}

static void start(struct glev_bev *r)
{
	if (!r->unsent_cb) {
		r->unsent_cb = evbuffer_add_cb(r->out.evb, glev_on_unsent, r);
		if (!r->unsent_cb)
			return; /* libevent does it all, then */
	}
	assign_reader(r);
	bound_writes(r);
	r->fast = 1;
	r->spilled |= evbuffer_get_length(r->out.evb) > 0;
	glev_bev_apply(r);
}

static void stop(struct glev_bev *r)
{
	r->fast = 0;
	r->touched = 1; /* libevent waits until it can write */
	if (r->quiet) { /* nothing is to go on */
		glev_fast_sync(r);
		return;
	}
	if (!(r->limits & GLEV_LIMIT_SINGLE_WRITE))
		bufferevent_set_max_single_write(r->bev, 0);
	/* libevent makes a write callback for nothing when WRITE is enabled and the
	 * output is empty. It is not the user who enables it. */
	if (r->held & EV_WRITE)
		r->mute = evbuffer_get_length(r->out.evb) == 0;
	glev_bev_apply(r);
}

void glev_fast_choose(struct glev_bev *r)
{
	int fast = eligible(r);

	if (fast != r->fast)
		(fast ? start : stop)(r);
}

short glev_fast_carries(const struct glev_bev *r)
{
	return r->fast ? EV_READ | (r->spilled ? 0 : EV_WRITE) : 0;
}

static int wants_to_read(const struct glev_bev *r)
{
	return r->fast && (r->held & EV_READ) && !r->paused &&
	    (!r->high || evbuffer_get_length(r->in.evb) < r->high);
}

static int read_timed(const struct glev_bev *r)
{
	return r->read_timeout.tv_sec || r->read_timeout.tv_usec;
}

static int add_reader(struct glev_bev *r)
{
	if (event_add(r->reader, read_timed(r) ? &r->read_timeout : NULL) < 0)
		return -1;
	r->reading = 1;
	return 0;
}

int glev_fast_sync(struct glev_bev *r)
{
	int want = wants_to_read(r);

	if (want && !r->reading)
		return add_reader(r);
	if (!want && r->reading) {
		event_del(r->reader);
		r->reading = 0;
	}
	return 0;
}

int glev_fast_restart(struct glev_bev *r)
{
	return wants_to_read(r) ? add_reader(r) : 0;
}

void glev_fast_input(struct glev_bev *r)
{
	if (r->reading && read_timed(r))
		glev_fast_restart(r);
	glev_fast_sync(r);
}

void glev_fast_marks(struct glev_bev *r, short what)
{
	if (what & EV_READ)
		glev_fast_input(r);
	if ((what & EV_WRITE) && r->fast)
		bound_writes(r);
}

void glev_fast_timeout(struct glev_bev *r)
{
	if (r->reading && read_timed(r))
		add_reader(r);
	else if (r->reading)
		event_remove_timer(r->reader);
	else if (r->fast) /* it would remember what it had */
		assign_reader(r);
}

void glev_fast_free(struct glev_bev *r)
{
	glev_fast_forget(r);
	if (r->reader && r->unsent_cb) /* it was assigned */
		event_debug_unassign(r->reader);
}

static void count(uint64_t *n)
{
	__atomic_fetch_add(n, 1, __ATOMIC_RELAXED);
}

void glev_fast_counters(struct glev_base *b, struct glev_fast_counters *c)
{
	c->reads = __atomic_load_n(&b->fast.reads, __ATOMIC_RELAXED);
	c->writes = __atomic_load_n(&b->fast.writes, __ATOMIC_RELAXED);
	c->spills = __atomic_load_n(&b->fast.spills, __ATOMIC_RELAXED);
}

/* --- the own reader ------------------------------------------------------- */

/* Small messages and very large ones are read to a block of the base. A small one is
 * copied from there: the block stays in the cache, a chain is as large as the message,
 * and there is none without one. A very large one stays where it is, and the base gets
 * another block. */
static ssize_t read_to_block(struct glev_bev *r, int fd, size_t most, int *full)
{
	struct glev_base *b = r->base;
	ssize_t n;
	int rc;

	if (!b->block && !(b->block = glev_block_get())) {
		errno = ENOMEM;
		return -1;
	}
	if (most > GLEV_BLOCK)
		most = GLEV_BLOCK;
	n = recv(fd, b->block->data, most, MSG_DONTWAIT);
	*full = n == (ssize_t)most;
	if (n <= 0)
		return n;
	if (n < VERY_LARGE) {
		rc = evbuffer_add(r->in.evb, b->block->data, (size_t)n);
	} else {
		rc = glev_block_append(r->in.evb, b->block, (size_t)n);
		if (rc == 0)
			b->block = NULL;
	}
	if (rc < 0) {
		errno = ENOMEM; /* and the stream has a hole: this is its end */
		return -1;
	}
	return n;
}

/* The others are read to where they stay. */
static ssize_t read_to_chain(struct glev_bev *r, int fd, size_t most, int *full)
{
	struct evbuffer_iovec space;
	ssize_t n;

	if (evbuffer_reserve_space(r->in.evb, (ev_ssize_t)(r->room < most ? r->room : most), &space, 1) < 0) {
		errno = ENOMEM;
		return -1;
	}
	if (space.iov_len > most)
		space.iov_len = most;
	n = recv(fd, space.iov_base, space.iov_len, MSG_DONTWAIT);
	*full = n == (ssize_t)space.iov_len;
	if (n > 0) {
		space.iov_len = (size_t)n;
		evbuffer_commit_space(r->in.evb, &space, 1);
	}
	return n;
}

/* Learns from a read of n bytes how much room the next one is to make: what was found
 * and then some, for a read that exactly fills its room is followed by an empty one,
 * in a chain that libevent allocates without waste. */
static void learn(struct glev_bev *r, size_t n)
{
	if (n >= r->room) {
		while (r->room <= n && r->room < LAST_CHAIN - CHAIN_HEAD)
			r->room = (r->room + CHAIN_HEAD) * 2 - CHAIN_HEAD;
		r->small_reads = 0;
	} else if (n >= r->room / 4 || r->room < FIRST_CHAIN) {
		r->small_reads = 0;
	} else if (++r->small_reads == 8) {
		r->room = (r->room + CHAIN_HEAD) / 2 - CHAIN_HEAD;
		r->small_reads = 0;
	}
}

/* One read of at most `most` bytes; *full says that there may be more. */
static ssize_t read_once(struct glev_bev *r, int fd, size_t most, int *full)
{
	ssize_t n;

	count(&r->base->fast.reads);
	if (!r->room)
		r->room = FIRST_CHAIN - CHAIN_HEAD;
	n = (r->room < LARGE || r->room >= VERY_LARGE ? read_to_block : read_to_chain)(r, fd, most, full);
	if (n > 0)
		learn(r, (size_t)n);
	return n;
}

/* Whether a read that failed with it has come to an end. The last of these is what
 * libevent ignores, too. */
static int is_final(int err)
{
	return err != EAGAIN && err != EWOULDBLOCK && err != EINTR && err != ECONNREFUSED;
}

/* Reading is off before its end is told. */
static void end_of_reading(struct glev_bev *r, short what, int err)
{
	r->held &= ~EV_READ;
	glev_fast_sync(r);
	errno = err;
	bufferevent_trigger_event(r->bev, what | BEV_EVENT_READING, BEV_TRIG_DEFER_CALLBACKS);
}

int glev_fast_read(struct glev_bev *r, short what)
{
	int full = 1, err = EAGAIN, call;
	size_t total = 0, len = 0;
	ssize_t n = -1;
	int fd;

	evbuffer_lock(r->in.evb);
	/* Another thread may have been here while this one stood at the lock. */
	if (!r->reading || r->in.lent) {
		evbuffer_unlock(r->in.evb);
		return 0;
	}
	if (what == EV_TIMEOUT) {
		end_of_reading(r, BEV_EVENT_TIMEOUT, 0);
		evbuffer_unlock(r->in.evb);
		return 0;
	}
	fd = event_get_fd(r->reader);
	evbuffer_unfreeze(r->in.evb, 0);
	while (full && total < TURN && !r->read_error) {
		size_t most = TURN;

		if (r->high) {
			len = evbuffer_get_length(r->in.evb);
			if (len >= r->high)
				break;
			if (most > r->high - len)
				most = r->high - len;
		}
		n = read_once(r, fd, most, &full);
		err = errno;
		if (n <= 0)
			break;
		total += (size_t)n;
	}
	evbuffer_freeze(r->in.evb, 0);
	if (n < 0 && is_final(err))
		r->read_error = err;
	/* An end behind bytes is for the next time: the read closure may turn reading off
	 * first. Other than EOF the socket tells an error once. */
	if (total > 0 && r->read_error) {
		event_active(r->reader, EV_READ, 0);
	} else if (r->read_error) {
		end_of_reading(r, BEV_EVENT_ERROR, r->read_error);
		r->read_error = 0;
	} else if (n == 0 && total == 0) {
		end_of_reading(r, BEV_EVENT_EOF, 0);
	}
	call = total > 0 && (!r->low || evbuffer_get_length(r->in.evb) >= r->low);
	evbuffer_unlock(r->in.evb);
	return call;
}

/* --- write-through -------------------------------------------------------- */

static void spill(struct glev_bev *r)
{
	r->spilled = 1;
	count(&r->base->fast.spills);
	glev_bev_apply(r);
}

void glev_fast_unsent(struct glev_bev *r)
{
	struct glev_base *b = r->base;

	r->touched = 1;
	if (!r->fast || r->spilled || r->direct || r->unsent || !(r->held & EV_WRITE))
		return;
	/* While no loop runs nothing is written, and the next one has to know. */
	if (!glev_base_running(b) || !glev_base_on_loop(b)) {
		spill(r);
		return;
	}
	r->unsent_next = b->unsent;
	if (b->unsent)
		b->unsent->unsent = &r->unsent_next;
	r->unsent = &b->unsent;
	b->unsent = r;
}

void glev_fast_forget(struct glev_bev *r)
{
	if (!r->unsent)
		return;
	*r->unsent = r->unsent_next;
	if (r->unsent_next)
		r->unsent_next->unsent = r->unsent;
	r->unsent = NULL;
}

static void take_back(struct glev_bev *r)
{
	if (r->spilled && evbuffer_get_length(r->out.evb) == 0) {
		r->spilled = 0;
		glev_bev_apply(r);
	}
}

void glev_fast_written(struct glev_bev *r)
{
	if (r->closures & GLEV_CB_WRITE) /* else no callback follows */
		r->written = 1;
	take_back(r);
}

int glev_fast_write_callback(struct glev_bev *r)
{
	int mute = r->mute && !r->written;

	r->mute = r->written = 0;
	take_back(r);
	return !mute;
}

/* evbuffer_write with no signal, and, for one chain, the cheaper call. */
static ssize_t write_once(struct glev_bev *r, int fd, size_t most)
{
	enum { MOST_CHAINS = 64 };
	struct evbuffer_iovec vec[MOST_CHAINS];
	struct msghdr msg = {.msg_iov = (struct iovec *)vec};
	size_t size = 0;
	ssize_t n;
	int i, nvec;

	if (r->out.in_file) /* these bytes are libevent's to find */
		return evbuffer_write_atmost(r->out.evb, fd, (ev_ssize_t)most);
	nvec = evbuffer_peek(r->out.evb, (ev_ssize_t)most, NULL, vec, MOST_CHAINS);
	if (nvec > MOST_CHAINS)
		nvec = MOST_CHAINS;
	for (i = 0; i < nvec; i++) { /* the last one may be longer */
		if (vec[i].iov_len > most - size)
			vec[i].iov_len = most - size;
		size += vec[i].iov_len;
	}
	if (nvec == 1) {
		n = send(fd, vec[0].iov_base, vec[0].iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
	} else {
		msg.msg_iovlen = (size_t)nvec;
		n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	if (n > 0)
		evbuffer_drain(r->out.evb, (size_t)n);
	return n;
}

void glev_fast_write(struct glev_bev *r)
{
	size_t len;
	ssize_t n;
	int err;

	if (!r->fast || r->spilled || !(r->held & EV_WRITE))
		return;
	len = evbuffer_get_length(r->out.evb);
	if (!len)
		return;
	if (r->out.lent) {
		spill(r);
		return;
	}
	count(&r->base->fast.writes);
	evbuffer_unfreeze(r->out.evb, 1);
	n = write_once(r, event_get_fd(r->reader), r->write_low && len > SMALL_WRITE ? SMALL_WRITE : len);
	err = errno;
	evbuffer_freeze(r->out.evb, 1);
	if (n < 0 && err != EAGAIN && err != EWOULDBLOCK && err != EINTR) {
		r->held &= ~EV_WRITE;
		errno = err;
		bufferevent_trigger_event(r->bev, BEV_EVENT_ERROR | BEV_EVENT_WRITING,
		    BEV_TRIG_DEFER_CALLBACKS);
		return;
	}
	if (n > 0 && (r->closures & GLEV_CB_WRITE))
		bufferevent_trigger(r->bev, EV_WRITE, BEV_TRIG_DEFER_CALLBACKS);
	/* Also when nothing was: sendfile says so that it would block. */
	if (evbuffer_get_length(r->out.evb))
		spill(r);
}

void glev_base_flush(struct glev_base *b)
{
	struct glev_bev *r;

	while (b && (r = b->unsent)) {
		glev_fast_forget(r);
		evbuffer_lock(r->out.evb);
		glev_fast_write(r);
		evbuffer_unlock(r->out.evb);
	}
}
