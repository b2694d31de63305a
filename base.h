/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base.h: what the C files share and Go does not see: bases and threads, notes,
 * blocks, buffers.
 */
#ifndef GLEV_BASE_H
#define GLEV_BASE_H

#include <pthread.h>

#include "native.h"

/* --- sockaddr.c ---------------------------------------------------------- */

void glev_addr_from(struct glev_addr *a, const struct sockaddr *sa, socklen_t len);
/* Returns the length of the address in ss, or -EINVAL. */
int glev_addr_to(const struct glev_addr *a, struct sockaddr_storage *ss);

/* --- block.c ------------------------------------------------------------- */

enum { GLEV_BLOCK = 128 * 1024 };

struct glev_block {
	struct glev_block *next; /* while it is spare */
	char data[GLEV_BLOCK];
};

struct glev_block *glev_block_get(void);
void glev_block_put(struct glev_block *b);
/* Makes the first n bytes of the block part of evb, without a copy. The block is
 * put back when evb has dropped them. On failure it stays the caller's. */
int glev_block_append(struct evbuffer *evb, struct glev_block *b, size_t n);
/* evbuffer_add for many bytes, which are copied to blocks. */
int glev_block_copy(struct evbuffer *evb, const char *p, size_t n);

/* --- the base ------------------------------------------------------------- */

struct glev_dues {
	pthread_mutex_t lock;
	struct glev_due *first, **end;
};

/* The most calls of one kind in a turn of the loop; as libevent's own bound for deferred
 * callbacks. */
enum { GLEV_MOST_IN_A_TURN = 32 };

struct glev_laters {
	pthread_mutex_t lock;
	struct glev_later *first, **end;
	struct event *timer; /* a timer of 0 s while something is in the list */
	int soon;            /* events made active at once since the timer last fired */
};

struct glev_base {
	struct event_base *base;
	void *handle;
	struct glev_dues dues;
	struct glev_laters laters;

	/* thread.c */
	uintptr_t owner; /* the thread that acts as the loop, or 0; atomic */
	int running;     /* Go runs the loop; atomic */
	int hosted;      /* C runs the loop, or ran it last; atomic */
	struct event *wake; /* a timer of 0 s: its callback runs the queued functions */
	int pipe[2];     /* of a base without locks: a byte in it wakes the loop */
	struct glev_base *outer; /* the base as whose loop the thread acted before */
	struct glev_base *next;  /* in the list of the bases that C made */

	/* base.c */
	struct event *keep; /* keeps an empty loop running */
	int dns_freeing;    /* DNS bases that wait for a quiet moment to be freed in */
	int freed;          /* the base is freed when they are */
	int inside;         /* callbacks between begin() and done(), see callbacks.c */
	unsigned calls;     /* callbacks since the clock was read */
	int64_t yielded;    /* when the loop's goroutine last yielded, in ns */

	/* fastpath.c */
	struct glev_bev *unsent; /* their output is written when the callback is done */
	struct glev_block *block;  /* where the next read puts the bytes first, or NULL */
	struct glev_block *cipher; /* where a door reads what it then decrypts, or NULL */
	char *written;             /* what a closure writes past the output (bypass.c), or NULL */
	struct glev_fast_counters fast; /* atomic */
};

/* --- thread.c ------------------------------------------------------------ */

/* Makes the event, or the pipe, by which the loop is woken. */
int glev_base_make_wake(struct glev_base *b, int no_locks);
void glev_base_drop_wake(struct glev_base *b);
/* Around a callback of the base. If the calling thread does not act as its loop by
 * what Go knows, then C runs the loop. */
int glev_base_visit(struct glev_base *b);
void glev_base_visited(struct glev_base *b, int visit);
/* Go runs the loop of b on this thread, or with NULL no loop. Returns the base
 * before. */
struct glev_base *glev_thread_turns(struct glev_base *b);
int glev_base_running(struct glev_base *b);
/* The base of C's whose loop this thread runs, or NULL. It is not freed until
 * glev_base_foreign_release, which must follow. */
struct glev_base *glev_base_foreign_here(void);
void glev_base_foreign_release(void);
/* Removes the base from the list of those that C made. */
void glev_base_foreign_remove(struct glev_base *b);
/* Around a call of a filter function. */
void glev_filter_begin(void);
void glev_filter_end(void);
/* Whether libevent checks how its locks are used. */
int glev_debugs_locks(void);
/* Whether this thread is inside a filter function. */
int glev_filter_within(void);

/* Adds a timer of which the loop must not lose sight. If there is no memory for it, it fires
 * in this turn of the loop. */
void glev_timer_add(struct event *ev, const struct timeval *tv);
/* When a timeout passes, libevent deletes the event and makes it active. If the event is added
 * before the timeout is told, libevent drops the timeout, and does not register the event. This
 * is called after an event for `what` was added. If it returns 1, the event has to be added again. */
int glev_event_was_dropped(struct event *ev, short what);

/* --- due.c --------------------------------------------------------------- */

void glev_dues_init(struct glev_dues *d);
void glev_dues_destroy(struct glev_dues *d);
/* Gives the note to the loop of base, or if base is NULL to the Go call on this
 * thread. */
void glev_due(struct glev_due *d, struct glev_base *base);
/* Gives the note to the loop that this thread acts as, or to the Go call. */
void glev_due_here(struct glev_due *d);

/* --- later.c ------------------------------------------------------------- */

int glev_laters_init(struct glev_base *b);
void glev_laters_drop(struct glev_base *b);
void glev_laters_destroy(struct glev_base *b);
/* Has l->run(l) called on the loop's thread in the loop's next turn, with no lock. The
 * record of l must not be freed before, unless glev_later_forget is called. Any thread
 * that may use the object may call these two, with its locks. */
void glev_later(struct glev_base *b, struct glev_later *l);
void glev_later_forget(struct glev_base *b, struct glev_later *l);
/* Whether an event may become active at once. If not, it waits for the next turn, as so
 * many have become active that the loop has to poll first. */
int glev_laters_soon(struct glev_base *b);
/* The timer was called. */
void glev_laters_run(struct glev_base *b);

/* --- base.c -------------------------------------------------------------- */

/* Whether it is time for the loop's goroutine to yield; asked after each callback. */
int glev_base_yields(struct glev_base *b);

/* --- event.c ------------------------------------------------------------- */

/* Takes what the event is to fire with in the next turn, because it fires now. */
short glev_event_take(struct glev_event *e);

/* --- lend.c -------------------------------------------------------------- */

struct glev_buf {
	struct evbuffer *evb;
	struct glev_bev *owner; /* the bufferevent whose buffer this is, or NULL */
	int lent;               /* the Peeks, Pullups and Reserves in progress */
	int frozen;             /* the ends that the user or the binding has frozen */
	/* Not NULL while bytes may be in a file instead of in memory. */
	struct evbuffer_cb_entry *in_file;
	struct glev_buf_cb *callbacks;
	struct glev_bypass *bypass; /* of the owner, or NULL */
};

static inline int glev_bypass_matters(const struct glev_bypass *y)
{
	return y && __atomic_load_n(&y->state, __ATOMIC_RELAXED) != GLEV_BYPASS_CLOSED;
}

/* Closes the bypass of a bufferevent. With the lock. */
void glev_bypass_close(struct glev_bev *r);

/* Takes the lock, or returns why the caller may not use the buffer. */
int64_t glev_buf_lock(struct glev_buf *b);
/* Takes the lock of a buffer that the caller may use, or that is only looked at. */
static inline void glev_buf_hold(struct glev_buf *b)
{
	evbuffer_lock(b->evb);
	if (glev_bypass_matters(b->bypass))
		glev_bypass_close(b->owner);
}

static inline void glev_buf_unlock(struct glev_buf *b)
{
	evbuffer_unlock(b->evb);
}

/* All below are called with the lock. */

/* Why libevent refuses an operation at that end, or 0. */
int64_t glev_buf_refusal(struct glev_buf *b, int end);
/* Whether the buffer's bufferevent was freed, or drops what comes into this buffer. It needs no
 * lock. */
int glev_buf_is_closed(struct glev_buf *b);
/* The ends that are frozen even when the buffer is not lent. */
int glev_buf_frozen(const struct glev_buf *b);
/* Whether only the binding and libevent may change that end, though it is not frozen. Needs no lock. */
int glev_buf_is_barred(const struct glev_buf *b, int end);
/* Freezes exactly the ends that have to be frozen. */
void glev_buf_refreeze(struct glev_buf *b);
/* Freezes these ends, and no other, as long as the buffer is not lent. */
void glev_buf_set_frozen(struct glev_buf *b, int ends);
/* Counts the loans. */
void glev_buf_lend(struct glev_buf *b);
void glev_buf_take_back(struct glev_buf *b);
/* Unlocks what a Goexit on this thread has left locked. */
void glev_evbuffer_abandon(struct evbuffer *evb);
/* Moves n of the bytes, of which there are more, or fails and moves none. */
int glev_evbuffer_take(struct evbuffer *scratch, struct evbuffer *src, size_t n);
/* All bytes are in memory now. */
void glev_buf_out_of_file(struct glev_buf *b);

/* --- evbuffer.c ---------------------------------------------------------- */

/* Appends scratch, or fails and leaves scratch as it is. */
int64_t glev_buf_append(struct glev_buf *b, struct evbuffer *scratch);

/* --- buffercallback.c ---------------------------------------------------- */

void glev_buf_cb_remove_all(struct glev_buf *b);
/* Whether one of the buffer's callbacks waits for its loop. With the lock. */
int glev_buf_cb_any_due(struct glev_buf *b);
/* Makes it due for one more change. With the lock. */
void glev_buf_cb_changed(struct glev_buf_cb *cb, size_t added, size_t deleted);

/* --- dns.c ---------------------------------------------------------------- */

/* The next two are called by the callbacks of libevent. */
int glev_dns_step(struct glev_dns *d, short what);
int glev_lookup_answered(struct glev_lookup *l, int code);

/* --- sockopt.c ------------------------------------------------------------- */

int glev_socket_is_tcp(int fd);
/* Sets TCP_NODELAY. Returns 0, or the negative of an errno. */
int glev_socket_no_delay(int fd, int on);

#endif
