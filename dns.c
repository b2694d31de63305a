/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dns.c: the C half of DNSBase and DNSLookup.
 *
 * evdns has a lock, but only the loop's thread may touch its requests. To cancel a
 * request, or to free a name server, evdns deletes events under its lock. If the
 * loop's thread is in the callback of such an event, the deletion waits for the
 * callback, and the callback waits for the lock. So a function that touches requests
 * runs on the loop's thread, or while no loop runs. Settings may be changed on any
 * thread.
 *
 * libevent does not take care of two more things:
 *  - Answers are queued in the event base. They may still be there when the name
 *    servers, or the evdns base, to which they refer are freed.
 *  - While lookups are waiting, evdns may look for work for its other name servers
 *    when one is removed, and find some that were freed.
 * So name servers and the evdns base are freed only at a quiet moment, when no lookup
 * is in libevent's hands and nothing is active on the event base: see step below.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "callbacks.h"

/* --- lookups --------------------------------------------------------------- */

struct glev_lookup *glev_lookup_new(struct glev_dns *d, const char *host, int family, uintptr_t handle)
{
	size_t n = strlen(host) + 1;
	struct glev_lookup *l = calloc(1, sizeof(*l) + n);

	if (!l)
		return NULL;
	l->dns = d;
	l->handle = handle;
	l->family = family;
	memcpy(l->host, host, n);
	return l;
}

static void unlist(struct glev_lookup *l)
{
	if (l->next)
		l->next->link = l->link;
	*l->link = l->next;
	free(l);
}

static void ask(struct glev_lookup *l)
{
	struct evutil_addrinfo hints;
	struct evdns_getaddrinfo_request *req;

	memset(&hints, 0, sizeof(hints));
	hints.ai_family = l->family;
	hints.ai_socktype = SOCK_STREAM; /* one answer for an address, not one for each protocol */
	hints.ai_protocol = IPPROTO_TCP;
	l->busy = 1;
	/* evdns may call back before it returns. */
	req = evdns_getaddrinfo(l->dns->evdns, l->host, NULL, &hints, glev_on_addrinfo, l);
	if (l->busy)
		l->req = req;
}

void glev_lookup_start(struct glev_lookup *l)
{
	struct glev_dns *d = l->dns;

	l->link = &d->lookups;
	l->next = d->lookups;
	if (l->next)
		l->next->link = &l->next;
	d->lookups = l;
	l->wanted = 1;
	if (!d->clearing)
		ask(l);
}

void glev_lookup_free(struct glev_lookup *l)
{
	if (!l->link) { /* never started */
		free(l);
	} else if (!l->busy) {
		unlist(l);
	} else {
		l->handle = 0;
		if (l->req)
			evdns_getaddrinfo_cancel(l->req);
	}
}

/* libevent has called back, and does so once for each lookup. Returns whether Go is to
 * be told. */
int glev_lookup_answered(struct glev_lookup *l, int code)
{
	l->busy = 0;
	l->req = NULL;
	if (!l->handle) {
		unlist(l);
		return 0;
	}
	if (code == EVUTIL_EAI_CANCEL) /* by glev_dns_clear; step asks again */
		return 0;
	l->wanted = 0;
	return 1;
}

/* --- the base ---------------------------------------------------------------- */

/* The cache of libevent 2.2 has a timer for each answer, which keeps the loop running
 * for as long as the answer is good. */
#ifndef EVDNS_BASE_NO_CACHE
#define EVDNS_BASE_NO_CACHE 0
#endif

static void discard(struct glev_dns *d)
{
	if (d->evdns)
		evdns_base_free(d->evdns, 0);
	if (d->step)
		event_free(d->step);
	free(d);
}

struct glev_dns *glev_dns_new(struct glev_base *b, uintptr_t handle)
{
	struct glev_dns *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->base = b;
	d->handle = handle;
	d->step = event_new(b->base, -1, EV_FINALIZE, glev_on_dns_step, d);
	/* With EVDNS_BASE_INITIALIZE_NAMESERVERS libevent 2.1 would add the
	 * sockets of those name servers to the loop before it looks at
	 * EVDNS_BASE_DISABLE_WHEN_INACTIVE, and they would keep the loop running. */
	d->evdns = evdns_base_new(b->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE | EVDNS_BASE_NO_CACHE);
	if (!d->step || !d->evdns) {
		discard(d);
		return NULL;
	}
	/* evdns_base_new does not tell if there was no memory for the requests, which would
	 * then wait for ever. This is its own number of them. */
	evdns_base_set_option(d->evdns, "max-inflight:", "64");
	return d;
}

/* Does what waits for a quiet moment, if this is one. Returns whether it was. */
static int step(struct glev_dns *d)
{
	struct glev_lookup *l;

	for (l = d->lookups; l; l = l->next)
		if (l->busy || d->freeing)
			return 0;
	if (event_base_get_num_events(d->base->base, EVENT_BASE_COUNT_ACTIVE) > 0)
		return 0;
	/* Also before evdns_base_free, which closes the sockets first and only
	 * then takes them from the loop: their numbers may be in use again. */
	evdns_base_clear_nameservers_and_suspend(d->evdns);
	d->clearing = 0;
	if (!d->freeing) {
		for (l = d->lookups; l; l = l->next)
			if (l->wanted)
				ask(l);
		return 1;
	}
	d->base->dns_freeing--;
	discard(d);
	return 1;
}

static void in_next_turn(struct glev_dns *d)
{
	static const struct timeval now = {0, 0};

	glev_timer_add(d->step, &now);
}

/* Returns 1 if Go waits for the name servers to be cleared, and they are. */
int glev_dns_step(struct glev_dns *d, short what)
{
	int clearing = d->clearing && !d->freeing;

	if (step(d))
		return clearing;
	/* In a busy loop something is always active when a timer fires. So look
	 * again when all that is active now has been called. */
	if (what & EV_TIMEOUT)
		event_active(d->step, EV_WRITE, 0);
	else
		in_next_turn(d);
	return 0;
}

int glev_dns_clear(struct glev_dns *d)
{
	struct glev_lookup *l;

	d->clearing = 1;
	for (l = d->lookups; l; l = l->next)
		if (l->req)
			evdns_getaddrinfo_cancel(l->req);
	if (step(d))
		return 1;
	in_next_turn(d);
	return 0;
}

void glev_dns_free(struct glev_dns *d)
{
	d->handle = 0;
	d->freeing = 1;
	d->base->dns_freeing++;
	if (!step(d))
		in_next_turn(d);
}

/* --- settings ----------------------------------------------------------------- */

int glev_dns_add_nameserver(struct glev_dns *d, const struct glev_addr *a)
{
	struct sockaddr_storage ss;
	int len = glev_addr_to(a, &ss);

	if (len < 0)
		return len;
	errno = 0;
	switch (evdns_base_nameserver_sockaddr_add(d->evdns, (struct sockaddr *)&ss, (ev_socklen_t)len, 0)) {
	case 0:
		return 0;
	case 3:
		return -EEXIST;
	}
	return -(errno ? errno : EIO);
}

int glev_dns_nameserver(struct glev_dns *d, int i, struct glev_addr *a)
{
	struct sockaddr_storage ss;
	int len = evdns_base_get_nameserver_addr(d->evdns, i, (struct sockaddr *)&ss, sizeof(ss));

	if (len < 0)
		return 0;
	glev_addr_from(a, (struct sockaddr *)&ss, (socklen_t)len);
	return 1;
}

int glev_dns_resolv_conf(struct glev_dns *d, int options, const char *path)
{
	enum { NO_NAMESERVER_IN_IT = 6 };
	int rc = evdns_base_resolv_conf_parse(d->evdns, options, path);

	return rc == 0 || rc == NO_NAMESERVER_IN_IT ? 0 : -EIO;
}
