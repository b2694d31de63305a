// SPDX-License-Identifier: BSD-3-Clause

//go:build cgo

package libevent

import (
	"slices"
	"sync"
)

// AfterFree has fn called, on a goroutine of its own, when the bufferevent has been
// freed for good, by whatever call, also by Base.Free or at the end of a
// FreeAfterFlush; a descriptor that it owned is closed by then. If that has happened
// already, fn is called at once. A caller that waits for closures learns in this way
// that none will come. stop takes the call back, and reports whether it was in time.
func (b *BufferEvent) AfterFree(fn func()) (stop func() bool) { return b.afterFree(fn) }

// AfterFree has fn called, on a goroutine of its own, when the listener has been freed
// for good, also by Base.Free, and its socket is closed. If that has happened already,
// fn is called at once. stop takes the call back, and reports whether it was in time.
func (l *Listener) AfterFree(fn func()) (stop func() bool) { return l.root().afterFree(fn) }

// AfterFree has fn called, on a goroutine of its own, when the lookup has been freed
// for good: after its closure has run, or without that when the lookup was cancelled or
// its DNSBase or base freed. If that has happened already, fn is called at once. stop
// takes the call back, and reports whether it was in time.
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
