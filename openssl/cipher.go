// SPDX-License-Identifier: BSD-3-Clause

package openssl

/*
#include "native.h"
*/
import "C"

import (
	"crypto/tls"
	"errors"
	"slices"
	"strings"
)

func (s *shared) setVersions(op string, low, high uint16) error {
	for _, v := range []uint16{low, high} {
		if v != 0 && (v < tls.VersionTLS10 || v > tls.VersionTLS13) {
			return badArgument(op, "MinVersion or MaxVersion is %#04x, which is not a version of TLS", v)
		}
	}
	if least := max(low, tls.VersionTLS12); high != 0 && low == 0 && high < least || high != 0 && high < low {
		return badArgument(op, "MaxVersion, %s, is below MinVersion, %s", tls.VersionName(high), tls.VersionName(least))
	}
	return newErrorIf(op, C.gtls_ctx_versions(s.c, C.int(low), C.int(high)))
}

func (s *shared) setCiphers(op string, cfg *Config) error {
	list := cfg.CipherList
	if strings.Contains(list, "\x00") {
		return badArgument(op, "CipherList has a byte that is 0, at which OpenSSL would end it")
	}
	tls12, tls13, err := ciphersOf(op, cfg.CipherSuites)
	if err != nil {
		return err
	}
	if len(tls12) > 0 {
		if list != "" {
			return badArgument(op, "CipherList and CipherSuites are both set")
		}
		list = strings.Join(tls12, ":")
	}
	if list == "" && cfg.MaxVersion != 0 && cfg.MaxVersion < tls.VersionTLS12 {
		return badArgument(op, "MaxVersion, %s, has none of the default ciphers: set CipherList", tls.VersionName(cfg.MaxVersion))
	}
	return newErrorIf(op, C.gtls_ctx_ciphers(s.c, cStringOrNil(list), cStringOrNil(strings.Join(tls13, ":"))))
}

// ciphersOf returns OpenSSL's names for the ids of crypto/tls. Most builds of OpenSSL leave RC4 and 3DES out.
func ciphersOf(op string, ids []uint16) (tls12, tls13 []string, err error) {
	for _, id := range ids {
		name := tls.CipherSuiteName(id)
		if strings.HasPrefix(name, "0x") {
			return nil, nil, badArgument(op, "CipherSuites has %#04x, which crypto/tls does not know", id)
		}
		if id>>8 == 0x13 {
			tls13 = append(tls13, name)
			continue
		}
		native := C.GoString(C.OPENSSL_cipher_name(cString(name)))
		if native == "(NONE)" {
			return nil, nil, badArgument(op, "CipherSuites has %#04x, %s, which OpenSSL does not have", id, name)
		}
		tls12 = append(tls12, native)
	}
	return tls12, tls13, nil
}

// groups has OpenSSL's names for those of crypto/tls. Older versions of crypto/tls do not name the last two.
var groups = map[tls.CurveID]string{
	tls.CurveP256: "P-256", tls.CurveP384: "P-384", tls.CurveP521: "P-521",
	tls.X25519: "X25519", tls.X25519MLKEM768: "X25519MLKEM768",
	4587: "SecP256r1MLKEM768", 4589: "SecP384r1MLKEM1024",
}

// setGroups leaves out what this OpenSSL does not have, and what is there already. OpenSSL refuses a whole
// list for one such name, so each is tried alone before.
func (s *shared) setGroups(op string, wanted []tls.CurveID) error {
	if len(wanted) == 0 {
		return nil
	}
	var names []string
	var failed error
	for _, id := range wanted {
		name, ok := groups[id]
		if !ok {
			return badArgument(op, "CurvePreferences has %v, which is not a group that crypto/tls knows", id)
		}
		if slices.Contains(names, name) {
			continue
		}
		if code := C.gtls_ctx_groups(s.c, cString(name)); code != 0 {
			failed = newError(op, code)
			continue
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return errors.Join(badArgument(op, "OpenSSL has none of CurvePreferences"), failed)
	}
	return newErrorIf(op, C.gtls_ctx_groups(s.c, cString(strings.Join(names, ":"))))
}
