/* SPDX-License-Identifier: BSD-3-Clause */
/* sockaddr.c: converts addresses between the system's form and the one that Go reads. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

#include "base.h"

void glev_addr_from(struct glev_addr *a, const struct sockaddr *sa, socklen_t len)
{
	memset(a, 0, sizeof(*a));
	a->family = AF_UNSPEC;
	if (len < (socklen_t)offsetof(struct sockaddr, sa_data))
		return;
	a->family = sa->sa_family;
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
		a->port = ntohs(in->sin_port);
		a->len = sizeof(in->sin_addr);
		memcpy(a->data, &in->sin_addr, sizeof(in->sin_addr));
	} else if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;
		a->port = ntohs(in6->sin6_port);
		a->scope = in6->sin6_scope_id;
		a->len = sizeof(in6->sin6_addr);
		memcpy(a->data, &in6->sin6_addr, sizeof(in6->sin6_addr));
	} else if (sa->sa_family == AF_UNIX) {
		const struct sockaddr_un *un = (const struct sockaddr_un *)sa;
		int n = (int)len - (int)offsetof(struct sockaddr_un, sun_path);
		if (n > (int)sizeof(un->sun_path))
			n = sizeof(un->sun_path);
		/* A path ends at its NUL; an abstract name starts with one. */
		if (n > 0 && un->sun_path[0] != '\0')
			n = (int)strnlen(un->sun_path, (size_t)n);
		if (n > 0) {
			a->len = n;
			memcpy(a->data, un->sun_path, (size_t)n);
		}
	}
}

int glev_addr_to(const struct glev_addr *a, struct sockaddr_storage *ss)
{
	memset(ss, 0, sizeof(*ss));
	if (a->family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)ss;
		in->sin_family = AF_INET;
		in->sin_port = htons((uint16_t)a->port);
		memcpy(&in->sin_addr, a->data, sizeof(in->sin_addr));
		return sizeof(*in);
	}
	if (a->family == AF_INET6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)a->port);
		in6->sin6_scope_id = a->scope;
		memcpy(&in6->sin6_addr, a->data, sizeof(in6->sin6_addr));
		return sizeof(*in6);
	}
	if (a->family == AF_UNIX) {
		struct sockaddr_un *un = (struct sockaddr_un *)ss;
		int abstract = a->len > 0 && a->data[0] == '\0';
		/* A path needs room for its NUL; an abstract name has no NUL at its end. */
		if (a->len <= 0 || a->len + !abstract > (int)sizeof(un->sun_path))
			return -EINVAL;
		un->sun_family = AF_UNIX;
		memcpy(un->sun_path, a->data, (size_t)a->len);
		return (int)offsetof(struct sockaddr_un, sun_path) + a->len + !abstract;
	}
	return -EINVAL;
}

int glev_addr_of_fd(int fd, int peer, struct glev_addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int rc;

	memset(&ss, 0, sizeof(ss));
	rc = peer ? getpeername(fd, (struct sockaddr *)&ss, &len)
	          : getsockname(fd, (struct sockaddr *)&ss, &len);
	if (rc < 0)
		return -errno;
	glev_addr_from(a, (struct sockaddr *)&ss, len);
	return 0;
}

int64_t glev_addrs_of_fd(int fd, struct glev_addr a[2])
{
	int rc = glev_addr_of_fd(fd, 1, &a[1]), listens = 0;
	socklen_t len = sizeof(listens);

	if (rc == 0)
		return glev_addr_of_fd(fd, 0, &a[0]);
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens)
		return GLEV_LISTENS;
	return rc;
}
