/* service.h: what the C program and its Go part tell each other, beside what cgo
 * writes of the exported functions. */
#ifndef SERVICE_H
#define SERVICE_H

struct event_base;
struct bufferevent;

/* A closure panicked; text is C's for the time of the call. */
typedef void (*service_panicked)(const char *text);
/* Go is done with a bufferevent that was lent to it. */
typedef void (*service_returned)(struct bufferevent *bev, void *arg);

#endif
