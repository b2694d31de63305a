/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ticket.c: the tickets in which clients keep a server's sessions.
 */

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/rand.h>
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
#include <openssl/core_names.h>
#else
#include <openssl/hmac.h>
#endif

#include "conn.h"
#include "_cgo_export.h"

enum { A_DAY = 24 * 60 * 60, MOST_KEYS = 64 };

/* A key is made each day, and opens tickets for a week, unless the user has set keys. */
struct key {
	struct gtls_ticket_key key;
	int64_t made;
};

struct gtls_tickets {
	pthread_mutex_t lock;
	struct key keys[MOST_KEYS]; /* the first is for new tickets */
	int n, fixed;
};

static struct gtls_tickets *new_tickets(void)
{
	struct gtls_tickets *t = calloc(1, sizeof(*t));

	if (t)
		pthread_mutex_init(&t->lock, NULL);
	return t;
}

void gtls_tickets_free(struct gtls_tickets *t)
{
	if (!t)
		return;
	pthread_mutex_destroy(&t->lock);
	OPENSSL_cleanse(t, sizeof(*t));
	free(t);
}

/* --- the keys ------------------------------------------------------------------- */

/* Locked. */
static int rotate(struct gtls_tickets *t, int64_t now)
{
	struct key *first = &t->keys[0];

	if (t->fixed || (t->n && now - first->made < A_DAY))
		return 1;
	while (t->n && now - t->keys[t->n - 1].made > 7 * A_DAY)
		t->n--;
	memmove(first + 1, first, sizeof(*first) * (size_t)t->n);
	first->made = now;
	if (RAND_priv_bytes((unsigned char *)&first->key, sizeof(first->key)) != 1) {
		memmove(first, first + 1, sizeof(*first) * (size_t)t->n);
		return 0;
	}
	t->n++;
	return 1;
}

/* Copies the key with this name, or the one for new tickets if name is NULL. Returns its place, or
 * -1 if there is none. */
static int find(struct gtls_ctx *c, const unsigned char *name, struct gtls_ticket_key *key)
{
	struct gtls_tickets *t = c->tickets;
	int64_t now = gtlsNow(c->handle);
	int i, fresh, found = -1;

	pthread_mutex_lock(&t->lock);
	fresh = rotate(t, now);
	if (!name && fresh)
		found = 0;
	for (i = 0; name && found < 0 && i < t->n; i++)
		if (!memcmp(t->keys[i].key.name, name, sizeof(key->name)) && (t->fixed || now - t->keys[i].made <= 7 * A_DAY))
			found = i;
	if (found >= 0)
		*key = t->keys[found].key;
	pthread_mutex_unlock(&t->lock);
	return found;
}

int gtls_ctx_set_ticket_keys(struct gtls_ctx *c, const struct gtls_ticket_key *keys, int n, struct gtls_bytes id)
{
	struct gtls_tickets *t = c->tickets;
	int i;

	if (n > MOST_KEYS)
		return -1;
	pthread_mutex_lock(&t->lock);
	OPENSSL_cleanse(t->keys, sizeof(t->keys));
	for (i = 0; i < n; i++)
		t->keys[i].key = keys[i];
	t->n = n;
	t->fixed = 1;
	pthread_mutex_unlock(&t->lock);
	return SSL_CTX_set_session_id_context(c->ctx, id.p, (unsigned)id.n) ? 0 : -1;
}

/* --- OpenSSL's callback for them --------------------------------------------------- */

#if OPENSSL_VERSION_NUMBER >= 0x30000000L
typedef EVP_MAC_CTX mac_ctx;

static int init_mac(mac_ctx *mac, struct gtls_ticket_key *key)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof(key->mac)),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};

	return EVP_MAC_CTX_set_params(mac, params);
}
#else
typedef HMAC_CTX mac_ctx;

static int init_mac(mac_ctx *mac, struct gtls_ticket_key *key)
{
	return HMAC_Init_ex(mac, key->mac, sizeof(key->mac), EVP_sha256(), NULL);
}
#endif

/* Returns 1 for a key, 2 for one whose ticket is to be replaced, 0 for none, -1 for a failure. A client
 * that is refused gets no ticket. With TLS 1.3 each ticket is replaced, because clients use one only
 * once, so that observers cannot tell that it is the same client. */
static int on_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, mac_ctx *mac, int sealing)
{
	const struct gtls_conn *c = gtls_conn_of(ssl);
	struct gtls_ticket_key key;
	int ok, place = c->ask.refused ? -1 : find(c->ctx, sealing ? NULL : name, &key);

	if (place < 0)
		return sealing ? -1 : 0;
	if (sealing) {
		memcpy(name, key.name, sizeof(key.name));
		ok = RAND_bytes(iv, EVP_CIPHER_iv_length(EVP_aes_256_cbc())) == 1 &&
		    EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv);
	} else {
		ok = EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv);
	}
	ok = ok && init_mac(mac, &key);
	OPENSSL_cleanse(&key, sizeof(key));
	if (!ok)
		return -1;
	return sealing || (place == 0 && SSL_version(ssl) < TLS1_3_VERSION) ? 1 : 2;
}

/* --- which sessions may be resumed --------------------------------------------------- */

/* Before TLS 1.3 a session has its cipher, and OpenSSL looks only whether the client offers that. The context that has made
 * the ticket may have allowed more. */
static int has_cipher(const SSL *ssl, const SSL_SESSION *session)
{
	STACK_OF(SSL_CIPHER) *allowed = SSL_get_ciphers(ssl);
	const SSL_CIPHER *cipher = SSL_SESSION_get0_cipher(session);
	int i;

	if (SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION)
		return 1;
	for (i = 0; cipher && i < sk_SSL_CIPHER_num(allowed); i++)
		if (SSL_CIPHER_get_id(sk_SSL_CIPHER_value(allowed, i)) == SSL_CIPHER_get_id(cipher))
			return 1;
	return 0;
}

static int is_usable(const struct gtls_conn *c, SSL_SESSION *session)
{
	STACK_OF(X509) *client = sk_X509_new_null();
	X509 *cert = SSL_SESSION_get0_peer(session);
	int usable;

	if (!has_cipher(c->ssl, session) || !client || (cert && !sk_X509_push(client, cert))) {
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
	const struct gtls_conn *c = gtls_conn_of(ssl);

	(void)name;
	(void)len;
	(void)arg;
	switch (status) {
	case SSL_TICKET_SUCCESS:
		return is_usable(c, session) ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_IGNORE_RENEW;
	case SSL_TICKET_SUCCESS_RENEW:
		return is_usable(c, session) ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_IGNORE_RENEW;
	case SSL_TICKET_EMPTY:
	case SSL_TICKET_NO_DECRYPT:
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	}
	return SSL_TICKET_RETURN_ABORT;
}

int gtls_ctx_use_tickets(struct gtls_ctx *c)
{
	c->tickets = new_tickets();
	if (!c->tickets)
		return 0;
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
	SSL_CTX_set_tlsext_ticket_key_evp_cb(c->ctx, on_ticket_key);
#else
	SSL_CTX_set_tlsext_ticket_key_cb(c->ctx, on_ticket_key);
#endif
	return SSL_CTX_set_session_ticket_cb(c->ctx, NULL, on_ticket, NULL);
}
