/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * event.c: what a connection knows of an event that libevent reports.
 */

#include <errno.h>

#include "conn.h"

/* bufferevent_get_openssl_error gives the last code first, and at the end the class of the
 * failure, an SSL_ERROR_. In libevent 2.2 it gives nothing. The code that gtls_on_info or the
 * fast path has kept is OpenSSL's first, so it comes last. */
int gtls_codes(struct bufferevent *bev, unsigned long *codes, int n)
{
	struct gtls_conn *c = gtls_conn_of(bufferevent_openssl_get_ssl(bev));
	int i = 0;

	while (i < n && (codes[i] = bufferevent_get_openssl_error(bev)) != 0)
		i++;
	gtls_lock(c);
	if (i < n && c->code)
		codes[i++] = c->code;
	c->code = 0;
	gtls_unlock(c);
	return i;
}

int gtls_lost_end(const struct gtls_conn *c, short what)
{
	return c->under.ended && !c->told_end && (what & BEV_EVENT_ERROR) && (what & BEV_EVENT_WRITING);
}

/* Whether a write has failed because the peer takes no more. What the peer had sent before can be read. */
static int is_failed_write(const struct gtls_conn *c, short what, int err)
{
	return err == EPIPE && c->open && (what & BEV_EVENT_WRITING) && !(what & BEV_EVENT_READING) && !gtls_has_failed(c);
}

/* The directions that an event has ended. */
static short ended_by(const struct gtls_conn *c, short what, int err)
{
	short off = 0;

	/* With BEV_EVENT_WRITING an EOF says that a write has failed, alone or together
	 * with the peer's end. */
	if ((what & BEV_EVENT_EOF) && !(what & BEV_EVENT_WRITING))
		return EV_READ;
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		return is_failed_write(c, what, err) ? EV_WRITE : EV_READ | EV_WRITE;
	if (!(what & BEV_EVENT_TIMEOUT))
		return 0;
	if (what & BEV_EVENT_READING)
		off |= EV_READ;
	if (what & BEV_EVENT_WRITING)
		off |= EV_WRITE;
	/* A timeout of the handshake has neither. */
	return off || c->open ? off : EV_READ | EV_WRITE;
}

/* libevent leaves directions on that have ended, and stops the other one as well. This turns off what
 * has ended, and has libevent read or write on. */
static void turn_off(struct gtls_conn *c, short off)
{
	short on = (EV_READ | EV_WRITE) & ~off;

	if (!off)
		return;
	bufferevent_disable(c->bev, off);
	if (!evbuffer_get_length(bufferevent_get_output(c->bev)))
		on &= ~EV_WRITE;
	on &= bufferevent_get_enabled(c->bev);
	if (on)
		bufferevent_enable(c->bev, on);
}

void gtls_conn_restart(struct gtls_conn *c)
{
	c->code = 0;
	c->failed = 0;
	c->told_end = 0;
	c->again.wanted = c->again.awaited = c->again.astray = 0;
	c->open = 0;
	OPENSSL_free(c->scts);
	c->scts = NULL;
	c->nscts = 0;
	OPENSSL_free(c->name);
	c->name = NULL;
	gtls_guard_restart(c);
	gtls_ask_restart(c);
	gtls_wire_restart(c);
	gtls_renegotiate_quiet(c);
}

void gtls_conn_opened(struct gtls_conn *c)
{
	c->open = 1;
	gtls_guard_stop(c);
}

struct gtls_event gtls_conn_event(struct gtls_conn *c, short what, int err, int below)
{
	struct gtls_event e;
	BIO *bio;
	int failed;

	gtls_lock(c);
	bio = SSL_get_rbio(c->ssl);
	e.lost_end = gtls_lost_end(c, what);
	if (e.lost_end)
		what |= BEV_EVENT_READING;
	/* After a fatal alert OpenSSL says of the next write that the peer has closed the connection, and
	 * libevent 2.2 may report only that. */
	failed = gtls_has_failed(c);
	if (failed && (what & BEV_EVENT_EOF))
		what |= BEV_EVENT_ERROR;
	e.close_notify = (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN) && !failed;
	e.begun = !SSL_in_before(c->ssl) && (!c->under.bev || gtls_under_is_linked(c));
	e.open = c->open;
	e.nothing_received = !c->open && (!e.begun || BIO_number_read(bio) == c->wire.read_before);
	e.gave_up = c->guard.gave_up;
	e.failed_before = c->failed;
	e.refused = c->decided == GTLS_NO;
	e.socket_eof = BIO_eof(bio) > 0;
	if ((what & (e.refused ? BEV_EVENT_EOF | BEV_EVENT_ERROR : BEV_EVENT_ERROR)) && !SSL_in_before(c->ssl) &&
	    !is_failed_write(c, what, err))
		c->failed = 1;
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		gtls_guard_stop(c);
	if ((what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) && (ended_by(c, what, err) & EV_READ))
		c->told_end = 1;
	/* Below another one a handshake that fails may be that of one attempt of a connect by name. The next one needs
	 * what is enabled. */
	if (!below || c->open)
		turn_off(c, ended_by(c, what, err));
	gtls_unlock(c);
	return e;
}
