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
 * Another package's bufferevents have both through functions of its own (the door of
 * adopt.c), which stand in place of recv and send; and what they cannot send is not
 * libevent's to finish, so it waits for an event of ours, too.
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

static struct event *writer_event(struct glev_bev *r)
{
	return (struct event *)(r->writer + 1);
}

/* A struct event needs no more than the alignment of a pointer. */
size_t glev_fast_size(int door)
{
	size_t event = event_get_struct_event_size();

	return door ? 2 * event + sizeof(struct glev_writer) : event;
}

/* What its event is while libevent writes; see glev_fast_remind. */
static void be_reminder(struct glev_bev *r)
{
	event_assign(writer_event(r), r->base->base, -1, EV_FINALIZE, glev_on_writable, r);
	glev_bev_watch_input(r);
}

void glev_fast_init(struct glev_bev *r)
{
	r->reader = (struct event *)(r + 1);
	if (!r->door)
		return;
	r->writer = (struct glev_writer *)((char *)r->reader + event_get_struct_event_size());
	be_reminder(r);
}

/* Above another bufferevent libevent reads, and writes at once whatever is appended. It
 * is only had to wait until the callback is done, and all of it can go together. */
static int gathers(const struct glev_bev *r)
{
	return r->door && r->under;
}

static int eligible(const struct glev_bev *r)
{
	return (r->reader || gathers(r)) && r->open && !r->plain && !r->limits && !r->above &&
	    !r->connecting && !r->dialing && (!r->lingering || r->writer) && !r->quiet;
}

/* What libevent writes at once of what was spilled. With small steps, where the write
 * callback is to come before the output is empty. */
static void bound_writes(struct glev_bev *r)
{
	bufferevent_set_max_single_write(r->bev, r->write_low ? 0 : SINGLE_WRITE);
}

static struct timeval *set_or_null(struct timeval *tv)
{
	return tv->tv_sec || tv->tv_usec ? tv : NULL;
}

/* Which ends of the buffers are nobody's but ours, and the timeouts that libevent is to
 * look after, change with a door. */
static void keep_ends(struct glev_bev *r, int keep)
{
	static const struct timeval none;

	r->in.frozen = keep ? GLEV_BACK : 0;
	r->out.frozen = (r->out.frozen & GLEV_BACK) | (keep ? GLEV_FRONT : 0);
	glev_buf_refreeze(&r->in);
	glev_buf_refreeze(&r->out);
	if (set_or_null(&r->writer->timeout))
		glev_bev_native_timeouts(r, &r->read_timeout, keep ? &none : &r->writer->timeout);
}

static void assign(struct glev_bev *r, struct event *ev, short what, event_callback_fn fn)
{
	event_assign(ev, r->base->base, bufferevent_getfd(r->bev), what | EV_PERSIST | EV_FINALIZE, fn, r);
	if (r->priority >= 0)
		event_priority_set(ev, r->priority);
}

static void assign_reader(struct glev_bev *r)
{
	assign(r, r->reader, EV_READ, glev_on_readable);
}

static void assign_writer(struct glev_bev *r)
{
	assign(r, writer_event(r), EV_WRITE, glev_on_writable);
}

/*
 * libevent waits for the descriptor, also when a limit or a mark has stopped it in the
 * middle of what the other library has taken from there. So as long as there is such a
 * rest it is reminded now and then.
 */
void glev_fast_remind(struct glev_bev *r)
{
	static const struct timeval soon = {0, 10000};

	if (r->writer && !r->fast && !r->quiet && r->door->pending(r->bev, 0))
		event_add(writer_event(r), &soon);
}

void glev_fast_hush(struct glev_bev *r)
{
	if (r->writer)
		event_del(writer_event(r));
}

static int watch_output(struct glev_bev *r)
{
	if (!r->unsent_cb)
		r->unsent_cb = evbuffer_add_cb(r->out.evb, glev_on_unsent, r);
	return r->unsent_cb != NULL;
}

void glev_fast_mute(struct glev_bev *r)
{
	r->mute = evbuffer_get_length(r->out.evb) == 0 && watch_output(r);
}

static void start(struct glev_bev *r)
{
	if (!watch_output(r))
		return; /* libevent does it all, then */
	if (r->writer) {
		if (!r->door->begin(r->bev))
			return; /* it is in the middle of something */
		keep_ends(r, 1);
		event_del(writer_event(r));
		assign_writer(r);
	}
	if (r->reader) {
		assign_reader(r);
		bound_writes(r);
	}
	r->fast = 1;
	if (r->writer)
		glev_bev_watch_input(r);
	r->spilled |= evbuffer_get_length(r->out.evb) > 0;
	glev_bev_apply(r);
}

static void stop(struct glev_bev *r)
{
	r->fast = 0;
	r->touched = 1; /* libevent waits until it can write */
	glev_fast_sync(r);
	if (r->writer) {
		keep_ends(r, 0);
		r->door->end(r->bev);
		be_reminder(r);
	}
	if (r->quiet) /* nothing is to go on */
		return;
	if (!(r->limits & GLEV_LIMIT_SINGLE_WRITE))
		bufferevent_set_max_single_write(r->bev, 0);
	/* libevent makes a write callback for nothing when WRITE is enabled and the
	 * output is empty. It is not the user who enables it. */
	if (r->held & EV_WRITE)
		glev_fast_mute(r);
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
	if (!r->fast)
		return 0;
	return (r->reader ? EV_READ : 0) | (r->spilled && !r->writer ? 0 : EV_WRITE);
}

static int wants_to_read(const struct glev_bev *r)
{
	return r->fast && r->reader && (r->held & EV_READ) && !r->paused &&
	    (!r->high || evbuffer_get_length(r->in.evb) < r->high);
}

/* Whether there is something to read that the descriptor does not tell of. */
static int pending(const struct glev_bev *r)
{
	return r->door && r->door->pending(r->bev, 0);
}

static int add_reader(struct glev_bev *r)
{
	if (event_add(r->reader, set_or_null(&r->read_timeout)) < 0)
		return -1;
	r->reading = 1;
	if (pending(r))
		event_active(r->reader, EV_READ, 0);
	return 0;
}

static void sync_writer(struct glev_bev *r)
{
	int want = r->fast && r->spilled && (r->held & EV_WRITE) && !r->out.lent;

	if (want == r->writer->writing)
		return;
	r->writer->writing = (int8_t)want;
	if (want)
		event_add(writer_event(r), set_or_null(&r->writer->timeout));
	else
		event_del(writer_event(r));
}

int glev_fast_sync(struct glev_bev *r)
{
	int want = wants_to_read(r);

	if (r->writer)
		sync_writer(r);
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
	if (r->reading && set_or_null(&r->read_timeout))
		glev_fast_restart(r);
	glev_fast_sync(r);
}

void glev_fast_marks(struct glev_bev *r, short what)
{
	if (what & EV_READ)
		glev_fast_input(r);
	if ((what & EV_WRITE) && r->fast && r->reader)
		bound_writes(r);
}

/* Begins its timeout anew. */
static void retime(struct event *ev, struct timeval *tv)
{
	if (set_or_null(tv))
		event_add(ev, tv);
	else
		event_remove_timer(ev);
}

/* What is not added would remember what it had, unless it is assigned anew. */
void glev_fast_timeout(struct glev_bev *r, const struct timeval *rd, const struct timeval *wr)
{
	r->read_timeout = *rd;
	r->write_timed = wr->tv_sec || wr->tv_usec;
	if (r->reading)
		retime(r->reader, &r->read_timeout);
	else if (r->fast && r->reader)
		assign_reader(r);
	if (!r->writer)
		return;
	r->writer->timeout = *wr;
	if (r->writer->writing)
		retime(writer_event(r), &r->writer->timeout);
	else if (r->fast)
		assign_writer(r);
}

int glev_fast_set_priority(struct glev_bev *r, int priority)
{
	if (!r->fast)
		return 0;
	if (r->writer && event_priority_set(writer_event(r), priority) < 0)
		return -1;
	return event_priority_set(r->reader, priority);
}

void glev_fast_free(struct glev_bev *r)
{
	glev_fast_forget(r);
	if (r->reader && event_initialized(r->reader))
		event_debug_unassign(r->reader);
	if (r->writer)
		event_debug_unassign(writer_event(r));
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

static ssize_t receive(struct glev_bev *r, int fd, void *p, size_t n)
{
	struct glev_block **cipher = &r->base->cipher;

	if (!r->door)
		return recv(fd, p, n, MSG_DONTWAIT);
	if (!*cipher && !(*cipher = glev_block_get())) {
		errno = ENOMEM;
		return -1;
	}
	return r->door->recv(r->bev, p, n, (*cipher)->data, GLEV_BLOCK);
}

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
	n = receive(r, fd, b->block->data, most);
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
	n = receive(r, fd, space.iov_base, space.iov_len);
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
	glev_buf_refreeze(&r->in);
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
	} else if (r->reading && pending(r)) {
		event_active(r->reader, EV_READ, 0);
	}
	call = total > 0 && (!r->low || evbuffer_get_length(r->in.evb) >= r->low);
	evbuffer_unlock(r->in.evb);
	return call;
}

int glev_fast_receives(struct glev_bev *r)
{
	int yes;

	if (!__atomic_load_n(&r->receiver, __ATOMIC_RELAXED))
		return 0;
	evbuffer_lock(r->in.evb);
	yes = r->reading && !r->in.lent && !r->read_error && evbuffer_get_length(r->in.evb) == 0;
	evbuffer_unlock(r->in.evb);
	return yes;
}

int64_t glev_bev_receiver(struct glev_bev *r, int on)
{
	GLEV_CHECK_LOOP(r);
	__atomic_store_n(&r->receiver, (int8_t)on, __ATOMIC_RELAXED);
	return 0;
}

/* An end is left to glev_fast_read, which follows when nothing was received. */
int64_t glev_bev_receive(struct glev_bev *r, char *p, size_t n)
{
	ssize_t got = -1;

	if (!glev_base_on_loop(r->base))
		return GLEV_WRONG_LOOP;
	evbuffer_lock(r->in.evb);
	if (r->receiving && r->reading && !r->read_error && evbuffer_get_length(r->in.evb) == 0) {
		count(&r->base->fast.reads);
		got = receive(r, event_get_fd(r->reader), p, n);
		if (got < 0 && is_final(errno))
			r->read_error = errno;
	}
	if (got > 0) {
		r->receiving = GLEV_RECEIVED;
		if ((size_t)got < n || (size_t)got > r->room)
			learn(r, (size_t)got);
	}
	/* Also when this call found only the end: an earlier one has received. */
	if (r->receiving == GLEV_RECEIVED && (pending(r) || r->read_error))
		event_active(r->reader, EV_READ, 0);
	evbuffer_unlock(r->in.evb);
	return got > 0 ? got : 0;
}

/* --- write-through -------------------------------------------------------- */

static void spill(struct glev_bev *r)
{
	if (r->spilled)
		return;
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
	/* A callback of C's own, on an event of its own, has no end that we know of. */
	if (!b->inside && !b->unsent)
		glev_base_wake(b);
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

	if (r->door)
		return r->door->send(r->bev, most);
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

/* What became of a write. */
static void wrote(struct glev_bev *r, int some, int err)
{
	if (err && err != EAGAIN && err != EWOULDBLOCK && err != EINTR) {
		r->held &= ~EV_WRITE;
		glev_fast_sync(r);
		errno = err;
		bufferevent_trigger_event(r->bev, BEV_EVENT_ERROR | BEV_EVENT_WRITING,
		    BEV_TRIG_DEFER_CALLBACKS);
		return;
	}
	if (some && (r->closures & GLEV_CB_WRITE))
		bufferevent_trigger(r->bev, EV_WRITE, BEV_TRIG_DEFER_CALLBACKS);
	/* Also when nothing was: sendfile says so that it would block. */
	if (evbuffer_get_length(r->out.evb))
		spill(r);
}

/* At a low mark the write callback is to come before all is written. */
static int in_steps(const struct glev_bev *r, size_t n)
{
	return r->write_low && n > SMALL_WRITE;
}

static void write_out(struct glev_bev *r, size_t len)
{
	ssize_t n;
	int err;

	count(&r->base->fast.writes);
	evbuffer_unfreeze(r->out.evb, 1);
	n = write_once(r, event_get_fd(r->reader), in_steps(r, len) ? SMALL_WRITE : len);
	err = n < 0 ? errno : 0;
	glev_buf_refreeze(&r->out);
	wrote(r, n > 0, err);
}

int glev_fast_straight(const struct glev_bev *r, size_t n)
{
	return n && r->fast && !r->door && !r->spilled && (r->held & EV_WRITE) && !in_steps(r, n) &&
	    !r->out.callbacks && !r->out.lent && !(r->out.frozen & GLEV_BACK) &&
	    !evbuffer_get_length(r->out.evb);
}

size_t glev_fast_send(struct glev_bev *r, const char *p, size_t n, int *err)
{
	ssize_t sent = send(event_get_fd(r->reader), p, n, MSG_DONTWAIT | MSG_NOSIGNAL);

	*err = sent < 0 ? errno : 0;
	count(&r->base->fast.writes);
	r->touched = 1;
	return sent < 0 ? 0 : (size_t)sent;
}

void glev_fast_sent(struct glev_bev *r, size_t sent, int err)
{
	if (sent && (r->closures & GLEV_CB_WRITE)) /* as glev_fast_written */
		r->written = 1;
	wrote(r, sent > 0, err);
}

void glev_fast_write(struct glev_bev *r)
{
	size_t len = evbuffer_get_length(r->out.evb);

	if (!r->fast || r->spilled || !(r->held & EV_WRITE) || !len)
		return;
	if (r->out.lent || gathers(r))
		spill(r);
	else
		write_out(r, len);
}

/* It may also have been enabled with nothing to write. */
void glev_fast_writable(struct glev_bev *r, short what)
{
	size_t len;

	evbuffer_lock(r->out.evb);
	len = evbuffer_get_length(r->out.evb);
	if (!r->fast && (bufferevent_get_enabled(r->bev) & EV_READ)) {
		r->door->pending(r->bev, 1);
		glev_fast_remind(r);
	} else if (!r->writer->writing) {
		/* another thread was here meanwhile */
	} else if (what == EV_TIMEOUT) {
		r->held &= ~EV_WRITE;
		glev_fast_sync(r);
		errno = 0;
		bufferevent_trigger_event(r->bev, BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING, BEV_TRIG_DEFER_CALLBACKS);
	} else if (len) {
		write_out(r, len);
	} else {
		take_back(r);
		if (r->closures & GLEV_CB_WRITE)
			bufferevent_trigger(r->bev, EV_WRITE, BEV_TRIG_DEFER_CALLBACKS);
	}
	evbuffer_unlock(r->out.evb);
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
