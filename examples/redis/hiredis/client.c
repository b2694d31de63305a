/* SPDX-License-Identifier: BSD-3-Clause */
/* client.c: hiredis's callbacks, and its adapter for libevent. */

#include <event2/event.h>

#include "client.h"

#include <hiredis/adapters/libevent.h>

#include "_cgo_export.h"

static void on_connect(const redisAsyncContext *ac, int status)
{
	goredisConnected((uintptr_t)ac->data, status == REDIS_OK);
}

static void on_disconnect(const redisAsyncContext *ac, int status)
{
	(void)status;
	goredisDisconnected((uintptr_t)ac->data);
}

static void on_reply(redisAsyncContext *ac, void *reply, void *command)
{
	goredisReply((uintptr_t)ac->data, (uintptr_t)command, reply);
}

redisAsyncContext *goredis_dial(struct event_base *base, const char *host, int port, uintptr_t client)
{
	redisAsyncContext *ac = port ? redisAsyncConnect(host, port) : redisAsyncConnectUnix(host);

	if (!ac || ac->err)
		return ac;
	ac->data = (void *)client;
	if (redisLibeventAttach(ac, base) != REDIS_OK) {
		redisAsyncFree(ac);
		return NULL;
	}
	/* Only after the events are attached: redisAsyncSetConnectCallback begins to wait for the
	 * connection. */
	redisAsyncSetConnectCallback(ac, on_connect);
	redisAsyncSetDisconnectCallback(ac, on_disconnect);
	return ac;
}

int goredis_command(redisAsyncContext *ac, uintptr_t command, const char *text, size_t len)
{
	return redisAsyncFormattedCommand(ac, on_reply, (void *)command, text, len);
}

void goredis_detach(redisAsyncContext *ac)
{
	ac->ev.addRead = ac->ev.delRead = NULL;
	ac->ev.addWrite = ac->ev.delWrite = NULL;
	ac->ev.cleanup = NULL;
}
