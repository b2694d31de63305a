// SPDX-License-Identifier: BSD-3-Clause

//go:build cgo

package libevent

import (
	"slices"
	"sync"
)

// AfterFree calls fn on a new goroutine when the memory of the bufferevent has been given
// back. That is some time after Free, after the end of a FreeAfterFlush, or during Base.Free.
// By then a descriptor that the bufferevent owned is closed, and no closure will run any more.
// If it has happened already, fn is called at once. stop prevents the call, and reports whether
// it has prevented it.
func (b *BufferEvent) AfterFree(fn func()) (stop func() bool) { return b.afterFree(fn) }

// AfterFree calls fn on a new goroutine when the memory of the listener has been given back,
// after Free or during Base.Free. By then its socket is closed. If it has happened already, fn
// is called at once. stop prevents the call, and reports whether it has prevented it.
func (l *Listener) AfterFree(fn func()) (stop func() bool) { return l.root().afterFree(fn) }

// AfterFree calls fn on a new goroutine when the memory of the lookup has been given back:
// after its closure has run, or, without the closure, after Cancel or when the DNSBase or the
// base is freed. If it has happened already, fn is called at once. stop prevents the call, and
// reports whether it has prevented it.
func (l *DNSLookup) AfterFree(fn func()) (stop func() bool) { return l.afterFree(fn) }

// freeWaiters holds the functions of AfterFree.
type freeWaiters struct {
	mu    sync.Mutex
	freed bool
	fns   []*func()
}

var alreadyFreed = &freeWaiters{freed: true}

func (o *object) afterFree(fn func()) (stop func() bool) {
	if fn == nil {
		return func() bool { return false }
	}
	f := o.freeWaiters.Load()
	if f == nil {
		f = &freeWaiters{}
		if !o.freeWaiters.CompareAndSwap(nil, f) {
			f = o.freeWaiters.Load()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.freed {
		go fn()
		return func() bool { return false }
	}
	f.fns = append(f.fns, &fn)
	return func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		i := slices.Index(f.fns, &fn)
		if i >= 0 {
			f.fns = slices.Delete(f.fns, i, i+1)
		}
		return i >= 0
	}
}

// tellFreed is called once, when the object has been freed. It starts the functions on
// goroutines of their own, because it may run in the middle of Base.Free.
func (o *object) tellFreed() {
	if o.whenFreed != nil {
		o.whenFreed()
	}
	f := o.freeWaiters.Swap(alreadyFreed)
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.freed = true
	for _, fn := range f.fns {
		go (*fn)()
	}
	f.fns = nil
}
