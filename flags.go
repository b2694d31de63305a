// SPDX-License-Identifier: BSD-3-Clause

package libevent

/*
#include "native.h"
*/
import "C"

import (
	"fmt"
	"strings"
)

// What is a set of reasons for an event: those that it waits for, or those for which it has
// fired. For bufferevents EvRead and EvWrite are the two directions.
type What int16

const (
	EvTimeout What = C.EV_TIMEOUT // the time given to Add has passed
	EvRead    What = C.EV_READ    // the descriptor can be read
	EvWrite   What = C.EV_WRITE   // the descriptor can be written
	EvSignal  What = C.EV_SIGNAL  // a signal came, or Active said so
	EvPersist What = C.EV_PERSIST // stay added after firing
	EvET      What = C.EV_ET      // edge-triggered, where Features has FeatureET
)

// String gives libevent's names: "EV_READ|EV_PERSIST".
func (w What) String() string {
	return bitString(uint32(uint16(w)), []bitName{
		{uint32(EvTimeout), "EV_TIMEOUT"}, {uint32(EvRead), "EV_READ"},
		{uint32(EvWrite), "EV_WRITE"}, {uint32(EvSignal), "EV_SIGNAL"},
		{uint32(EvPersist), "EV_PERSIST"}, {uint32(EvET), "EV_ET"},
	})
}

// Events says what happened to a bufferevent, other than data: EventEOF, EventError,
// EventTimeout or EventConnected, and the direction in which it happened if there is
// one.
//
// It is a set. What happens before the loop calls the event closure comes in one call: a
// peer that ends and then resets the connection can bring
// EventReading|EventEOF|EventWriting|EventError, for example. So test single bits, as in
// what&EventEOF != 0, and do not compare or switch over the whole value. The closures of a
// Handler get one kind each.
type Events int16

const (
	EventReading   Events = C.BEV_EVENT_READING   // it happened while reading
	EventWriting   Events = C.BEV_EVENT_WRITING   // it happened while writing
	EventEOF       Events = C.BEV_EVENT_EOF       // the peer closed its writing side
	EventError     Events = C.BEV_EVENT_ERROR     // it failed; Err has the cause
	EventTimeout   Events = C.BEV_EVENT_TIMEOUT   // a timeout of SetTimeouts passed; that direction is now off
	EventConnected Events = C.BEV_EVENT_CONNECTED // Connect succeeded
)

// String gives libevent's names: "BEV_EVENT_READING|BEV_EVENT_EOF".
func (e Events) String() string {
	return bitString(uint32(uint16(e)), []bitName{
		{uint32(EventReading), "BEV_EVENT_READING"}, {uint32(EventWriting), "BEV_EVENT_WRITING"},
		{uint32(EventEOF), "BEV_EVENT_EOF"}, {uint32(EventError), "BEV_EVENT_ERROR"},
		{uint32(EventTimeout), "BEV_EVENT_TIMEOUT"}, {uint32(EventConnected), "BEV_EVENT_CONNECTED"},
	})
}

// Options says how a bufferevent is made. The zero value is right for most uses: every
// goroutine may use the bufferevent, and the descriptor stays the caller's.
type Options uint32

const (
	// OptCloseOnFree gives the descriptor to the bufferevent: Free closes it.
	OptCloseOnFree Options = C.BEV_OPT_CLOSE_ON_FREE
	// OptThreadSafe gives the bufferevent a lock. It is on by default.
	OptThreadSafe Options = C.BEV_OPT_THREADSAFE
	// OptDeferCallbacks runs callbacks from the loop, never inside the call that
	// caused them. It is on by default; with OptLoopOnly it is a choice.
	OptDeferCallbacks Options = C.BEV_OPT_DEFER_CALLBACKS
	// OptUnlockCallbacks runs callbacks without the bufferevent's lock, so that a
	// closure may wait for other goroutines that use the bufferevent. It is on by
	// default.
	OptUnlockCallbacks Options = C.BEV_OPT_UNLOCK_CALLBACKS
	// OptLoopOnly turns the three options above off, for speed. There is no lock,
	// and only the loop's goroutine may use the bufferevent: while the loop runs, a
	// call on another goroutine returns ErrWrongLoop. Of the three only
	// OptDeferCallbacks may be combined with it.
	OptLoopOnly Options = 1 << 16
	// OptPlainIO makes libevent do all reading and writing, without the fast path
	// (see Config.PlainIO).
	OptPlainIO Options = 1 << 17
	// OptNagle leaves Nagle's algorithm on in the TCP sockets that Connect and
	// ConnectHostname make. Without it they get TCP_NODELAY. A descriptor that the caller
	// brings is left as it is in any case; see BufferEvent.SetNoDelay.
	OptNagle Options = 1 << 18
)

// String gives libevent's names: "BEV_OPT_CLOSE_ON_FREE|BEV_OPT_THREADSAFE".
func (o Options) String() string {
	return bitString(uint32(o), []bitName{
		{uint32(OptCloseOnFree), "BEV_OPT_CLOSE_ON_FREE"}, {uint32(OptThreadSafe), "BEV_OPT_THREADSAFE"},
		{uint32(OptDeferCallbacks), "BEV_OPT_DEFER_CALLBACKS"},
		{uint32(OptUnlockCallbacks), "BEV_OPT_UNLOCK_CALLBACKS"}, {uint32(OptLoopOnly), "OptLoopOnly"},
		{uint32(OptPlainIO), "OptPlainIO"}, {uint32(OptNagle), "OptNagle"},
	})
}

// native splits o into what libevent is told and what the binding handles.
func (o Options) native() (flags C.int, loopOnly bool, err error) {
	const shared = OptThreadSafe | OptDeferCallbacks | OptUnlockCallbacks
	if unknown := o &^ (OptCloseOnFree | shared | OptLoopOnly | OptPlainIO | OptNagle); unknown != 0 {
		return 0, false, fmt.Errorf("opts: unknown bits %v", unknown)
	}
	o &^= OptPlainIO | OptNagle
	if o&OptLoopOnly == 0 {
		return C.int(o | shared), false, nil
	}
	if refused := o & (OptThreadSafe | OptUnlockCallbacks); refused != 0 {
		return 0, false, fmt.Errorf("opts: OptLoopOnly cannot be combined with %v", refused)
	}
	return C.int(o &^ OptLoopOnly), true, nil
}

// options is native for a bufferevent on b.
func (b *Base) options(o Options) (flags C.int, loopOnly bool, err error) {
	if b.noLocks {
		o = o&^(OptThreadSafe|OptUnlockCallbacks) | OptLoopOnly
	}
	return o.native()
}

// LoopFlags changes how Loop runs.
type LoopFlags int

const (
	LoopOnce          LoopFlags = C.EVLOOP_ONCE             // wait until something is active, run it, return
	LoopNonblock      LoopFlags = C.EVLOOP_NONBLOCK         // run what is active now, return
	LoopNoExitOnEmpty LoopFlags = C.EVLOOP_NO_EXIT_ON_EMPTY // keep running even if no events are left
)

// String gives libevent's names: "EVLOOP_ONCE".
func (f LoopFlags) String() string {
	return bitString(uint32(f), []bitName{
		{uint32(LoopOnce), "EVLOOP_ONCE"}, {uint32(LoopNonblock), "EVLOOP_NONBLOCK"},
		{uint32(LoopNoExitOnEmpty), "EVLOOP_NO_EXIT_ON_EMPTY"},
	})
}

// Features are abilities of a backend (epoll, kqueue, poll...).
type Features int

const (
	FeatureET         Features = C.EV_FEATURE_ET          // edge-triggered events
	FeatureO1         Features = C.EV_FEATURE_O1          // cost does not grow with the number of events
	FeatureFDs        Features = C.EV_FEATURE_FDS         // works for every descriptor, not only for sockets
	FeatureEarlyClose Features = C.EV_FEATURE_EARLY_CLOSE // sees that the peer has closed without reading up to that
)

// String gives libevent's names: "EV_FEATURE_ET|EV_FEATURE_O1".
func (f Features) String() string {
	return bitString(uint32(f), []bitName{
		{uint32(FeatureET), "EV_FEATURE_ET"}, {uint32(FeatureO1), "EV_FEATURE_O1"},
		{uint32(FeatureFDs), "EV_FEATURE_FDS"}, {uint32(FeatureEarlyClose), "EV_FEATURE_EARLY_CLOSE"},
	})
}

// EventCount names kinds of events for NumEvents and MaxEvents.
type EventCount uint

const (
	CountActive  EventCount = C.EVENT_BASE_COUNT_ACTIVE  // due to be called
	CountVirtual EventCount = C.EVENT_BASE_COUNT_VIRTUAL // things that keep the loop running without an event
	CountAdded   EventCount = C.EVENT_BASE_COUNT_ADDED   // added
)

// String gives libevent's names: "EVENT_BASE_COUNT_ACTIVE".
func (c EventCount) String() string {
	return bitString(uint32(c), []bitName{
		{uint32(CountActive), "EVENT_BASE_COUNT_ACTIVE"}, {uint32(CountVirtual), "EVENT_BASE_COUNT_VIRTUAL"},
		{uint32(CountAdded), "EVENT_BASE_COUNT_ADDED"},
	})
}

// DNSOptions says what ParseResolvConf uses of a file.
type DNSOptions int

const (
	DNSSearch               DNSOptions = C.DNS_OPTION_SEARCH                 // "domain", "search" and ndots
	DNSNameservers          DNSOptions = C.DNS_OPTION_NAMESERVERS            // "nameserver"
	DNSMisc                 DNSOptions = C.DNS_OPTION_MISC                   // the other "options"
	DNSHostsFile            DNSOptions = C.DNS_OPTION_HOSTSFILE              // also load the system's hosts file
	DNSNameserversNoDefault DNSOptions = C.DNS_OPTION_NAMESERVERS_NO_DEFAULT // do not use 127.0.0.1 if the file has no name server
	DNSAll                  DNSOptions = DNSSearch | DNSNameservers | DNSMisc | DNSHostsFile
)

// String gives libevent's names: "DNS_OPTION_SEARCH|DNS_OPTION_MISC".
func (o DNSOptions) String() string {
	return bitString(uint32(o), []bitName{
		{uint32(DNSSearch), "DNS_OPTION_SEARCH"}, {uint32(DNSNameservers), "DNS_OPTION_NAMESERVERS"},
		{uint32(DNSMisc), "DNS_OPTION_MISC"}, {uint32(DNSHostsFile), "DNS_OPTION_HOSTSFILE"},
		{uint32(DNSNameserversNoDefault), "DNS_OPTION_NAMESERVERS_NO_DEFAULT"},
	})
}

// FlushMode says how much Flush pushes through.
type FlushMode int

const (
	FlushNormal   FlushMode = C.BEV_NORMAL   // what is ready anyway
	FlushSync     FlushMode = C.BEV_FLUSH    // all there is
	FlushFinished FlushMode = C.BEV_FINISHED // all there is, and nothing will follow: the other side gets EOF
)

// String gives libevent's name.
func (m FlushMode) String() string {
	return nameOf(int(m), "FlushMode", "BEV_NORMAL", "BEV_FLUSH", "BEV_FINISHED")
}

// TriggerFlags changes what Trigger does.
type TriggerFlags int

// TriggerIgnoreWatermarks makes Trigger call the closures regardless of the watermarks.
const TriggerIgnoreWatermarks TriggerFlags = C.BEV_TRIG_IGNORE_WATERMARKS

// String gives libevent's name.
func (f TriggerFlags) String() string {
	return bitString(uint32(f), []bitName{{uint32(TriggerIgnoreWatermarks), "BEV_TRIG_IGNORE_WATERMARKS"}})
}

// FilterResult is what a filter function says of its call.
type FilterResult int

const (
	FilterOK       FilterResult = C.BEV_OK        // it did something; call it again if there is more
	FilterNeedMore FilterResult = C.BEV_NEED_MORE // it can do nothing before more bytes come
	FilterError    FilterResult = C.BEV_ERROR     // the bytes are invalid
)

// String gives libevent's name.
func (r FilterResult) String() string {
	return nameOf(int(r), "FilterResult", "BEV_OK", "BEV_NEED_MORE", "BEV_ERROR")
}

// EOL is a style of line ending for ReadLine and Lines. EOLCRLF is right for most protocols: it
// takes both CR LF and LF.
type EOL int

const (
	EOLAny        EOL = C.EVBUFFER_EOL_ANY         // any run of CR and LF
	EOLCRLF       EOL = C.EVBUFFER_EOL_CRLF        // LF, with or without a CR before it
	EOLCRLFStrict EOL = C.EVBUFFER_EOL_CRLF_STRICT // CR LF
	EOLLF         EOL = C.EVBUFFER_EOL_LF          // LF
	EOLNUL        EOL = C.EVBUFFER_EOL_NUL         // a zero byte
)

// String gives libevent's name.
func (e EOL) String() string {
	return nameOf(int(e), "EOL", "EVBUFFER_EOL_ANY", "EVBUFFER_EOL_CRLF",
		"EVBUFFER_EOL_CRLF_STRICT", "EVBUFFER_EOL_LF", "EVBUFFER_EOL_NUL")
}

type bitName struct {
	bit  uint32
	name string
}

// bitString joins the names of the bits that are set, and shows the number of those
// without a name.
func bitString(v uint32, names []bitName) string {
	if v == 0 {
		return "0"
	}
	var parts []string
	for _, n := range names {
		if v&n.bit != 0 {
			parts = append(parts, n.name)
			v &^= n.bit
		}
	}
	if v != 0 {
		parts = append(parts, fmt.Sprintf("%#x", v))
	}
	return strings.Join(parts, "|")
}

func nameOf(v int, typ string, names ...string) string {
	if v >= 0 && v < len(names) {
		return names[v]
	}
	return fmt.Sprintf("%s(%d)", typ, v)
}
