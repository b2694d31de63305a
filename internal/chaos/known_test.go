package chaos_test

// known is something that is known to fail, and is left out until it is mended. With its name in
// the flag -known it is done, too. Whoever mends one deletes it here, and what the compiler then
// complains of.
type known string

const (
	// FreeAfterFlush closes a TCP socket with nothing unread as soon as the kernel has all bytes.
	// If the peer says something later, the kernel resets the connection, and drops what the peer
	// has not got. The bytes need not arrive, unless the peer has ended.
	peerSpeaksLater known = "peerspeakslater"
	// FreeAfterFlush of TLS as a filter, after the peer's end was told, drops the last bytes. They
	// need not arrive.
	flushAfterEnd known = "flushafterend"
	// A filter function that finds a buffer lent fails, and its stream with it. No filter is put on
	// meanwhile.
	filterFindsLoan known = "filterfindsloan"
	// Filters are told of the end while bytes wait below one whose READ is off. If they are there, all
	// is well.
	endBeforeBytes known = "endbeforebytes"
	// A filter on a pair is told of the end before the last bytes; and with TLS as a filter on pairs
	// a handshake stands still, or a FreeAfterFlush drops bytes. Pairs have nothing on top.
	filterOnPairEnds known = "filteronpair"

	// TLS tells of the timeout when a timeout and an end come at once, and Read does so for ever.
	// There is no TriggerEvent with TLS.
	timeoutWithEnd known = "timeoutwithend"
	// A Peek or a Reserve has the output of TLS as a filter, and another goroutine enables: libevent
	// writes bytes that it cannot drain, and writes them again later. The output is not lent.
	writesLent known = "writeslent"
	// A write of TLS waits, and the fast path gives it to libevent or takes it over: "bad length", or
	// "cannot allocate memory". What switches the fast path is left out.
	tlsChangesWriter known = "tlschangeswriter"
	// libevent reads and writes TLS by itself, its reading waits until it can write and is also
	// suspended, by a filter above or a limit: consider_writing of bufferevent_openssl.c loops for
	// ever, with the lock. TLS on sockets has the fast path, and nothing on top.
	tlsSpins known = "tlsspins"
	// EventConnected of TLS is due for a filter, and that is freed: TLS counts as not connected for
	// ever, so CloseWrite waits, and FreeAfterFlush drops the last bytes. Filters do not come and
	// go on TLS.
	connectedIsLost known = "connectedislost"
)

var allKnown = []known{
	peerSpeaksLater, flushAfterEnd, filterFindsLoan, endBeforeBytes, filterOnPairEnds, timeoutWithEnd, writesLent,
	tlsChangesWriter, tlsSpins, connectedIsLost,
}

// avoids reports whether something is left out.
func (w *world) avoids(what known) bool { return !w.known[string(what)] }

// excluded reports whether connections of a shape are left out.
func (w *world) excluded(s shape) bool {
	return w.avoids(tlsSpins) && s.tls >= 0 && (w.plain || len(s.layers) > 0) ||
		w.avoids(filterOnPairEnds) && s.bottom == "pair" && len(s.layers) > 0
}
