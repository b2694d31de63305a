/* client.h: the C side of a Client, as Go sees it. */
#ifndef GOREDIS_CLIENT_H
#define GOREDIS_CLIENT_H

#include <stdint.h>

#include <hiredis/async.h>
#include <hiredis/hiredis.h>

struct event_base;

/*
 * Begins to connect to a literal address, or to a socket's path when port is 0. What
 * is wrong is in the result's err and errstr; then it has no events, and callbacks do
 * not come. NULL when memory is short.
 */
redisAsyncContext *goredis_dial(struct event_base *base, const char *host, int port, uintptr_t client);

/* Sends a command in the protocol's form, with a zero byte after its len bytes. */
int goredis_command(redisAsyncContext *ac, uintptr_t command, const char *text, size_t len);

/* Takes the events away without touching them: their base is gone. They leak. */
void goredis_detach(redisAsyncContext *ac);

#endif
