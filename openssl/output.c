/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * output.c: the output where libevent writes.
 *
 * libevent makes a record of each chain of the output, however short the chain is. So the
 * chains are joined before libevent looks at them, up to the size of a record.
 *
 * An SSL_write may have to wait for bytes of the peer, in a handshake. When some come, libevent tries
 * it again and again until it succeeds, and does so for ever in one call if meanwhile the output was
 * drained. So on a filter the front of the output is frozen, except between an SSL_write that has
 * succeeded and libevent's drain. (On a socket libevent does not write in a handshake, see
 * renegotiate.c.)
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
	if (((struct gtls_conn *)arg)->under.bev && info->n_deleted)
		evbuffer_freeze(buf, 1);
	join_chains(buf);
}

void gtls_output_may_drain(struct gtls_conn *c)
{
	evbuffer_unfreeze(bufferevent_get_output(c->bev), 1);
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
