/*
 * ticket.c: the tickets in which clients keep a server's sessions.
 */

#include "conn.h"
#include "_cgo_export.h"

static int is_usable(const struct gtls_ctx *c, SSL_SESSION *session)
{
	STACK_OF(X509) *client = sk_X509_new_null();
	X509 *cert = SSL_SESSION_get0_peer(session);
	int usable;

	if (!client || (cert && !sk_X509_push(client, cert))) {
		sk_X509_free(client);
		return 0;
	}
	usable = gtlsTicket(c->handle, client);
	sk_X509_free(client);
	return usable;
}

/* Whether a session is resumed that a client's ticket contains. If not, there is a full
 * handshake, and a new ticket. */
static SSL_TICKET_RETURN on_ticket(SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t len, SSL_TICKET_STATUS status, void *arg)
{
	(void)ssl;
	(void)name;
	(void)len;
	switch (status) {
	case SSL_TICKET_SUCCESS:
		return is_usable(arg, session) ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_IGNORE_RENEW;
	case SSL_TICKET_SUCCESS_RENEW:
		return is_usable(arg, session) ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_IGNORE_RENEW;
	case SSL_TICKET_EMPTY:
	case SSL_TICKET_NO_DECRYPT:
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	}
	return SSL_TICKET_RETURN_ABORT;
}

void gtls_ctx_check_tickets(struct gtls_ctx *c)
{
	SSL_CTX_set_session_ticket_cb(c->ctx, NULL, on_ticket, c);
}
