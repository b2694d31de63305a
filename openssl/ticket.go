// SPDX-License-Identifier: BSD-3-Clause

package openssl

/*
#include "native.h"
*/
import "C"

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"unsafe"
)

// SetSessionTicketKeys sets the keys of a server's tickets. The first encrypts new tickets, and all
// decrypt. Servers that share their keys resume each other's sessions, if they also demand the same
// of their clients: their ClientAuth and the names of their authorities must be equal. A server that
// verifies clients, or has a VerifyPeerCertificate, resumes a client's session when it has accepted the
// client's certificate itself once. Without keys of the user a context makes a key of its own each day,
// and decrypts with a key for a week. Once there are keys of the user, the user replaces them.
func (c *Context) SetSessionTicketKeys(keys [][32]byte) error {
	const op = "SetSessionTicketKeys"
	if !c.server {
		return badArgument(op, "this is the context of a client")
	}
	if len(keys) == 0 {
		return badArgument(op, "there are no keys")
	}
	native := make([]C.struct_gtls_ticket_key, len(keys))
	for i, key := range keys {
		for name, to := range map[string][]C.uchar{"name": native[i].name[:], "cipher": native[i].cipher[:], "mac": native[i].mac[:]} {
			derived, err := hkdf.Expand(sha256.New, key[:], "go-libevent session ticket "+name, len(to))
			if err != nil {
				return badArgument(op, "%v", err)
			}
			copy(unsafe.Slice((*byte)(unsafe.Pointer(&to[0])), len(to)), derived)
		}
	}
	defer clear(native)
	pinned := newPinned()
	defer pinned.Unpin()
	if !c.enter() {
		return errFreed(op)
	}
	defer c.leave()
	if C.gtls_ctx_set_ticket_keys(c.c, &native[0], C.int(len(native)), pinned.bytes(c.demands[:])) < 0 {
		return badArgument(op, "there are %d keys, which is too many", len(keys))
	}
	return nil
}

// demandsOf is the same for servers that demand the same of their clients.
func demandsOf(auth byte, names [][]byte) [32]byte {
	all := []byte{auth}
	for _, name := range names {
		all = append(binary.BigEndian.AppendUint32(all, uint32(len(name))), name...)
	}
	return sha256.Sum256(all)
}
