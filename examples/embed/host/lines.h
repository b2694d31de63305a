/* SPDX-License-Identifier: BSD-3-Clause */
/* lines.h: connections whose lines are answered in C. */
#ifndef LINES_H
#define LINES_H

#include <event2/util.h>

struct event_base;

/* Only the loop's thread may call these functions. */

/* Serves a connection. fd is closed at its end, or at once if there is no memory. */
void lines_new(struct event_base *base, evutil_socket_t fd);
int lines_count(void);
int lines_lent(void);
/* Frees all connections. Go must have given back the lent ones. */
void lines_free_all(void);

#endif
