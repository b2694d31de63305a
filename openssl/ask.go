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
	"sync"
)

// ask.go answers the questions of handshakes. What can be answered at once is, and for the rest
// the handshake waits while a goroutine works.

// crew runs functions on goroutines, at most so many at a time.
type crew struct {
	most int

	mu      sync.Mutex
	waiting []func()
	running int
}

// verifying has as many goroutines as there are processors for Go, at least two: verification keeps a
// processor busy. calling is for the functions of users, which may block.
var (
	verifying = crew{most: max(runtime.GOMAXPROCS(0), 2)}
	calling   = crew{most: 1000}
)

func (w *crew) do(work func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == w.most {
		w.waiting = append(w.waiting, work)
		return
	}
	w.running++
	go w.run(work)
}

func (w *crew) run(work func()) {
	for work != nil {
		work()
		work = w.next()
	}
}

func (w *crew) next() func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		w.waiting = nil
		w.running--
		return nil
	}
	work := w.waiting[0]
	w.waiting[0] = nil
	w.waiting = w.waiting[1:]
	return work
}

// caught runs a function, and makes an error of its panic.
func caught(what string, fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("openssl: panic in %s: %v", what, p)
		}
	}()
	return fn()
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
	calls := t.verifyPeer != nil || t.verifyConnection != nil
	if !mayRest || !t.verified && !calls {
		work.verify()
		work.call()
		return work.conclude()
	}
	verifying.do(func() {
		work.verify()
		if !calls {
			c.answer(id, C.GTLS_ASK_VERIFY, work.conclude)
			return
		}
		calling.do(func() {
			work.call()
			c.answer(id, C.GTLS_ASK_VERIFY, work.conclude)
		})
	})
	return C.GTLS_LATER
}

// examination is the verification of what the peer has sent in a handshake.
type examination struct {
	conn  *Conn
	trust *trust
	ders  [][]byte
	name  string           // that a server must have
	state *ConnectionState // for VerifyConnection, or nil

	peer *peer
	err  error
}

// verify does what crypto/x509 does.
func (e *examination) verify() {
	e.peer = &peer{}
	if e.err != nil {
		return
	}
	err := caught("a verification", func() (err error) {
		if e.peer, err = parsePeer(e.ders); err != nil || !e.trust.verified || len(e.peer.certs) == 0 {
			return err
		}
		return e.trust.verify(e.peer, e.name, e.conn.ctx.server)
	})
	if err != nil {
		e.err = &tls.CertificateVerificationError{UnverifiedCertificates: e.peer.certs, Err: err}
	}
}

// call calls the functions of the user.
func (e *examination) call() {
	if e.err == nil && e.trust.verifyPeer != nil {
		e.err = caught("VerifyPeerCertificate", func() error { return e.trust.verifyPeer(e.ders, e.peer.chains) })
	}
	if e.err == nil && e.state != nil {
		e.state.HandshakeComplete = false
		e.state.PeerCertificates, e.state.VerifiedChains = e.peer.certs, e.peer.chains
		e.err = e.trust.confirm(e.state)
	}
}

func (t *trust) confirm(s *ConnectionState) error {
	return caught("VerifyConnection", func() error { return t.verifyConnection(*s) })
}

// conclude keeps the result, and returns the X509_V_ for it.
func (e *examination) conclude() C.int {
	if e.err != nil {
		e.conn.failed.Store(&e.err)
	} else {
		e.conn.peer.Store(e.peer)
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
	if !mayRest {
		return c.confirmed(t.confirm(s))
	}
	calling.do(func() {
		err := t.confirm(s)
		c.answer(id, C.GTLS_ASK_CONFIRM, func() C.int { return c.confirmed(err) })
	})
	return C.GTLS_LATER
}

func (c *Conn) confirmed(err error) C.int {
	if err != nil {
		return c.fail(err)
	}
	return C.GTLS_YES
}

// mustConfirm reports whether VerifyConnection is still to be called. If the peer has shown
// certificates, that was done with them.
func (t *trust) mustConfirm(s *ConnectionState) bool {
	return t.verifyConnection != nil && (s.DidResume || len(s.PeerCertificates) == 0)
}
