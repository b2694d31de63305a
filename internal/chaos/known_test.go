// SPDX-License-Identifier: BSD-3-Clause

package chaos_test

// known is something that is known to fail, and is left out until it is mended. With its name in
// the flag -known it is done, too. Whoever mends one deletes it here, and what the compiler then
// complains of.
type known string

const (
	// TLS tells of the timeout when a timeout and an end come at once, and Read does so for ever.
	// There are no timeouts and no TriggerEvent with TLS.
	timeoutWithEnd known = "timeoutwithend"
	// A Peek or a Reserve has the output of TLS as a filter, and another goroutine enables: libevent
	// writes bytes that it cannot drain, and writes them again later. The output is not lent.
	writesLent known = "writeslent"
	// A write of TLS waits, and the fast path gives it to libevent or takes it over: "bad length", or
	// "cannot allocate memory". What switches the fast path is left out.
	tlsChangesWriter known = "tlschangeswriter"
	// libevent reads and writes TLS by itself, its reading waits until it can write and is also
	// suspended, by a filter above or a limit: consider_writing of bufferevent_openssl.c loops for
	// ever, with the lock. TLS on sockets has the fast path and nothing on top, and no filter is put
	// on TLS later.
	tlsSpins known = "tlsspins"
)

var allKnown = []known{
	timeoutWithEnd, writesLent, tlsChangesWriter, tlsSpins,
}

// avoids reports whether something is left out.
func (w *world) avoids(what known) bool { return !w.known[string(what)] }

// excluded reports whether connections of a shape are left out.
func (w *world) excluded(s shape) bool {
	return w.avoids(tlsSpins) && s.tls >= 0 && (w.plain || len(s.layers) > 0)
}
