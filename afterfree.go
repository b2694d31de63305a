//go:build cgo

package libevent

import (
	"slices"
	"sync"
)

// AfterFree has fn called, on a goroutine of its own, when the bufferevent is gone for
// good: freed by whoever and however, by Base.Free or at the end of FreeAfterFlush too,
// with its descriptor closed if that was its own. If it is gone already that is at once.
// It is for those who wait for closures that would never come. stop takes the call back;
// it reports whether that was in time.
// Safe for concurrent use.
func (b *BufferEvent) AfterFree(fn func()) (stop func() bool) { return b.afterFree(fn) }

// AfterFree has fn called, on a goroutine of its own, when the listener is gone for good
// and its socket closed: freed by whoever, by Base.Free too. If it is gone already that is
// at once. stop takes the call back; it reports whether that was in time.
// Safe for concurrent use.
func (l *Listener) AfterFree(fn func()) (stop func() bool) { return l.root().afterFree(fn) }

// AfterFree has fn called, on a goroutine of its own, when the lookup is gone for good:
// after its closure, or without that when it was cancelled, its DNSBase freed or its base.
// If it is gone already that is at once. stop takes the call back; it reports whether that
// was in time.
// Safe for concurrent use.
func (l *DNSLookup) AfterFree(fn func()) (stop func() bool) { return l.afterFree(fn) }

// freeWaiters is who wants to know of an object's end.
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

// tellFreed is called once, when the object is gone. Not by a function of the user's
// that runs here: here may be the middle of Base.Free.
func (o *object) tellFreed() {
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
