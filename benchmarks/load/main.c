/* SPDX-License-Identifier: BSD-3-Clause */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct options opt = {.size = 64, .conns = 1, .depth = 1, .warm = 100, .window = 1000};
struct result res;
enum phase phase;

static clockid_t server_clock;
static int64_t began, cpu_began, user_began, system_began;

void die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("load: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	exit(1);
}

void die_errno(const char *what) { die("%s: %s", what, strerror(errno)); }

static int64_t read_clock(clockid_t clock)
{
	struct timespec t;
	if (clock_gettime(clock, &t) != 0)
		die("the server's clock cannot be read: it has died");
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int64_t now(void) { return read_clock(CLOCK_MONOTONIC); }

int64_t server_rss(void)
{
	char path[64];
	long pages = 0;
	snprintf(path, sizeof path, "/proc/%d/statm", (int)opt.pid);
	FILE *f = fopen(path, "r");
	if (!f || fscanf(f, "%*d %ld", &pages) != 1)
		die("%s cannot be read: the server has died", path);
	fclose(f);
	return pages * sysconf(_SC_PAGESIZE);
}

// The kernel takes the state of a process at each tick, so these say how the CPU time is divided
// into user and system time, and not how long it is.
static void read_ticks(int64_t *user, int64_t *system)
{
	char path[64];
	long long u, s;
	snprintf(path, sizeof path, "/proc/%d/stat", (int)opt.pid);
	FILE *f = fopen(path, "r");
	if (!f || fscanf(f, "%*d %*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lld %lld", &u, &s) != 2)
		die("%s cannot be read: the server has died", path);
	fclose(f);
	*user = u;
	*system = s;
}

void begin_window(void)
{
	phase = WINDOW;
	read_ticks(&user_began, &system_began);
	cpu_began = read_clock(server_clock);
	began = now();
}

void end_window(void)
{
	res.cpu = read_clock(server_clock) - cpu_began;
	res.ns = now() - began;
	read_ticks(&res.user, &res.system);
	res.user -= user_began;
	res.system -= system_began;
	res.rss = server_rss();
	phase = DRAIN;
}

static long number(const char *name, const char *s, long least, long most)
{
	char *end;
	errno = 0;
	long n = strtol(s, &end, 10);
	if (errno || *end || end == s || n < least || n > most)
		die("-%s %s: not a number of %ld to %ld", name, s, least, most);
	return n;
}

static enum mode mode_of(const char *s)
{
	static const char *names[] = {"echo", "sink", "churn", "idle"};
	for (int i = 0; i < 4; i++)
		if (strcmp(s, names[i]) == 0)
			return (enum mode)i;
	die("-mode %s: not one of echo, sink, churn, idle", s);
}

static void parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{"mode", 1, 0, 'm'}, {"port", 1, 0, 'p'}, {"size", 1, 0, 's'}, {"conns", 1, 0, 'c'},
		{"depth", 1, 0, 'd'}, {"warm", 1, 0, 'w'}, {"window", 1, 0, 't'}, {"pid", 1, 0, 'P'},
		{"tls", 0, 0, 'T'}, {0}};
	for (int o; (o = getopt_long_only(argc, argv, "", longs, 0)) != -1;) {
		switch (o) {
		case 'm': opt.mode = mode_of(optarg); break;
		case 'p': opt.port = (int)number("port", optarg, 1, 65535); break;
		case 's': opt.size = number("size", optarg, 1, 1 << 20); break;
		case 'c': opt.conns = (int)number("conns", optarg, 1, 1000000); break;
		case 'd': opt.depth = (int)number("depth", optarg, 1, 1000000); break;
		case 'w': opt.warm = (int)number("warm", optarg, 0, 600000); break;
		case 't': opt.window = (int)number("window", optarg, 1, 600000); break;
		case 'P': opt.pid = (pid_t)number("pid", optarg, 1, 1 << 30); break;
		case 'T': opt.tls = 1; break;
		default: exit(2);
		}
	}
	if (optind < argc)
		die("unexpected argument \"%s\"", argv[optind]);
	if (!opt.port || !opt.pid)
		die("-port and -pid are needed");
}

static void raise_limits(void)
{
	struct rlimit r;
	rlim_t need = (rlim_t)opt.conns + 64;
	if (getrlimit(RLIMIT_NOFILE, &r) != 0)
		die_errno("getrlimit");
	if (r.rlim_cur < need) {
		r.rlim_cur = need;
		if (r.rlim_max < need)
			r.rlim_max = need;
		if (setrlimit(RLIMIT_NOFILE, &r) != 0)
			die("%d connections need %lu descriptors, and the limit cannot be raised: see ulimit -n",
				opt.conns, (unsigned long)need);
	}
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	raise_limits();
	pattern_init();
	wire_init();
	signal(SIGPIPE, SIG_IGN);
	int err = clock_getcpuclockid(opt.pid, &server_clock);
	if (err)
		die("no clock of process %d: %s", (int)opt.pid, strerror(err));
	res.idle_rss = server_rss();
	if (opt.mode == CHURN)
		run_churn();
	else
		run_streams();
	double unit = opt.mode == CHURN ? 1 : (double)opt.size;
	printf("{\"messages\":%.3f,\"all\":%.3f,\"ns\":%lld,\"cpu\":%lld,\"user\":%lld,\"system\":%lld,\"samples\":%lld,"
		"\"p50\":%lld,\"p99\":%lld,\"p999\":%lld,\"idle_rss\":%lld,\"rss\":%lld}\n",
		(double)res.bytes / unit, (double)res.all / unit, (long long)res.ns, (long long)res.cpu,
		(long long)res.user, (long long)res.system, (long long)hist_count(), (long long)hist_quantile(0.5), (long long)hist_quantile(0.99),
		(long long)hist_quantile(0.999), (long long)res.idle_rss, (long long)res.rss);
	return 0;
}
