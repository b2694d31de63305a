/* SPDX-License-Identifier: BSD-3-Clause */
/* service.h: the types of the functions by which Go calls the C program. cgo writes a
 * header for the functions by which C calls Go. */
#ifndef SERVICE_H
#define SERVICE_H

struct event_base;
struct bufferevent;

/* Go calls this after a panic in a closure. text is valid during the call only. */
typedef void (*service_panicked)(const char *text);
/* Go calls this when it gives a lent bufferevent back. */
typedef void (*service_returned)(struct bufferevent *bev, void *arg);

#endif
