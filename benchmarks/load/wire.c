/* SPDX-License-Identifier: BSD-3-Clause */
// What carries the bytes of a connection: the socket itself, or TLS 1.3 on it.
#include "load.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

static SSL_CTX *context;

void wire_init(void)
{
	if (!opt.tls)
		return;
	context = SSL_CTX_new(TLS_client_method());
	// With one cipher and one curve, all servers do the same work. The certificate is not
	// verified: that would be work of the load generator, which is not measured.
	if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) ||
		!SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") ||
		!SSL_CTX_set1_groups_list(context, "X25519"))
		die("OpenSSL cannot do TLS 1.3");
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

void wire_open(struct wire *w, int fd)
{
	w->fd = fd;
	if (!opt.tls)
		return;
	w->ssl = SSL_new(context);
	if (!w->ssl || !SSL_set_fd(w->ssl, fd))
		die("SSL_new failed");
	SSL_set_connect_state(w->ssl);
}

// result turns what OpenSSL returned into the result of a system call, with errno.
static ssize_t result(struct wire *w, int n)
{
	if (n > 0)
		return n;
	switch (SSL_get_error(w->ssl, n)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		if (errno == 0)
			errno = ECONNRESET;
		return -1;
	}
	die("TLS: %s", ERR_reason_error_string(ERR_get_error()));
}

int wire_handshake(struct wire *w)
{
	if (!opt.tls)
		return 1;
	ERR_clear_error();
	errno = 0;
	if (result(w, SSL_do_handshake(w->ssl)) > 0)
		return 1;
	if (errno != EAGAIN)
		die_errno("handshake");
	return 0;
}

ssize_t wire_write(struct wire *w, const char *p, size_t n)
{
	if (!opt.tls)
		return send(w->fd, p, n, MSG_NOSIGNAL);
	ERR_clear_error();
	errno = 0;
	return result(w, SSL_write(w->ssl, p, (int)n));
}

ssize_t wire_read(struct wire *w, char *p, size_t n, int unseen)
{
	if (!opt.tls)
		return recv(w->fd, p, n, unseen ? MSG_TRUNC : 0);
	ERR_clear_error();
	errno = 0;
	return result(w, SSL_read(w->ssl, p, (int)n));
}

int wire_has_more(struct wire *w) { return opt.tls && SSL_pending(w->ssl) > 0; }

void wire_free(struct wire *w)
{
	SSL_free(w->ssl);
	w->ssl = NULL;
}
