/*
 * native.h: the C side of the binding, as Go sees it.
 *
 * Each Go object that libevent may call back for has a record here. A record
 * is what libevent gets as its callback argument: it holds the native
 * pointer, the handle that leads back to the Go object, and the little state
 * that must change together with the native object, under libevent's own
 * lock. Records are calloc'ed with the object and freed after it.
 *
 * Functions return a result >= 0, or the negative of an errno, or one of the
 * GLEV_ codes below. Lock, operation and unlock are always one call: libevent's
 * locks belong to OS threads and a goroutine may change its thread between two
 * calls.
 */
#ifndef GLEV_NATIVE_H
#define GLEV_NATIVE_H

#include <pthread.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <event2/thread.h>
#include <event2/util.h>

enum {
	GLEV_RUNNING = -1000000,    /* somebody else runs the loop */
	GLEV_WRONG_LOOP = -1000001, /* loop goroutine only, called from elsewhere */
	GLEV_LENT = -1000002,       /* the buffer is lent to a Peek or Pullup */
	GLEV_FROZEN = -1000003,     /* that end of the buffer is frozen */
	GLEV_SHUT = -1000004,       /* the writing side was closed */
	GLEV_NO_SOCKET = -1000005,  /* the call needs a socket bufferevent */
	GLEV_NO_LIMIT = -1000006,   /* the call needs a rate limit */
	GLEV_CLOSED = -1000008,     /* freed by another thread meanwhile */
	GLEV_FILTERED = -1000007,   /* a filter on top has the callbacks */
	GLEV_IN_FILE = -1000009,    /* bytes that are still in a file */
	GLEV_LIMITED = -1000010,    /* has, or had, a rate limit */
};

/* --- sockaddr.c ---------------------------------------------------------- */

/* An address in a form that is the same on every system. */
struct glev_addr {
	int family;          /* AF_INET, AF_INET6, AF_UNIX, or AF_UNSPEC */
	int port;            /* host order */
	uint32_t scope;      /* IPv6 zone */
	int len;             /* bytes used of data */
	unsigned char data[108]; /* the IP address, or the path of the socket */
};

void glev_addr_from(struct glev_addr *a, const struct sockaddr *sa, socklen_t len);
/* Returns the length of what it wrote to ss, or -EINVAL. */
int glev_addr_to(const struct glev_addr *a, struct sockaddr_storage *ss);
int glev_addr_of_fd(int fd, int peer, struct glev_addr *a);

/* --- due.c --------------------------------------------------------------- */

/* What C, under a lock of libevent, wants Go to do: first member of the record
 * that it is about. */
struct glev_due {
	struct glev_due *next;
	void *handle;
	const void *thread; /* that of the Go call that caused it */
};

struct glev_base;

struct glev_dues {
	pthread_mutex_t lock;
	struct glev_due *first, **end;
};

/* How many wait for the Go calls that caused them; atomic. */
extern int glev_due_waiting;

void glev_dues_init(struct glev_dues *d);
/* Gives it to the loop of base, or if that is NULL to the Go call on this thread. */
void glev_due(struct glev_due *d, struct glev_base *base);
/* That for the loop of this thread, or for the Go call. */
void glev_due_here(struct glev_due *d);
/* Takes what is for the loop of base, or if that is NULL what this thread's Go call
 * caused, or with all what any caused. */
struct glev_due *glev_due_take(struct glev_base *base, int all);

/* --- block.c ------------------------------------------------------------- */

enum { GLEV_BLOCK = 128 * 1024 };

struct glev_block {
	struct glev_block *next; /* while it is spare */
	char data[GLEV_BLOCK];
};

struct glev_block *glev_block_get(void);
void glev_block_put(struct glev_block *b);
/* Makes its first n bytes part of evb, without a copy; it is put back when they are
 * gone, unless this fails. */
int glev_block_append(struct evbuffer *evb, struct glev_block *b, size_t n);
/* evbuffer_add in blocks, for much. */
int glev_block_copy(struct evbuffer *evb, const char *p, size_t n);

/* --- base.c -------------------------------------------------------------- */

struct glev_base {
	struct event_base *base;
	struct event *wake; /* a zero timer: runs the posted functions next turn */
	struct event *keep; /* keeps an otherwise empty loop from returning */
	void *handle;
	uintptr_t owner;    /* the thread that acts as the loop, or 0; atomic */
	int running;        /* Go runs the loop; atomic */
	int hosted;         /* C runs it, or did last; atomic */
	int pipe[2];        /* of a base without locks: wakes the loop in place of wake */
	int dns_freeing;    /* DNS bases that wait for a quiet moment to be freed in */
	int over;           /* it is freed when they are */
	struct glev_base *outer; /* for which that thread acts besides */
	struct glev_base *next;  /* of those that C made */
	struct glev_dues dues;
	int inside;         /* callbacks between begin() and done(); the loop's thread's */
	unsigned calls;     /* callbacks since the clock was looked at */
	int64_t yielded;    /* when Go's scheduler had its turn, in ns */
	struct glev_bev *unsent; /* have output to be written when the callback is done */
	struct glev_block *block; /* what is read next goes there first */
	struct glev_block *cipher; /* where a door has it before that */
	struct glev_fast_counters {
		uint64_t reads, writes, spills; /* atomic */
	} fast;
};

int glev_use_threads(void);
int glev_enable_lock_debugging(void);
/* no_locks: libevent has no locks for it, so that other threads may not even wake it. */
struct glev_base *glev_base_new(struct event_base *base, int no_locks, void *handle);
void glev_base_free(struct glev_base *b);
void glev_base_claim(struct glev_base *b);
void glev_base_unclaim(struct glev_base *b);
int glev_base_on_loop(struct glev_base *b);
void glev_base_is_foreign(struct glev_base *b);
/* Leaves a note with the base of C's whose loop this thread runs, if there is one. */
int glev_base_due(struct glev_due *d);
/* Around a callback of the base: if this thread does not act as its loop by what Go
 * knows, C runs it. */
int glev_base_visit(struct glev_base *b);
void glev_base_visited(struct glev_base *b, int visit);
/* Whether C runs the loop. */
int glev_base_hosted(struct glev_base *b);
/* The base as whose loop this thread acts, or NULL. */
struct glev_base *glev_base_here(void);
int glev_base_loop(struct glev_base *b, int flags);
int glev_base_running(struct glev_base *b);
int glev_base_wake(struct glev_base *b);
int glev_base_keep(struct glev_base *b, int on);
/* Whether it is time to let Go's scheduler have its turn; asked after each callback. */
int glev_base_yields(struct glev_base *b);
/* Lets what libevent finalizes in its loop be finalized; runs no closure. */
void glev_base_settle(struct glev_base *b);

/* --- event.c ------------------------------------------------------------- */

struct glev_event {
	struct event *ev;
	struct glev_base *base;
	void *handle;
};

struct glev_event *glev_event_new(struct glev_base *b, int fd, short what, void *handle);
int glev_event_add(struct glev_event *e, int64_t usec);
int64_t glev_event_set_priority(struct glev_event *e, int priority);
void glev_event_free(struct glev_event *e);

/* --- evbuffer.c ---------------------------------------------------------- */

struct glev_bev;

enum { GLEV_FRONT = 1, GLEV_BACK = 2 };

struct glev_buf {
	struct evbuffer *evb;
	struct glev_bev *owner; /* the bufferevent whose buffer this is, or NULL */
	int lent;               /* Peeks and their kin in progress */
	int frozen;             /* ends frozen when not lent */
	/* Not NULL while bytes of it may have no memory, but be in a file. */
	struct evbuffer_cb_entry *in_file;
	struct glev_buf_cb *callbacks;
};

struct glev_buf *glev_buf_new(void);
void glev_buf_free(struct glev_buf *b);
/* Whether the caller may use it now. */
int64_t glev_buf_check(struct glev_buf *b);
int64_t glev_buf_len(struct glev_buf *b);
int64_t glev_buf_add(struct glev_buf *b, const char *p, size_t n);
int64_t glev_buf_prepend(struct glev_buf *b, const char *p, size_t n);
int64_t glev_buf_add_buffer(struct glev_buf *dst, struct glev_buf *src);
int64_t glev_buf_prepend_buffer(struct glev_buf *dst, struct glev_buf *src);
int64_t glev_buf_remove(struct glev_buf *b, char *p, size_t n);
int64_t glev_buf_remove_buffer(struct glev_buf *src, struct glev_buf *dst, size_t n);
int64_t glev_buf_drain(struct glev_buf *b, size_t n);
int64_t glev_buf_copyout(struct glev_buf *b, char *p, size_t n);
/* *line is malloc'ed; NULL when there is no whole line. */
int64_t glev_buf_readln(struct glev_buf *b, int eol, char **line);
int64_t glev_buf_copyout_from(struct glev_buf *b, char *p, size_t n, size_t from);
/* Looks at no byte at or after to. */
int64_t glev_buf_search(struct glev_buf *b, const char *what, size_t n, size_t from, size_t to);
int64_t glev_buf_search_eol(struct glev_buf *b, size_t from, int eol, size_t *eol_len);
int64_t glev_buf_add_iovec(struct glev_buf *b, struct evbuffer_iovec *vec, int n);
int64_t glev_buf_expand(struct glev_buf *b, size_t n);
int64_t glev_buf_contiguous_space(struct glev_buf *b);
int64_t glev_buf_read(struct glev_buf *b, int fd, int n);
int64_t glev_buf_write(struct glev_buf *b, int fd, int64_t n);
int64_t glev_buf_set_max_read(struct glev_buf *b, size_t n);
int64_t glev_buf_max_read(struct glev_buf *b);
int64_t glev_buf_freeze(struct glev_buf *b, int end, int on);
/* These lend the buffer and fill vec, and return the number of extents. */
/* May return more than nvec: then nothing is lent. n < 0: all. The last extent may
 * go on after the n bytes. */
int64_t glev_buf_peek(struct glev_buf *b, size_t from, int64_t n, struct evbuffer_iovec *vec, int nvec);
/* The first n bytes in one extent; n < 0: all. */
int64_t glev_buf_pullup(struct glev_buf *b, int64_t n, struct evbuffer_iovec *vec);
/* Room for n bytes, in up to two extents. */
int64_t glev_buf_reserve(struct glev_buf *b, size_t n, struct evbuffer_iovec vec[2]);
/* Undo that; commit makes used bytes of what was reserved part of the buffer. */
void glev_buf_unlend(struct glev_buf *b);
int64_t glev_buf_commit(struct glev_buf *b, struct evbuffer_iovec *vec, int nvec, size_t used);
/* Brings the frozen ends back to what they should be; call with the lock. */
void glev_buf_refreeze(struct glev_buf *b);
/* Takes the lock, or says why the caller may not use the buffer. */
int64_t glev_buf_lock(struct glev_buf *b);
/* Why libevent refuses an operation at that end, or 0; call with the lock. */
int64_t glev_buf_refusal(struct glev_buf *b, int end);
/* Forgets that bytes may be in a file; call with the lock. */
void glev_buf_out_of_file(struct glev_buf *b);
/* Appends scratch, or fails and leaves it. */
int64_t glev_buf_take(struct glev_buf *b, struct evbuffer *scratch);

/* --- reference.c --------------------------------------------------------- */

struct glev_ref {
	struct glev_due due;
};

struct glev_ref *glev_ref_new(void *handle);
/* It is due when libevent is done with the bytes. */
int64_t glev_buf_add_reference(struct glev_buf *b, const char *p, size_t n, struct glev_ref *ref);

/* --- filesegment.c ------------------------------------------------------- */

struct glev_file {
	struct glev_due due;
	int fd;   /* ours */
	int mmap; /* may be mapped */
	int no_sendfile;
	int refs; /* its own, and one for each chain that reads from it; atomic */
};

/* Duplicates fd. */
struct glev_file *glev_file_new(int fd, int mmap, int no_sendfile, void *handle, int *err);
/* Closes the descriptor with the last reference; then it is due. */
void glev_file_release(struct glev_file *f);
/* length > 0, and the range is one of the file. */
int64_t glev_buf_add_file(struct glev_buf *b, struct glev_file *f, int64_t offset, int64_t length);

/* --- buffercallback.c ---------------------------------------------------- */

struct glev_buf_cb {
	struct glev_due due;
	struct glev_buf_cb *next; /* of the same buffer */
	struct glev_buf *buf;
	struct evbuffer_cb_entry *entry;
	uint64_t added, deleted; /* since Go last looked; atomic */
	int state;               /* GLEV_CB_DUE...; atomic */
};

struct glev_buf_cb *glev_buf_cb_new(void *handle);
int64_t glev_buf_cb_add(struct glev_buf *b, struct glev_buf_cb *cb);
int64_t glev_buf_cb_enable(struct glev_buf_cb *cb, int on);
/* Once, by remove or by remove_all; then it is due for a last time. */
int64_t glev_buf_cb_remove(struct glev_buf *b, struct glev_buf_cb *cb);
void glev_buf_cb_remove_all(struct glev_buf *b);
/* Whether one of them waits for its loop; call with the lock. */
int glev_buf_cb_any_due(struct glev_buf *b);
/* Makes it due with one more change; call with the lock. */
void glev_buf_cb_changed(struct glev_buf_cb *cb, size_t added, size_t deleted);
struct glev_change {
	uint64_t added, deleted;
	int last; /* there will be no more */
};

/* What came together since this was asked last. */
struct glev_change glev_buf_cb_collect(struct glev_buf_cb *cb);

/* --- bufferevent.c ------------------------------------------------------- */

enum { GLEV_CB_READ = 1, GLEV_CB_WRITE = 2 };
enum { GLEV_SOCKET, GLEV_PAIR, GLEV_FILTER };
enum { GLEV_FLUSHING = 1, GLEV_DISCARDING };
enum { GLEV_ASKED = 1, GLEV_RECEIVED };
enum { GLEV_LOOKING_UP = 1, GLEV_TRYING, GLEV_GAVE_UP };
enum { GLEV_LIMIT_RATE = 1, GLEV_LIMIT_GROUP = 2, GLEV_LIMIT_SINGLE_READ = 4, GLEV_LIMIT_SINGLE_WRITE = 8, GLEV_LIMIT_BUFFER = 16 };

/* Made once for each connection: what is small is kept small. */
struct glev_bev {
	struct bufferevent *bev;
	struct glev_base *base;
	void *handle;
	struct glev_buf in, out;
	struct evbuffer_cb_entry *in_cb;
	size_t high;              /* read high watermark */
	size_t low, write_low;    /* low watermarks */
	struct event *limit;      /* ends a linger, or NULL */
	struct event *flushed;    /* the output has become empty, and somebody waits */
	struct evbuffer_cb_entry *out_cb; /* sees that, or NULL */
	struct glev_bucket *rate; /* its rate limit, or NULL */
	struct glev_bev *under;   /* of a filter, if it is ours */
	struct glev_bev *above;   /* the filter on top, which has libevent's callbacks, or NULL */
	struct glev_door *door;   /* adopt.c: of a kind that another package made, or NULL */
	struct glev_host *host;   /* adopt.c: of one that is C's, or NULL */
	struct evbuffer_cb_entry *under_in_cb, *under_out_cb;
	uint64_t changes;         /* of the buffers that a filter's functions see; atomic */
	struct glev_bev *partner; /* of an end of a pair, until that is gone altogether */
	int64_t dials;            /* how often glev_bev_dial was called */

	short held;             /* directions the user has on and we keep off for now */
	short priority;         /* the user's, or -1 */
	short triggered_events; /* event callbacks that were asked for */
	int put_off;            /* how often the end of a pair was */
	int8_t triggered;       /* a read callback was asked for, whatever the input */
	int8_t touched;         /* a callback of it may have been due since it was made */
	int8_t kind;            /* GLEV_SOCKET... */
	int8_t close_on_free;
	int8_t loop_only;
	int8_t quiet;           /* glev_bev_quiet was called: nothing may change any more */
	int8_t closures;        /* GLEV_CB_*: which closures the user has set; atomic */
	int8_t connecting;      /* EventConnected is due */
	int8_t dialing;         /* GLEV_LOOKING_UP..., of the last dial, until it is connected */
	int8_t given;           /* that one started with a descriptor */
	int8_t shut;            /* 1: shut down writing when the output is empty, 2: done */
	int8_t lingering;       /* GLEV_FLUSHING... */
	int8_t paused;          /* input at its high watermark, closure drained nothing */
	int8_t drained;         /* there is a high watermark, and the closure drained something */
	int8_t limited;         /* has a timer of a limit, for good; it stays on its base */
	int8_t moving;          /* to another base */
	int8_t finished;        /* of a pair: its end was told to the other one */

	/* fastpath.c */
	int8_t plain;           /* not for this one: the user's wish, or C has the pointer */
	int8_t stream;          /* the descriptor is a stream socket */
	int8_t open;            /* and connected */
	int8_t limits;          /* GLEV_LIMIT_*: what libevent must count */
	int8_t fast;            /* the fast path carries it now */
	int8_t reading;         /* reader is added */
	int8_t spilled;         /* libevent has the writing, or is to have it, until the output is empty */
	int8_t direct;          /* within a call that writes at once */
	int8_t mute;            /* a write callback for nothing may be due */
	int8_t written;         /* something was written, or a write callback asked for, since the last one */
	int8_t write_timed;     /* there is a write timeout */
	int8_t timed;           /* directions that have, or had, a timeout */
	int8_t small_reads;     /* that needed much less room, in a row */
	int8_t receiver;        /* the user has one; atomic */
	int8_t receiving;       /* GLEV_ASKED..., while it is called; the loop's thread's */
	uint32_t room;          /* that the next read makes for what it finds */
	int read_error;         /* was found behind bytes, and is to be told next */
	struct timeval read_timeout;
	struct event *reader;   /* behind the record; NULL for what has no fast path */
	struct glev_writer *writer; /* behind that, for a door; NULL: libevent writes what is spilled */
	struct evbuffer_cb_entry *unsent_cb;
	struct glev_bev *unsent_next, **unsent; /* on the list of the base, or NULL */
};

/* Leaves the function with GLEV_WRONG_LOOP if the bufferevent, which may be NULL, is
 * for its loop alone and this is another thread. */
#define GLEV_CHECK_LOOP(r)                                                    \
	do {                                                                  \
		const struct glev_bev *checked = (r);                         \
		if (checked && checked->loop_only &&                          \
		    !glev_base_on_loop(checked->base))                        \
			return GLEV_WRONG_LOOP;                               \
	} while (0)

struct glev_bev *glev_bev_new(struct glev_base *b, int fd, int options, int loop_only, int plain, void *handle, int *err);
int glev_bev_new_pair(struct glev_base *b, int options, int loop_only, void *handles[2], struct glev_bev *out[2]);
/* After it no callback starts, nothing is registered, and the descriptor is
 * closed if it is ours. The memory stays until glev_bev_free. */
void glev_bev_quiet(struct glev_bev *r);
void glev_bev_free(struct glev_bev *r);
/* In its place, when libevent cannot free: lets go what the buffers hold of Go. */
void glev_bev_abandon(struct glev_bev *r);
/* GLEV_WRONG_LOOP if the caller may not use it now, else 0. */
int64_t glev_bev_check(struct glev_bev *r);
int64_t glev_bev_closures(struct glev_bev *r, int closures);
int64_t glev_bev_enable(struct glev_bev *r, short what);
int64_t glev_bev_disable(struct glev_bev *r, short what);
int64_t glev_bev_enabled(struct glev_bev *r);
int64_t glev_bev_timeouts(struct glev_bev *r, int64_t read_usec, int64_t write_usec);
int64_t glev_bev_watermark(struct glev_bev *r, short what, size_t low, size_t high);
int64_t glev_bev_get_watermark(struct glev_bev *r, short what, size_t *low, size_t *high);
int64_t glev_bev_write(struct glev_bev *r, const char *p, size_t n);
int64_t glev_bev_write_buffer(struct glev_bev *r, struct glev_buf *src);
int64_t glev_bev_read(struct glev_bev *r, char *p, size_t n);
int64_t glev_bev_read_buffer(struct glev_bev *r, struct glev_buf *dst);
int64_t glev_bev_connect(struct glev_bev *r, const struct glev_addr *a);
/* Begins to connect by name; returns a number for it, 1 or more. */
int64_t glev_bev_dial(struct glev_bev *r);
/* Tries an address, or with NULL gives up; on the loop's thread. GLEV_CLOSED if
 * something else has begun since. */
int64_t glev_bev_try(struct glev_bev *r, int64_t dial, const struct glev_addr *a);
/* Has the event callback told that there is no address. */
int64_t glev_bev_dial_failed(struct glev_bev *r, int64_t dial);
/* Whether that one is still under way. */
int glev_bev_dialing(struct glev_bev *r, int64_t dial);
int64_t glev_bev_fd(struct glev_bev *r);
int64_t glev_bev_addr(struct glev_bev *r, int peer, struct glev_addr *a);
int64_t glev_bev_setfd(struct glev_bev *r, int fd);
int64_t glev_bev_flush(struct glev_bev *r, short what, int mode);
int64_t glev_bev_trigger(struct glev_bev *r, short what, int flags);
int64_t glev_bev_trigger_event(struct glev_bev *r, short what);
int64_t glev_bev_set_priority(struct glev_bev *r, int priority);
int64_t glev_bev_priority(struct glev_bev *r);
/* Moves it to another base; on the thread of its loop, with nobody else inside. */
int64_t glev_bev_set_base(struct glev_bev *r, struct glev_base *to);
/* Also closes the old descriptor. */
int64_t glev_bev_replacefd(struct glev_bev *r, int fd);
int64_t glev_bev_close_write(struct glev_bev *r);
/* Returns 1 when there is nothing to wait for. */
int64_t glev_bev_linger(struct glev_bev *r, int64_t limit_usec);
void glev_bev_cut_off(struct glev_bev *r);
/* Used by the callbacks. */
void glev_bev_apply(struct glev_bev *r);
int64_t glev_bev_try_shut(struct glev_bev *r);
int glev_bev_lingered(struct glev_bev *r);
int glev_bev_watch_input(struct glev_bev *r);
/* Tells libevent, not the fast path. */
int glev_bev_native_timeouts(struct glev_bev *r, const struct timeval *rd, const struct timeval *wr);
void glev_bev_connected(struct glev_bev *r, int indeed);
int glev_bev_all_written(struct glev_bev *r);
int glev_bev_on_pair(struct glev_bev *r);
/* Itself, or the socket or pair below a stack of filters. */
struct glev_bev *glev_bev_bottom(struct glev_bev *r);
/* The first in it of a kind that another package made, or else that one. */
struct glev_bev *glev_bev_carrier(struct glev_bev *r);
/* Used by filter.c and adopt.c. */
void glev_bev_init(struct glev_bev *r, struct glev_base *b, struct bufferevent *bev, int kind, int options, int loop_only, void *handle);
void glev_bev_install(struct glev_bev *r, int write);

/* From now on C code may do with it what it likes. */
struct bufferevent *glev_bev_expose(struct glev_bev *r);

/* --- adopt.c --------------------------------------------------------------- */

/* The C functions of internal/adopt. */
struct glev_door {
	struct bufferevent *(*make)(struct event_base *, struct bufferevent *, int, void *);
	void *arg;
	void (*gone)(void *);
	int (*codes)(struct bufferevent *, unsigned long *, int);
	int (*shutdown)(struct bufferevent *);
	void (*socket)(struct bufferevent *);
	int (*begin)(struct bufferevent *);
	void (*end)(struct bufferevent *);
	ssize_t (*recv)(struct bufferevent *, void *, size_t, void *, size_t);
	int (*pending)(struct bufferevent *, int);
	ssize_t (*send)(struct bufferevent *, size_t);
};

enum { GLEV_CODES = 16 };

/* What C had in a bufferevent that stays its own. */
struct glev_host {
	bufferevent_data_cb read, write;
	bufferevent_event_cb event;
	void *arg;
	const struct ev_token_bucket_cfg *rate; /* or NULL */
	int in_frozen, out_frozen;
	int awaited; /* Free was called, elsewhere than on the loop: C's callbacks are due; atomic */
};

/* Takes over one that C made, or, on the loop's thread, borrows it. */
int64_t glev_adopt(struct glev_base *b, struct bufferevent *bev, int options, int loop_only, int borrow, void *handle, struct glev_bev **out);
/* For one that was borrowed, and whose Free has to wait for the loop: what comes until then
 * is for C's callbacks, which awaited gives. */
void glev_adopt_await(struct glev_bev *r);
const struct glev_host *glev_adopt_awaited(struct glev_bev *r);
/* In place of glev_bev_quiet for one that was borrowed: gives it back. */
void glev_adopt_return(struct glev_bev *r);
int64_t glev_adopt_new(struct glev_base *b, struct glev_bev *under, const struct glev_door *door, int options, int loop_only, int plain, void *handle, struct glev_bev **out);
/* Before it is freed: has the door learn of its end. With the loop's thread. */
void glev_adopt_free(struct glev_bev *r);

/* --- fastpath.c ----------------------------------------------------------- */

struct glev_writer {
	struct timeval timeout;
	int8_t writing; /* the event behind it is added */
};

/* What is allocated behind a record for them; makes the pointers. */
size_t glev_fast_size(int door);
void glev_fast_init(struct glev_bev *r);

/* All with the lock of the bufferevent, but glev_fast_read, _writable, _free,
 * glev_fast_forget and glev_base_flush, which are the loop's thread's. */

/* Goes to the fast path or back to plain libevent; call after what decides it has
 * changed, or, for what libevent must do itself, after saying so and before that. */
void glev_fast_choose(struct glev_bev *r);
/* The directions that libevent must not have. */
short glev_fast_carries(const struct glev_bev *r);
/* Has the reader registered exactly while there is something to read for. */
int glev_fast_sync(struct glev_bev *r);
/* That, and begins a read timeout anew. */
int glev_fast_restart(struct glev_bev *r);
/* The timeouts have changed. */
void glev_fast_timeout(struct glev_bev *r, const struct timeval *rd, const struct timeval *wr);
int glev_fast_set_priority(struct glev_bev *r, int priority);
/* The input has changed, or its high mark: as in libevent, where there is a high mark
 * a read timeout begins anew. */
void glev_fast_input(struct glev_bev *r);
/* The watermarks of these directions have changed. */
void glev_fast_marks(struct glev_bev *r, short what);
/* Returns 1 if the read closure is to be called. */
int glev_fast_read(struct glev_bev *r, short what);
/* Whether the receiver is to be called before that. Within it glev_bev_receive reads to p
 * in place of the input. */
int glev_fast_receives(struct glev_bev *r);
int64_t glev_bev_receiver(struct glev_bev *r, int on);
int64_t glev_bev_receive(struct glev_bev *r, char *p, size_t n);
/* The input of one with a door has changed, and libevent reads it. */
void glev_fast_remind(struct glev_bev *r);
/* Nothing more will come of that. */
void glev_fast_hush(struct glev_bev *r);
/* What was spilled by a door can be written. */
void glev_fast_writable(struct glev_bev *r, short what);
/* Something was appended to the output; something was written from it. */
void glev_fast_unsent(struct glev_bev *r);
void glev_fast_written(struct glev_bev *r);
/* A write callback for nothing may be due: it is not to be made, unless something is
 * written before it. Call with the lock. */
void glev_fast_mute(struct glev_bev *r);
/* A write callback is here; returns 0 if it is for nothing. */
int glev_fast_write_callback(struct glev_bev *r);
/* Writes what is in the output. */
void glev_fast_write(struct glev_bev *r);
/* Whether n bytes may be written past the output: nothing is in it, and nobody looks. */
int glev_fast_straight(const struct glev_bev *r, size_t n);
/* Does so, and returns how many; *err is why not all. What is left is appended to the
 * output, and then the outcome told. */
size_t glev_fast_send(struct glev_bev *r, const char *p, size_t n, int *err);
void glev_fast_sent(struct glev_bev *r, size_t sent, int err);
void glev_base_flush(struct glev_base *b);
void glev_fast_counters(struct glev_base *b, struct glev_fast_counters *c);
void glev_fast_forget(struct glev_bev *r);
void glev_fast_free(struct glev_bev *r);

/* --- filter.c ------------------------------------------------------------- */

struct glev_bev *glev_filter_new(struct glev_bev *under, int in, int out, int options, int loop_only, void *handle, int *err);
int glev_filter_put(struct glev_bev *under, struct glev_bev *above);
void glev_filter_is_put(struct glev_bev *under, int indeed);
/* Between the two, a filter function that this thread calls panics into the Go
 * method that made the call; leave returns the handle of that panic, or NULL. */
void glev_filter_enter(void);
void *glev_filter_leave(void);
int glev_filter_panicked(void *panic);
/* Around a filter function; within reports whether this thread is inside of one. */
void glev_filter_begin(void);
void glev_filter_end(void);
int glev_filter_within(void);

/* --- ratelimit.c --------------------------------------------------------- */

struct glev_rate {
	size_t read_rate, read_burst, write_rate, write_burst; /* bytes a tick; rate 0: unlimited */
	int64_t tick_msec;
};

enum {
	GLEV_READ_LIMIT,
	GLEV_WRITE_LIMIT,
	GLEV_MAX_TO_READ,
	GLEV_MAX_TO_WRITE,
	GLEV_MAX_SINGLE_READ,
	GLEV_MAX_SINGLE_WRITE,
};

/* What libevent has of it. */
struct glev_bucket {
	struct ev_token_bucket_cfg *cfg;
	struct glev_rate rate; /* no rate is 0 */
};

void glev_bucket_free(struct glev_bucket *b);
/* NULL takes the limit away. */
int64_t glev_bev_set_rate(struct glev_bev *r, const struct glev_rate *l);
int64_t glev_bev_level(struct glev_bev *r, int which, int64_t *level);
int64_t glev_bev_take(struct glev_bev *r, int which, int64_t n);
int64_t glev_bev_set_max_single(struct glev_bev *r, int reading, size_t n);
struct bufferevent_rate_limit_group *glev_group_new(struct glev_base *b, const struct glev_rate *l);
int64_t glev_group_set(struct bufferevent_rate_limit_group *g, const struct glev_rate *l);
int64_t glev_group_remove(struct glev_bev *r);
int64_t glev_group_add(struct bufferevent_rate_limit_group *g, struct glev_bev *r);
void glev_group_totals(struct bufferevent_rate_limit_group *g, uint64_t *read, uint64_t *written);
/* most is the burst, 0 for none. */
int64_t glev_group_take(struct bufferevent_rate_limit_group *g, int which, int64_t n, size_t most);

/* --- listener.c ---------------------------------------------------------- */

#ifdef LEV_OPT_BIND_IPV4_AND_IPV6
enum { GLEV_BIND_IPV4_AND_IPV6 = LEV_OPT_BIND_IPV4_AND_IPV6 };
#else
enum { GLEV_BIND_IPV4_AND_IPV6 = 0 };
#endif

struct glev_lev {
	struct evconnlistener *lev;
	struct glev_base *base;
	void *handle;
	struct event *retry; /* enables again after accept failed */
	int wanted;          /* the user wants it enabled */
	int backoff_ms;      /* 0 while accept works */
};

struct glev_lev *glev_lev_new(struct glev_base *b, const struct glev_addr *a, unsigned flags, int backlog, void *handle, int *err);
/* On a bound or listening socket. */
struct glev_lev *glev_lev_new_fd(struct glev_base *b, int fd, unsigned flags, int backlog, void *handle, int *err);
int glev_lev_enable(struct glev_lev *l, int on);
void glev_lev_free(struct glev_lev *l);

/* --- dns.c ----------------------------------------------------------------- */

struct glev_dns {
	struct evdns_base *evdns;
	struct glev_base *base;
	void *handle;
	struct event *step;          /* looks for a quiet moment */
	struct glev_lookup *lookups; /* that were started and are not yet freed */
	int clearing;                /* the name servers go at the next quiet moment */
	int freeing;                 /* all of it goes then */
};

struct glev_lookup {
	struct glev_dns *dns;
	struct glev_lookup *next, **link; /* link is NULL before the start */
	void *handle;                     /* NULL when Go has done with it */
	struct evdns_getaddrinfo_request *req;
	int busy;                         /* libevent will call back */
	int wanted;                       /* Go waits for an answer */
	int family;
	char host[];
};

struct glev_dns *glev_dns_new(struct glev_base *b, void *handle);
/* At once; only if there was no lookup yet. */
void glev_dns_discard(struct glev_dns *d);
/* Frees it as soon as that is safe, and all its lookups are. These, and the
 * functions of lookups but glev_lookup_new, run on the loop's thread. */
void glev_dns_free(struct glev_dns *d);
/* Returns 1 if it is done, 0 if it has to wait; then glevDNSCleared is called. */
int glev_dns_clear(struct glev_dns *d);
int glev_dns_add_nameserver(struct glev_dns *d, const struct glev_addr *a);
/* Returns 0 when there are no more than i. */
int glev_dns_nameserver(struct glev_dns *d, int i, struct glev_addr *a);
int glev_dns_resolv_conf(struct glev_dns *d, int options, const char *path);
struct glev_lookup *glev_lookup_new(struct glev_dns *d, const char *host, int family, void *handle);
void glev_lookup_start(struct glev_lookup *l);
void glev_lookup_free(struct glev_lookup *l);
/* Used by the callbacks. */
int glev_dns_step(struct glev_dns *d, short what);
int glev_lookup_answered(struct glev_lookup *l, int code);

/* --- callbacks.c: the callbacks given to libevent ------------------------- */

void glev_on_wake(evutil_socket_t fd, short what, void *arg);
void glev_on_nothing(evutil_socket_t fd, short what, void *arg);
void glev_on_event(evutil_socket_t fd, short what, void *arg);
void glev_on_bev_read(struct bufferevent *bev, void *arg);
void glev_on_bev_write(struct bufferevent *bev, void *arg);
void glev_on_bev_event(struct bufferevent *bev, short what, void *arg);
void glev_on_bev_limit(evutil_socket_t fd, short what, void *arg);
void glev_on_bev_flushed(evutil_socket_t fd, short what, void *arg);
enum bufferevent_filter_result glev_on_filter_in(struct evbuffer *src, struct evbuffer *dst, ev_ssize_t limit, enum bufferevent_flush_mode mode, void *arg);
enum bufferevent_filter_result glev_on_filter_out(struct evbuffer *src, struct evbuffer *dst, ev_ssize_t limit, enum bufferevent_flush_mode mode, void *arg);
void glev_on_filter_change(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg);
void glev_on_readable(evutil_socket_t fd, short what, void *arg);
void glev_on_writable(evutil_socket_t fd, short what, void *arg);
void glev_on_unsent(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg);
void glev_on_output(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg);
void glev_on_input(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg);
void glev_on_in_file(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg);
void glev_on_buf_change(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg);
void glev_on_block(const void *p, size_t n, void *arg);
void glev_on_reference(const void *p, size_t n, void *arg);
void glev_on_gone(const void *p, size_t n, void *arg);
void glev_on_segment(const struct evbuffer_file_segment *seg, int flags, void *arg);
void glev_on_accept(struct evconnlistener *lev, evutil_socket_t fd, struct sockaddr *sa, int len, void *arg);
void glev_on_accept_error(struct evconnlistener *lev, void *arg);
void glev_on_accept_retry(evutil_socket_t fd, short what, void *arg);
void glev_on_dns_step(evutil_socket_t fd, short what, void *arg);
void glev_on_addrinfo(int code, struct evutil_addrinfo *res, void *arg);

/* --- log.c ---------------------------------------------------------------- */

/* Makes libevent log into the ring; returns the descriptor that becomes
 * readable when there is something in it, or -errno. */
int glev_log_start(void);
void glev_log_stop(void);
/* Takes the oldest message; returns its length or -1 when there is none. */
int glev_log_next(char *buf, int size, int *severity, uint64_t *lost);

#endif
