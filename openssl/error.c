/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * error.c: OpenSSL's error codes, and the queue in which a thread has them.
 */

#include "conn.h"

unsigned long gtls_take_error(void)
{
	unsigned long code = ERR_get_error();

	ERR_clear_error();
	return code ? code : ERR_PACK(ERR_LIB_SSL, 0, ERR_R_INTERNAL_ERROR);
}

int gtls_lib(unsigned long code)
{
	return ERR_GET_LIB(code);
}

int gtls_reason(unsigned long code)
{
	return ERR_GET_REASON(code);
}

int gtls_is_unexpected_eof(unsigned long code)
{
#ifdef SSL_R_UNEXPECTED_EOF_WHILE_READING /* OpenSSL 3 */
	return ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
#else
	(void)code;
	return 0;
#endif
}
