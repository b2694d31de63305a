// Package libevent is the real libevent, used from Go: its event loop, its
// buffered sockets (bufferevents), its buffers and listeners, wrapped over cgo
// around the system's shared library.
//
// # The picture
//
//	Go                                                   C (the system's libevent)
//	your closures
//	   ▲  guarded, on the loop's thread, no lock held
//	trampolines (callbacks.go) ◄── C callbacks (callbacks.c): errno first, then in
//	   ▲                                                     ▲
//	handle table (handle.go)                           event_base_loop
//	                                                         ▲
//	Base Event BufferEvent Buffer Listener ── cgo calls ──► event_base bufferevent evbuffer evconnlistener
//
// A [Base] is an event loop. [Base.Dispatch] or [Base.Run] runs it on the calling
// goroutine until nothing is left to wait for. On a base live an [Event] (a
// descriptor, a timer, a signal), a [BufferEvent] (a socket with an input and an
// output buffer) and a [Listener]. libevent decides which closure is called when;
// all closures of a base run one at a time, on its loop's goroutine. A [Group] is
// several bases that run together and get a listener's connections in turn, for the
// closures of which one core is not enough.
//
// # Goroutines
//
// A loop runs on a goroutine locked to its OS thread. Every method may be called
// from any goroutine unless its doc ends with "Loop goroutine only."; many
// goroutines may write to one bufferevent. No lock of libevent is held while a
// closure runs, so a closure may block, panic, free its own object, or wait for a
// goroutine that uses the same bufferevent. (The one exception is a [FilterFunc].)
// [Base.Post] runs a function on the loop's goroutine. A busy loop lets other
// goroutines run every few milliseconds.
//
// # Ownership
//
// What a constructor of this package made is freed with Free, exactly by those who
// made it; the garbage collector frees nothing of it. Free may be called twice,
// from any goroutine and from any closure. When it has returned no callback of
// that object starts. Methods of a freed object return [ErrClosed]; those without
// an error result do nothing and return the zero value. [Base.Free] frees what
// still lives on the base. [Live] counts what exists.
//
// A descriptor given to a bufferevent stays the caller's unless [OptCloseOnFree]
// is given. The accept closure of a listener owns the descriptor it gets.
//
// # Buffers
//
// [BufferEvent.Write] copies the slice, [BufferEvent.Read] copies into it. Without
// a copy: [Buffer.AddBuffer] and its kin move memory between buffers, and
// [Buffer.Peek] shows it to a function, whose slices die when it returns.
//
// # The fast path
//
// For an echo libevent makes seven system calls, and reads 4096 bytes at most. So on a
// connected stream socket the binding reads and writes by itself, as much as there is
// and without waiting for a socket that can be written to anyway; three calls an echo.
// Closures cannot tell: order, watermarks, timeouts, events and their errors are
// libevent's. libevent does it all where it must count or hand on the bytes (rate
// limits, limits of a single read or write, filters), after [BufferEvent.Pointer], while
// no loop runs, and with [Config].PlainIO or [OptPlainIO]. [Stats] counts.
//
// # Errors
//
// Errors match with errors.Is: [ErrClosed] (also net.ErrClosed), io.EOF,
// os.ErrDeadlineExceeded, and the errno of the system call inside an [*Error].
// A panic in a closure ends the loop and is raised again from Dispatch, Loop or
// Run as a [*PanicError] with the closure's stack; the base can run again.
package libevent

/*
#include <stdlib.h>
#include "native.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// Version returns the version of the libevent that runs, as in "2.1.12-stable".
// Wraps event_get_version.
func Version() string { return C.GoString(C.event_get_version()) }

// HeaderVersion returns the version of the libevent that the program was compiled
// against. Wraps LIBEVENT_VERSION.
func HeaderVersion() string { return C.LIBEVENT_VERSION }

// useThreads makes libevent's locks before the first base exists. It must be the
// first thing libevent is asked to do, and a failure is the caller's to handle.
var useThreads = sync.OnceValue(func() error {
	if C.glev_use_threads() != 0 {
		return errors.New("libevent: evthread_use_pthreads failed: this libevent was built without threads")
	}
	return nil
})

// Config says what kind of loop NewBaseConfig makes. The zero value is what
// NewBase uses.
type Config struct {
	// AvoidMethods names backends not to use ("epoll", "poll", "select",
	// "kqueue"...); names that this system lacks are ignored.
	AvoidMethods []string
	// RequireFeatures lists what the backend must be able to do.
	RequireFeatures Features
	// Priorities is the number of priorities of events, 1 to 255; 0 means 1.
	// Everything is made with the middle one.
	Priorities int
	// CoarseTimer saves a system call a turn of the loop, for timers that may
	// be some milliseconds late.
	CoarseTimer bool
	// NoCacheTime asks the clock for each timer instead of once a turn.
	NoCacheTime bool
	// IgnoreEnv disregards libevent's environment variables, EVENT_NOEPOLL and
	// its like.
	IgnoreEnv bool
	// EpollChangelist saves system calls when descriptors are added and deleted
	// in one turn of the loop. Not for descriptors that were duplicated.
	EpollChangelist bool
	// PlainIO has libevent do all reading and writing of bufferevents by itself.
	// Without it, connected stream sockets take a fast path of the binding:
	// larger reads, and output that is written without a wait for the socket
	// first. Closures see the same either way; OptPlainIO is the same for one
	// bufferevent.
	PlainIO bool
	// OnPanic gets the panics of closures, and the stack of each, in place of the
	// caller of Dispatch. It runs on the loop's goroutine, and the loop goes on.
	OnPanic func(value any, stack []byte)

	// MaxDispatchInterval and MaxDispatchCallbacks bound, if not 0, how long and
	// how many callbacks the loop runs before it looks for new events of a
	// higher priority; callbacks of a priority above (so before)
	// MinDispatchPriority are not bounded.
	MaxDispatchInterval  time.Duration
	MaxDispatchCallbacks int
	MinDispatchPriority  int
}

// Base is an event loop. Make it with NewBase, run it with Dispatch, Loop or Run.
type Base struct {
	usage
	c      *C.struct_glev_base
	event  *C.struct_event_base
	handle handle
	method string

	plainIO bool
	wrapped bool // C's
	noLocks bool // by libevent: all is for the loop's goroutine
	onPanic func(value any, stack []byte)
	err     atomic.Pointer[PanicError] // the first that went there

	// own decides who may act as the loop: Dispatch takes it to set running,
	// and what must not happen while a loop runs is done with it held.
	own           sync.Mutex
	running       bool
	freeing       bool
	ownHeldByUser atomic.Bool // own is held while a function of the user's runs
	freesInTurn   atomic.Bool // the next turn is the last one with a wrapped base

	dead      atomic.Bool                // a closure called Goexit
	panicked  atomic.Pointer[PanicError] // on its way to the caller of the loop
	broken    atomic.Bool                // LoopBreak since the loop began
	cancelled atomic.Bool                // the context of Run has ended
	callbacks atomic.Uint64

	mu       sync.Mutex
	changed  sync.Cond // queue or children, while the base is being freed
	queue    []task
	spare    []task // the other of two slices that take turns as the queue
	armed    bool   // the wake event is pending
	keepers  int    // what keeps an empty loop running
	children map[*object]interface{ Free() }
	counts   [kinds]int
	io       C.struct_glev_fast_counters // when the base was freed

	dues dues // taken by the loop, not yet run
}

// NewBase makes an event loop with the best backend the system has.
// Safe for concurrent use. Wraps event_base_new.
func NewBase() (*Base, error) { return NewBaseConfig(Config{}) }

// NewBaseConfig makes an event loop as cfg says. If no backend fits, the error
// matches errors.ErrUnsupported.
// Safe for concurrent use. Wraps event_base_new_with_config.
func NewBaseConfig(cfg Config) (*Base, error) {
	const op = "event_base_new_with_config"
	if err := useThreads(); err != nil {
		return nil, err
	}
	if cfg.Priorities < 0 || cfg.Priorities > 255 {
		return nil, badArgument(op, "Priorities is %d, not 0 to 255", cfg.Priorities)
	}
	event, err := cfg.newEventBase(op)
	if err != nil {
		return nil, err
	}
	b := &Base{event: event, plainIO: cfg.PlainIO, onPanic: cfg.OnPanic}
	if err := b.start(op); err != nil {
		C.event_base_free(event)
		return nil, err
	}
	return b, nil
}

// start makes the native half of a base that has an event_base.
func (b *Base) start(op string) error {
	b.children = map[*object]interface{ Free() }{}
	b.changed.L = &b.mu
	b.method = C.GoString(C.event_base_get_method(b.event))
	b.handle = newHandle(b)
	b.c = C.glev_base_new(b.event, cBool(b.noLocks), b.handle.p)
	if b.c == nil {
		b.handle.release()
		return &Error{op, syscall.ENOMEM}
	}
	live.objects[kindBase].Add(1)
	b.open()
	return nil
}

func (cfg Config) newEventBase(op string) (*C.struct_event_base, error) {
	c := C.event_config_new()
	if c == nil {
		return nil, &Error{op, syscall.ENOMEM}
	}
	defer C.event_config_free(c)
	for _, m := range cfg.AvoidMethods {
		if strings.IndexByte(m, 0) >= 0 {
			return nil, badArgument(op, "AvoidMethods: %q has a NUL", m)
		}
		name := C.CString(m)
		rc := C.event_config_avoid_method(c, name)
		C.free(unsafe.Pointer(name))
		if rc != 0 {
			return nil, &Error{op, syscall.ENOMEM}
		}
	}
	if C.event_config_require_features(c, C.int(cfg.RequireFeatures)) != 0 {
		return nil, badArgument(op, "RequireFeatures: %v", cfg.RequireFeatures)
	}
	for flag, on := range map[C.int]bool{
		C.EVENT_BASE_FLAG_PRECISE_TIMER:        !cfg.CoarseTimer,
		C.EVENT_BASE_FLAG_NO_CACHE_TIME:        cfg.NoCacheTime,
		C.EVENT_BASE_FLAG_IGNORE_ENV:           cfg.IgnoreEnv,
		C.EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST: cfg.EpollChangelist,
	} {
		if on {
			C.event_config_set_flag(c, flag)
		}
	}
	if err := cfg.setDispatchInterval(op, c); err != nil {
		return nil, err
	}
	event := C.event_base_new_with_config(c)
	if event == nil {
		return nil, &Error{op, fmt.Errorf("no backend is left of those with %v, without %q: %w",
			cfg.RequireFeatures, cfg.AvoidMethods, errors.ErrUnsupported)}
	}
	if cfg.Priorities > 1 && C.event_base_priority_init(event, C.int(cfg.Priorities)) != 0 {
		C.event_base_free(event)
		return nil, badArgument(op, "Priorities: %d", cfg.Priorities)
	}
	return event, nil
}

func (cfg Config) setDispatchInterval(op string, c *C.struct_event_config) error {
	if cfg.MaxDispatchInterval < 0 || cfg.MaxDispatchCallbacks < 0 || cfg.MinDispatchPriority < 0 {
		return badArgument(op, "a bound of dispatching is negative: %v, %d, %d",
			cfg.MaxDispatchInterval, cfg.MaxDispatchCallbacks, cfg.MinDispatchPriority)
	}
	if cfg.MaxDispatchInterval == 0 && cfg.MaxDispatchCallbacks == 0 {
		return nil
	}
	var tv C.struct_timeval
	var interval *C.struct_timeval
	if cfg.MaxDispatchInterval > 0 {
		tv = timeval(cfg.MaxDispatchInterval)
		interval = &tv
	}
	callbacks := cfg.MaxDispatchCallbacks
	if callbacks == 0 {
		callbacks = -1
	}
	C.event_config_set_max_dispatch_interval(c, interval, C.int(callbacks), C.int(cfg.MinDispatchPriority))
	return nil
}

// SupportedMethods returns the backends that this libevent was built with, the best
// first. Safe for concurrent use. Wraps event_get_supported_methods.
func SupportedMethods() []string {
	var names []string
	methods := C.event_get_supported_methods()
	for _, m := range unsafe.Slice(methods, 32) {
		if m == nil {
			break
		}
		names = append(names, C.GoString(m))
	}
	return names
}

// Features returns what the backend can do.
// Safe for concurrent use. Wraps event_base_get_features.
func (b *Base) Features() Features {
	if !b.enter() {
		return 0
	}
	defer b.leave()
	return Features(C.event_base_get_features(b.event))
}

// Priorities returns the number of priorities.
// Safe for concurrent use. Wraps event_base_get_npriorities.
func (b *Base) Priorities() int {
	if !b.enter() {
		return 0
	}
	defer b.leave()
	return int(C.event_base_get_npriorities(b.event))
}

func (b *Base) checkPriority(op string, priority int) error {
	if n := b.Priorities(); n > 0 && (priority < 0 || priority >= n) {
		return badArgument(op, "priority is %d, not 0 to %d", priority, n-1)
	}
	return nil
}

// NumEvents returns how many events the base has of the kinds in which; libevent counts
// its own and the binding's among them.
// Safe for concurrent use. Wraps event_base_get_num_events.
func (b *Base) NumEvents(which EventCount) int {
	if !b.enter() {
		return 0
	}
	defer b.leave()
	return int(C.event_base_get_num_events(b.event, C.uint(which)))
}

// MaxEvents returns the largest number of events of the kinds in which that the base has
// had, and with reset begins to count anew.
// Safe for concurrent use. Wraps event_base_get_max_events.
func (b *Base) MaxEvents(which EventCount, reset bool) int {
	if !b.enter() {
		return 0
	}
	defer b.leave()
	return int(C.event_base_get_max_events(b.event, C.uint(which), cBool(reset)))
}

// CachedTime returns the time at which the present turn of the loop began, or the
// current time when no loop runs. Loop goroutine only, or any while no loop runs.
// Wraps event_base_gettimeofday_cached.
func (b *Base) CachedTime() time.Time {
	if !b.enter() {
		return time.Time{}
	}
	defer b.leave()
	var tv C.struct_timeval
	if C.event_base_gettimeofday_cached(b.event, &tv) != 0 {
		return time.Time{}
	}
	return time.Unix(int64(tv.tv_sec), int64(tv.tv_usec)*1000)
}

// UpdateCachedTime makes the present time that of the turn, for a closure that took
// long before it adds timers. Loop goroutine only, or any while no loop runs.
// Wraps event_base_update_cache_time.
func (b *Base) UpdateCachedTime() error {
	if err := b.enterAlive(); err != nil {
		return err
	}
	defer b.leave()
	return done("event_base_update_cache_time", C.event_base_update_cache_time(b.event))
}

// Method returns the name of the backend: "epoll", "kqueue", "poll"...
// Safe for concurrent use. Wraps event_base_get_method.
func (b *Base) Method() string { return b.method }

// Stats returns the counters of the base, also after Free.
// Safe for concurrent use.
func (b *Base) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	io := b.io
	if b.enter() {
		C.glev_fast_counters(b.c, &io)
		b.leave()
	}
	return Stats{
		Callbacks:    b.callbacks.Load(),
		FastReads:    uint64(io.reads),
		FastWrites:   uint64(io.writes),
		FastSpills:   uint64(io.spills),
		Events:       b.counts[kindEvent],
		BufferEvents: b.counts[kindBufferEvent],
		Listeners:    b.counts[kindListener],
		Groups:       b.counts[kindGroup],
		DNSBases:     b.counts[kindDNSBase],
		DNSLookups:   b.counts[kindDNSLookup],
	}
}

// Free frees the base and everything that still lives on it. Unwritten output and
// functions that were posted and have not run are dropped. Functions of AddReference
// and SetCleanup that are due run before it returns. While the loop runs, and
// so inside a closure, it returns ErrRunning and does nothing. On a base whose loop
// was aborted by a Goexit it releases what can be released, leaves libevent's own
// memory of the loop behind, and returns ErrLoopAborted. A wrapped base it leaves to C;
// see WrapBase.
// Safe for concurrent use. Wraps event_base_free.
func (b *Base) Free() error {
	if !b.enter() {
		return nil
	}
	idle, inTurn := b.lockOwn(), false
	if idle {
		if b.freeing { // by another goroutine
			b.own.Unlock()
			b.leave()
			return nil
		}
		idle = !b.running
		inTurn = b.hosted() && (!b.onLoop() || C.glev_base_here() == b.c)
		b.freeing = idle
		b.running = true // and stays so: nobody else begins
		b.own.Unlock()
	}
	if !idle {
		b.leave()
		return ErrRunning
	}
	if inTurn {
		b.freeLater()
		return nil
	}
	b.leave()
	b.close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	C.glev_base_claim(b.c)
	defer b.dues.run()
	defer collect().end()
	b.freeContents()
	C.glev_base_unclaim(b.c)
	if b.dead.Load() {
		return ErrLoopAborted
	}
	C.glev_base_free(b.c)
	if !b.wrapped {
		C.event_base_free(b.event)
	}
	return nil
}

// freeContents frees what lives on a base that is closed, on the thread of its loop.
func (b *Base) freeContents() {
	for b.users() > 1 { // calls of a moment, from other goroutines
		runtime.Gosched()
	}
	b.freeChildren()
	live.objects[kindBase].Add(-1)
	if !b.dead.Load() {
		if !b.wrapped {
			C.glev_base_settle(b.c)
		}
		b.mu.Lock()
		C.glev_fast_counters(b.c, &b.io)
		b.mu.Unlock()
	}
	b.takeDues()
	b.handle.release()
}

// freeChildren frees what lives on the base and does the work of the loop until
// all of it is gone.
func (b *Base) freeChildren() {
	b.closeChildren()
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.children) > 0 || len(b.queue) > 0 {
		if len(b.queue) == 0 {
			b.changed.Wait() // somebody is still in a call on a child
			continue
		}
		t := b.queue[0]
		b.queue = b.queue[1:]
		if !t.posted {
			b.mu.Unlock()
			t.run()
			b.mu.Lock()
		}
	}
}

// closeChildren has no closure of what lives on the base start any more.
func (b *Base) closeChildren() {
	b.mu.Lock()
	children := slices.Collect(maps.Values(b.children))
	b.mu.Unlock()
	for _, c := range children {
		c.Free()
	}
}

// register puts a new object on the base.
func (b *Base) register(o *object, child interface{ Free() }) {
	b.mu.Lock()
	b.children[o] = child
	b.counts[o.kind]++
	b.mu.Unlock()
	live.objects[o.kind].Add(1)
	o.open()
}

// move puts an object on another base.
func (b *Base) move(o *object, to *Base) {
	b.mu.Lock()
	child := b.children[o]
	delete(b.children, o)
	b.counts[o.kind]--
	b.mu.Unlock()
	o.base = to
	to.mu.Lock()
	to.children[o] = child
	to.counts[o.kind]++
	to.mu.Unlock()
}

// unregister is called when the object's memory is gone.
func (b *Base) unregister(o *object) {
	live.objects[o.kind].Add(-1)
	b.mu.Lock()
	delete(b.children, o)
	b.counts[o.kind]--
	b.changed.Broadcast()
	b.mu.Unlock()
}
