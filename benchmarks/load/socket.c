/* SPDX-License-Identifier: BSD-3-Clause */
// Connections, and the bytes they carry.
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ADDRESSES 200

static char pattern[2 * PATTERN];

void pattern_init(void)
{
	uint64_t x = 88172645463325252u;
	for (int i = 0; i < PATTERN; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		pattern[i] = (char)(x >> 32);
	}
	memcpy(pattern + PATTERN, pattern, PATTERN);
}

const char *pattern_at(int64_t position) { return pattern + position % PATTERN; }

// Streams start at different positions of the pattern. So check notices bytes that came back on
// a wrong connection.
int64_t start_of(int conn) { return (int64_t)conn * 7919 % PATTERN; }

void check(int conn, int64_t position, const char *got, ssize_t n)
{
	const char *want = pattern_at(start_of(conn) + position);
	if (n > PATTERN || memcmp(got, want, (size_t)n) != 0) {
		ssize_t i = 0;
		while (i < n && got[i] == want[i])
			i++;
		die("connection %d: byte %lld came back as 0x%02x, not 0x%02x", conn,
			(long long)(position + i), got[i] & 0xff, want[i] & 0xff);
	}
}

int dial(int n, int nonblocking)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0);
	if (fd < 0)
		die_errno("socket");
	int on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	// The port of a closed connection stays in use for a minute. Ports belong to an address, and
	// the loopback network has many addresses.
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
	struct sockaddr_in from = {.sin_family = AF_INET};
	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 256u + (unsigned)(n % ADDRESSES));
	if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0)
		die_errno("bind");
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
		die_errno("connect");
	return fd;
}

// hard_close resets the connection, so its port is free at once.
void hard_close(int fd)
{
	struct linger none = {.l_onoff = 1};
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
	close(fd);
}
