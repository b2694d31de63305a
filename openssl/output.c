/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * output.c: the output where libevent writes.
 *
 * libevent makes a record of each chain of the output, however short the chain is. So the
 * chains are joined before libevent looks at them, up to the size of a record.
 */

#include "conn.h"

static void join_chains(struct evbuffer *out)
{
	size_t n = evbuffer_get_length(out);
	struct evbuffer_iovec vec;

	if (n > GTLS_RECORD)
		n = GTLS_RECORD;
	if (evbuffer_peek(out, 1, NULL, &vec, 1) > 0 && vec.iov_len < n)
		evbuffer_pullup(out, (ev_ssize_t)n);
}

/* Locked. It is called before libevent's own callback on the output, in which libevent
 * writes to the bufferevent below a filter. */
static void on_output(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
	join_chains(buf);
	if (info->n_added)
		gtls_under_output(arg);
}

int gtls_output_init(struct gtls_conn *c)
{
	c->out_cb = evbuffer_add_cb(bufferevent_get_output(c->bev), on_output, c);
	return c->out_cb ? 0 : -1;
}

void gtls_output_free(struct gtls_conn *c)
{
	if (c->out_cb)
		evbuffer_remove_cb_entry(bufferevent_get_output(c->bev), c->out_cb);
}
