// SPDX-License-Identifier: BSD-3-Clause

package evnet

import (
	"context"
	"net"
	"time"
)

const defaultFallback = 300 * time.Millisecond

// byFamily splits addresses into those of the first one's family and the others.
func byFamily(addrs []net.Addr) (first, second []net.Addr) {
	is4 := func(a net.Addr) bool { return a.(*net.TCPAddr).IP.To4() != nil }
	for _, a := range addrs {
		if is4(a) == is4(addrs[0]) {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	return first, second
}

// outcome is what an attempt to connect came to.
type outcome struct {
	c   net.Conn
	err error
}

// race dials the first addresses and, once FallbackDelay has passed or all of them have
// failed, the second ones too. It returns the connection that is made first. When both
// attempts fail it returns the error of the attempt that failed first.
func (d *dnsDialer) race(ctx context.Context, first, second []net.Addr) (net.Conn, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop() // ends the attempt that is still under way
	outcomes := make(chan outcome)
	try := func(addrs []net.Addr) { d.compete(ctx, addrs, outcomes) }
	delay := d.dialer.FallbackDelay
	if delay == 0 {
		delay = defaultFallback
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	go try(first)
	var failure error
	started, failed := 1, 0
	for {
		fallback := started == 1
		select {
		case o := <-outcomes:
			if o.err == nil {
				return o.c, nil
			}
			if failure == nil {
				failure = o.err
			}
			if failed++; failed == 2 {
				return nil, failure
			}
		case <-timer.C:
		case <-ctx.Done():
			return nil, d.opError(contextErr(ctx))
		}
		if fallback {
			started++
			go try(second)
		}
	}
}

// compete dials addresses and sends the outcome. When ctx ends, race no longer receives:
// then compete closes the connection.
func (d *dnsDialer) compete(ctx context.Context, addrs []net.Addr, outcomes chan<- outcome) {
	c, err := d.dialEach(ctx, addrs)
	select {
	case outcomes <- outcome{c, err}:
	case <-ctx.Done():
		if c != nil {
			_ = c.Close()
		}
	}
}
