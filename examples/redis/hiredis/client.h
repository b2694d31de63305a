/* SPDX-License-Identifier: BSD-3-Clause */
/* client.h: the C side of a Client, as Go sees it. */
#ifndef GOREDIS_CLIENT_H
#define GOREDIS_CLIENT_H

#include <stdint.h>

#include <hiredis/async.h>
#include <hiredis/hiredis.h>

struct event_base;

/*
 * Begins to connect to a literal address, or to the path of a socket if port is 0. After an
 * error, which is in err and errstr of the result, hiredis has no events and calls no
 * callbacks. NULL if there is no memory.
 */
redisAsyncContext *goredis_dial(struct event_base *base, const char *host, int port, uintptr_t client);

/* Sends a command, which is in the form of the protocol. A zero byte follows its len bytes. */
int goredis_command(redisAsyncContext *ac, uintptr_t command, const char *text, size_t len);

/* Makes hiredis forget its events after their base was freed. The events leak. */
void goredis_detach(redisAsyncContext *ac);

#endif
