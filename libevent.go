// SPDX-License-Identifier: BSD-3-Clause

// Package libevent provides Go bindings for libevent: event loops, buffered sockets, buffers
// and listeners. It uses the system's libevent, through cgo.
//
// A [Base] is an event loop. [Base.Run] runs it on the calling goroutine. [Base.Serve]
// listens, and makes a [BufferEvent], which is a socket with an input and an output buffer,
// for each connection. A [Handler] has the closures for it. An echo server:
//
//	base, err := libevent.NewBase()
//	if err != nil {
//		return err
//	}
//	defer base.Free()
//	_, err = base.Serve("tcp", ":9595", libevent.ServeOptions{}, func(*libevent.BufferEvent) libevent.Handler {
//		return libevent.Handler{Read: func(c *libevent.BufferEvent) { c.WriteBuffer(c.Input()) }}
//	})
//	if err != nil {
//		return err
//	}
//	return base.Run(ctx)
//
// Below that layer are libevent's own calls: [Base.Listen] and [Base.NewSocket],
// [BufferEvent.SetCallbacks] and [BufferEvent.Enable], and an [Event] for a descriptor, a
// timer or a signal. Each doc comment names the C function that it wraps. libevent decides
// which closure is called when. The closures of a base run one at a time, on the goroutine of
// its loop. A [Group] is several bases that run together and share the connections of a
// listener, for closures that need more than one core.
//
// # Goroutines
//
// A loop runs on a goroutine that is locked to its OS thread. Every function and method
// may be called from any goroutine, unless its doc says "Loop goroutine only"; such a doc
// also says whether any goroutine may call it while no loop runs. Many goroutines may write
// to one bufferevent. No lock of libevent is held while a closure runs, so a closure may
// block, panic, free its own object, or wait for a goroutine that uses the same bufferevent.
// (The one exception is a [FilterFunc].) [Base.Post] runs a function on the loop's goroutine.
// A busy loop lets Go's scheduler run other goroutines every few milliseconds.
//
// # Ownership
//
// The garbage collector frees no object of this package. The program calls the method Free of
// each object that has one, and Shutdown or Close of a [Server]. [Base.Free] frees what still
// lives on the base. Free may be called twice, from any goroutine and from any closure. After
// Free has returned, no closure of the object starts. Methods of a freed object return
// [ErrClosed]; methods without an error result do nothing and return the zero value. [Live]
// counts what exists.
//
// A descriptor that is given to a bufferevent stays the caller's, unless [OptCloseOnFree] is
// given. The accept closure of a listener owns the descriptor that it gets.
//
// # Buffers
//
// [BufferEvent.Write] copies from the slice, and [BufferEvent.Read] copies into it.
// Nothing is copied by [Buffer.AddBuffer] and similar methods, which move memory
// between buffers, and by [Buffer.Peek], which shows the memory to a function until
// that returns.
//
// # The fast path
//
// libevent makes seven system calls for an echo, and reads 4096 bytes at most. On a
// connected stream socket the binding therefore reads and writes by itself: it reads as
// much as there is, and it writes without waiting for libevent to report that the
// socket can be written to. An echo then takes three system calls. Watermarks, timeouts,
// events and errors are the same as with libevent, and an end is reported after the bytes
// that came before it. One order differs: if the read and the write closure of a bufferevent
// are due in the same turn of the loop, libevent calls the read closure first, and the fast
// path may call the write closure first.
//
// The fast path is not used where libevent has to count the bytes or to pass them on (rate
// limits, limits of a single read or write, filters), after [BufferEvent.Pointer], while no
// loop runs, and with [Config].PlainIO or [OptPlainIO]. [Stats] counts what the fast path
// does.
//
// # Errors
//
// errors.Is matches [ErrClosed] (also net.ErrClosed), io.EOF, os.ErrDeadlineExceeded, and
// the errno of the system call inside an [*Error]. A wrong argument matches syscall.EINVAL.
// A panic in a closure ends the loop, and Dispatch, Loop or Run raises it again as a
// [*PanicError], which has the stack of the closure. The base can run again after that.
package libevent

/*
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

// Version returns the version of the libevent that runs, such as "2.1.12-stable".
// Wraps event_get_version.
func Version() string { return C.GoString(C.event_get_version()) }

// HeaderVersion returns the version of the libevent that the program was compiled
// against.
// Wraps LIBEVENT_VERSION.
func HeaderVersion() string { return C.LIBEVENT_VERSION }

// useThreads makes libevent use locks, once. It must be called before anything else of
// libevent. The caller handles the error.
var useThreads = sync.OnceValue(func() error {
	if C.glev_use_threads() != 0 {
		return errors.New("libevent: evthread_use_pthreads failed: this libevent was built without threads")
	}
	return nil
})

// Config says what kind of loop NewBaseConfig makes. NewBase uses the zero value.
type Config struct {
	// AvoidMethods names backends that libevent must not use ("epoll", "poll",
	// "select", "kqueue"...). Names of backends that this system lacks are ignored.
	AvoidMethods []string
	// RequireFeatures lists what the backend must be able to do.
	RequireFeatures Features
	// Priorities is the number of priorities, from 1 to 255; 0 means 1. Of the events
	// that are due, the loop runs those whose priority is the smallest number first. A
	// new object has the middle priority, Priorities/2.
	Priorities int
	// CoarseTimer saves one system call in each turn of the loop. Timers may then
	// be a few milliseconds late.
	CoarseTimer bool
	// NoCacheTime makes libevent ask the clock for each timer, instead of once a
	// turn.
	NoCacheTime bool
	// IgnoreEnv makes libevent ignore its environment variables, such as
	// EVENT_NOEPOLL.
	IgnoreEnv bool
	// EpollChangelist saves system calls when descriptors are added and deleted in
	// one turn of the loop. It must not be used with descriptors that were
	// duplicated.
	EpollChangelist bool
	// PlainIO makes libevent do all reading and writing of bufferevents. Without
	// it, connected stream sockets take a fast path of the binding, with larger
	// reads, and writes that do not wait until libevent reports that the socket can
	// be written to. OptPlainIO does the same for one bufferevent.
	PlainIO bool
	// OnPanic is called with the panics of closures and their stacks, on the loop's
	// goroutine, and the loop goes on. Without OnPanic a panic comes out of
	// Dispatch.
	OnPanic func(value any, stack []byte)

	// Debug logs mistakes that are silent otherwise, to the logger of SetLogger or to
	// slog's default logger: a read closure on a bufferevent whose reading was never
	// enabled; an end without an event closure; two bufferevents on one descriptor; a
	// closure that runs for longer than SlowClosure, with its stack; and, when the base is
	// freed, objects that the program has not freed. "made" in a message is the line of
	// the program that has made the object, or, for a connection of Serve, the listener.
	// Debug costs time and memory. A nonempty environment variable LIBEVENT_GO_DEBUG turns
	// it on for every base.
	Debug bool
	// SlowClosure is how long a closure may run before Debug logs it; 0 means 100 ms.
	SlowClosure time.Duration

	// MaxDispatchInterval and MaxDispatchCallbacks, if they are not 0, bound how long the
	// loop runs callbacks, and how many, before it looks for new events of a higher
	// priority. Callbacks whose priority is a smaller number than MinDispatchPriority are
	// not bounded.
	MaxDispatchInterval  time.Duration
	MaxDispatchCallbacks int
	MinDispatchPriority  int
}

// Base is an event loop. Make it with NewBase, and run it with Dispatch, Loop or Run.
//
// Its methods are safe for concurrent use unless their doc says otherwise. A base that
// was wrapped with NoLocks is an exception; see WrapConfig.
type Base struct {
	usage
	c      *C.struct_glev_base
	event  *C.struct_event_base
	handle baseHandle
	method string

	plainIO bool
	wrapped bool // WrapBase made it: the event_base stays C's
	noLocks bool // libevent has none for it: only the loop's goroutine may use it
	onPanic func(value any, stack []byte)
	err     atomic.Pointer[PanicError] // the first panic that went to onPanic or the log

	// own decides which goroutine may act as the loop: Dispatch holds it while it
	// sets running, and what must not happen while a loop runs is done while
	// holding it.
	own           sync.Mutex
	running       bool
	freeing       bool
	borrowed      atomic.Bool // own is held by a call that acts as the loop
	ownHeldByUser atomic.Bool // and that call runs a function of the user's
	freesInTurn   atomic.Bool // Free of a wrapped base waits for the loop's next turn

	dead      atomic.Bool                // a closure called Goexit
	panicked  atomic.Pointer[PanicError] // a panic on its way to the caller of the loop
	broken    atomic.Bool                // LoopBreak was called since the loop began
	cancelled atomic.Bool                // the context of Run has ended
	callbacks atomic.Uint64
	debug     *debugging // nil unless Config.Debug

	mu       sync.Mutex
	changed  sync.Cond // queue or children have; for freeChildren
	queue    taskQueue
	armed    bool // the wake event is pending
	keepers  int  // how many things keep an empty loop running
	children map[*object]interface{ Free() }
	counts   [kinds]int
	io       C.struct_glev_fast_counters // the counters at the time when the base was freed

	dues dues // notes that the loop has taken and not yet run
}

// NewBase makes an event loop with the best backend that the system has.
// Wraps event_base_new.
func NewBase() (*Base, error) { return NewBaseConfig(Config{}) }

// NewBaseConfig makes an event loop as cfg says. If no backend fits, the error matches
// errors.ErrUnsupported.
// Wraps event_base_new_with_config.
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
	b.debug = cfg.debugging()
	return b, nil
}

// start makes the C half of a base whose event_base exists.
func (b *Base) start(op string) error {
	b.children = map[*object]interface{ Free() }{}
	b.changed.L = &b.mu
	b.method = C.GoString(C.event_base_get_method(b.event))
	b.handle = newBaseHandle(b)
	b.c = C.glev_base_new(b.event, cBool(b.noLocks), b.handle.p)
	if b.c == nil {
		b.handle.release()
		return &Error{Op: op, Err: syscall.ENOMEM}
	}
	live.objects[kindBase].Add(1)
	b.open()
	return nil
}

func (cfg Config) newEventBase(op string) (*C.struct_event_base, error) {
	c := C.event_config_new()
	if c == nil {
		return nil, &Error{Op: op, Err: syscall.ENOMEM}
	}
	defer C.event_config_free(c)
	for _, m := range cfg.AvoidMethods {
		if strings.IndexByte(m, 0) >= 0 {
			return nil, badArgument(op, "AvoidMethods: %q has a NUL", m)
		}
		if C.event_config_avoid_method(c, cString(m)) != 0 {
			return nil, &Error{Op: op, Err: syscall.ENOMEM}
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
		return nil, &Error{Op: op, Err: fmt.Errorf("no backend with %v is left when %q are avoided: %w",
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

// SupportedMethods returns the names of the backends that this libevent was built with,
// the best one first.
// Wraps event_get_supported_methods.
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
// Wraps event_base_get_features.
func (b *Base) Features() Features {
	if !b.enter() {
		return 0
	}
	defer b.leave()
	return Features(C.event_base_get_features(b.event))
}

// Priorities returns the number of priorities.
// Wraps event_base_get_npriorities.
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

// NumEvents returns how many events of the kinds in which the base has. libevent's own
// events and those of the binding are counted, too.
// Wraps event_base_get_num_events.
func (b *Base) NumEvents(which EventCount) int {
	if !b.enter() {
		return 0
	}
	defer b.leave()
	return int(C.event_base_get_num_events(b.event, C.uint(which)))
}

// MaxEvents returns the largest number of events of the kinds in which that the base
// has had at one time. With reset it restarts that count.
// Wraps event_base_get_max_events.
func (b *Base) MaxEvents(which EventCount, reset bool) int {
	if !b.enter() {
		return 0
	}
	defer b.leave()
	return int(C.event_base_get_max_events(b.event, C.uint(which), cBool(reset)))
}

// CachedTime returns the time at which the present turn of the loop began, or the
// current time when no loop runs.
// Loop goroutine only, or any goroutine while no loop runs.
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

// UpdateCachedTime sets the time of the present turn to the current time. A closure
// that took long calls it before it adds timers.
// Loop goroutine only, or any goroutine while no loop runs.
// Wraps event_base_update_cache_time.
func (b *Base) UpdateCachedTime() error {
	if err := b.enterAlive("event_base_update_cache_time"); err != nil {
		return err
	}
	defer b.leave()
	return done("event_base_update_cache_time", C.event_base_update_cache_time(b.event))
}

// Method returns the name of the backend: "epoll", "kqueue", "poll"...
// Wraps event_base_get_method.
func (b *Base) Method() string { return b.method }

// Stats returns the counters of the base, also after Free.
func (b *Base) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	io := b.io
	if b.enter() {
		C.glev_fast_counters(b.c, &io)
		b.leave()
	}
	return Stats{
		Callbacks:       b.callbacks.Load(),
		FastReads:       uint64(io.reads),
		FastWrites:      uint64(io.writes),
		FastSpills:      uint64(io.spills),
		Events:          b.counts[kindEvent],
		BufferEvents:    b.counts[kindBufferEvent],
		Listeners:       b.counts[kindListener],
		RateLimitGroups: b.counts[kindGroup],
		DNSBases:        b.counts[kindDNSBase],
		DNSLookups:      b.counts[kindDNSLookup],
	}
}

// Free frees the base and everything that still lives on it. It drops output that has
// not been written and posted functions that have not run. Functions of AddReference
// and SetCleanup that are due run before Free returns. While the loop runs, and
// therefore inside a closure, Free returns ErrRunning and does nothing. If a
// runtime.Goexit has aborted the loop, Free releases what can be released, leaks
// libevent's own memory of the loop, and returns ErrLoopAborted. The event_base of a
// wrapped base stays C's; see WrapBase.
// Wraps event_base_free.
func (b *Base) Free() error {
	if !b.enter() {
		return nil
	}
	idle, inTurn := b.lockOwn(), false
	if idle {
		if b.freeing { // another goroutine is freeing it
			b.own.Unlock()
			b.leave()
			return nil
		}
		idle = !b.running
		inTurn = b.hosted() && (!b.onLoop() || C.glev_base_here() == b.c)
		b.freeing = idle
		b.running = true // for good, so that no other goroutine starts the loop
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

// freeContents frees what lives on a base that is closed. It runs on the thread of the
// loop.
func (b *Base) freeContents() {
	for b.users() > 1 { // short calls of other goroutines
		runtime.Gosched()
	}
	b.debug.left()
	b.freeChildren()
	live.objects[kindBase].Add(-1)
	if !b.dead.Load() {
		if !b.wrapped {
			C.glev_base_finalize(b.c)
		}
		b.mu.Lock()
		C.glev_fast_counters(b.c, &b.io)
		b.mu.Unlock()
	}
	b.takeDues()
	b.handle.release()
}

// freeChildren frees what lives on the base, and does the work of the loop, until none
// of it is left.
func (b *Base) freeChildren() {
	b.closeChildren()
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.children) > 0 || len(b.queue.left()) > 0 {
		if len(b.queue.left()) == 0 {
			b.changed.Wait() // another goroutine is inside a child
			continue
		}
		t := b.queue.left()[0]
		b.queue.drop(1)
		if !t.posted {
			b.mu.Unlock()
			t.run()
			b.mu.Lock()
		}
	}
}

// closeChildren calls Free of what lives on the base, so that no closure of it starts.
func (b *Base) closeChildren() {
	b.mu.Lock()
	children := slices.Collect(maps.Values(b.children))
	b.mu.Unlock()
	for _, c := range children {
		c.Free()
	}
}

// register puts a new object on the base, and opens it.
func (b *Base) register(o *object, child interface{ Free() }) {
	b.mu.Lock()
	b.children[o] = child
	b.counts[o.kind]++
	b.mu.Unlock()
	live.objects[o.kind].Add(1)
	b.debug.madeHere(o)
	o.open()
}

// move takes an object from this base to another one.
func (b *Base) move(o *object, to *Base) {
	b.mu.Lock()
	child := b.children[o]
	delete(b.children, o)
	b.counts[o.kind]--
	b.mu.Unlock()
	b.debug.freed(o)
	to.debug.madeHere(o)
	o.base = to
	to.mu.Lock()
	to.children[o] = child
	to.counts[o.kind]++
	to.mu.Unlock()
}

// unregister takes an object off the base when its memory has been freed.
func (b *Base) unregister(o *object) {
	live.objects[o.kind].Add(-1)
	b.debug.freed(o)
	b.mu.Lock()
	delete(b.children, o)
	b.counts[o.kind]--
	b.changed.Broadcast()
	b.mu.Unlock()
}
