/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bev.h: what the C files of a bufferevent share and Go does not see: its record, its
 * states, and its locks.
 *
 * Life goes one way only:
 *
 *	LIVE ──FreeAfterFlush──► FLUSHING ──the peer still sends──► DISCARDING
 *	  └──────────Free────────────┴──────────────────┴─────────────► QUIET
 *
 * Link says how far the connection is:
 *
 *	                                UNLINKED LOOKING_UP TRYING GAVE_UP CONNECTING OPEN
 *	both directions are kept off       -        yes      yes     yes       -       -
 *	EventConnected is due              -        yes      yes      -       yes      -
 *	the fast path is possible          -         -        -       -        -      yes
 *
 * CONNECTING is a Connect, or a handshake of TLS, that has not ended yet. LOOKING_UP,
 * TRYING and GAVE_UP are a ConnectHostname: Go looks the name up, C tries one address
 * after the other, no address is left. OPEN is a stream socket that was given or that a
 * connect has brought. Everything else is UNLINKED: without a descriptor, a pipe, a failed
 * connect. The ends of a pair and filters stay UNLINKED. But a bufferevent with a door is
 * CONNECTING until its handshake has ended, even before it has a descriptor, and then OPEN.
 *
 * Locks. A bufferevent and its two buffers have one lock, recursive; the ends of a pair
 * share theirs. A filter has a lock of its own. A record is read and written with the lock
 * of its own bufferevent. A function that needs the records of a stack takes the locks from
 * the top down (glev_stack_lock), as libevent does when a filter moves bytes. A thread that
 * has a lock takes none above it. So what happens below a filter does not call up. It makes
 * an event active, which the bufferevent above has left there (ending.waits, and the argument
 * of glev_on_output). With OptLoopOnly there are no locks, and only the loop's thread gets here.
 * A member that is marked "atomic" is read without the lock. One that is marked "loop"
 * belongs to the loop's thread.
 * A member that is set when the record is made, and never after, needs no lock: bev, handle,
 * door, host, type, loop_only, stack.under, fast.reader, fast.writer. Nor does base: SetBase
 * changes it only while no other thread is inside a call.
 */
#ifndef GLEV_BEV_H
#define GLEV_BEV_H

#include "base.h"

enum { GLEV_SOCKET, GLEV_PAIR, GLEV_FILTER };
enum { GLEV_LIVE, GLEV_FLUSHING, GLEV_DISCARDING, GLEV_QUIET };
enum { GLEV_UNLINKED, GLEV_LOOKING_UP, GLEV_TRYING, GLEV_GAVE_UP, GLEV_CONNECTING, GLEV_OPEN };
/* Which descriptor glev_bev_quiet closes: any (OptCloseOnFree), or that of an attempt of a
 * connect by name. */
enum { GLEV_OWNS_DESCRIPTOR = 1, GLEV_OWNS_ATTEMPT = 2 };

/* Reasons why a direction that the user has enabled is off in libevent. */
enum {
	GLEV_OFF_UNLINKED = 1,     /* a connect by name has no connection yet */
	GLEV_OFF_MOVING = 2,       /* the bufferevent is on its way to another base */
	GLEV_OFF_FULL = 4,         /* the input is at its high mark */
	GLEV_OFF_LENT_INPUT = 8,   /* a Peek has the input */
	GLEV_OFF_LENT_OUTPUT = 16, /* a Peek has the output */
	GLEV_OFF_FAST_READ = 32,   /* the fast path reads */
	GLEV_OFF_FAST_WRITE = 64,  /* the fast path writes */
	GLEV_OFF_DIGESTING = 128,  /* the filter above has still to take what is in the input */
	GLEV_OFF_WAITING = 256,    /* a door's handshake has not been started */
};

struct glev_off {
	short held;  /* directions that the user has enabled and that are off in libevent */
	short ended; /* directions that a call or a failure has turned off, and not a timeout */
	int because; /* GLEV_OFF_ bits */
};

/* The write timeout of a filter, or of an end of a pair. */
struct glev_stall {
	struct event *timer; /* or NULL: there was no timeout yet */
	struct evbuffer_cb_entry *out_cb; /* glev_on_stall_output, or NULL */
	struct timeval timeout;
	uint64_t sent;  /* the bytes that had left the stack when the timer was started */
	uint64_t taken; /* the bytes that have left the output since there was a timeout */
	int8_t runs;
	int8_t anew;   /* when the timer passes, it is started again */
};

/* Settings of the user that libevent does not keep, or that we must know. */
struct glev_settings {
	struct glev_bucket *rate;     /* its rate limit, or NULL */
	struct timeval read_timeout;
	struct glev_stall stall;
	short priority;               /* or -1 */
	int8_t limits;                /* GLEV_LIMIT_ bits: what libevent must count */
	int8_t was_limited;           /* it has, or had, a limit, whose timer libevent keeps */
	int8_t timed;                 /* directions that have, or had, a timeout; set atomically */
	int8_t write_timed;           /* there is a write timeout */
	int8_t nagle;                 /* the sockets that connecting makes get no TCP_NODELAY */
};

enum { GLEV_LIMIT_RATE = 1, GLEV_LIMIT_GROUP = 2, GLEV_LIMIT_SINGLE_READ = 4, GLEV_LIMIT_SINGLE_WRITE = 8, GLEV_LIMIT_BUFFER = 16 };

/* What the loop still has to tell the closures, or must not tell them. */
struct glev_owed {
	short events;   /* event callbacks that TriggerEvent asked for */
	int8_t read;    /* of an end of a pair: a read callback is due, whatever the input has */
	int8_t written; /* since the last write callback bytes were written, or one was asked for */
	int8_t mute;    /* the next write callback is not told, unless bytes are written before */
	int8_t touched; /* libevent may have queued a callback since the bufferevent was made */
	int8_t known;   /* the Go object is complete; atomic */
	int8_t end_waits; /* the end of reading waits a turn for the event of a failed write */
	int8_t write_failed; /* WRITE is on again, and that event may still be due */
	int err;        /* the errno of an error that is to be told; 0 if there is none */
	int put_off;    /* the end of a pair is told when it comes again; loop */
	short kept;     /* of a filter: events that wait; see filter.c */
	int kept_err;   /* the errno of an error among them */
	short passed;   /* of a filter: events from below that libevent has still to tell */
	int8_t end_passed; /* of TLS, and of a filter on it: so has the end of TLS been */
};

/* Watermarks. */
struct glev_marks {
	size_t low, high;  /* of reading; high is atomic */
	size_t write_low;
	int8_t drained;    /* something was taken from an input with a high mark, since the read closure began */
	int8_t native;     /* libevent has its callback for a high mark, because C has set one */
	struct evbuffer_cb_entry *in_cb; /* glev_on_input, or NULL */
};

enum { GLEV_SHUT_ASKED = 1, GLEV_SHUT_DONE };

/* Closing in order. */
struct glev_ending {
	struct event *limit;   /* the timer that ends a FreeAfterFlush, or NULL */
	struct event *flushed; /* the output has become empty; NULL until it matters */
	struct evbuffer_cb_entry *out_cb; /* glev_on_output on the output of the bottom, or NULL */
	struct evbuffer *last_byte; /* tells a door of the end of the bufferevent; see close.c */
	struct event *waits;   /* of a bottom: the flushed event of the bufferevent that waits, or NULL */
	struct glev_bev *unfinished; /* the topmost filter whose functions have still to write what they hold, or NULL */
	int8_t shut;           /* CloseWrite: GLEV_SHUT_ASKED, GLEV_SHUT_DONE, or 0 */
	int discards;          /* of a flush: the descriptor from which it drops what the peer still sends */
	int8_t pause;          /* how long until it looks there again, in ms; before that, how often glev_shut_wait has looked */
	int8_t whole;          /* of a flush: all that is below is freed as well, whether or not it is owned */
	int8_t flush_ends;     /* a flush has found that all is written; atomic */
	int8_t failed;         /* of a door: its stream has failed, and takes no more */
	int8_t finished;       /* of an end of a pair: the other end was told that this one has ended */
	int8_t finishing;      /* of a filter: its functions are told that a flush is the last one */
};

/* The callbacks that libevent has on the bufferevent below a filter. */
struct glev_feed {
	bufferevent_data_cb read, write;
	bufferevent_event_cb event;
	void *arg;
};

enum { GLEV_USED_NOT, GLEV_USED_TO_CONNECT, GLEV_USED_CONNECTED };

/* The bufferevents around this one. */
struct glev_stack {
	struct glev_bev *under;   /* of a filter: the one it is on, if that has a record */
	struct glev_bev *above;   /* the filter on this one, which has libevent's callbacks, or NULL */
	struct glev_bev *partner; /* the other end of the pair, until that is freed, or NULL */
	struct glev_feed *feed;   /* of a filter of libevent's own kind, or NULL */
	struct evbuffer_cb_entry *under_in_cb, *under_out_cb;
	short asks;               /* of a filter: the directions for which the user has given a function */
	short works;              /* the directions whose function is being called */
	uint64_t changes;         /* of the buffers that a filter's functions see; atomic */
	int8_t carries;           /* a door above says when the connection is open */
	int8_t used;              /* a GLEV_USED_: what has come below since then */
	int8_t started;           /* of a door: its handshake may start */
	struct glev_later again;  /* of a filter: its function for the input is to be called */
	int steps;                /* how often in a row that function was called by now */
	int8_t rests;             /* that function waits for the next turn */
	size_t put_off;           /* how many bytes were below when an end from there was put off; loop */
	int8_t digesting;         /* the filter above goes on in the next turn */
	uint64_t sent;            /* of a bufferevent below a filter that is no door: the bytes that have left its output */
};

enum { GLEV_ASKED = 1, GLEV_RECEIVED };

/* What the fast path has for a door, which writes by itself what is spilled. */
struct glev_writer {
	struct timeval timeout;
	int8_t writing; /* the event behind it is added */
};

/* The fast path. */
struct glev_fast {
	struct event *reader;       /* in the memory behind the record, or NULL: no fast path */
	struct glev_writer *writer; /* behind that, for a door, or NULL: libevent writes what is spilled */
	struct evbuffer_cb_entry *unsent_cb; /* glev_on_unsent, or NULL */
	struct glev_bev *next, **at; /* in the base's list of unsent ones; loop */
	struct glev_later again; /* the reader is to be called in the next turn */
	uint32_t room;       /* for the next read */
	int read_error;      /* an errno that was found behind bytes, and is told next */
	int reset;           /* the errno with which a write found the connection cut, or 0 */
	int8_t plain;        /* never used: the user wants it so, or C has the pointer */
	int8_t paused;       /* not used while libevent gets another descriptor or base */
	int8_t on;           /* the fast path reads and writes now */
	int8_t reading;      /* the reader is added */
	int8_t spilled;      /* libevent writes, or is to write, until the output is empty */
	int8_t direct;       /* inside a call that writes at once */
	int8_t unsent;       /* the record is in the base's list of unsent ones */
	int8_t small_reads;  /* how many reads in a row needed much less room */
	int8_t finishes;     /* glev_fast_finish has something to do; loop */
	int8_t passes;       /* the last read closure took everything from the bypass */
	int8_t receiver;     /* there is one; atomic */
	int8_t receiving;    /* GLEV_ASKED, GLEV_RECEIVED, or 0; loop */
	uint32_t received;   /* what the receiver has used up of its turn; loop */
	struct glev_bypass bypass;
};

enum { GLEV_CODES = 16 }; /* the most that a door has to say of an error */

/* What C had in a wrapped bufferevent. */
struct glev_host {
	bufferevent_data_cb read, write;
	bufferevent_event_cb event;
	void *arg;
	const struct ev_token_bucket_cfg *rate; /* or NULL */
	int in_frozen, out_frozen;
	int awaited; /* Free was called on another thread: C's callbacks are due; atomic */
};

struct glev_bev {
	struct bufferevent *bev;
	struct glev_base *base;
	uintptr_t handle;
	struct glev_buf in, out;
	struct glev_door *door; /* of a bufferevent that another package made, or NULL */
	struct glev_host *host; /* of a wrapped one, or NULL */
	int8_t type;            /* GLEV_SOCKET, GLEV_PAIR, GLEV_FILTER */
	int8_t loop_only;
	int8_t owns;            /* GLEV_OWNS_ bits */
	int8_t life;            /* atomic */
	int8_t link;
	int8_t closures;        /* GLEV_CB_ bits: which the user has set; atomic */
	struct glev_off off;
	struct glev_settings set;
	struct glev_owed owed;
	struct glev_marks mark;
	struct glev_ending ending;
	struct glev_stack stack;
	struct glev_fast fast;
};

/* --- questions ------------------------------------------------------------- */

static inline int glev_bev_life(const struct glev_bev *r)
{
	return __atomic_load_n(&r->life, __ATOMIC_ACQUIRE);
}

static inline int glev_bev_is_quiet(const struct glev_bev *r)
{
	return glev_bev_life(r) == GLEV_QUIET;
}

/* A FreeAfterFlush is under way. */
static inline int glev_bev_is_flushing(const struct glev_bev *r)
{
	int life = glev_bev_life(r);

	return life == GLEV_FLUSHING || life == GLEV_DISCARDING;
}

static inline int glev_bev_wants(const struct glev_bev *r, int closures)
{
	return __atomic_load_n(&r->closures, __ATOMIC_RELAXED) & closures;
}

/* A ConnectHostname has begun, and there is no connection yet. */
static inline int glev_bev_dials(const struct glev_bev *r)
{
	return r->link == GLEV_LOOKING_UP || r->link == GLEV_TRYING || r->link == GLEV_GAVE_UP;
}

static inline int glev_bev_connection_is_due(const struct glev_bev *r)
{
	return r->link == GLEV_LOOKING_UP || r->link == GLEV_TRYING || r->link == GLEV_CONNECTING;
}

/* Those bits of an event that libevent does not report again: all but a timeout. */
static inline short glev_event_lasting(short what)
{
	short lasting = what & (BEV_EVENT_CONNECTED | BEV_EVENT_EOF | BEV_EVENT_ERROR);

	if (what & BEV_EVENT_ERROR)
		lasting |= what & (BEV_EVENT_READING | BEV_EVENT_WRITING);
	return lasting | (what & BEV_EVENT_EOF ? BEV_EVENT_READING : 0);
}

/* The socket or end of a pair below a stack. */
static inline struct glev_bev *glev_bev_bottom(struct glev_bev *r)
{
	while (r->stack.under)
		r = r->stack.under;
	return r;
}

/* The first bufferevent of a stack, counted from the top, that another package made, or else the
 * bottom. It says when the connection is open. */
static inline struct glev_bev *glev_bev_carrier(struct glev_bev *r)
{
	while (r->stack.under && !r->door)
		r = r->stack.under;
	return r;
}

/* The bottom, also where filters that C made, which have no record, are in between. */
static inline struct bufferevent *glev_bev_native_bottom(struct glev_bev *r)
{
	struct bufferevent *bev = r->bev, *below;

	while ((below = bufferevent_get_underlying(bev)) != NULL)
		bev = below;
	return bev;
}

/* --- locks ----------------------------------------------------------------- */

/* bufferevent_lock and bufferevent_unlock would not do: the latter drops a reference and
 * may finalize the bufferevent. */
static inline void glev_bev_lock(struct glev_bev *r)
{
	glev_buf_hold(&r->in);
}

/* Leaves a bypass open. */
static inline void glev_bev_lock_past(struct glev_bev *r)
{
	evbuffer_lock(r->in.evb);
}

static inline void glev_bev_unlock(struct glev_bev *r)
{
	evbuffer_unlock(r->in.evb);
}

/* Takes the locks of a stack, from r down. */
static inline void glev_stack_lock(struct glev_bev *r)
{
	struct bufferevent *bev;

	for (bev = r->bev; bev; bev = bufferevent_get_underlying(bev))
		evbuffer_lock(bufferevent_get_input(bev));
	if (glev_bypass_matters(&r->fast.bypass)) /* it never does below a filter */
		glev_bypass_close(r);
}

/* bufferevent_get_underlying takes the lock of its argument. So it is called before that lock
 * is released: later the thread would take a lock that is above those it has. */
static inline void glev_stack_unlock(struct glev_bev *r)
{
	struct bufferevent *bev = r->bev, *below;

	for (; bev; bev = below) {
		below = bufferevent_get_underlying(bev);
		evbuffer_unlock(bufferevent_get_input(bev));
	}
}

/* Whether only the loop's thread may use the record, which may be NULL, and this is
 * another thread. */
static inline int glev_bev_is_out_of_reach(const struct glev_bev *r)
{
	return r && r->loop_only && !glev_base_on_loop(r->base);
}

/* Returns GLEV_WRONG_LOOP from the calling function if so. */
#define GLEV_CHECK_LOOP(r)                                                    \
	do {                                                                  \
		if (glev_bev_is_out_of_reach(r))                              \
			return GLEV_WRONG_LOOP;                               \
	} while (0)

#define GLEV_ENTER_(r, lock, unlock)                                          \
	do {                                                                  \
		GLEV_CHECK_LOOP(r);                                           \
		lock(r);                                                      \
		if (glev_bev_is_quiet(r)) {                                   \
			unlock(r);                                            \
			return GLEV_CLOSED;                                   \
		}                                                             \
	} while (0)

/* Takes the lock, or the locks of the stack, for a change. If another thread has freed the
 * bufferevent, or only the loop's thread may use it, returns from the calling function. */
#define GLEV_ENTER(r) GLEV_ENTER_(r, glev_bev_lock, glev_bev_unlock)
#define GLEV_ENTER_STACK(r) GLEV_ENTER_(r, glev_stack_lock, glev_stack_unlock)

/* --- bypass.c -------------------------------------------------------------- */

/* These are called with the lock. */

/* Opens a bypass for n bytes at p that were read, if the closure alone sees them. They stay
 * there until the closure is done. */
int glev_bypass_open(struct glev_bev *r, const char *p, size_t n);
/* Closes the bypass, and leaves the bytes to the caller. The result has the state before. */
struct glev_bypass glev_bypass_take(struct glev_bev *r);
/* Put bytes of a bypass into the buffers: behind those of the input, before those of the output.
 * Return -1 if there is no memory. */
int glev_bypass_put_in(struct glev_bev *r, const char *p, size_t n);
int glev_bypass_put_out(struct glev_bev *r, const char *p, size_t n);
/* Something was appended to the output behind what is in the bypass. */
void glev_bypass_make_late(struct glev_bev *r);

/* These are called without the lock. */

/* Closes the bypass, and drops the bytes. Takes the lock. */
void glev_bypass_drop(struct glev_bev *r);
/* Reserves an open bypass for the caller until glev_bypass_used, or returns 0. With idle there
 * are no bytes, and none in the buffers. */
int glev_bypass_use(struct glev_bev *r);
void glev_bypass_used(struct glev_bev *r, int idle);
/* Whether bytes of the buffer are lost, because there was no memory for them when the bypass was
 * closed. */
static inline int glev_bypass_lost(const struct glev_buf *b)
{
	return b->bypass && (__atomic_load_n(&b->bypass->lost, __ATOMIC_RELAXED) & (b == &b->owner->in ? EV_READ : EV_WRITE));
}

/* If the bypass is open, these do what the functions of the buffers do. If not, the bytes are in
 * the buffers: the functions whose result is an int64_t return -1, the others 0. */
int64_t glev_bypass_read(struct glev_bev *r, char *p, size_t n);
int glev_bypass_write(struct glev_bev *r, const char *p, size_t n);
int glev_bypass_move(struct glev_buf *dst, struct glev_buf *src);
int64_t glev_bypass_length(struct glev_buf *b);

/* --- stall.c --------------------------------------------------------------- */

/* All are called with the lock. For a socket, which has libevent's timer, they do nothing. */

/* Sets the timeout, or none if it is 0. Returns -ENOMEM if there is no memory for it. */
int glev_stall_set(struct glev_bev *r, const struct timeval *timeout);
/* The user or the binding has enabled writing. From then on the whole timeout has to pass before it is told. */
void glev_stall_renew(struct glev_bev *r);
/* The output, which had that many bytes before, has changed. */
void glev_stall_output(struct glev_bev *r, size_t before, size_t added, size_t taken);
/* The timer was called. Returns whether the timeout has passed. With the locks of the stack. */
int glev_stall_passes(struct glev_bev *r);
/* The bufferevent becomes quiet, and is freed. */
void glev_stall_end(struct glev_bev *r);
void glev_stall_free(struct glev_bev *r);

/* --- settle.c -------------------------------------------------------------- */

/* All in this section are called with the lock. */

/* Brings libevent, and the events of the fast path, in line with the record. Called after a
 * change of the record on which they depend. If libevent is to be changed as well, as by another
 * descriptor or a limit, the record changes first, then this is called, and then libevent is
 * changed. The event closure is told what could not be turned on. */
void glev_settle(struct glev_bev *r);
/* Settles for a change that the caller takes back if this fails; then the event closure is
 * not told. Returns 0, or the negative of an errno. */
int glev_settle_try(struct glev_bev *r);
/* Settles after the user has enabled directions: libevent restarts their timeouts, and may
 * make a write callback, even if they were on. Returns those that could not be turned on;
 * errno says why. */
short glev_settle_enable(struct glev_bev *r, short what);
/* As glev_settle_enable, and tells the event closure of those that could not be turned on. */
void glev_settle_on(struct glev_bev *r, short what);
/* Whether the user can see that WRITE is enabled: by a write callback as soon as the socket can
 * be written to, or because something was appended while WRITE was off. */
int glev_settle_shows(const struct glev_bev *r);
/* Turns directions off, for the user and in libevent. */
int glev_settle_disable(struct glev_bev *r, short what);
/* Turns directions of the fast path off, because they have ended. */
void glev_settle_end(struct glev_bev *r, short what);
/* Turns directions off whose timeout has passed. */
int glev_settle_time_out(struct glev_bev *r, short what);
/* Has the event callback told of these events; err is the errno of an error, or 0. */
void glev_settle_tell(struct glev_bev *r, short what, int err);
/* Whether libevent may still have to tell of a write that has failed: it has turned WRITE off by
 * itself, though what was spilled is to be written. */
int glev_settle_write_failed(const struct glev_bev *r);
/* The event callback has come with these events. */
void glev_settle_told(struct glev_bev *r, short what);
/* Turns both directions off in libevent; the record remembers those that it held. */
void glev_settle_native_off(struct glev_bev *r);
/* Turns all off, for good. */
void glev_settle_quiet(struct glev_bev *r);
/* The loans of a buffer have begun, or ended. */
void glev_settle_lent(struct glev_bev *r);
/* The input has changed. As in libevent, this restarts a read timeout if there is a high
 * mark. */
void glev_settle_input(struct glev_bev *r);
/* The output may be empty: then libevent need not write. */
void glev_settle_output(struct glev_bev *r);
/* Has libevent write what is in the output. */
void glev_settle_spill(struct glev_bev *r);
/* Has glev_fast_unsent called when something is appended to the output. Returns 0 if there is
 * no memory for that. */
int glev_settle_watch_output(struct glev_bev *r);
/* Something was appended that libevent is to write. */
void glev_settle_unsent(struct glev_bev *r);
/* Returns 0, or the negative of an errno. */
int glev_settle_set_watermark(struct glev_bev *r, short what, size_t low, size_t high);
/* Keeps a thread that waits for the lock to read from reading. It needs no memory. */
void glev_settle_overfill(struct glev_bev *r);
int glev_settle_set_timeouts(struct glev_bev *r, const struct timeval *rd, const struct timeval *wr);
int glev_settle_set_priority(struct glev_bev *r, int priority);
/* Sets libevent's callbacks; with write the write callback, too. */
void glev_settle_set_callbacks(struct glev_bev *r, int write);
/* libevent may make a write callback though nothing was written. The closure is not called
 * for it, unless something is written before. */
void glev_settle_mute(struct glev_bev *r);
/* A write callback has come. Returns 0 if it is one for which nothing was written. */
int glev_settle_unmute(struct glev_bev *r);
/* If libevent reads, has it look in the next turn at bytes that the door has already taken
 * from the descriptor. */
void glev_settle_remind(struct glev_bev *r);

/* The reader and the writer, the events of the fast path. */

/* What they need behind a record. */
size_t glev_fast_size(int door);
void glev_fast_init(struct glev_bev *r);
struct event *glev_fast_writer_event(struct glev_bev *r);
/* Whether a door has bytes to read that it has already taken from the descriptor, or an error
 * waits to be told. */
int glev_fast_pending(const struct glev_bev *r);
/* If so, has the reader called in the loop's next turn, or libevent read then. */
void glev_fast_again(struct glev_bev *r);
/* Whether the fast path only gathers what is appended until the callback is done. */
int glev_fast_gathers(const struct glev_bev *r);

/* The bufferevent below has the events that a filter keeps told again. Takes the lock of that one. */
void glev_settle_tell_kept(struct glev_bev *r);
/* Has libevent call the function of a filter for the input, or the one for the output, later in this turn. */
void glev_settle_ask_filter(struct glev_bev *r, short what);
/* Keeps reading off, with on 0 no more, while the filter above has to take the input. */
void glev_settle_digest(struct glev_bev *r, int on);

/* --- fastpath.c ------------------------------------------------------------ */

/* Only the loop's thread may call these. They take the lock. */

/* The reader was called: reads, and returns 1 if the read closure is to be called. */
int glev_fast_read(struct glev_bev *r, short what);
/* The read closure is done: writes what it has written. */
void glev_fast_finish(struct glev_bev *r);
/* Whether the receiver is to be called before that. */
int glev_fast_receives(struct glev_bev *r);
/* The writer was called. */
void glev_fast_writable(struct glev_bev *r, short what);
/* The timer of glev_settle_remind. */
void glev_fast_remind(struct glev_bev *r);
/* Writes what callbacks have appended to outputs. */
void glev_base_flush(struct glev_base *b);
/* Takes the record off the list of those outputs. */
void glev_fast_forget(struct glev_bev *r);
void glev_fast_free(struct glev_bev *r);

/* These are called with the lock. */

/* Something was appended to the output; something was written from it. */
void glev_fast_unsent(struct glev_bev *r);
void glev_fast_written(struct glev_bev *r);
/* Writes what is in the output. */
void glev_fast_write(struct glev_bev *r);
/* Whether n bytes may go to the socket past the output: the output is empty, and nothing
 * watches or stops what is appended to it. */
int glev_fast_is_straight(const struct glev_bev *r, size_t n);
/* Sends them. Returns how many were sent; *err says why not all. The caller appends the rest
 * to the output, and then calls glev_fast_sent. */
size_t glev_fast_send(struct glev_bev *r, const char *p, size_t n, int *err);
void glev_fast_sent(struct glev_bev *r, size_t sent, int err);

/* --- ratelimit.c ----------------------------------------------------------- */

/* What libevent has of a rate limit. */
struct glev_bucket {
	struct ev_token_bucket_cfg *cfg;
	struct glev_rate rate; /* no rate is 0 */
};

void glev_bucket_free(struct glev_bucket *b);

/* --- connect.c ------------------------------------------------------------- */

/* With the lock. */

/* Gives libevent another descriptor, or -1. */
int glev_bev_give_fd(struct glev_bev *r, int fd);
/* A door above says when the connection is open. It begins with the first connection, and no thread that has the lock
 * of this bufferevent may call up. So no other connection follows. But the descriptor of this one may be taken away and
 * come back. */
void glev_bev_carry(struct glev_bev *r);
/* Makes a descriptor fit for a bufferevent, or returns the negative of an errno. *stream
 * says whether it is a stream socket. */
int glev_bev_prepare_fd(int fd, int *stream);
/* Ends a connect by name, if there is one. */
void glev_bev_end_dial(struct glev_bev *r);
/* Has the handshakes of all doors of a stack start, or, with again, those go on that have
 * started, because libevent may have turned off what they wait for. Returns 0, or the negative
 * of an errno. */
int glev_bev_start(struct glev_bev *r, int again);
/* A filter was freed. If it has not told yet that the connection is there, has that told. */
void glev_bev_tell_open(struct glev_bev *r);
/* A door on top of another bufferevent tells of its connection only when its handshake is done. Before an
 * event, this finds out whether the connection below was there already: then the event is not one of an
 * attempt to connect. With the locks of the stack. */
void glev_bev_find_link(struct glev_bev *r);
/* Whether there is, or was, a connection below a door. With its lock. */
int glev_bev_door_is_linked(struct glev_bev *r);
/* The connection is there. */
void glev_bev_open(struct glev_bev *r);
/* The connect has failed. */
void glev_bev_unlink(struct glev_bev *r);

/* --- shut.c ---------------------------------------------------------------- */

/* With the locks of the stack. */

/* Whether the bottom is an end of a pair. */
int glev_bev_on_pair(struct glev_bev *r);
/* Whether the outputs of bev and of all below it are empty. */
int glev_shut_is_written(struct bufferevent *bev);
int glev_shut_all_written(struct glev_bev *r);
/* Has the flushed event fire when the output of the bottom becomes empty. -ENOMEM if that is not possible. */
int glev_shut_watch(struct glev_bev *r);
void glev_shut_unwatch(struct glev_bev *r);
/* Has it fire after this time in any case. */
int glev_shut_retry(struct glev_bev *r, int msec);
/* Has it fire when the bottom has nothing to write, but something above has: the functions of filters may take that, and
 * pass nothing on. */
void glev_shut_wait(struct glev_bev *r);
/* Has the functions of filters write what they hold: nothing more is written to the stack. */
void glev_shut_start(struct glev_bev *r);
/* Shuts the writing side down if that was asked for and all is written. */
int64_t glev_bev_try_shut(struct glev_bev *r);
/* Whether a flush would move bytes of a buffer that is lent. */
int glev_bev_flush_meets_loan(const struct glev_bev *r);
int64_t glev_bev_flush_native(struct glev_bev *r, short what, enum bufferevent_flush_mode mode);

/* --- flush.c --------------------------------------------------------------- */

/* Takes the next step of a FreeAfterFlush when all is written. Returns 1 if it has nothing more
 * to wait for. With the locks of the stack. */
int glev_bev_try_end_flush(struct glev_bev *r);
/* A FreeAfterFlush ends early: if it has not written all, the connection will be reset. Takes the
 * locks. */
void glev_bev_cut_off(struct glev_bev *r);
/* Writes what the socket takes of the output now, whether libevent or the fast path writes. */
void glev_bev_push(struct glev_bev *r);
/* Whether a FreeAfterFlush goes on after an event: it does if only the peer's stream has ended.
 * Takes the locks. */
int glev_bev_flush_goes_on(struct glev_bev *r, short what);

/* --- close.c --------------------------------------------------------------- */

/* C's callbacks, if they are due. It needs no lock. */
const struct glev_host *glev_bev_awaited(struct glev_bev *r);

/* --- bufferevent.c --------------------------------------------------------- */

void glev_bev_init(struct glev_bev *r, struct glev_base *b, struct bufferevent *bev, int type, int options, int loop_only, uintptr_t handle);

/* --- filter.c -------------------------------------------------------------- */

/* Prepares a bufferevent for another one that is to be put on it. On success, which is 0, the
 * lock of under is held until glev_filter_end_put. */
int glev_filter_put(struct glev_bev *under, struct glev_bev *above);
void glev_filter_end_put(struct glev_bev *under, int succeeded);
/* Passes an event of the bufferevent below on to libevent, or keeps it. */
void glev_filter_feed_event(struct glev_bev *r, short what, int err);
/* The part of an event of TLS, or of a filter on TLS, that the program has not been told. */
short glev_filter_news(struct glev_bev *r, short what);
/* An event was told. */
void glev_filter_told(struct glev_bev *r, short what);
/* The function for the input was called. Returns 1 if it rests until the next turn. */
int glev_filter_rests(struct glev_bev *r, int got_on);

#endif
