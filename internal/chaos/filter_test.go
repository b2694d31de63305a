// SPDX-License-Identifier: BSD-3-Clause

package chaos_test

import (
	"sync/atomic"

	"github.com/go-libevent/libevent"
)

// move is a filter function that changes each byte by fn, or none if fn is nil.
func move(fn func(p []byte)) libevent.FilterFunc {
	return func(src, dst *libevent.Buffer, limit int, _ libevent.FlushMode) (libevent.FilterResult, error) {
		n := src.Len()
		if limit >= 0 {
			n = min(n, limit)
		}
		if n == 0 {
			return libevent.FilterNeedMore, nil
		}
		if fn == nil {
			_, err := src.RemoveBuffer(dst, n)
			return outcome(err)
		}
		p := make([]byte, n)
		if _, err := src.Remove(p); err != nil {
			return libevent.FilterError, err
		}
		fn(p)
		return outcome(dst.Add(p))
	}
}

func outcome(err error) (libevent.FilterResult, error) {
	if err != nil {
		return libevent.FilterError, err
	}
	return libevent.FilterOK, nil
}

func xor(p []byte) {
	for i := range p {
		p[i] ^= 0x5a
	}
}

// holder is a filter that keeps what is written to it to itself until it is flushed.
type holder struct {
	kept []byte // under the lock of the filter
	n    *atomic.Int64
}

func (h *holder) out(src, dst *libevent.Buffer, limit int, mode libevent.FlushMode) (libevent.FilterResult, error) {
	if n := src.Len(); n > 0 {
		p := make([]byte, n)
		if _, err := src.Remove(p); err != nil {
			return libevent.FilterError, err
		}
		h.kept = append(h.kept, p...)
		h.n.Add(int64(n))
	}
	if mode == libevent.FlushNormal {
		return libevent.FilterNeedMore, nil
	}
	n := len(h.kept)
	if limit >= 0 {
		n = min(n, limit)
	}
	if n == 0 {
		return libevent.FilterNeedMore, nil
	}
	if err := dst.Add(h.kept[:n]); err != nil {
		return libevent.FilterError, err
	}
	h.kept = h.kept[n:]
	h.n.Add(int64(-n))
	return libevent.FilterOK, nil
}

// putFilter puts a filter of a kind on top. The caller ensures that the top stays the top.
func (e *end) putFilter(a *actor, kind string, opts libevent.Options) bool {
	w, under := e.conn.w, e.top()
	l := &layer{kind: kind, owns: opts&libevent.OptCloseOnFree != 0}
	opts |= e.opts &^ libevent.OptPlainIO & libevent.OptLoopOnly
	var err error
	switch kind {
	case "pass":
		fn := pick(a, nil, move(nil))
		l.bev, err = libevent.NewFilter(under.bev, fn, pick(a, nil, fn), opts)
	case "xor":
		l.bev, err = libevent.NewFilter(under.bev, move(xor), move(xor), opts)
	case "hold":
		h := &holder{n: &e.out.held}
		l.bev, err = libevent.NewFilter(under.bev, move(nil), h.out, opts)
	case "tlsfilter":
		l.tls, err = w.tls[e.conn.id%int64(len(w.tls))].side(e.side).NewFilter(under.bev, opts)
		if err == nil {
			l.bev = l.tls.BufferEvent
		}
	}
	if err != nil {
		w.expect(e, "putting a filter on", err, mayFail...)
		return false
	}
	e.push(l)
	return true
}
