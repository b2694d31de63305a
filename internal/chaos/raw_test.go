// SPDX-License-Identifier: BSD-3-Clause

package chaos_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// raw is an end that two goroutines read and write with package net, and crypto/tls perhaps: they
// know nothing of libevent, so its mistakes do not cancel each other out.
type raw struct {
	e              *end
	reader, writer *actor
	conn           net.Conn
	finish         atomic.Bool // the writer is to close its side, and then to end
	closed         atomic.Bool // close was called
	running        sync.WaitGroup
}

func (c *conductor) newRaw(e *end, fd int) *raw {
	w := c.actor.w
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	conn, err := net.FileConn(file)
	if w.expect(e, "FileConn", err); err != nil {
		return nil
	}
	if shape := e.conn.shape; shape.tls >= 0 && e.side == 0 {
		conn = tls.Server(conn, w.tls[shape.tls].goServer)
	} else if shape.tls >= 0 {
		conn = tls.Client(conn, w.tls[shape.tls].goClient)
	}
	return &raw{e: e, reader: c.reader, writer: c.writer, conn: conn}
}

func (r *raw) start(*actor) {
	r.running.Go(r.read)
	r.running.Go(r.write)
}

func (r *raw) read() {
	a, e := r.reader, r.e
	s := e.in
	p := make([]byte, 1<<17)
	for {
		if !e.conn.calm.Load() && !e.conn.over.Load() && a.chance(1, 8) {
			a.rest(5 * time.Millisecond) // a slow peer
		}
		n, err := r.conn.Read(p[:1+a.rng.Intn(len(p))])
		s.rmu.Lock()
		wrong := s.check(p[:n])
		s.rmu.Unlock()
		if wrong != nil {
			a.w.fail(e.conn, "side %d: %v", e.side, wrong)
		}
		if err != nil {
			a.note(e, "reads %v", err)
			r.ended(err)
			return
		}
	}
}

// ended is called when the connection has no more bytes.
func (r *raw) ended(err error) {
	a, e := r.reader, r.e
	fin, whole := e.in.fin.Load(), e.in.whole()
	e.in.ended.Store(true)
	switch got, sent := e.in.got.Load(), e.in.sent.Load(); {
	case !whole || r.closed.Load() || a.w.failed():
	case !fin:
		a.w.fail(e.conn, "side %d: reading has ended for no reason: %v", e.side, err)
	case got != sent:
		a.w.fail(e.conn, "side %d: the stream has ended (%v) after %d of %d bytes", e.side, err, got, sent)
	case !errors.Is(err, io.EOF) && e.conn.ends[1-e.side].connected.Load() && (e.conn.shape.bottom != "unix" || e.out.whole()):
		// A unix socket that is closed with bytes unread resets its peer, without loss. So does
		// any socket in a handshake, which nothing waits for if there is no output.
		a.w.fail(e.conn, "side %d: the stream has all its bytes, but no orderly end: %v", e.side, err)
	default:
		a.w.checked.Add(1)
	}
}

func (r *raw) write() {
	a, e := r.writer, r.e
	s := e.out
	for !r.finish.Load() && !r.closed.Load() {
		if e.conn.calm.Load() || a.chance(1, 3) || s.sent.Load()-s.got.Load() > e.conn.window() {
			a.rest(2 * time.Millisecond) // a peer with little to say
			continue
		}
		if !e.conn.ops.TryRLock() {
			continue
		}
		s.wmu.Lock()
		n, at := a.size(), s.sent.Load()
		// Before the write: what it has written so far may arrive before it returns.
		s.sent.Store(at + int64(n))
		s.wmu.Unlock()
		e.conn.ops.RUnlock()
		if _, err := r.conn.Write(s.at(at, n)); err != nil {
			a.note(e, "writes: %v", err)
			if whole := s.whole(); whole && !r.closed.Load() {
				a.w.fail(e.conn, "side %d: writing failed for no reason: %v", e.side, err)
			}
			s.cut("its writer failed")
			return
		}
	}
	if r.closed.Load() {
		return
	}
	s.fin.Store(true)
	a.note(e, "CloseWrite")
	var err error
	if conn, ok := r.conn.(*tls.Conn); ok { // CloseWrite would not wait for that
		err = conn.Handshake()
	}
	if err == nil {
		err = r.conn.(interface{ CloseWrite() error }).CloseWrite()
	}
	if err != nil && s.whole() && !r.closed.Load() {
		a.w.fail(e.conn, "side %d: CloseWrite: %v", e.side, err)
	}
}

// close ends the connection, whatever is on its way.
func (r *raw) close() {
	r.e.out.cut("its writer has closed the connection")
	r.e.in.cut("its reader has closed the connection")
	r.closed.Store(true)
	conn := r.conn
	if tls, ok := conn.(*tls.Conn); ok {
		conn = tls.NetConn() // Close would wait for a Write
	}
	_ = conn.Close()
	r.running.Wait()
}
