/* lines.h: connections whose lines are answered in C. */
#ifndef LINES_H
#define LINES_H

#include <event2/util.h>

struct event_base;

/* The loop's thread only. fd is closed with the connection, or at once for an error. */
void lines_new(struct event_base *base, evutil_socket_t fd);
int lines_count(void);
int lines_lent(void);
/* For the end, when Go has given back what it had. */
void lines_free_all(void);

#endif
