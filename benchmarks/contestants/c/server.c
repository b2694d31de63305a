/* SPDX-License-Identifier: BSD-3-Clause */
#define _GNU_SOURCE
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

struct server server = {.loops = 1};
const char ack_bytes[ACK_MOST];

static void (*run_loop)(int listener);

void fail(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
	exit(1);
}

size_t acks(uint64_t *total, size_t n)
{
	uint64_t before = *total / ACK_EVERY;
	*total += n;
	return (size_t)(*total / ACK_EVERY - before);
}

static int listen_on(int port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	// Accepted sockets inherit TCP_NODELAY.
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
		(server.nodelay && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) ||
		(server.loops > 1 && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) ||
		bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 4096) != 0)
		fail("listen");
	return fd;
}

static void *thread(void *listener)
{
	run_loop((int)(intptr_t)listener);
	return NULL;
}

void parse(int argc, char **argv)
{
	static const struct option longs[] = {{"port", 1, 0, 'p'}, {"loops", 1, 0, 'l'}, {"sink", 0, 0, 's'},
		{"nodelay", 0, 0, 'n'}, {"tls", 1, 0, 't'}, {0}};
	for (int o; (o = getopt_long_only(argc, argv, "", longs, 0)) != -1;) {
		switch (o) {
		case 'p': server.port = atoi(optarg); break;
		case 'l': server.loops = atoi(optarg); break;
		case 's': server.sink = 1; break;
		case 'n': server.nodelay = 1; break;
		case 't': server.tls = optarg; break;
		default: exit(2);
		}
	}
	if (optind < argc || server.port < 1 || server.loops < 1 || server.loops > 64) {
		fprintf(stderr, "usage: %s -port N [-loops N] [-sink] [-nodelay] [-tls FILE]\n", program_invocation_short_name);
		exit(2);
	}
}

int serve(void (*loop)(int listener))
{
	signal(SIGPIPE, SIG_IGN);
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
	run_loop = loop;
	int listeners[64];
	for (int i = 0; i < server.loops; i++)
		listeners[i] = listen_on(server.port);
	puts("ready");
	fflush(stdout);
	for (int i = 1; i < server.loops; i++) {
		pthread_t t;
		errno = pthread_create(&t, NULL, thread, (void *)(intptr_t)listeners[i]);
		if (errno)
			fail("pthread_create");
	}
	loop(listeners[0]);
	return 0;
}
