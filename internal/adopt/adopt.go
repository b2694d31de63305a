// Package adopt is the door between the root package and those of this module that make
// bufferevents of a kind of their own, with what the root links nothing of.
package adopt

import (
	"syscall"
	"unsafe"
)

// Kind is what such a package adds to a bufferevent of its own. The unsafe.Pointers are C
// functions, and nil where not needed; each is called with the lock of the bufferevent
// held, if it has one, and must not call Go functions of users.
type Kind struct {
	// Make makes it. options are libevent's; under is what it is to be on, or NULL. NULL
	// is failure, with an errno.
	//
	//	struct bufferevent *(*)(struct event_base *, struct bufferevent *under, int options, void *arg)
	Make unsafe.Pointer
	// Arg is the last argument of Make and Gone, and of no use to the root.
	Arg unsafe.Pointer
	// Gone is called once, when libevent has destroyed what Make made, on the thread that
	// acts as the loop then. Never, if Make failed.
	//
	//	void (*)(void *arg)
	Gone unsafe.Pointer
	// Codes takes what a library below has to say of a BEV_EVENT_ERROR, on the thread of
	// the loop, first of all: at most n codes. It returns how many. No lock is held.
	//
	//	int (*)(struct bufferevent *, unsigned long *codes, int n)
	Codes unsafe.Pointer
	// Shutdown tells the peer that nothing more will be written. It is called when the
	// output is empty and CloseWrite or FreeAfterFlush waits for that. 0 is done, 1 that
	// it would block and is to be called again, and a negative number that it cannot be.
	//
	//	int (*)(struct bufferevent *)
	Shutdown unsafe.Pointer
	// Socket learns that libevent has been given another descriptor, or none.
	//
	//	void (*)(struct bufferevent *)
	Socket unsafe.Pointer
	// These read and write a socket in place of libevent, once it is connected and as
	// long as libevent has nothing to count or to hand on: the fast path. Without Recv
	// there is none.
	//
	// Begin takes reading and writing over, with 1, or says with 0 that it cannot now. End
	// gives them back, to go on where they are.
	//
	//	int (*)(struct bufferevent *)
	//	void (*)(struct bufferevent *)
	Begin, End unsafe.Pointer
	// Recv is as recv(2): up to n bytes to p, 0 at the end of the stream, -1 with EAGAIN
	// or another errno. It may use size bytes of scratch meanwhile.
	//
	//	ssize_t (*)(struct bufferevent *, void *p, size_t n, void *scratch, size_t size)
	Recv unsafe.Pointer
	// Pending tells whether Recv has something to give though the descriptor cannot be
	// read. With wake, which comes when libevent is to read, it has libevent read that.
	//
	//	int (*)(struct bufferevent *, int wake)
	Pending unsafe.Pointer
	// Send writes, and drains, up to most bytes of the output; as send(2).
	//
	//	ssize_t (*)(struct bufferevent *, size_t most)
	Send unsafe.Pointer
	// Event says what the event closure and Err are told in place of what libevent said;
	// 0 is nothing at all. It runs on the loop's goroutine, and no lock is held.
	Event func(what int, errno syscall.Errno, codes []uint64) (int, error)
}

// New makes a bufferevent of that kind: base is a *libevent.Base, opts are
// libevent.Options, and under is a *libevent.BufferEvent that it is to be on, or nil.
// What it returns is a *libevent.BufferEvent.
var New func(base any, opts uint32, under any, kind *Kind) (any, error)

// Call makes one C call on a *libevent.BufferEvent, which exists as long as it takes: a
// negative result is that of an errno. Where the bufferevent is freed, or only for its
// loop's goroutine, there is an error and no call.
var Call func(bev any, op string, call func() int64) (int, error)

// OnLoop tells whether this goroutine runs the loop of a *libevent.BufferEvent.
var OnLoop func(bev any) bool
