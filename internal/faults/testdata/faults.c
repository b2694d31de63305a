/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * faults.c: a shared object that is preloaded, and says no.
 *
 * It stands before the C library's malloc and its kin, and before the functions that make
 * system calls. A call is counted, and may fail, if libevent makes it or the program's own C
 * code does. Go makes its system calls by itself, and its memory does not come from malloc.
 * runtime/cgo, which is C code in the program, is left out by FAULTS_EXCLUDE: it ends the
 * process when it gets no memory for a thread, and so does C.malloc.
 *
 * The program finds faults_begin and the others by dlsym. The environment says what fails:
 *
 *	FAULTS_ALLOCATION=k     the k-th allocation after faults_begin, from 1
 *	FAULTS_SEED=n           system calls at random, and short reads and writes
 *	FAULTS_CALL=name:errno:k  the k-th call of that name
 *	FAULTS_EXCLUDE=lo-hi,...  addresses in the program that are not counted, in hex
 *
 * What fails, and where the process crashes, is written to stderr as a list of addresses in
 * the objects that they are in.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

/* --- the caller ---------------------------------------------------------------- */

struct range {
	uintptr_t lo, hi;
};

enum { MOST = 1024 };
enum { ALLOCATES = 1, TALKS = 2 };

static struct range allocates[MOST], talks[MOST], excluded[MOST];
static int nallocates, ntalks, nexcluded;
static uintptr_t program; /* where it was loaded, if it can be anywhere */

static void add(struct range *list, int *n, uintptr_t lo, uintptr_t hi)
{
	if (*n < MOST)
		list[(*n)++] = (struct range){lo, hi};
}

static int within(const struct range *list, int n, uintptr_t p)
{
	int i;

	for (i = 0; i < n; i++)
		if (p >= list[i].lo && p < list[i].hi)
			return 1;
	return 0;
}

/* The first object is the program. OpenSSL makes system calls for libevent. */
static int look_at(struct dl_phdr_info *info, size_t size, void *first)
{
	const char *name = strrchr(info->dlpi_name, '/');
	int is_program = *(int *)first, is_libevent, i;

	(void)size;
	*(int *)first = 0;
	if (is_program)
		program = info->dlpi_addr;
	name = name ? name + 1 : info->dlpi_name;
	is_libevent = is_program || strncmp(name, "libevent", 8) == 0;
	if (!is_libevent && strncmp(name, "libcrypto", 9) != 0)
		return 0;
	for (i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		uintptr_t lo = info->dlpi_addr + h->p_vaddr;

		if (h->p_type != PT_LOAD || !(h->p_flags & PF_X))
			continue;
		if (is_libevent)
			add(allocates, &nallocates, lo, lo + h->p_memsz);
		add(talks, &ntalks, lo, lo + h->p_memsz);
	}
	return 0;
}

static int counts(void *caller, int why)
{
	uintptr_t p = (uintptr_t)caller;

	return (why == ALLOCATES ? within(allocates, nallocates, p) : within(talks, ntalks, p)) &&
	    !within(excluded, nexcluded, p);
}

/* --- telling ---------------------------------------------------------------------- */

static void say(const char *format, ...)
{
	char line[512];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (n > 0)
		syscall(SYS_write, 2, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

static __thread int telling;

/* An address is told as a path and an offset in that file, which the reader of all this looks
 * up. */
static void say_stack(void)
{
	void *frames[24];
	int i, n;
	Dl_info info;

	telling++;
	n = backtrace(frames, 24);
	for (i = 2; i < n; i++)
		if (dladdr(frames[i], &info) && info.dli_fname)
			say(" %s+%lx", info.dli_fname, (unsigned long)((char *)frames[i] - (char *)info.dli_fbase));
	say("\n");
	telling--;
}

/* Go's handlers get the signal after ours. */
static struct sigaction of_go[65];

static void crashed(int sig, siginfo_t *info, void *context)
{
	say("faults: crash %d at", sig);
	say_stack();
	of_go[sig].sa_sigaction(sig, info, context);
}

static int real_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	static int (*next)(int, const struct sigaction *, struct sigaction *);

	if (!next)
		next = (int (*)(int, const struct sigaction *, struct sigaction *))dlsym(RTLD_NEXT, "sigaction");
	return next(sig, act, old);
}

int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction ours;

	if (!act || !(act->sa_flags & SA_SIGINFO) || (sig != SIGSEGV && sig != SIGBUS && sig != SIGABRT && sig != SIGFPE))
		return real_sigaction(sig, act, old);
	of_go[sig] = ours = *act;
	ours.sa_sigaction = crashed;
	return real_sigaction(sig, &ours, old);
}

/* --- memory ---------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int begun, none_left;
static long allocations, fails_at;

enum { SLOTS = 1 << 16 };
static void *lives[SLOTS]; /* what is counted, and not yet freed; a hash table */
static long nlives;

static size_t slot_of(void *p)
{
	return ((uintptr_t)p >> 4) * 0x9E3779B97F4A7C15u >> 48;
}

static void born(void *p)
{
	size_t i;

	for (i = slot_of(p); lives[i] && lives[i] != (void *)1; i = (i + 1) % SLOTS)
		;
	lives[i] = p;
	nlives++;
}

static void died(void *p)
{
	size_t i;

	for (i = slot_of(p); lives[i]; i = (i + 1) % SLOTS)
		if (lives[i] == p) {
			lives[i] = (void *)1; /* the search goes on behind it */
			nlives--;
			return;
		}
}

/* Whether an allocation is to fail. *counted says that it has to be remembered. */
static int fails(const char *what, void *caller, int *counted)
{
	int fail = 0;
	long k = 0;

	*counted = 0;
	if (telling || !__atomic_load_n(&begun, __ATOMIC_RELAXED) || !counts(caller, ALLOCATES))
		return 0;
	*counted = 1;
	pthread_mutex_lock(&lock);
	if (begun) {
		k = ++allocations;
		fail = none_left || k == fails_at;
	}
	pthread_mutex_unlock(&lock);
	if (fail) {
		say("faults: %s %ld fails at", what, k);
		say_stack();
		errno = ENOMEM;
	}
	return fail;
}

/* Blocks that the binding keeps for later are as large as this. */
enum { KEPT = 128 * 1024 };

static void *remembered(void *p, size_t n, int counted)
{
	if (p && counted && n < KEPT) {
		pthread_mutex_lock(&lock);
		born(p);
		pthread_mutex_unlock(&lock);
	}
	return p;
}

static void forgotten(void *p)
{
	if (p && __atomic_load_n(&begun, __ATOMIC_RELAXED)) {
		pthread_mutex_lock(&lock);
		died(p);
		pthread_mutex_unlock(&lock);
	}
}

void *malloc(size_t n)
{
	int counted;

	return fails("malloc", __builtin_return_address(0), &counted) ? NULL : remembered(__libc_malloc(n), n, counted);
}

void *calloc(size_t n, size_t size)
{
	int counted;

	return fails("calloc", __builtin_return_address(0), &counted) ? NULL : remembered(__libc_calloc(n, size), n * size, counted);
}

void *realloc(void *p, size_t n)
{
	int counted;
	void *q;

	if (fails("realloc", __builtin_return_address(0), &counted))
		return NULL;
	forgotten(p);
	q = __libc_realloc(p, n);
	return remembered(q ? q : p, n, counted);
}

char *strdup(const char *s)
{
	size_t n = strlen(s) + 1;
	int counted;
	char *p;

	if (fails("strdup", __builtin_return_address(0), &counted))
		return NULL;
	p = remembered(__libc_malloc(n), n, counted);
	return p ? memcpy(p, s, n) : NULL;
}

void free(void *p)
{
	forgotten(p);
	__libc_free(p);
}

/* --- system calls --------------------------------------------------------------------------- */

static uint64_t seed;
static const char *one_call;
static int one_errno;
static long one_at;

static uint64_t next_random(void)
{
	uint64_t z;

	pthread_mutex_lock(&lock);
	z = seed += 0x9E3779B97F4A7C15u;
	pthread_mutex_unlock(&lock);
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

/* An eventfd or a timerfd of libevent does not fail. */
static int is_stream(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (S_ISSOCK(st.st_mode) || S_ISFIFO(st.st_mode));
}

/* Of several errnos those that pass come often, and those that end a connection seldom. */
static int picked(const int *often, const int *seldom)
{
	uint64_t r = next_random() % 1000;
	int n;

	const int *from = r < 60 ? often : r < 66 ? seldom : NULL;
	if (!from || !*from)
		return 0;
	for (n = 0; from[n]; n++)
		;
	return from[next_random() % (uint64_t)n];
}

/* The errno with which a call is to fail, or 0. */
static int fault(const char *name, void *caller, const int *often, const int *seldom)
{
	int err = 0, hit;

	if (!__atomic_load_n(&begun, __ATOMIC_RELAXED) || !counts(caller, TALKS))
		return 0;
	if (one_call && strcmp(name, one_call) == 0) {
		pthread_mutex_lock(&lock);
		hit = --one_at == 0;
		pthread_mutex_unlock(&lock);
		if (hit) {
			say("faults: %s fails with %d at", name, one_errno);
			say_stack();
			err = one_errno;
		}
	} else if (seed) {
		err = picked(often, seldom);
		if (err && strcmp(name, "epoll_ctl") == 0) { /* libevent does not tell of each of these */
			say("faults: %s fails with %d at", name, err);
			say_stack();
		}
	}
	errno = err ? err : errno;
	return err;
}

/* A part of the bytes, sometimes. */
static size_t part(size_t n, void *caller)
{
	if (!begun || !seed || n < 2 || !counts(caller, TALKS) || next_random() % 8)
		return n;
	return 1 + next_random() % (n - 1);
}

static const int none[] = {0}, passing[] = {EINTR, EAGAIN, 0};
static const int of_reading[] = {ECONNRESET, ENOMEM, ENOBUFS, 0};
static const int of_writing[] = {EPIPE, ECONNRESET, ENOBUFS, ENOMEM, 0};
static const int of_accepting[] = {EMFILE, ENFILE, ENOMEM, ENOBUFS, 0};
static const int of_making[] = {EMFILE, ENOMEM, ENOBUFS, 0};
static const int of_polling[] = {ENOSPC, ENOMEM, 0};

#define CALLER __builtin_return_address(0)
#define FAULT_ON(fd, name, seldom) (is_stream(fd) && fault(name, CALLER, passing, seldom))

ssize_t read(int fd, void *p, size_t n)
{
	if (!begun || !is_stream(fd))
		return syscall(SYS_read, fd, p, n);
	return FAULT_ON(fd, "read", of_reading) ? -1 : syscall(SYS_read, fd, p, part(n, CALLER));
}

ssize_t write(int fd, const void *p, size_t n)
{
	if (!begun || !is_stream(fd))
		return syscall(SYS_write, fd, p, n);
	return FAULT_ON(fd, "write", of_writing) ? -1 : syscall(SYS_write, fd, p, part(n, CALLER));
}

ssize_t recv(int fd, void *p, size_t n, int flags)
{
	return FAULT_ON(fd, "recv", of_reading) ? -1
	                                        : syscall(SYS_recvfrom, fd, p, part(n, CALLER), flags, NULL, NULL);
}

ssize_t send(int fd, const void *p, size_t n, int flags)
{
	return FAULT_ON(fd, "send", of_writing) ? -1
	                                        : syscall(SYS_sendto, fd, p, part(n, CALLER), flags, NULL, 0);
}

/* A part of several is a part of the first. */
static ssize_t vectored(long call, int fd, const struct iovec *v, int n, void *caller)
{
	struct iovec first = *v;

	first.iov_len = part(v->iov_len, caller);
	return first.iov_len < v->iov_len ? syscall(call, fd, &first, 1) : syscall(call, fd, v, n);
}

ssize_t readv(int fd, const struct iovec *v, int n)
{
	return FAULT_ON(fd, "readv", of_reading) ? -1 : vectored(SYS_readv, fd, v, n, CALLER);
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
	return FAULT_ON(fd, "writev", of_writing) ? -1 : vectored(SYS_writev, fd, v, n, CALLER);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	struct msghdr copy = *m;
	struct iovec first;

	if (FAULT_ON(fd, "sendmsg", of_writing))
		return -1;
	if (copy.msg_iovlen) {
		first = copy.msg_iov[0];
		first.iov_len = part(first.iov_len, CALLER);
		if (first.iov_len < copy.msg_iov[0].iov_len) {
			copy.msg_iov = &first;
			copy.msg_iovlen = 1;
		}
	}
	return syscall(SYS_sendmsg, fd, &copy, flags);
}

int accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
	return fault("accept4", CALLER, passing, of_accepting) ? -1 : (int)syscall(SYS_accept4, fd, sa, len, flags);
}

int socket(int domain, int type, int protocol)
{
	return fault("socket", CALLER, none, of_making) ? -1 : (int)syscall(SYS_socket, domain, type, protocol);
}

int connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	return fault("connect", CALLER, none, of_making) ? -1 : (int)syscall(SYS_connect, fd, sa, len);
}

int eventfd(unsigned initial, int flags)
{
	return fault("eventfd", CALLER, none, of_making) ? -1 : (int)syscall(SYS_eventfd2, initial, flags);
}

int pipe(int fds[2])
{
	return fault("pipe", CALLER, none, of_making) ? -1 : (int)syscall(SYS_pipe2, fds, 0);
}

/* Only adding a descriptor needs memory. */
int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	if (op == EPOLL_CTL_ADD && fault("epoll_ctl", CALLER, none, of_polling))
		return -1;
	return (int)syscall(SYS_epoll_ctl, epfd, op, fd, event);
}

/* --- for the program --------------------------------------------------------------------------- */

__attribute__((constructor)) static void prepare(void)
{
	char *list = getenv("FAULTS_EXCLUDE"), *end;
	void *frames[2];
	int first = 1;

	backtrace(frames, 2); /* the first one allocates */
	dl_iterate_phdr(look_at, &first);
	while (list && *list) {
		uintptr_t lo = strtoul(list, &end, 16), hi = strtoul(end + 1, &end, 16);

		add(excluded, &nexcluded, lo + program, hi + program);
		list = *end ? end + 1 : end;
	}
}

void faults_begin(void)
{
	const char *k = getenv("FAULTS_ALLOCATION"), *n = getenv("FAULTS_SEED"), *call = getenv("FAULTS_CALL");
	static char name[32];

	fails_at = k ? atol(k) : 0;
	seed = n ? strtoull(n, NULL, 10) : 0;
	if (call && sscanf(call, "%31[^:]:%d:%ld", name, &one_errno, &one_at) == 3)
		one_call = name;
	__atomic_store_n(&begun, 1, __ATOMIC_RELEASE);
}

/* From now on there is no memory at all, and with zero there is again. */
void faults_none_left(int none)
{
	pthread_mutex_lock(&lock);
	none_left = none;
	pthread_mutex_unlock(&lock);
}

/* From now on nothing fails; what is freed is still seen. */
void faults_end(void)
{
	pthread_mutex_lock(&lock);
	fails_at = none_left = 0;
	seed = 0;
	one_call = NULL;
	pthread_mutex_unlock(&lock);
}

long faults_allocations(void)
{
	return allocations;
}

/* How many calls of the one name are still to come before it fails. */
long faults_calls_left(void)
{
	return one_at;
}

long faults_live(void)
{
	return nlives;
}
