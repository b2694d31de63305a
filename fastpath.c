/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fastpath.c: reads and writes without libevent's detours.
 *
 * For an echo libevent makes seven system calls: two epoll_wait, two epoll_ctl to
 * wait for a socket that could be written to all the time, ioctl(FIONREAD), readv of
 * at most 4096 bytes, writev. Here it makes three. Two additions do this, through
 * libevent's public API only:
 *
 *  - Write-through. WRITE stays off in libevent while the output is empty. What a
 *    callback appended is written when the callback is done; Write from another thread
 *    writes at once. What the socket does not take then is spilled: WRITE goes on in
 *    libevent, and libevent writes until the output is empty.
 *  - A reader. An event of ours on the same descriptor reads as much as there is, and
 *    calls the read closure from there.
 *
 * Both are for a connected stream socket, as long as nothing else has to see the bytes: a
 * limit, a filter, or C code that has the pointer. settle.c decides that, and adds and deletes
 * the reader.
 *
 * No call waits, even if the caller has made the socket blocking.
 *
 * A bufferevent of another package has both through its door (adopt.c), whose functions stand
 * in place of recv and send. libevent cannot finish what a door has begun to send. So the rest
 * waits for another event of ours, the writer.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "bev.h"

#ifndef MSG_NOSIGNAL /* Go's own handler of SIGPIPE is enough */
#define MSG_NOSIGNAL 0
#endif

enum {
	LARGE = 4 * 1024,
	VERY_LARGE = 32 * 1024,
	TURN = 256 * 1024,       /* the most that is read before others have their turn */
	SMALLEST_STEP = TURN / GLEV_MOST_IN_A_TURN, /* what a smaller read counts as */
	WRITE_TURN = 1024 * 1024, /* and the most that is written */
	FIRST_CHAIN = 1024,
	LAST_CHAIN = 2 * VERY_LARGE,
	CHAIN_HEAD = 64,         /* room for libevent's own head of a chain */
};

void glev_fast_free(struct glev_bev *r)
{
	glev_fast_forget(r);
	glev_later_forget(r->base, &r->fast.again);
	if (r->fast.reader && event_initialized(r->fast.reader))
		event_debug_unassign(r->fast.reader);
	if (r->fast.writer)
		event_debug_unassign(glev_fast_writer_event(r));
}

static void count(uint64_t *n)
{
	__atomic_fetch_add(n, 1, __ATOMIC_RELAXED);
}

/* --- reading -------------------------------------------------------------- */

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

/* Small and very large messages are read to a block of the base. A small one is copied
 * from there: the block stays in the cache, the chain is as large as the message, and
 * there is no chain if there was no message. A very large one stays where it is, and the
 * base gets another block. */
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
	if (n < VERY_LARGE && !*full && glev_bypass_open(r, b->block->data, (size_t)n))
		return n;
	r->fast.passes = 0;
	glev_bypass_close(r);
	evbuffer_unfreeze(r->in.evb, 0);
	if (n < VERY_LARGE) {
		rc = evbuffer_add(r->in.evb, b->block->data, (size_t)n);
	} else {
		rc = glev_block_append(r->in.evb, b->block, (size_t)n);
		if (rc == 0)
			b->block = NULL;
	}
	glev_buf_refreeze(&r->in);
	if (rc < 0) {
		errno = ENOMEM; /* the stream has a hole, so this is its end */
		return -1;
	}
	return n;
}

/* Other messages are read to where they stay. */
static ssize_t read_to_chain(struct glev_bev *r, int fd, size_t most, int *full)
{
	struct evbuffer_iovec space;
	ssize_t n;
	int err;

	glev_bypass_close(r);
	evbuffer_unfreeze(r->in.evb, 0);
	if (evbuffer_reserve_space(r->in.evb, (ev_ssize_t)(r->fast.room < most ? r->fast.room : most), &space, 1) < 0) {
		glev_buf_refreeze(&r->in);
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
	err = errno;
	glev_buf_refreeze(&r->in);
	errno = err;
	return n;
}

/* Learns from a read of n bytes how much room the next read needs: somewhat more than
 * this one, because a read that exactly fills its room is followed by an empty one, and
 * of a size that libevent allocates a chain for without waste. */
static void learn(struct glev_bev *r, size_t n)
{
	if (n >= r->fast.room) {
		while (r->fast.room <= n && r->fast.room < LAST_CHAIN - CHAIN_HEAD)
			r->fast.room = (r->fast.room + CHAIN_HEAD) * 2 - CHAIN_HEAD;
		r->fast.small_reads = 0;
	} else if (n >= r->fast.room / 4 || r->fast.room < FIRST_CHAIN) {
		r->fast.small_reads = 0;
	} else if (++r->fast.small_reads == 8) {
		r->fast.room = (r->fast.room + CHAIN_HEAD) / 2 - CHAIN_HEAD;
		r->fast.small_reads = 0;
	}
}

/* One read of at most `most` bytes; *full says that there may be more. */
static ssize_t read_once(struct glev_bev *r, int fd, size_t most, int *full)
{
	ssize_t n;
	int block;

	count(&r->base->fast.reads);
	if (!r->fast.room)
		r->fast.room = FIRST_CHAIN - CHAIN_HEAD;
	block = r->fast.room < LARGE || r->fast.room >= VERY_LARGE || r->fast.passes;
	n = (block ? read_to_block : read_to_chain)(r, fd, most, full);
	if (n > 0)
		learn(r, (size_t)n);
	return n;
}

/* Whether the stream has ended when a read fails with err. libevent ignores ECONNREFUSED,
 * too. */
static int is_final(int err)
{
	return err != EAGAIN && err != EWOULDBLOCK && err != EINTR && err != ECONNREFUSED;
}

/* Reading is turned off before its end is told. */
static void end_of_reading(struct glev_bev *r, short what, int err)
{
	glev_settle_end(r, EV_READ);
	glev_settle_tell(r, what | BEV_EVENT_READING, err);
}

/* The socket reports an error once. If a write was told that the connection is cut, a read
 * returns 0 as at an EOF, but the error is what has to be told. If libevent has still to tell of
 * a failed write, the errno of the end would replace the errno of that event. So the end then
 * waits a turn. */
static void eof(struct glev_bev *r)
{
	if (glev_settle_write_failed(r) && !r->owed.end_waits) {
		r->owed.end_waits = 1;
		glev_fast_again(r);
		return;
	}
	r->owed.end_waits = 0;
	if (r->fast.reset)
		end_of_reading(r, BEV_EVENT_ERROR, r->fast.reset);
	else
		end_of_reading(r, BEV_EVENT_EOF, 0);
}

/* Reads what there is, within the high mark and what a turn may take. Returns how many
 * bytes; *last is the result of the last read. */
static size_t read_turn(struct glev_bev *r, ssize_t *last)
{
	int fd = event_get_fd(r->fast.reader), full = 1;
	size_t total = 0, len;

	*last = -1;
	while (full && total < TURN && !r->fast.read_error) {
		size_t most = TURN;

		if (r->mark.high) {
			len = evbuffer_get_length(r->in.evb);
			if (len >= r->mark.high)
				break;
			if (most > r->mark.high - len)
				most = r->mark.high - len;
		}
		*last = read_once(r, fd, most, &full);
		if (*last <= 0) {
			if (*last < 0 && is_final(errno))
				r->fast.read_error = errno;
			break;
		}
		total += (size_t)*last;
	}
	return total;
}

/* An error behind bytes is told next time, because the read closure may turn reading off
 * first. The error is kept until then: a socket returns an error once, but an EOF again. */
static void after_read(struct glev_bev *r, size_t total, ssize_t last)
{
	int err = r->fast.read_error;

	if (total == 0 && err) {
		r->fast.read_error = 0;
		end_of_reading(r, BEV_EVENT_ERROR, err);
	} else if (total == 0 && last == 0) {
		eof(r);
	} else if (r->fast.reading) {
		glev_fast_again(r);
	}
}

int glev_fast_read(struct glev_bev *r, short what)
{
	size_t total = 0;
	ssize_t last;

	glev_bev_lock_past(r);
	/* Another thread may have turned reading off while this one waited for the lock. */
	if (r->fast.reading && !r->in.lent) {
		if (what == EV_TIMEOUT && evutil_timerisset(&r->set.read_timeout) && !glev_fast_pending(r)) {
			end_of_reading(r, BEV_EVENT_TIMEOUT, 0);
		} else {
			total = read_turn(r, &last);
			after_read(r, total, last);
		}
	}
	total = total > 0 && (!r->mark.low || evbuffer_get_length(r->in.evb) >= r->mark.low);
	glev_bev_unlock(r);
	return (int)total;
}

int glev_fast_receives(struct glev_bev *r)
{
	int yes;

	if (!__atomic_load_n(&r->fast.receiver, __ATOMIC_RELAXED))
		return 0;
	glev_bev_lock(r);
	yes = r->fast.reading && !r->in.lent && !r->fast.read_error && evbuffer_get_length(r->in.evb) == 0;
	glev_bev_unlock(r);
	return yes;
}

int64_t glev_bev_set_receiver(struct glev_bev *r, int on)
{
	GLEV_CHECK_LOOP(r);
	__atomic_store_n(&r->fast.receiver, (int8_t)on, __ATOMIC_RELAXED);
	return 0;
}

/* An end is left to glev_fast_read, which follows if the receiver received nothing. */
int64_t glev_bev_receive(struct glev_bev *r, char *p, size_t n)
{
	ssize_t got = -1;

	if (!glev_base_on_loop(r->base))
		return GLEV_WRONG_LOOP;
	glev_bev_lock(r);
	if (r->fast.receiving && r->fast.received < TURN && r->fast.reading && !r->fast.read_error &&
	    evbuffer_get_length(r->in.evb) == 0) {
		count(&r->base->fast.reads);
		got = receive(r, event_get_fd(r->fast.reader), p, n);
		if (got < 0 && is_final(errno))
			r->fast.read_error = errno;
	}
	if (got > 0) {
		r->fast.receiving = GLEV_RECEIVED;
		r->fast.received += (uint32_t)got > SMALLEST_STEP ? (uint32_t)got : SMALLEST_STEP;
		if ((size_t)got < n || (size_t)got > r->fast.room)
			learn(r, (size_t)got);
	}
	/* Also if this call has found only the end, because an earlier one has received. */
	if (r->fast.receiving == GLEV_RECEIVED)
		glev_fast_again(r);
	glev_bev_unlock(r);
	return got > 0 ? got : 0;
}

/* --- write-through -------------------------------------------------------- */

void glev_fast_unsent(struct glev_bev *r)
{
	struct glev_base *b = r->base;

	r->owed.touched = 1;
	glev_bypass_make_late(r);
	if (!r->fast.on || r->fast.spilled)
		glev_settle_unsent(r);
	if (!r->fast.on || r->fast.spilled || r->fast.direct || r->fast.unsent || !(r->off.held & EV_WRITE))
		return;
	/* While no loop runs nothing is written; libevent writes when the next one runs. */
	if (!glev_base_running(b) || !glev_base_on_loop(b)) {
		glev_settle_spill(r);
		return;
	}
	/* A callback that C has on an event of its own does not end with done(). */
	if (!b->inside && !b->unsent)
		glev_base_wake(b);
	r->fast.next = b->unsent;
	if (b->unsent)
		b->unsent->fast.at = &r->fast.next;
	r->fast.at = &b->unsent;
	r->fast.unsent = 1;
	b->unsent = r;
}

void glev_fast_forget(struct glev_bev *r)
{
	if (!r->fast.unsent)
		return;
	r->fast.unsent = 0;
	*r->fast.at = r->fast.next;
	if (r->fast.next)
		r->fast.next->fast.at = r->fast.at;
}

void glev_fast_written(struct glev_bev *r)
{
	if (glev_bev_wants(r, GLEV_CB_WRITE)) /* or else no callback follows */
		r->owed.written = 1;
	glev_settle_output(r);
}

/* evbuffer_write without a SIGPIPE, and with the cheaper call for one chain. */
static ssize_t write_once(struct glev_bev *r, int fd, size_t most)
{
	enum { MOST_CHAINS = 64 };
	struct evbuffer_iovec vec[MOST_CHAINS];
	struct msghdr msg = {.msg_iov = (struct iovec *)vec};
	size_t size = 0;
	ssize_t n;
	int i, nvec;

	if (r->door)
		return r->door->send(r->bev, NULL, most);
	if (r->out.in_file) /* only libevent knows where these bytes are */
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

/* Tells the outcome of a write. */
static void wrote(struct glev_bev *r, int some, int err)
{
	if (err && err != EAGAIN && err != EWOULDBLOCK && err != EINTR) {
		if (err == ECONNRESET || err == ETIMEDOUT)
			r->fast.reset = err;
		glev_settle_end(r, EV_WRITE);
		glev_settle_tell(r, BEV_EVENT_ERROR | BEV_EVENT_WRITING, err);
		return;
	}
	if (some && glev_bev_wants(r, GLEV_CB_WRITE))
		bufferevent_trigger(r->bev, EV_WRITE, BEV_TRIG_DEFER_CALLBACKS);
	/* Also if nothing was written: sendfile returns 0 when it would block. */
	if (evbuffer_get_length(r->out.evb))
		glev_settle_spill(r);
}

/* How much of n bytes is written at once. A peer that takes the bytes as fast as they come
 * could keep the loop writing. */
static size_t write_most(size_t n)
{
	return n < WRITE_TURN ? n : WRITE_TURN;
}

static void write_out(struct glev_bev *r, size_t len)
{
	ssize_t n;
	int err;

	count(&r->base->fast.writes);
	evbuffer_unfreeze(r->out.evb, 1);
	n = write_once(r, event_get_fd(r->fast.reader), write_most(len));
	err = n < 0 ? errno : 0;
	glev_buf_refreeze(&r->out);
	wrote(r, n > 0, err);
}

int glev_fast_is_straight(const struct glev_bev *r, size_t n)
{
	return n && r->fast.on && r->fast.reader && !r->fast.spilled && (r->off.held & EV_WRITE) &&
	    !r->out.callbacks && !r->out.lent && !(glev_buf_frozen(&r->out) & GLEV_BACK) &&
	    !evbuffer_get_length(r->out.evb);
}

size_t glev_fast_send(struct glev_bev *r, const char *p, size_t n, int *err)
{
	ssize_t sent;

	n = write_most(n);
	count(&r->base->fast.writes);
	sent = r->door ? r->door->send(r->bev, p, n) : send(event_get_fd(r->fast.reader), p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	*err = sent < 0 ? errno : 0;
	return sent < 0 ? 0 : (size_t)sent;
}

void glev_fast_sent(struct glev_bev *r, size_t sent, int err)
{
	r->owed.touched = 1;
	if (sent && glev_bev_wants(r, GLEV_CB_WRITE)) /* as glev_fast_written */
		r->owed.written = 1;
	wrote(r, sent > 0, err);
}

/* Tells that bytes were lost, because there was no memory. */
static void lose(struct glev_bev *r, short what)
{
	if ((what & EV_READ) && !r->fast.read_error) {
		r->fast.read_error = ENOMEM;
		glev_fast_again(r);
	}
	if (what & EV_WRITE)
		wrote(r, 0, ENOMEM);
}

/* Puts what is left of a bypass into the buffers, and tells the outcome of a send. A door sends with
 * the lock. */
static void finish(struct glev_bev *r, size_t sent, int err)
{
	struct glev_bypass y = glev_bypass_take(r);

	if (y.nout && r->door) {
		sent = glev_fast_send(r, y.out, y.nout, &err);
		y.out += sent;
		y.nout -= sent;
	}
	if (y.state == GLEV_BYPASS_OPEN)
		r->fast.passes = !y.nin;
	if (glev_bypass_put_in(r, y.in, y.nin) < 0)
		y.lost |= EV_READ;
	if (sent || err)
		r->fast.direct++;
	if (glev_bypass_put_out(r, y.out, y.nout) < 0)
		y.lost |= EV_WRITE;
	if (sent || err) {
		r->fast.direct--;
		glev_fast_sent(r, sent, err);
	}
	lose(r, y.lost);
}

/* send(2) needs no lock: a thread that wants to change something on which the send depends first
 * closes the bypass, and for that waits while the state is USED. */
void glev_fast_finish(struct glev_bev *r)
{
	struct glev_bypass *y = &r->fast.bypass;
	size_t sent = 0;
	int err = 0, idle;

	if (!r->fast.finishes)
		return;
	r->fast.finishes = 0;
	if (!r->door && glev_bypass_use(r)) {
		if (y->nout)
			sent = glev_fast_send(r, y->out, y->nout, &err);
		y->out += sent;
		y->nout -= sent;
		idle = !y->nin && !y->nout && !(sent && glev_bev_wants(r, GLEV_CB_WRITE));
		r->fast.passes = !y->nin;
		glev_bypass_used(r, idle);
		if (idle)
			return;
	}
	glev_bev_lock_past(r);
	finish(r, sent, err);
	glev_bev_unlock(r);
}

void glev_fast_write(struct glev_bev *r)
{
	size_t len = evbuffer_get_length(r->out.evb);

	if (!r->fast.on || r->fast.spilled || !(r->off.held & EV_WRITE) || !len)
		return;
	if (r->out.lent || glev_fast_gathers(r))
		glev_settle_spill(r);
	else
		write_out(r, len);
}

/* The writer may also have been added with nothing to write, because WRITE was enabled. Another thread may
 * have written, or taken the timeout away, while this one waited for the lock. */
void glev_fast_writable(struct glev_bev *r, short what)
{
	struct glev_writer *w = r->fast.writer;
	size_t len;

	glev_bev_lock(r);
	len = evbuffer_get_length(r->out.evb);
	if (w->writing && what == EV_TIMEOUT && evutil_timerisset(&w->timeout)) {
		glev_settle_end(r, EV_WRITE);
		glev_settle_tell(r, BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING, 0);
	} else if (w->writing && len) {
		write_out(r, len);
	} else if (w->writing) {
		glev_settle_output(r);
		if (glev_bev_wants(r, GLEV_CB_WRITE))
			bufferevent_trigger(r->bev, EV_WRITE, BEV_TRIG_DEFER_CALLBACKS);
	}
	glev_bev_unlock(r);
}

void glev_fast_remind(struct glev_bev *r)
{
	glev_bev_lock(r);
	if (bufferevent_get_enabled(r->bev) & EV_READ)
		glev_settle_remind(r);
	glev_bev_unlock(r);
}

void glev_base_flush(struct glev_base *b)
{
	struct glev_bev *r;

	while (b && (r = b->unsent)) {
		glev_bev_lock(r);
		glev_fast_forget(r);
		glev_fast_write(r);
		glev_bev_unlock(r);
	}
}
