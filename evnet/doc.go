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
// loop. The program runs the loop on a goroutine of its own, with [libevent.Base.Run] or
// [libevent.Group.Run], which do not return when the loop has nothing to wait for. While the
// loop does not run, no data arrives, and calls wait until it runs again, until their deadline
// passes, or until the connection is closed. If other code frees the bufferevent or its base,
// calls return an error that matches net.ErrClosed. A C program may run the loop instead, if
// the process ignores SIGPIPE, as C programs with sockets usually do.
//
// While a closure runs, the loop does nothing else. So a call that would have to wait for the
// loop returns [ErrOnLoop] in a closure. Calls that need not wait work there, too.
//
// # Memory
//
// A connection holds at most about 256 KiB of input that Read has not returned, and about as
// much output that the socket has not taken. When the input is full, the peer has to wait, and
// when the output is full, Write waits.
//
// # Errors
//
// Errors are *net.OpError, as in package net. With errors.Is they match net.ErrClosed,
// os.ErrDeadlineExceeded, syscall.ECONNRESET, syscall.EPIPE and so on. When data that Write
// has accepted cannot be sent, the next Write or CloseWrite returns the error, or, after
// CloseWrite, the next Read. Close then resets a TCP connection. A handshake of TLS that fails
// ends the connection, and Read and Write return the reason, as CloseWrite does if Write has
// accepted data. If the handshake has taken longer than its context allows, the reason is a timeout
// that matches context.DeadlineExceeded, as that of tls.Conn.HandshakeContext does.
//
// # Differences from package net
//
// The page docs/evnet.md of the repository says which interfaces and methods of package net's
// types the types of this package have, and in what else they differ. One difference needs
// care: the garbage collector does not close a connection or a listener that the program has
// forgotten.
package evnet
