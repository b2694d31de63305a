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

	"github.com/go-libevent/libevent/internal/adopt"
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

// verifying has as many goroutines as there are processors for Go, because verification keeps a
// processor busy.
var verifying = crew{most: runtime.GOMAXPROCS(0)}

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

// answer gives an answer to the handshake, in the next turn of its loop. Then it calls accepted,
// unless the handshake does not wait for this answer any more.
func (c *Conn) answer(id C.uint, kind, answer C.int, accepted func()) {
	_ = c.Base().Post(func() {
		_, _ = adopt.Call(c.BufferEvent, "answer", func() int64 {
			took := C.gtls_conn_answer(c.c, id, kind, answer)
			if took != 0 {
				accepted()
			}
			return 0
		})
	})
}

// --- the peer's certificates --------------------------------------------------------

// askVerify returns an X509_V_ for the certificates that the peer has sent, or GTLS_LATER.
func (c *Conn) askVerify(ders [][]byte, id C.uint, mayRest bool) C.int {
	if !mayRest || !c.ctx.trust.verified {
		p, err := c.examine(ders)
		return c.examined(p, err)
	}
	verifying.do(func() {
		p, err := c.examine(ders)
		c.answer(id, C.GTLS_ASK_VERIFY, alertFor(err), func() { c.examined(p, err) })
	})
	return C.GTLS_LATER
}

// examined keeps what examine has found.
func (c *Conn) examined(p *peer, err error) C.int {
	if err != nil {
		c.failed.Store(&err)
	} else {
		c.peer.Store(p)
	}
	return alertFor(err)
}

// examine verifies what the peer has sent in a handshake, as far as the context demands it.
func (c *Conn) examine(ders [][]byte) (p *peer, err error) {
	p = &peer{}
	err = caught("a verification", func() error {
		if p, err = parsePeer(ders); err != nil || !c.ctx.trust.verified || len(p.certs) == 0 {
			return err
		}
		return c.ctx.trust.verify(p, c.serverName(), c.ctx.server)
	})
	if err != nil {
		return nil, &tls.CertificateVerificationError{UnverifiedCertificates: p.certs, Err: err}
	}
	return p, nil
}
