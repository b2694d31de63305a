// SPDX-License-Identifier: BSD-3-Clause

package openssl

/*
#include "native.h"
*/
import "C"

import (
	"crypto/tls"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// ask.go answers the questions of handshakes. What can be answered at once is, and for the rest
// the handshake waits while a goroutine works.

// crew does work for connections on goroutines, at most so much at a time.
type crew struct {
	most int

	mu      sync.Mutex
	waiting []work
	sweep   int // when so many are waiting, those whose connection is gone are dropped
	running int
}

type work struct {
	conn *Conn
	do   func()
}

// verifying has as many goroutines as there are processors for Go, at least two: verification keeps a
// processor busy. calling is for the functions of users, which may block.
var (
	verifying = crew{most: max(runtime.GOMAXPROCS(0), 2)}
	calling   = crew{most: 1000}
)

func (w *crew) do(next work) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running < w.most {
		w.running++
		go w.run(next)
		return
	}
	w.waiting = append(w.waiting, next)
	if len(w.waiting) >= w.sweep {
		w.waiting = slices.DeleteFunc(w.waiting, func(w work) bool { return w.conn.gone.Load() })
		w.sweep = max(100, 2*len(w.waiting))
	}
}

// run has a goroutine for each work, because a function of the user may end its goroutine. The connection may have been
// freed while the work has waited, for example when the handshake has timed out. Then there is nothing to do, and the
// next handshakes do not wait for it.
func (w *crew) run(next work) {
	defer w.next()
	if !next.conn.gone.Load() {
		next.do()
	}
}

func (w *crew) next() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		w.waiting = nil
		w.running--
		return
	}
	go w.run(w.waiting[0])
	w.waiting[0] = work{}
	w.waiting = w.waiting[1:]
}

// later has a crew work for a handshake of the connection.
func (c *Conn) later(w *crew, do func()) { w.do(work{c, do}) }

// caught runs a function and sets *err to its result. It makes an error of a panic, and of
// runtime.Goexit, which the methods of testing.T call that end a test.
func caught(err *error, what string, fn func() error) {
	*err = fmt.Errorf("openssl: %s has ended its goroutine", what)
	defer func() {
		if p := recover(); p != nil {
			*err = fmt.Errorf("openssl: panic in %s: %v", what, p)
		}
	}()
	*err = fn()
}

// answer answers a question of the handshake in the next turn of its loop. conclude says what the
// answer is. It is not called if the handshake does not wait for this answer any more. A connection
// that FreeAfterFlush flushes still waits, though it is closed to the user.
func (c *Conn) answer(id C.uint, kind C.int, conclude func() C.int) {
	_ = c.Base().Post(func() {
		if !c.gone.Load() && C.gtls_conn_waits(c.c, id) != 0 {
			C.gtls_conn_answer(c.c, id, kind, conclude())
		}
	})
}

// fail keeps the reason why the handshake fails.
func (c *Conn) fail(err error) C.int {
	c.failed.Store(&err)
	return C.GTLS_NO
}

// --- the peer's certificates --------------------------------------------------------

// askVerify returns an X509_V_ for the certificates that the peer has sent, or GTLS_LATER.
func (c *Conn) askVerify(ders [][]byte, id C.uint, mayRest bool) C.int {
	t := &c.rules().trust
	work := &examination{conn: c, trust: t, ders: ders, name: c.serverName()}
	if t.verifyConnection != nil {
		work.state, work.err = c.readState()
	}
	calls := t.calls()
	if !mayRest || !t.verified && !calls {
		work.verify()
		work.call()
		return work.conclude()
	}
	then := func() { c.answer(id, C.GTLS_ASK_VERIFY, work.conclude) }
	if calls {
		answer := then
		then = func() { c.later(&calling, func() { defer answer(); work.call() }) }
	}
	c.later(&verifying, func() { defer then(); work.verify() })
	return C.GTLS_LATER
}

// examination is the verification of what the peer has sent in a handshake.
type examination struct {
	conn  *Conn
	trust *trust
	ders  [][]byte
	name  string           // that a server must have
	state *ConnectionState // for VerifyConnection, or nil

	peer  *peer
	until time.Time // the peer is good
	err   error
}

// verify does what crypto/x509 does.
func (e *examination) verify() {
	e.peer = &peer{}
	if e.err != nil {
		return
	}
	caught(&e.err, "a verification", func() (err error) {
		e.peer, err = parsePeer(e.ders)
		if err == nil && e.trust.verified && len(e.peer.certs) > 0 {
			err = e.trust.verify(e.peer, e.name, e.conn.ctx.server)
		}
		if err != nil {
			err = &tls.CertificateVerificationError{UnverifiedCertificates: e.peer.certs, Err: err}
		} else if len(e.peer.certs) > 0 {
			e.until = e.trust.goodUntil(e.peer)
		}
		return err
	})
}

// call calls the functions of the user.
func (e *examination) call() {
	if e.err == nil && e.trust.verifyPeer != nil {
		caught(&e.err, "VerifyPeerCertificate", func() error { return e.trust.verifyPeer(e.ders, e.peer.chains) })
	}
	if e.err == nil && e.state != nil {
		e.state.PeerCertificates, e.state.VerifiedChains = e.peer.certs, e.peer.chains
		e.trust.confirm(&e.err, e.state)
	}
}

func (t *trust) confirm(err *error, s *ConnectionState) {
	state := *s
	state.HandshakeComplete = false
	caught(err, "VerifyConnection", func() error { return t.verifyConnection(state) })
}

// conclude keeps the result, and returns the X509_V_ for it.
func (e *examination) conclude() C.int {
	if e.err != nil {
		e.conn.failed.Store(&e.err)
	} else {
		e.conn.peer.Store(e.peer)
		if e.conn.ctx.server && e.trust.examines() && len(e.peer.certs) > 0 {
			e.trust.clients.add(e.peer.certs[0], e.until)
		}
	}
	return alertFor(e.err)
}

// --- the connection -----------------------------------------------------------------

// askConfirm returns GTLS_YES or GTLS_NO for a connection whose handshake is done, or GTLS_LATER.
func (c *Conn) askConfirm(id C.uint, mayRest bool) C.int {
	s, err := c.decide()
	if err != nil {
		return c.fail(err)
	}
	c.next.Store(s)
	t := &c.rules().trust
	if !t.mustConfirm(s) {
		return C.GTLS_YES
	}
	conclude := func() C.int {
		if err != nil {
			return c.fail(err)
		}
		return C.GTLS_YES
	}
	if !mayRest {
		t.confirmLast(&err, s)
		return conclude()
	}
	c.later(&calling, func() { defer c.answer(id, C.GTLS_ASK_CONFIRM, conclude); t.confirmLast(&err, s) })
	return C.GTLS_LATER
}

// mustConfirm reports whether functions of the user are still to be called. If the peer has shown
// certificates, that was done with them.
func (t *trust) mustConfirm(s *ConnectionState) bool {
	return t.hasShownNone(s) && t.verifyPeer != nil || t.verifyConnection != nil && (s.DidResume || len(s.PeerCertificates) == 0)
}

// hasShownNone reports whether the peer was asked for its certificate and has none.
func (t *trust) hasShownNone(s *ConnectionState) bool {
	return t.asked && !s.DidResume && len(s.PeerCertificates) == 0
}

func (t *trust) confirmLast(err *error, s *ConnectionState) {
	if t.verifyPeer != nil && t.hasShownNone(s) {
		caught(err, "VerifyPeerCertificate", func() error { return t.verifyPeer(nil, nil) })
	}
	if *err == nil && t.verifyConnection != nil {
		t.confirm(err, s)
	}
}
