// SPDX-License-Identifier: BSD-3-Clause

//go:build cgo

package libevent

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// debugging is the debug mode of a base: it looks for mistakes that are silent otherwise. Its
// methods do nothing on nil, which is a base without that mode.
type debugging struct {
	slow time.Duration
	stop chan struct{}

	goroutine atomic.Pointer[string] // "goroutine 7 ", of the one that runs the loop
	since     atomic.Int64           // when the closure that runs now began, in Unix nanoseconds, or 0

	accepting atomic.Pointer[Listener] // whose accept closure runs now on the loop's goroutine, or nil

	mu    sync.Mutex
	made  map[*object]string // where the live objects were made
	reads map[*object]bool   // whose reading was enabled at some time
}

// descriptors are those that bufferevents of all bases in debug mode were given.
var descriptors = struct {
	mu   sync.Mutex
	used map[int]*BufferEvent
}{used: map[int]*BufferEvent{}}

const (
	debugVariable = "LIBEVENT_GO_DEBUG"
	defaultSlow   = 100 * time.Millisecond
	readingGrace  = time.Second // for a program to enable reading after SetCallbacks
)

func (cfg Config) debugging() *debugging {
	if !cfg.Debug && os.Getenv(debugVariable) == "" {
		return nil
	}
	d := &debugging{slow: cfg.SlowClosure, stop: make(chan struct{}), made: map[*object]string{}, reads: map[*object]bool{}}
	if d.slow == 0 {
		d.slow = defaultSlow
	}
	go d.watch()
	return d
}

func (d *debugging) warn(text string, o *object, attrs ...any) {
	logger().Warn("libevent: debug: "+text, append(attrs, slog.String("made", d.placeOf(o)))...)
}

// --- objects --------------------------------------------------------------------

// madeHere notes where the program makes an object.
func (d *debugging) madeHere(o *object) {
	if d == nil {
		return
	}
	place := d.place()
	d.mu.Lock()
	d.made[o] = place
	d.mu.Unlock()
}

// place returns the place of the caller in the program. Serve makes its connections with no caller
// but the loop. The program has made the listener, so the place of the listener stands for theirs.
func (d *debugging) place() string {
	place, byLoop := callerOutside()
	if l := d.accepting.Load(); byLoop && l != nil {
		return "accepted by the listener of " + l.base.debug.placeOf(&l.object)
	}
	return place
}

func (d *debugging) placeOf(o *object) string {
	if d == nil { // the listener of a Group may be on another base
		return unknown
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.made[o]
}

// accepts is called with the listener before an accept closure, and with nil after the closure.
func (d *debugging) accepts(l *Listener) {
	if d != nil {
		d.accepting.Store(l)
	}
}

func (d *debugging) freed(o *object) {
	if d == nil {
		return
	}
	d.mu.Lock()
	delete(d.made, o)
	delete(d.reads, o)
	d.mu.Unlock()
}

// left tells of what Base.Free has to free. It ends the debug mode.
func (d *debugging) left() {
	if d == nil {
		return
	}
	close(d.stop)
	d.mu.Lock()
	left := map[*object]string{}
	for o, place := range d.made {
		if o.isOpen() {
			left[o] = place
		}
	}
	d.mu.Unlock()
	for o := range left {
		d.warn("Base.Free frees an object that the program has not freed", o, slog.String("kind", o.kind.String()))
	}
}

const unknown = "unknown"

// callerOutside returns the file and line of the first caller that belongs to the program: not to a
// package of this module, to cgo or to Go's runtime. If the loop has called this module, and no
// closure of the program is in between, byLoop is true.
func callerOutside() (place string, byLoop bool) {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		switch {
		case strings.HasPrefix(frame.Function, "runtime.cgocallback"):
			return unknown, true
		case !isOurs(frame.Function) && !strings.HasPrefix(frame.Function, "runtime.") && frame.Function != "" &&
			filepath.Base(frame.File) != "_cgo_gotypes.go":
			return fmt.Sprintf("%s:%d", frame.File, frame.Line), false
		}
	}
	return unknown, false
}

// isOurs reports whether a function is of a package that programs import, and not of a test or an
// example.
func isOurs(function string) bool {
	rest, ok := strings.CutPrefix(function, "github.com/go-libevent/libevent")
	pkg, _, _ := strings.Cut(rest, ".")
	return ok && (pkg == "" || pkg == "/openssl" || pkg == "/evnet")
}

// --- bufferevents -----------------------------------------------------------------

// given looks whether another bufferevent uses a descriptor.
func (d *debugging) given(b *BufferEvent, fd int) {
	if d == nil || fd < 0 {
		return
	}
	descriptors.mu.Lock()
	other := descriptors.used[fd]
	descriptors.used[fd] = b
	descriptors.mu.Unlock()
	if other != nil && other != b && other.isOpen() && other.FD() == fd {
		d.warn("two bufferevents use one descriptor, and take each other's bytes", &b.object, slog.Int("fd", fd))
	}
}

// watchReading looks, a while after a read closure was set, whether it can be called.
func (d *debugging) watchReading(b *BufferEvent) {
	if d == nil {
		return
	}
	time.AfterFunc(readingGrace, func() { d.lookAtReading(b) })
}

func (d *debugging) lookAtReading(b *BufferEvent) {
	d.mu.Lock()
	_, known := d.made[&b.object]
	reads := d.reads[&b.object]
	d.mu.Unlock()
	if closures := b.closures.Load(); known && !reads && b.isOpen() && closures.read != nil {
		d.warn("a read closure is set, but reading was never enabled: call Enable(EvRead)", &b.object)
	}
}

func (d *debugging) enabled(b *BufferEvent, what What) {
	if d == nil || what&EvRead == 0 {
		return
	}
	d.mu.Lock()
	d.reads[&b.object] = true
	d.mu.Unlock()
}

// unheard tells of an end that no closure is told of, so that the bufferevent stays.
func (d *debugging) unheard(b *BufferEvent, what Events, cause error) {
	if d != nil && what&(EventEOF|EventError) != 0 {
		d.warn("an end, and no event closure: the bufferevent stays until it is freed", &b.object,
			slog.String("event", what.String()), slog.Any("err", cause))
	}
}

// --- slow closures -----------------------------------------------------------------

// closureBegins and closureEnds are called around every closure.
func (d *debugging) closureBegins() {
	if d != nil {
		d.since.Store(time.Now().UnixNano())
	}
}

func (d *debugging) closureEnds() {
	if d != nil {
		d.since.Store(0)
	}
}

// runs notes which goroutine runs the loop.
func (d *debugging) runs() {
	if d == nil {
		return
	}
	buf := make([]byte, 64)
	head, _, _ := strings.Cut(string(buf[:runtime.Stack(buf, false)]), "[")
	d.goroutine.Store(&head)
}

// watch tells of closures that are slow, with their stacks, while they still run.
func (d *debugging) watch() {
	ticker := time.NewTicker(max(d.slow/2, time.Millisecond))
	defer ticker.Stop()
	var told int64
	for {
		select {
		case <-d.stop:
			return
		case <-ticker.C:
		}
		since := d.since.Load()
		if since == 0 || since == told {
			continue
		}
		if took := time.Since(time.Unix(0, since)); took > d.slow {
			told = since
			logger().Warn("libevent: debug: a closure has been running for long, and its loop waits",
				slog.Duration("for", took), slog.String("stack", d.stack()))
		}
	}
}

// stack returns the stack of the goroutine that runs the loop.
func (d *debugging) stack() string {
	head := d.goroutine.Load()
	if head == nil {
		return ""
	}
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for part := range bytes.SplitSeq(buf, []byte("\n\n")) {
		if bytes.HasPrefix(part, []byte(*head)) {
			return string(part)
		}
	}
	return ""
}
