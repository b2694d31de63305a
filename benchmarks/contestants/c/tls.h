/* SPDX-License-Identifier: BSD-3-Clause */
// TLS of the C servers.
#ifndef TLS_H
#define TLS_H

#include <openssl/err.h>
#include <openssl/ssl.h>

// new_tls makes the connection of a client, with the certificate that the server was started with.
SSL *new_tls(void);

// accept_tls does the same on a socket that OpenSSL reads and writes.
SSL *accept_tls(int fd);

#endif
