/* SPDX-License-Identifier: BSD-3-Clause */
#include "tls.h"
#include "server.h"

#include <pthread.h>

static SSL_CTX *context;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_context(void)
{
	context = SSL_CTX_new(TLS_server_method());
	if (!context || !SSL_CTX_use_certificate_chain_file(context, server.tls) ||
		!SSL_CTX_use_PrivateKey_file(context, server.tls, SSL_FILETYPE_PEM))
		fail(server.tls);
	SSL_CTX_set_num_tickets(context, 0); // no client resumes a session
}

SSL *new_tls(void)
{
	pthread_once(&once, make_context);
	SSL *ssl = SSL_new(context);
	if (!ssl)
		fail("SSL_new");
	return ssl;
}

SSL *accept_tls(int fd)
{
	SSL *ssl = new_tls();
	SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_set_read_ahead(ssl, 1); // one system call reads a record
	SSL_set_accept_state(ssl);
	if (!SSL_set_fd(ssl, fd))
		fail("SSL_set_fd");
	return ssl;
}
