/*
 * record.c: as few records as possible, where libevent writes: it makes one of each chain
 * of the output, however small.
 */

#include "native.h"

enum { RECORD = 16384 };

static void make_one_chain(struct evbuffer *out)
{
	size_t n = evbuffer_get_length(out);
	struct evbuffer_iovec vec;

	if (n > RECORD)
		n = RECORD;
	if (evbuffer_peek(out, 1, NULL, &vec, 1) > 0 && vec.iov_len < n)
		evbuffer_pullup(out, (ev_ssize_t)n);
}

/* Under the lock, before libevent's own callback, which writes what is on another
 * bufferevent. */
void gtls_on_output(struct evbuffer *buf, const struct evbuffer_cb_info *info, void *arg)
{
	(void)info;
	(void)arg;
	make_one_chain(buf);
}

int gtls_record_init(struct gtls_conn *c)
{
	c->out_cb = evbuffer_add_cb(bufferevent_get_output(c->bev), gtls_on_output, c);
	return c->out_cb ? 0 : -1;
}

void gtls_record_free(struct gtls_conn *c)
{
	if (c->out_cb)
		evbuffer_remove_cb_entry(bufferevent_get_output(c->bev), c->out_cb);
}
