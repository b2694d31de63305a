// SPDX-License-Identifier: BSD-3-Clause

package openssl

/*
#include "native.h"
*/
import "C"

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"
	"unsafe"
)

// hello.go has what users choose for one connection: GetConfigForClient, GetCertificate and
// GetClientCertificate.

// choices are the functions of a context that choose, or nil.
type choices struct {
	config func(*tls.ClientHelloInfo) (*Context, error)
	cert   func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	always bool // cert is called also for clients that name no server
	client func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
	made   nativeCache
}

func (s *shared) setChoices(cfg *Config) {
	s.choices.config, s.choices.cert, s.choices.client = cfg.GetConfigForClient, cfg.GetCertificate, cfg.GetClientCertificate
	s.choices.always = len(cfg.Certificates) == 0
	if s.choices.config != nil || s.choices.cert != nil {
		C.gtls_ctx_ask_hello(s.c)
	}
	if s.choices.client != nil {
		C.gtls_ctx_ask_cert(s.c)
	}
}

// choice is what the functions have chosen for a handshake.
type choice struct {
	follow *shared // another context, or nil
	cert   *nativeCert
	none   bool // shows no certificate, also if the context has one
}

// choose runs a function that chooses, at once or on a goroutine.
func (c *Conn) choose(fn func(*choice) error, id C.uint, kind C.int, mayRest bool) C.int {
	var err error
	chosen := new(choice)
	run := func() { caught(&err, "a function of the Config", func() error { return fn(chosen) }) }
	conclude := func() C.int { return c.chose(chosen, err, mayRest) }
	if !mayRest {
		run()
		return conclude()
	}
	c.later(&calling, func() { defer c.answer(id, kind, conclude); run() })
	return C.GTLS_LATER
}

// chose has the handshake go on with what was chosen. If the chosen context was freed since
// GetConfigForClient has returned it, the function probably has another one now. Then chose returns
// GTLS_LATER, and the function is asked again, once.
func (c *Conn) chose(chosen *choice, err error, mayRest bool) C.int {
	const op = "handshake"
	if err != nil {
		return c.fail(err)
	}
	s := chosen.follow
	if s == nil {
		s = c.ctx
	}
	if s != c.ctx && !slices.Contains(c.held, s) {
		if !s.enter() {
			if c.missed || !mayRest {
				return c.fail(errFreed(op))
			}
			c.missed = true
			return C.GTLS_LATER
		}
		c.held = append(c.held, s)
	}
	c.missed = false
	if len(c.held) > 0 { // a renegotiation may go back to the first context
		if C.gtls_conn_follow(c.c, s.c) == 0 {
			return c.fail(errors.New("openssl: the handshake cannot follow the context of GetConfigForClient"))
		}
		c.followed.Store(s)
		c.leaveAllBut(s)
	}
	var shown *C.struct_gtls_cert
	if chosen.cert != nil {
		shown = chosen.cert.c
	}
	if (shown != nil || chosen.none) && C.gtls_conn_show(c.c, shown) == 0 {
		return c.fail(errors.New("openssl: OpenSSL does not take the certificate that was chosen"))
	}
	runtime.KeepAlive(chosen.cert)
	return C.GTLS_YES
}

// leaveAllBut lets go of the contexts of earlier handshakes, because GetConfigForClient may return a new one
// for each.
func (c *Conn) leaveAllBut(s *shared) {
	c.held = slices.DeleteFunc(c.held, func(held *shared) bool {
		if held != s {
			held.leave()
		}
		return held != s
	})
}

// --- a server ---------------------------------------------------------------------

// askHello asks the functions of a server about a client.
func (c *Conn) askHello(hello *C.struct_gtls_hello, id C.uint, mayRest bool) C.int {
	c.followed.Store(nil)
	info := c.infoOf(hello)
	return c.choose(func(chosen *choice) error {
		s := c.ctx
		if s.choices.config != nil {
			ctx, err := s.choices.config(info)
			if err != nil {
				return err
			}
			if ctx != nil && !ctx.server {
				return errors.New("openssl: GetConfigForClient has returned the context of a client")
			}
			if ctx != nil {
				s, chosen.follow = ctx.shared, ctx.shared
			}
		}
		if s.choices.cert == nil || info.ServerName == "" && !s.choices.always {
			return nil
		}
		cert, err := s.choices.cert(info)
		if err != nil || cert == nil {
			return err
		}
		chosen.cert, err = s.choices.made.of(cert)
		return err
	}, id, C.GTLS_ASK_HELLO, mayRest)
}

func (c *Conn) infoOf(hello *C.struct_gtls_hello) *tls.ClientHelloInfo {
	info := &tls.ClientHelloInfo{
		CipherSuites:      list16[uint16](goBytes(hello.ciphers)),
		ServerName:        string(goBytes(hello.name)),
		SupportedCurves:   list16[tls.CurveID](skip(goBytes(hello.groups), 2)),
		SupportedPoints:   skip(goBytes(hello.points), 1),
		SignatureSchemes:  list16[tls.SignatureScheme](skip(goBytes(hello.schemes), 2)),
		SupportedProtos:   protosIn(skip(goBytes(hello.protos), 2)),
		SupportedVersions: list16[uint16](skip(goBytes(hello.versions), 1)),
		Conn:              ends{c: c},
	}
	for _, id := range unsafe.Slice(hello.extensions, hello.nextensions) {
		info.Extensions = append(info.Extensions, uint16(id))
	}
	if info.SupportedVersions == nil {
		for v := min(uint16(hello.legacy_version), tls.VersionTLS13); v >= tls.VersionTLS10; v-- {
			info.SupportedVersions = append(info.SupportedVersions, v)
		}
	}
	return info
}

func goBytes(b C.struct_gtls_bytes) []byte {
	return C.GoBytes(unsafe.Pointer(b.p), C.int(b.n))
}

// skip removes the length at the start of an extension. OpenSSL has not checked it yet.
func skip(b []byte, n int) []byte {
	if len(b) < n {
		return nil
	}
	return b[n:]
}

func list16[T ~uint16](b []byte) (list []T) {
	for ; len(b) >= 2; b = b[2:] {
		list = append(list, T(b[0])<<8|T(b[1]))
	}
	return list
}

func protosIn(b []byte) (protos []string) {
	for len(b) > 0 && len(b) > int(b[0]) {
		protos = append(protos, string(b[1:1+b[0]]))
		b = b[1+b[0]:]
	}
	return protos
}

// ends is the Conn of a ClientHelloInfo: it has addresses, and refuses all else.
type ends struct{ c *Conn }

func (e ends) LocalAddr() net.Addr  { return e.c.BufferEvent.LocalAddr() }
func (e ends) RemoteAddr() net.Addr { return e.c.BufferEvent.RemoteAddr() }

var errEnds = fmt.Errorf("openssl: the Conn of a ClientHelloInfo has addresses only: %w", errors.ErrUnsupported)

func (ends) Read([]byte) (int, error)         { return 0, errEnds }
func (ends) Write([]byte) (int, error)        { return 0, errEnds }
func (ends) Close() error                     { return errEnds }
func (ends) SetDeadline(time.Time) error      { return errEnds }
func (ends) SetReadDeadline(time.Time) error  { return errEnds }
func (ends) SetWriteDeadline(time.Time) error { return errEnds }

// --- a client ---------------------------------------------------------------------

// askRequest asks the function of a client for the certificate that a server wants.
func (c *Conn) askRequest(request *C.struct_gtls_request, id C.uint, mayRest bool) C.int {
	info := &tls.CertificateRequestInfo{Version: uint16(request.version)}
	for i := range C.gtls_names_count(request.authorities) {
		var n C.int
		der := C.gtls_name_der(request.authorities, i, &n)
		info.AcceptableCAs = append(info.AcceptableCAs, C.GoBytes(unsafe.Pointer(der), max(n, 0)))
		C.gtls_der_free(der)
	}
	for _, scheme := range request.schemes[:request.nschemes] {
		info.SignatureSchemes = append(info.SignatureSchemes, tls.SignatureScheme(scheme))
	}
	return c.choose(func(chosen *choice) error {
		cert, err := c.ctx.choices.client(info)
		switch {
		case err != nil:
			return err
		case cert == nil:
			return errors.New("openssl: GetClientCertificate has returned neither a certificate nor an error")
		case len(cert.Certificate) == 0:
			chosen.none = true
			return nil
		}
		chosen.cert, err = c.ctx.choices.made.of(cert)
		return err
	}, id, C.GTLS_ASK_REQUEST, mayRest)
}

// --- OpenSSL's form of certificates -----------------------------------------------

// nativeCert is OpenSSL's form of a certificate. It is freed when Go has no pointer to it.
type nativeCert struct{ c *C.struct_gtls_cert }

// nativeCache remembers the forms of certificates that functions have returned. These return the
// same pointers again and again. If one returns a new pointer each time, the cache starts again.
type nativeCache struct {
	mu   sync.Mutex
	made map[*tls.Certificate]*nativeCert
}

func (n *nativeCache) of(cert *tls.Certificate) (*nativeCert, error) {
	const most = 1000
	n.mu.Lock()
	defer n.mu.Unlock()
	if made := n.made[cert]; made != nil {
		return made, nil
	}
	_, native, err := nativeCertificate("handshake", cert)
	if err != nil {
		return nil, err
	}
	made := &nativeCert{native}
	runtime.AddCleanup(made, func(c *C.struct_gtls_cert) { C.gtls_cert_free(c) }, native)
	if n.made == nil || len(n.made) >= most {
		n.made = map[*tls.Certificate]*nativeCert{}
	}
	n.made[cert] = made
	return made, nil
}
