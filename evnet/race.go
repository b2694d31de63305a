package evnet

import (
	"context"
	"net"
	"time"
)

// byFamily gives the addresses of the family of the first one, and those of the other.
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

// race tries first, and when that takes long or fails second beside it, and takes who is there first.
func (d *Dialer) race(ctx context.Context, network string, first, second []net.Addr) (*Conn, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop() // whoever has lost
	type outcome struct {
		c   *Conn
		err error
	}
	outcomes := make(chan outcome)
	try := func(addrs []net.Addr) {
		c, err := d.dialEach(ctx, network, addrs)
		select {
		case outcomes <- outcome{c, err}:
		case <-ctx.Done():
			if c != nil {
				_ = c.Close()
			}
		}
	}
	delay := d.FallbackDelay
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
			return nil, contextErr(ctx)
		}
		if fallback {
			started++
			go try(second)
		}
	}
}
