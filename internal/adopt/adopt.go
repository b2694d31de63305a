// SPDX-License-Identifier: BSD-3-Clause

// Package adopt lets another package of this module make bufferevents with a library that the
// root package does not link. openssl does so: its bufferevents are made by libevent_openssl,
// and to the user they are a *libevent.BufferEvent like any other.
//
// The other package fills in a Kind, which describes its bufferevents, and calls New with it.
// The root package sets New, Call, OwnerOf and OnLoop when it is initialized. Its types are
// passed as any, because this package cannot import it.
package adopt

import (
	"syscall"
	"unsafe"
)

// Kind is a set of functions for one bufferevent. The root package calls them for what differs
// from a socket of libevent: making it, shutting it down, reading and writing, and explaining its
// events.
//
// Event and Dial are Go functions. The other functions are C functions, because they run inside
// libevent and while its locks are held; the comment of each has its type. A field may be nil if
// the bufferevent does not need it, except Make and Sent.
//
// A C function is called with the lock of the bufferevent held, if the bufferevent has a lock and
// the comment says nothing else. It must not call a Go function of the user.
type Kind struct {
	// Make makes the bufferevent with libevent's options (BEV_OPT_...): for a socket that does
	// not have a descriptor yet, or, if under is not NULL, on top of under. In the second case
	// the lock of under is held. The user cannot change the front of the output. If Make fails, it
	// returns NULL and sets errno.
	//
	//	struct bufferevent *(*)(struct event_base *, struct bufferevent *under, int options, void *arg)
	Make unsafe.Pointer
	// Arg is passed to Make and Gone as arg. The root package does nothing else with it.
	Arg unsafe.Pointer
	// Quiet is called once, for Free: no callback starts any more, and nothing that the other
	// package has registered on the base may stay.
	//
	//	void (*)(struct bufferevent *)
	Quiet unsafe.Pointer
	// Gone is called once, some turns of the loop after Free, when libevent has destroyed the
	// bufferevent but not its output yet. It runs on the loop's thread. No other thread can wait
	// for the lock of the bufferevent any more. If Make failed, Gone is never called.
	//
	//	void (*)(void *arg)
	Gone unsafe.Pointer
	// Codes fetches the error codes that the other library has for a BEV_EVENT_ERROR: it writes
	// at most n of them to codes and returns how many it has written. It is called on the
	// loop's thread, without a lock, before anything else is done about the event. Event gets
	// the codes.
	//
	//	int (*)(struct bufferevent *, unsigned long *codes, int n)
	Codes unsafe.Pointer
	// Shutdown tells the peer that nothing more will be written, as shutdown(2) does. It is
	// called for CloseWrite and FreeAfterFlush, when the output is empty. It returns 0 when it
	// is done, 1 if it would block and must be called again, and a negative errno if it failed.
	//
	//	int (*)(struct bufferevent *)
	Shutdown unsafe.Pointer
	// Start has the handshake start, or go on, in the loop's next turn. It is called when the user
	// sets closures or enables a direction, when there is another descriptor, and for
	// FreeAfterFlush. The handshake may have ended already, or have no connection yet. The
	// bufferevent below was enabled before.
	//
	//	void (*)(struct bufferevent *)
	Start unsafe.Pointer
	// IsLinked reports, for a bufferevent on another one, whether that one is, or was, connected. Then a
	// failure is not one of the connect below.
	//
	//	int (*)(struct bufferevent *)
	IsLinked unsafe.Pointer
	// IsOpen reports whether the handshake has ended well. libevent tells that to a filter on top.
	// If that filter is freed at the same moment, the root asks IsOpen and tells the bufferevent below.
	//
	//	int (*)(struct bufferevent *)
	IsOpen unsafe.Pointer
	// Sent returns how many bytes have left for the peer so far: those that the socket has taken, or the
	// bufferevent below has passed on.
	//
	//	uint64_t (*)(struct bufferevent *)
	Sent unsafe.Pointer
	// Socket is called after libevent was given another descriptor, or none, also at the bottom.
	//
	//	void (*)(struct bufferevent *)
	Socket unsafe.Pointer

	// Begin, End, Recv, Pending and Send are the fast path of a socket: the root package reads
	// and writes the socket with them, instead of libevent. It does so while the connection is
	// open, unless libevent has to count the bytes for a limit or to pass them to a filter, or
	// the user has switched the fast path off. If Recv is nil, libevent does all reading and
	// writing. Otherwise all five are needed.

	// Begin takes reading and writing over from libevent. It returns 1, or 0 if that is not
	// possible now.
	//
	//	int (*)(struct bufferevent *)
	Begin unsafe.Pointer
	// End gives reading and writing back to libevent, which goes on at the same byte.
	//
	//	void (*)(struct bufferevent *)
	End unsafe.Pointer
	// Recv reads like recv(2): it puts up to n bytes at p and returns their number, 0 at the
	// end of the stream, or -1 with errno, which is EAGAIN if there is nothing to read yet.
	// Until it returns it may use size bytes at scratch.
	//
	//	ssize_t (*)(struct bufferevent *, void *p, size_t n, void *scratch, size_t size)
	Recv unsafe.Pointer
	// Pending reports whether something can be read that the descriptor does not tell of,
	// because the other library has taken it from the socket already. If so, and if wake is
	// 1, Pending also makes libevent's read event active, so that libevent reads it.
	//
	//	int (*)(struct bufferevent *, int wake)
	Pending unsafe.Pointer
	// Send writes like send(2): up to n bytes at p, or, if p is NULL, up to n bytes of the output,
	// which Send drains. Send returns their number, or -1 with errno. p is only given while the
	// output is empty, and the rest of those bytes goes to the output next.
	//
	//	ssize_t (*)(struct bufferevent *, const void *p, size_t n)
	Send unsafe.Pointer

	// Owner is what the other package has made of the bufferevent. OwnerOf returns it.
	Owner any
	// Dial is a Go function that is called before Connect and ConnectHostname. op is the function
	// of libevent that is meant, and host is the host that the user connects to, or "" if the
	// address has none. The lock is held. If Dial returns an error, nothing is connected to. If the
	// connect is refused after Dial, undo is called.
	Dial func(op, host string) (undo func(), err error)

	// Event translates an event: what, errno and codes are what libevent and Codes have
	// reported. It returns what the event closure is called with, or 0 to drop the event, and
	// the cause that Err returns. It runs on the loop's goroutine, without a lock.
	Event func(what int, errno syscall.Errno, codes []uint64) (int, error)
}

// New makes a bufferevent with the functions of kind. base is a *libevent.Base, opts are
// libevent.Options, and under is the *libevent.BufferEvent to put it on, or nil for a socket. The
// result is a *libevent.BufferEvent.
var New func(base any, opts uint32, under any, kind *Kind) (any, error)

// Call makes one C call on bev, a *libevent.BufferEvent. The C bufferevent exists until the call
// returns, even if bev is freed meanwhile. A negative result of call is an errno, and becomes an
// error. Call returns an error without making the call if bev is freed already, or if bev was made
// with OptLoopOnly and its loop runs on another goroutine. It takes no lock of libevent.
var Call func(bev any, op string, call func() int64) (int, error)

// OwnerOf returns the Owner of bev, a *libevent.BufferEvent, or of the next one below it that has
// one, or nil.
var OwnerOf func(bev any) any

// OnLoop reports whether the calling goroutine runs the loop of bev, a *libevent.BufferEvent.
var OnLoop func(bev any) bool
