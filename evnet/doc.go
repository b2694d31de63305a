// Package evnet is package net over libevent: a [net.Conn], a [net.Listener] and a
// Dialer on top of bufferevents, so that Go code that knows only those (net/http, crypto/tls,
// a database driver) runs on a libevent loop, next to closures on the same loop, with its
// rate limits, filters and TLS.
//
//	your goroutines    Read ◄── wake ──┐     Write, Close
//	                                   │        │
//	loop's goroutine   read closure: copies     │ at once, where the socket takes it
//	                     ▲                      ▼
//	libevent           input of the bufferevent, output of the bufferevent
//
// # Goroutines
//
// A [Conn] may be used from any goroutine, and from several at a time. Its calls block
// their callers and never the loop. The loop is the user's to run, on a goroutine of its
// own, and with a context that can end ([libevent.Base.Run], [libevent.Group.Run]): with any
// other it ends as soon as it has nothing to wait for. While it does not run nothing comes
// in, and calls wait until it runs again, their deadline passes, or the connection is closed.
// When the bufferevent or its base is freed beneath them they return an error that matches
// net.ErrClosed. A loop that C runs does as well, if the program ignores SIGPIPE, as C
// programs with sockets do.
//
// In a closure, on the loop's own goroutine, there is nothing to wait for: the loop stands
// still meanwhile. Calls that would have to wait there return [ErrOnLoop]. All others,
// and those that find what they need, work there too.
//
// # Memory
//
// A connection holds some 256 KiB at most of what came in and nobody has read, and as
// much of what was written and the peer has not taken: then the peer, or Write, waits.
//
// # Errors
//
// Errors are *net.OpError as those of package net: with errors.Is they match
// net.ErrClosed, os.ErrDeadlineExceeded, syscall.ECONNRESET, syscall.EPIPE and their kind.
// A write that the connection took fails later: the next Write returns the error.
package evnet
