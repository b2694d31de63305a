// SPDX-License-Identifier: BSD-3-Clause

// Package evnet is package net over libevent: a [net.Conn], a [net.Listener] and a
// Dialer on top of bufferevents. Go code that needs only these (net/http, crypto/tls, a
// database driver) can use a libevent loop, with its rate limits, filters and TLS, beside
// closures on the same loop.
//
//	your goroutines    Read ◄── wake ──┐     Write, Close
//	                                   │        │
//	loop's goroutine   read closure: copies     │ at once, where the socket takes it
//	                     ▲                      ▼
//	libevent           input of the bufferevent, output of the bufferevent
//
// Package net looks up names, listens and connects for this package, and hands the sockets
// over: the loop takes the connections from a listening socket, reads and writes.
//
// # Goroutines
//
// Several goroutines may use a [Conn] at a time. Its calls block their callers and never the
// loop. The program runs the loop, on a goroutine of its own and with a context that can end
// ([libevent.Base.Run], [libevent.Group.Run]); without such a context the loop returns as
// soon as it has nothing to wait for. While the loop does not run, no data arrives, and calls
// wait until it runs again, their deadline passes, or the connection is closed. If other code
// frees the bufferevent or its base, calls return an error that matches net.ErrClosed. A C
// program may run the loop instead, if the process ignores SIGPIPE, as C programs with
// sockets usually do.
//
// A closure runs on the loop's goroutine, and the loop stands still meanwhile. So a call that
// would have to wait returns [ErrOnLoop] there. Calls that need not wait work in a closure too.
//
// # Memory
//
// A connection holds about 256 KiB of unread input at most, and about as much output that the
// peer has not taken. At that limit the peer has to wait, or Write does.
//
// # Errors
//
// Errors are *net.OpError, as in package net. With errors.Is they match net.ErrClosed,
// os.ErrDeadlineExceeded, syscall.ECONNRESET, syscall.EPIPE and so on. When data that Write
// has accepted cannot be sent, the next Write or CloseWrite returns the error, or, after
// CloseWrite, the next Read. Close then resets a TCP connection. A handshake of TLS that takes
// longer than its context allows ends the connection: the error of all calls is a timeout that
// matches context.DeadlineExceeded, as that of tls.Conn.HandshakeContext does.
//
// # Differences from package net
//
// docs/evnet.md of the repository says which interfaces and methods of package net's types
// there are, and what a program can tell. One difference needs care: the garbage collector
// does not close a connection or a listener that was forgotten.
package evnet
