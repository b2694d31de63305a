// SPDX-License-Identifier: BSD-3-Clause

package openssl

/*
#include <stdlib.h>
#include "native.h"
*/
import "C"

import (
	"crypto/tls"
	"runtime/cgo"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-libevent/libevent"
)

// Context is what connections have in common: their certificates, whom they trust, the
// versions of TLS, the sessions. It is for one role, server or client. Make it once, and use
// it for any number of connections on any number of loops. Its constructors and methods are
// safe for concurrent use, unless a method says otherwise.
type Context struct {
	*shared
	name string // that a client expects, or ""
}

// shared is what a Context and those that Named made of it have in common. Its memory is
// given back when it is freed and has no connection left.
type shared struct {
	c       *C.struct_gtls_ctx
	handle  cgo.Handle
	server  bool
	trust   trust
	timeout time.Duration // of a handshake, or 0
	choices choices
	protos  []string // of ALPN
	demands [32]byte // what a server demands of clients, in short

	mu    sync.Mutex // for freed and conns
	freed bool
	conns int // how many there are

	pick     picker
	sessions *sessionCache
	keys     *keyLog
}

// NewServerContext makes a context for accepting connections.
func NewServerContext(cfg *Config) (*Context, error) {
	const op = "NewServerContext"
	if cfg == nil || len(cfg.Certificates) == 0 && cfg.GetCertificate == nil && cfg.GetConfigForClient == nil {
		return nil, badArgument(op, "Certificates is empty: a server needs at least one")
	}
	switch {
	case cfg.RootCAs != nil || cfg.RootCertificates != nil:
		return nil, badArgument(op, "RootCAs and RootCertificates are for clients: see ClientCAs")
	case cfg.ServerName != "" || cfg.InsecureSkipVerify || cfg.SessionCache != 0:
		return nil, badArgument(op, "ServerName, InsecureSkipVerify and SessionCache are for clients")
	case cfg.GetClientCertificate != nil:
		return nil, badArgument(op, "GetClientCertificate is for clients: see GetCertificate")
	case cfg.SessionTickets < 0 || cfg.SessionTickets > C.GTLS_MAX_WITHOUT_DATA:
		return nil, badArgument(op, "SessionTickets is %d: it must be 0 to %d, because clients do not take more", cfg.SessionTickets, C.GTLS_MAX_WITHOUT_DATA)
	case cfg.ClientAuth < tls.NoClientCert || cfg.ClientAuth > tls.RequireAndVerifyClientCert:
		return nil, badArgument(op, "ClientAuth is %d", cfg.ClientAuth)
	case cfg.ClientAuth < tls.VerifyClientCertIfGiven && (cfg.ClientCAs != nil || cfg.ClientCACertificates != nil):
		return nil, badArgument(op, "ClientCAs or ClientCACertificates is set, but ClientAuth is %v, which verifies nothing", cfg.ClientAuth)
	case cfg.ClientAuth < tls.VerifyClientCertIfGiven && len(cfg.CRLs) > 0:
		return nil, badArgument(op, "CRLs is set, but ClientAuth is %v, which verifies nothing", cfg.ClientAuth)
	case cfg.ClientCAs != nil && cfg.ClientCACertificates != nil:
		return nil, badArgument(op, "ClientCAs and ClientCACertificates are both set")
	}
	return newContext(op, cfg, true)
}

// NewClientContext makes a context for connecting. A nil cfg stands for the zero Config.
func NewClientContext(cfg *Config) (*Context, error) {
	const op = "NewClientContext"
	if cfg == nil {
		cfg = &Config{}
	}
	switch {
	case len(cfg.Certificates) > 1:
		return nil, badArgument(op, "there are %d Certificates: a client has at most one", len(cfg.Certificates))
	case cfg.ClientAuth != 0 || cfg.ClientCAs != nil || cfg.ClientCACertificates != nil:
		return nil, badArgument(op, "ClientAuth, ClientCAs and ClientCACertificates are for servers: see RootCAs")
	case cfg.GetCertificate != nil || cfg.GetConfigForClient != nil:
		return nil, badArgument(op, "GetCertificate and GetConfigForClient are for servers: see GetClientCertificate")
	case cfg.SessionTickets != 0:
		return nil, badArgument(op, "SessionTickets is for servers: see SessionCache")
	case cfg.RootCAs != nil && cfg.RootCertificates != nil:
		return nil, badArgument(op, "RootCAs and RootCertificates are both set")
	case cfg.InsecureSkipVerify && len(cfg.CRLs) > 0:
		return nil, badArgument(op, "CRLs is set, but InsecureSkipVerify is true, so nothing is verified")
	case cfg.SessionCache < 0:
		return nil, badArgument(op, "SessionCache is %d", cfg.SessionCache)
	}
	return newContext(op, cfg, false)
}

func newContext(op string, cfg *Config, server bool) (*Context, error) {
	if err := checkServerName(op, cfg.ServerName); err != nil {
		return nil, err
	}
	s := &shared{server: server, sessions: newSessionCache(cfg.SessionCache), keys: newKeyLog(cfg.KeyLogWriter)}
	s.handle = cgo.NewHandle(s)
	live.contexts.Add(1)
	switch {
	case cfg.HandshakeTimeout == 0:
		s.timeout = 10 * time.Second
	case cfg.HandshakeTimeout > 0:
		s.timeout = max(cfg.HandshakeTimeout, time.Microsecond)
	}
	c := &Context{s, cfg.ServerName}
	tickets := C.int(-1)
	if cfg.SessionTickets > 0 {
		tickets = C.int(cfg.SessionTickets)
	}
	options := C.int(0)
	for option, on := range map[C.int]bool{
		C.GTLS_NO_TICKETS: cfg.SessionTicketsDisabled, C.GTLS_RENEGOTIATION: cfg.Renegotiation,
		C.GTLS_SESSIONS: cfg.SessionCache > 0 && !cfg.SessionTicketsDisabled, C.GTLS_KEY_LOG: cfg.KeyLogWriter != nil,
	} {
		if on {
			options |= option
		}
	}
	var code C.ulong
	s.c = C.gtls_ctx_new(cBool(server), options, tickets, C.uintptr_t(s.handle), &code)
	if s.c == nil {
		s.release()
		return nil, newError(op, code)
	}
	if err := s.configure(op, cfg); err != nil {
		s.release()
		return nil, err
	}
	return c, nil
}

func (s *shared) configure(op string, cfg *Config) error {
	if err := s.setVersions(op, cfg.MinVersion, cfg.MaxVersion); err != nil {
		return err
	}
	if err := s.setCiphers(op, cfg); err != nil {
		return err
	}
	if err := s.setGroups(op, cfg.CurvePreferences); err != nil {
		return err
	}
	if err := s.setCertificates(op, cfg.Certificates); err != nil {
		return err
	}
	if err := s.setTrust(op, cfg); err != nil {
		return err
	}
	s.setChoices(cfg)
	return s.setProtocols(op, cfg.NextProtos)
}

func (s *shared) setProtocols(op string, protos []string) error {
	if len(protos) == 0 {
		return nil
	}
	s.protos = slices.Clone(protos)
	var wire []byte
	for _, p := range protos {
		if len(p) == 0 || len(p) > 255 {
			return badArgument(op, "NextProtos has %q: a protocol has 1 to 255 bytes", p)
		}
		wire = append(append(wire, byte(len(p))), p...)
	}
	if len(wire) > mostExtended {
		return badArgument(op, "NextProtos has %d bytes in all: at most %d are possible", len(wire), mostExtended)
	}
	pinned := newPinned()
	defer pinned.Unpin()
	return newErrorIf(op, C.gtls_ctx_alpn(s.c, pinned.bytes(wire)))
}

// Named returns a client's context that has another ServerName, and everything else in common
// with c, also the sessions. The two are freed together: Free of either frees both.
func (c *Context) Named(serverName string) (*Context, error) {
	const op = "Named"
	if c.server {
		return nil, badArgument(op, "this is the context of a server, which expects no name")
	}
	if err := checkServerName(op, serverName); err != nil {
		return nil, err
	}
	return &Context{c.shared, serverName}, nil
}

// Free frees the context: no new connection can be made with it. Existing connections go on,
// and the context's memory is given back after the last of them.
func (c *Context) Free() {
	c.mu.Lock()
	last := !c.freed && c.conns == 0
	c.freed = true
	c.mu.Unlock()
	if last {
		c.release()
	}
}

// enter counts a new connection. It reports false if the context is freed.
func (s *shared) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.freed {
		return false
	}
	s.conns++
	return true
}

// leave is the counterpart of enter.
func (s *shared) leave() {
	s.mu.Lock()
	s.conns--
	last := s.freed && s.conns == 0
	s.mu.Unlock()
	if last {
		s.release()
	}
}

func (s *shared) release() {
	s.sessions.clear()
	if s.c != nil {
		C.gtls_ctx_free(s.c)
	}
	s.handle.Delete()
	live.contexts.Add(-1)
}

// --- live objects ---------------------------------------------------------------

// LiveObjects counts the objects whose memory is not given back yet.
type LiveObjects struct {
	Contexts int64 // a freed one counts until its last connection is given back
	Conns    int64 // a freed one counts until libevent has destroyed it
	Sessions int64 // in the caches of client contexts
}

var live struct{ contexts, conns, sessions atomic.Int64 }

// Live returns how many objects of this package exist. libevent destroys a freed connection
// some turns of its loop after Free.
func Live() LiveObjects {
	return LiveObjects{live.contexts.Load(), live.conns.Load(), live.sessions.Load()}
}

// --- arguments -------------------------------------------------------------------

// badArgument makes the error for an argument that makes no sense. It matches EINVAL.
func badArgument(op, format string, args ...any) error {
	return &libevent.Error{Op: op, Err: &invalid{sprintf(format, args...)}}
}

func errFreed(op string) error { return &libevent.Error{Op: op, Err: libevent.ErrClosed} }

type invalid struct{ text string }

func (e *invalid) Error() string { return e.text }
func (e *invalid) Unwrap() error { return syscall.EINVAL }
