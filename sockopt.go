// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include "native.h"
*/
import "C"

import (
	"net"
	"time"
)

// SetNoDelay chooses whether the socket has TCP_NODELAY. With it a write leaves at once.
// Without it Nagle's algorithm makes the end of a write wait until the peer has acknowledged
// what came before, which a peer may delay by 40 ms. Sockets that a Listener has accepted,
// and those that Connect and ConnectHostname make, have it on; see ListenOptions.Nagle and
// OptNagle. A descriptor that NewSocket or SetFD got is as the caller made it.
// The bufferevent needs a descriptor.
// Stands for setsockopt(TCP_NODELAY).
func (b *BufferEvent) SetNoDelay(on bool) error {
	return b.sockopt("setsockopt", func() C.int64_t { return C.glev_bev_set_no_delay(b.c, cBool(on)) })
}

// SetKeepAlive chooses whether the system probes a peer that is silent, and ends the
// connection if the peer does not answer. As in net.TCPConn.SetKeepAliveConfig, a zero Idle
// or Interval means 15 s, a zero Count means 9, and a negative value leaves the system's.
// Times are rounded up to seconds. The bufferevent needs a descriptor.
// Stands for setsockopt(SO_KEEPALIVE).
func (b *BufferEvent) SetKeepAlive(cfg net.KeepAliveConfig) error {
	k := C.struct_glev_keep_alive{
		on:       cBool(cfg.Enable),
		idle:     keepAliveSeconds(cfg.Idle),
		interval: keepAliveSeconds(cfg.Interval),
		count:    C.int(cfg.Count),
	}
	if cfg.Count == 0 {
		k.count = 9
	}
	return b.sockopt("setsockopt", func() C.int64_t { return C.glev_bev_set_keep_alive(b.c, &k) })
}

func keepAliveSeconds(d time.Duration) C.int {
	switch {
	case d < 0:
		return -1
	case d == 0:
		d = 15 * time.Second
	}
	return C.int((d + time.Second - 1) / time.Second)
}

// SetLinger chooses what closing the socket does with bytes that the system has not sent,
// as net.TCPConn.SetLinger does: with a negative sec the system sends them in the
// background, with 0 it drops them and resets the connection, and with a positive sec
// closing, and so Free, may block for up to sec seconds. Bytes that are still in the output of
// the bufferevent are not concerned: Free drops them, and FreeAfterFlush writes them. The
// bufferevent needs a descriptor.
// Stands for setsockopt(SO_LINGER).
func (b *BufferEvent) SetLinger(sec int) error {
	return b.sockopt("setsockopt", func() C.int64_t { return C.glev_bev_set_linger(b.c, C.int(sec)) })
}

func (b *BufferEvent) sockopt(op string, set func() C.int64_t) error {
	_, err := b.do(op, set)
	return err
}
