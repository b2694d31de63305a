// SPDX-License-Identifier: BSD-3-Clause

package openssl

/*
#include "native.h"
*/
import "C"

import (
	"container/list"
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"time"
)

// clients remembers the certificates of clients that a server has verified. Another server may have
// the same ticket keys, and authorities with the same names, so a certificate in a ticket proves
// nothing. When there are too many, it starts again, and the clients get full handshakes.
type clients struct {
	mu   sync.Mutex
	seen map[[sha256.Size]byte]time.Time // until when they are good
}

func (c *clients) add(cert *x509.Certificate, until time.Time) {
	const most = 10000
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil || len(c.seen) >= most {
		c.seen = map[[sha256.Size]byte]time.Time{}
	}
	c.seen[sha256.Sum256(cert.Raw)] = until
}

func (c *clients) has(cert *x509.Certificate, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, seen := c.seen[sha256.Sum256(cert.Raw)]
	return seen && !now.After(until)
}

// sessionCache has the last session with each of the most recently used servers. It holds a
// reference to each session.
type sessionCache struct {
	most int // servers

	mu     sync.Mutex
	used   *list.List // of *cached, the most recently used first
	byName map[string]*list.Element
}

type cached struct {
	name    string
	session *C.SSL_SESSION
	peer    *peer // the server; nil if it has shown no certificate
}

func newSessionCache(most int) *sessionCache {
	return &sessionCache{most: most, used: list.New(), byName: map[string]*list.Element{}}
}

// stapledPeer returns the server with what it has sent along with its certificate. It sends that only in a
// full handshake. A server of TLS 1.3 may send thousands of tickets, so only the first one of a handshake has
// the certificates parsed.
func (c *Conn) stapledPeer() *peer {
	p := c.peer.Load()
	if p != nil && p.stapled {
		return p
	}
	s, err := c.readState()
	switch {
	case err != nil:
		return p
	case s.DidResume:
		p = c.resumedPeer(s)
	case p != nil:
		p = &peer{certs: p.certs, chains: p.chains, ocsp: s.OCSPResponse, scts: s.SignedCertificateTimestamps}
	}
	if p != nil {
		stapled := *p
		stapled.stapled = true
		p = &stapled
		c.peer.Store(p)
	}
	return p
}

// put makes session the last one with a server. It takes the reference.
func (s *sessionCache) put(name string, session *C.SSL_SESSION, p *peer) {
	live.sessions.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == "" || s.most == 0 { // without a name the server is not known
		freeSession(session)
		return
	}
	if e, ok := s.byName[name]; ok {
		freeSession(e.Value.(*cached).session)
		e.Value.(*cached).session, e.Value.(*cached).peer = session, p
		s.used.MoveToFront(e)
		return
	}
	s.byName[name] = s.used.PushFront(&cached{name, session, p})
	if s.used.Len() > s.most {
		s.remove(s.used.Back())
	}
}

// get returns a copy of the last session with a server, and the server's certificates. It returns
// nil if there is no session, or none that this client could resume now. It must be a copy, because
// OpenSSL makes a session unusable if its connection ends without close_notify.
func (s *sessionCache) get(name string, t *trust) (*C.SSL_SESSION, *peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.byName[name]
	if !ok {
		return nil, nil
	}
	k := e.Value.(*cached)
	usable := C.gtls_session_fresh(k.session) != 0
	if usable && t.verified {
		usable = k.peer != nil
		if usable {
			_, err := t.stillValid(k.peer, name, false)
			usable = err == nil
		}
	}
	if !usable {
		s.remove(e)
		return nil, nil
	}
	s.used.MoveToFront(e)
	return C.SSL_SESSION_dup(k.session), k.peer
}

// forget removes the session with a server, if it is that of p: the handshake that has offered it has failed. The
// session may be the cause, and then every other handshake would fail, too.
func (s *sessionCache) forget(name string, p *peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.byName[name]; ok && p != nil && e.Value.(*cached).peer == p {
		s.remove(e)
	}
}

func (s *sessionCache) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.used.Len() > 0 {
		s.remove(s.used.Back())
	}
}

func (s *sessionCache) remove(e *list.Element) {
	k := s.used.Remove(e).(*cached)
	delete(s.byName, k.name)
	freeSession(k.session)
}

func freeSession(session *C.SSL_SESSION) {
	C.SSL_SESSION_free(session)
	live.sessions.Add(-1)
}
