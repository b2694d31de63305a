/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * native.h: the C half of the binding, as Go sees it.
 *
 * Each Go object that libevent may call back for has a record here. libevent
 * gets the record as its callback argument. The record holds the native
 * pointer, the handle that leads back to the Go object, and the state that must
 * change together with the native object, under libevent's own lock. It is
 * allocated with the object and freed after it.
 *
 * A function that returns int64_t returns a result of 0 or more, the negative
 * of an errno, or one of the GLEV_ codes below. It takes the lock, works and
 * releases the lock in one call: libevent's locks belong to OS threads, and a
 * goroutine may change its thread between two calls.
 *
 * The C files share more, which Go does not see: base.h, bev.h, callbacks.h.
 */
#ifndef GLEV_NATIVE_H
#define GLEV_NATIVE_H

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
	GLEV_RUNNING = -1000000,    /* another thread runs the loop */
	GLEV_WRONG_LOOP = -1000001, /* only the loop's thread may make this call */
	GLEV_LENT = -1000002,       /* a Peek, Pullup or Reserve has the buffer's memory */
	GLEV_FROZEN = -1000003,     /* that end of the buffer is frozen */
	GLEV_SHUT = -1000004,       /* CloseWrite was called */
	GLEV_NO_SOCKET = -1000005,  /* only a socket bufferevent can do this */
	GLEV_NO_LIMIT = -1000006,   /* there is no rate limit */
	GLEV_FILTERED = -1000007,   /* the filter on top has the callbacks */
	GLEV_CLOSED = -1000008,     /* another thread has freed it */
	GLEV_IN_FILE = -1000009,    /* some bytes are still in a file, not in memory */
	GLEV_LIMITED = -1000010,    /* it has, or had, a rate limit */
	GLEV_NO_STREAM = -1000011,  /* the descriptor is a socket that carries no stream */
	GLEV_LISTENS = -1000012,    /* the descriptor is a listening socket */
};

struct glev_base;
struct glev_bev;
struct glev_buf;

/* --- sockaddr.c ---------------------------------------------------------- */

/* An address in a form that is the same on every system. */
struct glev_addr {
	int family;     /* AF_INET, AF_INET6, AF_UNIX, or AF_UNSPEC */
	int port;       /* in host order */
	uint32_t scope; /* the zone of an IPv6 address */
	int len;        /* the bytes of data in use */
	unsigned char data[108]; /* the IP address, or the path of the socket */
};

int glev_addr_of_fd(int fd, int peer, struct glev_addr *a);
/* Both addresses of a connection, that of this end first. Returns 0, the negative of an errno,
 * or GLEV_LISTENS for a listening socket. */
int64_t glev_addrs_of_fd(int fd, struct glev_addr a[2]);

/* --- log.c --------------------------------------------------------------- */

/* Makes libevent log into a ring. Returns the descriptor that becomes readable
 * when there is a message in the ring, or the negative of an errno. */
int glev_log_start(void);
void glev_log_stop(void);
/* Takes the oldest message. Returns its length, or -1 if there is none. */
int glev_log_next(char *buf, int size, int *severity, uint64_t *lost);

/* --- thread.c ------------------------------------------------------------ */

int glev_use_threads(void);
int glev_enable_lock_debugging(void);
/* Between claim and unclaim the calling thread acts as the loop of the base. */
void glev_base_claim(struct glev_base *b);
void glev_base_unclaim(struct glev_base *b);
/* Whether the calling thread acts as the loop of the base. */
int glev_base_on_loop(struct glev_base *b);
/* Whether C runs the loop, or ran it last. */
int glev_base_hosted(struct glev_base *b);
/* The base as whose loop the calling thread acts, or NULL. */
struct glev_base *glev_base_here(void);
/* Says that C made the base, so that its loop may start without a word to us. */
void glev_base_set_foreign(struct glev_base *b);
/* Has the loop run the queued Go functions in its next turn. It cannot fail. */
void glev_base_wake(struct glev_base *b);

/* A filter function that panics between enter and leave makes its panic come
 * out of leave, which returns the handle of the panic, or 0. The calling
 * goroutine must keep its thread in between. */
void glev_filter_enter(void);
uintptr_t glev_filter_leave(void);
/* Leaves a panic with the calling thread. Returns 0 if no leave will find it. */
int glev_filter_panicked(uintptr_t panic);

/* --- due.c --------------------------------------------------------------- */

/* A note: what C, under a lock of libevent, wants Go to do later. It is the
 * first member of the record that it is about. */
struct glev_due {
	struct glev_due *next;
	uintptr_t handle;
	const void *thread; /* the thread of the Go call that caused it */
};

/* The number of notes that wait for the Go calls that caused them; atomic. */
extern int glev_due_waiting;

/* Takes the notes for the loop of base, or, if base is NULL, those that the Go call on this
 * thread caused. */
struct glev_due *glev_due_take(struct glev_base *base);

/* --- later.c ------------------------------------------------------------- */

/* What waits for the loop's next turn. It is a member of the record that it is about. */
struct glev_later {
	struct glev_later *next, **at; /* at is NULL while it does not wait */
	void (*run)(struct glev_later *);
};

/* --- base.c -------------------------------------------------------------- */

/* no_locks: libevent has no locks for the base, so another thread may not even
 * wake it. */
struct glev_base *glev_base_new(struct event_base *base, int no_locks, void *handle);
void glev_base_free(struct glev_base *b);
int glev_base_loop(struct glev_base *b, int flags);
/* Whether an empty loop keeps running. */
void glev_base_keep(struct glev_base *b, int on);
/* Runs libevent's finalizers, and no closure. */
void glev_base_finalize(struct glev_base *b);

struct glev_fast_counters {
	uint64_t reads, writes, spills;
};

void glev_fast_counters(struct glev_base *b, struct glev_fast_counters *c);

/* --- event.c ------------------------------------------------------------- */

struct glev_event {
	struct event *ev;
	struct glev_base *base;
	uintptr_t handle;
	struct glev_later later;
	short active; /* what it will fire with in the next turn; atomic */
	short waits;  /* EV_READ and EV_WRITE, as it was made with */
};

struct glev_event *glev_event_new(struct glev_base *b, int fd, short what, uintptr_t handle);
int64_t glev_event_add(struct glev_event *e, int64_t usec);
/* tv is NULL, a timeout, or a common timeout of the base. */
int64_t glev_event_add_common(struct glev_event *e, const struct timeval *tv);
int glev_event_del(struct glev_event *e);
void glev_event_active(struct glev_event *e, short what);
int glev_event_pending(struct glev_event *e, short what);
int64_t glev_event_set_priority(struct glev_event *e, int priority);
void glev_event_free(struct glev_event *e);

/* --- lend.c -------------------------------------------------------------- */

enum { GLEV_FRONT = 1, GLEV_BACK = 2 };

/* Whether the caller may use the buffer now. */
int64_t glev_buf_check(struct glev_buf *b);
int64_t glev_buf_freeze(struct glev_buf *b, int end, int on);
/* Unlocks what a Goexit on this thread has left locked. */
void glev_buf_abandon(struct glev_buf *b);

/* --- evbuffer.c ---------------------------------------------------------- */

struct glev_buf *glev_buf_new(void);
void glev_buf_free(struct glev_buf *b);
int64_t glev_buf_len(struct glev_buf *b);
int64_t glev_buf_add(struct glev_buf *b, const char *p, size_t n);
int64_t glev_buf_prepend(struct glev_buf *b, const char *p, size_t n);
int64_t glev_buf_add_buffer(struct glev_buf *dst, struct glev_buf *src);
int64_t glev_buf_prepend_buffer(struct glev_buf *dst, struct glev_buf *src);
int64_t glev_buf_remove(struct glev_buf *b, char *p, size_t n);
int64_t glev_buf_remove_buffer(struct glev_buf *src, struct glev_buf *dst, size_t n);
int64_t glev_buf_drain(struct glev_buf *b, size_t n);
int64_t glev_buf_copyout(struct glev_buf *b, char *p, size_t n);
int64_t glev_buf_copyout_from(struct glev_buf *b, char *p, size_t n, size_t from);
/* *line is malloc'ed, or NULL if there is no whole line. */
int64_t glev_buf_readln(struct glev_buf *b, int eol, char **line);
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

/* peek, pullup and reserve lend the buffer, fill vec, and return the number of
 * extents. unlend and commit end the loan. */

/* n < 0 means all bytes. If the result is more than nvec, nothing is lent. The
 * last extent may go on after the n bytes. */
int64_t glev_buf_peek(struct glev_buf *b, size_t from, int64_t n, struct evbuffer_iovec *vec, int nvec);
/* The first n bytes, or all if n < 0, in one extent. */
int64_t glev_buf_pullup(struct glev_buf *b, int64_t n, struct evbuffer_iovec *vec);
/* Room for n bytes, in up to two extents. */
int64_t glev_buf_reserve(struct glev_buf *b, size_t n, struct evbuffer_iovec vec[2]);
void glev_buf_unlend(struct glev_buf *b);
/* Also makes used bytes of what was reserved part of the buffer. */
int64_t glev_buf_commit(struct glev_buf *b, struct evbuffer_iovec *vec, int nvec, size_t used);

/* --- reference.c --------------------------------------------------------- */

struct glev_ref {
	struct glev_due due;
};

struct glev_ref *glev_ref_new(uintptr_t handle);
/* ref is due when libevent has no more use for the bytes. */
int64_t glev_buf_add_reference(struct glev_buf *b, const char *p, size_t n, struct glev_ref *ref);

/* --- filesegment.c ------------------------------------------------------- */

struct glev_file {
	struct glev_due due;
	int fd;   /* a duplicate that the record owns */
	int mmap; /* the file may be mapped */
	int no_sendfile;
	int refs; /* one of the Go object, and one of each chain that reads the file; atomic */
};

/* Duplicates fd. */
struct glev_file *glev_file_new(int fd, int mmap, int no_sendfile, uintptr_t handle, int *err);
/* The last release closes the descriptor, and makes the record due. */
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
	int state;               /* of buffercallback.c; atomic */
};

struct glev_change {
	uint64_t added, deleted;
	int last; /* no change will follow */
};

struct glev_buf_cb *glev_buf_cb_new(uintptr_t handle);
int64_t glev_buf_cb_add(struct glev_buf *b, struct glev_buf_cb *cb);
int64_t glev_buf_cb_enable(struct glev_buf_cb *cb, int on);
/* After it the record is due for a last time. */
int64_t glev_buf_cb_remove(struct glev_buf *b, struct glev_buf_cb *cb);
/* What changed since the last call. */
struct glev_change glev_buf_cb_collect(struct glev_buf_cb *cb);

/* --- bypass.c ------------------------------------------------------------ */

/* CLOSED: the bytes are in the buffers. IDLE: there are no bytes, and nothing has changed since
 * the bypass was open last. OPEN: the bytes are in the bypass. USED: a thread reads or changes the
 * members below. LATE: bytes of another thread are in the output already. */
enum { GLEV_BYPASS_CLOSED, GLEV_BYPASS_IDLE, GLEV_BYPASS_OPEN, GLEV_BYPASS_USED, GLEV_BYPASS_LATE };

/* The bytes that pass the buffers by while a read closure runs; see bypass.c. */
struct glev_bypass {
	uint32_t state; /* atomic */
	short lost;     /* directions whose bytes are lost, because there was no memory; atomic */
	const char *in, *out;
	size_t nin, nout;
};

/* The bypass of a bufferevent. It stays as long as the record. */
struct glev_bypass *glev_bev_bypass(struct glev_bev *r);

/* --- bufferevent.c ------------------------------------------------------- */

enum { GLEV_CB_READ = 1, GLEV_CB_WRITE = 2 };
/* Results of glevBevEvent. */
enum { GLEV_AGAIN = 1, GLEV_MISSED = 2 };

struct glev_bev *glev_bev_new(struct glev_base *b, int fd, int options, int loop_only, int plain, uintptr_t handle, int *err);
int glev_bev_new_pair(struct glev_base *b, int options, int loop_only, uintptr_t handles[2], struct glev_bev *out[2]);
/* Events wait until this is called: libevent may have some before the Go object is complete. */
void glev_bev_set_known(struct glev_bev *r);
struct bufferevent *glev_bev_native(struct glev_bev *r);
struct glev_buf *glev_bev_input(struct glev_bev *r);
struct glev_buf *glev_bev_output(struct glev_bev *r);
/* Returns the pointer for C code, which may do anything with the bufferevent. */
struct bufferevent *glev_bev_expose(struct glev_bev *r);
/* GLEV_WRONG_LOOP if the caller may not use it now, else 0. */
int64_t glev_bev_check(struct glev_bev *r);
/* Says which closures the user has set: GLEV_CB_ bits. */
int64_t glev_bev_set_closures(struct glev_bev *r, int closures);
int64_t glev_bev_enable(struct glev_bev *r, short what);
int64_t glev_bev_disable(struct glev_bev *r, short what);
int64_t glev_bev_enabled(struct glev_bev *r);
int64_t glev_bev_set_timeouts(struct glev_bev *r, int64_t read_usec, int64_t write_usec);
int64_t glev_bev_set_watermark(struct glev_bev *r, short what, size_t low, size_t high);
int64_t glev_bev_get_watermark(struct glev_bev *r, short what, size_t *low, size_t *high);
int64_t glev_bev_write(struct glev_bev *r, const char *p, size_t n);
int64_t glev_bev_write_buffer(struct glev_bev *r, struct glev_buf *src);
/* The same, for Go: cgo looks at each pointer to a record that it passes, and does not look at
 * a number. */
static inline int64_t glev_quick_write(uintptr_t r, const char *p, size_t n)
{
	return glev_bev_write((struct glev_bev *)r, p, n);
}
static inline int64_t glev_quick_write_buffer(uintptr_t r, uintptr_t src)
{
	return glev_bev_write_buffer((struct glev_bev *)r, (struct glev_buf *)src);
}
int64_t glev_bev_read(struct glev_bev *r, char *p, size_t n);
int64_t glev_bev_read_buffer(struct glev_bev *r, struct glev_buf *dst);
int64_t glev_bev_flush(struct glev_bev *r, short what, int mode);
int64_t glev_bev_trigger(struct glev_bev *r, short what, int flags);
int64_t glev_bev_trigger_event(struct glev_bev *r, short what);
int64_t glev_bev_set_priority(struct glev_bev *r, int priority);
int64_t glev_bev_priority(struct glev_bev *r);
/* Moves it to another base. Only the loop's thread may call it, and the caller
 * ensures that no other thread is inside a call on r. */
int64_t glev_bev_set_base(struct glev_bev *r, struct glev_base *to);

/* --- fastpath.c ---------------------------------------------------------- */

/* Whether there is a receiver, which is called before the input is read. Within
 * the receiver glev_bev_receive reads to p instead of to the input. */
int64_t glev_bev_set_receiver(struct glev_bev *r, int on);
int64_t glev_bev_receive(struct glev_bev *r, char *p, size_t n);

/* --- connect.c ----------------------------------------------------------- */

/* Takes the lock if a connect is possible now, and glev_bev_release gives it back. */
int64_t glev_bev_hold_to_connect(struct glev_bev *r);
void glev_bev_release(struct glev_bev *r);
int64_t glev_bev_connect(struct glev_bev *r, const struct glev_addr *a);
/* Begins to connect by name: Go looks the name up, and then tries one address
 * after the other. */
int64_t glev_bev_dial(struct glev_bev *r);
/* Tries an address. On the loop's thread, and only while the dial goes on. */
int64_t glev_bev_try(struct glev_bev *r, const struct glev_addr *a);
/* No address is left to try. With tell the event callback is told so. */
int64_t glev_bev_give_up(struct glev_bev *r, int tell);
/* Whether a dial goes on. */
int glev_bev_dialing(struct glev_bev *r);
/* Whether there is a connection. */
int glev_bev_is_linked(struct glev_bev *r);
int64_t glev_bev_fd(struct glev_bev *r);
int64_t glev_bev_addr(struct glev_bev *r, int peer, struct glev_addr *a);
int64_t glev_bev_addrs(struct glev_bev *r, struct glev_addr a[2]);
int64_t glev_bev_setfd(struct glev_bev *r, int fd);
/* Also closes the old descriptor. */
int64_t glev_bev_replacefd(struct glev_bev *r, int fd);

/* Sockets that connecting makes are left as the system makes them, without TCP_NODELAY. */
void glev_bev_keep_nagle(struct glev_bev *r);

/* --- sockopt.c ----------------------------------------------------------- */

struct glev_keep_alive {
	int on;
	int idle, interval; /* in seconds, or negative: as it is */
	int count;          /* or negative: as it is */
};

int64_t glev_bev_set_no_delay(struct glev_bev *r, int on);
int64_t glev_bev_set_keep_alive(struct glev_bev *r, const struct glev_keep_alive *k);
/* SO_LINGER; it is off if seconds is negative. */
int64_t glev_bev_set_linger(struct glev_bev *r, int seconds);

/* --- shut.c -------------------------------------------------------------- */

int64_t glev_bev_close_write(struct glev_bev *r);

/* --- flush.c ------------------------------------------------------------- */

/* Refuses what glev_bev_free_after_flush would refuse. */
int64_t glev_bev_may_flush(struct glev_bev *r);
/* Writes the output, and then has glevBevFlushEnds called, after usec
 * microseconds at the latest. Returns 1 if there is nothing to wait for. */
int64_t glev_bev_free_after_flush(struct glev_bev *r, int64_t usec, int whole);

/* --- close.c ------------------------------------------------------------- */

/* For a wrapped bufferevent whose Free has to wait for the loop's thread: what
 * comes until then is for C's callbacks. */
void glev_bev_await(struct glev_bev *r);
/* After it no callback starts, nothing is registered, and the descriptor is
 * closed if it is ours. The memory stays until glev_bev_free. */
void glev_bev_quiet(struct glev_bev *r);
/* On the loop's thread, after glev_bev_quiet. */
void glev_bev_free(struct glev_bev *r);
/* In place of glev_bev_free when libevent cannot free: lets go of what the
 * buffers hold of Go. */
void glev_bev_abandon(struct glev_bev *r);

/* --- inspect.c ----------------------------------------------------------- */

/* Puts the state of the record in words into buf. */
void glev_bev_describe(struct glev_bev *r, char *buf, int size);

/* --- filter.c ------------------------------------------------------------ */

struct glev_bev *glev_filter_new(struct glev_bev *under, int in, int out, int options, int loop_only, uintptr_t handle, int *err);
/* A function of the filter has called Goexit on this thread: unlocks what that has left locked
 * of the stack. */
void glev_filter_abandon(struct glev_bev *r);

/* --- adopt.c ------------------------------------------------------------- */

/* The C functions of a Kind of internal/adopt, where each is explained. */
struct glev_door {
	struct bufferevent *(*make)(struct event_base *, struct bufferevent *, int, void *);
	void *arg;
	void (*quiet)(struct bufferevent *);
	void (*gone)(void *);
	int (*codes)(struct bufferevent *, unsigned long *, int);
	int (*shutdown)(struct bufferevent *);
	void (*start)(struct bufferevent *);
	int (*is_linked)(struct bufferevent *);
	int (*is_open)(struct bufferevent *);
	uint64_t (*sent)(struct bufferevent *);
	void (*socket)(struct bufferevent *);
	int (*begin)(struct bufferevent *);
	void (*end)(struct bufferevent *);
	ssize_t (*recv)(struct bufferevent *, void *, size_t, void *, size_t);
	int (*pending)(struct bufferevent *, int);
	ssize_t (*send)(struct bufferevent *, const void *, size_t);
};

/* Takes over a bufferevent that C made, or, with wrap and on the loop's thread,
 * uses it until glev_bev_quiet gives it back. */
int64_t glev_adopt(struct glev_base *b, struct bufferevent *bev, int options, int loop_only, int wrap, uintptr_t handle, struct glev_bev **out);
int64_t glev_adopt_new(struct glev_base *b, struct glev_bev *under, const struct glev_door *door, int options, int loop_only, int plain, uintptr_t handle, struct glev_bev **out);

/* --- ratelimit.c --------------------------------------------------------- */

/* In bytes for each tick; a rate of 0 is unlimited. */
struct glev_rate {
	size_t read_rate, read_burst, write_rate, write_burst;
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
/* most is the burst, or 0 if there is none. */
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
	uintptr_t handle;
	struct event *retry; /* enables it again: in the next turn, or later if accept has failed */
	int wanted;          /* the user wants it enabled */
	int accepted;        /* since it was last paused */
	int backoff_ms;      /* 0 while accept works */
	int no_delay;        /* how many accepted sockets still get TCP_NODELAY; negative: all */
};

/* A flag of ours: accepted sockets are left as the system makes them. */
#define GLEV_LEV_NAGLE (1u << 30)

struct glev_lev *glev_lev_new(struct glev_base *b, const struct glev_addr *a, unsigned flags, int backlog, uintptr_t handle, int *err);
/* On a bound or listening socket. */
struct glev_lev *glev_lev_new_fd(struct glev_base *b, int fd, unsigned flags, int backlog, uintptr_t handle, int *err);
int glev_lev_enable(struct glev_lev *l, int on);
void glev_lev_free(struct glev_lev *l);

/* --- dns.c --------------------------------------------------------------- */

struct glev_dns {
	struct evdns_base *evdns;
	struct glev_base *base;
	uintptr_t handle;
	struct event *step;          /* looks for a quiet moment */
	struct glev_lookup *lookups; /* that were started and are not yet freed */
	int clearing;                /* the name servers go at the next quiet moment */
	int freeing;                 /* all of it goes then */
};

struct glev_lookup {
	struct glev_dns *dns;
	struct glev_lookup *next, **link; /* link is NULL before the start */
	uintptr_t handle;                 /* 0 once Go needs no answer */
	struct evdns_getaddrinfo_request *req;
	int busy;                         /* libevent will call back */
	int wanted;                       /* Go waits for an answer */
	int family;
	char host[];
};

/* Only the loop's thread may call these, but for glev_dns_new, glev_lookup_new
 * and the settings. */
struct glev_dns *glev_dns_new(struct glev_base *b, uintptr_t handle);
/* Frees it, and all its lookups, as soon as that is safe. */
void glev_dns_free(struct glev_dns *d);
/* Returns 1 if it is done, or 0 if it has to wait; glevDNSCleared is called then. */
int glev_dns_clear(struct glev_dns *d);
int glev_dns_add_nameserver(struct glev_dns *d, const struct glev_addr *a);
/* Returns 0 if there are at most i. */
int glev_dns_nameserver(struct glev_dns *d, int i, struct glev_addr *a);
int glev_dns_resolv_conf(struct glev_dns *d, int options, const char *path);
struct glev_lookup *glev_lookup_new(struct glev_dns *d, const char *host, int family, uintptr_t handle);
void glev_lookup_start(struct glev_lookup *l);
void glev_lookup_free(struct glev_lookup *l);

#endif
