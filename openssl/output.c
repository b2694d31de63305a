/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * output.c: the output where libevent writes.
 *
 * libevent makes a record of each chain of the output, however short the chain is. So the
 * chains are joined before libevent looks at them, up to the size of a record.
 *
 * An SSL_write that had to wait is repeated with the same bytes, which must not be drained meanwhile:
 * OpenSSL has perhaps made a record of them. And if it waits for bytes of the peer, in a handshake,
 * libevent tries it again and again when some come, and does so for ever in one call if the output
 * was drained. So the front of the output is frozen, except between an SSL_write that has succeeded
 * and libevent's drain.
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
	struct gtls_conn *c = arg;

	if (info->n_deleted) {
		evbuffer_freeze(buf, 1);
		if (!c->wire.puts_aside)
			c->again_at_once = 0;
	}
	join_chains(buf);
}

/* libevent calls SSL_write for one chain after another, up to its maximum for one write or as much as it had
 * to repeat, and then drains what was written. If the first chain has as much, there is only one call, so
 * libevent drains nothing if that has to wait. A rate limit takes the place of the maximum. */
static int is_only_write(const struct gtls_conn *c, struct evbuffer *out)
{
	size_t n = evbuffer_get_length(out), most = (size_t)bufferevent_get_max_single_write(c->bev);
	struct evbuffer_iovec first;

	if (bufferevent_get_token_bucket_cfg(c->bev))
		most = SIZE_MAX;
	if (most < c->again_at_once)
		most = c->again_at_once;
	return evbuffer_peek(out, 1, NULL, &first, 1) > 0 && first.iov_len >= (n < most ? n : most);
}

void gtls_output_wrote(struct gtls_conn *c, int whole)
{
	struct evbuffer *out = bufferevent_get_output(c->bev);

	if (whole)
		evbuffer_unfreeze(out, 1);
	else if (is_only_write(c, out))
		evbuffer_freeze(out, 1);
}

void gtls_output_watch(struct gtls_conn *c, int on)
{
	(on ? evbuffer_cb_set_flags : evbuffer_cb_clear_flags)(bufferevent_get_output(c->bev), c->out_cb, EVBUFFER_CB_ENABLED);
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
