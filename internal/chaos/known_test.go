package chaos_test

import "slices"

// known is what is known to fail, and is left out until it is mended. With -known it is done, too.
// Whoever mends one deletes its line, and what the compiler then complains of.
const (
	// A timeout has passed and is due to be told, and its event is added again: libevent drops the
	// timeout, and does not register the event.
	timeoutRestarts known = "timeouts"
	// FreeAfterFlush closes a TCP socket with nothing unread as soon as the kernel has all bytes.
	// If the peer says something later, the kernel resets the connection, and drops what the peer
	// has not got.
	peerSpeaksLater known = "all bytes after FreeAfterFlush on TCP, with a peer that has not ended"
	// A filter on a pair is told of the end before the last bytes.
	filterOnPairEnds known = "the end of a stream through a filter on a pair"
)

type known string

// avoids reports whether something is left out.
func (w *world) avoids(known) bool { return !*knownFlag }

// excluded reports whether connections of a shape are left out.
func (w *world) excluded(s shape) bool {
	return w.avoids(filterOnPairEnds) && s.bottom == "pair" && len(s.layers) > 0 && !slices.Contains(s.layers, "tlsfilter")
}
