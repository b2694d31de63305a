// SPDX-License-Identifier: BSD-3-Clause

package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"
)

// load is a set of connections to a server, with one message in flight on each.
type load struct {
	size   int // of a message
	tls    bool
	conns  []net.Conn
	below  []*net.TCPConn // the connections, without TLS
	rounds int            // that have begun
}

func (l *load) close() {
	for _, conn := range l.below {
		_ = conn.SetLinger(0) // leaves no port in TIME_WAIT
		_ = conn.Close()
	}
}

// open connects, and sends a message on each connection before it makes the next one. So the
// server meets the connections in the same order in every run.
func (l *load) open(addr string, conns int) error {
	for i := range conns {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		l.below = append(l.below, conn.(*net.TCPConn))
		if l.tls {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		}
		l.conns = append(l.conns, conn)
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if err := l.round(l.conns[i:]); err != nil {
			return err
		}
	}
	return nil
}

// run sends messages, of which each connection has an equal share, in rounds: a message on
// every connection, then all answers. A server so has many messages to handle each time that
// it wakes up, however busy the machine is.
func (l *load) run(messages int) error {
	for range messages / len(l.conns) {
		if err := l.round(l.conns); err != nil {
			return err
		}
	}
	return nil
}

func (l *load) round(conns []net.Conn) error {
	l.rounds++
	sent, got := make([]byte, l.size), make([]byte, l.size)
	for i, conn := range conns {
		if _, err := conn.Write(l.message(sent, i)); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	for i, conn := range conns {
		if _, err := io.ReadFull(conn, got); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		if !bytes.Equal(l.message(sent, i), got) {
			return fmt.Errorf("connection %d: the message of round %d came back with other bytes", i, l.rounds)
		}
	}
	return nil
}

// message fills p with what connection i sends in this round.
func (l *load) message(p []byte, i int) []byte {
	for j := range p {
		p[j] = byte(i + l.rounds + j)
	}
	return p
}
